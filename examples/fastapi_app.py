"""Do jobs from a queue in FastAPI, and show them in a page as they are done.

Run `python examples/fastapi_app.py`, then open http://127.0.0.1:8000. It needs fastapi and uvicorn,
and starts a server of its own unless REDIS_URL names one. Any other command needs REDIS_URL, as
`uvicorn fastapi_app:app` or `fastapi dev`: a server of its own serves a single process.
"""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from aiorsmq import AsyncRSMQ, Message, PydanticCodec, Queue
from aiorsmq.integrations.fastapi import Client, ServerShutdown, attach, health_routes
from board import Board
from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field


class Job(BaseModel):
    """What a message holds."""

    text: str


class NewJob(Job):
    """What a browser sends."""

    text: str = Field(min_length=1, max_length=1000)
    delay: float = Field(default=0, ge=0, le=9_999_999)


async def do(job: Job) -> str:
    return job.text.upper()


async def work(board: Board, message: Message[Job]) -> None:
    """Do one job.

    The message is deleted when this returns. It is redelivered when this raises, and after the
    queue's `vt` if the process is killed: a job is never lost, but it may be done twice.
    """
    result = await do(message.body)
    seconds = (datetime.now(UTC) - message.sent_at).total_seconds()
    board.put(
        {"id": message.id, "state": "done", "text": message.body.text}
        | {"result": result, "seconds": seconds}
    )


def get_jobs(rsmq: Client) -> Queue[Job]:
    return rsmq.queue("fastapi-jobs", codec=PydanticCodec(Job))


def get_board(connection: HTTPConnection) -> Board:
    return connection.app.state.board


Jobs = Annotated[Queue[Job], Depends(get_jobs)]
JobBoard = Annotated[Board, Depends(get_board)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncRSMQ.from_url(os.environ["REDIS_URL"]) as rsmq:
        jobs = get_jobs(rsmq)
        # The worker renews leases, so a job may take longer than `vt`.
        await jobs.ensure(vt=30, max_receives=5, dead_letter_queue="fastapi-dead")
        app.state.board = Board()
        # The worker stops with the app. `grace` is less than what the server's parent allows.
        worker = jobs.worker(partial(work, app.state.board), concurrency=10, grace=20)
        async with attach(app, rsmq, worker):
            yield


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(health_routes())  # /livez and /readyz


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/jobs", status_code=202)
async def post_job(new: NewJob, jobs: Jobs, board: JobBoard) -> dict[str, str]:
    # When this returns, the server has stored the message.
    id = await jobs.send(Job(text=new.text), delay=new.delay)
    if id not in board.jobs:  # the job may be done before the reply arrives
        board.put({"id": id, "state": "queued", "text": new.text})
    return {"id": id}


@app.get("/jobs/{id}")
async def get_job(id: str, board: JobBoard) -> dict[str, Any]:
    if job := board.jobs.get(id):
        return job
    raise HTTPException(404, "no such job")


@app.get("/events")
async def events(board: JobBoard, shutdown: ServerShutdown) -> StreamingResponse:
    """Every open page sees every job. Reading from the queue here would not do: each message goes
    to one consumer, so each page would see some of them."""

    async def stream() -> AsyncGenerator[str]:
        async for job in shutdown.stream(board.watch()):
            yield f"data: {json.dumps(job)}\n\n"

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


if __name__ == "__main__":
    os.environ.setdefault("REDIS_URL", "embedded://")
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
