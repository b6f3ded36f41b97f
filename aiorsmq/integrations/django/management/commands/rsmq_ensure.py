"""`manage.py rsmq_ensure`: part of a deployment, as `migrate` is."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from .....client import AsyncRSMQ
from ... import client_options, queue_settings


class Command(BaseCommand):
    help = 'Create the queues in settings.RSMQ["queues"], and update settings that differ.'

    def handle(self, **_: Any) -> None:
        asyncio.run(self._ensure())

    async def _ensure(self) -> None:
        async with AsyncRSMQ.from_url(**client_options()) as rsmq:
            for name, settings in queue_settings().items():
                ensured = await rsmq.queue(name).ensure(**settings)
                self.stdout.write(f"queue {name}: {ensured}")
