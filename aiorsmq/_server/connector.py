"""Opens the lane on which all calls go, and opens it again after it was lost."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final

from ..errors import ClientClosed
from .age import RENEW_PAUSE, lifetime
from .failures import LOGIN_REFUSED, SERVER_ERRORS, is_unknown, without_arguments
from .futures import retrieve_error
from .lane import Lane
from .options import CONNECT_TIMEOUT
from .reach import Reach
from .target import Target
from .tasks import Tasks
from .wire import Wire

LOGIN_PATIENCE: Final = 60.0
"""Seconds for which a client that was logged in before retries a refused login, counted from the
first refusal: its password or token may be in rotation."""
LOGIN_PAUSE: Final = 0.25
"""Seconds between two logins of such a client, however many calls want one."""

NewLane = Callable[[Wire, Callable[[], None], Callable[[], object] | None], Lane]
"""As Lane itself."""

_logger = logging.getLogger("aiorsmq.client")
_REFUSED: Final = (
    "the server refuses the credentials that the provider has renewed; the connection stays logged "
    "in as it was: %s"
)


class Connector:
    """A lane to a target, and what is known about reaching it.

    A server is in one of three states. Never reached: after `connect_timeout` its address is
    probably wrong, and calls fail at once. Reached once: outages are temporary, and calls retry
    until their deadlines. Logged in once and refused since: retried for LOGIN_PATIENCE.

    Args:
        reach: shared with the client's other connectors.
        new_lane: makes a lane of a wire.
        on_reached: called with the first lane of all, before any call is made on it.
        on_lost: called when the server or the network has ended a lane.
        on_silence: see `Lane`.
        max_age: seconds after which a lane is replaced by another.
    """

    def __init__(
        self,
        target: Target,
        tasks: Tasks,
        reach: Reach,
        *,
        new_lane: NewLane = Lane,
        on_reached: Callable[[Lane], None],
        on_lost: Callable[[], None],
        on_silence: Callable[[], object] | None = None,
        max_age: float = math.inf,
    ) -> None:
        self._target = target
        self._tasks = tasks
        self._reach = reach
        self._new_lane = new_lane
        self._on_reached = on_reached
        self._on_lost = on_lost
        self._on_silence = on_silence
        self._max_age = max_age
        self._end_of_life: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._old: Lane | None = None
        """A lane that another has replaced, until its calls have their replies."""
        self._renewal_refused = False
        self._lane: Lane | None = None
        self._opening: asyncio.Task[Lane] | None = None
        self._closed = False
        self.failure: Exception | None = None
        """Why the latest attempt to open the lane failed; None if it did not."""
        self._opened_at = -math.inf
        self._refused_at = -math.inf
        self._refused_since: float | None = None

    def current(self) -> Lane | None:
        """The lane, if it is open."""
        return None if self._lane is None or self._lane.lost else self._lane

    async def lane(self) -> Lane:
        """The lane, opened if need be. Raises redis-py's errors; then nothing has been sent."""
        if (lane := self.current()) is not None:
            return lane
        if self._closed:
            raise ClientClosed
        if self.failure is not None and time.monotonic() < self._refused_at + LOGIN_PAUSE:
            raise self.failure.with_traceback(None)
        if self._opening is None or self._opening.done():
            self._opening = self._tasks.start(self._open())
            self._opening.add_done_callback(retrieve_error)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Lane:
        try:
            await self.drop(self._lane)
            wire = await self._target.open(self._tasks)
            self._lane = self._new_lane(wire, self._on_lost, self._on_silence)
        except SERVER_ERRORS as error:
            self.failure = error
            if isinstance(error, LOGIN_REFUSED) and self._reach.ever:
                self._note_refusal(error)
            raise
        else:
            if not self._reach.ever:
                self._reach.note()
                self._on_reached(self._lane)
            self._note_opened()
            return self._lane
        finally:
            self._opening = None

    def _note_opened(self) -> None:
        self.failure = None
        self._opened_at = time.monotonic()
        if self._max_age < math.inf:
            self._renew_after(lifetime(self._max_age))

    def _renew_after(self, seconds: float) -> None:
        if self._end_of_life is not None:
            self._end_of_life.cancel()
        self._end_of_life = self._tasks.home.loop().call_later(seconds, self.renew)

    def renew(self) -> None:
        """Replace the lane, if one is open: open another, which takes all further calls, and close
        this one once its calls have their replies. If no other can be opened, this one stays."""
        if self._renewing is None or self._renewing.done():
            self._renewing = self._tasks.start(self._renew())

    def log_in(self, credentials: tuple[str, ...]) -> None:
        """Log in again on the lane, if one is open. A refusal leaves it as it is."""
        if (lane := self.current()) is not None:
            lane.call(self._note_login, "AUTH", *credentials)

    def _note_login(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._renewal_refused = False
        elif not (is_unknown(reply) or self._renewal_refused):
            self._renewal_refused = True
            text = without_arguments(reply)
            _logger.warning(_REFUSED, text, extra={"reason": text})

    async def _renew(self) -> None:
        old = self.current()
        if old is None or self._closed:
            return
        try:
            wire = await self._target.open(self._tasks)
        except SERVER_ERRORS:
            self._renew_after(RENEW_PAUSE)
            return
        lane = self._new_lane(wire, self._on_lost, self._on_silence)
        if old is not self.current():  # lost in the meantime, so the next call opens one
            await lane.aclose()
            return
        self._lane = lane
        self._old = old
        self._note_opened()
        try:
            await old.drain()
        finally:
            self._old = None
            await old.aclose()

    def may_pass(self, error: Exception) -> bool:
        """Whether trying again may help: see the three states."""
        if not isinstance(error, LOGIN_REFUSED):
            return self._reach.may_come()
        if not self._reach.ever or self._refused_since is None:
            return False
        return time.monotonic() < self._refused_since + LOGIN_PATIENCE

    async def relogin(self, lane: Lane | None, error: Exception) -> None:
        """Drop a lane on which the server says that nobody is logged in."""
        if lane is not None and lane is self._lane:
            self._note_refusal(error)
            await self.drop(lane)

    def _note_refusal(self, error: Exception) -> None:
        self.failure = error
        self._refused_at = time.monotonic()
        # A login that was refused soon after it succeeded may never have worked.
        has_worked = self._refused_at > self._opened_at + CONNECT_TIMEOUT
        if self._refused_since is None or (has_worked and self._opened_at > self._refused_since):
            self._refused_since = self._refused_at

    async def drop(self, lane: Lane | None) -> None:
        """Close a lane, as after a failover that left it at a replica; the next call opens another.

        Does nothing if it is no longer the current one, so calls on that are not disturbed.
        """
        if lane is not None and lane is self._lane:
            self._lane = None
            await lane.aclose()

    async def leave(self) -> None:
        """Drop the lane, and one that it has replaced."""
        if self._old is not None:
            await self._old.aclose()
        await self.drop(self.current())

    async def retire(self) -> None:
        """Drop the lane, unless the server is about to reply to calls on it."""
        lane = self.current()
        if lane is not None and (lane.is_idle() or lane.is_silent()):
            await self.drop(lane)

    async def aclose(self) -> None:
        self._closed = True
        if self._end_of_life is not None:
            self._end_of_life.cancel()
        for task in (self._opening, self._renewing):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        await self.drop(self._lane)
