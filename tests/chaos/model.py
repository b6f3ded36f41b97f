"""What RSMQ queues hold, in plain Python, and what each verb makes of it: after RSMQ's wire format
and our contract.

Nothing here is taken from the library. A moment that only the server knows is a span until the
server has told it.
"""

import math
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
CALL, CALL_BYTES = 64, 1024 * 1024
"""The most messages that one script call hands out, and bytes of bodies after which it stops."""


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
    reason: tuple | None = None
    """Of one that died: when, how often it had been received, in which queue, and why."""

    @property
    def fence(self):
        return whole(self.rc) or 0, whole(self.fr)

    @property
    def is_clean(self):
        """Whether receiving it and undoing that leaves it byte for byte as it was."""
        return self.body is not None and (self.rc, self.fr) == (
            (None, None)
            if self.rc is None
            else (str(whole(self.rc) or None).encode(), str(whole(self.fr)).encode())
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

    name: str
    queues: dict
    """All there are, this one included: name to model."""
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

    @property
    def dead(self):
        """The dead-letter queue, or None."""
        name = self.attributes.get("dead_letter_queue", b"").decode(errors="replace")
        return self.queues.get(name) if name != self.name else None

    @property
    def max_receives(self):
        """Infinity if there is no limit, or if what is said of the dead-letter queue makes no
        sense.
        """
        number, name = (
            self.attributes.get("max_receives", b""),
            self.attributes.get("dead_letter_queue"),
        )
        makes_sense = (self.dead or not name) and re.fullmatch(rb"[1-9][0-9]{0,14}", number)
        return int(number) if makes_sense else math.inf

    @property
    def has_policy(self):
        """Whether dead messages go anywhere; without a dead-letter queue they are dropped."""
        return self.dead is not None or self.max_receives < math.inf

    def create(self, now, vt, delay, maxsize):
        """Returns whether it was there not yet; as for Node, only a hash with vt is a queue
        here.
        """
        if "vt" in self.attributes:
            return False
        given = {"vt": b"%d" % vt, "delay": b"%d" % delay, "maxsize": b"%d" % maxsize}
        times = {"created": now.seconds(), "modified": now.seconds()}
        self.attributes = given | times | self.attributes
        self.listed = True
        return True

    def closes_a_circle(self, name):
        """Whether dead messages would come back by themselves if they went there."""
        return self.queues[name].dead is self

    def let_die(self, now, name, max_receives):
        """Give it a policy: another dead-letter queue, which is created, and a limit; None for
        neither.
        """
        policy = {
            "dead_letter_queue": name and name.encode(),
            "max_receives": max_receives and b"%d" % max_receives,
        }
        if name is not None:
            self.queues[name].create_missing(now)
            policy = {field: value for field, value in policy.items() if value}
        self.attributes = {
            field: value for field, value in (self.attributes | policy).items() if value is not None
        }

    def create_missing(self, now):
        if not self.exists:
            self.create(now, *ATTRIBUTES.values())

    def delete(self):
        existed = bool(self.listed or self.attributes or self.messages)
        self.attributes, self.messages, self.listed = {}, {}, False
        return existed

    def change(self, now, **values):
        self.attributes |= {name: b"%d" % value for name, value in values.items()} | {
            "modified": now.seconds()
        }

    @property
    def paused(self):
        return self.attributes.get("paused", b"") != b""

    def pause(self, now):
        if self.paused:
            return False
        self.attributes["paused"] = now
        return True

    def resume(self):
        return self.attributes.pop("paused", b"") != b""

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
        assert not [
            id for id, stored in self.messages.items() if now.first < stored.score <= now.last
        ], "no certain time"
        return [id for id in self.in_order() if self.messages[id].score <= now.first]

    def receive(self, now, limits=(1,), vt_ms=None):
        """Hand out, and hide, to several at once; returns what each gets, those with a lease in any
        division.

        Phantoms in front of those handed out go, and so do those that have been received too often.
        """
        ms = self.attribute("vt") * 1000 if vt_ms is None else vt_ms
        visible = now.after(ms)
        if self.paused:
            return [[] for _ in limits] if ms == 0 else [[]]
        return (
            self._receive_again_and_again(now, limits)
            if ms == 0
            else [self._receive(now, sum(limits), visible)]
        )

    def receive_as_node(self, now, vt_ms):
        """One message, however often it has been received."""
        return [self._hand_out(id, now, now.after(vt_ms)) for id in self.due(now)[:1]]

    def _receive(self, now, limit, visible):
        receipts, dead = [], []
        for id in self.due(now):
            if len(receipts) == limit:
                break
            if self.is_phantom(id):
                continue
            receipt = self._hand_out(id, now, visible)
            (dead if receipt.count > self.max_receives else receipts).append(receipt)
        self.lay_to_rest(now, [receipt.id for receipt in dead], "received too often")
        return receipts

    def _receive_again_and_again(self, now, limits):
        """Without a lease: each call first finds what the others have not handed out.

        One call serves at most one receive of many. A consumer that gets nothing although there is
        more is in the next call.
        """
        got, turn, deaths = [{} for _ in limits], {}, 0
        line = [
            (at, limit > 1 and n == limit - 1)
            for at, limit in enumerate(limits)
            for n in range(limit)
        ]
        while line:
            ends = next((n for n, (_, is_last) in enumerate(line, 1) if is_last), len(line))
            asked, line = line[:ends], line[ends:]
            places = {
                id: (turn.get(id, 0), 0 if id in turn else self.messages[id].score, id)
                for id in self.due(now)
            }
            receipts = self._receive_by_one_call(
                now, sorted(places, key=places.get), min(ends, CALL)
            )
            more = len(self.due(now)) > len(receipts)
            turn |= dict.fromkeys(
                (receipt.id for receipt in receipts), max(turn.values(), default=0) + 1
            )
            dead = [receipt.id for receipt in receipts if receipt.count > self.max_receives]
            receipts = [
                receipt._replace(visible=now) for receipt in receipts if receipt.id not in dead
            ]
            self.lay_to_rest(now, dead, "received too often")
            deaths += len(dead)
            for (at, _), receipt in zip(asked, receipts, strict=False):
                place, _ = got[at].get(receipt.id, (places[receipt.id], None))
                got[at][receipt.id] = place, receipt
            line = asked[len(receipts) :] + line if more else line
        for id in turn.keys() & self.messages.keys():
            self.messages[id].score = now
        if deaths:
            self._may_be_received_while_it_moves(now, deaths, len(limits))
        return [[receipt for _, receipt in sorted(some.values())] for some in got]

    def _receive_by_one_call(self, now, ids, limit):
        receipts, size = [], 0
        for id in ids:
            if len(receipts) == limit or size >= CALL_BYTES:
                break
            if not self.is_phantom(id):
                receipts.append(self._hand_out(id, now, self.messages[id].score))
                size += len(receipts[-1].body)
        return receipts

    def _may_be_received_while_it_moves(self, now, deaths, calls):
        if self.can_count("totalrecv"):
            total = int(self.attributes["totalrecv"])
            self.attributes["totalrecv"] = Span(total, total + deaths * calls)
        for stored in self.dead.messages.values() if self.dead else ():
            if stored.reason and stored.score is now:
                when, count, *rest = stored.reason
                stored.reason = when, Span(count, count + calls), *rest

    def pop(self, now, limit=1):
        return [] if self.paused else self.pop_as_node(now, limit)

    def pop_as_node(self, now, limit=1):
        """It knows of no pause."""
        receipts = []
        for id in self.due(now):
            if len(receipts) == limit:
                break
            if not self.is_phantom(id):
                receipts.append(self._hand_out(id, now, now))
                del self.messages[id]
        return receipts

    def is_phantom(self, id):
        """Whether it has no body; then it is gone."""
        return self.messages[id].body is None and self.messages.pop(id) is not None

    def _hand_out(self, id, now, visible):
        stored = self.messages[id]
        count = (whole(stored.rc) or 0) + 1
        stored.score, stored.rc = visible, b"%d" % count
        if not isinstance(stored.fr, Span):  # else it was received by this very step
            first = whole(stored.fr)
            stored.fr = now if count == 1 or first is None else b"%d" % first
        self.count("totalrecv", 1)
        return Receipt(id, stored.body, count, stored.fr, visible)

    def lay_to_rest(self, now, ids, why):
        if self.dead:
            self.move(now, ids, self.dead, why)
        else:
            self.messages = {id: stored for id, stored in self.messages.items() if id not in ids}

    def move(self, now, ids, there, why=None):
        """To another queue, as new; because they die, or back."""
        if ids and why is not None:
            there.create_missing(now)
        for id in ids:
            stored = self.messages.pop(id)
            reason = None if why is None else (now, whole(stored.rc) or 0, self.name, why)
            there.messages[id] = Stored(stored.body, now, reason=reason)
            there.count("totalsent", 1)

    def redrive(self, now, to, limit):
        """Returns how many it moves, or None if there is no queue to go back to."""
        ids = [id for id in self.due(now) if self.messages[id].body is not None]
        if to is None:
            ids = [id for id in ids if self.messages[id].reason]
        there = next(queue for queue in self.queues.values() if queue is not self)
        if ids and not there.exists:
            return None
        self.move(now, ids[:limit], there)
        return len(ids[:limit])

    def holds(self, id, fence=None):
        """Whether the message is there, and was not received since, nor moved."""
        stored = self.messages.get(id)
        return stored is not None and (fence is None or stored.fence == fence)

    def remove(self, id, fence=None):
        return self.holds(id, fence) and self.messages.pop(id) is not None

    def hide(self, now, id, ms, fence=None):
        if found := self.holds(id, fence):
            self.messages[id].score = now.after(ms)
        return found

    def bury(self, now, fences, why):
        """`fences` by id. Returns what becomes of each: "dead", "dropped", or None if it stays."""
        if self.dead:
            self.dead.create_missing(now)
        goes = {
            id: self.holds(id, fence) and not (self.dead and self.messages[id].body is None)
            for id, fence in fences.items()
        }
        self.lay_to_rest(now, [id for id in fences if goes[id]], why)
        return {
            id: ("dead" if self.dead else "dropped") if gone else None for id, gone in goes.items()
        }

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

    def meet(self, fields, scores, reasons, listed):
        """Compare with what the server holds; what was a span is known from now on.

        Returns new scores for those that were spans: the earliest, so that the order does not
        depend on our speed.
        """
        expected = {name.encode(): value for name, value in self.attributes.items()}
        for id, stored in self.messages.items():
            values = {id: stored.body, id + b":rc": stored.rc, id + b":fr": stored.fr}
            expected |= {name: value for name, value in values.items() if value is not None}
        compare(f"fields of {self.name}", fields, expected)
        compare(
            f"scores of {self.name}",
            scores,
            {id: stored.score for id, stored in self.messages.items()},
        )
        assert listed == self.listed, f"the server says of {self.name} listed={listed}"
        for name in self.attributes:
            self.attributes[name] = fields[name.encode()]
        moved = {
            id: stored.score.first
            for id, stored in self.messages.items()
            if isinstance(stored.score, Span)
        }
        for id, stored in self.messages.items():
            stored.score, stored.fr = moved.get(id, stored.score), fields.get(id + b":fr")
            self._meet_reason(id, stored, reasons.get(id))
        return moved

    def _meet_reason(self, id, stored, written):
        """What is written of messages that are gone does not matter."""
        if stored.reason is None or written is None:
            assert stored.reason is written, (
                f"the server says of {id} why it died: {written}, not {stored.reason}"
            )
            return
        died, count, *rest = written.decode().split(" ", 3)
        actual = int(died), int(count), *rest
        for value, known in zip(actual, stored.reason, strict=True):
            assert agrees(value, known), (
                f"the server says of {id} why it died: {actual}, not {stored.reason}"
            )
        stored.reason = actual


def agrees(value, expected):
    return (
        expected.first <= float(value) <= expected.last
        if isinstance(expected, Span)
        else value == expected
    )


def compare(what, actual, expected):
    """Fail with the differences alone."""
    odd = {
        name: (actual.get(name), expected.get(name))
        for name in actual.keys() | expected.keys()
        if name not in actual or name not in expected or not agrees(actual[name], expected[name])
    }
    assert not odd, f"{what}, as (server, model): {odd}"
