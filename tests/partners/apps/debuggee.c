/* Ends by itself, past a function where a debugger can stop it. */
#include <stdio.h>

int sound(int depth) {
    return printf("%d fathoms\n", depth);
}

int main(void) {
    return sound(42) == 0;
}
