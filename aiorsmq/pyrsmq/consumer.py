"""RedisSMQConsumer: passes a queue's messages to a function."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from .._consuming.cores import MIN_POLL_INTERVAL
from .._protocol import Seconds, check_seconds, check_seconds_at_least
from .._working.intake import MIN_LEASE
from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..handlers import Retry
from ..models import Message
from ..worker import Worker
from .commands import received_message
from .controller import RedisSMQ

_logger = logging.getLogger("aiorsmq.pyrsmq")


class RedisSMQConsumer:
    """Passes the messages of a queue to a processor, one at a time, while `await run()` runs.

    If the processor returns a true value, the message is deleted. If it returns anything else or
    raises, the message is redelivered after `retry_delay`. The lease is extended while the
    processor runs.

    Args:
        processor: called with `id`, `message`, `rc` and `ts`. Either `async def` or a plain
            function, which runs in a thread.
        rsmq: a RedisSMQ, to use its server and namespace; the consumer opens its own connections.
            Without it, pass the parameters of RedisSMQ.
        retry_delay: seconds until a failed message is redelivered.
        empty_queue_delay: seconds between two polls of an empty queue. Announced and delayed
            messages wake the consumer, so it need not be short.
        decode: decode message bodies that are JSON.
        vt: lease in seconds; None for the queue's vt.
        realtime: listen for announcements, and announce messages that are redelivered at once.
    """

    def __init__(
        self,
        qname: str,
        processor: Callable[..., Any],
        *,
        rsmq: RedisSMQ | None = None,
        retry_delay: Seconds = 0,
        empty_queue_delay: Seconds = 2.0,
        decode: bool = True,
        vt: Seconds | None = None,
        realtime: bool = True,
        **rsmq_params: Any,
    ) -> None:
        if rsmq is not None and rsmq_params:
            raise InvalidParameterValue(
                "rsmq", rsmq, f"cannot be combined with {', '.join(sorted(rsmq_params))}"
            )
        self.qname = qname
        self.processor = processor
        self.retry_delay: float = check_seconds("retry_delay", retry_delay)
        self.empty_queue_delay: float = check_seconds("empty_queue_delay", empty_queue_delay)
        self.decode = decode
        self.vt: float | None = None if vt is None else check_seconds_at_least(MIN_LEASE, "vt", vt)
        self.realtime = realtime
        self.rsmq: RedisSMQ = rsmq or RedisSMQ(qname=qname, **rsmq_params)
        self._owns_rsmq = rsmq is None
        self._is_async = inspect.iscoroutinefunction(processor)
        self._stopping = False
        self._worker: Worker[str] | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Create the queue if it is missing, and process messages until `stop()` is called.

        Cancelling loses no message: the processor gets 30 seconds to finish, and its result
        counts. After that, or on a second cancellation, an `async def` processor is cancelled and
        its message becomes visible again at once. The consumer rides out server outages. If the
        queue is deleted, it waits until the queue is created again.
        """
        self._ended = asyncio.Event()
        poll_interval = max(self.empty_queue_delay, MIN_POLL_INTERVAL)  # PyRSMQ accepts 0
        try:
            async with self.rsmq.connect(
                realtime=self.realtime, poll_interval=poll_interval
            ) as rsmq:
                await self._create_missing(rsmq)
                self._worker = rsmq.queue(self.qname).worker(
                    self._process, concurrency=1, vt=self.vt
                )
                if not self._stopping:
                    await self._worker.run(signals=False)
        finally:
            self._stopping = False
            self._worker = None
            try:
                if self._owns_rsmq:
                    await self.rsmq.quit()
            finally:
                self._ended.set()

    async def stop(self, wait: float | None = None) -> bool:
        """Make `run()` return after the current message.

        Waits up to `wait` seconds for that, and returns whether `run()` has ended.
        """
        self._stopping = not self._ended.is_set()
        if self._worker is not None:
            self._worker.stop()
        with anyio.move_on_after(wait or 0):
            await self._ended.wait()
        return self._ended.is_set()

    async def _create_missing(self, rsmq: AsyncRSMQ) -> None:
        try:
            await rsmq.get_queue_attributes(qname=self.qname)
        except QueueDoesNotExist:
            with suppress(QueueAlreadyExists):
                await self.rsmq.createQueue(qname=self.qname, vt=self.vt).exceptions(True)

    async def _process(self, message: Message[str]) -> None:
        fields = received_message(message, self.qname, self.decode)
        params = {
            "id": fields["id"],
            "message": fields["message"],
            "rc": fields["rc"],
            "ts": fields["ts"],
        }
        failure: Exception | None = None
        try:
            if self._is_async:
                success = await self.processor(**params)
            else:
                success = await anyio.to_thread.run_sync(
                    partial(self.processor, **params), abandon_on_cancel=True
                )
                if inspect.isawaitable(success):
                    success = await success
        except Exception as error:
            name = type(error).__name__
            extra = _log_fields(message)
            _logger.warning("message %s: the processor raised %s", message.id, name, extra=extra)
            _logger.debug("message %s", message.id, exc_info=error, extra=extra)
            success = False
            failure = error
        if not success:
            text = "message %s failed and will be redelivered in %s s"
            _logger.warning(text, message.id, self.retry_delay, extra=_log_fields(message))
            raise Retry(self.retry_delay, "the processor did not return True") from failure


def _log_fields(message: Message[str]) -> dict[str, object]:
    return {"queue": message.queue, "id": message.id, "attempt": message.receive_count}
