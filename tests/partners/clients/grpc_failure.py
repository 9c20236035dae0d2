"""One gRPC call that is expected to fail: prints its status and message as JSON.

Start: python grpc_failure.py TARGET
"""

import json
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)])
try:
    channel.unary_unary("/harbour.Pilot/echo")(b"", timeout=60)
    print(json.dumps("answered"))
except grpc.RpcError as error:
    print(json.dumps({"status": error.code().name, "message": error.details()}))
