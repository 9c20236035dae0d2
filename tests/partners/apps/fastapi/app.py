"""A FastAPI app: uvicorn app:app"""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
def berth():
    return "moored in FastAPI"
