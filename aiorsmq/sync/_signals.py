"""SIGTERM and SIGINT in programs in which nothing else handles them, while a worker works."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final

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
    is_stopping = False

    def on_signal(number: int, _frame: object) -> None:
        nonlocal is_stopping
        if pid != os.getpid():  # a forked child
            _end_by(number)
        if is_stopping:
            raise GraceSkipped
        is_stopping = True
        stop()

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
    signal.signal(number, _skip_grace)
    for block in _blocks:
        block.stop()
    for block in reversed(_blocks):
        with suppress(GraceSkipped, Exception):
            block.leave()
    _end_by(number)


def _skip_grace(_number: int, _frame: object) -> None:
    raise GraceSkipped


def _end_by(number: int) -> None:
    """Do what a signal does that nothing handles."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    raise SystemExit(128 + number)  # the kernel ignores it in the first process of a container
