"""RSMQ: a connection to one server for synchronous code. Start here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, Unpack, cast, overload

from redis.asyncio import Redis, RedisCluster

from .. import errors
from .._protocol import DEFAULT_NS, Seconds
from ..client import DEADLINE, DEFAULT_POLL_INTERVAL, AsyncRSMQ
from ..codecs import TEXT, Codec
from ..models import (
    DEFAULT_MAX_WAITING,
    Confirm,
    Ensured,
    MaxWaiting,
    QueueAttributes,
    QueueSettings,
    Receipt,
    ServerInfo,
    Snapshot,
)
from ..worker import Worker as AsyncWorker
from ._connection import Connection
from ._twin import Twin, current_thread
from .confirm import retried_here
from .message import Message
from .operations import as_list
from .queue import Queue
from .stream import Messages
from .worker import Worker, WorkerOptions, adapt, adapt_options

T = TypeVar("T")


class RSMQ:
    """RSMQ on one Redis or Valkey server, for synchronous code.

    It has the methods of `aiorsmq.AsyncRSMQ`, without `await`, with the same names, parameters,
    results and exceptions. Any number of threads may use it, and what it makes. Calls that threads
    make at the same time share script calls.

    All `RSMQ` objects of a process share one event loop, in one daemon thread that starts with the
    first call. A forked process that uses an `RSMQ` of its parent gets a thread and connections of
    its own.

    `with RSMQ(...) as rsmq:` or `close()` closes it; what is still open at the end of the program
    is closed then. In a coroutine use AsyncRSMQ: a call here blocks the caller's event loop.

    Args:
        client: a `redis.asyncio.Redis` or `RedisCluster` to take the connection settings from; see
            AsyncRSMQ. The other arguments are AsyncRSMQ's, too.
    """

    _connection: Connection
    _twin: Twin[AsyncRSMQ]

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

    def create_queue(
        self,
        *,
        qname: str | None = None,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """See `Queue.create`."""
        return self._twin.run(
            lambda rsmq: rsmq.create_queue(
                qname=qname,
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
                exist_ok=exist_ok,
            )
        )

    def ensure_queue(
        self, *, qname: str | None = None, **settings: Unpack[QueueSettings]
    ) -> Ensured:
        """See `Queue.ensure`."""
        return self._twin.run(lambda rsmq: rsmq.ensure_queue(qname=qname, **settings))

    def delete_queue(self, *, qname: str | None = None, missing_ok: bool = False) -> bool:
        """See `Queue.delete`."""
        return self._twin.run(lambda rsmq: rsmq.delete_queue(qname=qname, missing_ok=missing_ok))

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

    def get_queue_attributes(self, *, qname: str | None = None) -> QueueAttributes:
        """See `Queue.attributes`."""
        return self._twin.run(lambda rsmq: rsmq.get_queue_attributes(qname=qname))

    def set_queue_attributes(
        self, *, qname: str | None = None, **settings: Unpack[QueueSettings]
    ) -> QueueAttributes:
        """See `Queue.set_attributes`."""
        return self._twin.run(lambda rsmq: rsmq.set_queue_attributes(qname=qname, **settings))

    def send_message(
        self,
        *,
        message: str | bytes,
        qname: str | None = None,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> str:
        """See `Queue.send`."""
        try:
            return self._twin.run(
                lambda rsmq: rsmq.send_message(
                    message=message, qname=qname, delay=delay, confirm=confirm
                )
            )
        except errors.NotConfirmed as error:
            raise retried_here(error) from None

    def receive_message(
        self, *, qname: str | None = None, vt: Seconds | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """See `Queue.receive`."""
        message = self._twin.run(lambda rsmq: rsmq.receive_message(qname=qname, vt=vt, wait=wait))
        return message and Message(message, current_thread())

    def pop_message(self, *, qname: str | None = None, wait: Seconds = 0) -> Message[str] | None:
        """See `Queue.pop`."""
        message = self._twin.run(lambda rsmq: rsmq.pop_message(qname=qname, wait=wait))
        return message and Message(message, current_thread())

    def change_message_visibility(
        self, *, id: str | Receipt, vt: Seconds, qname: str | None = None
    ) -> bool:
        """See `Queue.change_visibility`."""
        return self._twin.run(
            lambda rsmq: rsmq.change_message_visibility(id=id, vt=vt, qname=qname)
        )

    def delete_message(self, *, id: str | Receipt, qname: str | None = None) -> bool:
        """See `Queue.delete_message`."""
        return self._twin.run(lambda rsmq: rsmq.delete_message(id=id, qname=qname))

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
        return Messages(
            self._twin.child(
                lambda rsmq: rsmq.messages(qname, vt=vt, prefetch=prefetch, pop=pop, create=create)
            )
        )

    def worker(
        self,
        queues: Iterable[Queue[Any] | str] | Mapping[Any, float],
        handler: Callable[[Message[Any]], object],
        *,
        vt: Seconds | None = None,
        create: bool = False,
        **options: Unpack[WorkerOptions],
    ) -> Worker[Any]:
        """One worker on several queues that share its handlers; see `Worker`."""
        call = adapt(handler)
        choices = adapt_options(options)
        names = as_list(queues)

        def make(rsmq: AsyncRSMQ) -> AsyncWorker[Any]:
            handles = _handles(names, models=rsmq is self._twin.model)
            return rsmq.worker(handles, call, vt=vt, create=create, **choices)

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
