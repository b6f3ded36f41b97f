"""One queue as a worker sees it: where its messages come from, which may be missing for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar, cast

from .._commands.admin import get_queue_attributes
from .._consuming.core import QueueCore
from .._consuming.line import ConsumerLine
from .._consuming.waiter import Waiter
from .._protocol import Seconds, check_seconds_at_least, describe
from .._record import Record, Settles
from .._server.failures import SERVER_ERRORS
from ..errors import InvalidParameterValue, QueueDoesNotExist
from ..models import Death, Message
from .leases import Leases

T = TypeVar("T")

MIN_LEASE: Final = 0.1

_logger = logging.getLogger("aiorsmq.worker")


class Intake(Generic[T]):
    """Claims a worker's messages from one queue. It is prepared first, then opened."""

    line: ConsumerLine
    leases: Leases

    def __init__(
        self,
        core: QueueCore,
        vt: Seconds | None,
        read: Callable[[Record, Settles], Message[T] | None],
        *,
        create: bool,
    ) -> None:
        self.name: str = core.keys.qname
        self.core: QueueCore = core
        self.read = read
        self._vt = None if vt is None else check_seconds_at_least(MIN_LEASE, "vt", vt)
        self._create = create
        self._on_death: Callable[[Intake[T], Record, Death, str], None] | None = None
        self.is_missing: bool = False
        """Whether the queue did not exist at the last claim."""
        self.look_at: float = 0.0
        """When to claim again from a missing queue, by the event loop's clock."""
        self.probe: Waiter | None = None
        """Stays in the line while the server is silent: it is done when the server is back."""

    async def prepare(self, max_lease: float) -> None:
        """Find out how long leases are. Raises QueueDoesNotExist, unless it creates the queue."""
        self.is_missing = False
        if self._create:
            await self.core.create_missing()
        attributes = await get_queue_attributes(self.core.node, self.core.keys)
        vt = attributes.vt if self._vt is None else self._vt
        if not vt:
            reason = (
                f"is the vt of queue {self.name!r}, but a worker needs a lease: pass vt to worker()"
            )
            raise InvalidParameterValue("vt", vt, reason)
        lease = min(vt, max_lease)
        self.line = self.core.receiving(lease)
        self.leases = Leases(self.core.node, self.core.settler, self.name, lease)

    @contextmanager
    def open(self, on_death: Callable[[Intake[T], Record, Death, str], None]) -> Generator[None]:
        """Listen for news and deaths of the queue, also while nobody waits."""
        self._on_death = on_death
        try:
            with self.core.dead.observed_by(self), self.line.audience.observed():
                yield
        finally:
            self._on_death = None

    def still_holds(self, record: Record) -> bool:
        return self.leases.adopt(record)

    def on_death(self, record: Record, death: Death, reason: str) -> None:
        if self._on_death is not None:
            self._on_death(self, record, death, reason)

    @property
    def trouble(self) -> str | None:
        """Why it cannot claim, if it cannot."""
        if (outage := self.line.outage) is not None:
            return f"cannot claim: {type(outage).__name__}: {outage}"
        return f"queue {self.name!r} does not exist" if self.is_missing else None

    def begin_probe(self) -> None:
        """The server is silent: wait for it in the line, until `end_probe`."""
        self.probe = self.line.join_one(patient=True)

    def end_probe(self) -> None:
        """What it has got goes to another consumer, or back into the queue."""
        if self.probe is not None:
            self.line.leave((self.probe,))
            self.probe = None

    def read_probe(self, probe: Waiter) -> list[Record]:
        """What it has got, as it is done."""
        self.probe = None
        if isinstance(probe.error, QueueDoesNotExist):
            self.note_missing()
        elif probe.error is not None:
            raise probe.error
        record = probe.take()
        return [record] if record else []

    def may_have_messages(self) -> bool:
        if self.probe is not None:
            return self.probe.is_done
        if self.is_missing:
            return self.look_at <= asyncio.get_running_loop().time()
        return self.line.has_reason()

    async def take(self, limit: int) -> list[Record]:
        """Claim up to `limit` messages; none while the queue is missing or the server is away."""
        try:
            if self.is_missing:
                self.look_at = asyncio.get_running_loop().time() + self.core.poll_interval
                if self._create:
                    await self.core.create_missing()
            records = await self.line.take(limit, 0)
        except QueueDoesNotExist:
            self.note_missing()
            return []
        except SERVER_ERRORS as error:
            if self.is_missing and not self.core.node.is_outage(error):
                raise
            return []  # the worker waits for news next: that rides out an outage, or raises
        if self.is_missing:
            self.is_missing = False
            _logger.info("queue %r exists again", self.name, extra={"queue": self.name})
        return records

    def note_missing(self) -> None:
        """The queue is gone: create it now, or look for it at each safety poll."""
        if self.is_missing:
            return
        self.is_missing = True
        action = "creating it" if self._create else "waiting for it"
        text = "queue %r no longer exists: %s"
        _logger.warning(text, self.name, action, extra={"queue": self.name})
        pause = 0.0 if self._create else self.core.poll_interval
        self.look_at = asyncio.get_running_loop().time() + pause


def check_queues(queues: object) -> tuple[list[Any], list[float] | None]:
    """The queues of a worker, and their weights if it is a mapping."""
    names: list[Any] = []
    if isinstance(queues, Iterable) and not isinstance(queues, str):
        names = list(cast("Iterable[Any]", queues))
    if not names:
        shown = cast("object", queues)
        raise InvalidParameterValue("queues", shown, "must be one or more queues or names")
    if not isinstance(queues, Mapping):
        return names, None
    weights = list(cast("Mapping[Any, Any]", queues).values())
    if not all(isinstance(weight, int | float) and weight > 0 for weight in weights):
        raise InvalidParameterValue("queues", weights, "must have weights greater than 0")
    return names, weights


def check_different(intakes: Sequence[Intake[Any]]) -> None:
    if len({intake.core for intake in intakes}) < len(intakes):
        names = [describe(intake.core.keys) for intake in intakes]
        raise InvalidParameterValue("queues", names, "must be different queues")
