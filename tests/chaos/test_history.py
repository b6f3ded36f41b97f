"""The checker finds what it is there to find."""

import pytest

from chaos.history import Content, check

VT = 1000


def sent(body, id, ms=0):
    facts = {"by": "p", "ms": ms, "body": body, "delay": None}
    return [{"op": "sending", **facts}, {"op": "sent", **facts, "id": id}]


def delivered(body, id, at, rc=1, by="c", until=None):
    until = at + VT if until is None else until
    return [
        {
            "op": "delivered",
            "by": by,
            "ms": at,
            "body": body,
            "id": id,
            "rc": rc,
            "at": at,
            "until": until,
        }
    ]


def said(op, id, ms, rc=1, by="c", **facts):
    return [{"op": op, "by": by, "ms": ms, "id": id, "rc": rc, **facts}]


def deleted(id, ms, rc=1, by="c"):
    return said("deleting", id, ms, rc, by) + said("deleted", id, ms, rc, by)


GOOD = [*sent("p/0/1", "A"), *delivered("p/0/1", "A", 10), *deleted("A", 20)]
SECOND = [*sent("p/0/2", "B"), *delivered("p/0/2", "B", 30), *deleted("B", 40)]
EXTENDED = said("extending", "A", 500, vt=1) + said("extended", "A", 500, vt=1)
ERROR = {"op": "error", "by": "p", "ms": 0, "doing": "sending", "text": "?"}


def test_kept_promises():
    """A history in which every promise was kept, with all that may happen, is not complained of."""
    history = [
        *GOOD,
        *sent("p/0/2", "B"),
        *delivered("p/0/2", "B", 10),
        *delivered("p/0/2", "B", 10 + VT, rc=2, by="d"),  # the lease had ended
        *said("deleting", "B", 2000, by="c"),
        *said("delete refused", "B", 2000, by="c"),
        *said("releasing", "B", 1500, rc=2, by="d"),
        *said("released", "B", 1500, rc=2, by="d"),
        *delivered("p/0/2", "B", 1500, rc=3),
        *deleted("B", 1600, rc=3),
        *sent("p/0/3", "C"),  # not yet delivered
        {
            "op": "sending",
            "by": "p",
            "ms": 0,
            "body": "p/0/4",
            "delay": None,
        },  # not acknowledged, but stored
        *delivered("p/0/4", "D", 1700, rc=2),  # the first delivery reached nobody
        *deleted("D", 1800, rc=2),
        *sent("p/0/5", "E", ms=2000),  # deleted before its sender heard of it, and stored again
        *delivered("p/0/5", "E", 1900),
        *deleted("E", 1950),
        *delivered("p/0/5", "E", 1999),
        *delivered("p/0/5", "E", 2999, rc=2),
        *deleted("E", 3050, rc=2),
        *sent("p/0/6", "F", ms=2000),  # likewise, and then its first delivery reached nobody
        *delivered("p/0/6", "F", 1900),
        *deleted("F", 1950),
        *delivered("p/0/6", "F", 2500, rc=2),
        *deleted("F", 2550, rc=2),
        *sent("p/0/7", "G", ms=2000),  # likewise, and stored again before its deleter heard of it
        *delivered("p/0/7", "G", 1900, rc=2),
        *said("deleting", "G", 1950, rc=2),
        *delivered("p/0/7", "G", 1950),
        *said("deleted", "G", 1955, rc=2),
        *deleted("G", 1960),
        *sent("p/0/8", "H", ms=2000),
        *delivered("p/0/8", "H", 1900),
        *said("deleting", "H", 1940),
        *delivered("p/0/8", "H", 1950),
        *said("deleted", "H", 1950),
        *said("releasing", "H", 1960),
        *said("released", "H", 1960),
        *delivered("p/0/8", "H", 2500, rc=3),
        *deleted("H", 2550, rc=3),
        *sent(
            "p/0/9", "I", ms=2000
        ),  # likewise, received by nobody, and deleted by the repetition of the delete
        *delivered("p/0/9", "I", 1900, rc=2),
        *said("deleting", "I", 1950, rc=2),
        *said("deleted", "I", 2050, rc=2),
        ERROR | {"error": "TimeoutError"},
    ]
    verdict = check(history, Content(totalsent=14, totalrecv=23, left={"C": 0}))
    assert verdict.violations == []
    assert (verdict.attempted, verdict.acknowledged, verdict.recovered, verdict.repeated) == (
        9,
        8,
        1,
        5,
    )
    assert (
        verdict.redelivered,
        verdict.unseen,
        verdict.refused,
        verdict.errors["TimeoutError"],
    ) == (4, 5, 1, 1)


