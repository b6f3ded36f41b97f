"""What all handles of one queue share."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from redis.exceptions import RedisError

from .._commands.admin import create_queue
from .._commands.dead import IF_VISIBLE, DeadLetters, Drop
from .._commands.receive import pop, receive
from .._commands.send import Sender
from .._commands.settle import Settler
from .._protocol import DEFAULT_DELAY, DEFAULT_MAXSIZE, DEFAULT_VT, Keys, Seconds, milliseconds
from .._record import Record
from .._server.listener import Listener
from .._server.scripts import Scripts
from .._server.tasks import Tasks
from ..models import Death
from .line import Claims

SHORTEST_HIDING: Final = 1.0
"""Seconds for which a message that the codec cannot read is hidden at the least."""

_logger = logging.getLogger(__name__)


class Shared:
    """The commands and the lines of consumers of one queue within one client: so handles can share
    script calls.
    """

    def __init__(
        self,
        scripts: Scripts,
        keys: Keys,
        tasks: Tasks,
        listener: Listener | None,
        poll_interval: float,
    ) -> None:
        self.scripts = scripts
        self.keys = keys
        self.tasks = tasks
        channel = keys.channel if listener else ""
        self.sender: Sender = Sender(scripts, keys, tasks, channel)
        self.settler: Settler = Settler(scripts, keys, tasks, channel)
        self.dead: DeadLetters = DeadLetters(scripts, keys, tasks, announces=listener is not None)
        self.mourners: list[Callable[[Record, Death, str], None]] = self.dead.mourners
        self.adopters: list[Callable[[Record], bool]] = self.dead.adopters
        self._aside: set[asyncio.Task[Any]] = set()
        self._listener = listener
        self.poll_interval: float = poll_interval
        self._claims: WeakValueDictionary[int | str | None, Claims] = WeakValueDictionary()
        self._usual_claims = self._new_claims(None)

    def receiving(self, vt: Seconds | None) -> Claims:
        if vt is None:
            return self._usual_claims
        vt_ms = milliseconds("vt", vt)
        return self._claims.get(vt_ms) or self._new_claims(vt_ms)

    def popping(self) -> Claims:
        return self._claims.get("pop") or self._new_claims("pop")

    @property
    def dead_letter_queue(self) -> str:
        """The name of the dead-letter queue, as last heard; "" if there is none."""
        return self.dead.queue

    @property
    def max_receives(self) -> float:
        """How often a message may be received, as last heard; infinity if there is no limit."""
        return self.dead.max_receives

    async def create_missing(self) -> None:
        """Create the queue with RSMQ's defaults, unless it is there.

        An outage is not raised: what follows will meet it, and knows what to do.
        """
        defaults = DEFAULT_VT, DEFAULT_DELAY, DEFAULT_MAXSIZE, None, None
        try:
            await create_queue(self.scripts, self.keys, *defaults, exist_ok=True)
        except RedisError as error:
            if not self.scripts.is_outage(error):
                raise

    async def bury(
        self, records: Sequence[Record], reason: str, drop: Drop = "rejected"
    ) -> list[Death | None]:
        """Move messages to the dead-letter queue, or drop them if the queue says so; each if not
        received since.

        Returns what has become of each; None if it was received since, or is gone. In script calls
        of 64 messages; cancelling stops the waiting, not the call. Raises NoDeadLetterQueue.
        """
        return await self.dead.bury(records, reason, drop=drop)

    def set_aside(self, record: Record, why: str, *, popped: bool, peeked: bool) -> None:
        """What the codec cannot read goes to the dead-letter queue; without one it stays, hidden
        for its lease.

        For SHORTEST_HIDING at the least: else consumers would do nothing but receive it.
        """
        if peeked or not self.dead_letter_queue:
            _logger.warning(
                "left message %s in queue %r: %s",
                record.id.decode(errors="replace"),
                self.keys.qname,
                why,
            )
        if peeked:
            return
        left_ms = float(record.visible) - self.scripts.clock.now_ms()
        if popped:
            task = self.tasks.start(self._put_back_hidden(record, why))
        elif self.dead_letter_queue:  # with vt=0 it has been received since
            task = self.dead.start_burial((record,), why, IF_VISIBLE if left_ms <= 0 else None)
        elif left_ms < SHORTEST_HIDING * 1000:
            task = self.tasks.start(self._hide(record))
        else:
            return
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def out_of_the_way(self) -> None:
        """Wait until what was set aside is where it does not come again at once."""
        if self._aside:
            await asyncio.wait(self._aside)

    async def _hide(self, record: Record) -> None:
        try:
            await self.settler.change_visibility(record, round(SHORTEST_HIDING * 1000))
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            _logger.warning(
                "could not hide message %s: %s", record.id.decode(errors="replace"), error
            )

    async def _put_back_hidden(self, record: Record, why: str) -> None:
        try:
            await self.settler.restore((record,), hide=round(SHORTEST_HIDING * 1000))
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            _logger.warning(
                "could not put message %s back, it is gone: %s",
                record.id.decode(errors="replace"),
                error,
            )
        else:
            if self.dead_letter_queue:
                self.dead.start_burial((record,), why)

    def look_again(self) -> None:
        for claims in list(self._claims.values()):
            claims.look_again()

    def close(self) -> None:
        for claims in list(self._claims.values()):
            claims.close()

    def _new_claims(self, how: int | str | None) -> Claims:
        if isinstance(how, str):
            fetch, hand_back = partial(pop, self.scripts, self.keys), self.settler.restore
        else:
            fetch, hand_back = (
                partial(receive, self.scripts, self.keys, how),
                self.settler.hand_back,
            )
        leases = not isinstance(how, str)
        claims = Claims(
            *(fetch, hand_back, self.dead.note, leases, self.keys.channel),
            *(self._listener, self.scripts, self.poll_interval, self.tasks),
        )
        self._claims[how] = claims
        return claims
