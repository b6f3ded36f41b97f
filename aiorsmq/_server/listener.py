"""Listens for announcements: one PUBSUB connection that sets many flags.

One task owns the connection; only that task subscribes, unsubscribes and pings. It uses redis-py's
connection instead of its PubSub, which resubscribes without telling us, so that announcements
published in the meantime would be lost unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import anyio
from redis.exceptions import (
    ConnectionError,
    NoPermissionError,
    ResponseError,
    TimeoutError,
)

from .age import RENEW_PAUSE, lifetime
from .failures import LOGIN_REFUSED, SERVER_ERRORS, backoff, is_not_yet
from .flag import Flag
from .tasks import Tasks
from .wire import Wire, pack

PING_INTERVAL: Final = 5.0
"""Seconds between two PINGs; also how long an unused channel stays subscribed."""
DEAD_AFTER: Final = 5.0
"""Seconds without data after a PING until the connection is considered dead."""
RETRY_REFUSED: Final = 300.0
"""Seconds until a refused channel, or a refused SUBSCRIBE, is tried again."""

PAUSE: Final = b"0"
"""What the announcement of a pause begins with; the number of messages follows."""

Command = tuple[str] | tuple[str, bytes]

_PINGS: Final[tuple[Command, ...]] = (("PING",), ("UNSUBSCRIBE", b"aiorsmq:ping"))
"""Commands that check whether the server is alive, in order of preference.

