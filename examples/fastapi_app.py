"""Process jobs from a queue in FastAPI.

Run `python examples/fastapi_app.py`, then open http://127.0.0.1:8000.

Needs fastapi and uvicorn. REDIS_URL names the server; without it, the app starts and stops its own
server.
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

    The message is deleted when this returns. It is redelivered when this raises, and after the
    queue's `vt` if the process is killed: a job is never lost, but it may be done twice.
    """
    seconds = (datetime.now(UTC) - msg.sent_at).total_seconds()
    result = await do(msg.body)
    board.put(msg.body | {"id": msg.id, "state": "done", "result": result, "seconds": seconds})


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncRSMQ.from_url(os.environ.get("REDIS_URL", "embedded://")) as rsmq:
        app.state.board = Board()
        app.state.queue = rsmq.queue("fastapi-jobs", codec=JSON)
        # The worker renews leases, so a job may take longer than `vt`.
        await app.state.queue.create(vt=30, exist_ok=True)
        worker = app.state.queue.worker(partial(work, app.state.board), concurrency=10)
        running = asyncio.create_task(worker.run())
        # If the worker fails, stop the app: otherwise it would accept jobs and do none.
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
    # When this returns, the server has stored the message.
    id = await state.queue.send({"text": new.text}, delay=new.delay)
    if id not in state.board.jobs:  # the job may be done before the reply arrives
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
        app.state.board.close()  # must come before uvicorn waits for open connections
        await super().shutdown(sockets)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it after its shutdown
        Server(
            uvicorn.Config(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
        ).run()
