"""What `manage.py check` says about `settings.RSMQ`."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, cast

from django.conf import settings
from django.core.checks import CheckMessage, Error

from ...client import AsyncRSMQ
from ...errors import InvalidParameterValue
from ...models import QueueSettings
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
        yield str(error), None
        return
    options = QueueSettings.__annotations__
    for queue, values in queue_settings().items():
        try:
            client.queue(queue)
        except InvalidParameterValue as error:
            yield f'"queues": {error}', None
        for name in set(values).difference(options):
            yield f'queue {queue!r} has no setting "{name}"', f"there are {', '.join(options)}"


def _advice(name: str, names: Iterable[str]) -> str:
    """What to write, and which similar name it may be meant to replace."""
    originals = {original.lower(): original for original in names}
    similar = get_close_matches(name.lower(), originals, n=1)
    return f"write {EXAMPLE}" + "".join(f", not {originals[match]}" for match in similar)


def _error(number: int, text: str, advice: str | None) -> Error:
    return Error(text, hint=advice, id=f"aiorsmq.E{number:03}")
