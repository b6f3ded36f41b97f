"""Process jobs from a queue in aiohttp, and show them in a page as they are done.

Run `python examples/aiohttp_app.py`, then open http://127.0.0.1:8000. It needs aiohttp, and starts
a server of its own unless REDIS_URL names one. Other commands need REDIS_URL, such as
`gunicorn aiohttp_app:app -k aiohttp.GunicornWebWorker -w 2`.
"""

import contextlib
import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import web
from aiorsmq import JSON, Message, Queue, Worker
from aiorsmq.integrations.aiohttp import RSMQ, SERVICE, health_routes, setup
from board import Board, Job

routes = web.RouteTableDef()
BOARD = web.AppKey("board", Board)
QUEUE = web.AppKey("queue", Queue[Job])


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


async def start(app: web.Application) -> list[Worker[Job]]:
    app[BOARD] = Board()
    app[QUEUE] = app[RSMQ].queue("aiohttp-jobs", codec=JSON)
    # The worker renews leases, so a job may take longer than `vt`.
    await app[QUEUE].ensure(vt=30)
    return [app[QUEUE].worker(partial(work, app[BOARD]))]


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
    stream = request.app[SERVICE].shutdown.stream(request.app[BOARD].watch())
    async with contextlib.aclosing(stream) as jobs:
        with contextlib.suppress(ConnectionResetError):  # the browser disconnected
            async for job in jobs:
                await response.write(f"data: {json.dumps(job)}\n\n".encode())
    return response


if __name__ == "__main__":
    os.environ.setdefault("REDIS_URL", "embedded://")

app = web.Application()
app.add_routes([*routes, *health_routes()])
setup(app, os.environ["REDIS_URL"], start)

if __name__ == "__main__":
    # handler_cancellation: when a browser disconnects, its stream of events ends at once, not at
    # the next event.
    web.run_app(
        app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), handler_cancellation=True
    )
