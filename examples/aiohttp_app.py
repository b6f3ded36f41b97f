"""Process jobs from a queue in aiohttp.

Run `python examples/aiohttp_app.py`, then open http://127.0.0.1:8000.

Needs aiohttp. REDIS_URL names the server; without it, the app starts and stops its own server.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from aiorsmq import JSON, AsyncRSMQ, Queue
from board import Board, Job

log = logging.getLogger("jobs")
routes = web.RouteTableDef()
BOARD = web.AppKey("board", Board)
QUEUE = web.AppKey("queue", Queue[Job])


async def do(job: Job) -> str:
    return job["text"].upper()


async def work(queue: Queue[Job], board: Board) -> None:
    """Do jobs one at a time, as they come. Start several of these tasks to do several at a time."""
    async for msg in queue.messages():
        try:
            # The message is deleted at the end of the block. It is visible again at once if the
            # block raises or the app is stopped, and after the queue's `vt` if the process is
            # killed: a job is never lost, but it may be done twice.
            async with msg:
                seconds = (datetime.now(UTC) - msg.sent_at).total_seconds()
                result = await do(msg.body)
                board.put(
                    msg.body | {"id": msg.id, "state": "done", "result": result, "seconds": seconds}
                )
        except Exception:
            log.exception("attempt %d of job %s failed", msg.receive_count, msg.id)
            await asyncio.sleep(1)


async def consumer(app: web.Application) -> AsyncIterator[None]:
    async with AsyncRSMQ.from_url(os.environ.get("REDIS_URL", "embedded://")) as rsmq:
        app[BOARD] = Board()
        app[QUEUE] = rsmq.queue("aiohttp-jobs", codec=JSON)
        await app[QUEUE].create(vt=30, exist_ok=True)  # vt: longer than any job takes
        worker = asyncio.create_task(work(app[QUEUE], app[BOARD]))
        # If the consumer fails, stop the app: otherwise it would accept jobs and do none.
        worker.add_done_callback(
            lambda task: task.cancelled() or signal.raise_signal(signal.SIGTERM)
        )
        yield
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def close_board(app: web.Application) -> None:
    app[BOARD].close()  # must come before aiohttp waits for open connections


@routes.get("/")
async def page(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).with_name("page.html"))


@routes.post("/jobs")
async def post_job(request: web.Request) -> web.Response:
    queue, board = request.app[QUEUE], request.app[BOARD]
    try:
        new = await request.json()
        job = {"text": new["text"]}
        if not (isinstance(job["text"], str) and 1 <= len(job["text"]) <= 1000):
            raise ValueError("text must be 1 to 1000 characters")
        # When this returns, the server has stored the message.
        id = await queue.send(job, delay=new.get("delay", 0))
    except (KeyError, TypeError, ValueError) as error:  # ValueError: a bad delay, too
        raise web.HTTPUnprocessableEntity(text=f"{type(error).__name__}: {error}") from error
    if id not in board.jobs:  # the job may be done before the reply arrives
        board.put({"id": id, "state": "queued", **job})
    return web.json_response({"id": id}, status=202)


@routes.get("/jobs/{id}")
async def get_job(request: web.Request) -> web.Response:
    if job := request.app[BOARD].jobs.get(request.match_info["id"]):
        return web.json_response(job)
    raise web.HTTPNotFound(text="no such job")


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    async with contextlib.aclosing(request.app[BOARD].watch()) as jobs:
        with contextlib.suppress(ConnectionResetError):  # the browser disconnected
            async for job in jobs:
                await response.write(f"data: {json.dumps(job)}\n\n".encode())
    return response


app = web.Application()
app.add_routes(routes)
app.cleanup_ctx.append(consumer)
app.on_shutdown.append(close_board)

if __name__ == "__main__":
    # handler_cancellation: when a browser disconnects, its stream of events ends at once, not at
    # the next event.
    web.run_app(
        app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), handler_cancellation=True
    )
