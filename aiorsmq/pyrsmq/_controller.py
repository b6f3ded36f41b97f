"""RedisSMQ: the controller, which makes commands and runs them."""

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Unpack

from redis.asyncio import Redis

from .._protocol import Seconds
from ..client import DEFAULT_NS, DEFAULT_POLL_INTERVAL, AsyncRSMQ
from ..errors import (
    ClientClosed,
    InvalidParameterValue,
    NotPermitted,
    RedisSMQException,
    WrongEventLoop,
)
from ._commands import COMMANDS, Attributes, Command, Parameters, ReceivedMessage

_logger = logging.getLogger("aiorsmq.pyrsmq")


class RedisSMQ:
    """PyRSMQ's controller. Making it does no I/O; the first command connects, and `await quit()`
    disconnects.

    Args:
        client: a `redis.asyncio.Redis`, as for AsyncRSMQ; then `host`, `port` and `options` say
            nothing.
        options: of `redis.asyncio.Redis`.
        realtime: announce what is sent.
        exceptions: whether commands raise. False: those that fail with a RedisSMQException return
            False, with a warning in the log, unless they are `quiet`. What is wrong with the
            program (ClientClosed, WrongEventLoop) and redis-py's errors are raised nevertheless.
        **defaults: what commands are given that take it, and are not given another.
    """

    def __init__(
        self,
        client: "Redis | None" = None,
        host: str | None = None,
        port: int | str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        ns: str = DEFAULT_NS,
        realtime: bool = False,
        exceptions: bool = True,
        **defaults: Unpack[Parameters],
    ) -> None:
        known = {parameter for spec in COMMANDS.values() for parameter in spec.takes}
        for parameter in defaults.keys() - known:
            raise InvalidParameterValue(
                "parameter", parameter, "no command takes it; redis-py's go into options={...}"
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

    def _use(self, client: "Redis | None", ns: str) -> "RedisSMQ":
        native = self._connect(
            client, ns, realtime=self._realtime
        )  # raises before anything has changed
        self._retire()
        self._client, self._ns, self._native = client, ns, native
        return self

    def _connect(self, client: "Redis | None", ns: str, **how: Any) -> AsyncRSMQ:
        return AsyncRSMQ(client, ns=ns, **how, **(self._options if client is None else {}))

    def _retire(self) -> None:
        if self._native is not None:
            self._retired.append(self._native)
            self._native = None

    async def _close_retired(self) -> None:
        for rsmq in list(self._retired):
            await rsmq.aclose()
            if rsmq in self._retired:  # somebody else may have waited for the same
                self._retired.remove(rsmq)

    @property
    def native(self) -> AsyncRSMQ:
        """The AsyncRSMQ beneath, for all that PyRSMQ lacks. `quit()` closes it; `setClient()` and
        `ns()` replace it.
        """
        if self._native is None:
            self._native = self.connect(realtime=self._realtime)
        return self._native

    def connect(
        self, *, realtime: bool = True, poll_interval: Seconds = DEFAULT_POLL_INTERVAL
    ) -> AsyncRSMQ:
        """A new AsyncRSMQ on the same server and in the same namespace, with connections of its
        own; yours to close.
        """
        return self._connect(self._client, self._ns, realtime=realtime, poll_interval=poll_interval)

    def exceptions(self, enabled: bool = True) -> "RedisSMQ":
        """Whether commands raise that do not say so themselves, those made before included."""
        self._raises = enabled
        return self

    def setClient(self, client: "Redis | None") -> "RedisSMQ":
        """Go on with another `redis.asyncio.Redis`, in commands made before too."""
        return self._use(client, self._ns)

    def ns(self, namespace: str) -> "RedisSMQ":
        """Go on in another namespace, in commands made before too."""
        return self._use(self._client, namespace)

    async def quit(self) -> None:
        """Disconnect, as `AsyncRSMQ.aclose()` does. As in PyRSMQ, a command that is run afterwards
        connects anew.
        """
        self._retire()
        await self._close_retired()

    async def __aenter__(self) -> "RedisSMQ":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.quit()

    def createQueue(self, **params: Unpack[Parameters]) -> Command[bool]:
        """True; raises QueueAlreadyExists."""
        return self._command("createQueue", params)

    def deleteQueue(self, **params: Unpack[Parameters]) -> Command[bool]:
        """True."""
        return self._command("deleteQueue", params)

    def setQueueAttributes(self, **params: Unpack[Parameters]) -> Command[Attributes]:
        """What `getQueueAttributes` returns."""
        return self._command("setQueueAttributes", params)

    def getQueueAttributes(self, **params: Unpack[Parameters]) -> Command[Attributes]:
        return self._command("getQueueAttributes", params)

    def listQueues(self, **params: Unpack[Parameters]) -> Command[set[str]]:
        return self._command("listQueues", params)

    def changeMessageVisibility(self, **params: Unpack[Parameters]) -> Command[bool]:
        """True; raises NoMessageInQueue if the message is not there. `vt` is the queue's if not
        given.
        """
        return self._command("changeMessageVisibility", params)

    def sendMessage(self, **params: Unpack[Parameters]) -> Command[str]:
        """The id. What is neither str nor bytes is sent as JSON."""
        return self._command("sendMessage", params)

    def receiveMessage(self, **params: Unpack[Parameters]) -> Command[ReceivedMessage]:
        """The message, its body as text; or with `decode` as what its JSON says. A body that is no
        text comes as bytes.

        Raises NoMessageInQueue.
        """
        return self._command("receiveMessage", params)

    def popMessage(self, **params: Unpack[Parameters]) -> Command[ReceivedMessage]:
        """As `receiveMessage`."""
        return self._command("popMessage", params)

    def deleteMessage(self, **params: Unpack[Parameters]) -> Command[bool]:
        """Whether the message was there."""
        return self._command("deleteMessage", params)

    def _command(self, name: str, params: Mapping[str, object]) -> Command[Any]:
        return Command(name, self._defaults, params, self._perform)

    async def _perform(self, name: str, params: Mapping[str, Any], raises: bool | None) -> Any:
        spec = COMMANDS[name]
        try:
            for needed in spec.needs:
                if needed not in params:
                    raise InvalidParameterValue(needed, None, f"{name} needs it")
            await self._close_retired()
            what = {parameter: value for parameter, value in params.items() if parameter != "quiet"}
            return await spec.run(self.native, **{**spec.defaults, **what})
        except (ClientClosed, NotPermitted, WrongEventLoop):
            raise
        except RedisSMQException as error:
            if self._raises if raises is None else raises:
                raise
            if not params.get("quiet"):
                _logger.warning("%s: %s: %s", name, type(error).__name__, error)
            return False