@pytest.mark.parametrize(
    ("kind", "history", "totalsent", "totalrecv"),
    [
        ("lost", [*GOOD, *sent("p/0/2", "B")], 1, 1),
        ("lost", [*GOOD, *sent("p/0/2", "B"), *delivered("p/0/2", "B", 30)], 2, 2),
        ("unexpected", [*GOOD, *delivered("q/0/1", "B", 30), *deleted("B", 40)], 2, 2),
        ("duplicated", [*GOOD, *delivered("p/0/1", "B", 30), *deleted("B", 40)], 2, 2),
        (
            "overlaps",
            [*GOOD[:3], *delivered("p/0/1", "A", 900, rc=2), *deleted("A", 1000, rc=2)],
            1,
            2,
        ),
        (
            "overlaps",
            [*GOOD[:3], *EXTENDED, *delivered("p/0/1", "A", 1400, rc=2), *deleted("A", 1500, rc=2)],
            1,
            2,
        ),
        (
            "miscounts",
            [*GOOD, *delivered("p/0/1", "A", 30), *deleted("A", 40)],
            2,
            2,
        ),  # its sender knew, at 0
        ("miscounts", [*GOOD[:3], *delivered("p/0/1", "A", 1100), *deleted("A", 1200)], 2, 2),
        ("miscounts", GOOD, 2, 1),
        ("miscounts", GOOD, 1, 2),
        ("miscounts", [*sent("p/0/1", "A", ms=15), *GOOD[2:]], 2, 1),  # it knew before the delete
        ("miscounts", [*sent("p/0/1", "A", ms=20), *GOOD[2:]], 3, 3),
        ("miscounts", [*sent("p/0/1", "A", ms=20), *GOOD[2:]], 2, 3),
        (
            "unfenced",
            [*GOOD[:3], *delivered("p/0/1", "A", 1100, rc=2, by="d"), *deleted("A", 1200)],
            1,
            1,
        ),
        (
            "unfenced",
            [
                *GOOD[:3],
                *delivered("p/0/1", "A", 1100, rc=2, by="d"),
                *said("extending", "A", 1200, vt=1),
                *said("extended", "A", 1200, vt=1),
                *deleted("A", 1300, rc=2, by="d"),
            ],
            1,
            2,
        ),
        (
            "unfenced",
            [
                *GOOD[:3],
                *delivered("p/0/1", "A", 1100, rc=2, by="d"),
                *deleted("A", 1200),
                *said("deleting", "A", 1300, rc=2, by="d"),
                *said("delete refused", "A", 1300, rc=2, by="d"),
            ],
            1,
            2,
        ),
        (
            "disorder",
            [*SECOND, *sent("p/0/1", "A"), *delivered("p/0/1", "A", 50), *deleted("A", 60)],
            2,
            2,
        ),
        ("undocumented", [*GOOD, ERROR | {"error": "ResponseError"}], 1, 1),
    ],
)
def test_broken_promises(kind, history, totalsent, totalrecv):
    """Each way to break a promise is found, and called by its name."""
    verdict = check(history, Content(totalsent, totalrecv), one_by_one=["c"])
    assert {violation.split(":")[0] for violation in verdict.violations} == {kind}
