"""What was done to a queue, by everybody, and whether that kept the promises. The words are those
of Jepsen's reports.

A history is a list of operations as `client.py` prints them, in any order but for each client's
own:

    {"op": "sending", "body", "delay"}, {"op": "sent", "body", "id"} {"op": "delivered", "id", "rc",
    "body", "at", "until"}      its lease by the server's clock, in ms {"op": "deleting", "id",
    "rc"}, {"op": "deleted", ...} or {"op": "delete refused", ...} {"op": "extending", "id", "rc",
    "vt"}, {"op": "extended", ...} or {"op": "extend refused", ...} {"op": "releasing", "id", "rc"},
    {"op": "released", ...} or {"op": "release refused", ...} {"op": "error", "doing", "error",
    "text"}

each with `by`, and with `ms`: a moment by the server's clock, not after which it was printed.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import redis

Operation = dict[str, Any]

DOCUMENTED = ("ConnectionError", "TimeoutError")
"""What a call may raise when its server is away for longer than the deadline."""


@dataclass
class Content:
    """What is left of a queue at the end."""

    totalsent: int
    totalrecv: int
    left: dict[str, int] = field(default_factory=dict)
    """The receive counts of the messages."""


@dataclass
class Verdict:
    attempted: int = 0
    """Sends that were begun."""
    acknowledged: int = 0
    """Sends that returned."""
    recovered: int = 0
    """Sends that did not return, and stored their message."""
    repeated: int = 0
    """Messages stored again, under their id: deleted before their sender, whose reply was lost,
    asked again.
    """
    redelivered: int = 0
    """Deliveries of what had been delivered before."""
    unseen: int = 0
    """Deliveries that were counted and reached nobody: the reply was lost, or the consumer
    killed.
    """
    refused: int = 0
    """Deletes, extends and releases by consumers whose lease had gone to another."""
    lost: list[str] = field(default_factory=list)
    """Messages that were acknowledged or delivered, that nobody began to delete, and that are not
    there.
    """
    unexpected: list[str] = field(default_factory=list)
    """Deliveries of what nobody sent."""
    duplicated: list[str] = field(default_factory=list)
    """Sends that stored more than one message."""
    overlaps: list[str] = field(default_factory=list)
    """Deliveries that came before the lease of the one before had ended."""
    miscounts: list[str] = field(default_factory=list)
    """Receive counts that did not rise, and counters that do not agree with what happened."""
    unfenced: list[str] = field(default_factory=list)
    """What a consumer was permitted although another had received the message since."""
    disorder: list[str] = field(default_factory=list)
    """Messages that came after a later one of the same producer."""
    errors: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """All that must not be, each with its kind."""
        lists = [
            "lost",
            "unexpected",
            "duplicated",
            "overlaps",
            "miscounts",
            "unfenced",
            "disorder",
            "undocumented",
        ]
        return [f"{name}: {what}" for name in lists for what in getattr(self, name)]

    def __str__(self) -> str:
        return (
            f"attempted {self.attempted:,}, acknowledged {self.acknowledged:,}, lost "
            f"{len(self.lost)}, "
            f"unexpected {len(self.unexpected)}, duplicated {len(self.duplicated)}, recovered "
            f"{self.recovered}, "
            f"repeated {self.repeated}, redelivered {self.redelivered}, overlaps "
            f"{len(self.overlaps)}, "
            f"errors {dict(self.errors) or 0}"
        )


LIMIT = "lost, unexpected, duplicated, overlaps 0; counters agree"


def read_history(paths: Iterable[Path]) -> list[Operation]:
    """A last line that its program did not live to finish is left out."""
    return [
        json.loads(line)
        for path in paths
        for line in path.read_bytes().splitlines(True)
        if line.endswith(b"\n")
    ]


def read_content(server: redis.Redis, qname: str, ns: str = "rsmq") -> Content:
    queue = f"{ns}:{qname}"
    fields = {name.decode(): value for name, value in server.hgetall(f"{queue}:Q").items()}
    left = {
        id.decode(): int(fields.get(f"{id.decode()}:rc", 0)) for id in server.zrange(queue, 0, -1)
    }
    return Content(int(fields.get("totalsent", 0)), int(fields.get("totalrecv", 0)), left)


def check(
    history: list[Operation], content: Content, *, one_by_one: Collection[str] = ()
) -> Verdict:
    """Judge a history. `one_by_one`: consumers that ask for one message at a time, which is when
    order is promised.
    """
    verdict = Verdict()
    by_op: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_op[operation["op"]].append(operation)
    stored_again = _check_messages(verdict, by_op, content)
    _check_sends(verdict, by_op, content)
    out_of_line = {one["body"] for one in by_op["sending"] if one["delay"] is not None}
    in_line = [
        one
        for one in by_op["delivered"]
        if one["by"] in one_by_one and one["body"] not in out_of_line
    ]
    _check_order(verdict, in_line, stored_again)
    for error in by_op["error"]:
        verdict.errors[error["error"]] += 1
        if error["error"] not in DOCUMENTED:
            verdict.undocumented.append(
                f"{error['error']}: {error['text']} ({error['doing']} by {error['by']})"
            )
    verdict.refused = sum(len(by_op[f"{what} refused"]) for what in ("delete", "extend", "release"))
    return verdict


def _check_sends(verdict: Verdict, by_op: dict[str, list[Operation]], content: Content) -> None:
    attempted = {one["body"] for one in by_op["sending"]}
    acknowledged = {one["body"]: one["id"] for one in by_op["sent"]}
    ids: dict[str, set[str]] = defaultdict(set)
    for body, id in acknowledged.items():
        ids[body].add(id)
    for one in by_op["delivered"]:
        ids[one["body"]].add(one["id"])
        if one["body"] not in attempted:
            verdict.unexpected.append(f"{one['body']} as {one['id']}")
    verdict.attempted, verdict.acknowledged = len(attempted), len(acknowledged)
    verdict.recovered = len(ids.keys() & attempted - acknowledged.keys())
    verdict.duplicated += [f"{body} as {sorted(all)}" for body, all in ids.items() if len(all) > 1]
    deleted = {one["id"] for one in by_op["deleting"]}
    known = {id for all in ids.values() for id in all}
    verdict.lost += sorted(known - deleted - content.left.keys())


def _check_messages(
    verdict: Verdict, by_op: dict[str, list[Operation]], content: Content
) -> set[str]:
    """Judge each message's deliveries, and the counters. Returns what was stored more than once."""
    about: dict[str, list[Operation]] = defaultdict(list)
    for op in (
        "deleting",
        "deleted",
        "extending",
        "extended",
        "extend refused",
        "releasing",
        "released",
    ):
        for one in by_op[op]:
            about[one["id"]].append(one)
    deliveries: dict[str, list[Operation]] = defaultdict(list)
    for one in by_op["delivered"]:
        deliveries[one["id"]].append(one)
    acknowledged = {one["id"]: one["ms"] for one in by_op["sent"]}
    untouched = content.left.keys() - deliveries.keys()
    stored, received, stored_again = (
        len(untouched),
        sum(content.left[id] for id in untouched),
        set(),
    )
    perhaps: list[int] = []
    for id, delivered in deliveries.items():
        lives = _lives(delivered, about[id])
        if len(lives) > 1:
            stored_again.add(id)
            _check_repetition(verdict, lives, about[id], acknowledged.get(id))
        perhaps += _perhaps_hidden(about[id], acknowledged.get(id, math.inf))
        for life, following in zip_longest(lives, lives[1:]):
            begin, end = life[0]["at"], following[0]["at"] if following else math.inf
            settled = [one for one in about[id] if begin <= one["ms"] <= end]
            _check_leases(verdict, life, settled)
            counts = {
                one["rc"] for one in life
            }  # in the same ms, the life before may still have been settled
            deleting = [
                one["rc"] for one in settled if one["op"] == "deleting" and one["rc"] in counts
            ]
            highest = max(deleting, default=life[-1]["rc"])
            last = highest if following else content.left.get(id, highest)
            stored, received = stored + 1, received + last
            verdict.redelivered += len(life) - 1
            verdict.unseen += last - len(life)
    more = content.totalsent - stored
    perhaps.sort()
    if 0 < more <= len(perhaps) and sum(perhaps[:more]) <= content.totalrecv - received <= sum(
        perhaps[-more:]
    ):
        verdict.repeated += more
        stored, received = content.totalsent, content.totalrecv
    if stored != content.totalsent:
        verdict.miscounts.append(f"totalsent is {content.totalsent}, stored were {stored}")
    if received != content.totalrecv:
        verdict.miscounts.append(f"totalrecv is {content.totalrecv}, counted are {received}")
    return stored_again


