"""Consumers of a queue: how they claim, share and return messages."""

from .breakage import MODEL, Breakage
from .edits import Edit

CONSUMERS = {
    "cut-short-is-complete": Breakage(
        "a claim that stopped early is taken for all that there is",
        (Edit("_read_claim", "bool(has_more)", "False"),),
        (
            "test_receive.py::TestCutShort::test_without_a_lease",
            "test_receive.py::TestCutShort::test_large_bodies_without_a_lease",
        ),
    ),
    "a-claim-per-consumer": Breakage(
        "each consumer claims by a script call of its own",
        (Edit("decide", "share if there_is_plenty else waiting", "1"),),
        (
            "inside/test_outlook.py::test_decide",
            "test_waiting.py::TestCounts::test_a_thousand_messages",
        ),
    ),
    "nobody-asks-for-those-left": Breakage(
        "consumers that a claim cut short left without a message wait for the safety poll",
        (
            Edit(
                "ConsumerLine._distribute",
                """
                if not waiter.patient:
                    self._flag.is_set = True
                """,
                "",
            ),
        ),
        ("test_receive.py::TestCutShort::test_more_than_there_are_of_large_bodies",),
    ),
    "no-hand-back": Breakage(
        "a message claimed for a consumer that is cancelled stays hidden",
        (Edit("ConsumerLine._pass_on", "self._hand_back(unwanted)", "pass"),),
        (
            MODEL,
            "chaos/test_cancellation.py::test_cancelled_at_random_awaits",
        ),
    ),
    "in-the-line-is-answered": Breakage(
        "a long poll that stands behind an unanswered claim says that there is no message",
        (Edit("ConsumerLine._end_wait", "waiter.patient and waiter in line", "waiter in line"),),
        ("test_receive.py::TestNoAnswer::test_stopped_behind_another",),
    ),
    "asks-while-a-claim-is-in-flight": Breakage(
        "consumers do not wait for the claim that serves them, but claim again",
        (Edit("decide", "claims_in_flight and not (there_is_plenty and share)", "False"),),
        (
            "inside/test_outlook.py::test_decide",
            "test_receive.py::TestCutShort::test_two_of_many_without_a_lease",
        ),
    ),
    "asks-for-nobody": Breakage(
        "where there is plenty, a claim goes out that serves no consumer",
        (Edit("decide", "there_is_plenty and share", "there_is_plenty"),),
        ("inside/test_outlook.py::test_decide",),
    ),
    "claims-of-the-same-messages": Breakage(
        "claims without a lease are in flight at the same time, and return the same messages",
        (
            Edit(
                "decide",
                "outlook.claim_is_leased and outlook.more_are_visible(now.server_ms)",
                "outlook.more_are_visible(now.server_ms)",
            ),
        ),
        (
            "inside/test_outlook.py::test_decide",
            "test_stream.py::TestLongPolls::test_receive_many_without_a_lease",
        ),
    ),
    "claims-within-a-millisecond": Breakage(
        "a claim without a lease comes before others are first, and returns the same messages",
        (Edit("decide", "not outlook.claim_is_leased", "False"),),
        ("inside/test_outlook.py::test_decide",),
    ),
    "visible-a-millisecond-late": Breakage(
        "a message that has become visible in this millisecond counts as hidden",
        (Edit("Outlook.more_are_visible", "self.next_ms <= now_ms", "self.next_ms < now_ms"),),
        ("inside/test_outlook.py::test_more_are_visible",),
    ),
    "no-due-timer": Breakage(
        "a consumer does not know when the next message becomes visible",
        (
            Edit(
                "Outlook.due_at",
                "min(poll_at, now.time + (self.next_ms + 1 - now.server_ms) / 1000)",
                "poll_at",
            ),
        ),
        (
            "inside/test_outlook.py::test_decide",
            "chaos/test_wake_up.py::test_delayed",
            "chaos/test_wake_up.py::test_expired_lease",
        ),
    ),
    "no-poll": Breakage(
        "a consumer that hears nothing never looks",
        (Edit("Outlook.due_at", "self.claimed_at + poll_interval", "now.time + 3600"),),
        (
            "inside/test_outlook.py::test_decide",
            "chaos/test_wake_up.py::test_silent_producer",
        ),
    ),
    "no-answer-is-nothing": Breakage(
        "a long poll that was never answered says that there is no message",
        (
            Edit(
                "ConsumerLine.take",
                'raise self._node.trouble("receive") or self._node.late(NO_REPLY)',
                "return []",
            ),
            Edit("ConsumerLine._end_wait", "waiter.fail(..., ...)", "waiter.dismiss()"),
        ),
        (
            "test_receive.py::TestNoAnswer::test_stopped",
            "test_receive.py::TestNoAnswer::test_a_replica",
        ),
    ),
    "claim-is-not-passed-on": Breakage(
        "what was claimed for a consumer that goes is dropped",
        (Edit("ConsumerLine.leave", "self._pass_on(unused)", ""),),
        (
            "test_stream.py::TestNothingIsLost::test_what_was_claimed_ahead_goes_to_another",
            "chaos/test_cancellation.py::test_cancelled_at_random_awaits",
        ),
    ),
    "a-pause-leaves-what-was-claimed-ahead": Breakage(
        "a stream goes on handing out what it has claimed ahead, though the queue is paused",
        (Edit("ConsumerLine._on_claim", "self.leave(self.audience.withdraw_served())", "pass"),),
        ("operations/test_pause.py::TestAhead::test_handed_back",),
    ),
    "a-pause-is-not-heard-by-the-busy": Breakage(
        "a stream whose messages are all claimed ahead does not ask when a pause is announced",
        (Edit("ConsumerLine._look", "self._claim(0)", "pass"),),
        ("operations/test_pause.py::TestAhead::test_handed_back",),
    ),
    "passed-on-in-a-paused-queue": Breakage(
        "in a paused queue, what a consumer leaves goes to the next one",
        (Edit("ConsumerLine._pass_on", "self._line and not self._pause.is_on", "self._line"),),
        ("operations/test_pause.py::TestAhead::test_not_to_another",),
    ),
    "filled-in-the-order-of-the-line": Breakage(
        "a stream hands out its slots in the order of the line, not in that of the claims",
        (
            Edit(
                "Messages.__anext__",
                "waiter = mailbox.delivered.popleft()",
                """
                waiter = mailbox.waiters[0]
                mailbox.delivered.remove(waiter)
                """,
            ),
            Edit("Messages.__anext__", "not mailbox.delivered", "not mailbox.waiters[0].is_done"),
        ),
        (
            "test_receive.py::TestCutShort::test_order_of_large_bodies_with_prefetch",
            "test_stream.py::TestSharing::test_prefetched_in_another_order",
        ),
    ),
    "long-poll-leaves-what-arrives": Breakage(
        "a long poll that ends does not wait for a message that is arriving",
        (Edit("Node.while_heard.look", "lane is None", "True"),),
        ("test_receive.py::TestSlowLine::test_a_long_poll_that_ends",),
    ),
    "unreadable-at-once-again": Breakage(
        "a message that the codec cannot read is redelivered at once by a queue with vt=0",
        (Edit("QueueCore.put_aside", "left_ms < MIN_HIDING * 1000", "False"),),
        ("test_receive.py::TestUnreadable::test_without_a_lease",),
    ),
}
