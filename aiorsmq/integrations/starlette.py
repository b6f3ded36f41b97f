"""A client and workers in a Starlette app: `attach` in its lifespan, `get_rsmq` in its routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ..client import AsyncRSMQ
from ..worker import Worker
from .service import Service
from .shutdown import Shutdown

__all__ = ["attach", "get_rsmq", "get_service", "get_shutdown", "health_routes"]

NAME: Final = "aiorsmq"


@asynccontextmanager
async def attach(
    app: Starlette, rsmq: AsyncRSMQ, *workers: Worker[Any], name: str = NAME
) -> AsyncGenerator[Service]:
    """Run a `Service` and have the routes of the app find it, in `app.state`.

        async with AsyncRSMQ.from_url(url) as rsmq:
            async with attach(app, rsmq, rsmq.queue("jobs").worker(work)):
                yield  # in the app's lifespan

    Raises RuntimeError if the app has a service of that name.

    Args:
        name: tells several clients in one app apart: a route gets the client by
            `get_service(connection, name).rsmq`.

    An app that is mounted in this one has a state of its own, and its lifespan is not run: share
    the state, with `mounted.state = app.state`.
    """
    if hasattr(app.state, name):
        raise RuntimeError(
            f"app.state.{name} is there already: for a second client write "
            'attach(app, rsmq, name="second") and get_service(request, "second").rsmq'
        )
    async with Service(rsmq, *workers) as service:
        setattr(app.state, name, service)
        try:
            yield service
        finally:
            delattr(app.state, name)


def get_service(connection: HTTPConnection, name: str = NAME) -> Service:
    """The service of the app that a request or a WebSocket has reached."""
    try:
        service: Service = getattr(connection.app.state, name)
    except AttributeError:
        raise RuntimeError(
            f"no service {name!r}: run the app's lifespan, with attach(app, rsmq) in it"
            " (a mounted app needs mounted.state = app.state; tests need `with TestClient(app)`)"
        ) from None
    return service


def get_rsmq(connection: HTTPConnection) -> AsyncRSMQ:
    """The client of the app that a request or a WebSocket has reached."""
    return get_service(connection).rsmq


def get_shutdown(connection: HTTPConnection) -> Shutdown:
    """When the server begins to stop: for streams that do not read from a queue."""
    return get_service(connection).shutdown


def health_routes(name: str = NAME) -> list[Route]:
    """Routes for probes: `/livez` answers 200 while the event loop runs, `/readyz` answers what
    `Service.readiness` says."""

    async def livez(_: Request) -> PlainTextResponse:
        return PlainTextResponse("alive")

    async def readyz(request: Request) -> PlainTextResponse:
        status, text = await get_service(request, name).readiness()
        return PlainTextResponse(text, status)

    return [
        Route("/livez", livez, include_in_schema=False),
        Route("/readyz", readyz, include_in_schema=False),
    ]
