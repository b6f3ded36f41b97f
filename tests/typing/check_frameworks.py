"""What a type checker knows of the integrations with aiohttp and Django; read by pyright in strict
mode, never run."""

from typing import Any, assert_type

from aiohttp import web
from aiorsmq import JSON, AsyncRSMQ, Queue, Worker, sync
from aiorsmq.integrations.aiohttp import RSMQ, health_routes, setup
from aiorsmq.integrations.django import arsmq, rsmq


async def start(app: web.Application) -> list[Worker[str]]:
    assert_type(app[RSMQ], AsyncRSMQ)
    return [app[RSMQ].queue("jobs").worker(print)]


async def start_nothing(app: web.Application) -> None: ...


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes(health_routes())
    setup(app, "redis://localhost", start, ns="shop")
    setup(app, "redis://localhost")
    setup(app, "redis://localhost", start_nothing)  # pyright: ignore[reportArgumentType]
    return app


async def view() -> None:
    assert_type(arsmq(), AsyncRSMQ)
    assert_type(arsmq().queue("jobs"), Queue[str])


assert_type(rsmq, sync.RSMQ)
assert_type(rsmq.queue("jobs", codec=JSON), sync.Queue[Any])
