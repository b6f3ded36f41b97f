"""What an RSMQ connects with."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..client import AsyncRSMQ
from ..embedded import EmbeddedServer
from ..errors import ClientClosed, EmbeddedServerError
from ._thread import LoopThread
from ._twin import running_thread


class Connection:
    """What an RSMQ connects with: a client in each process that uses it."""

    def __init__(self, connect: Callable[[str], AsyncRSMQ], url: str) -> None:
        self._connect = connect
        self._url = url
        self._pid = os.getpid()
        self._server: EmbeddedServer | None = None
        """The embedded server of this process, or of the parent that used it before a fork."""
        self._client: AsyncRSMQ | None = None
        self._thread: LoopThread | None = None
        """Of the client."""
        self._is_closed = False
        self.model: AsyncRSMQ = connect(url)

    def make(self, thread: LoopThread) -> AsyncRSMQ:
        if self._is_closed:
            raise ClientClosed
        client = self._connect(self._url_here())
        self._server = client.embedded_server or self._server
        self._client = client
        self._thread = thread
        thread.add(client)
        return client

    def _url_here(self) -> str:
        """The URL; for a child of the process that started an embedded server, that server's."""
        if self.model.embedded_server is None or self._pid == os.getpid():
            return self._url
        if self._server is None or not Path(self._server.socket).exists():
            raise EmbeddedServerError(
                "an embedded:// server belongs to the process that used it first, and this process "
                "was forked before that, or the server has stopped: set REDIS_URL to a redis:// "
                "server, or start an EmbeddedServer before the fork and connect to its url"
            )
        return self._server.url

    def close(self) -> None:
        self._is_closed = True
        thread = running_thread()
        if thread is not None:
            with suppress(ClientClosed):  # it is
                if thread.run(self._aclose(thread)):
                    thread.join()

    async def _aclose(self, thread: LoopThread) -> bool:
        if self._client is None or self._thread is not thread:
            return False
        return await thread.aclose(self._client)

    def __del__(self) -> None:
        thread = self._thread
        if thread is None or self._client is None or self._is_closed or not thread.is_open:
            return
        warnings.warn(f"unclosed {self._client!r}", ResourceWarning, source=self, stacklevel=2)
        thread.drop(self._client)
