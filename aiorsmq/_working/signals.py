"""SIGTERM and SIGINT, for programs in which nothing else handles them.

The handlers are installed by `signal.signal`, not by the event loop: what is installed later can
then be told from them, and a forked child does not write to its parent's loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from .._server.home import running_loop


@dataclass(eq=False)
class _Watch:
    """A worker that stops at signals."""

    loop: asyncio.AbstractEventLoop
    on_signal: Callable[[], None]
    numbers: tuple[signal.Signals, ...]
    is_fatal: bool
    """Whether SIGTERM ends the program after it."""
    received: set[int] = field(default_factory=set[int])
    """The signals that have come."""
    is_dying: bool = False
    """Whether SIGTERM has come, and ends the program."""


_watches: list[_Watch] = []
_previous_handlers: dict[int, Any] = {}

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_watches.clear)


@contextmanager
def handle_signals(on_signal: Callable[[], None]) -> Generator[None]:
    """Call `on_signal` at each SIGTERM and SIGINT, unless another part of the program handles
    SIGTERM: a web server does, and stops what runs in it itself."""
    with _watch(on_signal, signal.SIGTERM, signal.SIGINT, is_fatal=False):
        yield


@contextmanager
def die_gracefully(on_signal: Callable[[], None]) -> Generator[None]:
    """Call `on_signal` at each SIGTERM, unless another part of the program handles it, and then die
    of it: at the end of this block, and of all others like it."""
    with _watch(on_signal, signal.SIGTERM, is_fatal=True):
        yield


@contextmanager
def _watch(
    on_signal: Callable[[], None], *numbers: signal.Signals, is_fatal: bool
) -> Generator[None]:
    is_main_thread = threading.current_thread() is threading.main_thread()
    if not is_main_thread or signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _on_signal):
        yield
        return
    watch = _Watch(running_loop(), on_signal, numbers, is_fatal)
    _watches[:] = [earlier for earlier in _watches if not earlier.loop.is_closed()]
    watch.is_dying = any(earlier.is_dying for earlier in _watches)
    if any(not earlier.received.isdisjoint(numbers) for earlier in _watches):
        watch.loop.call_soon(on_signal)  # the program is stopping, and waits for all its workers
    _watches.append(watch)
    for number in numbers:
        if (handler := signal.getsignal(number)) is not _on_signal:
            _previous_handlers[number] = handler
            signal.signal(number, _on_signal)
    try:
        yield
    finally:
        if watch in _watches:  # not in a forked child
            _watches.remove(watch)
        for number in numbers:
            if not any(number in remaining.numbers for remaining in _watches):
                _restore(number)
        if watch.is_dying and not any(remaining.is_dying for remaining in _watches):
            _die(signal.SIGTERM)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    watches = [
        watch for watch in _watches if number in watch.numbers and not watch.loop.is_closed()
    ]
    if not watches:  # a forked child, or another part of the program has put this handler back
        _die(number)
        return
    is_fatal = number == signal.SIGTERM and all(watch.is_fatal for watch in watches)
    for watch in watches:
        watch.is_dying |= is_fatal
        watch.received.add(number)
        watch.loop.call_soon_threadsafe(watch.on_signal)


def _restore(number: int) -> None:
    """Give a signal its former handler, unless another part of the program has given it one."""
    if signal.getsignal(number) is _on_signal:
        signal.signal(number, _previous_handlers[number])


def _die(number: int) -> None:
    """Do what the signal would have done without us."""
    _restore(number)
    is_default = signal.getsignal(number) is signal.SIG_DFL
    signal.raise_signal(number)
    if is_default:  # the kernel ignores it in the first process of a container
        raise SystemExit(128 + number)
