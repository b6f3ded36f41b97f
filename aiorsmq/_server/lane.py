"""One connection with many calls in flight; replies come in the order of the calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from .failures import NotSent
from .futures import resolve
from .wire import Argument, Wire, pack

OnReply = Callable[[Any], None]
"""Gets the reply to a call, or an exception: the server's error, or the loss of the connection."""

REPLY_TIMEOUT: Final = 5.0
"""Seconds without a byte, in or out, while calls wait for replies, after which a connection is
given up. Times `Wire.patience`."""
SILENCE: Final = 1.0
"""Seconds without a byte while calls wait for replies, after which a server may be hung."""
QUIET: Final = 15.0
"""Seconds without a byte from the server after which a connection is in doubt: a load balancer or
a router forgets an idle one, and says nothing."""
PONG_TIMEOUT: Final = 1.0
"""Seconds for the reply to the PING on a connection in doubt."""
LATE: Final = 0.1
"""Seconds by which a timer is late if the event loop was blocked."""
UPLOAD: Final = 65536
"""Bytes. If that many have left since the last look, there was an upload, even if none is left."""

_PING: Final = pack(("PING",))


def ignore_loss() -> None: ...


class Lane:
    """Sends calls as they are made.

    When the connection is lost, the calls in flight, and only those, get redis-py's ConnectionError
    or TimeoutError: the server may or may not have executed them. After that `on_lost` is called,
    unless this side closed the lane.

    A lane on which nothing is in flight, and nothing was heard for QUIET, is in doubt. The next
    call goes out behind a PING, in the same write. If nothing arrives within PONG_TIMEOUT, the lane
    is lost. An error is a reply as well.

    Args:
        on_silence: called every SILENCE seconds while calls wait for a server that is silent.
    """

    def __init__(
        self,
        wire: Wire,
        on_lost: Callable[[], None] = ignore_loss,
        on_silence: Callable[[], object] | None = None,
    ) -> None:
        self.lost: bool = False
        self.allowance: float = 0.0
        """Seconds for which the server may be silent on purpose."""
        self._on_lost = on_lost
        self._on_silence = on_silence
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._in_flight: deque[OnReply] = deque()
        self._waiting_since = 0.0
        self._written = 0
        self._sent = 0
        self._unsent = 0
        self._watchdog: asyncio.TimerHandle | None = None
        self._doubt: asyncio.TimerHandle | None = None
        """While the reply to a PING decides whether the lane is alive."""
        self._behind_ping: list[tuple[OnReply, tuple[Argument, ...]]] = []
        """The calls that wait for that."""
        wire.attach(self._on_reply, self.lose)

    def call(self, on_reply: OnReply, *command: Argument) -> None:
        """Send a command; `on_reply` is called once, from the event loop.

        What it raises goes to the event loop's exception handler and disturbs no other call.
        """
        data = pack(command)
        if self.lost:  # since the caller was handed this lane
            self._loop.call_soon(on_reply, NotSent("Connection was lost before the call"))
            return
        if not self._in_flight:
            self._waiting_since = self._loop.time()
            if self._waiting_since - self._wire.heard_at > QUIET:
                data = self._ping() + data
            if self._watchdog is None:
                self._watch()
        self._in_flight.append(on_reply)
        self._written += len(data)
        self._wire.write(data)

    def call_if_alive(self, on_reply: OnReply, *command: Argument) -> None:
        """`call`, for a command that must not be sent in doubt: it waits for the reply to the PING.
        If that does not come, `on_reply` gets NotSent."""
        if not (self._in_flight or self.lost):
            self._waiting_since = self._loop.time()
            if self._waiting_since - self._wire.heard_at > QUIET:
                ping = self._ping()
                self._written += len(ping)
                self._wire.write(ping)
                if self._watchdog is None:
                    self._watch()
        if self._doubt is None:
            self.call(on_reply, *command)
        else:
            self._behind_ping.append((on_reply, command))

    async def ask(self, *command: Argument) -> Any:
        """`call`, and wait for the reply; an error is raised. Cancelling stops the waiting, not the
        call."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.call(partial(resolve, reply), *command)
        return await reply

    async def drain(self) -> None:
        """Wait until no call is in flight. Make no more calls, or this waits for those as well."""
        while self._in_flight and not self.lost:
            with suppress(RedisError):
                await self.ask("PING")  # replies come in the order of the calls

    @property
    def heard_at(self) -> float:
        """When the last byte came in, by the event loop's clock."""
        return self._wire.heard_at

    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        return not self._in_flight

    def is_silent(self) -> bool:
        """Whether calls are in flight, and nothing has come for SILENCE: the server may hang."""
        return not self.is_idle() and self._silence() >= SILENCE

    def lose(self, error: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._wire.abort()
        while self._in_flight:
            try:
                self._in_flight.popleft()(error)
            except Exception as raised:  # noqa: BLE001 - the other calls must hear of the loss
                self.report(raised)
        self._on_lost()

    async def aclose(self) -> None:
        self._on_lost = ignore_loss
        self.lose(ConnectionError("Connection closed by the client"))
        await self._wire.aclose()

    def _on_reply(self, reply: Any) -> None:
        try:
            on_reply = self._in_flight.popleft()
        except IndexError:
            self.lose(ConnectionError("Unexpected reply from the server: no call is in flight"))
            return
        try:
            on_reply(reply)
        except Exception as raised:  # noqa: BLE001 - the wire must go on reading
            self.report(raised)

    def report(self, raised: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": "Exception in the callback of a reply", "exception": raised}
        )

    def _ping(self) -> bytes:
        self._in_flight.append(self._settle_doubt)
        due = self._loop.time() + PONG_TIMEOUT
        self._doubt = self._loop.call_at(due, self._check_pong, due)
        return _PING

    def _check_pong(self, due: float) -> None:
        now = self._loop.time()
        if self._wire.heard_at >= due - PONG_TIMEOUT:
            return  # the rest of the reply is on its way, or the watchdog finds out
        if now > due + LATE:  # the event loop was blocked: a reply may have arrived, unread
            self._doubt = self._loop.call_later(LATE, self._check_pong, now + LATE)
        else:
            reason = f"No reply to a PING for {PONG_TIMEOUT:g} s after the connection was idle"
            self.lose(TimeoutError(reason))

    def _settle_doubt(self, _: Any) -> None:
        """There is a reply to the PING, or the lane is lost."""
        if self._doubt is not None:
            self._doubt.cancel()
        self._doubt = None
        held = self._behind_ping
        self._behind_ping = []
        for on_reply, command in held:
            self.call(on_reply, *command)

    def _watch(self) -> None:
        self._note_upload()
        check_after = self._patience() if self._on_silence is None else SILENCE
        self._watchdog = self._loop.call_later(check_after, self._check_silence)

    def _check_silence(self) -> None:
        self._watchdog = None
        if not self._in_flight or self.lost:
            return
        if self._note_upload():  # a large message on a slow line is not silence
            self._waiting_since = self._loop.time()
        patience = self._patience() + self.allowance
        remaining = patience - self._silence()
        if remaining > 0:
            check_after = remaining if self._on_silence is None else min(remaining, SILENCE)
            self._watchdog = self._loop.call_later(check_after, self._check_silence)
        else:
            self.lose(TimeoutError(f"No reply from the server for {patience:g} seconds"))
        if self._on_silence is not None and self._silence() >= SILENCE:
            self._on_silence()

    def _patience(self) -> float:
        return REPLY_TIMEOUT * self._wire.patience

    def _silence(self) -> float:
        """Seconds for which calls have waited without a byte from the server."""
        return self._loop.time() - max(self._waiting_since, self._wire.heard_at)

    def _note_upload(self) -> bool:
        """Whether an upload has progressed since the last look, even if more was added to it."""
        unsent_before = self._unsent
        sent_before = self._sent
        self._unsent = self._wire.unsent_bytes()
        self._sent = self._written - self._unsent
        progress = self._sent - sent_before
        return progress >= UPLOAD or (progress > 0 and (self._unsent > 0 or unsent_before > 0))
