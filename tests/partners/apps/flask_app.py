"""A Flask API: JSON, a form, a stream of events, and an upload that is never held in memory.

Start: flask --app flask_app run --host 127.0.0.1 --port PORT
"""

import hashlib
import threading

from flask import Flask, Response, request

app = Flask(__name__)
released = threading.Semaphore(0)


@app.get("/api/hello")
def hello():
    return {"greeting": "hello from Flask"}


@app.post("/api/form")
def form():
    return {"name": request.form["name"]}


@app.get("/api/events")
def events():
    """The second event does not exist before somebody who saw the first one asks for it."""

    def stream():
        yield "data: first\n\n"
        if released.acquire(timeout=10):
            yield "data: second\n\n"

    return Response(stream(), content_type="text/event-stream")


@app.post("/api/events/next")
def next_event():
    released.release()
    return "", 204


@app.post("/api/upload")
def upload():
    digest, length = hashlib.sha256(), 0
    while chunk := request.stream.read(64 * 1024):
        digest.update(chunk)
        length += len(chunk)
    return {"sha256": digest.hexdigest(), "length": length}
