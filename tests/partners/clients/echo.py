"""A WebSocket client made with `websockets`: puts an echo server through its paces, prints what it saw as JSON.

Start: python echo.py ws://HOST:PORT/PATH
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SIZE = 100_000


async def answer(socket, message):
    await socket.send(message)
    return await socket.recv()


async def main(url):
    text = ("⚓ portolan " * SIZE)[:SIZE]
    data = bytes(index * 31 % 256 for index in range(SIZE))
    async with connect(url, subprotocols=["log", "chart"], proxy=None) as socket:
        report = {
            "subprotocol": socket.subprotocol,
            "extension": ", ".join(extension.name for extension in socket.protocol.extensions),
            "target": await answer(socket, "target"),
            "textReturned": await answer(socket, text) == text,
            "bytesReturned": await answer(socket, data) == data,
        }
        # Resolves only when a pong with these very bytes arrives.
        await (await socket.ping("deep six"))
        report["pong"] = "deep six"
        try:
            await answer(socket, "close")
        except ConnectionClosed as end:
            report["close"] = f"{end.rcvd.code} {end.rcvd.reason}"
    print(json.dumps(report))


asyncio.run(asyncio.wait_for(main(sys.argv[1]), timeout=30))
