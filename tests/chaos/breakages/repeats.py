"""What happens to a request whose reply was lost or comes late."""

from .breakage import Breakage
from .edits import Edit, LuaEdit

REPEATS = {
    "a-retried-delete-is-refused": Breakage(
        "a delete whose reply was lost finds the message gone, and says that it has not deleted it",
        (LuaEdit("delete", "if not deleted_before then", "if true then"),),
        ("test_lost_replies.py::test_lost_reply_to_a_delete",),
    ),
    "both-have-deleted-it": Breakage(
        "a late delete says True of what another consumer has deleted",
        (LuaEdit("delete", "and lease_end >= now_ms()", ""),),
        ("test_lost_replies.py::test_late_delete",),
    ),
    "a-later-queue-is-deleted": Breakage(
        "deleting a queue is repeated on a queue that was created since",
        (LuaEdit("delete_queue", "if exists and not is_repeated then", "if exists then"),),
        (
            "test_lost_replies.py::test_delete_of_a_queue",
            "chaos/test_changed_world.py::test_repeats",
        ),
    ),
    "a-retried-move-is-refused": Breakage(
        "a move whose reply was lost finds the message gone, and says that it has not moved it",
        (LuaEdit("move", "ARGV[1] == 'retry' and", "false and"),),
        (
            "dead_letters/test_max_receives.py::test_lost_reply",
            "dead_letters/test_redrive.py::test_lost_reply",
        ),
    ),
    "late-first-attempt": Breakage(
        "a first attempt of a send that arrives after its repetition shows what a consumer holds",
        (LuaEdit("send", "'ZADD', KEYS[1], 'NX',", "'ZADD', KEYS[1],"),),
        (
            "test_lost_replies.py::test_first_attempt_after_its_repetition",
            "chaos/test_late.py::test_late_requests",
        ),
    ),
    "no-lookup-on-retry": Breakage(
        "a send that is repeated does not look whether it has been stored",
        (LuaEdit("prelude_dead_letters", "redis.call('HMGET', queue, list[i])[1]", "false"),),
        ("test_lost_replies.py::test_send_of_which_some_are_gone",),
    ),
    "sent-again-though-dead": Breakage(
        "a send is repeated though its message is in the dead-letter queue",
        (LuaEdit("send", "is_retry and policy(KEYS[2], '')", "nil"),),
        ("test_lost_replies.py::test_send_of_what_has_died",),
    ),
    "too-long-is-stored": Breakage(
        "a repeated send returns ids of messages that were too long at first and never stored",
        (LuaEdit("send", "modified < math.floor(ARGV[3] / 1000000)", "true"),),
        ("test_lost_replies.py::test_send_of_what_was_too_long",),
    ),
    "replaced-and-not-found": Breakage(
        "a replacement whose reply was lost is not found again",
        (LuaEdit("replace", "is_retry and target[5]", "false"),),
        ("operations/test_replace.py::test_lost_reply",),
    ),
    "imported-twice": Breakage(
        "a step of an import that is repeated stores again what has been received and deleted",
        (LuaEdit("import", "is_stored and mark == 'retry'", "false"),),
        ("operations/test_export.py::TestImport::test_lost_reply_and_received",),
    ),
    "a-late-import-shows-what-is-held": Breakage(
        "an import that arrives after its repetition shows what a consumer holds",
        (LuaEdit("import", "elseif not is_stored and not", "elseif not"),),
        ("operations/test_export.py::TestImport::test_first_attempt_after_its_repetition",),
    ),
    "redriven-twice": Breakage(
        "a step of a redrive that is repeated moves what has died again",
        (Edit("DeadLetters._redrive", "AT_SCORE + record.place", "IF_VISIBLE"),),
        ("dead_letters/test_redrive.py::test_redrive_of_what_dies_again",),
    ),
    "pop-is-retried": Breakage(
        "a pop whose reply was lost is repeated, and takes another message",
        (Edit("receive:pop", "RetryPolicy.NEVER_IF_UNKNOWN", "RetryPolicy.SAFE"),),
        ("test_lost_replies.py::test_lost_reply_to_a_pop",),
    ),
    "purge-takes-what-is-sent": Breakage(
        "a purge whose reply was lost is repeated on what was sent since",
        (Edit("admin:purge", "RetryPolicy.NEVER_IF_UNKNOWN", "RetryPolicy.SAFE"),),
        (
            "test_purge.py::test_lost_reply",
            "chaos/test_changed_world.py::test_repeats",
        ),
    ),
    "repeated-claim-for-all": Breakage(
        "each repetition of a claim hides the same number of messages as the first attempt",
        (
            Edit(
                "receive:receive",
                "(min(limit, 1), lease, MAX_CLAIM_BYTES)",
                "(min(limit, MAX_CLAIM), lease, MAX_CLAIM_BYTES)",
            ),
        ),
        ("test_receive.py::TestRepeatedClaim::test_claims_one",),
    ),
    "late-reply-dropped": Breakage(
        "messages in a reply that comes after the deadline are lost",
        (Edit("Node._persist", "call.holds_messages and attempts", "False"),),
        ("test_receive.py::TestAfterTheDeadline::test_put_back",),
    ),
    "a-new-id-per-retry": Breakage(
        "a send that is repeated takes new ids",
        (
            Edit("Sender._store", "RetryPolicy.SAFE_WITH_MARK", "RetryPolicy.NEVER_IF_UNKNOWN"),
            Edit(
                "Sender._on_stored",
                "send.on_results(reply)",
                """
                if type(reply).__name__ in ("ConnectionError", "TimeoutError"):
                    self._submit(send.mode, send.messages, send.on_results, send.until, RETRY)
                else:
                    send.on_results(reply)
                """,
            ),
        ),
        (
            "test_lost_replies.py::test_lost_reply_to_a_send",
            "chaos/test_network.py::test_cut_replies_to_sends",
        ),
    ),
    "shown-again": Breakage(
        "a change of visibility by id is repeated on what another consumer holds",
        (
            Edit(
                "QueueSettler.change_visibility_by_id",
                "self._changes if fence else self._changes_by_id",
                "self._changes",
            ),
        ),
        ("test_lost_replies.py::test_visibility_by_id",),
    ),
    "put-back-again": Breakage(
        "a popped message is put back again after another consumer has popped it",
        (Edit("QueueSettler.restore", "RetryPolicy.NEVER_IF_UNKNOWN", "RetryPolicy.SAFE"),),
        (
            "test_lost_replies.py::test_put_back",
            "chaos/test_changed_world.py::test_repeats",
        ),
    ),
}