def _lives(delivered: list[Operation], settled: list[Operation]) -> list[list[Operation]]:
    """The deliveries of one id, divided where it was delivered after it had been deleted, or its
    count started again.
    """
    lives: list[list[Operation]] = []
    for one in sorted(delivered, key=lambda one: (one["at"], one["rc"])):
        before = lives[-1][-1] if lives else one
        since = [
            each
            for each in settled
            if each["rc"] == before["rc"] and before["at"] <= each["ms"] <= one["at"]
        ]
        gone = {"deleting", "deleted"} <= {
            each["op"] for each in since
        }  # "deleted" alone: of the life before
        if one["rc"] > before["rc"] and not gone:
            lives[-1].append(one)
        else:
            lives.append([one])
    return lives


def _check_repetition(
    verdict: Verdict,
    lives: list[list[Operation]],
    settled: list[Operation],
    acknowledged: int | None,
) -> None:
    """A message may start again if it was deleted while its sender still did not know that it had
    been stored.
    """
    for before, after in pairwise(lives):
        deleting = [
            one["ms"] for one in settled if one["op"] == "deleting" and one["ms"] <= after[0]["at"]
        ]
        if (
            before[-1]["rc"] > 0
            and deleting
            and (acknowledged is None or min(deleting) <= acknowledged)
        ):
            verdict.repeated += 1
        else:
            verdict.miscounts.append(
                f"{after[0]['id']} was delivered as number {after[0]['rc']} to {after[0]['by']} "
                "after number "
                f"{before[-1]['rc']} to {before[-1]['by']}"
            )


