"""Messages are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from .._protocol import Keys
from .._server.batch import Batch, Bulk, InFlight, OnResults
from .._server.call import Call, Reply, RetryPolicy
from .._server.deadlines import SLACK
from .._server.futures import resolve
from .._server.node import Node
from .._server.wire import Argument
from ..errors import MessageTooLong, NotPermitted
from ..models import Confirm, MaxWaiting

NewMessage = tuple[bytes, int | None]
"""A body and its delay in ms; None for the queue's."""

FIRST: Final = b"first"
HELD: Final = b"held"
"""The mark of a first attempt that may be held back before it is written."""
RETRY: Final = b"retry "
"""The mark of a repetition, followed by the dead-letter queue's name, if known; see `send.lua`."""
REWRITE: Final = b"rewrite "
"""The mark of one that is to be confirmed."""


class Sender:
    """Sends to one queue; concurrent calls share a script call.

    The ids are made here, not in the script: a send whose reply was lost is repeated under the same
    ids, and the script finds what has been stored, in the queue or by now in its dead-letter queue.
    """

    confirm: Confirm | None = None
    retry_mark = RETRY

    def __init__(
        self, node: Node, keys: Keys, limits: MaxWaiting, in_flight: InFlight | None = None
    ) -> None:
        self._node = node
        self._keys = keys
        self._channel = keys.channel if node.realtime else ""
        self._batch: Batch[NewMessage, str] = Batch(
            partial(self._submit, "each"), node, in_flight, limits
        )

    def send(self, message: NewMessage) -> Awaitable[str]:
        return self._batch.submit(message, len(message[0]))

    async def send_all(self, messages: Sequence[NewMessage]) -> list[str]:
        """Send all or none, in a script call of their own."""
        stored: asyncio.Future[list[str]] = self._node.home.admit().create_future()
        until = self._node.until()
        number = len(messages)
        size = sum(len(body) for body, _ in messages)

        def begin() -> None:
            self._submit("all", messages, on_results, until)

        def on_results(outcome: Sequence[str | Exception] | Exception) -> None:
            resolve_all(stored, outcome)
            failure = outcome if isinstance(outcome, Exception) else None
            self._batch.end_bulk(number, size, failure)

        self._batch.submit_bulk(Bulk(begin, stored, number, size))
        # If its turn has not come by the deadline, the batch says that nothing was sent.
        return await self._node.result(stored, until + SLACK)

    def _submit(
        self,
        mode: str,
        messages: Sequence[NewMessage],
        on_results: OnResults[str],
        until: float,
        mark: Argument = FIRST,
    ) -> None:
        us, ids = self._node.clock.mint(len(messages))
        args = self._args(mark, mode, us, ids, messages)
        self._store(Send(mode, messages, on_results, until, ids, args), self._keys.pair)

    def _args(
        self,
        mark: Argument,
        mode: str,
        us: int,
        ids: Sequence[str],
        messages: Sequence[NewMessage],
    ) -> list[Argument]:
        bodies, delays = zip(*messages, strict=True)
        args: list[Argument] = [mark, mode, us, self._channel, _encode_delays(delays)]
        args += chain.from_iterable(zip(ids, bodies, strict=True))
        return args

    def _store(self, send: Send, all_keys: Sequence[str]) -> None:
        args = send.args
        retry_mark = self.retry_mark
        call = Call(
            "send",
            self._keys.qname,
            all_keys,
            args,
            RetryPolicy.SAFE_WITH_MARK,
            lambda: (retry_mark, *args[1:]),
            False,  # positional, as a keyword would cost more
            self.confirm,
        )
        self._node.submit(call, partial(self._on_stored, send, all_keys), send.until)

    def _on_stored(self, send: Send, all_keys: Sequence[str], reply: Reply | Exception) -> None:
        if isinstance(reply, NotPermitted) and reply.command is None and len(all_keys) > 2:
            # A user that may only send must not look into the dead-letter queue.
            self._store(send, self._keys.pair)
        elif isinstance(reply, Exception):
            send.on_results(reply)
        elif reply == [b"clock"]:
            # Nothing is stored. The reply told the server's time: new ids will be accepted.
            self._node.clock.restart()
            self._submit(send.mode, send.messages, send.on_results, send.until, self.retry_mark)
        elif reply[0] == b"dead-letter queue":
            send.args[0] = self.retry_mark + reply[1]
            dead_letters = self._keys.sibling(reply[1].decode())
            self._store(send, (*self._keys.pair, dead_letters.queue))
        else:
            send.on_results(self._results(send, reply))

    def _results(self, send: Send, reply: Reply) -> list[str | Exception]:
        status, maxsize, *too_long = reply
        if status != b"stored":
            raise ValueError("unknown status")
        results: list[str | Exception] = list(send.ids)
        for position in map(int, too_long):
            size = len(send.messages[position][0])
            results[position] = MessageTooLong(self._keys.qname, size, int(maxsize))
        return results


class Send(NamedTuple):
    """A script call for some messages, until it has succeeded or failed."""

    mode: str
    """"each" stores those that fit, "all" stores all or none."""
    messages: Sequence[NewMessage]
    on_results: OnResults[str]
    until: float
    ids: list[str]
    args: list[Argument]


def resolve_all(
    stored: asyncio.Future[list[str]], outcome: Sequence[str | Exception] | Exception
) -> None:
    """Set the outcome of messages that are stored together or not at all."""
    results = [outcome] if isinstance(outcome, Exception) else outcome
    error = next((result for result in results if isinstance(result, Exception)), None)
    resolve(stored, error or [id for id in results if isinstance(id, str)])


def _encode_delays(delays: Sequence[int | None]) -> str:
    """As `send.lua` takes them."""
    if delays.count(None) == len(delays):
        return ""
    return " ".join("-" if delay is None else str(delay) for delay in delays)
