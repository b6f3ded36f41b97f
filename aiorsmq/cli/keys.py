"""The keyboard of a terminal, key by key."""

import asyncio
import codecs
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

if sys.platform != "win32":
    import termios
    import tty

ESCAPE_TIMEOUT: Final = 0.05
"""Seconds after which an Esc is the key, and not the beginning of another key's code."""

_CODES: Final = {
    "esc": ("\x1b",),
    "enter": ("\r", "\n"),
    "backspace": ("\x7f", "\b"),
    "clear": ("\x15",),  # Ctrl-U
    "up": ("\x1b[A", "\x1bOA"),
    "down": ("\x1b[B", "\x1bOB"),
    "page up": ("\x1b[5~",),
    "page down": ("\x1b[6~",),
    "home": ("\x1b[H", "\x1bOH", "\x1b[1~"),
    "end": ("\x1b[F", "\x1bOF", "\x1b[4~"),
}
_NAME_OF: Final = {code: name for name, codes in _CODES.items() for code in codes}
_KEY: Final = re.compile(r"\x1b\[[0-9;?]*[@-~]|\x1bO.|[^\x1b]|\x1b(?!\[|O|$)", re.DOTALL)
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;?]*|O)?")


class Decoder:
    """Makes keys of what a terminal sends: a character, or a name as "enter" or "page up"."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""

    def feed(self, data: bytes) -> list[str]:
        self._text += self._decode(data)
        keys: list[str] = []
        while self._text and not self.is_unfinished:
            match = _KEY.match(self._text)
            length = match.end() if match else 1
            keys.append(self._text[:length])
            self._text = self._text[length:]
        return _names(keys)

    @property
    def is_unfinished(self) -> bool:
        return _UNFINISHED.fullmatch(self._text) is not None

    def flush(self) -> list[str]:
        """The key that is unfinished, as it is."""
        text, self._text = self._text, ""  # a pair
        return _names([text]) if text else []


def _names(keys: list[str]) -> list[str]:
    named = [_NAME_OF.get(key, key) for key in keys]
    return [name for name in named if len(name) > 1 or name.isprintable()]


@contextmanager
def keyboard(on_key: Callable[[str], None], on_end: Callable[[], None]) -> Generator[None]:
    """Call `on_key` with each key while the block runs, in the event loop; `on_end` when the
    terminal is gone. Does nothing if stdin is no terminal, and on Windows.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    terminal = sys.stdin.fileno()
    decoder = Decoder()

    def send(keys: list[str]) -> None:
        for key in keys:
            on_key(key)

    def flush() -> None:
        send(decoder.flush())

    def read() -> None:
        nonlocal timer
        if timer:
            timer.cancel()
        try:
            data = os.read(terminal, 4096)
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(terminal)
            on_end()
        send(decoder.feed(data))
        timer = loop.call_later(ESCAPE_TIMEOUT, flush) if decoder.is_unfinished else None

    timer: asyncio.TimerHandle | None = None
    with cbreak(terminal):
        loop.add_reader(terminal, read)
        try:
            yield
        finally:
            loop.remove_reader(terminal)
            if timer:
                timer.cancel()


@contextmanager
def cbreak(terminal: int) -> Generator[None]:
    """Have the terminal send each key at once and show none, for the block. Ctrl-C still
    interrupts; Ctrl-Z does nothing, so that the shell never gets a terminal in this state.
    """
    if sys.platform == "win32":
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        attributes = termios.tcgetattr(terminal)
        attributes[6][termios.VSUSP] = bytes([os.fpathconf(terminal, "PC_VDISABLE")])
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
