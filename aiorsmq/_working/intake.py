"""One queue, as a worker sees it: it may be gone for a while."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from redis.exceptions import RedisError

from .._commands.admin import get_queue_attributes
from .._consuming.core import Shared
from .._consuming.line import Claims
from .._protocol import Seconds, at_least
from .._record import Record, Settler
from ..errors import InvalidParameterValue, QueueDoesNotExist
from ..models import Death, Message
from .leases import Leases

T = TypeVar("T")

SHORTEST_LEASE: Final = 0.1

_logger = logging.getLogger("aiorsmq.worker")


class Source(Generic[T]):
    """Where a worker's messages come from. It is prepared first, then opened."""

    claims: Claims
    leases: Leases

    def __init__(
        self,
        shared: Shared,
        vt: Seconds | None,
        read: Callable[[Record, Settler], Message[T] | None],
        create: bool,
    ) -> None:
        self.name: str = shared.keys.qname
        self.shared = shared
        self.read = read
        self._vt = None if vt is None else at_least(SHORTEST_LEASE, "vt", vt)
        self._create = create
        self.is_missing: bool = False
        """Whether the queue was not there at the last claim."""
        self.look_at: float = 0.0
        """When to claim again from a queue that is missing, by the event loop's clock."""

    async def prepare(self, max_lease: float) -> None:
        """Find out how long its leases are. The queue must be there, or is created."""
        self.is_missing = False
        if self._create:
            await self.shared.create_missing()
        attributes = await get_queue_attributes(self.shared.scripts, self.shared.keys)
        vt = attributes.vt if self._vt is None else self._vt
        if not vt:
            reason = (
                f"is the vt of queue {self.name!r}, and a worker needs leases: give it a vt "
                "of its own"
            )
            raise InvalidParameterValue("vt", vt, reason)
        lease = min(vt, max_lease)
        self.claims = self.shared.receiving(lease)
        self.leases = Leases(self.shared.settler, self.shared.scripts, lease)

    def may_have_some(self) -> bool:
        if self.is_missing:
            return self.look_at <= asyncio.get_running_loop().time()
        return self.claims.has_reason()

    async def take(self, limit: int) -> list[Record]:
        """Claim up to `limit` messages; none while the queue is not there, or the server is
        away.
        """
        try:
            if self.is_missing:
                self.look_at = asyncio.get_running_loop().time() + self.shared.poll_interval
                if self._create:
                    await self.shared.create_missing()
            records = await self.claims.take(limit, 0)
        except QueueDoesNotExist:
            self.miss()
            return []
        except RedisError as error:
            if not self.is_missing or self.shared.scripts.is_outage(error):
                return []  # waiting for news will wait an outage out, or raise what is none
            raise
        if self.is_missing:
            self.is_missing = False
            _logger.info("queue %r is there again", self.name)
        return records

    def miss(self) -> None:
        """Look for the queue from now on: at once if that creates it, else at the next safety
        poll.
        """
        if not self.is_missing:
            self.is_missing = True
            what = "creating it" if self._create else "waiting for it"
            _logger.warning("queue %r is no longer there: %s", self.name, what)
            now = asyncio.get_running_loop().time()
            self.look_at = now if self._create else now + self.shared.poll_interval

    @contextmanager
    def open(self, mourn: Callable[[Record, Death, str], None]) -> Generator[None]:
        """Hear of news, also while nobody waits; of the dead; and have messages in hand
        recognised.
        """
        self.shared.mourners.append(mourn)
        self.shared.adopters.append(self.leases.adopt)
        with self.claims.kept_informed():
            try:
                yield
            finally:
                self.shared.mourners.remove(mourn)
                self.shared.adopters.remove(self.leases.adopt)
