"""The tasks that outlive the call that started them: the client owns them, and waits for them when
it closes.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakMethod

import anyio

from ..errors import ClientClosed, WrongEventLoop

T = TypeVar("T")

SLACK: Final = 0.05
"""Seconds after its deadline in which a call itself may say why it did not keep it."""
NOT_SENT: Final = "the call waited behind others until its deadline, and was not sent"
NO_REPLY: Final = "no reply until the deadline: it is not known whether the call was executed"


def resolve(future: "asyncio.Future[T]", outcome: T | Exception) -> None:
    """Give a future its result or its exception, unless its caller has stopped waiting."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


async def ended(future: "asyncio.Future[Any]") -> None:
    """Wait until it is done. Cancelling leaves it alone; a fraction of what `asyncio.wait`
    costs.
    """
    waiter: asyncio.Future[object] = asyncio.Future(loop=future.get_loop())
    wake = partial(resolve, waiter)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)


def call_if_alive(method: WeakMethod[Callable[[], None]]) -> None:
    """Call a method, for a timer that is not to keep its object."""
    if (call := method()) is not None:
        call()


class Tasks:
    """A set of running tasks. Not a task group: a client is entered and left wherever its user
    likes.

    It belongs to the event loop and the process that it is first used in, and says so when used in
    another.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._due: list[Callable[[], None]] = []
        self._due_is_planned = False
        self.several_are_due: bool = False
        """While `soon` is being kept: whether it was asked for more than once."""
        self.closing: bool = False
        """Set by the client when it closes: nothing new is taken on."""

    @property
    def used(self) -> bool:
        return self._loop is not None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, which is this one; else WrongEventLoop is raised."""
        here = asyncio.get_running_loop()
        if here is not self._loop:
            self._settle_in(here)
        return here

    def admit(self) -> asyncio.AbstractEventLoop:
        """The event loop, for a caller of the client; who is turned away once it closes."""
        if self.closing:
            raise ClientClosed
        here = asyncio.get_running_loop()  # not by way of `loop()`: it is asked for each message
        if here is not self._loop:
            self._settle_in(here)
        return here

    def _settle_in(self, here: asyncio.AbstractEventLoop) -> None:
        if self._loop is None:
            self._loop, self._pid = here, os.getpid()
        elif self._pid != os.getpid():
            raise WrongEventLoop(
                "this AsyncRSMQ belongs to another process: make a new one after a fork"
            )
        else:
            raise WrongEventLoop("this AsyncRSMQ belongs to another event loop: make one in each")

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it when those that are about to run in this turn of the event loop have run."""
        self._due.append(callback)
        self.plan_due()

    def has_due(self) -> bool:
        """Whether something that was passed to `soon` has not been called yet."""
        return bool(self._due)

    def plan_due(self) -> None:
        """Have what is passed to `soon` from now on called no later than if it were passed now.

        After a reply: whoever it wakes will want something; what they want goes out together, and
        in the same turn of the event loop.
        """
        if not self._due_is_planned:
            self._due_is_planned = True
            self.loop().call_soon(self._call_due)

    def _call_due(self) -> None:
        self._due_is_planned = False
        due, self._due = self._due, []
        self.several_are_due = len(due) > 1
        for callback in due:
            callback()
        self.several_are_due = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait until all have ended by themselves; cancel those that have not after `seconds`."""
        with anyio.move_on_after(seconds):
            while self._running:
                await asyncio.wait(self._running)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
