"""Producers and consumers in processes of their own, on a queue of a set of servers; and their
verdict.
"""

import random
from itertools import pairwise
from pathlib import Path

import redis
from aiorsmq import AsyncRSMQ
from anyio import to_thread

from chaos.load import QNAME, Load, Program
from sets.cluster import Cluster
from sets.group import Group
from sets.sentinels import Sentinels

SENDERS = 20
PAUSE = 0.1
"""Seconds, on average, between two sends of a sender."""


class Primary:
    """What a load asks of its server: here, of the set's node that serves the queue now."""

    def __init__(self, group: Sentinels | Cluster, key: str) -> None:
        self._group = group
        self._key = key

    @property
    def url(self) -> str:
        return self._group.url

    @property
    def redis(self) -> redis.Redis:
        if isinstance(self._group, Cluster):
            return self._group.owner_of(self._key).redis
        return self._group.primary().redis


class SetLoad(Load):
    """A load on a set of servers."""

    def __init__(self, group: Group, folder: Path, chance: random.Random) -> None:
        self.ns = "{rsmq}" if isinstance(group, Cluster) else "rsmq"
        super().__init__(Primary(group, f"{self.ns}:{QNAME}"), folder, chance)

    async def create_queue(self, qname: str = QNAME) -> None:
        """Create it, without what the load before has left."""
        async with AsyncRSMQ.from_url(self.server.url, ns=self.ns) as rsmq:
            await rsmq.queue(qname).delete(missing_ok=True)
            await rsmq.queue(qname).create()

    def start_all(self, producers_url: str) -> Program:
        """Start the senders, and a consumer that is another client. Returns the former."""
        self.start("consumer", tasks=4, vt=2)
        return self.start("producer", url=producers_url, tasks=SENDERS, pause=PAUSE)

    async def nothing_is_left(self) -> None:
        """The servers have connections to each other: they are not looked at."""

    def longest_gap(self, op: str) -> float:
        """The most seconds between two times at which a program said it."""
        moments = sorted(one["ms"] for one in self.operations() if one["op"] == op)
        gaps = [after - before for before, after in pairwise(moments)]
        return max(gaps, default=0) / 1000


async def in_thread(function, *args):
    return await to_thread.run_sync(function, *args)
