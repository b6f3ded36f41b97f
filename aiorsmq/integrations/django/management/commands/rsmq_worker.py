"""`manage.py rsmq_worker`: a worker as a program of its own."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from .....cli.loading import load, load_codec
from .....client import AsyncRSMQ
from .....codecs import Codec
from .....errors import InvalidParameterValue, QueueDoesNotExist
from .....models import Message
from ... import client_options, queue_settings

Handler = Callable[[Message[Any]], object]


class Command(BaseCommand):
    help = (
        "Run a worker: the handler gets each message of the queues. SIGTERM and Ctrl-C stop it "
        "gracefully. Queues in settings.RSMQ are created, or updated, first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("handler", help="a function, such as shop.handlers.handle")
        parser.add_argument(
            *("--queue", "-q"),
            action="append",
            required=True,
            help="its name; several in order of priority",
        )
        parser.add_argument(
            "--codec",
            default="TEXT",
            help="TEXT, BYTES, JSON, or a codec, such as shop.codecs.ORDERS",
        )
        parser.add_argument("--concurrency", type=int, help="handlers at a time")
        for option, text in {
            "--vt": "seconds of each lease; otherwise the queue's vt",
            "--timeout": "seconds after which a handler is cancelled",
            "--max-lease": "seconds after which a message is given up",
            "--grace": "seconds that handlers have to end when the worker stops",
        }.items():
            parser.add_argument(option, type=float, help=text)

    def handle(self, *, handler: str, queue: list[str], codec: str, **options: Any) -> None:
        names = ("concurrency", "vt", "timeout", "max_lease", "grace")
        try:
            working = self._work(
                queue,
                load("handler", handler),
                load_codec(codec),
                **{name: options[name] for name in names if options[name] is not None},
            )
            asyncio.run(working)
        except InvalidParameterValue as error:
            raise CommandError(str(error)) from error

    async def _work(
        self, names: Sequence[str], handler: Handler, codec: Codec[Any], **options: Any
    ) -> None:
        async with AsyncRSMQ.from_url(**client_options()) as rsmq:
            queues = [rsmq.queue(name, codec=codec) for name in names]
            for queue in queues:
                if queue.name in queue_settings():
                    await queue.ensure(**queue_settings()[queue.name])
            worker = rsmq.worker(queues, with_connections(handler), **options)
            self.stdout.write(f"working on {', '.join(names)}")
            self.stdout.flush()
            try:
                await worker.run()
            except QueueDoesNotExist as error:
                text = f'queue {error.qname!r} does not exist: add it to "queues" in settings.RSMQ'
                raise CommandError(text) from error


def with_connections(handler: Handler) -> Handler:
    """The handler with fresh database connections, as views have them: a worker lives longer than
    a connection may."""
    if iscoroutinefunction(handler):
        handle_async = cast("Callable[[Message[Any]], Awaitable[object]]", handler)
        close = sync_to_async(close_old_connections)  # in the thread of Django's async queries

        @wraps(handler)
        async def handle_in_loop(message: Message[Any]) -> object:
            await close()
            try:
                return await handle_async(message)
            finally:
                await close()

        return handle_in_loop

    @wraps(handler)
    def handle_in_thread(message: Message[Any]) -> object:
        close_old_connections()
        try:
            return handler(message)
        finally:
            close_old_connections()

    return handle_in_thread
