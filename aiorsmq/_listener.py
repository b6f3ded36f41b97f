"""One PUBSUB connection, many flags.

One task owns the connection: it alone subscribes, unsubscribes and pings. It uses redis-py's connection, not its
PubSub: that one resubscribes behind our back, and what was announced meanwhile would be lost without notice. What comes
in sets flags from inside the read callback: a third less from an announcement to its claim than by way of a task.
"""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from redis.exceptions import NoPermissionError, RedisError, TimeoutError

from ._scripts import backoff
from ._tasks import Tasks
from ._wire import Wire, pack

PING_INTERVAL: Final = 5.0
"""Seconds between two PINGs; also how long a channel stays subscribed that nobody waits for."""
DEAD_AFTER: Final = 5.0
"""Seconds without a byte after a PING, after which the connection is given up."""

_logger = logging.getLogger(__name__)
_not_permitted = logging.getLogger("aiorsmq.startup.channel")  # see `_startup`


class Flag:
    """Set when a queue may have something to claim: announced, subscribed anew, or no longer listened to.

    `on_news` is called from the event loop each time it is set by the listener.
    """

    def __init__(self, channel: str, on_news: Callable[[], None]) -> None:
        self.channel: bytes = channel.encode()
        self.is_set: bool = False
        self.wanted: bool = False
        self._on_news = weakref.WeakMethod(on_news)

    def set(self) -> None:
        self.is_set = True
        if (on_news := self._on_news()) is not None:
            on_news()


class Listener:
    """Sets flags. It reconnects for ever; without a connection the flags just stay unset, and their owners poll."""

    def __init__(self, open_wire: Callable[[], Awaitable[Wire]], tasks: Tasks) -> None:
        self._open_wire = open_wire
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._flags: dict[bytes, set[Flag]] = {}
        self._stirred = asyncio.Event()
        """Set when the task has something to do: to subscribe, or to deal with the failure."""
        self._failure: Exception | None = None
        self._confirmed = False
        """Whether the server has confirmed a subscription on this connection."""
        self._silent = False
        """Whether the log says that nobody listens."""
        self._refused = False
        self._closed = False

    def watch(self, flag: Flag) -> None:
        """Have the flag set on news from now on, the server's confirmation of the subscription included.

        To stop, set `flag.wanted` to False: a while later the flag is set for the last time.
        """
        flag.wanted = True
        if self._closed or self._refused:
            return
        flags = self._flags.setdefault(flag.channel, set())
        if flag in flags:
            return
        if not flags:
            self._stirred.set()
        flags.add(flag)
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._listen())

    async def aclose(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        pauses = backoff()
        while self._flags:
            try:
                wire = await self._open_wire()
                try:
                    await self._serve(wire)
                finally:
                    with anyio.CancelScope(shield=True):
                        await wire.aclose()
            except NoPermissionError as error:
                _not_permitted.warning("not permitted to listen, polling instead: %s", error)
                self._refused = True
                self._flags.clear()
            except (RedisError, OSError) as error:
                if self._confirmed:
                    pauses, self._confirmed = backoff(), False
                if not self._silent:
                    _logger.warning("not listening, polling until it is mended: %s", error)
                self._silent = True
                for flag in [flag for flags in self._flags.values() for flag in flags]:
                    flag.set()  # perhaps the server is gone: let those who wait find out
                await asyncio.sleep(next(pauses))

    async def _serve(self, wire: Wire) -> None:
        """Use one connection until it fails, or until nobody waits for any channel."""
        now = self._tasks.loop().time
        wire.attach(self._take_in, self._fail)
        subscribed: set[bytes] = set()
        self._failure, self._confirmed, opened_at = None, False, now()
        ping_at, pinged_at = now() + PING_INTERVAL, None
        while self._flags:
            self._stirred.clear()
            if self._failure is not None:
                raise self._failure
            if missing := self._flags.keys() - subscribed:
                wire.write(pack(("SUBSCRIBE", *missing)))
                subscribed |= missing
            if pinged_at is not None and wire.heard_at >= pinged_at:
                pinged_at = None
            if pinged_at is not None and now() >= pinged_at + DEAD_AFTER:
                silence = now() - max(wire.heard_at, opened_at)
                raise TimeoutError(f"the connection has been silent for {silence:.0f} seconds")
            if now() >= ping_at:
                ping_at = now() + PING_INTERVAL
                pinged_at = pinged_at or now()
                if unwanted := self._forget_unwanted():
                    wire.write(pack(("UNSUBSCRIBE", *unwanted)))
                    subscribed -= unwanted
                wire.write(pack(("PING",)))
            with anyio.CancelScope(deadline=ping_at if pinged_at is None else min(ping_at, pinged_at + DEAD_AFTER)):
                await self._stirred.wait()

    def _take_in(self, reply: Any) -> None:
        """Announcements and confirmations are news alike: what came before a confirmation was not announced to us."""
        match reply:
            case [b"message" | b"subscribe" as what, bytes(channel), _]:
                if what == b"subscribe":
                    self._confirm()
                for flag in self._flags.get(channel, ()):
                    flag.set()
            case Exception():
                self._fail(reply)
            case _:  # the reply to PING or UNSUBSCRIBE
                pass

    def _confirm(self) -> None:
        self._confirmed = True
        if self._silent:
            _logger.info("listening again")
        self._silent = False

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._stirred.set()

    def _forget_unwanted(self) -> set[bytes]:
        for flags in self._flags.values():
            for flag in [flag for flag in flags if not flag.wanted]:
                flags.discard(flag)
                flag.set()
        unwanted = {channel for channel, flags in self._flags.items() if not flags}
        for channel in unwanted:
            del self._flags[channel]
        return unwanted
