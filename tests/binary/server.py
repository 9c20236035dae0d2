"""A program that listens and tells, at every path, what it was started with.

Takes the port from PORT, or from `port=N`; `log=FILE` gets a line for each thing that happens to it.

Other words: `name=NAME` is what it calls itself; `late=FILE` waits for that file before it listens; `sick=FILE` answers
503 at /healthz until that file is there; `slow=SECONDS` is how long it takes for each answer; `says=LINE` is a line
that it prints once it listens; `deaf` ignores SIGTERM; `code=N` is what it exits with on SIGTERM, and one more on
SIGINT.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DESCRIPTORS = [int(name) for name in os.listdir("/proc/self/fd")] if os.path.isdir("/proc/self/fd") else []
# The one that the list was read with has gone again.
DESCRIPTORS = [number for number in sorted(DESCRIPTORS) if os.path.exists(f"/proc/self/fd/{number}")]
WORDS = dict((word + "=").split("=")[:2] for word in sys.argv[1:])
NAME = WORDS.get("name", "server")


def log(what):
    if "log" in WORDS:
        with open(WORDS["log"], "a") as file:
            file.write(f"{NAME} {what}\n")


def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.01)


class Teller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one piece: no signal can come between them.
    wbufsize = 1 << 20

    def do_GET(self):
        if "slow" in WORDS:
            log("is asked")
            time.sleep(float(WORDS["slow"]))
        sick = self.path == "/healthz" and "sick" in WORDS and not os.path.exists(WORDS["sick"])
        told = {
            "name": NAME,
            "words": sys.argv[1:],
            "port": self.server.server_port,
            "pid": os.getpid(),
            "folder": os.getcwd(),
            "env": dict(os.environ),
            "descriptors": DESCRIPTORS,
            "path": self.path,
        }
        body = json.dumps(told).encode()
        self.send_response(503 if sick else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def end(number, frame):
    log(f"got {signal.Signals(number).name}")
    if "deaf" not in WORDS:
        # Not `sys.exit`, which would wait for the threads of open connections.
        os._exit(int(WORDS.get("code", 0)) + (number == signal.SIGINT))


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
log("starts")
if "late" in WORDS:
    wait_for(WORDS["late"])
server = ThreadingHTTPServer(("127.0.0.1", int(WORDS.get("port") or os.environ["PORT"])), Teller, False)
server.allow_reuse_address = True
server.server_bind()
# In the file before anybody can see it listen, so that the lines are in order.
log("listens")
server.server_activate()
if "says" in WORDS:
    log("says it")
    print(WORDS["says"], flush=True)
server.serve_forever()
