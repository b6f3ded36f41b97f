"""The first line of an exported queue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from .._protocol import utc_from_ms
from ..errors import InvalidParameterValue
from .queues import QueueSettings

VERSION: Final = 1
"""Of the format of exports."""
HEADER: Final = "aiorsmq_export"
"""The field that tells a header from a message; its value is the version."""


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """What the first line of an export says of its queue. See `Queue.export`."""

    queue: str
    settings: QueueSettings
    """For `Queue.create(**header.settings)`."""
    server_time: datetime
    """When the export began, by the server's clock."""
    total: int
    """How many messages the queue held then, hidden ones included."""

    @classmethod
    def parse(cls, line: bytes | str) -> ExportHeader:
        """Read the first line of an export. Raises InvalidParameterValue."""
        try:
            return cls.from_fields(json.loads(line))
        except (TypeError, ValueError, RecursionError) as error:
            is_told = isinstance(error, _NoHeaderError)
            reason = str(error) if is_told else "must be the first line of an export"
            raise InvalidParameterValue("line", line, reason) from None

    @classmethod
    def from_fields(cls, fields: Any) -> ExportHeader:
        """Read the JSON object of the line. Raises ValueError."""
        if not isinstance(fields, dict) or HEADER not in fields:
            raise _NoHeaderError("must be the first line of an export")
        header = cast("dict[str, Any]", fields)
        if header[HEADER] != VERSION:
            reason = f"is of version {header[HEADER]!r}; this library reads version {VERSION}"
            raise _NoHeaderError(reason)
        settings = header.get("settings")
        numbers = (header.get("server_time"), header.get("total"))
        is_valid = isinstance(header.get("queue"), str) and isinstance(settings, dict)
        if not is_valid or any(type(number) is not int for number in numbers):
            raise _NoHeaderError("must have queue, settings, server_time and total")
        names = QueueSettings.__annotations__
        values = cast("dict[str, Any]", settings).items()
        return cls(
            header["queue"],
            cast("QueueSettings", {name: value for name, value in values if name in names}),
            utc_from_ms(header["server_time"]),
            header["total"],
        )

    def line(self) -> bytes:
        """The line, as `parse` reads it."""
        fields = {
            HEADER: VERSION,
            "queue": self.queue,
            "settings": self.settings,
            "server_time": round(self.server_time.timestamp() * 1000),
            "total": self.total,
        }
        return json.dumps(fields).encode() + b"\n"


class _NoHeaderError(ValueError):
    """Its text says why, without quoting the line."""
