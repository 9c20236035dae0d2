"""Attaches to debugpy as an editor does, stops at a breakpoint, looks at the stack, lets the program go on: twice.

Start: python debugpy_attach.py PORT PROGRAM     prints a report as JSON
"""

import json
import socket
import sys

PROGRAM = sys.argv[2]


class Editor:
    """The Debug Adapter Protocol, as far as it is needed here."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=60).makefile("rwb")
        self.sequence = 0

    def send(self, command, **arguments):
        self.sequence += 1
        body = json.dumps(
            {"seq": self.sequence, "type": "request", "command": command, "arguments": arguments}
        ).encode()
        self.stream.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.stream.flush()

    def wait(self, kind, name):
        while True:
            message = self.read()
            if message["type"] == kind and message.get("command", message.get("event")) == name:
                assert message.get("success", True), message
                return message.get("body")

    def ask(self, command, **arguments):
        self.send(command, **arguments)
        return self.wait("response", command)

    def read(self):
        length = 0
        while (line := self.stream.readline()) != b"\r\n":
            assert line, "debugpy has closed the connection"
            length = int(line.removeprefix(b"Content-Length: "))
        return json.loads(self.stream.read(length))


def session(port):
    editor = Editor(port)
    greeting = editor.read()
    editor.ask("initialize", adapterID="portolan", pathFormat="path")
    editor.send("attach", justMyCode=False)
    editor.wait("event", "initialized")
    with open(PROGRAM) as source:
        line = next(number for number, text in enumerate(source, 1) if "# a breakpoint" in text)
    editor.ask("setBreakpoints", source={"path": PROGRAM}, breakpoints=[{"line": line}])
    editor.ask("configurationDone")
    stopped = editor.wait("event", "stopped")
    frame = editor.ask("stackTrace", threadId=stopped["threadId"], levels=1)["stackFrames"][0]
    depth = editor.ask("evaluate", expression="depth", frameId=frame["id"])["result"]
    editor.ask("disconnect", terminateDebuggee=False)
    return {
        "spokeFirst": greeting["type"],
        "stopped": stopped["reason"],
        "function": frame["name"],
        "atTheLine": frame["line"] == line,
        "depth": depth,
    }


print(json.dumps([session(int(sys.argv[1])) for _ in range(2)]))
