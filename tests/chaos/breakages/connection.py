"""Connections: opening them, logging in, reading replies, giving up."""

from .breakage import MODEL, Breakage
from .edits import Edit, StringEdit

CONNECTION = {
    "a-cancelled-call-takes-the-deadline-away": Breakage(
        "a call whose neighbour in the script call was cancelled has no deadline",
        (
            Edit(
                "Batch._expire",
                "[sent.deadline for sent in self._sent if not sent.is_late]",
                "[sent.deadline for sent in self._sent if not sent.futures[-1].done()]",
            ),
        ),
        ("test_batch.py::test_deadline_after_a_cancelled_call",),
    ),
    "the-line-has-no-deadline": Breakage(
        "calls that wait behind others have no deadline",
        (
            Edit(
                "Batch._call",
                "self._timer.arm(sent.deadline)",
                "self._timer.arm(sent.deadline + 3600)",
            ),
            Edit("REPLY_TIMEOUT", "5.0", "3600.0"),
        ),
        ("test_receive.py::TestDeadline::test_sends_that_wait_behind_others",),
    ),
    "announced-in-two-pieces": Breakage(
        "the length of an array that comes in two pieces is not looked at",
        (Edit("Bounds.pieces", "_cut_array(..., ...)", "None"),),
        ("test_pipelining.py::test_too_large_an_array -k 1-many",),
    ),
    "bodies-taken-for-arrays": Breakage(
        "a line of a body that looks like a long array ends the connection",
        (Edit("Bounds.pieces", "not self._reader.has_data()", "True"),),
        ("test_pipelining.py::test_bodies_like_long_arrays",),
    ),
    "room-for-what-is-announced": Breakage(
        "a reply may announce any number of elements",
        (Edit("Bounds.pieces", 'self._check("elements", self._elements, MAX_ELEMENTS)', "pass"),),
        ("test_pipelining.py::test_too_large_an_array -k many",),
    ),
    "patience-is-spent-once": Breakage(
        "a second rotation finds the patience of the first spent",
        (
            Edit(
                "Connector._note_refusal",
                "has_worked and self._opened_at > self._refused_since",
                "False",
            ),
        ),
        ("test_connection.py::TestRefusedLogin::test_rotated_again",),
    ),
    "no-waiting-for-the-first": Breakage(
        "a server that is not up yet is not waited for",
        (
            Edit(
                "Reach.may_come",
                "self.ever or self._home.loop().time() < self.given_up_at()",
                "self.ever",
            ),
        ),
        ("test_outages.py::test_a_server_that_is_not_up_yet",),
    ),
    "refused-password-is-final-at-once": Breakage(
        "a password that is refused while it is rotated ends streams and workers",
        (
            Edit(
                "Connector.may_pass",
                "self._refused_since + LOGIN_PATIENCE",
                "self._refused_since",
            ),
        ),
        ("test_connection.py::TestRefusedLogin::test_login_works_again",),
    ),
    "refused-password-is-never-final": Breakage(
        "a password that is refused for good is retried without end",
        (Edit("Connector.may_pass", "self._refused_since + LOGIN_PATIENCE", "math.inf"),),
        (
            "test_connection.py::TestRefusedLogin::test_refused_for_good",
            "test_connection.py::TestRefusedLogin::test_logged_out_for_good",
        ),
    ),
    "a-login-is-quoted": Breakage(
        "an error repeats with what a server was logged in to that knows no logins",
        (Edit("target:_refusal", "(text := without_arguments(error)) != str(error)", "False"),),
        ("test_connection.py::test_login_at_a_server_that_knows_none",),
    ),
    "one-time-for-all-of-a-handshake": Breakage(
        "a connection whose opening takes several slow round trips is never opened",
        (
            Edit(
                "target:log_in",
                "anyio.fail_after(OPEN_TIMEOUT)",
                "anyio.fail_after(CONNECT_TIMEOUT)",
            ),
        ),
        ("test_connection.py::test_slow_handshake",),
    ),
    "each-call-logs-in": Breakage(
        "the more calls wait, the more often a refused login is tried",
        (Edit("Connector.lane", "self._refused_at + LOGIN_PAUSE", "self._refused_at"),),
        ("test_connection.py::TestRefusedLogin::test_few_attempts",),
    ),
    "readonly-is-raised": Breakage(
        "the caller gets the error of a replica instead of a retry",
        (
            Edit("failures:_NOT_YET", "ReadOnlyError", "TryAgainError"),
            StringEdit("_NOT_YET_WORDS", "MASTERDOWN|READONLY|TRYAGAIN", "MASTERDOWN|TRYAGAIN"),
        ),
        ("chaos/test_conditions.py::test_waits",),
    ),
    "no-watchdog-of-the-calls": Breakage(
        "a connection on which no reply comes is kept",
        (Edit("Lane._check_silence", "self.lose(TimeoutError(...))", "pass"),),
        ("test_pipelining.py::test_silence",),
    ),
    "an-upload-that-grows-stands-still": Breakage(
        "an upload is taken to stand still because others add to it",
        (Edit("Lane._note_upload", "self._sent - sent_before", "unsent_before - self._unsent"),),
        ("test_pipelining.py::test_growing_upload",),
    ),
    "another-form-is-not-told": Breakage(
        "a call whose reply is of another form than its script's hears nothing",
        (Edit("Node._finish", "on_reply(InvalidResponse(...))", "pass"),),
        ("test_outages.py::test_replies_of_another_form",),
    ),
    "no-eval": Breakage(
        "NOSCRIPT is the caller's",
        (Edit("Retrier._after", "isinstance(failure.error, NoScriptError)", "False"),),
        (
            "test_outages.py::test_script_flush",
            "chaos/test_server.py::test_forgotten_scripts",
            MODEL,
        ),
    ),
    "stays-at-the-replica": Breakage(
        "a connection that has ended at a replica is kept",
        (Edit("Retrier._next_args", "is_replica(error)", "False"),),
        ("test_outages.py::test_left_at_a_replica",),
    ),
    "stays-logged-out": Breakage(
        "a connection that is no longer logged in is kept",
        (Edit("Retrier._next_args", "is_refused_login(error)", "False"),),
        ("test_connection.py::TestRefusedLogin::test_logged_out",),
    ),
    "no-deadline": Breakage(
        "a call is tried without a time limit",
        (Edit("Node._persist", "asyncio.timeout_at(until)", "asyncio.timeout_at(None)"),),
        ("test_outages.py::test_not_tried_after_the_deadline",),
    ),
    "login-that-never-worked-is-waited-for": Breakage(
        "a missing password is taken for one that is being rotated",
        (
            Edit(
                "Retrier._wait_for_login",
                """
                if not failure.server.clock.is_known:
                    raise error
                """,
                "",
            ),
        ),
        ("test_connection.py::TestRefusedLogin::test_no_password",),
    ),
    "no-patience-with-whole-replies": Breakage(
        "redis-py's public methods wait no longer for a whole reply than for a byte",
        (Edit("StreamWire.patience", "6", "1"),),
        ("test_pipelining.py::test_reply_that_takes_long",),
    ),
    "endless-replies": Breakage(
        "a reply may have any length",
        (Edit("TransportWire.data_received", "bounds.add(data)", "pass"),),
        ("test_pipelining.py::test_endless_reply",),
    ),
    "replies-alone-are-a-sign-of-life": Breakage(
        "a reply that takes long to arrive is taken for silence",
        (
            Edit("TransportWire.data_received", "self.heard_at = self._now()", ""),
            Edit(
                "TransportWire.data_received",
                "is_complete = True",
                "is_complete, self.heard_at = True, self._now()",
            ),
        ),
        (
            "test_receive.py::TestSlowLine::test_a_large_message",
            "test_receive.py::TestSlowLine::test_many",
            "chaos/test_late.py::test_slow_line",
            "test_pipelining.py::test_reply_that_takes_long",
        ),
    ),
    "what-the-system-holds-is-sent": Breakage(
        "an upload that the system has taken over counts as done, while it goes out",
        (
            Edit(
                "TransportWire.unsent_bytes",
                "self._transport.get_write_buffer_size() + _unsent_by_system(self._transport)",
                "self._transport.get_write_buffer_size()",
            ),
        ),
        ("test_pipelining.py::test_upload_in_the_hands_of_the_system",),
    ),
    "a-script-is-quoted": Breakage(
        "an error repeats what a server without scripts says",
        (Edit("unsupported_reason", "words.search(text)", "False"),),
        ("test_connection.py::test_no_scripts",),
    ),
}
