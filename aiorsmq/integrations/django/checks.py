"""What `manage.py check` says about `settings.RSMQ`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, cast

from django.conf import settings
from django.core.checks import CheckMessage, Error

from ...client import AsyncRSMQ
from ...errors import ClientClosed, InvalidParameterValue
from ...models import QueueSettings
from ...queue import Queue
from . import client_options, queue_settings

EXAMPLE: Final = 'RSMQ = {"url": os.environ["REDIS_URL"]}'


def check_setting(**_: Any) -> list[CheckMessage]:
    if not hasattr(settings, "RSMQ"):
        return [_error(1, "settings.RSMQ is missing", _advice("RSMQ", dir(settings)))]
    setting: object = settings.RSMQ
    if not isinstance(setting, Mapping):
        return [_error(2, "settings.RSMQ must be a dict", f"write {EXAMPLE}")]
    if "url" not in setting:
        names = map(str, cast("Mapping[object, object]", setting))
        return [_error(3, 'settings.RSMQ has no "url"', _advice("url", names))]
    return [_error(4, f"settings.RSMQ: {text}", advice) for text, advice in _mistakes()]


def _mistakes() -> Iterator[tuple[str, str | None]]:
    """What is wrong with the options of the client, and with the queues."""
    try:
        client = AsyncRSMQ.from_url(**client_options())
    except (InvalidParameterValue, TypeError) as error:
        similar = get_close_matches("queues", client_options(), n=1)
        yield str(error), f"did you mean 'queues', not {similar[0]!r}?" if similar else None
        return
    if not isinstance(cast("object", queue_settings()), Mapping):
        yield '"queues" must be a dict', None
        return
    yield from asyncio.run(_mistakes_in_queues(client))


async def _mistakes_in_queues(client: AsyncRSMQ) -> list[tuple[str, str | None]]:
    """What `ensure` refuses: it checks its parameters before it notices that the client is
    closed."""
    await client.aclose()
    mistakes: list[tuple[str, str | None]] = []
    for name, values in queue_settings().items():
        try:
            queue = client.queue(name)
        except InvalidParameterValue as error:
            mistakes.append((f'"queues": {error}', None))
            continue
        mistakes += [mistake async for mistake in _mistakes_in_queue(queue, values)]
    return mistakes


async def _mistakes_in_queue(
    queue: Queue[str], values: object
) -> AsyncIterator[tuple[str, str | None]]:
    if not isinstance(values, Mapping):
        yield f"queue {queue.name!r}: its settings must be a dict", None
        return
    settings = dict(cast("Mapping[str, Any]", values))
    for name in set(settings).difference(QueueSettings.__annotations__):
        advice = f"there are {', '.join(QueueSettings.__annotations__)}"
        yield f'queue {queue.name!r} has no setting "{name}"', advice
        del settings[name]
    try:
        await queue.ensure(**settings)
    except InvalidParameterValue as error:
        yield f"queue {queue.name!r}: {error}", None
    except ClientClosed:
        pass  # the parameters are good


def _advice(name: str, names: Iterable[str]) -> str:
    """What to write, and which similar name it may be meant to replace."""
    originals = {original.lower(): original for original in names}
    similar = get_close_matches(name.lower(), originals, n=1)
    return f"write {EXAMPLE}" + "".join(f", not {originals[match]}" for match in similar)


def _error(number: int, text: str, advice: str | None) -> Error:
    return Error(text, hint=advice, id=f"aiorsmq.E{number:03}")
