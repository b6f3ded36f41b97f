"""What stands behind the synchronous objects: one event loop in each process, and asynchronous
objects in it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from ..errors import ClientClosed, WrongEventLoop
from ._thread import LoopThread

T = TypeVar("T")
S = TypeVar("S")

EXIT_TIMEOUT: Final = 20.0
"""Seconds for which the end of the program waits until all clients are closed. They need fewer,
unless user code blocks the event loop."""


class _Process:
    """This process's event loop."""

    def __init__(self) -> None:
        self.thread: LoopThread | None = None
        self.lock = threading.RLock()
        """Held while the thread starts."""
        self.is_ending = False
        self._finalizer: object = None

    def start(self) -> LoopThread:
        with self.lock:
            if self.is_ending:
                raise ClientClosed("the program is ending: all clients are closed")
            if self.thread is None or not self.thread.is_open:
                self.thread = LoopThread()
                self._end_with_multiprocessing()
            return self.thread

    def _end_with_multiprocessing(self) -> None:
        """Its children run no atexit functions, but these; after their own children have ended."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None and self._finalizer is None:
            self._finalizer = util.Finalize(None, self.end, exitpriority=-1)

    def end(self) -> None:
        with self.lock:
            self.is_ending = True
        if self.thread is not None and self.thread.is_open:
            self.thread.exit(EXIT_TIMEOUT)

    def forget(self) -> None:
        """After a fork: the thread, and perhaps a thread that held the lock, are not here."""
        self.lock = threading.RLock()
        self._finalizer = None
        if self.thread is not None:
            self.thread.disown(_other_process)
            _inherited.append(self.thread)
            self.thread = None


def _other_process() -> WrongEventLoop:
    return WrongEventLoop(
        "this message was received in another process: settle it there, or settle its receipt "
        "with queue.delete_message(message.receipt)"
    )


_process = _Process()
_inherited: Final[list[LoopThread]] = []
"""Never collected: closing them would disturb the parent process, which shares their files."""
atexit.register(_process.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)


def current_thread() -> LoopThread:
    """This process's thread; it starts if it is not running."""
    return _process.thread or _process.start()


def running_thread() -> LoopThread | None:
    return _process.thread


class Twin(Generic[T]):
    """The asynchronous object of a synchronous one. It is made in the event loop at the first call,
    and again after a fork.

    Args:
        model: such an object that is never used, made before to check the arguments.
        make: makes one in the event loop of a thread.
    """

    def __init__(self, model: T, make: Callable[[LoopThread], T]) -> None:
        self.model: T = model
        self._make = make
        self._object = model
        self._thread: LoopThread | None = None

    def child(self, make: Callable[[T], S]) -> Twin[S]:
        """The twin of what a method of this object returns."""
        return Twin(make(self.model), lambda thread: make(self.object_in(thread)))

    def run(self, method: Callable[[T], Coroutine[Any, Any, S]]) -> S:
        """Call a method of the object, and wait for its result."""
        thread = self._thread
        if thread is None or thread is not _process.thread:
            thread = self._renew()
        return thread.run(method(self._object))

    @property
    def object(self) -> T:
        """The object to look at, without a call: the model if this process has not used it."""
        return self.model if self._thread is not _process.thread else self._object

    def object_in(self, thread: LoopThread) -> T:
        """The object to use in the event loop of a thread."""
        if self._thread is not thread:
            self._object = self._make(thread)
            self._thread = thread
        return self._object

    def _renew(self) -> LoopThread:
        while True:
            thread = _process.start()
            try:
                thread.run(self._make_in(thread))
            except ClientClosed:
                if thread.is_open:
                    raise
            else:
                return thread

    async def _make_in(self, thread: LoopThread) -> None:
        try:
            self.object_in(thread)
        finally:
            thread.end_if_idle()
