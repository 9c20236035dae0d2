"""The Autobahn test suite as a client: prints as JSON, for each case, how the server behaved and how it ended.

Start: python conformance VERSION URL [AUTHORITY]     VERSION is 1 or 2, of HTTP; URL is ws:// or wss://
"""

import asyncio
import json
import sys

from cases import all_cases
from peer import PATIENCE, Peer
from transport import Refused

# Of the 216 cases with compression, which send a thousand messages each: every parameter, every kind of data.
FEW_OF_MANY = {"12": ("4",), "13": ("4",)}
AT_ONCE = 8


def is_wanted(number):
    chapter, *rest = number.split(".")
    return chapter not in FEW_OF_MANY or rest[-1] in FEW_OF_MANY[chapter]


async def verdict(case, room, url, authority, version):
    async with room:
        try:
            return await asyncio.wait_for(Peer(case).play(url, authority, version), PATIENCE)
        except Refused as why:
            return "REFUSED", str(why)
        except TimeoutError:
            return "HANGS", f"after {PATIENCE} s"


async def main(version, url, authority=None):
    cases = {number: case for number, case in all_cases().items() if is_wanted(number)}
    room = asyncio.Semaphore(AT_ONCE)
    verdicts = await asyncio.gather(*(verdict(case, room, url, authority, version) for case in cases.values()))
    print(json.dumps(dict(zip(cases, verdicts))))


asyncio.run(main(*sys.argv[1:]))
