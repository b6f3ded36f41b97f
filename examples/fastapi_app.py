"""Jobs through a queue, in FastAPI: `python examples/fastapi_app.py`, then open
    http://127.0.0.1:8000

Needs fastapi and uvicorn. REDIS_URL names the server; without it, one is started with the app, and
ends with it.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import uvicorn
from aiorsmq import JSON, AsyncRSMQ, Message
from board import Board, Job
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field


async def do(job: Job) -> str:
    return job["text"].upper()


async def work(board: Board, msg: Message[Job]) -> None:
    """Do one job.

    It is deleted when this returns. It is redelivered when this fails, and after the queue's `vt`
    if the process is killed: a job is not lost, but it can happen that it is done twice.
    """
    seconds = (datetime.now(UTC) - msg.sent_at).total_seconds()
    result = await do(msg.body)
    board.put(msg.body | {"id": msg.id, "state": "done", "result": result, "seconds": seconds})


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncRSMQ.from_url(os.environ.get("REDIS_URL", "embedded://")) as rsmq:
        app.state.board = Board()
        app.state.queue = rsmq.queue("fastapi-jobs", codec=JSON)
        await app.state.queue.create(
            vt=30, exist_ok=True
        )  # leases are renewed, however long a job takes
        worker = app.state.queue.worker(partial(work, app.state.board), concurrency=10)
        running = asyncio.create_task(worker.run())
        # If the worker ends with an error, so does the app: better than one that takes jobs and
        # does none.
        running.add_done_callback(
            lambda task: task.exception() and signal.raise_signal(signal.SIGTERM)
        )
        yield
        worker.stop()
        await running


app = FastAPI(lifespan=lifespan)


class NewJob(BaseModel):
    text: str = Field(min_length=1, max_length=1000)
    delay: float = Field(default=0, ge=0, le=9_999_999)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/jobs", status_code=202)
async def post_job(new: NewJob, request: Request) -> dict[str, str]:
    state = request.app.state
    id = await state.queue.send(
        {"text": new.text}, delay=new.delay
    )  # when this returns, the server has it
    if id not in state.board.jobs:  # the consumer can be faster than the reply
        state.board.put({"id": id, "state": "queued", "text": new.text})
    return {"id": id}


@app.get("/jobs/{id}")
async def get_job(id: str, request: Request) -> Job:
    if job := request.app.state.board.jobs.get(id):
        return job
    raise HTTPException(404, "no such job")


@app.get("/events")
async def events(request: Request) -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        async with contextlib.aclosing(request.app.state.board.watch()) as jobs:
            async for job in jobs:
                yield f"data: {json.dumps(job)}\n\n"

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app.state.board.close()  # before uvicorn waits until all connections are closed
        await super().shutdown(sockets)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it after all is closed
        Server(
            uvicorn.Config(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
        ).run()
