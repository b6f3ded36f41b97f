"""RSMQ: a connection to one server for synchronous code. Start here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from redis.asyncio import Redis, RedisCluster

from .._protocol import DEFAULT_NS, Seconds
from .._working.block import WhenDead
from ..client import DEADLINE, DEFAULT_POLL_INTERVAL, AsyncRSMQ
from ..codecs import TEXT, Codec
from ..handlers import Reject, Retry
from ..models import (
    DEFAULT_MAX_WAITING,
    Confirm,
    MaxWaiting,
    ServerInfo,
    Snapshot,
    WorkerEvent,
)
from ..worker import Worker as AsyncWorker
from ._connection import Connection
from ._twin import Twin, current_thread
from .message import Message
from .methods import NamedQueues
from .operations import as_list
from .queue import Queue
from .worker import Worker, adapt, adapt_options

T = TypeVar("T")


class RSMQ(NamedQueues):
    """RSMQ on a Redis or Valkey server, or on a set of them, for synchronous code.

    It has the methods of `aiorsmq.AsyncRSMQ`, without `await`, with the same names, parameters,
    results and exceptions. Any number of threads may use it, and what it makes. Calls that threads
    make at the same time share script calls.

    All `RSMQ` objects of a process share one event loop, in one daemon thread that starts with the
    first call. A forked process that uses an `RSMQ` of its parent gets a thread and connections of
    its own.

    `with RSMQ(...) as rsmq:` or `close()` closes it; what is still open at the end of the program
    is closed then. In a coroutine use AsyncRSMQ: a call here blocks the caller's event loop.

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
    """

    _connection: Connection

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
        connect = partial(
            AsyncRSMQ,
            client,
            host=host,
            port=port,
            ns=ns,
            realtime=realtime,
            qname=qname,
            poll_interval=poll_interval,
            deadline=deadline,
            connect_timeout=connect_timeout,
            confirm=confirm,
            max_connection_age=max_connection_age,
            max_waiting=max_waiting,
            **redis_options,
        )
        self._open(lambda _: connect(), "")

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
    ) -> RSMQ:
        """Create a client from a URL: redis://, rediss:// or unix:// as in redis-py, embedded://,
        redis+sentinel://[user:password@]h:p,h:p/service[/db] or redis+cluster://h:p,h:p.

        Each client of `embedded://` has a server of its own: clients that are to share queues get
        the `url` of one `EmbeddedServer`. The server belongs to the process that uses it first.
        Forked children connect to it while it runs; otherwise they raise EmbeddedServerError.

        The other parameters are those of the class; options are redis-py's, and for sentinels
        `sentinel_username` and `sentinel_password`, too.
        """
        connect = partial(
            AsyncRSMQ.from_url,
            ns=ns,
            realtime=realtime,
            qname=qname,
            poll_interval=poll_interval,
            deadline=deadline,
            connect_timeout=connect_timeout,
            confirm=confirm,
            max_connection_age=max_connection_age,
            max_waiting=max_waiting,
            **redis_options,
        )
        rsmq = cls.__new__(cls)
        rsmq._open(connect, url)  # noqa: SLF001 - of this class
        return rsmq

    def _open(self, connect: Callable[[str], AsyncRSMQ], url: str) -> None:
        self._connection = Connection(connect, url)
        self._twin = Twin(self._connection.model, self._connection.make)

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
        """A handle for one queue. Does no I/O; the queue need not exist."""
        return Queue(
            self._twin.child(lambda rsmq: rsmq.queue(name, codec=codec, ns=ns, confirm=confirm))
        )

    def list_queues(self, *, ns: str | None = None) -> set[str]:
        """The names of all queues in the namespace; the client's if `ns` is None."""
        return self._twin.run(lambda rsmq: rsmq.list_queues(ns=ns))

    def find_unlisted(self, *, budget: int = 100_000, ns: str | None = None) -> list[str] | None:
        """The names of queues that exist and are missing from `list_queues()`, in order; None if
        the server does not allow SCAN."""
        return self._twin.run(lambda rsmq: rsmq.find_unlisted(budget=budget, ns=ns))

    def snapshots(
        self, qnames: Iterable[str] | None = None, *, ns: str | None = None
    ) -> list[Snapshot]:
        """`Queue.snapshot` of all queues, or of those that you name, in the order of their
        names."""
        names = None if qnames is None else as_list(qnames)
        return self._twin.run(lambda rsmq: rsmq.snapshots(names, ns=ns))

    def server_info(self) -> ServerInfo:
        """What the server says about itself: version, memory, persistence, role, clock."""
        return self._twin.run(lambda rsmq: rsmq.server_info())

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
            handler: a plain function, which runs in a thread. It may raise `Retry` or `Reject`.
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
            on_event: called with each `WorkerEvent`. Calls of this package are refused in it.
            grace: seconds that handlers have to end when the worker stops.
            when_dead: what a worker that dies in a `with` block does: raise its error at the end
                of the block ("interrupt"), or "terminate" the program by SIGTERM, too.
        """
        call = adapt(handler)
        options = adapt_options(
            concurrency=concurrency,
            timeout=timeout,
            max_lease=max_lease,
            backoff=backoff,
            on_error=on_error,
            on_event=on_event,
            grace=grace,
            when_dead=when_dead,
        )
        names = as_list(queues)

        def make(rsmq: AsyncRSMQ) -> AsyncWorker[Any]:
            handles = _handles(names, models=rsmq is self._twin.model)
            return rsmq.worker(handles, call, vt=vt, create=create, **options)

        return Worker(self._twin.child(make))

    def end_streams(self) -> None:
        """End every open stream quietly, and each stream that is made later at once.

        Calls and workers go on. May be called from any thread and from a signal handler.
        """

        async def end(rsmq: AsyncRSMQ) -> None:
            rsmq.end_streams()

        self._twin.run(end)

    def close(self) -> None:
        """Close the client; it cannot be used again.

        As `AsyncRSMQ.aclose`. Threads that wait in a call get ClientClosed. The event loop's thread
        ends with the last client. In a forked process, the parent's connections stay open.
        """
        self._connection.close()

    @property
    def address(self) -> str:
        """Where the server is: host and port, or the path of its socket."""
        return self._twin.object.address

    def __enter__(self) -> RSMQ:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._twin.object).replace("AsyncRSMQ", "RSMQ", 1)


def _handles(queues: Any, *, models: bool) -> Any:
    """Names and asynchronous handles, for the names and handles in a list or a mapping."""

    def handle(queue: Any) -> Any:
        if not isinstance(queue, Queue):
            return queue
        twin: Twin[Any] = queue._twin  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownVariableType]
        return twin.model if models else twin.object_in(current_thread())

    if isinstance(queues, Mapping):
        weights = cast("Mapping[Any, Any]", queues)
        return {handle(queue): weight for queue, weight in weights.items()}
    if isinstance(queues, list):
        return [handle(queue) for queue in cast("list[Any]", queues)]
    return queues
