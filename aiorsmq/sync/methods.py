"""RSMQ's own methods: each takes the name of a queue; see `aiorsmq.methods`."""

from __future__ import annotations

from .. import errors
from .._protocol import Seconds
from ..client import AsyncRSMQ
from ..models import Confirm, Ensured, QueueAttributes, Receipt
from ._twin import Twin, current_thread
from .confirm import retried_here
from .message import Message
from .stream import Messages


class NamedQueues:
    """The part of `RSMQ` that has RSMQ's methods."""

    _twin: Twin[AsyncRSMQ]

    def create_queue(
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
        return self._twin.run(
            lambda rsmq: rsmq.create_queue(
                qname=qname,
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
                exist_ok=exist_ok,
            )
        )

    def ensure_queue(
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
        return self._twin.run(
            lambda rsmq: rsmq.ensure_queue(
                qname=qname,
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
            )
        )

    def delete_queue(self, *, qname: str | None = None, missing_ok: bool = False) -> bool:
        """Delete a queue with all its messages: see `Queue.delete`."""
        return self._twin.run(lambda rsmq: rsmq.delete_queue(qname=qname, missing_ok=missing_ok))

    def get_queue_attributes(self, *, qname: str | None = None) -> QueueAttributes:
        """The settings and counters of a queue: see `Queue.attributes`."""
        return self._twin.run(lambda rsmq: rsmq.get_queue_attributes(qname=qname))

    def set_queue_attributes(
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
        return self._twin.run(
            lambda rsmq: rsmq.set_queue_attributes(
                qname=qname,
                vt=vt,
                delay=delay,
                maxsize=maxsize,
                max_receives=max_receives,
                dead_letter_queue=dead_letter_queue,
            )
        )

    def send_message(
        self,
        *,
        message: str | bytes,
        qname: str | None = None,
        delay: Seconds | None = None,
        confirm: Confirm | None = None,
    ) -> str:
        """Send one message and return its id: see `Queue.send`."""
        try:
            return self._twin.run(
                lambda rsmq: rsmq.send_message(
                    message=message, qname=qname, delay=delay, confirm=confirm
                )
            )
        except errors.NotConfirmed as error:
            raise retried_here(error) from None

    def receive_message(
        self, *, qname: str | None = None, vt: Seconds | None = None, wait: Seconds = 0
    ) -> Message[str] | None:
        """Receive the next message and hide it; None if there is none: see `Queue.receive`."""
        message = self._twin.run(lambda rsmq: rsmq.receive_message(qname=qname, vt=vt, wait=wait))
        return message and Message(message, current_thread())

    def pop_message(self, *, qname: str | None = None, wait: Seconds = 0) -> Message[str] | None:
        """Receive the next message and delete it; None if there is none: see `Queue.pop`."""
        message = self._twin.run(lambda rsmq: rsmq.pop_message(qname=qname, wait=wait))
        return message and Message(message, current_thread())

    def change_message_visibility(
        self, *, id: str | Receipt, vt: Seconds, qname: str | None = None
    ) -> bool:
        """Hide a message for `vt` seconds from now on: see `Queue.change_visibility`."""
        return self._twin.run(
            lambda rsmq: rsmq.change_message_visibility(id=id, vt=vt, qname=qname)
        )

    def delete_message(self, *, id: str | Receipt, qname: str | None = None) -> bool:
        """Delete a message: see `Queue.delete_message`."""
        return self._twin.run(lambda rsmq: rsmq.delete_message(id=id, qname=qname))

    def messages(
        self,
        qname: str | None = None,
        *,
        vt: Seconds | None = None,
        prefetch: int = 0,
        pop: bool = False,
        create: bool = False,
    ) -> Messages[str]:
        """The messages of a queue as they come, for `for`: see `Queue.messages`."""
        return Messages(
            self._twin.child(
                lambda rsmq: rsmq.messages(qname, vt=vt, prefetch=prefetch, pop=pop, create=create)
            )
        )
