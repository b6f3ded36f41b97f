"""What all handles of one queue share."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakValueDictionary

from ._claims import Claims
from ._commands.receive import pop, receive
from ._commands.send import Sender
from ._commands.settle import Settler
from ._listener import Listener
from ._protocol import Keys, Seconds, milliseconds
from ._scripts import Scripts
from ._tasks import Tasks
from .errors import NoDeadLetterQueue
from .models import Record

_logger = logging.getLogger(__name__)


class Shared:
    """The commands and the lines of consumers of one queue within one client: so handles can share script calls."""

    def __init__(
        self, scripts: Scripts, keys: Keys, tasks: Tasks, listener: Listener | None, poll_interval: float
    ) -> None:
        self.scripts = scripts
        self.keys = keys
        self.tasks = tasks
        channel = keys.channel if listener else ""
        self.sender: Sender = Sender(scripts, keys, tasks, channel)
        self.settler: Settler = Settler(scripts, keys, tasks, channel)
        self._listener = listener
        self._poll_interval = poll_interval
        self._claims: WeakValueDictionary[int | str | None, Claims] = WeakValueDictionary()
        self.max_receives: float = math.inf
        self.mourners: set[Callable[[Record, str], None]] = set()
        self._usual_claims = self._new_claims(None)

    def receiving(self, vt: Seconds | None) -> Claims:
        if vt is None:
            return self._usual_claims
        vt_ms = milliseconds("vt", vt)
        return self._claims.get(vt_ms) or self._new_claims(vt_ms)

    def popping(self) -> Claims:
        return self._claims.get("pop") or self._new_claims("pop")

    async def put_back_hidden(self, record: Record) -> None:
        try:
            await self.settler.restore((record,), hide=True)
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            _logger.warning("could not put message %s back, it is gone: %s", record.id.decode(errors="replace"), error)

    async def bury(self, _records: Sequence[Record], _reason: str) -> list[bool]:
        """Move messages to the dead-letter queue."""
        raise NoDeadLetterQueue(self.keys.qname)

    def close(self) -> None:
        for claims in list(self._claims.values()):
            claims.close()

    def _new_claims(self, how: int | str | None) -> Claims:
        if isinstance(how, str):
            fetch, hand_back = partial(pop, self.scripts, self.keys), self.settler.restore
        else:
            fetch, hand_back = partial(receive, self.scripts, self.keys, how), self.settler.hand_back
        leases = not isinstance(how, str)
        claims = Claims(
            fetch, hand_back, leases, self.keys.channel, self._listener, self.scripts, self._poll_interval, self.tasks
        )
        self._claims[how] = claims
        return claims
