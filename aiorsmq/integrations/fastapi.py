"""A client and workers in a FastAPI app: `attach` in its lifespan, `Client` in its routes.

All of `aiorsmq.integrations.starlette` is here too.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from ..client import AsyncRSMQ
from .shutdown import Shutdown
from .starlette import attach, get_rsmq, get_service, get_shutdown, health_routes

__all__ = [
    "Client",
    "ServerShutdown",
    "attach",
    "get_rsmq",
    "get_service",
    "get_shutdown",
    "health_routes",
]

Client = Annotated[AsyncRSMQ, Depends(get_rsmq)]
"""A parameter of a route, over HTTP or WebSocket, or of another dependency: `rsmq: Client`.

A typed queue is a dependency that takes it, and so is written once for routes and workers:

    def get_orders(rsmq: Client) -> Queue[Order]:
        return rsmq.queue("orders", codec=PydanticCodec(Order))

    Orders = Annotated[Queue[Order], Depends(get_orders)]
"""

ServerShutdown = Annotated[Shutdown, Depends(get_shutdown)]
"""A parameter, for streams that do not read from a queue: `shutdown.stream(items)`."""
