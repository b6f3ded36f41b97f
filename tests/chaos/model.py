"""What an RSMQ queue holds, in plain Python, and what each verb makes of it: after RSMQ's wire format and our contract.

Nothing here is taken from the library. A moment that only the server knows is a span until the server has told it.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

NONSENSE = dict.fromkeys((b"abc", b"", b"-5", b"1e300", b"9" * 30, b"\xff", b"nan")) | {
    b"33.7": 33,
    b" 37 ": 37,
    b"037": 37,
}
"""Numbers as others may have written them, and how they read."""

ATTRIBUTES = {"vt": 30, "delay": 0, "maxsize": 65536}


def whole(value):
    """An integer that others have written, or None; no negative one."""
    if value is None or value in NONSENSE:
        return NONSENSE.get(value)
    return int(value) if int(value) >= 0 else None


class Span(NamedTuple):
    """Moments of the server's clock, in ms: one of them it was."""

    first: int
    last: int

    def after(self, ms):
        return Span(self.first + ms, self.last + ms)

    def seconds(self):
        return Span(self.first // 1000, self.last // 1000)


@dataclass
class Stored:
    """A message as it stands in the keys. One without a body is a phantom."""

    body: bytes | None
    score: float | Span
    rc: bytes | None = None
    fr: bytes | Span | None = None

    @property
    def is_clean(self):
        """Whether receiving it and undoing that leaves it byte for byte as it was."""
        return self.body is not None and (self.rc, self.fr) == (
            (None, None) if self.rc is None else (str(whole(self.rc) or None).encode(), str(whole(self.fr)).encode())
        )


class Receipt(NamedTuple):
    id: bytes
    body: bytes
    count: int
    first: bytes | Span | None
    visible: float | Span


@dataclass
class Model:
    """One queue, whether it exists or not."""

    attributes: dict = field(default_factory=dict)
    """The fields of its hash that are no message's: name to bytes, or a span."""
    messages: dict = field(default_factory=dict)
    listed: bool = False

    @property
    def exists(self):
        return not ATTRIBUTES.keys().isdisjoint(self.attributes)

    def attribute(self, name):
        value = self.attributes.get(name)
        if name == "maxsize" and value in (b"-1", b"-5"):
            return -1
        read = whole(value)
        return ATTRIBUTES.get(name, 0) if read is None else read

    def can_count(self, name):
        """Whether HINCRBY works on a total, or fails."""
        return re.fullmatch(rb"0|-?[1-9][0-9]{0,17}", self.attributes.get(name, b"0")) is not None

    def count(self, name, by):
        if self.can_count(name):
            self.attributes[name] = b"%d" % (int(self.attributes.get(name, b"0")) + by)

    def create(self, now, vt, delay, maxsize):
        """Returns whether it was there not yet; as for Node, only a hash with vt is a queue here."""
        if "vt" in self.attributes:
            return False
        given = {"vt": b"%d" % vt, "delay": b"%d" % delay, "maxsize": b"%d" % maxsize}
        times = {"created": now.seconds(), "modified": now.seconds()}
        self.attributes = given | times | self.attributes
        self.listed = True
        return True

    def delete(self):
        existed = bool(self.listed or self.attributes or self.messages)
        self.attributes, self.messages, self.listed = {}, {}, False
        return existed

    def change(self, now, **values):
        self.attributes |= {name: b"%d" % value for name, value in values.items()} | {"modified": now.seconds()}

    def fits(self, body):
        return self.attribute("maxsize") < 0 or len(body) <= self.attribute("maxsize")

    def send(self, now, id, body, delay_ms=None):
        delay_ms = self.attribute("delay") * 1000 if delay_ms is None else delay_ms
        self.messages[id] = Stored(body, now.after(delay_ms))
        self.count("totalsent", 1)

    def in_order(self):
        return [id for _, id in sorted((stored.score, id) for id, stored in self.messages.items())]

    def due(self, now):
        """The ids that are visible, in order. It must be certain which are."""
        assert not [id for id, stored in self.messages.items() if now.first < stored.score <= now.last], (
            "no certain time"
        )
        return [id for id in self.in_order() if self.messages[id].score <= now.first]

    def receive(self, now, limit=1, vt_ms=None):
        """Hand out, and hide. Phantoms in front of those handed out go."""
        visible = now.after(self.attribute("vt") * 1000 if vt_ms is None else vt_ms)
        return [self._hand_out(id, now, visible) for id in self._claim(now, limit)]

    def pop(self, now, limit=1):
        receipts = [self._hand_out(id, now, now) for id in self._claim(now, limit)]
        for receipt in receipts:
            del self.messages[receipt.id]
        return receipts

    def _claim(self, now, limit):
        claimed = []
        for id in self.due(now):
            if len(claimed) == limit:
                break
            if self.messages[id].body is None:
                del self.messages[id]
            else:
                claimed.append(id)
        return claimed

    def _hand_out(self, id, now, visible):
        stored = self.messages[id]
        count, first = (whole(stored.rc) or 0) + 1, whole(stored.fr)
        stored.score, stored.rc = visible, b"%d" % count
        stored.fr = now if count == 1 or first is None else b"%d" % first
        self.count("totalrecv", 1)
        return Receipt(id, stored.body, count, stored.fr, visible)

    def holds(self, id, count=None):
        """Whether the message is there, and was received so often and not since."""
        stored = self.messages.get(id)
        return stored is not None and (count is None or (whole(stored.rc) or 0) == count)

    def remove(self, id, count=None):
        return self.holds(id, count) and self.messages.pop(id) is not None

    def hide(self, now, id, ms, count=None):
        if found := self.holds(id, count):
            self.messages[id].score = now.after(ms)
        return found

    def purge(self):
        purged = len(self.messages)
        self.messages.clear()
        return purged

    def peek(self, limit):
        def look(id):
            stored = self.messages[id]
            first = None if whole(stored.fr) is None else b"%d" % whole(stored.fr)
            return Receipt(id, stored.body, whole(stored.rc) or 0, first, stored.score)

        return [look(id) for id in self.in_order() if self.messages[id].body is not None][:limit]

    def let_pass(self, ms):
        for stored in self.messages.values():
            stored.score -= ms

    def meet(self, fields, scores, listed):
        """Compare with what the server holds; what was a span is known from now on.

        Returns new scores for those that were spans: the earliest, so that the order does not depend on our speed.
        """
        expected = {name.encode(): value for name, value in self.attributes.items()}
        for id, stored in self.messages.items():
            values = {id: stored.body, id + b":rc": stored.rc, id + b":fr": stored.fr}
            expected |= {name: value for name, value in values.items() if value is not None}
        compare("fields", fields, expected)
        compare("scores", scores, {id: stored.score for id, stored in self.messages.items()})
        assert listed == self.listed, f"the server says listed={listed}"
        for name in self.attributes:
            self.attributes[name] = fields[name.encode()]
        moved = {id: stored.score.first for id, stored in self.messages.items() if isinstance(stored.score, Span)}
        for id, stored in self.messages.items():
            stored.score, stored.fr = moved.get(id, stored.score), fields.get(id + b":fr")
        return moved


def agrees(value, expected):
    return expected.first <= float(value) <= expected.last if isinstance(expected, Span) else value == expected


def compare(what, actual, expected):
    """Fail with the differences alone."""
    odd = {
        name: (actual.get(name), expected.get(name))
        for name in actual.keys() | expected.keys()
        if name not in actual or name not in expected or not agrees(actual[name], expected[name])
    }
    assert not odd, f"{what}, as (server, model): {odd}"
