"""The options of workers, for functions that hand them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from .._protocol import Seconds
from ..handlers import Reject, Retry
from ..models import Message, WorkerEvent
from .block import WhenDead


class WorkerOptions(TypedDict, total=False):
    """The options of `Queue.worker` and `AsyncRSMQ.worker`; see `Worker`."""

    concurrency: int
    timeout: Seconds | None
    max_lease: Seconds | None
    backoff: Callable[[int], float] | None
    on_error: Callable[[Message[Any], Exception], Retry | Reject | None] | None
    on_event: Callable[[WorkerEvent], None] | None
    grace: Seconds
    when_dead: WhenDead
