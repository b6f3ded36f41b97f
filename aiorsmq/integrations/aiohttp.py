"""A client and workers in an aiohttp app: `setup` before it runs, `app[RSMQ]` in its handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from aiohttp import web

from ..client import AsyncRSMQ
from ..worker import Worker
from .service import Service

__all__ = ["RSMQ", "SERVICE", "health_routes", "setup"]

RSMQ: Final = web.AppKey("rsmq", AsyncRSMQ)
"""Where `setup` puts the client: `request.app[RSMQ]`."""
SERVICE: Final = web.AppKey("rsmq_service", Service)

Start = Callable[[web.Application], Awaitable[Iterable[Worker[Any]]]]


def setup(
    app: web.Application, url: str, start: Start | None = None, **client_options: Any
) -> None:
    """Give the app a client, and run workers in it, by its `cleanup_ctx`. Call it once, before the
    app runs.

        async def start(app: web.Application) -> list[Worker[str]]:
            jobs = app[RSMQ].queue("jobs")
            await jobs.ensure(vt=30)
            return [jobs.worker(work)]

        setup(app, "redis://localhost:6379", start)

    The client's streams end when the app begins to shut down, whatever makes it do so: aiohttp
    waits for open responses first. After that the workers stop gracefully, and the client closes.
    For what a worker does to the app if it dies, see `Service`.

    Args:
        url: see `AsyncRSMQ.from_url`, which gets `client_options` too.
        start: makes the workers, when the app starts and the client is there. If it raises, the app
            does not start.
    """

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with AsyncRSMQ.from_url(url, **client_options) as rsmq:
            app[RSMQ] = rsmq
            workers = await start(app) if start else ()
            async with Service(rsmq, *workers) as service:
                app[SERVICE] = service
                yield

    app.cleanup_ctx.append(serve)
    app.on_shutdown.append(_begin_shutdown)


async def _begin_shutdown(app: web.Application) -> None:
    if SERVICE in app:  # not if it could not start
        app[SERVICE].shutdown.begin()


def health_routes() -> list[web.RouteDef]:
    """Routes for probes: `/livez` answers 200 while the event loop runs, `/readyz` answers what
    `Service.readiness` says."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive")

    async def readyz(request: web.Request) -> web.Response:
        status, text = await request.app[SERVICE].readiness()
        return web.Response(status=status, text=text)

    return [web.get("/livez", livez), web.get("/readyz", readyz)]
