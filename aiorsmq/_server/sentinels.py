"""One sentinel: asks it for the primary, and listens to what it announces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import anyio
from redis.asyncio import Redis
from redis.exceptions import AuthorizationError, NoPermissionError, ResponseError, TimeoutError

from .failover import View
from .failures import LOGIN_REFUSED, SERVER_ERRORS, backoff, is_no_sentinel, is_unknown
from .futures import resolve, retrieve_error
from .lane import Lane
from .options import CONNECT_TIMEOUT
from .target import log_in, take_over
from .tasks import Tasks
from .tls import Handshakes
from .wire import Wire, pack

PING_INTERVAL: Final = 3.0
"""Seconds between two PINGs; a sentinel that has not answered one by the next is dead."""
RETRY_REFUSED: Final = 60.0
"""Seconds, at most, between two attempts to listen to a sentinel that refuses that."""

HOLD_EVENT: Final = b"+failover-state-send-slaveof-noone"
"""A tenth of a second before a replica is made the primary. Only the sentinel that leads the
failover announces this."""
RELEASE_EVENTS: Final = (b"-failover-abort-slave-timeout",)
ASK_EVENTS: Final = (b"+promoted-slave", b"+switch-master", b"+monitor")
"""After these, the sentinel may name another primary."""
EVENTS: Final = (HOLD_EVENT, *RELEASE_EVENTS, *ASK_EVENTS)

_REPLACING: Final = (b"send_slaveof_noone", b"wait_promotion")
_GRANT = "the sentinels' user needs +sentinel|master +sentinel|get-master-addr-by-name"

_logger = logging.getLogger("aiorsmq.client")
_unheard = logging.getLogger("aiorsmq.startup.sentinel")

OnEvent = Callable[[bytes], None]


class Sentinel:
    """A sentinel, reached with the settings of a redis-py client.

    Args:
        service: what the sentinels call the primary.
        min_others: how many other sentinels it must know for its word to count.
    """

    def __init__(self, client: Redis, service: str, min_others: int = 0) -> None:
        self._pool = client.connection_pool
        self._service = service.encode()
        self._handshakes = Handshakes()
        self._min_others = min_others
        self._is_refused = False
        """Whether the sentinel refuses some of the commands with which one listens."""
        self._refusal_logged = False
        self.is_closed: bool = False
        """Set to end `watch`: something that it awaits may swallow a cancellation."""

    @property
    def address(self) -> str:
        settings = self._pool.connection_kwargs
        host = str(settings.get("host", "localhost"))
        return f"{f'[{host}]' if ':' in host else host}:{settings.get('port', 26379)}"

    async def ask(self, tasks: Tasks) -> View | None:
        """Which server is the primary; None if it does not know of one. Raises redis-py's errors.

        It has CONNECT_TIMEOUT for all.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                state, address = await self._request(tasks)
        except asyncio.TimeoutError:
            raise TimeoutError("no answer") from None
        for reply in (state, address):
            if isinstance(reply, NoPermissionError):  # a NoPermissionError would be the script's
                raise AuthorizationError(f"{_GRANT}: {reply}")
        if isinstance(state, LOGIN_REFUSED):
            raise state
        if isinstance(state, Exception) and is_no_sentinel(state):
            raise ResponseError("is not a sentinel: it does not know SENTINEL")
        if isinstance(state, Exception) or not isinstance(address, list):
            return None
        facts = _pairs(state)
        if int(facts.get(b"num-other-sentinels", 0)) < self._min_others:
            return None
        host, port = cast(list[bytes], address)
        is_replacing = facts.get(b"failover-state") in _REPLACING
        return View(int(facts[b"config-epoch"]), (host.decode(), int(port)), is_replacing)

    async def _request(self, tasks: Tasks) -> list[Any]:
        """The replies, or errors, to two questions. The first has the epoch. The second names the
        new primary some seconds earlier, if there are more replicas to be told of it."""
        wire = await self._open(tasks)
        lane = Lane(wire)
        try:
            replies: asyncio.Queue[Any] = asyncio.Queue()
            for question in ("MASTER", "GET-MASTER-ADDR-BY-NAME"):
                lane.call(replies.put_nowait, "SENTINEL", question, self._service)
            answers = [await replies.get(), await replies.get()]
        finally:
            with anyio.CancelScope(shield=True):
                await lane.aclose()
        for answer in answers:
            if isinstance(answer, Exception) and is_unknown(answer):
                raise answer
        return answers

    async def _open(self, tasks: Tasks) -> Wire:
        connection = self._pool.make_connection()
        await log_in(connection, connection.connect, self._handshakes)
        return take_over(connection, tasks, pushes=True)

    async def watch(self, tasks: Tasks, on_event: OnEvent) -> None:
        """Call `on_event` with each of EVENTS that concerns the service, and with one of ASK_EVENTS
        whenever some may have been missed: after subscribing, and every PING_INTERVAL if that is
        refused. Ends with `is_closed`."""
        pauses = backoff()
        refusals = backoff(RETRY_REFUSED)
        while not self.is_closed:
            pause = pauses
            try:
                await self._listen(tasks, on_event)
            except LOGIN_REFUSED:
                pause = refusals
            except SERVER_ERRORS as error:
                _logger.debug("cannot listen to sentinel %s: %s", self.address, error)
            await asyncio.sleep(next(pause))

    async def _listen(self, tasks: Tasks, on_event: OnEvent) -> None:
        wire = await self._open(tasks)
        self._is_refused = False
        try:
            loop = asyncio.get_running_loop()
            lost: asyncio.Future[None] = loop.create_future()
            lost.add_done_callback(retrieve_error)
            wire.attach(partial(self._hear, on_event), partial(resolve, lost))
            wire.write(b"".join(pack(("SUBSCRIBE", event)) for event in EVENTS))
            while not self.is_closed:
                pinged_at = loop.time()
                wire.write(pack(("PING",)))
                await asyncio.wait([lost], timeout=PING_INTERVAL)
                if lost.done():
                    lost.result()
                if wire.heard_at < pinged_at:
                    raise TimeoutError("no reply to a PING")
                if self._is_refused:
                    on_event(EVENTS[-1])
        finally:
            with anyio.CancelScope(shield=True):
                await wire.aclose()

    def _hear(self, on_event: OnEvent, reply: Any) -> None:
        match reply:
            case [b"message", bytes(event), bytes(text)]:
                if self._is_concerned(event, text.split()):
                    on_event(event)
            case [b"subscribe", bytes(event), _]:
                if event == EVENTS[-1]:
                    on_event(event)
            case Exception():
                self._is_refused = True
                self._log_refusal(reply)
            case _:
                pass

    def _is_concerned(self, event: bytes, words: list[bytes]) -> bool:
        """Whether an event is of our service: `type name ip port`, perhaps `@ service ip port`."""
        if event == b"+switch-master":
            return words[:1] == [self._service]
        index = words.index(b"@") + 1 if b"@" in words else 1
        return words[index : index + 1] == [self._service]

    def _log_refusal(self, error: Exception) -> None:
        if not self._refusal_logged:
            self._refusal_logged = True
            _unheard.warning(
                "sentinel %s does not let this client listen, so a failover is noticed late; its "
                "user needs +subscribe +ping and channels %s: %s",
                self.address,
                " ".join(f"&{event.decode()}" for event in EVENTS),
                error,
            )


def _pairs(reply: Any) -> dict[bytes, bytes]:
    """A reply of names and values, in RESP2 or RESP3."""
    if isinstance(reply, dict):
        return cast(dict[bytes, bytes], reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))
