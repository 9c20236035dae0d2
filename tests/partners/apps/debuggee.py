"""Goes round and round until its end, past a line where a debugger can stop it.

Start: python -m debugpy --listen 127.0.0.1:PORT debuggee.py
"""

import time


def sound(depth):
    time.sleep(0.05)
    return depth  # a breakpoint


print("debuggee runs", flush=True)
while True:
    sound(42)
