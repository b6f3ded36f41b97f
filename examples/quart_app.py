"""Process jobs from a queue in Quart, and show them in a page as they are done.

Run `python examples/quart_app.py`, then open http://127.0.0.1:8000. It needs quart, and starts a
server of its own unless REDIS_URL names one. Other commands need REDIS_URL, such as
`uvicorn quart_app:app --reload` or `hypercorn quart_app:app --workers 2`.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from aiorsmq import JSON, AsyncRSMQ, Message
from aiorsmq.integrations.service import Service
from board import Board, Job
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, make_response, request, send_file

app = Quart(__name__)


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


@app.while_serving
async def lifespan() -> AsyncIterator[None]:
    async with AsyncRSMQ.from_url(os.environ["REDIS_URL"]) as rsmq:
        app.board = Board()
        app.queue = rsmq.queue("quart-jobs", codec=JSON)
        # The worker renews leases, so a job may take longer than `vt`.
        await app.queue.ensure(vt=30)
        async with Service(rsmq, app.queue.worker(partial(work, app.board))) as app.service:
            yield


@app.get("/readyz")
async def readyz() -> tuple[str, int]:
    status, text = await app.service.readiness()
    return text, status


@app.get("/")
async def page() -> Response:
    return await send_file(Path(__file__).with_name("page.html"))


@app.post("/jobs")
async def post_job() -> tuple[dict[str, str], int]:
    try:
        new: dict[str, Any] = await request.get_json(force=True)
        job = {"text": new["text"]}
        if not (isinstance(job["text"], str) and 1 <= len(job["text"]) <= 1000):
            raise ValueError("text must be 1 to 1000 characters")
        # When this returns, the server has stored the message.
        id = await app.queue.send(job, delay=new.get("delay", 0))
    except (KeyError, TypeError, ValueError) as error:  # ValueError: a bad delay, too
        return {"error": f"{type(error).__name__}: {error}"}, 422
    if id not in app.board.jobs:  # the job may be done before the reply arrives
        app.board.put({"id": id, "state": "queued", **job})
    return {"id": id}, 202


@app.get("/jobs/<id>")
async def get_job(id: str) -> tuple[Job, int]:
    if job := app.board.jobs.get(id):
        return job, 200
    return {"error": "no such job"}, 404


@app.get("/events")
async def events() -> Response:
    async def stream() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(app.service.shutdown.stream(app.board.watch())) as jobs:
            async for job in jobs:
                yield f"data: {json.dumps(job)}\n\n".encode()

    response = await make_response(
        stream(), {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    response.timeout = None  # Quart ends a response after a minute otherwise
    return response


if __name__ == "__main__":
    os.environ.setdefault("REDIS_URL", "embedded://")
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ.get('PORT', '8000')}"]
    asyncio.run(serve(app, config))
