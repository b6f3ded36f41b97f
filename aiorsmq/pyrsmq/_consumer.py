"""RedisSMQConsumer: hands a queue's messages to a function."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from redis.exceptions import RedisError

from .._protocol import Seconds, check_seconds
from .._stream import Messages
from ..client import AsyncRSMQ
from ..errors import InvalidParameterValue, QueueAlreadyExists, QueueDoesNotExist, RedisSMQException
from ..models import Message
from ._commands import received
from ._controller import RedisSMQ

_SHORTEST_POLL = 0.01  # AsyncRSMQ's; PyRSMQ's consumer may be told not to pause at all

_logger = logging.getLogger("aiorsmq.pyrsmq")


class RedisSMQConsumer:
    """Hands the messages of a queue, one after the other, to a processor, for as long as `await run()` lasts.

    A processor that returns something true has the message deleted; one that returns anything else, or raises, has it
    come back after `retry_delay`. As long as it works, the lease is extended.

    Args:
        processor: called with `id`, `message`, `rc` and `ts`: `async def`, or a plain function, which runs in a thread.
        rsmq: a RedisSMQ, on whose server and in whose namespace it works, with connections of its own. Without one,
            what RedisSMQ takes.
        retry_delay: seconds until a message comes back.
        empty_queue_delay: seconds between two looks at a queue of which nothing is heard; announced and delayed
            messages wake the consumer, so there is no need for it to be short.
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
            raise InvalidParameterValue("rsmq", rsmq, f"cannot be given together with {', '.join(sorted(rsmq_params))}")
        self.qname = qname
        self.processor = processor
        self.retry_delay: float = check_seconds("retry_delay", retry_delay)
        self.empty_queue_delay: float = check_seconds("empty_queue_delay", empty_queue_delay)
        self.decode = decode
        self.vt: float | None = None if vt is None else check_seconds("vt", vt)
        self.realtime = realtime
        self.rsmq: RedisSMQ = rsmq or RedisSMQ(qname=qname, **rsmq_params)
        self._owns_rsmq = rsmq is None
        self._is_async = inspect.iscoroutinefunction(processor)
        self._stopping = False
        self._stream: Messages[str] | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Create the queue if it is missing, and work until `stop()` is called, or this is cancelled.

        Cancelling loses nothing. An `async def` processor is cancelled with it, and its message is visible again at
        once; a plain one cannot be: it is waited for, and what it returns counts. Whoever cancels twice waits for
        nothing, and leaves the message to its lease.

        Outages of the server are waited out. Raised is what a stream of `Queue.messages` raises, as QueueDoesNotExist
        when the queue is deleted.
        """
        self._ended = asyncio.Event()
        poll_interval = max(self.empty_queue_delay, _SHORTEST_POLL)
        try:
            async with self.rsmq.connect(realtime=self.realtime, poll_interval=poll_interval) as rsmq:
                lease = await self._find_lease(rsmq)
                async with rsmq.queue(self.qname).messages(vt=self.vt) as self._stream:
                    if self._stopping:
                        self._stream.end()
                    async for message in self._stream:
                        await self._handle(message, lease)
        finally:
            self._stopping, self._stream = False, None
            try:
                if self._owns_rsmq:
                    await self.rsmq.quit()
            finally:
                self._ended.set()

    async def stop(self, wait: float | None = None) -> bool:
        """Have `run()` end after the message in hand; wait for that so many seconds. Returns whether it has ended."""
        self._stopping = True
        if self._stream is not None:
            self._stream.end()
        with anyio.move_on_after(wait or 0):
            await self._ended.wait()
        return self._ended.is_set()

    async def _find_lease(self, rsmq: AsyncRSMQ) -> float:
        """How long a message stays hidden; creates the queue if it is missing."""
        try:
            vt = (await rsmq.get_queue_attributes(qname=self.qname)).vt
        except QueueDoesNotExist:
            with suppress(QueueAlreadyExists):
                await self.rsmq.createQueue(qname=self.qname, vt=self.vt).exceptions(True)
            vt = (await rsmq.get_queue_attributes(qname=self.qname)).vt
        return vt if self.vt is None else self.vt

    async def _handle(self, message: Message[str], lease: float) -> None:
        processing = asyncio.ensure_future(self._process(message))
        try:
            await self._keep(message, lease, processing)
        except BaseException:
            if self._is_async:
                processing.cancel()
            with anyio.CancelScope(shield=True):
                await self._keep(message, lease, processing)
                await self._settle(message, processing)
            raise
        await self._settle(message, processing)

    async def _process(self, message: Message[str]) -> bool:
        what = received(message, self.qname, self.decode)
        params = {"id": what["id"], "message": what["message"], "rc": what["rc"], "ts": what["ts"]}
        try:
            if self._is_async:
                return bool(await self.processor(**params))
            result = await anyio.to_thread.run_sync(partial(self.processor, **params))
            return bool(await result if inspect.isawaitable(result) else result)
        except Exception as error:
            _logger.warning("message %s: the processor raised %s", message.id, type(error).__name__)
            _logger.debug("message %s", message.id, exc_info=error)
            return False

    async def _keep(self, message: Message[str], lease: float, processing: "asyncio.Future[bool]") -> None:
        """Extend the lease until the processor has ended; with vt=0 there is none."""
        while not processing.done():
            await asyncio.wait([processing], timeout=lease / 3 if lease else None)
            if not processing.done():
                await self._try("extend the lease of", message, message.extend(lease))

    async def _settle(self, message: Message[str], processing: "asyncio.Future[bool]") -> None:
        if processing.cancelled():
            await self._try("give back", message, message.release())
        elif processing.result():
            await self._try("delete", message, message.delete())
        else:
            _logger.warning("message %s failed, and comes back after %s s", message.id, self.retry_delay)
            await self._try("give back", message, message.release(self.retry_delay))

    async def _try(self, what: str, message: Message[str], attempt: Awaitable[bool]) -> None:
        try:
            if not await attempt:
                _logger.warning("could not %s message %s: its lease had ended, or it is gone", what, message.id)
        except (RedisError, RedisSMQException, OSError) as error:
            _logger.warning("could not %s message %s: %s", what, message.id, error)