def _perhaps_hidden(settled: list[Operation], acknowledged: float) -> list[int]:
    """The receive count of a life that nobody need have seen, if there may have been one.

    A delete was under way when the send was acknowledged. If both had lost their replies, what the
    send stored again may have been received, in a reply that was lost too, and deleted by the
    repeated delete, which takes it for the same; or it looks like the same, if the delete was not
    repeated.
    """
    for one in settled:
        if one["op"] == "deleting" and one["ms"] <= acknowledged:
            done = [
                each["ms"]
                for each in settled
                if each["op"] == "deleted" and each["rc"] == one["rc"]
            ]
            if min(done, default=math.inf) >= acknowledged:
                return [one["rc"]]
    return []


def _check_leases(verdict: Verdict, life: list[Operation], settled: list[Operation]) -> None:
    for before, after in pairwise(life):
        own = [one for one in settled if one["rc"] == before["rc"]]
        if after["at"] < _lease_end(before, [one for one in own if one["ms"] <= after["at"]]):
            verdict.overlaps.append(
                f"{after['id']} to {after['by']} at {after['at']}, which was {before['by']}'s "
                f"until {before['until']}"
            )
        late = {one["op"] for one in own if one["ms"] > after["at"]}
        for doing, done in (
            ("extending", "extended"),
            ("releasing", "released"),
            ("deleting", "deleted"),
        ):
            done_at = [one["ms"] for one in own if one["op"] == done]
            if (
                doing in late
                and done_at
                and not (done == "deleted" and _deleted_before(settled, before, done_at[0]))
            ):
                verdict.unfenced.append(
                    f"{before['id']} {done} by {before['by']} after it went to {after['by']}"
                )


def _deleted_before(settled: list[Operation], delivery: Operation, ms: int) -> bool:
    """Whether a later receiver may have deleted it by then: to a delete that is repeated, what is
    gone is deleted.
    """
    return any(
        one["op"] == "deleting" and one["rc"] > delivery["rc"] and one["ms"] <= ms
        for one in settled
    )


def _lease_end(delivery: Operation, settled: list[Operation]) -> int:
    """The earliest moment at which a delivery's lease may have ended, from what its consumer did by
    then.
    """
    end = delivery["until"]
    if any(one["op"] == "extended" for one in settled):
        end = max(
            end, *(int(one["ms"] + one["vt"] * 1000) for one in settled if one["op"] == "extending")
        )
    return min([end, *(one["ms"] for one in settled if one["op"] in ("releasing", "deleting"))])


def _check_order(verdict: Verdict, deliveries: list[Operation], stored_again: set[str]) -> None:
    """First deliveries of what one task sent, one after another, come in that order. Bodies are
    `producer/task/n`.
    """
    latest: dict[tuple[str, str], int] = {}
    for one in deliveries:
        if one["rc"] == 1 and one["id"] not in stored_again:
            task, _, n = one["body"].rpartition("/")
            if int(n) < latest.get((one["by"], task), -1):
                verdict.disorder.append(
                    f"{one['body']} came to {one['by']} after number {latest[one['by'], task]}"
                )
            latest[one["by"], task] = int(n)
