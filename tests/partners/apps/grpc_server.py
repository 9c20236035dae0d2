"""A gRPC server with every kind of call. Its messages are plain bytes: what they mean is nothing to a proxy.

Start: python grpc_server.py [CERTIFICATE KEY]     over TLS with a certificate
"""

import sys
import threading
from concurrent import futures

import grpc

LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
abandoned = threading.Event()


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata([("initial", "fathoms"), ("chart-bin", metadata.get("chart-bin", b""))])
    context.set_trailing_metadata([("final", "moored"), ("log-bin", bytes(range(256)))])
    return request


def spread(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def gather(requests, _context):
    return b"%d" % sum(len(request) for request in requests)


def converse(requests, _context):
    for request in requests:
        yield request.upper()


def refuse(_request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the tide is out: ⚓ 100 %")


def wait(_request, context):
    """Ends only with the call: by the client's deadline or when it cancels."""
    context.add_callback(abandoned.set)
    yield b"waiting"
    abandoned.wait()


def give_up(_request, context):
    """Sends something, then breaks the call off itself."""
    yield b"begun"
    context.cancel()


def say_goodbye(_request, _context):
    """Ends the server as a deployment does: no new calls, and those that run may end in peace."""
    server.stop(grace=60)
    return b"goodbye"


def was_abandoned(_request, _context):
    happened = abandoned.wait(timeout=60)
    abandoned.clear()
    return b"yes" if happened else b"no"


KINDS = {
    "echo": grpc.unary_unary_rpc_method_handler(echo),
    "spread": grpc.unary_stream_rpc_method_handler(spread),
    "gather": grpc.stream_unary_rpc_method_handler(gather),
    "converse": grpc.stream_stream_rpc_method_handler(converse),
    "refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "give_up": grpc.unary_stream_rpc_method_handler(give_up),
    "say_goodbye": grpc.unary_unary_rpc_method_handler(say_goodbye),
    "wait": grpc.unary_stream_rpc_method_handler(wait),
    "was_abandoned": grpc.unary_unary_rpc_method_handler(was_abandoned),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=LIMIT)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("harbour.Pilot", KINDS)])
if sys.argv[1:]:
    certificate, key = (open(file, "rb").read() for file in sys.argv[1:])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on grpc://127.0.0.1:{port}", flush=True)
server.wait_for_termination()
