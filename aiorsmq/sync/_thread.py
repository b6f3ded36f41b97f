"""An event loop in a thread of its own, which runs coroutines for all other threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar, cast

from ..client import AsyncRSMQ
from ..errors import ClientClosed
from ..models import Message

T = TypeVar("T")

CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a cancelled worker, and then the thread, may take to end with the program."""


class _Call:
    """A coroutine, and the thread that waits for it."""

    __slots__ = ("context", "coroutine", "error", "lock", "result", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.context = copy_context()
        self.lock: LockType = allocate_lock()
        """Held until the coroutine has ended."""
        self.lock.acquire()
        self.task: asyncio.Task[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    async def run(self, running: set[_Call]) -> None:
        try:
            self.result = await self.coroutine
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self.error = error
        finally:
            running.discard(self)
            self.free()

    async def hand_back(self) -> None:
        """Return received messages to their queue, if nobody takes them."""
        result: object = self.result
        self.result = None
        results = cast("list[object]", result) if isinstance(result, list) else [result]
        for message in results:
            if isinstance(message, Message):
                with suppress(Exception):  # it returns when its lease ends
                    await message.release()

    def free(self) -> None:
        """Let its thread go on."""
        with suppress(RuntimeError):  # it does already
            self.lock.release()

    def refuse(self, error: BaseException) -> None:
        self.coroutine.close()
        self.error = error
        self.free()


class LoopThread:
    """Runs an event loop until its last client has closed."""

    def __init__(self) -> None:
        self._clients: set[AsyncRSMQ] = set()
        self._emptied = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None
        """Waits for the end."""
        self._is_exiting = False
        self._has_exited = threading.Event()
        self._calls: deque[_Call] = deque()
        """Submitted, and not yet begun."""
        self._running: set[_Call] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._is_woken = False
        """Whether the loop is about to begin them."""
        self._refusal: Callable[[], BaseException] | None = None
        """What is raised by calls that come too late."""
        self._loop = asyncio.new_event_loop()
        self._create_task: Callable[..., asyncio.Task[Any]] = self._loop.create_task
        if sys.version_info >= (3, 12):  # begins it at once: one turn of the loop less
            self._create_task = partial(asyncio.eager_task_factory, self._loop)
        self._thread = threading.Thread(target=self._run_loop, name="aiorsmq.sync", daemon=True)
        try:
            self._thread.start()
        except Exception:  # no more threads, or the program is ending
            self._loop.close()
            raise
        except BaseException:  # interrupted while it starts
            self.post(self.end_if_idle)
            raise

    @property
    def is_open(self) -> bool:
        return self._refusal is None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, and wait for its result.

        What interrupts the waiting, such as KeyboardInterrupt, cancels the coroutine, waits until
        it has ended, and propagates.
        """
        if threading.get_ident() == self._thread.ident:
            coroutine.close()
            raise RuntimeError(
                "this call would wait for itself: it was made in the event loop of aiorsmq.sync, "
                "which runs codecs, backoff, on_error and on_event; in coroutines use AsyncRSMQ"
            )
        call = _Call(coroutine)
        try:
            self._calls.append(call)
            if not self._is_woken or self._refusal is not None:
                self._wake()
            call.lock.acquire()
        except BaseException:
            self._abandon(call)
            raise
        if call.error is not None:
            self._raise(call)
        return cast("T", call.result)

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Call something soon in the event loop, from any thread or signal handler."""
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(callback, *args)

    def _wake(self) -> None:
        self._is_woken = True
        if self._refusal is None:
            self.post(self._begin)
        if self._refusal is not None:  # perhaps since then
            self._refuse()

    def _begin(self) -> None:
        """Start a task for each submitted call."""
        self._is_woken = False
        while self._calls and self._refusal is None:
            call = self._calls.popleft()
            self._running.add(call)
            call.task = self._create_task(call.run(self._running), context=call.context)

    def _refuse(self) -> None:
        """Fail calls that come too late, in whichever thread notices them first."""
        while self._refusal is not None:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            call.refuse(self._refusal())

    def _raise(self, call: _Call) -> None:
        error = call.error
        try:
            if isinstance(error, asyncio.CancelledError) and self._refusal is not None:
                raise self._refusal() from None
            if error is not None:
                raise error
        finally:
            del error, call.error  # breaks the reference cycle with the traceback

    def _abandon(self, call: _Call) -> None:
        """Cancel a call whose thread was interrupted, and wait until it has ended."""
        try:
            self.post(self._cancel, call)
            while self._thread.is_alive() and not call.lock.acquire(timeout=1):
                pass
        except BaseException:
            self.post(self._cancel, call)  # a worker skips its grace
            raise

    def _cancel(self, call: _Call) -> None:
        self._begin()  # its thread may have been interrupted before it woke the loop
        if call in self._running:
            self._cancel_task(call)
        elif call.task is None:
            call.refuse(asyncio.CancelledError())
        else:
            call.task = self._loop.create_task(call.hand_back())
            call.free()

    def _cancel_task(self, call: _Call) -> None:
        if call.task is not None:
            call.task.add_done_callback(lambda _: self._drop(call))
            call.task.cancel()

    def _drop(self, call: _Call) -> None:
        """Refuse a call whose task was cancelled before it began."""
        if call in self._running:
            self._running.discard(call)
            call.refuse(asyncio.CancelledError())

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._wait_for_end())
            except BaseException as error:  # noqa: BLE001 - as SystemExit of a worker's handler
                failure = error
                self._refusal = lambda: failure
        for call in list(self._running):
            self._drop(call)
        self._refuse()
        self._has_exited.set()

    async def _wait_for_end(self) -> None:
        """Wait until there is no client, and no call is running."""
        self._waiting = asyncio.current_task()
        is_ending = False
        while not is_ending:
            await self._emptied.wait()
            self._emptied.clear()
            while not (self._clients or is_ending):
                running = asyncio.all_tasks() - {self._waiting}
                is_ending = self._is_exiting or not running
                if not is_ending:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        self._refusal = self._refusal or ClientClosed

    async def run_worker(self, work: Coroutine[Any, Any, None]) -> None:
        """Await a worker's work, which is cancelled at the end of the program: it hands back, and
        this returns as if the client had been closed."""
        task = asyncio.create_task(work)
        self._workers.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if self._refusal is not ClientClosed:
                raise
        finally:
            self._workers.discard(task)

    def add(self, client: AsyncRSMQ) -> None:
        """Keep a client, in the event loop, until it is closed."""
        self._clients.add(client)

    def end_if_idle(self) -> None:
        """End soon, if there is no client."""
        if not self._clients:
            self._emptied.set()

    async def aclose(self, client: AsyncRSMQ) -> bool:
        """Close a client. Returns whether the thread ends now, because nothing else is left."""
        await client.aclose()
        self._clients.discard(client)
        self.end_if_idle()
        if self._clients:
            return False
        is_last = asyncio.all_tasks() <= {self._waiting, asyncio.current_task()}
        if is_last:
            self._refusal = ClientClosed
        return is_last

    def drop(self, client: AsyncRSMQ) -> None:
        """Close a client that nobody can use any more."""
        self.post(self._start, partial(self.aclose, client))

    def join(self) -> None:
        self._thread.join()

    def exit(self, timeout: float) -> None:
        """At the end of the program: cancel all workers and close all clients; give up after some
        seconds."""
        self.post(self._start, self._exit)
        if self._has_exited.wait(timeout):
            self._thread.join(CANCEL_TIMEOUT)  # not for handlers that go on in threads

    def _start(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._work = self._loop.create_task(function())

    async def _exit(self) -> None:
        self._refusal = ClientClosed
        self._refuse()
        for _ in range(2):  # the second time, they skip their grace
            for worker in self._workers:
                worker.cancel()
            if self._workers:
                await asyncio.wait(self._workers, timeout=CANCEL_TIMEOUT)
        await asyncio.gather(*map(self.aclose, self._clients), return_exceptions=True)
        self._is_exiting = True
        self._clients.clear()
        self._emptied.set()
        self._has_exited.set()

    def disown(self, refusal: Callable[[], Exception]) -> None:
        """Take no more calls: in this process, after a fork, there is no such thread."""
        self._refusal = refusal
