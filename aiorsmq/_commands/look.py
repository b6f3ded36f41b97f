"""Messages are looked at, and not received."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

from .._protocol import Keys, id_time, utc_from_ms
from .._server.call import Call, Reply
from .._server.node import Node
from ..errors import InvalidParameterValue
from ..models import Found, Place, Receipt, StoredMessage
from .reasons import read_death
from .selection import Selection

# Bounds of one script call: about a millisecond of the server's time.
MAX_LOOKS: Final = 250
"""Messages that are looked at."""
MAX_MATCHES: Final = 100
"""Messages that are returned."""
MAX_BYTES: Final = 128 * 1024
"""Bytes of bodies that are read, after which a step ends."""

START: Final = Place("-inf", "")

_SCORE: Final = re.compile(r"-?(inf|[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?)")
_WHOLE: Final = 2**50
"""Bytes: more than any body has, and not too many for the server."""


async def get(node: Node, keys: Keys, id: object, max_bytes: int | None) -> StoredMessage | None:
    """See `Queue.get`."""
    args = (_check_any_id(id), _WHOLE if max_bytes is None else min(max_bytes, _WHOLE))
    call = Call("get", keys.qname, (*keys.pair, keys.reasons), args)
    return await node.run(call, partial(_read_message, keys))


async def find(
    node: Node,
    keys: Keys,
    selection: Selection,
    *,
    limit: int,
    budget: int,
    max_bytes: int,
    after: Place | None,
) -> Found:
    """See `Queue.find`. Step by step, each with a deadline of its own."""
    place = after or START
    found: dict[str, StoredMessage] = {}
    total = -1
    examined = 0
    while True:
        looks = min(MAX_LOOKS, budget - examined)
        matches = min(MAX_MATCHES, limit - len(found))
        bounds = (looks, matches, MAX_BYTES, min(max_bytes, _WHOLE))
        words = (*bounds, place.score, _encode(place.id), *selection)
        call = Call("find", keys.qname, (*keys.pair, keys.reasons), words)
        page = await node.run(call, partial(_read_page, keys))
        found |= {message.id: message for message in page.messages}  # one may be met twice
        total = page.total if total < 0 else total
        examined += page.examined
        if page.next is None or len(found) >= limit or examined >= budget:
            return Found(list(found.values()), examined, total, page.next)
        place = page.next


def _check_any_id(id: object) -> bytes:
    """Other programs may have made any id."""
    with suppress(UnicodeError):
        if isinstance(id, str) and id:
            return _encode(id)
    raise InvalidParameterValue("id", id, "must be a non-empty str")


def check_place(place: object) -> Place | None:
    if place is None:
        return None
    if isinstance(place, Place) and isinstance(place.score, str) and isinstance(place.id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        with suppress(UnicodeError):
            _encode(place.id)
            if _SCORE.fullmatch(place.score):
                return place
    raise InvalidParameterValue("after", place, "must be the `next` of a Found")


def _read_page(keys: Keys, reply: Reply) -> Found:
    total, looks, score, id, *fields = reply
    place = Place(score.decode(), _decode(id)) if score else None
    return Found(list(_read_messages(keys, fields)), int(looks), int(total), place)


def _read_message(keys: Keys, reply: Reply) -> StoredMessage | None:
    return next(_read_messages(keys, reply), None)


def _read_messages(keys: Keys, fields: list[Any]) -> Iterator[StoredMessage]:
    values = zip(*[iter(fields)] * 8, strict=True)
    for id, raw, size, count, first, score, is_visible, death in values:
        name = _decode(id)
        seconds = id_time(name)
        first_ms = int(first) if first else None
        letter = read_death(keys, death)
        yield StoredMessage(
            id=name,
            queue=keys.qname,
            raw=raw,
            size=int(size),
            receive_count=int(count),
            sent_at=None if seconds is None else utc_from_ms(seconds * 1000),
            first_received_at=None if first_ms is None else utc_from_ms(first_ms),
            visible_at=utc_from_ms(float(score)),
            is_visible=bool(is_visible),
            receipt=Receipt(name, int(count), first_ms),
            reason=letter.reason,
            origin=letter.queue,
        )


def _encode(id: str) -> bytes:
    return id.encode(errors="surrogateescape")


def _decode(id: bytes) -> str:
    return id.decode(errors="surrogateescape")
