"""A conversation during which the server says goodbye: it ends as if nothing were, and calls after it find nobody.

Start: python grpc_goodbye.py TARGET     prints a report as JSON
"""

import json
import queue
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], [("grpc.enable_http_proxy", 0)])
words = queue.Queue()
conversation = channel.stream_stream("/harbour.Pilot/converse")(iter(words.get, None), timeout=60)
said = []

words.put(b"before")
said.append(next(conversation).decode())
assert channel.unary_unary("/harbour.Pilot/say_goodbye")(b"", timeout=60) == b"goodbye"
words.put(b"after")
said.append(next(conversation).decode())
words.put(None)
assert list(conversation) == []

try:
    channel.unary_unary("/harbour.Pilot/echo")(b"", timeout=60)
    later = "answered"
except grpc.RpcError as error:
    later = error.code().name
print(json.dumps({"said": said, "ended": conversation.code().name, "later": later}))
