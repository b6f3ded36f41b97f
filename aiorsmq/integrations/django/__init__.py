"""Django: `rsmq` for sync code and `arsmq()` for async code, made from `settings.RSMQ`.

Add "aiorsmq.integrations.django" to INSTALLED_APPS for the commands `rsmq_worker` and
`rsmq_ensure`, and for the checks of the setting.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final, TypeVar, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import SimpleLazyObject

from ...client import AsyncRSMQ
from ...codecs import TEXT, Codec
from ...errors import InvalidParameterValue
from ...sync import RSMQ, Queue
from ..shutdown import Shutdown

__all__ = ["arsmq", "client_options", "queue_settings", "rsmq"]

Client = TypeVar("Client", AsyncRSMQ, RSMQ)


class _LazyRSMQ(SimpleLazyObject):  # pyright: ignore[reportMissingTypeArgument]
    """A client that reads the settings at its first call, and so do its queues: `manage.py check`
    can report bad settings only if the modules that it imports do not fail."""

    def queue(self, name: str, *, codec: Codec[Any] = TEXT) -> Queue[Any]:
        return cast("Queue[Any]", SimpleLazyObject(lambda: _client().queue(name, codec=codec)))


_made: dict[str, RSMQ] = {}
"""The client for sync code, once it is made."""


def _client() -> RSMQ:
    """The same for all threads: if two make one at the same time, one of them is dropped unused."""
    return _made.get("rsmq") or _made.setdefault("rsmq", _connect(RSMQ))


rsmq: Final = cast("RSMQ", _LazyRSMQ(_client))
"""The client for sync views, commands, signals and threads: one for the whole process.

It works under ASGI, WSGI and `runserver`, and after a fork. It reads the settings at its first
call, so a module may make its queues when it is imported: `jobs = rsmq.queue("jobs")`. With bad
settings, the first call raises ImproperlyConfigured.
"""

_clients: dict[asyncio.AbstractEventLoop, tuple[AsyncRSMQ, asyncio.Task[None]]] = {}
"""By event loop; each with the task that closes it."""


def arsmq() -> AsyncRSMQ:
    """The client for async views: one for each event loop, closed at the end of the loop.

    Under ASGI it lives as long as the server. Its streams end when the server begins to stop, so
    open responses do not hold the server up. Under WSGI and `runserver`, Django runs each async
    view in an event loop of its own: there such a view connects for itself. Sync views, with
    `rsmq`, share connections everywhere.

    Raises RuntimeError where no event loop runs, and ImproperlyConfigured if the settings are bad.
    """
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        client = _connect(AsyncRSMQ)
        # In a context of its own: it outlives the request.
        keeping = loop.create_task(_keep(client), context=Context())
        keeping.add_done_callback(lambda _: _clients.pop(loop))
        _clients[loop] = (client, keeping)
    return _clients[loop][0]


def _connect(cls: type[Client]) -> Client:
    try:
        return cls.from_url(**client_options())
    except (AttributeError, InvalidParameterValue, TypeError) as error:
        text = f"settings.RSMQ: {error}; `manage.py check` says more"
        raise ImproperlyConfigured(text) from error


async def _keep(client: AsyncRSMQ) -> None:
    """Close the client when the event loop ends: its last act is to cancel its tasks."""
    try:
        with Shutdown(client.end_streams):
            await asyncio.Event().wait()
    finally:
        await client.aclose()


def client_options() -> dict[str, Any]:
    """What `settings.RSMQ` says about the client: the options of `AsyncRSMQ.from_url`."""
    return {name: value for name, value in settings.RSMQ.items() if name != "queues"}


def queue_settings() -> dict[str, dict[str, Any]]:
    """What `settings.RSMQ` says about queues: the settings of `Queue.ensure`, by name."""
    return settings.RSMQ.get("queues", {})
