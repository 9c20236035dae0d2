"""Ways to a WebSocket server, each with `read`, `write` and `close`: a connection by HTTP/1, in cleartext or TLS, or a
stream of HTTP/2 by RFC 8441.
"""

import asyncio
import base64
import os
import ssl
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings


class Refused(Exception):
    """The server did not agree to a WebSocket."""


async def connect(url, authority, version, offers):
    """Opens a WebSocket, and returns a way to it with what the server has chosen of the extensions."""
    target = urlsplit(url)
    context = None
    if target.scheme == "wss":
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
    # The name is for the certificate and for the proxy; the system would not resolve it.
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", target.port, ssl=context, server_hostname=target.hostname if context else None
    )
    way = Stream(reader, writer) if version == "2" else Connection(reader, writer)
    return way, await way.open(target, offers)


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def open(self, target, offers):
        extensions = f"Sec-WebSocket-Extensions: {offers}\r\n" if offers else ""
        self.write(
            f"GET {target.path or '/'} HTTP/1.1\r\nHost: {target.netloc}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{extensions}\r\n".encode()
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if " 101 " not in f"{head[0]} ":
            raise Refused(head[0])
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return fields.get("sec-websocket-extensions", "")

    async def read(self):
        """Some bytes, or none at the end, however it came."""
        try:
            return await self.reader.read(65536)
        except OSError:
            return b""

    def write(self, data):
        self.writer.write(data)

    async def drain(self):
        await self.writer.drain()

    def close(self):
        self.writer.close()


class Stream:
    """The only stream of its connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.stream = None
        self.settled = asyncio.Event()
        self.answered = asyncio.get_running_loop().create_future()
        self.received = asyncio.Queue()
        self.unsent = bytearray()
        self.closing = self.closed = False

    async def open(self, target, offers):
        self.h2.initiate_connection()
        self.send()
        self.pump = asyncio.create_task(self.listen())
        await self.settled.wait()
        if not self.h2.remote_settings.enable_connect_protocol:
            raise Refused("no extended CONNECT")
        self.stream = self.h2.get_next_available_stream_id()
        scheme = {"wss": "https", "ws": "http"}[target.scheme]
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", scheme)]
        fields += [(":path", target.path or "/"), (":authority", target.netloc), ("sec-websocket-version", "13")]
        if offers:
            fields.append(("sec-websocket-extensions", offers))
        self.h2.send_headers(self.stream, fields)
        self.send()
        answer = await self.answered
        if answer.get(":status") != "200":
            raise Refused(str(answer))
        return answer.get("sec-websocket-extensions", "")

    async def listen(self):
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.hear(event)
                self.send()
        except OSError:
            pass
        self.end({})

    def hear(self, event):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled.set()
        elif isinstance(event, h2.events.ResponseReceived):
            self.answered.set_result(dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.received.put_nowait(event.data)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
            self.end({"ended": str(event)})

    def end(self, answer):
        self.closed = True
        self.received.put_nowait(b"")
        if not self.answered.done():
            self.answered.set_result(answer)

    def send(self):
        """As much as the windows allow."""
        while self.unsent and not self.closed:
            window = self.h2.local_flow_control_window(self.stream)
            size = min(window, self.h2.max_outbound_frame_size, len(self.unsent))
            if size == 0:
                break
            self.h2.send_data(self.stream, bytes(self.unsent[:size]))
            del self.unsent[:size]
        if self.closing and not self.unsent and not self.closed:
            self.closed = True
            self.h2.end_stream(self.stream)
        self.writer.write(self.h2.data_to_send())

    async def read(self):
        return await self.received.get()

    def write(self, data):
        self.unsent += data
        self.send()

    async def drain(self):
        await self.writer.drain()

    def close(self):
        self.closing = True
        self.send()
        self.writer.close()
