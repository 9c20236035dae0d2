"""PyMySQL: waits for the server's greeting, asks, sends 8 MB each way, and has its own query killed.

Start: python mariadb.py PORT     prints a report as JSON
"""

import json
import sys
import threading

import pymysql

CARGO = bytes(index * 31 % 256 for index in range(8_000_000))


def connect():
    return pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", read_timeout=60)


def ask(connection, query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def killed(connection):
    number = connection.thread_id()

    def kill_when_running():
        with connect() as other:
            running = "select count(*) from information_schema.processlist where id = %s and state = 'User sleep'"
            while ask(other, running, number) == ((0,),):
                pass
            ask(other, "kill query %s", number)

    killer = threading.Thread(target=kill_when_running)
    killer.start()
    try:
        ask(connection, "select sleep(60)")
    except pymysql.err.OperationalError as told:
        return told.args[1]
    finally:
        killer.join()


with connect() as connection:
    greeting = connection.get_server_info()
    print(
        json.dumps(
            {
                "greeted": "MariaDB" in greeting,
                "answer": ask(connection, "select 6 * 7")[0][0],
                "returned": ask(connection, "select cast(%s as binary)", CARGO)[0][0] == CARGO,
                "killed": killed(connection),
                "abortedConnects": int(ask(connection, "show global status like 'Aborted_connects'")[0][1]),
            }
        )
    )
