"""The test kit for `aiorsmq.sync`: the same functions, without await."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, Unpack

from ..errors import InvalidParameterValue
from ..sync import RSMQ, Message, Queue, WorkerOptions
from ..sync.worker import adapt, adapt_options
from . import advancing, draining
from .contents import QueueContents
from .contents import queue_contents as async_contents
from .draining import LIMIT
from .inside import run_on_twin

T = TypeVar("T")

__all__ = ["advance", "drain", "queue_contents"]


def advance(target: Queue[Any] | RSMQ, duration: float | timedelta | str) -> int:
    """See `aiorsmq.testing.advance`."""
    if not isinstance(target, Queue | RSMQ):  # pyright: ignore[reportUnnecessaryIsInstance]
        reason = "must be a Queue or an RSMQ of aiorsmq.sync"
        raise InvalidParameterValue("target", target, reason)
    return run_on_twin(target, partial(advancing.advance, duration=duration))


def drain(
    queue: Queue[T],
    handler: Callable[[Message[T]], object],
    *,
    limit: int = LIMIT,
    **options: Unpack[WorkerOptions],
) -> int:
    """See `aiorsmq.testing.drain`. The handler runs in threads."""
    choices: Any = adapt_options(**options)
    work = partial(draining.drain, handler=adapt(handler), limit=limit, **choices)
    return run_on_twin(queue, work)


def queue_contents(queue: Queue[T]) -> QueueContents[T | bytes]:
    """See `aiorsmq.testing.queue_contents`."""
    return run_on_twin(queue, async_contents)
