"""Messages are sent, and their arrival on replicas or on disk is confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from .._protocol import Keys
from .._server.batch import Batch, Gathering, OnResults
from .._server.call import Reply
from .._server.confirmed import ConfirmedLane, Unconfirmed
from .._server.node import Node
from .._server.wire import Argument
from ..errors import NotConfirmed
from ..models import Confirm, MaxWaiting
from .send import FIRST, HELD, REWRITE, NewMessage, Send, Sender, resolve_all

_Sent = str | list[str]
"""What a send returns: an id, or those of a `send_many`."""
_Repeat = Callable[[float], Awaitable[_Sent]]
"""Calls the script again, until a deadline."""


class ConfirmedSender(Sender):
    """Sends to one queue, and waits for a confirmation.

    What is not confirmed can be retried:

    - On the connection that stored it, the server is asked again. It answers for all writes of that
      connection, so nothing needs to be written, whatever has become of the message.
    - If that connection is lost, or the server refuses to tell, that server may be another one, or
      a replica that was sent other data in between. It knows nothing of that write.
      The script is called again: it stores what it does not find, and writes in any case.
    """

    retry_mark = REWRITE

    def __init__(self, node: Node, keys: Keys, limits: MaxWaiting, confirm: Confirm) -> None:
        super().__init__(node, keys, limits, Gathering())
        self.confirm = confirm
        self._confirm = confirm
        self._recounts: Batch[ConfirmedLane | None, int | None] = Batch(
            self._recount, node, Gathering()
        )
        self._repeats: Batch[tuple[str, NewMessage], str] = Batch(
            self._submit_again, node, Gathering()
        )

    def _submit(
        self,
        mode: str,
        messages: Sequence[NewMessage],
        on_results: OnResults[str],
        until: float,
        mark: Argument = FIRST,
    ) -> None:
        """The lane may hold it back for as long as a replica does not answer. That makes the time
        in the ids no worse if it is the server's, as far as is known."""
        if mark == FIRST and self._node.clock.is_known:
            mark = HELD
        super()._submit(mode, messages, on_results, until, mark)

    def _on_stored(self, send: Send, all_keys: Sequence[str], reply: Reply | Exception) -> None:
        if isinstance(reply, list) and reply[:1] == [b"unwritten"]:
            # The messages are there, but what the server confirms is not about them.
            reply = Unconfirmed([b"stored", *reply[1:]], 0, None)
        if not isinstance(reply, Unconfirmed) or reply[0] != b"stored":
            super()._on_stored(send, all_keys, reply)
            return
        results = self._results(send, reply)
        ids = [result for result in results if isinstance(result, str)]
        if send.mode == "each":
            for position, result in enumerate(results):
                if isinstance(result, str):
                    repeat = partial(self._repeat, result, send.messages[position])
                    results[position] = self._error(result, reply.replicas, reply.lane, repeat)
            send.on_results(results)
        elif len(ids) == len(results):
            repeat = partial(self._repeat_all, send)
            send.on_results(self._error(ids, reply.replicas, reply.lane, repeat))
        else:
            send.on_results(results)

    def _error(
        self, sent: _Sent, count: int, lane: ConfirmedLane | None, repeat: _Repeat
    ) -> NotConfirmed:
        ids = [sent] if isinstance(sent, str) else sent
        required = self._confirm.replicas
        retry = partial(self._retry, sent, lane, repeat)
        return NotConfirmed(ids, count if required else 0, required, retry)

    async def _retry(self, sent: _Sent, lane: ConfirmedLane | None, repeat: _Repeat) -> _Sent:
        until = self._node.until()
        count = await self._node.result(self._recounts.submit(lane), until)
        if count is None:
            return await repeat(until)
        if count < self._confirm.goal:
            raise self._error(sent, count, lane, repeat)
        return sent

    def _recount(
        self,
        lanes: Sequence[ConfirmedLane | None],
        on_results: OnResults[int | None],
        _: float,
    ) -> None:
        """Ask for all that wait for the same lane; None for those whose lane is lost."""
        open_lanes = [lane for lane in lanes if lane is not None and not lane.lost]
        if not open_lanes:
            on_results([None] * len(lanes))
            return
        latest = open_lanes[-1]

        def on_count(count: int | Exception) -> None:
            found = None if isinstance(count, Exception) else count
            on_results([found if lane is latest else None for lane in lanes])

        latest.recount(self._confirm, on_count)

    async def _repeat(self, id: str, message: NewMessage, until: float) -> str:
        stored = self._repeats.submit((id, message), len(message[0]))
        return await self._node.result(stored, until)

    def _submit_again(
        self,
        stored: Sequence[tuple[str, NewMessage]],
        on_results: OnResults[str],
        until: float,
    ) -> None:
        """Messages of several script calls: what is missing is not known to be gone because another
        is there, which a time of 0 tells the script."""
        ids = [id for id, _ in stored]
        messages = [message for _, message in stored]
        args = self._args(self.retry_mark, "each", 0, ids, messages)
        self._store(Send("each", messages, on_results, until, ids, args), self._keys.pair)

    async def _repeat_all(self, send: Send, until: float) -> list[str]:
        stored: asyncio.Future[list[str]] = self._node.home.admit().create_future()
        send.args[0] = self.retry_mark
        on_results = partial(resolve_all, stored)
        self._store(send._replace(on_results=on_results, until=until), self._keys.pair)
        return await self._node.result(stored, until)
