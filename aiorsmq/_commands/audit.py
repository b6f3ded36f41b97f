"""The keys of a queue are looked through for what is wrong in them, and repaired."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from .._protocol import Keys
from .._server.call import Call, Reply, RetryPolicy, single_int
from .._server.node import Node
from ..models import Audit, Findings

# Bounds of one script call: about a millisecond of the server's time.
MAX_LOOKS: Final = 200
"""Members or fields that are looked at."""
MAX_BYTES: Final = 128 * 1024
"""Bytes of bodies that are read, after which a step ends."""
MAX_REPAIRS: Final = 100

_EXAMPLES: Final = 10

_Finding = tuple[bytes, bytes]
"""What it is, and the name of the member or field."""


async def audit(node: Node, keys: Keys, *, repair: bool, budget: int) -> Audit:
    """See `Queue.audit`."""
    # By kind, then by name: a scan may meet a field twice while the hash grows or shrinks.
    found: dict[bytes, dict[bytes, bool]] = {}
    first: _Step | None = None
    examined = 0
    is_complete = True
    for part in ("members", "fields"):
        cursor = b"0"
        while examined < budget:
            step = await _look(node, keys, part, cursor, budget - examined)
            first = first or step
            examined += step.examined
            cursor = step.cursor
            repaired = await _repair(node, keys, step.findings) if repair else set[_Finding]()
            for kind, name in step.findings:
                names = found.setdefault(kind, {})
                names[name] = (kind, name) in repaired or names.get(name, False)
            if cursor == b"0":
                break
        else:
            is_complete = False
    assert first is not None  # noqa: S101 - the budget is 1 or more
    is_left_over = first.is_listed and not examined
    if repair and is_left_over and await _unlist(node, keys):
        first = first._replace(is_listed=False)
    return Audit(
        queue=keys.qname,
        has_settings=first.has_vt,
        is_listed=first.is_listed,
        messages=first.messages,
        unfinished_purge=first.backlog,
        phantoms=_findings(found, b"phantom"),
        leaked_fields=_findings(found, b"leaked field"),
        stranded_bodies=_findings(found, b"stranded body"),
        unknown_fields=_findings(found, b"unknown field"),
        unknown_members=_findings(found, b"unknown member"),
        examined=examined,
        is_complete=is_complete,
    )


class _Step(NamedTuple):
    """The reply of `audit.lua`."""

    has_vt: bool
    is_listed: bool
    messages: int
    backlog: int
    cursor: bytes
    examined: int
    findings: list[_Finding]


async def _look(node: Node, keys: Keys, part: str, cursor: bytes, budget: int) -> _Step:
    all_keys = (*keys.pair, keys.queues, keys.purged)
    args = (keys.qname, part, cursor, min(MAX_LOOKS, budget), MAX_BYTES)
    return await node.run(Call("audit", keys.qname, all_keys, args), _read_step)


async def _repair(node: Node, keys: Keys, findings: Sequence[_Finding]) -> set[_Finding]:
    """Mend what can be repaired; return what was wrong until then."""
    repaired: set[_Finding] = set()
    mendable = [finding for finding in findings if not finding[0].startswith(b"unknown")]
    for start in range(0, len(mendable), MAX_REPAIRS):
        batch = mendable[start : start + MAX_REPAIRS]
        channel = keys.channel if node.realtime else ""
        args = (channel, *(word for finding in batch for word in finding))
        call = Call(
            "repair",
            keys.qname,
            (*keys.pair, keys.purged),
            ("first", *args),
            RetryPolicy.SAFE_WITH_MARK,
            partial(_marked, args),
        )
        results = await node.run(call, partial(_read_results, len(batch)))
        repaired.update(finding for finding, result in zip(batch, results, strict=True) if result)
    return repaired


async def _unlist(node: Node, keys: Keys) -> bool:
    """Remove the name of a queue that is not there; False if it is there by now."""
    all_keys = (*keys.pair, keys.purged, keys.queues)
    return bool(await node.run(Call("unlist", keys.qname, all_keys, (keys.qname,)), single_int))


def _marked(args: tuple[str | bytes, ...]) -> tuple[str | bytes, ...]:
    return "retry", *args


def _read_step(reply: Reply) -> _Step:
    has_vt, is_listed, messages, backlog, cursor, examined, *words = reply
    findings = list(zip(words[::2], words[1::2], strict=True))
    return _Step(
        bool(has_vt),
        bool(is_listed),
        int(messages),
        int(backlog),
        bytes(cursor),
        int(examined),
        findings,
    )


def _read_results(number: int, reply: Reply) -> list[bool]:
    if len(reply) != number:
        raise ValueError("not one result for each")
    return list(map(bool, reply))


def _findings(found: dict[bytes, dict[bytes, bool]], kind: bytes) -> Findings:
    names = found.get(kind, {})
    examples = [name.decode(errors="backslashreplace") for name in list(names)[:_EXAMPLES]]
    return Findings(len(names), sum(names.values()), examples)
