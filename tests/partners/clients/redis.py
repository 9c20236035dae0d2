"""redis-py: values, 10 MB each way, a message that another client publishes, and a wait that another one ends.

Start: python redis.py PORT     prints a report as JSON
"""

import json
import sys
import threading

# This file has the library's name.
sys.path.pop(0)
import redis  # noqa: E402

CARGO = bytes(index * 31 % 256 for index in range(10_000_000))


def connect():
    return redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), socket_timeout=60)


def published(client):
    with client.pubsub(ignore_subscribe_messages=False) as subscription:
        subscription.subscribe("harbour")
        assert subscription.get_message(timeout=60)["type"] == "subscribe"
        assert connect().publish("harbour", "a ship") == 1
        return subscription.get_message(timeout=60)["data"].decode()


def waited_for(client):
    waiting = threading.Thread(target=lambda: push_when_blocked(connect()))
    waiting.start()
    _, value = client.blpop("queue", timeout=60)
    waiting.join()
    return value.decode()


def push_when_blocked(other):
    while other.info("clients")["blocked_clients"] == 0:
        pass
    other.rpush("queue", "a parcel")


client = connect()
client.set("cargo", CARGO)
print(
    json.dumps(
        {
            "returned": client.get("cargo") == CARGO,
            "published": published(client),
            "waitedFor": waited_for(client),
        }
    )
)
