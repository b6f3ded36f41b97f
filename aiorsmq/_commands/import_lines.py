"""Messages are stored from JSON lines, as `export_lines` has written them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, NamedTuple, cast

from .._protocol import Keys
from .._server.call import Call, Reply, RetryPolicy
from .._server.node import Node
from .._server.wire import Argument
from ..errors import InvalidParameterValue, MessageTooLong
from ..models.export import HEADER, ExportHeader
from ..runs import Import
from .dead import REASONS_TTL

Lines = Iterable[bytes | str] | AsyncIterable[bytes | str]

MAX_BYTES: Final = 256 * 1024
"""Bytes of ids, bodies and reasons, after which a step ends: about a millisecond of the server's
time."""

_SCORE = re.compile(r"[-+]?(\d+(\.\d*)?(e[-+]?\d+)?|inf)", re.ASCII | re.IGNORECASE)
_MAX_NUMBER: Final = 10**15
_FIELDS: Final = frozenset(
    """
    vt delay maxsize created modified totalsent totalrecv max_receives dead_letter_queue paused
    """.split()  # noqa: SIM905 - as a list it would be ten lines
)
"""What a queue's hash has, other than messages."""


class _Message(NamedTuple):
    line: int
    id: bytes
    body: bytes
    score: str
    """"" for now."""
    receive_count: int
    first_received: int | None
    reason: bytes


class Importer:
    """One run of `Queue.import_lines`."""

    def __init__(
        self, node: Node, keys: Keys, lines: Lines, skip: int, *, keep_ids: bool, keep_times: bool
    ) -> None:
        self._node = node
        self._keys = keys
        self._lines = lines
        self._skip = skip
        self._keep_ids = keep_ids
        self._keep_times = keep_times
        self.stored = 0

    async def steps(self) -> AsyncGenerator[int, None]:
        """Yields how many lines are done; at least once."""
        number = 0
        finished = 0
        size = 0
        batch: list[_Message] = []
        async with aclosing(_iterate(self._lines)) as lines:
            async for line in lines:
                number += 1
                message = self._read(number, line, finished) if number > self._skip else None
                if message is not None:
                    batch.append(message)
                    size += len(message.id) + len(message.body) + len(message.reason)
                if number - finished >= Import.LINES_PER_STEP or size >= MAX_BYTES:
                    if batch or not finished:  # the first step tells whether the queue exists
                        await self._store(batch)
                    batch = []
                    size = 0
                    finished = number
                    yield finished
        if finished < number or not number:
            await self._store(batch)
            yield number

    def _read(self, number: int, line: bytes | str, finished: int) -> _Message | None:
        """The message of a line; None if it is a header, or blank."""
        try:
            return _read_line(number, line, keep_ids=self._keep_ids, keep_times=self._keep_times)
        except _MalformedError as error:
            reason = str(error)
        except (AttributeError, TypeError, ValueError, RecursionError):  # may quote a body
            reason = "is not a line of an export"
        if finished:
            reason += f"; the first {finished} are imported: go on with skip={finished}"
        raise InvalidParameterValue("lines", line, f"line {number} {reason}") from None

    async def _store(self, messages: list[_Message]) -> None:
        until = self._node.until()
        mark = "keep" if self._keep_ids else "first"
        while True:
            reply = await self._node.run(self._call(messages, mark), _check, until)
            if reply[0] == b"stored":
                self.stored += int(reply[1])
                return
            if reply[0] == b"too long":
                _, position, maxsize = reply
                message = messages[int(position)]
                size = len(message.body)
                raise MessageTooLong(self._keys.qname, size, int(maxsize), message.line)
            self._node.clock.restart()
            mark = "minted"

    def _call(self, messages: list[_Message], mark: str) -> Call:
        us = 0
        ids: list[bytes] = [message.id for message in messages]
        if not self._keep_ids:
            us, minted = self._node.clock.mint(len(messages))
            ids = [id.encode() for id in minted]
        channel = self._keys.channel if self._node.realtime else ""
        args: list[Argument] = [us, channel, REASONS_TTL]
        for id, message in zip(ids, messages, strict=True):
            args += id, message.body, message.score
            if self._keep_ids:
                first = message.first_received
                args += message.receive_count, "" if first is None else first, message.reason
            else:
                args += 0, "", ""
        all_keys = (*self._keys.pair, self._keys.reasons)
        retry_mark = "keep" if self._keep_ids else "retry"
        return Call(
            "import",
            self._keys.qname,
            all_keys,
            (mark, *args),
            RetryPolicy.SAFE_WITH_MARK,
            partial(_marked, retry_mark, args),
        )


def _marked(mark: str, args: list[Argument]) -> list[Argument]:
    return [mark, *args]


def _check(reply: Reply) -> Reply:
    if len(reply) != {b"stored": 2, b"too long": 3, b"clock": 1}[reply[0]]:
        raise ValueError("unexpected number of values")
    return reply


async def _iterate(lines: Lines) -> AsyncGenerator[bytes | str, None]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


class _MalformedError(ValueError):
    """Its text says why, without quoting the line."""


def _read_line(
    number: int, line: bytes | str, *, keep_ids: bool, keep_times: bool
) -> _Message | None:
    text = line.decode() if isinstance(line, bytes) else line
    if not text.strip():
        return None
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise _MalformedError("is not a JSON object")
    fields = cast("dict[str, Any]", parsed)
    if HEADER in fields:
        try:
            ExportHeader.from_fields(fields)
        except ValueError as error:
            raise _MalformedError(str(error)) from None
        return None
    body = _bytes(fields, "body")
    if body is None:
        raise _MalformedError("has neither body nor body_base64")
    return _Message(
        number,
        _id(fields) if keep_ids else b"",
        body,
        _score(fields) if keep_times else "",
        _number(fields, "receive_count") or 0,
        _number(fields, "first_received"),
        _bytes(fields, "reason") or b"",
    )


def _bytes(fields: dict[str, Any], name: str) -> bytes | None:
    text = fields.get(name)
    encoded = fields.get(f"{name}_base64")
    if text is not None and encoded is not None:
        raise _MalformedError(f"has both {name} and {name}_base64")
    try:
        if encoded is not None:
            return base64.b64decode(encoded, validate=True)
        return None if text is None else text.encode()
    except (AttributeError, TypeError, ValueError):
        raise _MalformedError(f"has an invalid {name}") from None


def _id(fields: dict[str, Any]) -> bytes:
    """The id; not one that would change the queue's settings, or another message's fields."""
    id = fields.get("id")
    if not isinstance(id, str) or not id or id in _FIELDS or id.endswith((":rc", ":fr")):
        raise _MalformedError("has no id, or an invalid one")
    return id.encode(errors="surrogateescape")


def _score(fields: dict[str, Any]) -> str:
    score = fields.get("visible_at")
    if type(score) in (int, float, str):
        text = str(score)
        if _SCORE.fullmatch(text):
            return repr(float(text))  # the server refuses what is too large, or too near to 0
    raise _MalformedError("has no visible_at, or an invalid one")


def _number(fields: dict[str, Any], name: str) -> int | None:
    number = fields.get(name)
    if number is None or (type(number) is int and 0 <= number < _MAX_NUMBER):
        return number
    raise _MalformedError(f"has an invalid {name}")
