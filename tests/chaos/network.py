"""The network between clients and a server, and what can go wrong with it."""

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from support import wait_until


class Link(NamedTuple):
    """A client's connection, and the one to the server behind it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self):
        for end in self:
            end.transport.abort()


class Proxy:
    """Stands between clients and a server, and does to what they say what it is told; several
    things at once, too.

    Args:
        server: where the server listens: a unix socket's path or a port.
        listen_at: likewise, for the clients.
        chance: decides what happens by chance.
        options: those of `asyncio.start_server`.
    """

    def __init__(
        self,
        server: str | int,
        listen_at: str | int,
        *,
        chance: random.Random | None = None,
        **options: Any,
    ) -> None:
        self._server = server
        self.listen_at = listen_at
        self._chance = chance or random.Random(0)
        self._options = options
        self.url = (
            f"redis://localhost:{listen_at}"
            if isinstance(listen_at, int)
            else f"unix://{listen_at}"
        )
        self.cut_after_execution = 0
        """How many replies are to be cut: the server has executed, the connection is closed instead
        of answering.
        """
        self.cut_before_execution = 0
        """How many requests are to be cut: the server hears nothing of them, and the connection is
        closed.
        """
        self.before_cut = None
        """Awaited before a connection is cut: what others do until the call is repeated."""
        self.cut_share = 0.0
        """How large a share of the replies is to be cut, each anywhere from its first byte on."""
        self.cuts = 0
        """How many replies have been cut."""
        self.late_share = 0.0
        """How large a share of the requests is late: their connection is closed, and they arrive by
        themselves.
        """
        self.late_by = (0.0, 1.0)
        """How many seconds late: the least and the most."""
        self.late = 0
        """How many requests have been late."""
        self.latency = None
        """Seconds on the way for each reply: the least and the most. Replies keep their order, and
        do not wait for each other otherwise.
        """
        self.silent = False
        """Whether connections on which the server says something fall silent, and stay open."""
        self.deaf = False
        """Whether connections on which a client says something lose what clients say, and stay
        open.
        """
        self.delay = 0.0
        """Seconds by which each piece may be late."""
        self.fragment = 0
        """The most bytes that are passed on at once; 0 for no limit."""
        self.rate = 0
        """Bytes a second that pass towards the clients; 0 for no limit."""
        self.unknown: dict[bytes, bytes] = {}
        """Commands that the server is not to hear, and what the proxy replies; with nothing to
        reply it closes.
        """
        self._links: set[Link] = set()
        self._forgotten: set[Link] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def listen(self):
        """Take connections, again after `refuse`."""
        if isinstance(self.listen_at, int):
            self._listening = await asyncio.start_server(
                self._serve, "localhost", self.listen_at, **self._options
            )
        else:
            self._listening = await asyncio.start_unix_server(self._serve, self.listen_at)

    async def refuse(self):
        """Close all connections, and refuse new ones."""
        self._listening.close()
        self.close_connections()
        await wait_until(lambda: not self._links)

    def close_connections(self):
        for link in self._links:
            link.abort()

    def half_close(self, *, replies: bool):
        """End one direction of each connection that is open: the replies, or what the clients
        say.
        """
        for link in self._links:
            end = link.client if replies else link.server
            end.write_eof()
            self._forgotten.add(link)

    @asynccontextmanager
    async def black_hole(self, *, forget: bool):
        """Nothing passes and nothing is closed, new connections included.

        What was sent during that time arrives afterwards, late, as when TCP repeats it; or with
        `forget` never, and nothing else either on connections of this time, as behind a router that
        has forgotten them.
        """
        self._passing.clear()
        yield
        if forget:
            self._forgotten |= self._links
        self._passing.set()

    @property
    def connections(self) -> int:
        """How many are open, through to the server."""
        return len(self._links)

    async def __aenter__(self):
        await self.listen()
        return self

    async def __aexit__(self, *_):
        self._passing.set()
        await self.refuse()
        await self.all_have_arrived()

    async def all_have_arrived(self):
        """Wait for the requests that are late."""
        if self._arriving:
            await asyncio.wait(self._arriving)

    async def _serve(self, reader, writer):
        try:
            server_reader, server_writer = await self._connect()
        except OSError:  # the server is away
            writer.transport.abort()
            return
        link = Link(writer, server_writer)
        self._links.add(link)
        copies = [
            asyncio.ensure_future(self._copy(link, reader, server_writer, is_reply=False)),
            asyncio.ensure_future(self._copy(link, server_reader, writer, is_reply=True)),
        ]
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        for copy in copies:
            copy.cancel()
        await asyncio.wait(copies)
        link.abort()
        self._links.discard(link)
        self._forgotten.discard(link)

    async def _connect(self):
        if isinstance(self._server, int):
            return await asyncio.open_connection("localhost", self._server)
        return await asyncio.open_unix_connection(self._server)

    async def _copy(self, link, reader, writer, *, is_reply):
        lost, due = False, 0.0
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._passing.wait()
                lost = lost or (
                    self.silent if is_reply else self.deaf
                )  # for good: no stream has a gap in its middle
                if lost or link in self._forgotten:
                    continue
                if is_reply and (kept := self._cut(data)) is not None:
                    if self.before_cut is not None:
                        await self.before_cut()
                    writer.write(kept)
                    await writer.drain()
                    return
                if not is_reply and b"EVAL" in data and await self._is_taken(data):
                    return
                if is_reply and (self.latency or self.rate):
                    due = await self._slow_down(data, writer, due)
                    continue
                if not is_reply and (command := self._find_unknown(data)):
                    if not self.unknown[command]:
                        return
                    link.client.write(self.unknown[command] * data.count(b"\r\n%b\r\n" % command))
                    continue
                await self._pass_on(data, writer)

    def _find_unknown(self, data):
        return next((command for command in self.unknown if b"\r\n%b\r\n" % command in data), None)

    async def _slow_down(self, data, writer, due):
        """Returns when it is passed on, by the event loop's clock; `due`: when the last was."""
        if self.latency is None:
            await self._trickle(data, writer)
            return due
        loop = asyncio.get_running_loop()
        due = max(
            due + 1e-5, loop.time() + self._chance.uniform(*self.latency)
        )  # no two at once: in order
        loop.call_at(due, writer.write, data)
        return due

    async def _is_taken(self, data):
        """Whether a request is not passed on here, but the connection is closed: it arrives late,
        or never.
        """
        if self.cut_before_execution:
            self.cut_before_execution -= 1
            if self.before_cut is not None:
                await self.before_cut()
            return True
        if not self.late_share or self._chance.random() >= self.late_share:
            return False
        self.late += 1
        arriving = asyncio.ensure_future(self._arrive(data, self._chance.uniform(*self.late_by)))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)
        return True

    async def _arrive(self, data, seconds):
        await asyncio.sleep(seconds)
        with suppress(OSError):
            reader, writer = await self._connect()
            writer.write(data)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(65536), 0.1)
            writer.transport.abort()

    def _cut(self, data):
        """What is left of a reply that is to be cut; None for one that is not."""
        if b"OK" in data[:4]:  # the handshake's
            return None
        if self.cut_after_execution:
            self.cut_after_execution -= 1
            kept = 0
        elif self._chance.random() < self.cut_share:
            kept = self._chance.randrange(len(data))
        else:
            return None
        self.cuts += 1
        return data[:kept]

    async def _trickle(self, data, writer):
        """Pass it on in small pieces, and go on at full speed when there is no rate any more."""
        while data and (rate := self.rate):
            size = max(1, rate // 50)
            await self._pass_on(data[:size], writer)
            await asyncio.sleep(size / rate)
            data = data[size:]
        await self._pass_on(data, writer)

    async def _pass_on(self, data, writer):
        while data:
            size = self._chance.randint(1, self.fragment) if self.fragment else len(data)
            if self.delay:
                await asyncio.sleep(self._chance.uniform(0, self.delay))
            writer.write(data[:size])
            await writer.drain()
            await asyncio.sleep(0)
            data = data[size:]
