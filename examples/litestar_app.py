"""Process jobs from a queue in Litestar, and show them in a page as they are done.

Run `python examples/litestar_app.py`, then open http://127.0.0.1:8000. It needs litestar and
uvicorn, and starts a server of its own unless REDIS_URL names one. Other commands need REDIS_URL,
such as `litestar --app litestar_app:app run --reload`.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from aiorsmq import JSON, AsyncRSMQ, Message, Queue
from aiorsmq.integrations.service import Service
from board import Board, Job
from litestar import Litestar, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, JSONBody
from litestar.response import File, ServerSentEvent
from msgspec import Meta, Struct


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
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    async with AsyncRSMQ.from_url(os.environ["REDIS_URL"]) as rsmq:
        app.state.board = Board()
        app.state.queue = rsmq.queue("litestar-jobs", codec=JSON)
        # The worker renews leases, so a job may take longer than `vt`.
        await app.state.queue.ensure(vt=30)
        worker = app.state.queue.worker(partial(work, app.state.board))
        async with Service(rsmq, worker) as app.state.service:
            yield


def queue(state: State) -> Queue[Job]:
    return state.queue


def board(state: State) -> Board:
    return state.board


@get("/readyz")
async def readyz(state: State) -> Response[str]:
    status, text = await state.service.readiness()
    return Response(text, status_code=status)


class NewJob(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=1000)]
    delay: Annotated[float, Meta(ge=0, le=9_999_999)] = 0


@get("/")
async def page() -> File:
    path = Path(__file__).with_name("page.html")
    return File(path, media_type="text/html", content_disposition_type="inline")


@post("/jobs", status_code=202)
async def post_job(
    data: JSONBody[NewJob], queue: NamedDependency[Queue[Job]], board: NamedDependency[Board]
) -> dict[str, str]:
    # When this returns, the server has stored the message.
    id = await queue.send({"text": data.text}, delay=data.delay)
    if id not in board.jobs:  # the job may be done before the reply arrives
        board.put({"id": id, "state": "queued", "text": data.text})
    return {"id": id}


@get("/jobs/{id:str}")
async def get_job(id: FromPath[str], board: NamedDependency[Board]) -> dict[str, Any]:
    if job := board.jobs.get(id):
        return job
    raise NotFoundException("no such job")


@get("/events")
async def events(state: State, board: NamedDependency[Board]) -> ServerSentEvent:
    async def stream() -> AsyncIterator[str]:
        async with contextlib.aclosing(state.service.shutdown.stream(board.watch())) as jobs:
            async for job in jobs:
                yield json.dumps(job)

    return ServerSentEvent(stream())


app = Litestar(
    [page, post_job, get_job, events, readyz],
    lifespan=[lifespan],
    dependencies={
        "queue": Provide(queue, sync_to_thread=False),
        "board": Provide(board, sync_to_thread=False),
    },
)

if __name__ == "__main__":
    os.environ.setdefault("REDIS_URL", "embedded://")
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
