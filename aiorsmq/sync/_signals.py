"""SIGTERM and SIGINT in programs in which nothing else handles them, while a worker works."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from ..worker import SECOND_SIGNAL

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class GraceSkipped(BaseException):
    """Raised by the second signal, in a call that waits: handlers get no more time."""


class _Block:
    """The block of a worker in the background."""

    def __init__(self, stop: Callable[[], None], leave: Callable[[], None]) -> None:
        self.stop = stop
        self.leave = leave


_blocks: list[_Block] = []


def _forget() -> None:
    _blocks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _is_free() -> bool:
    """Whether nothing but this module handles SIGTERM, which only the main thread may do."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, _die)


@contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Generator[None]:
    """Stop at the first SIGTERM or SIGINT, and interrupt the block at the second."""
    if not _is_free():
        yield
        return
    pid = os.getpid()
    stopped_at: float | None = None

    def on_signal(number: int, frame: object) -> None:
        nonlocal stopped_at
        if pid != os.getpid():  # a forked child
            _end_by(number)
        if stopped_at is None:
            stopped_at = time.monotonic()
            stop()
        else:
            _skip_grace(stopped_at, number, frame)

    previous = [signal.signal(number, on_signal) for number in _SIGNALS]
    try:
        yield
    except GraceSkipped:
        pass
    finally:
        for number, handler in zip(_SIGNALS, previous, strict=True):
            signal.signal(number, handler)


@contextmanager
def dying_gracefully(stop: Callable[[], None], leave: Callable[[], None]) -> Generator[None]:
    """At SIGTERM stop all blocks like this one, leave them, and then die of it."""
    if not _is_free():
        yield
        return
    block = _Block(stop, leave)
    _blocks.append(block)
    signal.signal(signal.SIGTERM, _die)
    try:
        yield
    finally:
        with suppress(ValueError):  # a forked child has none
            _blocks.remove(block)
        if not _blocks and signal.getsignal(signal.SIGTERM) is _die:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _die(number: int, _frame: object) -> None:
    signal.signal(number, partial(_skip_grace, time.monotonic()))
    for block in _blocks:
        block.stop()
    for block in reversed(_blocks):
        with suppress(GraceSkipped, Exception):
            block.leave()
    _end_by(number)


def _skip_grace(stopped_at: float, _number: int, _frame: object) -> None:
    """Skip it, unless this is the first signal arriving twice: GNU `timeout` signals its child and
    then the child's group."""
    if time.monotonic() >= stopped_at + SECOND_SIGNAL:
        raise GraceSkipped


def _end_by(number: int) -> None:
    """Do what a signal does that nothing handles."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    raise SystemExit(128 + number)  # the kernel ignores it in the first process of a container
