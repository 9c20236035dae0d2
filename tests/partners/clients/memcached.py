"""pymemcache: values of every usual size.

Start: python memcached.py PORT     prints a report as JSON
"""

import json
import sys

from pymemcache.client.base import Client

client = Client(("127.0.0.1", int(sys.argv[1])), timeout=60)
cargo = {f"cargo-{size}": bytes(index * 31 % 256 for index in range(size)) for size in (1, 1_000, 1_000_000)}
client.set_many(cargo)
client.set("count", "41")
print(json.dumps({"returned": client.get_many(list(cargo)) == cargo, "count": client.incr("count", 1)}))
