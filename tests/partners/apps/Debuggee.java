/** Goes round and round until its end, past a line where a debugger can stop it. */
public class Debuggee {
    public static void main(String[] arguments) throws InterruptedException {
        while (true) sound(42);
    }

    static int sound(int depth) throws InterruptedException {
        Thread.sleep(50);
        return depth;
    }
}
