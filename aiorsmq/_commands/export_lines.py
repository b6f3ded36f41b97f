"""A queue is written as JSON lines."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from .._protocol import MAX_MAXSIZE, MAX_SECONDS, Keys, utc_from_ms
from .._record import Record
from .._server.node import Node
from ..models import ExportHeader, Place, QueueSettings
from .admin import get_queue_attributes
from .look import START
from .receive import peek

# Bounds of one script call: about a millisecond of the server's time.
MAX_MESSAGES: Final = 150
MAX_BYTES: Final = 256 * 1024
"""Bytes of bodies, after which a page ends."""

_WHOLE = re.compile(rb"-?\d{1,15}")


async def export_lines(node: Node, keys: Keys, after: Place | None) -> AsyncGenerator[bytes, None]:
    """See `Queue.export`. Page by page, each with a deadline of its own."""
    if after is None:
        yield await _header(node, keys)
        after = START
    place = (after.score.encode(), after.id.encode(errors="surrogateescape"))
    while True:
        page = await peek(node, keys, MAX_MESSAGES, max_bytes=MAX_BYTES, after=place, reasons=True)
        for record, reason in zip(page.records, page.reasons, strict=True):
            yield _line(record, reason)
        if page.last is None:
            return
        place = page.last


async def _header(node: Node, keys: Keys) -> bytes:
    attributes = await get_queue_attributes(node, keys)
    # Such as `create` takes: other programs store more, PyRSMQ a maxsize of 65565.
    is_unlimited = attributes.maxsize > MAX_MAXSIZE
    settings = QueueSettings(
        vt=min(attributes.vt, MAX_SECONDS),
        delay=min(attributes.delay, MAX_SECONDS),
        maxsize=-1 if is_unlimited else attributes.maxsize,
        max_receives=attributes.max_receives,
        dead_letter_queue=attributes.dead_letter_queue,
    )
    now = utc_from_ms(node.clock.now_ms())
    return ExportHeader(keys.qname, settings, now, attributes.msgs).line()


def _line(record: Record, reason: bytes) -> bytes:
    score = record.place
    fields: dict[str, Any] = {"id": record.id.decode(errors="surrogateescape")}
    fields |= _text("body", record.raw)
    fields["receive_count"] = int(record.receive_count)
    fields["first_received"] = int(record.first_received) if record.first_received else None
    # A number only if every JSON library reads it as it is.
    fields["visible_at"] = int(score) if _WHOLE.fullmatch(score) else score.decode()
    if reason:
        fields |= _text("reason", reason)
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # an id of bytes that are no UTF-8
        return json.dumps(fields).encode() + b"\n"


def _text(name: str, raw: bytes) -> dict[str, str]:
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
