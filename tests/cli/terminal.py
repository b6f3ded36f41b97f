"""A program on a terminal of its own: keys are pressed, its screen is read."""

import asyncio
import fcntl
import os
import struct
import sys
import termios
from itertools import takewhile

import pyte

from support import PATIENCE, wait_until


class Terminal:
    """Runs `aiorsmq` with these arguments while the block runs."""

    def __init__(self, *arguments: str, url: str, columns: int = 140, lines: int = 30) -> None:
        self._arguments = arguments
        self._url = url
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.output = b""
        """All that the program has written."""

    async def __aenter__(self) -> "Terminal":
        self._master, self._slave = os.openpty()
        self._set_size()
        self._before = termios.tcgetattr(self._slave)
        hidden = ("RSMQ_", "COLUMNS", "LINES")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiorsmq", *self._arguments),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=plain | {"AIORSMQ_URL": self._url, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # for Ctrl-C and resizing
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        data = os.read(self._master, 65536)
        self.output += data
        self._stream.feed(data)

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self._screen.lines, self._screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def resize(self, *, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._set_size()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def rows(self) -> list[list[str]]:
        """The words of each line of the table, up to an empty line."""
        lines = iter(self.text.splitlines())
        for line in lines:
            if line.startswith("queue"):
                break
        return [line.split() for line in takewhile(bool, lines)]

    async def lists(self, *names: str) -> None:
        """Wait until the table has these queues in this order."""
        await self.meets(lambda: [row[0] for row in self.rows()] == list(names), names)

    async def shows(self, *texts: str) -> None:
        """Wait until all the texts are on the screen."""
        await self.meets(lambda: all(text in self.text for text in texts), texts)

    async def meets(self, condition, what: object = "") -> None:
        try:
            await wait_until(condition)
        except TimeoutError:
            raise AssertionError(f"never shown: {what}\n{self.text}") from None

    async def ends(self) -> int:
        """The program's exit code; the terminal is as before."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
        await wait_until(lambda: b"\x1b[?1049l" in self.output)  # it left the other screen
        assert self.output.rindex(b"\x1b[?25h") > self.output.rindex(b"\x1b[?25l")  # a cursor
        assert termios.tcgetattr(self._slave) == self._before
        return code
