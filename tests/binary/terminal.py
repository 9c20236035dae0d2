"""What a command sees of its terminal.

As it is, it starts its words on a terminal of their own, presses Ctrl-C once they report, and tells the report and the
exit code. With `--report` it is such a command.
"""

import json
import os
import pty
import signal
import sys


def report():
    def interrupted(number, frame):
        print("interrupted", flush=True)
        sys.exit(3)

    signal.signal(signal.SIGINT, interrupted)
    facts = {
        "terminals": [os.isatty(number) for number in (0, 1, 2)],
        "foreground": os.tcgetpgrp(0) == os.getpgrp(),
        "size": list(os.get_terminal_size(0)),
    }
    print("report " + json.dumps(facts), flush=True)
    while True:
        signal.pause()


def drive(words):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(words[0], words)
    said, pressed = b"", False
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            # Linux's way to say that nobody holds the other end any more.
            break
        if not piece:
            break
        said += piece
        if not pressed and any(line.startswith(b"report ") and line.endswith(b"\r") for line in said.split(b"\n")):
            os.write(terminal, b"\x03")
            pressed = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines = said.decode().replace("\r", "").split("\n")
    facts = [json.loads(line.removeprefix("report ")) for line in lines if line.startswith("report ")]
    interruptions = sum(line.endswith("interrupted") for line in lines)
    print(json.dumps({"facts": facts, "interruptions": interruptions, "code": code}))


if sys.argv[1] == "--report":
    report()
else:
    drive(sys.argv[1:])
