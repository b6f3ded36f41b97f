"""SIGTERM and SIGINT, for programs in which nothing else handles them."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_callbacks: list[Callable[[], None]] = []
"""Of all workers in the program: each is called at each signal."""
_previous_handlers: list[Any] = []


@contextmanager
def handle_signals(on_signal: Callable[[], None]) -> Generator[None]:
    """Call `on_signal` at each SIGTERM and SIGINT, unless another part of the program handles
    SIGTERM: a web server does, and stops what runs in it itself."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    is_free = bool(_callbacks) or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_main_thread or not is_free:
        yield
        return
    loop = asyncio.get_running_loop()
    if not _callbacks:
        _previous_handlers[:] = map(signal.getsignal, _SIGNALS)
        for number in _SIGNALS:
            loop.add_signal_handler(number, _call_all)
    _callbacks.append(on_signal)
    try:
        yield
    finally:
        _callbacks.remove(on_signal)
        if not _callbacks:
            for number, handler in zip(_SIGNALS, _previous_handlers, strict=True):
                loop.remove_signal_handler(number)
                signal.signal(number, handler)


def _call_all() -> None:
    for on_signal in _callbacks:
        on_signal()
