"""RedisSMQConsumer: hands a queue's messages to a function."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from .._protocol import Seconds, at_least, check_seconds
from .._working.intake import MIN_LEASE
from ..client import MIN_POLL_INTERVAL, AsyncRSMQ
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist
from ..handlers import Retry
from ..models import Message
from ..worker import Worker
from ._commands import received
from ._controller import RedisSMQ

_logger = logging.getLogger("aiorsmq.pyrsmq")


class RedisSMQConsumer:
    """Hands the messages of a queue, one after the other, to a processor, for as long as `await
    run()` lasts.

    A processor that returns something true has the message deleted; one that returns anything else,
    or raises, has it come back after `retry_delay`. As long as it works, the lease is extended.

    Args:
        processor: called with `id`, `message`, `rc` and `ts`: `async def`, or a plain function,
            which runs in a thread.
        rsmq: a RedisSMQ, on whose server and in whose namespace it works, with connections of its
            own. Without one, what RedisSMQ takes.
        retry_delay: seconds until a message comes back.
        empty_queue_delay: seconds between two looks at a queue of which nothing is heard; announced
            and delayed messages wake the consumer, so there is no need for it to be short.
        decode: hand out what is JSON as what it says.
        vt: seconds of each lease; the queue's if None.
        realtime: listen for announcements, and announce what comes back at once.
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
                "rsmq", rsmq, f"cannot be given together with {', '.join(sorted(rsmq_params))}"
            )
        self.qname = qname
        self.processor = processor
        self.retry_delay: float = check_seconds("retry_delay", retry_delay)
        self.empty_queue_delay: float = check_seconds("empty_queue_delay", empty_queue_delay)
        self.decode = decode
        self.vt: float | None = None if vt is None else at_least(MIN_LEASE, "vt", vt)
        self.realtime = realtime
        self.rsmq: RedisSMQ = rsmq or RedisSMQ(qname=qname, **rsmq_params)
        self._owns_rsmq = rsmq is None
        self._is_async = inspect.iscoroutinefunction(processor)
        self._stopping = False
        self._worker: Worker[str] | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Create the queue if it is missing, and work until `stop()` is called, or this is
        cancelled.

        Cancelling loses nothing: the processor has 30 seconds to end, and what it returns counts;
        then, or if this is cancelled once more, an `async def` processor is cancelled and its
        message visible again at once. Outages of the server are waited out, and so is a queue that
        is deleted later, until somebody makes it again.
        """
        self._ended = asyncio.Event()
        poll_interval = max(self.empty_queue_delay, MIN_POLL_INTERVAL)  # PyRSMQ takes 0, too
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
            self._stopping, self._worker = False, None
            try:
                if self._owns_rsmq:
                    await self.rsmq.quit()
            finally:
                self._ended.set()

    async def stop(self, wait: float | None = None) -> bool:
        """Have `run()` end after the message in hand; wait for that so many seconds. Returns
        whether it has ended.
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
        what = received(message, self.qname, self.decode)
        params = {"id": what["id"], "message": what["message"], "rc": what["rc"], "ts": what["ts"]}
        why: Exception | None = None
        try:
            if self._is_async:
                done = await self.processor(**params)
            else:
                done = await anyio.to_thread.run_sync(
                    partial(self.processor, **params), abandon_on_cancel=True
                )
                done = await done if inspect.isawaitable(done) else done
        except Exception as error:
            _logger.warning("message %s: the processor raised %s", message.id, type(error).__name__)
            _logger.debug("message %s", message.id, exc_info=error)
            done, why = False, error
        if not done:
            _logger.warning(
                "message %s failed, and comes back after %s s", message.id, self.retry_delay
            )
            raise Retry(self.retry_delay, "the processor did not return True") from why
