"""What the kit needs of a client that no public name tells: only this module looks inside one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .._commands.advance import advance
from .._commands.receive import Claim, receive
from .._consuming.line import ConsumerLine
from .._protocol import Seconds
from .._server.futures import resolve
from .._server.urls import SetUrl, split_set_url
from ..client import AsyncRSMQ
from ..queue import Queue

T = TypeVar("T")

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false


def sentinel_url(url: str) -> SetUrl | None:
    """What a URL of sentinels says; None for other URLs."""
    return split_set_url(url)


async def advance_queue(queue: Queue[Any], duration: Seconds) -> int:
    return await advance(queue._core.node, queue._core.keys, duration)


async def is_paused(queue: Queue[Any]) -> bool:
    """Ask the server, by a claim of nothing."""
    node = queue._core.node
    future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()

    def on_claim(claim: Claim | Exception) -> None:
        resolve(future, claim)

    receive(node, queue._core.keys, None, 0, on_claim)
    return (await node.result(future, node.until())).is_paused


async def until_handed_back(queue: Queue[Any]) -> None:
    """Wait until nothing is in flight: what was claimed for nobody is back in the queue then."""
    await queue._core.node.engine.until_idle()


def run_on_twin(target: Any, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run a function of the kit on what stands behind an object of `aiorsmq.sync`."""
    return target._twin.run(work)


def queues_in_use(rsmq: AsyncRSMQ) -> list[str]:
    """The queues on which a worker, a stream or a waiting receive of the client is running."""
    return sorted(
        core.keys.qname
        for core in rsmq._cores.cores()
        if any(has_consumers(line) for line in core._lines.values())
    )


def has_consumers(line: ConsumerLine) -> bool:
    groups = (line._line, *line._claimed_for)
    return line.audience.observers > 0 or any(
        not waiter.is_done for group in groups for waiter in group
    )
