"""The client that a case of the suite plays with: Autobahn's, as far as the cases use it.

It sends whatever it is told, right or wrong, and notes what comes back and how the connection ends.
"""

import asyncio
import os
import struct
import types
import zlib

from cases import Codes
from transport import Refused, connect

# How long the server may take to end a connection, which is its part.
PARTING = 5
# The longest that any case takes; those that count seconds count fewer.
PATIENCE = 90


class Peer(Codes):
    def __init__(self, case):
        self.factory = types.SimpleNamespace(isServer=False)
        self.createWirelog = False
        self.autoFragmentSize = 0
        self.state = self.STATE_CONNECTING
        self.connectionWasOpen = self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode = self.localCloseReason = self.trafficStats = None
        self.perMessageCompressionOffers = []
        self.perMessageCompressionAccept = self._perMessageCompress = None
        self.txFrameStats = {}
        self.speaksBytes = case.__name__.startswith(("Case12", "Case13"))
        self.case = case(self)
        self.timers = []

    async def play(self, url, authority, version):
        """Plays the case, and returns how the server behaved, and how it behaved when the connection ended."""
        offers = ", ".join(map(described, self.perMessageCompressionOffers))
        self.way, chosen = await connect(url, authority, version, offers)
        if "permessage-deflate" in chosen:
            self._perMessageCompress = Deflate(chosen)
        self.state, self.connectionWasOpen = self.STATE_OPEN, True
        self.case.onOpen()
        await self.listen()
        self.state = self.STATE_CLOSED
        for timer in self.timers:
            timer.cancel()
        self.case.onConnectionLost(self.failedByMe)
        self.way.close()
        return self.case.behavior, self.case.behaviorClose

    # What the cases tell it to send.

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        data = in_bytes(payload)
        if payload_len is not None:
            data = (data * (payload_len // len(data) + 1))[:payload_len] if data else data
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        frame = head(opcode, len(data), fin, rsv) + masked(data)
        for start in range(0, len(frame), chopsize or len(frame)):
            self.put(frame[start : start + (chopsize or len(frame))])

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False):
        data, rsv = in_bytes(payload), 0
        if self._perMessageCompress:
            data, rsv = self._perMessageCompress.compressed(data), 4
        size = fragmentSize or self.autoFragmentSize or len(data) or 1
        pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
        for number, piece in enumerate(pieces):
            opcode = 0 if number else 2 if isBinary else 1
            self.sendFrame(opcode, piece, fin=number == len(pieces) - 1, rsv=0 if number else rsv)

    def beginMessage(self, opcode=1):
        self.begun = opcode

    def beginMessageFrame(self, length):
        # Masked with zeros: the parts are sent as they are.
        self.put(head(self.begun, length, fin=False, rsv=0) + bytes(4))
        self.begun = 0

    def sendMessageFrameData(self, payload, sync=False):
        self.put(in_bytes(payload))

    def endMessage(self):
        self.sendFrame(0, fin=True)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        if self.state != self.STATE_OPEN:
            return
        self.state, self.closedByMe = self.STATE_CLOSING, not isReply
        payload = (struct.pack("!H", code) if code is not None else b"") + in_bytes(reasonUtf8 or "")
        self.sendFrame(8, payload)

    def sendClose(self, code=None, reason=None):
        self.sendCloseFrame(code, reason)
        self.later(PARTING, self.drop)

    def continueLater(self, delay, action, tag=None):
        self.later(delay, action)

    def closeAfter(self, delay):
        self.later(min(delay, PATIENCE), self.sendClose)

    def killAfter(self, delay):
        self.later(delay, self.fail)

    def enableWirelog(self, enable):
        pass

    # What comes back.

    async def listen(self):
        self.data, self.message, self.compressed = bytearray(), None, False
        self.ended = asyncio.Event()
        reading = asyncio.create_task(self.read())
        dropped = asyncio.create_task(self.ended.wait())
        await asyncio.wait([reading, dropped], return_when=asyncio.FIRST_COMPLETED)
        if not reading.cancel():
            reading.result()
        dropped.cancel()

    async def read(self):
        while data := await self.way.read():
            self.data += data
            while (frame := self.take_frame()) is not None:
                self.hear(*frame)
            await self.way.drain()

    def take_frame(self):
        if len(self.data) < 2:
            return None
        first, second = self.data[:2]
        start, length = 2, second & 127
        if length >= 126:
            start, form = (4, "!H") if length == 126 else (10, "!Q")
            if len(self.data) < start:
                return None
            (length,) = struct.unpack(form, self.data[2:start])
        if len(self.data) < start + length:
            return None
        payload = bytes(self.data[start : start + length])
        del self.data[: start + length]
        return first & 15, bool(first & 128), first >> 4 & 7, payload

    def hear(self, opcode, fin, rsv, payload):
        if opcode == 8:
            self.hear_close(payload)
        elif opcode == 9:
            self.case.onPing(payload.decode("latin-1"))
            if self.state == self.STATE_OPEN:
                self.sendFrame(10, payload)
        elif opcode == 10:
            self.case.onPong(payload.decode("latin-1"))
        else:
            if opcode:
                self.message, self.binary, self.compressed = [], opcode == 2, bool(rsv & 4)
            self.message.append(payload)
            if fin:
                message = b"".join(self.message)
                if self.compressed:
                    message = self._perMessageCompress.inflated(message)
                self.case.onMessage(message if self.speaksBytes else message.decode("latin-1"), self.binary)

    def hear_close(self, payload):
        if len(payload) >= 2:
            (self.remoteCloseCode,) = struct.unpack("!H", payload[:2])
        self.wasClean = True
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(self.remoteCloseCode, isReply=True)
        self.case.onClose(self.wasClean, self.remoteCloseCode, None)
        self.later(PARTING, self.drop)

    # How it ends.

    def later(self, delay, action):
        def act():
            if self.state != self.STATE_CLOSED:
                action()

        self.timers.append(asyncio.get_running_loop().call_later(delay, act))

    def fail(self):
        self.failedByMe = self.closedByMe = True
        self.drop()

    def drop(self):
        self.droppedByMe = True
        self.ended.set()

    def put(self, data):
        self.way.write(data)


class Deflate:
    """permessage-deflate with the parameters that the server chose."""

    def __init__(self, chosen):
        self.forgets = "client_no_context_takeover" in chosen
        self.forgotten = "server_no_context_takeover" in chosen
        self.deflater = self.inflater = None

    def compressed(self, data):
        if self.deflater is None or self.forgets:
            self.deflater = zlib.compressobj(wbits=-15)
        return (self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflated(self, data):
        if self.inflater is None or self.forgotten:
            self.inflater = zlib.decompressobj(wbits=-15)
        return self.inflater.decompress(data + b"\x00\x00\xff\xff")


def described(offer):
    words = ["permessage-deflate", "client_no_context_takeover"]
    if offer.requestNoContextTakeover:
        words.append("server_no_context_takeover")
    if offer.requestMaxWindowBits:
        words.append(f"server_max_window_bits={offer.requestMaxWindowBits}")
    return "; ".join(words)


def in_bytes(payload):
    return payload.encode("latin-1") if isinstance(payload, str) else bytes(payload)


def head(opcode, length, fin, rsv):
    first = (128 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        return struct.pack("!BB", first, 128 | length)
    return struct.pack("!BBH", first, 254, length) if length < 65536 else struct.pack("!BBQ", first, 255, length)


def masked(data):
    """With its mask before it."""
    mask = os.urandom(4)
    whole = (mask * (len(data) // 4 + 1))[: len(data)]
    return mask + (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")
