"""All sentinels of a service: asks them at once, and listens to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError

from ..errors import ClientClosed
from .failover import Address, Primary, View
from .failures import LOGIN_REFUSED, SERVER_ERRORS
from .futures import retrieve_error
from .home import Home
from .sentinels import HOLD_EVENT, RELEASE_EVENTS, Sentinel
from .tasks import Tasks

ASK_TIMEOUT: Final = 1.0
"""Seconds for which the answers of all sentinels are waited for; longer only for a first one."""

Answer = View | Exception | None
"""None: the sentinel knows of no such service."""


class Quorum:
    """Knows the primary, from its creation to `aclose`.

    Args:
        on_moved: see `Primary`.
    """

    def __init__(
        self,
        sentinels: Sequence[Sentinel],
        service: str,
        home: Home,
        on_moved: Callable[[], None],
    ) -> None:
        self._sentinels = sentinels
        self._service = service
        self.primary: Primary = Primary(home, len(sentinels), on_moved)
        self._tasks = Tasks(home)
        self._asking: asyncio.Task[None] | None = None
        self._is_closed = False
        for sentinel in sentinels:
            self._tasks.start(sentinel.watch(self._tasks, partial(self._on_event, sentinel)))

    async def aclose(self) -> None:
        """End everything that the set has started."""
        self._is_closed = True
        for sentinel in self._sentinels:
            sentinel.is_closed = True
        await self._tasks.finish(0)

    def _on_event(self, sentinel: Sentinel, event: bytes) -> None:
        if self._is_closed:
            return
        if event == HOLD_EVENT:
            self.primary.hold()
        elif event in RELEASE_EVENTS:
            self.primary.release()
        else:  # what the event itself says may be old: the sentinel may have hung since
            self._tasks.start(self._ask(sentinel))

    async def find(self) -> Address:
        """Ask all sentinels for the primary; several callers at once share one round.

        Raises redis-py's errors if none knows it.
        """
        await asyncio.shield(self.look())
        return self.primary.require_address()

    def look(self) -> asyncio.Task[None]:
        """`find`, without waiting for it. Raises ClientClosed after `aclose`."""
        if self._is_closed:
            raise ClientClosed
        if self._asking is None or self._asking.done():
            self._asking = self._tasks.start(self._ask_all())
            self._asking.add_done_callback(retrieve_error)
        return self._asking

    async def _ask_all(self) -> None:
        questions = [self._tasks.start(self._ask(sentinel)) for sentinel in self._sentinels]
        _, pending = await asyncio.wait(questions, timeout=ASK_TIMEOUT)
        while pending and not any(task.done() and is_view(task.result()) for task in questions):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answers: dict[str, Answer] = {}
        for sentinel, task in zip(self._sentinels, questions, strict=True):
            if task.done():
                answers[sentinel.address] = task.result()
            else:
                task.cancel()
                self.primary.forget(sentinel.address)
        if not any(map(is_view, answers.values())):
            raise self._no_primary(answers)

    async def _ask(self, sentinel: Sentinel) -> Answer:
        """Ask one sentinel, and remember what it says."""
        try:
            view = await sentinel.ask(self._tasks)
        except SERVER_ERRORS as error:
            self.primary.forget(sentinel.address)
            return error
        if view is None:
            self.primary.forget(sentinel.address)
        else:
            self.primary.learn(sentinel.address, view)
        return view

    def _no_primary(self, answers: dict[str, Answer]) -> Exception:
        """What `find` raises if no sentinel knows the primary."""
        for place, error in answers.items():
            if isinstance(error, LOGIN_REFUSED):
                return type(error)(f"sentinel {place} refuses this client: {error}")
        reasons = "; ".join(f"{place}: {error}" for place, error in answers.items() if error)
        if ignorant := [place for place, answer in answers.items() if answer is None]:
            reasons = reasons and f" ({reasons})"
            text = f"no primary named {self._service!r} at sentinel {','.join(ignorant)}{reasons}"
            return MasterNotFoundError(text)
        return ConnectionError(f"no sentinel answers: {reasons}")


def is_view(answer: Answer) -> bool:
    return isinstance(answer, View)
