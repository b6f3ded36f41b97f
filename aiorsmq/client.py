"""AsyncRSMQ: the connection to a server, or to a set of them. Start here."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from redis.asyncio import Redis, RedisCluster

from ._commands.admin import list_queues
from ._commands.snapshot import snapshots
from ._commands.unlisted import find_unlisted
from ._consuming.cores import QueueCores
from ._protocol import (
    DEFAULT_NS,
    Seconds,
    check_ns,
    check_qname,
    check_seconds,
    check_seconds_at_least,
)
from ._server.engine import DEADLINE, Engine
from ._server.home import running_loop
from ._server.node import Node
from ._server.server_info import server_info
from ._server.target import EmbeddedTarget
from ._server.targets import choose_target, target_from_url
from ._working.block import WhenDead
from ._working.intake import check_queues
from .codecs import TEXT, Codec
from .embedded import EmbeddedServer
from .handlers import Reject, Retry
from .methods import NamedQueues
from .models import (
    DEFAULT_MAX_WAITING,
    Confirm,
    MaxWaiting,
    Message,
    ServerInfo,
    Snapshot,
    WorkerEvent,
    check_confirm,
)
from .queue import Queue
from .worker import Worker

T = TypeVar("T")

DEFAULT_POLL_INTERVAL: Final = 5.0
MIN_DEADLINE: Final = 0.1


class AsyncRSMQ(NamedQueues):
    """RSMQ on a Redis or Valkey server, or on a set of them.

    Creating it does no I/O and needs no running event loop; the first call connects. It uses two
    connections of its own: one for all calls (in a cluster, one to each node that has its queues),
    and one for all announcements, opened when a consumer first has to wait. It belongs to the event
    loop and the process of its first call; used elsewhere, it raises WrongEventLoop.

    Args:
        client: a `redis.asyncio.Redis` or `RedisCluster` to take the connection settings from. It
            stays yours to close, and no connection is taken out of its pool.
        host: the server's name or address, if no `client` is given.
        port: its port.
        ns: the namespace, with which all keys begin. `queue` can name another one. In a cluster it
            has a hash tag, as in "{rsmq}".
        realtime: announce what is sent, and listen for announcements. If False, send no
            announcements and poll.
        qname: the default queue of methods that take a `qname`.
        poll_interval: seconds between two polls of a queue without news, 0.01 or more. A message
            that was sent without an announcement waits up to this long.
        deadline: seconds that a call may take in all, 0.1 or more; a long poll has its `wait` in
            addition. After that the call raises the last error that it met, or redis-py's
            TimeoutError. In calls that go through a whole queue (`purge`, `redrive`), each step has
            the deadline to itself.
        connect_timeout: seconds, from the first call, to wait for a server that has never been
            reached: one that refuses connections, is loading its data, or whose host name does not
            resolve yet. A refused login is raised at once.
        confirm: what each send waits for besides the server's reply: `replicas(n, timeout)` or
            `fsync()`. Confirmed sends have a third connection to themselves, opened with the first.
        max_connection_age: seconds, 1 or more, after which a connection is replaced by another, up
            to a tenth earlier; None is never. The other one is opened first, so no call notices.
            Opening one looks up the host and asks the credential provider.
        max_waiting: how much of a queue may wait to be sent, while the server is slow or away;
            `send_many` counts until it has its reply. Further sends wait their turn: they go out in
            order, their deadlines count from their calls, and cancelling one withdraws it.
        redis_options: any other option of `redis.asyncio.Redis`: `db`, `username`, `password`,
            `ssl`, ...

    Calls to a server that cannot be reached raise redis-py's errors: after `connect_timeout` if it
    has never been reached, otherwise at the deadline. An attempt to connect that has begun by then
    is finished first, which takes up to 5 seconds.
    """

    def __init__(
        self,
        client: Redis | RedisCluster | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 6379,
        ns: str = DEFAULT_NS,
        realtime: bool = True,
        qname: str | None = None,
        poll_interval: Seconds = DEFAULT_POLL_INTERVAL,
        deadline: Seconds = DEADLINE,
        connect_timeout: Seconds = 0,
        confirm: Confirm | None = None,
        max_connection_age: Seconds | None = None,
        max_waiting: MaxWaiting = DEFAULT_MAX_WAITING,
        **redis_options: Any,
    ) -> None:
        self._ns = check_ns(ns)
        self._qname = None if qname is None else check_qname(qname)
        self._cores = QueueCores(poll_interval=poll_interval, max_waiting=max_waiting)
        self._engine = Engine(
            choose_target(client, host=host, port=port, **redis_options),
            deadline=check_seconds_at_least(MIN_DEADLINE, "deadline", deadline),
            connect_timeout=check_seconds("connect_timeout", connect_timeout),
            realtime=realtime,
            max_connection_age=max_connection_age,
            on_lost=self._cores.look_again,
        )
        self._confirm = check_confirm(confirm, self._engine.deadline)
        self._node = self._cores.node(self._engine, self._ns)
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
        confirm: Confirm | None = None,
        max_connection_age: Seconds | None = None,
        max_waiting: MaxWaiting = DEFAULT_MAX_WAITING,
        **redis_options: Any,
    ) -> AsyncRSMQ:
        """Create a client from a URL: redis://, rediss:// or unix:// as in redis-py, embedded://,
        redis+sentinel://[user:password@]h:p,h:p/service[/db] or redis+cluster://h:p,h:p.

        valkey:// is the same as redis://, and valkeys:// as rediss://. Percent-encode special
        characters in a password. A URL in which one may not be encoded is refused, with
        InvalidParameterValue, and so is an option that redis-py does not know.

        `embedded://` starts a real Valkey server with the first call and stops it with `aclose()`,
        or with the program; `embedded:///folder` keeps its data there. Each client has a server of
        its own: clients that are to share queues get the `url` of one `EmbeddedServer`.

        The other parameters are those of the class; options are redis-py's, and for sentinels
        `sentinel_username` and `sentinel_password`, too.
        """
        target: Any = target_from_url(url, **redis_options)
        return cls(
            target,
            ns=ns,
            realtime=realtime,
            qname=qname,
            poll_interval=poll_interval,
            deadline=deadline,
            connect_timeout=connect_timeout,
            confirm=confirm,
            max_connection_age=max_connection_age,
            max_waiting=max_waiting,
        )

    @overload
    def queue(
        self, name: str, *, ns: str | None = None, confirm: Confirm | None = None
    ) -> Queue[str]: ...
    @overload
    def queue(
        self, name: str, *, codec: Codec[T], ns: str | None = None, confirm: Confirm | None = None
    ) -> Queue[T]: ...
    def queue(
        self,
        name: str,
        *,
        codec: Codec[Any] = TEXT,
        ns: str | None = None,
        confirm: Confirm | None = None,
    ) -> Queue[Any]:
        """A handle for one queue. Does no I/O; the queue need not exist.

        Args:
            codec: encodes and decodes bodies: TEXT, BYTES, JSON, MsgspecCodec(type),
                PydanticCodec(type), or any object with `encode` and `decode`.
            ns: the queue's namespace; the client's if None.
            confirm: what each send of this handle waits for; None is the client's.
        """
        checked = check_confirm(confirm, self._engine.deadline)
        _, namespace = self._place(ns)
        return self._queue(check_qname(name, "name"), codec, checked, namespace)

    def _queue(
        self, name: str, codec: Codec[T], confirm: Confirm | None = None, ns: str | None = None
    ) -> Queue[T]:
        core = self._cores.core(self._engine, ns or self._ns, name)
        return Queue(core, codec, confirm or self._confirm)

    def _place(self, ns: str | None) -> tuple[Node, str]:
        """Where the queues of a namespace are; None is the client's."""
        namespace = self._ns if ns is None else check_ns(ns)
        return self._cores.node(self._engine, namespace), namespace

    async def list_queues(self, *, ns: str | None = None) -> set[str]:
        """The names of all queues in the namespace; the client's if `ns` is None.

        They are read from the set `{ns}:QUEUES`, as in every RSMQ. A queue whose name was lost from
        that set works, but is not listed until `ensure()` adds it again.
        """
        return await list_queues(*self._place(ns))

    async def find_unlisted(
        self, *, budget: int = 100_000, ns: str | None = None
    ) -> list[str] | None:
        """The names of queues that exist and are missing from `list_queues()`, in order; None if
        the server does not allow SCAN.

        Goes through the keys of the whole server in steps of less than a millisecond, and stops
        when it has looked at about `budget`. Cancelling changes nothing.
        """
        return await find_unlisted(*self._place(ns), budget)

    async def snapshots(
        self, qnames: Iterable[str] | None = None, *, ns: str | None = None
    ) -> list[Snapshot]:
        """`Queue.snapshot` of all queues, or of those that you name, in the order of their names.

        Left out are queues that do not exist, names that no queue can have, and, with a warning,
        queues whose keys are another program's. One script call looks at up to 8 queues at the same
        moment.
        """
        return await snapshots(*self._place(ns), qnames)

    async def server_info(self) -> ServerInfo:
        """What the server says about itself: version, memory, persistence, role, clock.

        Asks by INFO and CONFIG GET, which many servers and users do not allow: what is not told is
        None. The clock is told by a script, as to every call.
        """
        return await server_info(self._node)

    def worker(
        self,
        queues: Iterable[Queue[Any] | str] | Mapping[Any, float],
        handler: Callable[[Message[Any]], object],
        *,
        concurrency: int = 10,
        vt: Seconds | None = None,
        create: bool = False,
        timeout: Seconds | None = None,
        max_lease: Seconds | None = None,
        backoff: Callable[[int], float] | None = None,
        on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None = None,
        on_event: Callable[[WorkerEvent], None] | None = None,
        grace: Seconds = 30.0,
        when_dead: WhenDead = "interrupt",
    ) -> Worker[Any]:
        """One worker on several queues that share its handlers; see `Worker`.

        Args:
            queues: names, or handles, also of several namespaces. A list is in order of priority: a
                queue is asked when the ones before it are empty. In a dict the values are weights:
                a queue of weight 3 is asked first three times as often as a queue of weight 1.
            handler: an `async def`, or a plain function, which runs in a thread. It may raise
                `Retry` or `Reject`.
            concurrency: handlers at a time, 1 to 10000.
            vt: seconds of each lease, 0.1 or more; the queue's `vt` if None. Leases are renewed
                while handlers run: this is how long a message stays hidden if the program dies.
            create: create a missing queue with RSMQ's defaults, at the start or later.
            timeout: seconds after which a handler is cancelled and its attempt has failed.
            max_lease: seconds after which a message is no longer held, even if its cancelled
                handler has not ended.
            backoff: the seconds until a failed message is redelivered, given its receive count;
                `exponential()` if None.
            on_error: called with the message and its handler's exception; may return a `Retry` or
                a `Reject`.
            on_event: called with each `WorkerEvent`.
            grace: seconds that handlers have to end when the worker stops.
            when_dead: what a worker that dies does to its `async with` block: "interrupt" it, or
                "terminate" the program by SIGTERM.
        """
        names, weights = check_queues(queues)
        handles: list[Queue[Any]] = [
            name if isinstance(name, Queue) else self._queue(check_qname(name, "queues"), TEXT)
            for name in names
        ]
        intakes = [
            queue._intake(vt, create=create)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            for queue in handles
        ]
        return Worker(
            intakes,
            weights,
            handler,
            concurrency=concurrency,
            timeout=timeout,
            max_lease=max_lease,
            backoff=backoff,
            on_error=on_error,
            on_event=on_event,
            grace=grace,
            when_dead=when_dead,
        )

    def end_streams(self) -> None:
        """End every open stream quietly, and each stream that is made later at once.

        For a web server that stops: it waits for open responses, and a stream never ends by itself.
        `aiorsmq.integrations.shutdown` tells when. Tasks that wait for the next message leave their
        `async for`; messages that were claimed ahead go to other consumers, or back to their old
        place in the queue. A message in hand can still be settled. Calls and workers go on.

        May be called at any time, again too. Returns at once; what is handed back is handed back in
        the background, and `aclose()` waits for it. Raises WrongEventLoop in another event loop:
        from a signal handler or a thread, use `loop.call_soon_threadsafe(rsmq.end_streams)`.
        """
        home = self._engine.home
        if home.used:
            home.loop()  # raises in another event loop
        home.has_ended_streams = True
        self._cores.end_streams()

    async def aclose(self) -> None:
        """Close the client; it cannot be used again.

        Ends all streams that have begun, quietly; calls, long polls and streams that begin later
        raise ClientClosed. Hands back messages that were claimed and not handed out, and lets calls
        in flight finish for up to 5 seconds. Leaves no task, connection or embedded server behind.
        A client that you gave stays open.

        A message that is still being handled can no longer be settled; its lease expires.
        Cancelling stops the waiting, not the closing. Raises WrongEventLoop in another event loop.
        """
        if self._closing is None:
            home = self._engine.home
            loop = home.loop() if home.used else running_loop()
            home.closing = True
            self._closing = loop.create_task(self._close())
        if not self._closing.done():
            await asyncio.shield(self._closing)

    @property
    def address(self) -> str:
        """Where the server is: host and port, or the path of its socket. Without password."""
        return self._engine.target.address

    @property
    def embedded_server(self) -> EmbeddedServer | None:
        """The server that this client starts and stops, for an `embedded://` URL."""
        target = self._engine.target
        return target.server if isinstance(target, EmbeddedTarget) else None

    async def _close(self) -> None:
        self._cores.close()
        await self._engine.aclose()

    async def __aenter__(self) -> AsyncRSMQ:
        running_loop()  # raises under trio, before there is anything to close
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_closing", self) is None and self._engine.home.used:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "" if self._closing is None else " closed"
        return f"<AsyncRSMQ {self._ns!r} at {self.address}{state}>"
