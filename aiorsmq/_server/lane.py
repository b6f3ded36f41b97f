"""One connection with many calls under way: what is called with a command, and answers in the order
of the calls.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError, TimeoutError

from .wire import Argument, Wire, pack

Answered = Callable[[Any], None]
"""Gets the reply to a call, or as an exception the server's error or the loss of the connection."""

REPLY_TIMEOUT: Final = 5.0
"""Seconds without a byte, in or out, while calls wait for their replies, after which a connection
is given up.

Times `Wire.patience`.
"""
MUCH: Final = 65536
"""Bytes that say, if so many have gone out since the last look, that there was an upload, though
none is left.
"""


def _nobody_minds() -> None: ...


class Pipeline:
    """Calls go out as they are made. A lost connection answers those under way, and only those,
    with redis-py's ConnectionError or TimeoutError: whether the server executed them is unknown
    then.

    `when_lost` is called after that, unless it is this side that closes it.
    """

    def __init__(self, wire: Wire, when_lost: Callable[[], None] = _nobody_minds) -> None:
        self.lost: bool = False
        self._when_lost = when_lost
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[Answered] = deque()
        self._waiting_since = 0.0
        self._written = self._sent = self._unsent = 0
        self._watchdog: asyncio.TimerHandle | None = None
        wire.attach(self._answer, self.lose)

    def call(self, answered: Answered, *command: Argument) -> None:
        """Send a command; `answered` is called once, from the event loop.

        What it raises goes to the event loop's exception handler, and disturbs no other call.
        """
        data = pack(command)
        if self.lost:  # since its caller was told of it
            self._loop.call_soon(answered, ConnectionError("Connection was lost before the call"))
            return
        if not self._unanswered:
            self._waiting_since = self._loop.time()
            if self._watchdog is None:
                self._look_for_upload()
                self._watchdog = self._loop.call_later(
                    REPLY_TIMEOUT * self._wire.patience, self._check_silence
                )
        self._unanswered.append(answered)
        self._written += len(data)
        self._wire.write(data)

    @property
    def heard_at(self) -> float:
        """When something came in last, by the event loop's clock."""
        return self._wire.heard_at

    def lose(self, error: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._wire.abort()
        while self._unanswered:
            try:
                self._unanswered.popleft()(error)
            except Exception as raised:  # noqa: BLE001 - whatever it is, the others must hear
                self._report(raised)
        self._when_lost()

    async def aclose(self) -> None:
        self._when_lost = _nobody_minds
        self.lose(ConnectionError("Connection closed by the client"))
        await self._wire.aclose()

    def _answer(self, reply: Any) -> None:
        try:
            answered = self._unanswered.popleft()
        except IndexError:
            self.lose(ConnectionError("The server said something that nobody asked for"))
            return
        try:
            answered(reply)
        except Exception as raised:  # noqa: BLE001 - as above
            self._report(raised)

    def _report(self, raised: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": "Exception in the callback of a reply", "exception": raised}
        )

    def _check_silence(self) -> None:
        self._watchdog = None
        if not self._unanswered or self.lost:
            return
        if self._look_for_upload():  # a large message on a slow line is no silence
            self._waiting_since = self._loop.time()
        timeout = REPLY_TIMEOUT * self._wire.patience
        left = max(self._waiting_since, self._wire.heard_at) + timeout - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._check_silence)
        else:
            self.lose(TimeoutError(f"No reply from the server for {timeout:g} seconds"))

    def _look_for_upload(self) -> bool:
        """Whether one has moved since the last look, though others may have added to it."""
        unsent_then, sent_then = self._unsent, self._sent
        self._unsent = self._wire.unsent()
        self._sent = self._written - self._unsent
        moved = self._sent - sent_then
        return moved >= MUCH or (moved > 0 and (self._unsent > 0 or unsent_then > 0))
