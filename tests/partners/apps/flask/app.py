"""A Flask app that `flask run` finds by its name."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def berth():
    return "moored in Flask"
