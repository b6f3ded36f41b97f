"""SIGTERM and SIGINT, for programs in which nobody else handles them."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_heeding: list[Callable[[], None]] = []
"""What is called at each signal: several workers may run in one program."""
_previous: list[Any] = []


@contextmanager
def heed_signals(on_signal: Callable[[], None]) -> Generator[None]:
    """Call `on_signal` at each SIGTERM and SIGINT, unless another part of the program handles
    SIGTERM.

    A web server does; then it is the one who stops what runs in it.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not (_heeding or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        yield
        return
    loop = asyncio.get_running_loop()
    if not _heeding:
        _previous[:] = map(signal.getsignal, _SIGNALS)
        for number in _SIGNALS:
            loop.add_signal_handler(number, _call_all)
    _heeding.append(on_signal)
    try:
        yield
    finally:
        _heeding.remove(on_signal)
        if not _heeding:
            for number, handler in zip(_SIGNALS, _previous, strict=True):
                loop.remove_signal_handler(number)
                signal.signal(number, handler)


def _call_all() -> None:
    for on_signal in _heeding:
        on_signal()
