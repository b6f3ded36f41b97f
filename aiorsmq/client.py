"""AsyncRSMQ: the connection to one server, and RSMQ's own methods. Start here."""

import asyncio
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, Unpack, cast, overload
from weakref import WeakValueDictionary

import anyio
from redis.asyncio import Redis

from ._commands.admin import list_queues
from ._consuming.core import Shared
from ._protocol import (
    DEFAULT_DELAY,
    DEFAULT_MAXSIZE,
    DEFAULT_VT,
    Keys,
    Seconds,
    at_least,
    check_ns,
    check_qname,
    check_seconds,
)
from ._server.checks import warn
from ._server.connector import Connections
from ._server.listener import Listener
from ._server.scripts import DEADLINE, Scripts
from ._server.settings import check_client, check_url, own_client
from ._server.tasks import Tasks
from .codecs import TEXT, Codec
from .embedded import EmbeddedServer, is_volatile
from .errors import InvalidParameterValue
from .models import Message, QueueAttributes, Receipt
from .queue import Queue
from .stream import Messages
from .worker import Worker, WorkerOptions

T = TypeVar("T")

DEFAULT_NS: Final = "rsmq"
DEFAULT_POLL_INTERVAL: Final = 5.0
SHORTEST_POLL_INTERVAL: Final = 0.01
SHORTEST_DEADLINE: Final = 0.1
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `aclose()` gives to calls that are under way."""


class AsyncRSMQ:
    """RSMQ on one Redis or Valkey server.

    Making it does no I/O and needs no running event loop; the first call connects. It uses two
    connections of its own: one for all calls, opened by the first, and one for all announcements,
    opened when a consumer first has to wait. It belongs to the event loop in which it is first
    used, and to its process (WrongEventLoop).

    Args:
        client: a `redis.asyncio.Redis` whose settings to connect with; it stays yours to close, and
            its pool is not used up. Without one: `host`, `port`, and any option of
            `redis.asyncio.Redis`.
        ns: the namespace that all keys begin with.
        realtime: announce what is sent, and listen for announcements. False: say nothing, and poll.
        qname: the queue meant by methods that are not given one.
        poll_interval: seconds between two looks at a queue of which nothing is heard: how long a
            message may wait that was sent without an announcement.
        deadline: seconds after which a call gives up, 0.1 at least, counted from the call; a long
            poll has its `wait` in addition. Then it raises redis-py's TimeoutError, or the last
            error that it met. For a call that works through a whole queue (`purge`, `redrive`), the
            deadline is that of each step.
        connect_timeout: seconds, from the first call on, for which a server is waited for that was
            never reached: one that refuses connections, loads its data, or has a name that is not
            known yet. A refused login is raised at once.

    Calls raise redis-py's errors for a server that cannot be reached: after `connect_timeout` if it
    never was, else at the deadline. An attempt that is under way then is finished: 5 seconds at the
    most.
    """

    def __init__(
        self,
        client: "Redis | None" = None,
        *,
        host: str = "127.0.0.1",
        port: int = 6379,
        ns: str = DEFAULT_NS,
        realtime: bool = True,
        qname: str | None = None,
        poll_interval: Seconds = DEFAULT_POLL_INTERVAL,
        deadline: Seconds = DEADLINE,
        connect_timeout: Seconds = 0,
        **redis_options: Any,
    ) -> None:
        self._ns = check_ns(ns)
        self._qname = None if qname is None else check_qname(qname)
        self._poll_interval = check_seconds("poll_interval", poll_interval)
        if self._poll_interval < SHORTEST_POLL_INTERVAL:
            raise InvalidParameterValue(
                "poll_interval", poll_interval, f"must be {SHORTEST_POLL_INTERVAL} seconds or more"
            )
        self._own_client: Redis | None = None
        self._server: EmbeddedServer | None = None
        if client is None:
            client = self._own_client = own_client(host=host, port=port, **redis_options)
        elif redis_options:
            raise InvalidParameterValue(
                "redis_options", sorted(redis_options), "cannot be given together with a client"
            )
        else:
            client = check_client(client)
        self._work, self._upkeep = Tasks(), Tasks()
        self._connections = Connections(
            client, self._upkeep, check_seconds("connect_timeout", connect_timeout)
        )
        if not is_volatile(self._connections.address):
            self._connections.when_reached = warn
        self._scripts = Scripts(
            self._connections, self._work, at_least(SHORTEST_DEADLINE, "deadline", deadline)
        )
        self._listener = (
            Listener(partial(self._connections.open, pushes=True), self._upkeep)
            if realtime
            else None
        )
        self._queues: WeakValueDictionary[str, Shared] = WeakValueDictionary()
        self._connections.when_lost = partial(_look_again, self._queues)
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        ns: str = DEFAULT_NS,
        realtime: bool = True,
        qname: str | None = None,
        poll_interval: Seconds = DEFAULT_POLL_INTERVAL,
        deadline: Seconds = DEADLINE,
        connect_timeout: Seconds = 0,
        **redis_options: Any,
    ) -> "AsyncRSMQ":
        """Make one from a URL: redis://, rediss:// and unix:// as redis-py reads them, or
        embedded://.

        valkey:// is redis://, and valkeys:// rediss://. What is special in a password must be
        percent-encoded; a URL in which it may not be is refused, with InvalidParameterValue, as is
        an option that redis-py does not know.

        `embedded://` starts a real Valkey server with the first call and stops it with `aclose()`,
        or with the program; `embedded:///folder` keeps its data there. See `EmbeddedServer`.
        """
        server, embedded = None, check_url(url)
        if embedded is not None:
            server = EmbeddedServer(embedded or None)
            url = server.url
        client = own_client(url, **redis_options)
        rsmq = cls(
            client,
            ns=ns,
            realtime=realtime,
            qname=qname,
            poll_interval=poll_interval,
            deadline=deadline,
            connect_timeout=connect_timeout,
        )
        rsmq._own_client = client
        if server is not None:
            rsmq._server = server
            rsmq._connections.before_opening = server.start
        return rsmq

    @overload
    def queue(self, name: str) -> Queue[str]: ...
    @overload
    def queue(self, name: str, *, codec: Codec[T]) -> Queue[T]: ...
    def queue(self, name: str, *, codec: Codec[Any] = TEXT) -> Queue[Any]:
        """A handle of one queue, with all its verbs; no I/O, and the queue need not exist.

        Args:
            codec: what its bodies are: TEXT, BYTES, JSON, MsgspecCodec(type), PydanticCodec(type),
                or any object with `encode` and `decode`.
        """
        return self._queue(check_qname(name, "name"), codec)

    def _queue(self, name: str, codec: Codec[T]) -> Queue[T]:
        shared = self._queues.get(name)
        if shared is None:
            keys = Keys(self._ns, name)
            shared = Shared(self._scripts, keys, self._work, self._listener, self._poll_interval)
            self._queues[name] = shared
        return Queue(shared, codec)

    async def create_queue(
        self,
        *,
        qname: str | None = None,
        vt: Seconds = DEFAULT_VT,
        delay: Seconds = DEFAULT_DELAY,
        maxsize: int = DEFAULT_MAXSIZE,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """See `Queue.create`."""
        return await self._named(qname).create(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
            exist_ok=exist_ok,
        )

    async def delete_queue(self, *, qname: str | None = None, missing_ok: bool = False) -> bool:
        """See `Queue.delete`."""
        return await self._named(qname).delete(missing_ok=missing_ok)

    async def list_queues(self) -> set[str]:
        """The names of all queues in the namespace.

        As the set `{ns}:QUEUES` has them, which every RSMQ keeps: a queue whose name was lost there
        works, but is not listed until `create(exist_ok=True)` enters it again.
        """
        return await list_queues(self._scripts, self._ns)

    async def get_queue_attributes(self, *, qname: str | None = None) -> QueueAttributes:
        """See `Queue.attributes`."""
        return await self._named(qname).attributes()

    async def set_queue_attributes(
        self,
        *,
        qname: str | None = None,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> QueueAttributes:
        """See `Queue.set_attributes`."""
        return await self._named(qname).set_attributes(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
        )

    async def send_message(
        self, *, message: str | bytes, qname: str | None = None, delay: Seconds | None = None
    ) -> str:
        """See `Queue.send`."""
        return await self._named(qname).send_as("message", message, delay)

    async def receive_message(
        self, *, qname: str | None = None, vt: Seconds | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """See `Queue.receive`."""
        return await self._named(qname).receive(vt=vt, wait=wait)

    async def pop_message(
        self, *, qname: str | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """See `Queue.pop`."""
        return await self._named(qname).pop(wait=wait)

    async def change_message_visibility(
        self, *, id: str | Receipt, vt: Seconds, qname: str | None = None
    ) -> bool:
        """See `Queue.change_visibility`."""
        return await self._named(qname).change_visibility(id, vt)

    async def delete_message(self, *, id: str | Receipt, qname: str | None = None) -> bool:
        """See `Queue.delete_message`."""
        return await self._named(qname).delete_message(id)

    def messages(
        self,
        qname: str | None = None,
        *,
        vt: Seconds | None = None,
        prefetch: int = 0,
        pop: bool = False,
        create: bool = False,
    ) -> Messages[str]:
        """See `Queue.messages`."""
        return self._named(qname).messages(vt=vt, prefetch=prefetch, pop=pop, create=create)

    def worker(
        self,
        queues: Iterable[Queue[Any] | str] | Mapping[Any, float],
        handler: Callable[[Message[Any]], object],
        *,
        vt: Seconds | None = None,
        create: bool = False,
        **options: Unpack[WorkerOptions],
    ) -> Worker[Any]:
        """One worker on several queues, whose handlers they share; see `Worker`.

        Args:
            queues: names or handles. In a list: strict priority, a queue is asked when those before
                it have nothing. In a dict with weights: a queue of weight 3 is asked first three
                times as often as one of weight 1.
        """
        if (
            isinstance(queues, str)
            or not isinstance(queues, Iterable)
            or not (names := list(queues))
        ):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue(
                "queues", queues, "must be queues or names of queues, one at least"
            )
        weights = (
            list(cast("Mapping[Any, float]", queues).values())
            if isinstance(queues, Mapping)
            else None
        )
        if weights and not all(
            isinstance(weight, int | float) and weight > 0 for weight in weights
        ):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameterValue("queues", weights, "must have weights over 0")
        handles = [
            queue if isinstance(queue, Queue) else self._queue(check_qname(queue, "queues"), TEXT)
            for queue in names
        ]
        return Worker([queue.source(vt, create) for queue in handles], weights, handler, **options)

    async def aclose(self) -> None:
        """Close the client; it cannot be used again.

        Ends every stream, hands back what was claimed and not handed out, lets calls that are under
        way finish (for 5 seconds at the most), and leaves no task, connection or embedded server
        behind. A message that is still being handled can no longer be settled: its lease ends by
        itself. Cancelling stops the waiting, not the closing. A client that was given stays open.
        Raises WrongEventLoop in another event loop than its own.
        """
        if self._closing is None:
            if self._upkeep.used:
                self._upkeep.loop()
            self._work.closing = True
            self._closing = asyncio.get_running_loop().create_task(self._close())
        if not self._closing.done():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for shared in list(self._queues.values()):
            shared.close()
        if self._listener is not None:
            await self._listener.aclose()
        until = anyio.current_time() + CLOSE_TIMEOUT
        with anyio.CancelScope(deadline=until):
            await self._scripts.quiet()
        await self._work.finish(until - anyio.current_time())
        await self._connections.aclose()
        await self._upkeep.finish(CLOSE_TIMEOUT)
        if self._own_client is not None:
            await self._own_client.aclose()
        if self._server is not None:
            await self._server.stop()

    async def __aenter__(self) -> "AsyncRSMQ":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_closing", self) is None and self._upkeep.used:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "" if self._closing is None else " closed"
        return f"<AsyncRSMQ {self._ns!r} at {self._connections.address}{state}>"

    def _named(self, qname: str | None) -> Queue[str]:
        name = self._qname if qname is None else qname
        if name is None:
            raise InvalidParameterValue("qname", None, "must be given here or to AsyncRSMQ")
        return self._queue(check_qname(name), TEXT)


def _look_again(queues: WeakValueDictionary[str, Shared]) -> None:
    """Without the connection nobody knows whether the server is there: let those who wait find
    out.
    """
    for shared in list(queues.values()):
        shared.look_again()
