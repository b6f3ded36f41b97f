"""One connection with many calls under way: what is called with a command, and answers in the order of the calls."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError, TimeoutError

from ._wire import Argument, Wire, pack

Answered = Callable[[Any], None]
"""Gets the reply to a call, or as an exception the server's error or the loss of the connection."""

REPLY_TIMEOUT: Final = 5.0
"""Seconds without a byte, while calls wait for their replies, after which a connection is given up.

Times `Wire.patience`.
"""


def _nobody_minds() -> None: ...


class Pipeline:
    """Calls go out as they are made. A lost connection answers those under way, and only those, with redis-py's
    ConnectionError or TimeoutError: whether the server executed them is unknown then.

    `when_lost` is called after that, unless it is this side that closes it.
    """

    def __init__(self, wire: Wire, when_lost: Callable[[], None] = _nobody_minds) -> None:
        self.lost: bool = False
        self._when_lost = when_lost
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[Answered] = deque()
        self._waiting_since = 0.0
        self._unsent: float = 0
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
                self._unsent = math.inf
                self._watchdog = self._loop.call_later(REPLY_TIMEOUT * self._wire.patience, self._check_silence)
        self._unanswered.append(answered)
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
        self._loop.call_exception_handler({"message": "Exception in the callback of a reply", "exception": raised})

    def _check_silence(self) -> None:
        self._watchdog = None
        if not self._unanswered or self.lost:
            return
        unsent = self._wire.unsent()
        if 0 < unsent < self._unsent:  # a large message on a slow line is no silence
            self._waiting_since = self._loop.time()
        self._unsent = unsent
        timeout = REPLY_TIMEOUT * self._wire.patience
        left = max(self._waiting_since, self._wire.heard_at) + timeout - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._check_silence)
        else:
            self.lose(TimeoutError(f"No reply from the server for {timeout:g} seconds"))
