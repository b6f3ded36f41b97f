"""A message is born."""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from .._protocol import Keys
from .._server.batch import Answered, Batch
from .._server.scripts import Call, Reply, Scripts
from .._server.tasks import Tasks, resolve
from .._server.wire import Argument
from ..errors import MessageTooLong, NotPermitted

NewMessage = tuple[bytes, int | None]
"""A body and its delay in ms; None for the queue's."""

RETRY: Final = b"retry "
"""Behind it the name of the dead-letter queue, if it is known; see `send.lua`."""


class Sender:
    """Sends to one queue; concurrent calls share a script call.

    The ids are made here, not by the script: so a send whose reply was lost is sent again under the
    same ids, and the script sees that it has been stored, in the queue or by now in its dead-letter
    queue.
    """

    def __init__(self, scripts: Scripts, keys: Keys, tasks: Tasks, channel: str) -> None:
        self._scripts = scripts
        self._keys = keys
        self._channel = channel
        self._batch: Batch[NewMessage, str] = Batch(partial(self._submit, "each"), tasks, scripts)
        self._tasks = tasks

    def send(self, message: NewMessage) -> Awaitable[str]:
        return self._batch.submit(message, len(message[0]))

    async def send_all(self, messages: Sequence[NewMessage]) -> list[str]:
        """Send all or none, in a script call of their own."""
        loop, until = self._tasks.admit(), self._scripts.until()
        stored: asyncio.Future[list[str]] = loop.create_future()

        def answered(outcome: Sequence[str | Exception] | Exception) -> None:
            results = [outcome] if isinstance(outcome, Exception) else outcome
            error = next((result for result in results if isinstance(result, Exception)), None)
            resolve(stored, error or [id for id in results if isinstance(id, str)])

        self._submit("all", messages, answered, until)
        return await self._scripts.result(stored, until)

    def _submit(
        self,
        which: str,
        messages: Sequence[NewMessage],
        answered: Answered[str],
        until: float,
        first: Argument = "first",
    ) -> None:
        us, ids = self._scripts.clock.mint(len(messages))
        bodies, delays = zip(*messages, strict=True)
        args: list[Argument] = [first, which, us, self._channel, _delays(delays)]
        args += chain.from_iterable(zip(ids, bodies, strict=True))
        self._store(_Sending(which, messages, answered, until, ids, args), self._keys.both)

    def _store(self, sending: "_Sending", all_keys: Sequence[str]) -> None:
        args = sending.args
        call = Call("send", self._keys.qname, all_keys, args, again=lambda: (RETRY, *args[1:]))
        self._scripts.submit(call, partial(self._replied, sending, all_keys), sending.until)

    def _replied(
        self, sending: "_Sending", all_keys: Sequence[str], reply: Reply | Exception
    ) -> None:
        if isinstance(reply, NotPermitted) and reply.command is None and len(all_keys) > 2:
            self._store(
                sending, self._keys.both
            )  # who may only send cannot look into the dead-letter queue
        elif isinstance(reply, Exception):
            sending.answered(reply)
        elif reply == [b"clock"]:
            # nothing is stored, and by now the server's time is known: new ids, of which none is
            # refused
            self._scripts.clock.restart()
            self._submit(sending.which, sending.messages, sending.answered, sending.until, RETRY)
        elif reply[0] == b"dead-letter queue":
            dead = self._keys.of(reply[1].decode())
            sending.args[0] = RETRY + reply[1]
            self._store(sending, (*self._keys.both, dead.queue))
        else:
            sending.answered(self._results(sending, reply))

    def _results(self, sending: "_Sending", reply: Reply) -> list[str | Exception]:
        stored, maxsize, *too_long = reply
        if stored != b"stored":
            raise ValueError("neither stored nor not")
        results: list[str | Exception] = list(sending.ids)
        for position in map(int, too_long):
            results[position] = MessageTooLong(
                self._keys.qname, len(sending.messages[position][0]), int(maxsize)
            )
        return results


class _Sending(NamedTuple):
    """A script call for some messages, as long as it is under way."""

    which: str
    messages: Sequence[NewMessage]
    answered: Answered[str]
    until: float
    ids: list[str]
    args: list[Argument]


def _delays(delays: Sequence[int | None]) -> str:
    """As `send.lua` takes them."""
    if delays.count(None) == len(delays):
        return ""
    return " ".join("-" if delay is None else str(delay) for delay in delays)
