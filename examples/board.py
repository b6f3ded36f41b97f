"""The state of the jobs, and the browsers that watch it. Used by all web apps.

It is kept in the memory of one process. An app with several processes would keep it in Redis or in
its database.
"""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

Job = dict[str, Any]


class Board:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._watchers: set[MemoryObjectSendStream[Job]] = set()

    def put(self, job: Job) -> None:
        self.jobs[job["id"]] = job
        if len(self.jobs) > 10_000:
            del self.jobs[next(iter(self.jobs))]
        for watcher in self._watchers:
            try:
                watcher.send_nowait(job)
            except (anyio.WouldBlock, anyio.ClosedResourceError):
                watcher.close()  # too slow: its browser reconnects and starts over

    async def watch(self) -> AsyncGenerator[Job, None]:
        """Yield the last jobs, then every change."""
        sender, changes = anyio.create_memory_object_stream[Job](1000)
        with sender, changes:
            self._watchers.add(sender)
            try:
                for job in list(self.jobs.values())[-100:]:
                    yield job
                async for job in changes:
                    yield job
            finally:
                self._watchers.discard(sender)
