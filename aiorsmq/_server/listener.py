"""One PUBSUB connection, many flags.

One task owns the connection: it alone subscribes, unsubscribes and pings. It uses redis-py's
connection, not its PubSub: that one resubscribes behind our back, and what was announced meanwhile
would be lost without notice. What comes in sets flags from inside the read callback: a third less
from an announcement to its claim than by way of a task.
"""

import asyncio
import logging
import math
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import anyio
from redis.exceptions import (
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from .failures import LOGIN_REFUSED, backoff, is_not_yet
from .tasks import Tasks
from .wire import Wire, pack

PING_INTERVAL: Final = 5.0
"""Seconds between two PINGs; also how long a channel stays subscribed that nobody waits for."""
DEAD_AFTER: Final = 5.0
"""Seconds without a byte after a PING, after which the connection is given up."""
RETRY_REFUSED: Final = 300.0
"""Seconds until a channel, or SUBSCRIBE itself, is tried again that the server has refused; it may
be mended.
"""

Command = tuple[str] | tuple[str, bytes]

_SIGNS_OF_LIFE: Final[tuple[Command, ...]] = (("PING",), ("UNSUBSCRIBE", b"aiorsmq:ping"))
"""What is asked to hear whether the server is there; some proxies do not know PING. Nobody has that
channel.
"""

_logger = logging.getLogger(__name__)
_not_permitted = logging.getLogger("aiorsmq.startup.channel")  # see `_startup`


class Flag:
    """Set when a queue may have something to claim: announced, subscribed anew, or no longer
    listened to.

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
    """Sets flags. It reconnects for ever; without a connection the flags just stay unset, and their
    owners poll.

    A channel that this user may not listen to is polled alone. Where SUBSCRIBE itself is refused
    all are, whether the server or a proxy says so or closes the connection instead; both are tried
    again, but rarely. A server that refuses PING is asked another way whether it is there; if it
    refuses that too, a silent connection is not noticed.
    """

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
        self._deaf = False
        """Whether the log says that a channel is refused."""
        self._subscribed: set[bytes] = set()
        """The channels that were asked for on this connection, and not refused."""
        self._unanswered: deque[Command] = deque()
        self._known: set[Command] = set()
        """The signs of life that were ever given."""
        self._refused: dict[Command, float] = {}
        """What the server refuses, and when to try it again."""
        self._again_at = -math.inf
        """When to open the next connection, at the earliest."""
        self._outages = backoff()
        self._refusals = backoff(RETRY_REFUSED)
        self._closed = False

    def watch(self, flag: Flag) -> None:
        """Have the flag set on news from now on, the server's confirmation of the subscription
        included.

        To stop, set `flag.wanted` to False: a while later the flag is set for the last time.
        """
        flag.wanted = True
        if self._closed:
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
        self._closed = (
            True  # looked at in its loops, should what it awaits swallow the cancellation
        )
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        while self._flags and not self._closed:
            self._stirred.clear()
            if (pause := self._connect_at() - self._now()) > 0:
                with anyio.move_on_after(min(pause, PING_INTERVAL)):
                    await self._stirred.wait()
                if (
                    pause > PING_INTERVAL
                ):  # in shorter ones, who claims just now is wanted again soon
                    self._forget_unwanted()
                continue
            wire: Wire | None = None
            try:
                wire = await self._open_wire()
                await self._serve(wire)
            except (RedisError, OSError) as error:
                self._pause(error, opened=wire is not None)
            finally:
                if wire is not None:
                    with anyio.CancelScope(shield=True):
                        await wire.aclose()

    def _now(self) -> float:
        return self._tasks.home.loop().time()  # anyio's clock may refuse where there is no task

    def _connect_at(self) -> float:
        """When to open a connection: for a channel that is not refused, or is to be tried again."""
        return max(self._again_at, min(self._try_at(channel) for channel in self._flags))

    def _try_at(self, channel: bytes) -> float:
        return self._refused.get(("SUBSCRIBE", channel), -math.inf)

    def _pause(self, error: Exception, *, opened: bool) -> None:
        """Say that nobody listens, and put the next connection off.

        An outage is looked at each second. A connection that was closed before it was of any use,
        or a password that was refused, may stay so: the pauses grow up to RETRY_REFUSED.
        """
        if self._confirmed:
            self._outages, self._refusals, self._confirmed = (
                backoff(),
                backoff(RETRY_REFUSED),
                False,
            )
            opened = False
        is_refusal = opened and not isinstance(error, TimeoutError) and not is_not_yet(error)
        is_refusal = is_refusal or isinstance(error, LOGIN_REFUSED)
        pause = next(self._refusals if is_refusal else self._outages)
        self._again_at = max(self._again_at, self._now() + pause)
        if not self._silent:
            _logger.warning("not listening, polling until it is mended: %s", error)
        self._silent = True
        for flag in [flag for flags in self._flags.values() for flag in flags]:
            flag.set()  # perhaps the server is gone: let those who wait find out

    async def _serve(self, wire: Wire) -> None:
        """Use one connection until it fails, or until there is no channel that somebody waits for
        and may hear.
        """
        now = self._now
        wire.attach(self._take_in, self._lose)
        self._subscribed.clear()
        self._unanswered.clear()
        self._failure, self._confirmed, opened_at = None, False, now()
        ping_at, pinged_at = now() + PING_INTERVAL, None
        while self._flags and not self._closed:
            self._stirred.clear()
            if self._failure is not None:
                raise self._failure
            missing = self._flags.keys() - self._subscribed
            if missing := [channel for channel in missing if self._try_at(channel) <= now()]:
                self._subscribed.update(missing)
                self._ask(wire, [("SUBSCRIBE", channel) for channel in missing])
            if not self._subscribed:
                return
            if pinged_at is not None and wire.heard_at >= pinged_at:
                pinged_at = None
            if pinged_at is not None and now() >= pinged_at + DEAD_AFTER:
                silence = now() - max(wire.heard_at, opened_at)
                raise TimeoutError(f"the connection has been silent for {silence:.0f} seconds")
            if now() >= ping_at:
                ping_at = now() + PING_INTERVAL
                unwanted = self._forget_unwanted() & self._subscribed
                self._subscribed -= unwanted
                signs = [sign for sign in _SIGNS_OF_LIFE if sign not in self._refused][:1]
                if signs:
                    pinged_at = pinged_at or now()
                self._ask(wire, [*(("UNSUBSCRIBE", channel) for channel in unwanted), *signs])
            with anyio.CancelScope(
                deadline=ping_at if pinged_at is None else min(ping_at, pinged_at + DEAD_AFTER)
            ):
                await self._stirred.wait()

    def _ask(self, wire: Wire, commands: Iterable[Command]) -> None:
        """Each channel in a command of its own: a refused one would take the others with it.

        Errors name no command, but come in the order of the commands.
        """
        self._unanswered.extend(commands)
        wire.write(b"".join(map(pack, commands)))

    def _take_in(self, reply: Any) -> None:
        """Announcements and confirmations are news alike: what came before a confirmation was not
        announced to us.
        """
        match reply:
            case [b"message" | b"subscribe" as what, bytes(channel), _]:
                if what == b"subscribe":
                    self._confirm(channel)
                for flag in self._flags.get(channel, ()):
                    flag.set()
            case Exception() if self._unanswered:
                self._refuse(self._unanswered.popleft(), reply)
            case Exception():
                self._fail(reply)
            case [b"unsubscribe", bytes(channel), _]:
                self._answer(("UNSUBSCRIBE", channel))
            case _:
                self._answer(("PING",))

    def _confirm(self, channel: bytes) -> None:
        self._answer(("SUBSCRIBE", channel))
        self._refused.pop(("SUBSCRIBE", channel), None)
        self._confirmed = True
        if self._silent:
            _logger.info("listening again")
        self._silent = False

    def _answer(self, command: Command) -> None:
        if command in self._unanswered:
            self._unanswered.remove(command)
        if command in _SIGNS_OF_LIFE:
            self._known.add(command)

    def _refuse(self, command: Command, error: Exception) -> None:
        """Deal with an error as the reply to a command."""
        if not isinstance(error, ResponseError) or is_not_yet(error):
            self._fail(error)
            return
        match command:
            case ("SUBSCRIBE", channel) if isinstance(error, NoPermissionError):
                if not self._deaf:
                    _not_permitted.warning(
                        "not permitted to listen, polling such queues instead: %r: %s",
                        channel,
                        error,
                    )
                self._deaf = True
                self._refused[command] = self._now() + RETRY_REFUSED
                self._subscribed.discard(channel)
                self._stirred.set()
            case ("SUBSCRIBE", _):
                self._again_at = self._now() + RETRY_REFUSED
                self._fail(error)
            case _ if command in _SIGNS_OF_LIFE:
                self._refused[command] = math.inf
            case _:  # an UNSUBSCRIBE: what is announced there concerns nobody
                pass

    def _lose(self, error: Exception) -> None:
        """The connection is gone. Some proxies close it on what they do not know."""
        if (
            self._unanswered
            and (command := self._unanswered[0]) in _SIGNS_OF_LIFE
            and command not in self._known
        ):
            self._refused[command] = math.inf
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._stirred.set()

    def _forget_unwanted(self) -> set[bytes]:
        now = self._now()
        self._refused = {command: until for command, until in self._refused.items() if until > now}
        for flags in self._flags.values():
            for flag in [flag for flag in flags if not flag.wanted]:
                flags.discard(flag)
                flag.set()
        unwanted = {channel for channel, flags in self._flags.items() if not flags}
        for channel in unwanted:
            del self._flags[channel]
        return unwanted
