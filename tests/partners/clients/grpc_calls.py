"""Every kind of gRPC call, the ways in which calls fail, and messages that are larger than any window.

Start: python grpc_calls.py TARGET [AUTHORITY]     over TLS with a certificate authority; prints a report as JSON
"""

import json
import queue
import sys

import grpc

LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
PATIENCE = 60
BINARY = bytes(range(256))


def connect(target, authority=None):
    if authority is None:
        return grpc.insecure_channel(target, LIMIT)
    with open(authority, "rb") as file:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()), LIMIT)


channel = connect(*sys.argv[1:])


def call(kind, name):
    return getattr(channel, kind)(f"/harbour.Pilot/{name}")


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def unary():
    answer, ended = call("unary_unary", "echo").with_call(
        b"ahoy", timeout=PATIENCE, metadata=[("chart-bin", BINARY)]
    )
    initial, final = dict(ended.initial_metadata()), dict(ended.trailing_metadata())
    return [
        answer.decode(),
        initial["initial"],
        final["final"],
        initial["chart-bin"] == BINARY,
        final["log-bin"] == BINARY,
        ended.code().name,
    ]


def returned(size):
    message = (bytes(range(251)) * (size // 251 + 1))[:size]
    return call("unary_unary", "echo")(message, timeout=PATIENCE) == message


def conversation():
    """Says the next thing only when the last one was answered: nothing may be held back on the way."""
    words, said = queue.Queue(), []
    answers = call("stream_stream", "converse")(iter(words.get, None), timeout=PATIENCE)
    for word in (b"who", b"goes", b"there"):
        words.put(word)
        said.append(next(answers).decode())
    words.put(None)
    return said + [answer.decode() for answer in answers]


def abandoned(end):
    """A call that waits for ever is ended by the client, and the server hears of it."""
    told = failure(end)
    return [told[0], call("unary_unary", "was_abandoned")(b"", timeout=PATIENCE).decode()]


def by_deadline():
    for _ in call("unary_stream", "wait")(b"", timeout=1):
        pass


def by_cancel():
    waiting = call("unary_stream", "wait")(b"", timeout=PATIENCE)
    next(waiting)
    waiting.cancel()
    next(waiting)


def given_up():
    begun = call("unary_stream", "give_up")(b"", timeout=PATIENCE)
    return [next(begun).decode(), failure(lambda: next(begun))[0]]


print(
    json.dumps(
        {
            "unary": unary(),
            "spread": len(list(call("unary_stream", "spread")(b"1000", timeout=PATIENCE))),
            "gathered": call("stream_unary", "gather")(
                (b"x" * 1000 for _ in range(1000)), timeout=PATIENCE
            ).decode(),
            "conversation": conversation(),
            "empty": returned(0),
            "large": returned(4 * 1024 * 1024 + 1),
            "larger": returned(20_000_000),
            "refused": failure(lambda: call("unary_unary", "refuse")(b"", timeout=PATIENCE)),
            "unknown": failure(lambda: call("unary_unary", "unknown")(b"", timeout=PATIENCE))[0],
            "deadline": abandoned(by_deadline),
            "givenUp": given_up(),
            "cancelled": abandoned(by_cancel),
        }
    )
)
