"""What the line of consumers does next: `decide`, by a table, without a server."""

import pytest
from aiorsmq._consuming.outlook import NOTHING, Ask, Moment, Outlook, WaitUntil, decide

NOW = Moment(time=100.0, server_ms=5_000_000.0)
POLL_INTERVAL = 5.0

EMPTY = Outlook(claimed_at=99.0, next_ms=None, claim_is_leased=True, distinct_ms=5_030_000.0)
"""One second ago a claim found nothing that is left."""
DUE_IN_2_S = EMPTY._replace(next_ms=NOW.server_ms + 2000)
PLENTY = EMPTY._replace(next_ms=NOW.server_ms - 1)
"""The latest claim left visible messages, and those it took are leased."""
PLENTY_NOT_LEASED = PLENTY._replace(claim_is_leased=False, distinct_ms=NOW.server_ms)

CASES = {
    "nobody waits": (PLENTY, {"waiting": 0, "has_news": True}, NOTHING),
    "the first claim": (Outlook(), {}, Ask(3)),
    "nothing is known to be there": (EMPTY, {}, WaitUntil(104.0)),
    "news": (EMPTY, {"has_news": True}, Ask(3)),
    "news while a claim is in flight": (EMPTY, {"has_news": True, "claims_in_flight": 1}, NOTHING),
    "a message is due before the poll": (DUE_IN_2_S, {}, WaitUntil(102.001)),
    "a message is due after the poll": (
        EMPTY._replace(next_ms=NOW.server_ms + 60_000),
        {},
        WaitUntil(104.0),
    ),
    "a message is due in this millisecond": (
        EMPTY._replace(next_ms=NOW.server_ms),
        {"share": 2},
        WaitUntil(100.001),
    ),
    "a message is due now": (EMPTY._replace(next_ms=NOW.server_ms - 1), {}, Ask(3)),
    "the poll is due": (EMPTY._replace(claimed_at=95.0), {}, Ask(3)),
    "plenty: a share": (PLENTY, {"share": 2}, Ask(2)),
    "plenty, a claim is in flight": (PLENTY, {"share": 2, "claims_in_flight": 1}, Ask(2)),
    "plenty, but the others are to gather": (
        PLENTY,
        {"share": 0, "claims_in_flight": 1},
        NOTHING,
    ),
    "plenty, but two claims would return the same": (
        PLENTY_NOT_LEASED,
        {"share": 2, "claims_in_flight": 1},
        NOTHING,
    ),
    "not leased: all at once": (PLENTY_NOT_LEASED, {"share": 2}, Ask(3)),
    "not leased, others are first from the next millisecond on": (
        PLENTY_NOT_LEASED._replace(distinct_ms=NOW.server_ms + 1),
        {"has_news": True},
        WaitUntil(100.001),
    ),
    "leased: distinct at once": (
        PLENTY._replace(distinct_ms=NOW.server_ms + 1),
        {"has_news": True, "share": 3},
        Ask(3),
    ),
    "after an outage": (EMPTY._replace(outage=ConnectionError(), next_ms=0.0), {}, Ask(3)),
}


@pytest.mark.parametrize("name", CASES)
def test_decide(name):
    """The line asks, waits until a time, or does nothing, by what it knows alone."""
    outlook, given, expected = CASES[name]
    options = {"waiting": 3, "claims_in_flight": 0, "share": 3, "has_news": False} | given
    step = decide(outlook, NOW, **options, poll_interval=POLL_INTERVAL)
    assert type(step) is type(expected)
    assert step == pytest.approx(expected)


@pytest.mark.parametrize(
    ("next_ms", "visible"), [(None, False), (999.0, True), (1000.0, True), (1001.0, False)]
)
def test_more_are_visible(next_ms, visible):
    """Messages are visible from their own millisecond on."""
    assert Outlook(next_ms=next_ms).more_are_visible(1000.0) is visible
