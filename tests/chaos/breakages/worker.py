"""The worker: leases, handlers and its end."""

from .breakage import Breakage
from .edits import Edit

WORKER = {
    "what-users-raise-ends-the-task": Breakage(
        "a backoff or an on_error that fails ends the task that was to settle the message",
        (Edit("Jobs._ask", "BaseException", "KeyError"),),
        (
            "worker/test_user_functions.py::test_on_error",
            "worker/test_user_functions.py::test_backoff",
        ),
    ),
    "the-last-attempt-comes-again": Breakage(
        "a message that has failed for the last time is released, and dies later without a reason",
        (
            Edit(
                "Jobs._fail",
                "int(job.record.receive_count) >= dead.max_receives",
                "False",
            ),
        ),
        ("worker/test_failures.py::test_last_attempt_fails",),
    ),
    "the-stopped-keep-theirs": Breakage(
        "a message whose handler was cancelled by the end of the worker stays hidden",
        (Edit("Jobs._follow", "await self._release(job, lease.release_ms or 0)", "pass"),),
        ("worker/test_stop.py::test_end_of_grace",),
    ),
    "settled-by-a-cancelled-task": Breakage(
        "the handler's own task settles its message, though the handler may have cancelled it",
        (Edit("Jobs._handle", "job.task = asyncio.create_task(settling)", "await settling"),),
        (
            "worker/test_user_functions.py::test_handler_fails",
            "worker/test_user_functions.py::test_retries",
        ),
    ),
    "whatever-is-returned-is-done": Breakage(
        "a handler that returns False, to keep its message, has it deleted",
        (Edit("Jobs._run", "check_result(result)", "pass"),),
        ("worker/test_user_functions.py::test_handler_fails",),
    ),
    "the-ended-are-renewed": Breakage(
        "the lease of a handler that has ended is renewed with the others",
        (Edit("Lease.give_up", "del held[self.record.id]", "pass"),),
        ("worker/test_leases.py::test_an_ended_handler_is_not_renewed",),
    ),
    "a-lost-lease-is-ignored": Breakage(
        "a handler goes on though another consumer has received its message",
        (Edit("Leases._on_refused", "lease.on_lost()", "pass"),),
        ("worker/test_leases.py::test_lost_lease",),
    ),
    "stuck-for-ever": Breakage(
        "a handler that does not end keeps its message beyond max_lease",
        (
            Edit(
                "Leases._renew",
                "lease.until > now > lease.extended_until - self._vt",
                "now > lease.extended_until - self._vt",
            ),
            Edit("Leases._renew_step", "min(self._vt, lease.until - now)", "self._vt"),
        ),
        ("worker/test_leases.py::test_max_lease",),
    ),
    "adopted-from-a-former-life": Breakage(
        "a worker takes the receipt of a message that came back for its own renewed lease",
        (Edit("Leases.adopt", "record.first_received != lease.record.first_received", "False"),),
        ("test_receipts.py::test_a_worker_that_receives_its_message_again",),
    ),
    "own-claims-are-strangers": Breakage(
        "a worker whose own claim comes before its renewal cancels the handler, and starts another",
        (
            Edit(
                "Leases.adopt",
                """
                lease.record = record
                lease.visible_until = record.visible
                return True
                """,
                "return False",
            ),
        ),
        ("worker/test_leases.py::test_claimed_before_it_was_renewed",),
    ),
    "leases-are-not-renewed": Breakage(
        "a worker lets the leases of running handlers end",
        (Edit("Leases.keep", "await self._renew()", "await asyncio.sleep(0)"),),
        (
            "worker/test_leases.py::test_lease_is_renewed",
            "worker/test_stop.py::test_leases_are_renewed_while_stopping",
        ),
    ),
    "a-renewal-per-message": Breakage(
        "each lease is renewed by a script call of its own",
        (Edit("MAX_RENEWED", "1000", "1"),),
        ("worker/test_leases.py::test_one_call_renews_all",),
    ),
    "own-retry-and-reject": Breakage(
        "a Retry or a Reject without attributes of its own has none",
        (
            Edit("Retry", "", "del delay"),
            Edit("Reject", "", "del reason"),
            Edit("reason_of", "BaseException", "KeyError"),
            Edit("Jobs._ask", "BaseException", "KeyError"),
        ),
        (
            "worker/test_user_functions.py::test_rejects",
            "worker/test_user_functions.py::test_retries",
        ),
    ),
    "a-worker-ends-with-its-queue": Breakage(
        "a worker ends when its queue is deleted",
        (
            Edit(
                "Intake.take",
                """
                self.note_missing()
                return []
                """,
                "raise",
            ),
        ),
        ("test_missing_queue.py::TestWorker::test_waits",),
    ),
    "no-grace": Breakage(
        "a worker that stops cancels its handlers at once",
        (Edit("Worker._end", "anyio.move_on_after(self._grace)", "anyio.move_on_after(0)"),),
        (
            "worker/test_stop.py::test_leases_are_renewed_while_stopping",
            "worker/test_stop.py::test_signal",
        ),
    ),
    "first-queue-last": Breakage(
        "a list of queues is asked in no order",
        (Edit("Claimer._in_turn", "return self._intakes", "return self._intakes[::-1]"),),
        ("worker/test_queues.py::test_strict_priority",),
    ),
    "sigterm-kills-at-once": Breakage(
        "a program whose worker is in `async with` dies of SIGTERM with its messages hidden",
        (Edit("_watch", "signal.getsignal(signal.SIGTERM) not in (...)", "True"),),
        (
            "worker/test_signals.py::test_handlers_end",
            "worker/test_signals.py::test_claim_on_its_way",
        ),
    ),
    "sigterm-waits-for-the-server": Breakage(
        "a signal does not end a worker that still waits for the server",
        (Edit("Worker._on_signal", "self._starting.cancel()", "pass"),),
        ("worker/test_stop.py::test_signal_at_the_start",),
    ),
    "sigterm-is-swallowed": Breakage(
        "a program whose worker in `async with` has stopped at SIGTERM goes on without it",
        (Edit("_watch", "_die(signal.SIGTERM)", "pass"),),
        ("worker/test_signals.py::test_handlers_end",),
    ),
    "dies-with-a-claim-on-its-way": Breakage(
        "a program dies of SIGTERM before a claim on its way is handed back",
        (Edit("Worker._run", "await intake.core.node.engine.until_idle()", "pass"),),
        ("worker/test_signals.py::test_claim_on_its_way",),
    ),
    "the-dead-tell-nobody": Breakage(
        "the block of a worker that has died goes on",
        (Edit("Block._interrupt", "self._task.cancel(INTERRUPTED)", "pass"),),
        ("worker/test_block.py::test_interrupted", "worker/test_block.py::test_nested"),
    ),
    "an-interruption-is-left": Breakage(
        "the task of an interrupted block counts as being cancelled after it",
        (Edit("Block.leave", "task.uncancel()", "self._cancelling"),),
        ("worker/test_block.py::test_interrupted",),
    ),
    "an-outside-cancellation-is-swallowed": Breakage(
        "an interrupted block turns somebody else's cancellation into the worker's error",
        (Edit("Block.leave", "task.uncancel() <= self._cancelling", "task.uncancel() >= 0"),),
        ("worker/test_block.py::test_outside_cancellation_wins",),
    ),
}
