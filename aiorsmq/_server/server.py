"""One server: its clock, and the lanes to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from ..models import Confirm
from .call import Call, Reply
from .clock import Clock
from .confirmed import ConfirmedLane
from .connector import Connector
from .lane import Lane, OnReply
from .target import Target
from .wire import Argument

_logger = logging.getLogger("aiorsmq.client")

_JUMPED: Final = "the server's clock jumped by %+.0f seconds: %s"
_JUMPED_BACK: Final = (
    "messages that were visible or leased stay hidden for that much longer; "
    "change_visibility(id, 0) makes one visible"
)
_JUMPED_FORWARD: Final = "leases and delays shorter than that have ended"


class Server:
    """A server as the calls to it see it.

    A confirmed call holds up all that come behind it on its lane, for as long as a replica takes.
    Therefore these calls have a lane of their own, opened with the first of them.

    Args:
        connect: makes a Connector of a target.
        on_silence: see `Lane`.
    """

    def __init__(
        self,
        target: Target,
        connect: Callable[..., Connector],
        on_silence: Callable[[], object] | None = None,
    ) -> None:
        self.address: str = target.address
        self.clock: Clock = Clock()
        self.in_flight: int = 0
        """How many calls it works on, or is to work on."""
        self._on_doubt = on_silence or target.suspect
        self._connect = partial(connect, target, on_silence=on_silence)
        self.calls: Connector = self._connect()
        self._confirmed: Connector | None = None

    def connector(self, call: Call) -> Connector:
        """The one whose lane takes the call."""
        return self.calls if call.confirm is None else self.confirmed()

    def confirmed(self) -> Connector:
        if self._confirmed is None:
            new_lane = partial(ConfirmedLane, on_doubt=self._on_doubt)
            self._confirmed = self._connect(new_lane=new_lane)
        return self._confirmed

    def run_confirmed(
        self,
        lane: Lane,
        confirm: Confirm,
        command: tuple[Argument, ...],
        sent_at: float,
        on_outcome: OnReply,
        *,
        is_asking: bool = False,
    ) -> None:
        """Send a script call on the lane for confirmed calls, and learn from its reply."""
        learn = partial(self._learn, sent_at)
        run = cast(ConfirmedLane, lane).run
        run(confirm, command, learn, on_outcome, is_asking=is_asking)

    def warn_of_jump(self, seconds: float) -> None:
        """Log that its clock has jumped."""
        effect = _JUMPED_BACK if seconds < 0 else _JUMPED_FORWARD
        _logger.warning(_JUMPED, seconds, effect, extra={"seconds": seconds})

    def _learn(self, sent_at: float, reply: Reply) -> None:
        """Take the server's time off a reply: now, as the confirmation may take seconds."""
        seconds, microseconds = reply[:2]
        del reply[:2]
        if jump := self.clock.learn(seconds, microseconds, sent_at):
            self.warn_of_jump(jump)

    def log_in(self, credentials: tuple[str, ...]) -> None:
        """Log in again on the lanes that are open."""
        for connector in self._connectors():
            connector.log_in(credentials)

    async def leave(self) -> None:
        """Drop the lanes, as the target's calls go to another server now. The calls in flight are
        made again there, as far as that is safe."""
        for connector in self._connectors():
            await connector.leave()

    async def retire(self) -> None:
        """Drop the lanes that no call needs, as the server takes no more."""
        for connector in self._connectors():
            await connector.retire()

    async def aclose(self) -> None:
        for connector in (self.calls, self.confirmed()):  # neither is to be opened any more
            await connector.aclose()

    def _connectors(self) -> list[Connector]:
        return [self.calls] if self._confirmed is None else [self.calls, self._confirmed]
