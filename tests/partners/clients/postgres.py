"""psycopg, which brings the newest libpq: queries, 10 MB each way, a notification and a query that is cancelled.

Start: python postgres.py CONNINFO...     prints one report as JSON for each way to connect
"""

import json
import sys
import threading

import psycopg

CARGO = bytes(index * 31 % 256 for index in range(10_000_000))


def report(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        server, version = connection.execute(
            "select current_setting('cluster_name'), (select version from pg_stat_ssl where pid = pg_backend_pid())"
        ).fetchone()
        return {
            "server": server,
            "tls": version,
            "sum": connection.execute("select sum(n) from generate_series(1, 100000) n").fetchone()[0],
            "returned": connection.execute("select %b::bytea", [CARGO]).fetchone()[0] == CARGO,
            "notified": notified(connection),
            "cancelled": cancelled(connection, conninfo),
        }


def notified(connection):
    connection.execute("listen harbour")
    connection.execute("notify harbour, 'a ship'")
    return next(connection.notifies(timeout=30, stop_after=1)).payload


def cancelled(connection, conninfo):
    """Another connection carries the wish; it is sent when the query really runs."""
    backend = connection.info.backend_pid

    def cancel_when_running():
        with psycopg.connect(conninfo, autocommit=True) as other:
            while other.execute(
                "select count(*) from pg_stat_activity where pid = %s and wait_event = 'PgSleep'", [backend]
            ).fetchone() == (0,):
                pass
        connection.cancel_safe(timeout=30)

    canceller = threading.Thread(target=cancel_when_running)
    canceller.start()
    try:
        connection.execute("select pg_sleep(60)")
    except psycopg.errors.QueryCanceled as told:
        return told.diag.message_primary
    finally:
        canceller.join()


for conninfo in sys.argv[1:]:
    print(json.dumps(report(conninfo)))