The second is for proxies that do not support PING. Nobody uses its channel.
"""

_logger = logging.getLogger("aiorsmq.client")
# Silenced by its name, as the loggers in `server_settings`.
_not_permitted = logging.getLogger("aiorsmq.startup.channel")


# The states of a listener, and what moves between them:
#
# - Idle: there is no task. `watch` starts one.
# - Paused: waits until `_connect_time`, after an outage, or while every channel is refused.
# - Connecting: opens a wire. An error leads to Paused.
# - Serving: subscribes to the channels of all flags, pings, and sets flags. Any failure of the
#   connection (`_fail`) ends it and leads to Paused. If no subscription is left, it leads to Idle
#   when there are no flags, else to Paused. `renew`, or its age, leads to Serving on another wire.
# - Closed: final. `aclose` leads here from every state.
#
# The states of a channel while Serving:
#
# - Missing: has a flag, but is not in `_subscriptions`. Subscribed once its refusal has expired.
# - Subscribed: in `_subscriptions`. The server's confirmation sets the channel's flags, because
#   whatever was sent before it was not announced to us. A refusal leads to Refused.
# - Refused: in `_refusals`, until RETRY_REFUSED seconds later it is Missing again.
# - Unwanted: none of its flags is wanted any more. Unsubscribed along with the next ping.


class Listener:
    """Sets flags when something is announced.

    It reconnects indefinitely. Without a connection, flags stay unset and their owners poll. A
    channel that the user may not subscribe to is polled, too. If SUBSCRIBE itself is refused, by an
    error or by closing the connection, all channels are polled. Refused subscriptions are retried
    every RETRY_REFUSED seconds. A server that refuses PING is pinged in another way; if it refuses
    that as well, a silent connection goes unnoticed.

    Args:
        max_age: seconds after which a connection is replaced by another, as by `renew()`.
    """

    def __init__(
        self,
        open_wire: Callable[[], Awaitable[Wire]],
        tasks: Tasks,
        max_age: float = math.inf,
    ) -> None:
        self._open_wire = open_wire
        self._tasks = tasks
        self._max_age = max_age
        self._task: asyncio.Task[None] | None = None
        self._flags: dict[bytes, set[Flag]] = {}
        self._wakeup = asyncio.Event()
        """Set when the task has work: a channel to subscribe to, or a failure to handle."""
        self._failure: Exception | None = None
        self._has_subscribed = False
        """Whether the server has confirmed a subscription on this connection."""
        self._outage_logged = False
        self._refusal_logged = False
        self._subscriptions: set[bytes] = set()
        """The channels requested on this connection and not refused."""
        self._confirmed: set[bytes] = set()
        """Those of them that the server has confirmed."""
        self._pending: deque[Command] = deque()
        """Commands without a reply, in the order in which they were sent."""
        self._supported_pings: set[Command] = set()
        """The pings that the server has ever replied to."""
        self._refusals: dict[Command, float] = {}
        """The commands that the server refuses, and when to try each again."""
        self._next_connect_at = -math.inf
        """The earliest time to open the next connection."""
        self._opened_at = -math.inf
        self._ping_at = -math.inf
        """When to send the next ping."""
        self._pinged_at: float | None = None
        """When the first ping was sent that nothing has arrived after."""
        self._renew_at = math.inf
        self._outage_backoff = backoff()
        self._refusal_backoff = backoff(RETRY_REFUSED)
        self._is_closed = False

    def watch(self, flag: Flag) -> None:
        """Start setting the flag on news, including the confirmation of its subscription.

        To stop, set `flag.is_wanted` to False. Shortly after, the flag is set for the last time.
        """
        flag.is_wanted = True
        if self._is_closed:
            return
        flags = self._flags.setdefault(flag.channel, set())
        if flag in flags:
            return
        if not flags:
            self._wakeup.set()
        flags.add(flag)
        if flag.channel in self._confirmed:
            # No confirmation will come. Whatever was announced before now did not set this flag.
            self._tasks.home.loop().call_soon(flag.set)
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._listen())

    def is_listening(self, flag: Flag) -> bool:
        """Whether announcements set the flag now, as far as is known."""
        return flag.is_wanted and flag.channel in self._confirmed

    def leave(self) -> None:
        """Open another connection instead of the one that is open, if one is."""
        if self._task is not None:
            self._fail(ConnectionError("the server is another one now"))

    def renew(self) -> None:
        """Open another connection, then drop this one, as when its credentials expire.

        Announcements in between are not missed: each confirmed subscription sets its flags.
        """
        self._renew_at = -math.inf
        self._wakeup.set()

    async def aclose(self) -> None:
        # checked in the loops, in case something they await swallows the cancellation
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        while self._flags and not self._is_closed:
            self._wakeup.clear()
            pause = self._connect_time() - self._now()
            if pause > 0:
                with anyio.move_on_after(min(pause, PING_INTERVAL)):
                    await self._wakeup.wait()
                if pause > PING_INTERVAL:  # flags may be unwanted only briefly, between two claims
                    self._drop_unwanted_flags()
                continue
            wire: Wire | None = None
            try:
                wire = await self._open_wire()
                while (successor := await self._serve(wire)) is not None:
                    wire.abort()  # nothing of it must be taken for the successor's
                    self._tasks.start(wire.aclose())
                    wire = successor
            except SERVER_ERRORS as error:
                self._pause(error, opened=wire is not None)
            finally:
                if wire is not None:
                    with anyio.CancelScope(shield=True):
                        await wire.aclose()

    def _now(self) -> float:
        return self._tasks.home.loop().time()  # anyio.current_time() may fail outside of a task

    def _connect_time(self) -> float:
        """Return when to connect: once there is a channel whose refusal, if any, has expired."""
        return max(self._next_connect_at, min(self._retry_time(channel) for channel in self._flags))

    def _retry_time(self, channel: bytes) -> float:
        return self._refusals.get(("SUBSCRIBE", channel), -math.inf)

    def _pause(self, error: Exception, *, opened: bool) -> None:
        """Log the outage, and schedule the next connection.

        After an outage, the pauses grow up to one second. A connection that was closed before any
        subscription was confirmed, or a refused password, may be permanent: then the pauses grow
        up to RETRY_REFUSED.
        """
        self._confirmed.clear()
        if self._has_subscribed:
            self._outage_backoff = backoff()
            self._refusal_backoff = backoff(RETRY_REFUSED)
            self._has_subscribed = False
            opened = False
        is_refusal = opened and not isinstance(error, TimeoutError) and not is_not_yet(error)
        is_refusal = is_refusal or isinstance(error, LOGIN_REFUSED)
        pause = next(self._refusal_backoff if is_refusal else self._outage_backoff)
        self._next_connect_at = max(self._next_connect_at, self._now() + pause)
        if not self._outage_logged:
            text = "listener disconnected, falling back to polling: %s"
            _logger.warning(text, error, extra={"reason": str(error)})
        self._outage_logged = True
        for flag in [flag for flags in self._flags.values() for flag in flags]:
            flag.set()  # consumers must find out if the server is gone

    async def _serve(self, wire: Wire) -> Wire | None:
        """Use one connection until it fails, until no subscription is left, or until there is
        another, which is returned."""
        wire.attach(self._dispatch, self._on_lost)
        self._subscriptions.clear()
        self._confirmed.clear()
        self._pending.clear()
        self._failure = None
        self._has_subscribed = False
        self._opened_at = self._now()
        self._ping_at = self._opened_at + PING_INTERVAL
        self._pinged_at = None
        self._renew_at = self._opened_at + lifetime(self._max_age)
        while self._flags and not self._is_closed:
            self._wakeup.clear()
            if self._failure is not None:
                raise self._failure
            self._subscribe_missing(wire)
            if not self._subscriptions:
                break
            if self._now() >= self._renew_at and (successor := await self._open_successor()):
                return successor
            self._check_silence(wire)
            if self._now() >= self._ping_at:
                self._ping(wire)
            deadline = min(self._ping_at, self._renew_at)
            if self._pinged_at is not None:
                deadline = min(deadline, self._pinged_at + DEAD_AFTER)
            with anyio.CancelScope(deadline=deadline):
                await self._wakeup.wait()
        return None

    async def _open_successor(self) -> Wire | None:
        """Another connection; None if it cannot be opened now, and is to be tried again later."""
        try:
            return await self._open_wire()
        except SERVER_ERRORS:
            self._renew_at = self._now() + RENEW_PAUSE
            return None

    def _subscribe_missing(self, wire: Wire) -> None:
        now = self._now()
        missing = [
            channel
            for channel in self._flags.keys() - self._subscriptions
            if self._retry_time(channel) <= now
        ]
        if missing:
            self._subscriptions.update(missing)
            self._send(wire, [("SUBSCRIBE", channel) for channel in missing])

    def _check_silence(self, wire: Wire) -> None:
        """Raise TimeoutError if nothing has arrived for too long after a ping."""
        if self._pinged_at is not None and wire.heard_at >= self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is not None and self._now() >= self._pinged_at + DEAD_AFTER:
            silence = self._now() - max(wire.heard_at, self._opened_at)
            raise TimeoutError(f"no data received for {silence:.0f} seconds")

    def _ping(self, wire: Wire) -> None:
        """Send a ping, and unsubscribe from channels that nobody wants any more."""
        self._ping_at = self._now() + PING_INTERVAL
        unwanted = self._drop_unwanted_flags() & self._subscriptions
        self._subscriptions -= unwanted
        self._confirmed -= unwanted
        commands: list[Command] = [("UNSUBSCRIBE", channel) for channel in unwanted]
        ping = next((ping for ping in _PINGS if ping not in self._refusals), None)
        if ping is not None:
            self._pinged_at = self._pinged_at or self._now()
            commands.append(ping)
        self._send(wire, commands)

    def _send(self, wire: Wire, commands: Iterable[Command]) -> None:
        """Send commands, one per channel: refusing one channel would refuse the whole command.

        Error replies do not name their command; they are matched by order.
        """
        self._pending.extend(commands)
        wire.write(b"".join(map(pack, commands)))

    def _dispatch(self, reply: Any) -> None:
        """Handle a reply or an announcement."""
        # hot path: sets the flags inside the read callback, which saves a third of the time from an
        # announcement to its claim, compared to a task
        match reply:
            case [b"message" | b"subscribe" as kind, bytes(channel), payload]:
                is_urgent = kind == b"subscribe" or payload[:1] == PAUSE
                if kind == b"subscribe":
                    self._confirm(channel)
                for flag in self._flags.get(channel, ()):
                    flag.is_urgent |= is_urgent
                    flag.set()
            case Exception() if self._pending:
                self._refuse(self._pending.popleft(), reply)
            case Exception():
                self._fail(reply)
            case [b"unsubscribe", bytes(channel), _]:
                self._acknowledge(("UNSUBSCRIBE", channel))
            case _:
                self._acknowledge(("PING",))

    def _confirm(self, channel: bytes) -> None:
        self._acknowledge(("SUBSCRIBE", channel))
        self._refusals.pop(("SUBSCRIBE", channel), None)
        if channel in self._subscriptions:  # else it was unsubscribed in between
            self._confirmed.add(channel)
        self._has_subscribed = True
        if self._outage_logged:
            _logger.info("listener reconnected")
        self._outage_logged = False

    def _acknowledge(self, command: Command) -> None:
        if command in self._pending:
            self._pending.remove(command)
        if command in _PINGS:
            self._supported_pings.add(command)

    def _refuse(self, command: Command, error: Exception) -> None:
        """Handle the error reply to a command."""
        if not isinstance(error, ResponseError) or is_not_yet(error):
            self._fail(error)
            return
        match command:
            case ("SUBSCRIBE", channel) if isinstance(error, NoPermissionError):
                if not self._refusal_logged:
                    _not_permitted.warning(
                        "no permission to subscribe, falling back to polling: channel %r: %s",
                        channel,
                        error,
                    )
                self._refusal_logged = True
                self._refusals[command] = self._now() + RETRY_REFUSED
                self._subscriptions.discard(channel)
                self._wakeup.set()
            case ("SUBSCRIBE", _):
                self._next_connect_at = self._now() + RETRY_REFUSED
                self._fail(error)
            case _ if command in _PINGS:
                self._refusals[command] = math.inf
            case _:  # an UNSUBSCRIBE: announcements on that channel are ignored
                pass

    def _on_lost(self, error: Exception) -> None:
        """Handle the loss of the connection. Some proxies close it on an unsupported command."""
        if self._pending:
            command = self._pending[0]
            if command in _PINGS and command not in self._supported_pings:
                self._refusals[command] = math.inf
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._wakeup.set()

    def _drop_unwanted_flags(self) -> set[bytes]:
        """Forget the flags that are no longer wanted. Returns the channels that have none left."""
        now = self._now()
        self._refusals = {
            command: retry_at for command, retry_at in self._refusals.items() if retry_at > now
        }
        for flags in self._flags.values():
            for flag in [flag for flag in flags if not flag.is_wanted]:
                flags.discard(flag)
                flag.set()
        unwanted = {channel for channel, flags in self._flags.items() if not flags}
        for channel in unwanted:
            del self._flags[channel]
        return unwanted
