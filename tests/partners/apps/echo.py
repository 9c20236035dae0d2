"""A WebSocket server made with `websockets`: echoes, tells the request target when asked, closes when asked to.

Start: PORT=0 python echo.py
"""

import asyncio
import os

from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        if message == "target":
            await socket.send(socket.request.path)
        elif message == "close":
            await socket.close(4001, "fair winds")
        else:
            await socket.send(message)


async def main():
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"]), subprotocols=["chart"]) as server:
        _, port = server.sockets[0].getsockname()
        print(f"listening on http://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
