"""pymongo: 2,000 documents, an aggregate, a cursor that is fetched in parts, a change that is watched where there are
changes to watch.

Start: python mongodb.py URL     prints a report as JSON
"""

import json
import sys

import pymongo

client = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=60_000)
hello = client.admin.command("hello")
if hello.get("isreplicaset"):
    member = {"_id": 0, "host": "%s:%d" % client.address}
    client.admin.command("replSetInitiate", {"_id": "fleet", "members": [member]})
while not client.admin.command("hello")["isWritablePrimary"]:
    pass
ships = client.harbour.ships
ships.drop()
ships.insert_many({"number": number, "berth": number % 7, "freight": "x" * 1_000} for number in range(2_000))
berths = list(ships.aggregate([{"$group": {"_id": "$berth", "ships": {"$sum": 1}}}, {"$sort": {"_id": 1}}]))
report = {
    "ships": sum(1 for _ in ships.find(batch_size=100)),
    "berths": [berth["ships"] for berth in berths],
    "kind": client.topology_description.topology_type_name,
    "replicaSet": client.admin.command("hello").get("setName"),
}
if report["replicaSet"]:
    with ships.watch(max_await_time_ms=60_000) as changes:
        ships.insert_one({"number": 2_000})
        report["watched"] = next(changes)["fullDocument"]["number"]
print(json.dumps(report))
