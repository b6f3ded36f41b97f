"""RSMQ's own methods: each takes the name of a queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from ._protocol import Seconds, check_qname
from .codecs import TEXT, Codec
from .errors import InvalidParameterValue
from .models import Confirm, Ensured, Message, QueueAttributes, Receipt
from .queue import Queue
from .stream import Messages

T = TypeVar("T")


class NamedQueues(ABC):
    """The part of `AsyncRSMQ` that has RSMQ's methods."""

    _qname: str | None
    """The default."""

    async def create_queue(
        self,
        *,
        qname: str | None = None,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """Create a queue: see `Queue.create`."""
        return await self._named(qname).create(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
            exist_ok=exist_ok,
        )

    async def ensure_queue(
        self,
        *,
        qname: str | None = None,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> Ensured:
        """Create a queue, or change settings of it: see `Queue.ensure`."""
        return await self._named(qname).ensure(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
        )

    async def delete_queue(self, *, qname: str | None = None, missing_ok: bool = False) -> bool:
        """Delete a queue with all its messages: see `Queue.delete`."""
        return await self._named(qname).delete(missing_ok=missing_ok)

    async def get_queue_attributes(self, *, qname: str | None = None) -> QueueAttributes:
        """The settings and counters of a queue: see `Queue.attributes`."""
        return await self._named(qname).attributes()

    async def set_queue_attributes(
        self,
        *,
        qname: str | None = None,
        vt: Seconds | None = None,
        delay: Seconds | None = None,
        maxsize: int | None = None,
        max_receives: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> QueueAttributes:
        """Change settings of a queue, and return all its attributes: see `Queue.set_attributes`."""
        return await self._named(qname).set_attributes(
            vt=vt,
            delay=delay,
            maxsize=maxsize,
            max_receives=max_receives,
            dead_letter_queue=dead_letter_queue,
        )

    async def send_message(
        self,
        *,
        message: str | bytes,
        qname: str | None = None,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> str:
        """Send one message and return its id: see `Queue.send`."""
        queue = self._named(qname)
        return await queue._send_as("message", message, delay, confirm)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def receive_message(
        self, *, qname: str | None = None, vt: Seconds | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """Receive the next message and hide it; None if there is none: see `Queue.receive`."""
        return await self._named(qname).receive(vt=vt, wait=wait)

    async def pop_message(
        self, *, qname: str | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """Receive the next message and delete it; None if there is none: see `Queue.pop`."""
        return await self._named(qname).pop(wait=wait)

    async def change_message_visibility(
        self, *, id: str | Receipt, vt: Seconds, qname: str | None = None
    ) -> bool:
        """Hide a message for `vt` seconds from now on: see `Queue.change_visibility`."""
        return await self._named(qname).change_visibility(id, vt)

    async def delete_message(self, *, id: str | Receipt, qname: str | None = None) -> bool:
        """Delete a message: see `Queue.delete_message`."""
        return await self._named(qname).delete_message(id)

    def messages(
        self,
        qname: str | None = None,
        *,
        vt: Seconds | None = None,
        prefetch: int = 0,
        pop: bool = False,
        create: bool = False,
    ) -> Messages[str]:
        """The messages of a queue as they come, for `async for`: see `Queue.messages`."""
        return self._named(qname).messages(vt=vt, prefetch=prefetch, pop=pop, create=create)

    def _named(self, qname: str | None) -> Queue[str]:
        name = self._qname if qname is None else qname
        if name is None:
            raise InvalidParameterValue("qname", None, "must be given here or to AsyncRSMQ")
        return self._queue(check_qname(name), TEXT)

    @abstractmethod
    def _queue(self, name: str, codec: Codec[T], confirm: Confirm | None = None) -> Queue[T]: ...
