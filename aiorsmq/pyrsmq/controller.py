"""RedisSMQ: the controller, which creates commands and runs them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Unpack

from redis.asyncio import Redis, RedisCluster

from .._protocol import Seconds
from ..client import DEFAULT_NS, DEFAULT_POLL_INTERVAL, AsyncRSMQ
from ..errors import (
    ClientClosed,
    InvalidParameterValue,
    NotPermitted,
    RedisSMQException,
    WrongEventLoop,
)
from .commands import COMMANDS, Attributes, Command, Parameters, ReceivedMessage

_logger = logging.getLogger("aiorsmq.pyrsmq")


class RedisSMQ:
    """PyRSMQ's controller.

    The constructor does no I/O. The first command connects; `await quit()` disconnects.

    Args:
        client: a `redis.asyncio.Redis`, as for AsyncRSMQ. `host`, `port` and `options` are then
            ignored.
        options: options of `redis.asyncio.Redis`.
        realtime: publish an announcement for each message sent.
        exceptions: whether commands raise. If False, a command that fails with a RedisSMQException
            returns False and logs a warning, unless it is `quiet`. NotPermitted, ClientClosed,
            WrongEventLoop and redis-py's errors are always raised.
        **defaults: default parameters for all commands that accept them: `qname`, `vt`, `delay`,
            `maxsize`, `id`, `message`, `encode`, `decode`, `quiet`.
    """

    def __init__(
        self,
        client: Redis | RedisCluster | None = None,
        host: str | None = None,
        port: int | str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        ns: str = DEFAULT_NS,
        realtime: bool = False,
        exceptions: bool = True,
        **defaults: Unpack[Parameters],
    ) -> None:
        accepted = {parameter for spec in COMMANDS.values() for parameter in spec.parameters}
        for parameter in defaults.keys() - accepted:
            raise InvalidParameterValue(
                "parameter",
                parameter,
                "is not a parameter of any command; pass redis-py's options as options={...}",
            )
        self._options: dict[str, Any] = dict(options or {})
        for option, value in (("host", host), ("port", port)):
            if value is not None:
                self._options.setdefault(option, value)
        self._realtime = realtime
        self._raises = exceptions
        self._defaults: dict[str, object] = {
            name: value for name, value in defaults.items() if value is not None
        }
        self._native: AsyncRSMQ | None = None
        self._retired: list[AsyncRSMQ] = []
        self._use(client, ns)

    def _use(self, client: Redis | RedisCluster | None, ns: str) -> RedisSMQ:
        native = self._connect(client, ns, realtime=self._realtime)  # may raise, so it comes first
        self._retire()
        self._client = client
        self._ns = ns
        self._native = native
        return self

    def _connect(self, client: Redis | RedisCluster | None, ns: str, **settings: Any) -> AsyncRSMQ:
        options = self._options if client is None else {}
        return AsyncRSMQ(client, ns=ns, **settings, **options)

    def _retire(self) -> None:
        if self._native is not None:
            self._retired.append(self._native)
            self._native = None

    async def _close_retired(self) -> None:
        for rsmq in list(self._retired):
            await rsmq.aclose()
            if rsmq in self._retired:  # another task may have closed it during the await
                self._retired.remove(rsmq)

    @property
    def native(self) -> AsyncRSMQ:
        """The underlying AsyncRSMQ, for everything that PyRSMQ lacks.

        `quit()` closes it; `setClient()` and `ns()` replace it.
        """
        if self._native is None:
            self._native = self.connect(realtime=self._realtime)
        return self._native

    def connect(
        self, *, realtime: bool = True, poll_interval: Seconds = DEFAULT_POLL_INTERVAL
    ) -> AsyncRSMQ:
        """Create an AsyncRSMQ for the same server and namespace, with its own connections.

        The caller has to close it.
        """
        return self._connect(self._client, self._ns, realtime=realtime, poll_interval=poll_interval)

    def exceptions(self, enabled: bool = True) -> RedisSMQ:
        """Set whether commands raise, unless they have their own setting.

        Applies to existing commands, too.
        """
        self._raises = enabled
        return self

    def setClient(self, client: Redis | RedisCluster | None) -> RedisSMQ:
        """Switch to another client of redis-py. Applies to existing commands, too."""
        return self._use(client, self._ns)

    def ns(self, namespace: str) -> RedisSMQ:
        """Switch to another namespace. Applies to existing commands, too."""
        return self._use(self._client, namespace)

    async def quit(self) -> None:
        """Disconnect, like `AsyncRSMQ.aclose()`. As in PyRSMQ, the next command reconnects."""
        self._retire()
        await self._close_retired()

    async def __aenter__(self) -> RedisSMQ:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.quit()

    def createQueue(self, **params: Unpack[Parameters]) -> Command[bool]:
        """Create a queue. Returns True. Raises QueueAlreadyExists.

        Takes `qname`, `vt`, `delay`, `maxsize`, `quiet`.
        """
        return self._command("createQueue", params)

    def deleteQueue(self, **params: Unpack[Parameters]) -> Command[bool]:
        """Delete a queue. Returns True. Raises QueueDoesNotExist. Takes `qname`, `quiet`."""
        return self._command("deleteQueue", params)

    def setQueueAttributes(self, **params: Unpack[Parameters]) -> Command[Attributes]:
        """Change settings of a queue. Returns what `getQueueAttributes` returns, after the change.

        Takes `qname`, `vt`, `delay`, `maxsize`, `quiet`.
        """
        return self._command("setQueueAttributes", params)

    def getQueueAttributes(self, **params: Unpack[Parameters]) -> Command[Attributes]:
        """Returns the settings and counters of a queue. Takes `qname`, `quiet`."""
        return self._command("getQueueAttributes", params)

    def listQueues(self, **params: Unpack[Parameters]) -> Command[set[str]]:
        """Returns the names of all queues in the namespace. Takes `quiet`."""
        return self._command("listQueues", params)

    def changeMessageVisibility(self, **params: Unpack[Parameters]) -> Command[bool]:
        """Hide a message for `vt` seconds. Returns True. Raises NoMessageInQueue if the message
        does not exist.

        Takes `qname`, `id`, `vt`, which defaults to the queue's, and `quiet`.
        """
        return self._command("changeMessageVisibility", params)

    def sendMessage(self, **params: Unpack[Parameters]) -> Command[str]:
        """Send a message. Returns its id. What is neither str nor bytes is sent as JSON.

        Takes `qname`, `message`, `delay`, `encode`, `quiet`.
        """
        return self._command("sendMessage", params)

    def receiveMessage(self, **params: Unpack[Parameters]) -> Command[ReceivedMessage]:
        """Receive a message. Raises NoMessageInQueue if none is visible.

        Takes `qname`, `vt`, `decode`, `quiet`. The body is text, or with `decode` the JSON value if
        it is JSON. A body that is not UTF-8 is returned as bytes.
        """
        return self._command("receiveMessage", params)

    def popMessage(self, **params: Unpack[Parameters]) -> Command[ReceivedMessage]:
        """Receive a message and delete it, as `receiveMessage`. Takes `qname`, `decode`,
        `quiet`."""
        return self._command("popMessage", params)

    def deleteMessage(self, **params: Unpack[Parameters]) -> Command[bool]:
        """Delete a message. Returns whether it existed. Takes `qname`, `id`, `quiet`."""
        return self._command("deleteMessage", params)

    def _command(self, name: str, params: Mapping[str, object]) -> Command[Any]:
        return Command(name, self._defaults, params, self._perform)

    async def _perform(self, name: str, params: Mapping[str, Any], raises: bool | None) -> Any:
        spec = COMMANDS[name]
        try:
            for parameter in spec.needs:
                if parameter not in params:
                    raise InvalidParameterValue(parameter, None, f"is required by {name}")
            await self._close_retired()
            arguments = {**spec.defaults, **params}
            arguments.pop("quiet", None)
            return await spec.run(self.native, **arguments)
        except (ClientClosed, NotPermitted, WrongEventLoop):
            raise
        except RedisSMQException as error:
            if self._raises if raises is None else raises:
                raise
            if not params.get("quiet"):
                text = "%s failed: %s: %s"
                extra = {"reason": str(error)}
                _logger.warning(text, name, type(error).__name__, error, extra=extra)
            return False
