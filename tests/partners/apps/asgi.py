"""What hypercorn serves over HTTP/1 and HTTP/2: what it saw of a request, the sum of what was sent, and an echo.

Start: hypercorn --bind 127.0.0.1:PORT asgi:app
"""

import hashlib
import json


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await answer(scope, receive, send)


async def answer(scope, receive, send):
    body, length, more = hashlib.sha256(), 0, True
    while more:
        event = await receive()
        body.update(event.get("body", b""))
        length += len(event.get("body", b""))
        more = event.get("more_body", False)
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    text = json.dumps(
        {
            "version": scope["http_version"],
            "scheme": scope["scheme"],
            "method": scope["method"],
            "target": scope["raw_path"].decode(),
            "host": headers.get("host"),
            "proto": headers.get("x-forwarded-proto"),
            "length": length,
            "sha256": body.hexdigest(),
        }
    ).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": text})


async def echo(receive, send):
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.disconnect":
            return
        else:
            kind = "text" if event.get("text") is not None else "bytes"
            await send({"type": "websocket.send", kind: event[kind]})
