"""Which node of a cluster has which slot, as the nodes say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.crc import key_slot

Address = tuple[str, int]
"""A host and a port."""
Remap = Callable[[str, int], Address]
"""From the address that a node has in the cluster to the one that reaches it from here."""


def slot_of(ns: str) -> int:
    """The slot of all keys of a namespace that has a hash tag."""
    return key_slot(ns.encode())


class _Range(NamedTuple):
    first: int
    last: int
    owner: Address


class SlotMap:
    """What one node knew about all of them."""

    def __init__(self, ranges: Sequence[_Range], nodes: Sequence[Address]) -> None:
        self._ranges = ranges
        self.nodes: Sequence[Address] = nodes
        """Those that have slots, and their replicas."""

    def owner(self, slot: int) -> Address | None:
        """Who has a slot; None if nobody does."""
        owners = (part.owner for part in self._ranges if part.first <= slot <= part.last)
        return next(owners, None)


def parse_slots(reply: Sequence[Any], host: str, remap: Remap) -> SlotMap:
    """Read a reply to CLUSTER SLOTS.

    Args:
        host: that of the node which sent it. A node that does not know where it is leaves its host
            out, or says "?".
    """
    ranges: list[_Range] = []
    nodes: dict[Address, None] = {}
    for first, last, *members in reply:
        addresses = [remap(_host(member[0], host), int(member[1])) for member in members]
        ranges.append(_Range(int(first), int(last), addresses[0]))
        nodes.update(dict.fromkeys(addresses))
    return SlotMap(ranges, list(nodes))


def _host(name: Any, host: str) -> str:
    return host if name in (None, b"", b"?") else bytes(name).decode()
