"""jdb: attaches, stops at a breakpoint, looks at the stack and the locals, lets the program go on.

Start: python jdb.py PORT     prints a report as JSON
"""

import json
import subprocess
import sys

jdb = subprocess.Popen(
    ["jdb", "-attach", f"127.0.0.1:{sys.argv[1]}"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
)


def until(sign):
    """jdb ends its prompt with no line, so what it says is read byte by byte."""
    said = b""
    while sign.encode() not in said:
        byte = jdb.stdout.read(1)
        assert byte, f"jdb ended: {said.decode()}"
        said += byte
    return said.decode()


def tell(command):
    jdb.stdin.write(f"{command}\n".encode())
    jdb.stdin.flush()


until("> ")
tell("stop in Debuggee.sound")
until("breakpoint Debuggee.sound")
hit = until("main[1] ")
tell("where")
stack = until("main[1] ")
tell("locals")
locals_ = until("main[1] ")
tell("clear Debuggee.sound")
until("main[1] ")
tell("quit")
jdb.stdin.close()
rest = jdb.stdout.read().decode()
assert jdb.wait(timeout=60) == 0, rest
print(
    json.dumps(
        {"hit": "Breakpoint hit" in hit, "stack": "Debuggee.main" in stack, "depth": "depth = 42" in locals_}
    )
)
