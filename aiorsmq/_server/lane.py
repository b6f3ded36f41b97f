"""One connection with many calls in flight; replies come in the order of the calls."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError, TimeoutError

from .wire import Argument, Wire, pack

OnReply = Callable[[Any], None]
"""Gets the reply to a call, or an exception: the server's error, or the loss of the connection."""

REPLY_TIMEOUT: Final = 5.0
"""Seconds without a byte, in or out, while calls wait for replies, after which a connection is
given up. Times `Wire.patience`."""
SILENCE: Final = 1.0
"""Seconds without a byte while calls wait for replies, after which a server may be hung."""
UPLOAD: Final = 65536
"""Bytes. If that many have left since the last look, there was an upload, even if none is left."""


def ignore_loss() -> None: ...


class Lane:
    """Sends calls as they are made.

    When the connection is lost, the calls in flight, and only those, get redis-py's ConnectionError
    or TimeoutError: the server may or may not have executed them. After that `on_lost` is called,
    unless this side closed the lane.

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
        self._patience = REPLY_TIMEOUT * wire.patience
        self._check_after = self._patience if on_silence is None else SILENCE
        wire.attach(self._on_reply, self.lose)

    def call(self, on_reply: OnReply, *command: Argument) -> None:
        """Send a command; `on_reply` is called once, from the event loop.

        What it raises goes to the event loop's exception handler and disturbs no other call.
        """
        data = pack(command)
        if self.lost:  # since the caller was handed this lane
            self._loop.call_soon(on_reply, ConnectionError("Connection was lost before the call"))
            return
        if not self._in_flight:
            self._waiting_since = self._loop.time()
            if self._watchdog is None:
                self._note_upload()
                self._watchdog = self._loop.call_later(self._check_after, self._check_silence)
        self._in_flight.append(on_reply)
        self._written += len(data)
        self._wire.write(data)

    @property
    def heard_at(self) -> float:
        """When the last byte came in, by the event loop's clock."""
        return self._wire.heard_at

    def is_alive(self) -> bool:
        """Whether calls are in flight, and the server has been heard within SILENCE."""
        return bool(self._in_flight) and self._silence() < SILENCE

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

    def _check_silence(self) -> None:
        self._watchdog = None
        if not self._in_flight or self.lost:
            return
        if self._note_upload():  # a large message on a slow line is not silence
            self._waiting_since = self._loop.time()
        patience = self._patience + self.allowance
        remaining = patience - self._silence()
        if remaining > 0:
            check_after = min(remaining, self._check_after)
            self._watchdog = self._loop.call_later(check_after, self._check_silence)
        else:
            self.lose(TimeoutError(f"No reply from the server for {patience:g} seconds"))
        if self._on_silence is not None and self._silence() >= SILENCE:
            self._on_silence()

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
