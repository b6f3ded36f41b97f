"""Consumers of a queue: how they claim, share and return messages."""

from .breakage import MODEL, Breakage
from .edits import Edit

CONSUMERS = {
    "cut-short-is-complete": Breakage(
        "a claim that stopped early is taken for all that there is",
        (Edit("_claim", "bool(more)", "False"),),
        (
            "test_receive.py::TestCutShort::test_without_a_lease",
            "test_receive.py::TestCutShort::test_large_bodies_without_a_lease",
        ),
    ),
    "a-claim-per-consumer": Breakage(
        "each consumer claims by a script call of its own",
        (Edit("Claims._claim", "len(self._line)", "1"),),
        ("test_waiting.py::TestCounts::test_a_thousand_messages",),
    ),
    "nobody-asks-for-those-left": Breakage(
        "consumers that a claim cut short left without a message wait for the safety poll",
        (
            Edit(
                "Claims._distribute",
                "self._flag.is_set = self._flag.is_set or not slot.patient",
                "pass",
            ),
        ),
        (
            "test_receive.py::TestCutShort::test_more_than_there_are_of_large_bodies",
            MODEL,
        ),
    ),
    "no-hand-back": Breakage(
        "a message claimed for a consumer that is cancelled stays hidden",
        (Edit("Claims._give", "self._tasks.start(self._return(unwanted))", "pass"),),
        (
            MODEL,
            "chaos/test_cancellation.py::test_cancelled_at_random_awaits",
        ),
    ),
    "in-the-line-is-answered": Breakage(
        "a long poll that stands behind an unanswered claim says that there is no message",
        (Edit("Claims._give_up", "not (has_been_answered and slot in line)", "slot not in line"),),
        ("test_receive.py::TestNoAnswer::test_stopped_behind_another",),
    ),
    "no-due-timer": Breakage(
        "a consumer does not know when the next message becomes visible",
        (
            Edit(
                "Claims._seconds_to_wait",
                "min(poll, (self._next_ms + 1 - self._scripts.clock.now_ms()) / 1000)",
                "poll",
            ),
        ),
        (
            "chaos/test_wake_up.py::test_delayed",
            "chaos/test_wake_up.py::test_expired_lease",
        ),
    ),
    "no-poll": Breakage(
        "a consumer that hears nothing never looks",
        (
            Edit(
                "Claims._seconds_to_wait",
                "self._claimed_at + self._poll_interval - time.monotonic()",
                "3600.0",
            ),
        ),
        ("chaos/test_wake_up.py::test_silent_producer",),
    ),
    "no-answer-is-nothing": Breakage(
        "a long poll that was never answered says that there is no message",
        (
            Edit(
                "Claims.take",
                'raise self._scripts.trouble("receive") or self._scripts.late(NO_REPLY)',
                "return []",
            ),
            Edit("Claims._give_up", "slot.fail(trouble)", "slot.finish()"),
        ),
        (
            "test_receive.py::TestNoAnswer::test_stopped",
            "test_receive.py::TestNoAnswer::test_a_replica",
        ),
    ),
    "claim-is-not-passed-on": Breakage(
        "what was claimed for a consumer that goes is dropped",
        (Edit("Claims.withdraw", "self._give(held)", ""),),
        (
            "test_stream.py::TestNothingIsLost::test_what_was_claimed_ahead_goes_to_another",
            "chaos/test_cancellation.py::test_cancelled_at_random_awaits",
        ),
    ),
    "filled-in-the-order-of-the-line": Breakage(
        "a stream hands out its slots in the order of the line, not in that of the claims",
        (Edit("Messages.__anext__", "done.done.popleft", "done.done.pop"),),
        ("test_receive.py::TestCutShort::test_order_of_large_bodies_with_prefetch",),
    ),
    "long-poll-leaves-what-arrives": Breakage(
        "a long poll that ends does not wait for a message that is arriving",
        (Edit("Scripts.while_heard.look", "pipeline is None", "True"),),
        ("test_receive.py::TestSlowLine::test_a_long_poll_that_ends",),
    ),
    "unreadable-at-once-again": Breakage(
        "a message that the codec cannot read is redelivered at once by a queue with vt=0",
        (Edit("Shared.set_aside", "left_ms < SHORTEST_HIDING * 1000", "False"),),
        ("test_receive.py::TestUnreadable::test_without_a_lease",),
    ),
}
