"""Dead letters: policies, moves, redrives and drops."""

from .breakage import MODEL, Breakage
from .edits import Edit, LuaEdit

DEAD_LETTERS = {
    "a-misnamed-queue-drops-all": Breakage(
        "a senseless dead_letter_queue with a max_receives reads as that number alone",
        (
            LuaEdit(
                "prelude_dead_letters", "if name == '' then", "if name == '' or name == 'a b' then"
            ),
            Edit(
                "read_policy",
                "not is_qname(name) or name == qname",
                'name != "a b" and (not is_qname(name) or name == qname)',
            ),
        ),
        ("dead_letters/test_policy.py::test_senseless_name",),
    ),
    "circles-are-not-looked-for": Breakage(
        "a dead-letter queue may close a cycle",
        (LuaEdit("prelude_dead_letters", "if actual ~= expected then", "if false then"),),
        (
            "dead_letters/test_policy.py::test_circle",
            "dead_letters/test_policy.py::test_two_admins",
        ),
    ),
    "dropped-by-a-former-limit": Breakage(
        "a worker drops what its queue no longer wants dropped",
        (LuaEdit("drop", "is_dead and", ""),),
        ("dead_letters/test_max_receives_alone.py::test_limit_raised_while_a_handler_runs",),
    ),
    "drops-what-should-be-kept": Breakage(
        "a queue that has been told to drop nothing drops what is rejected",
        (LuaEdit("drop", "if name or not max_receives then", "if name then"),),
        ("dead_letters/test_max_receives_alone.py::test_nowhere_to_put_it",),
    ),
    "no-fence-for-the-dropped": Breakage(
        "a stale receipt drops the message of another consumer",
        (LuaEdit("drop", "local is_dropped = score and matches", "local is_dropped = score"),),
        ("dead_letters/test_max_receives_alone.py::test_fenced",),
    ),
    "a-death-is-not-announced": Breakage(
        "a consumer of the dead-letter queue hears of nothing",
        (LuaEdit("move", "announce(ARGV[4], KEYS[3])", ""),),
        ("dead_letters/test_max_receives.py::test_wakes_a_consumer",),
    ),
    "a-full-server-keeps-its-dead": Breakage(
        "a move begins with a write that a full server refuses",
        (LuaEdit("move", "redis.call('ZREM', KEYS[1], '')", ""),),
        ("dead_letters/test_move.py::TestBury::test_full_server",),
    ),
    "a-move-leaves-a-copy": Breakage(
        "a message that is moved stays where it was, too",
        (LuaEdit("move", "redis.call('ZREM', KEYS[1], unpack(ids))", ""),),
        (
            "dead_letters/test_max_receives.py::test_moves",
            "chaos/test_dead_letters.py::test_redrive_killed",
        ),
    ),
    "a-move-within-a-millisecond": Breakage(
        "a message moved in the millisecond of its first receive can get the same receipt",
        (LuaEdit("move", "integer(values[3]) == now and now + 1 or now", "now"),),
        ("test_receipts.py::test_received_again_in_the_millisecond_of_a_move",),
    ),
    "no-fence-for-the-dead": Breakage(
        "a stale receipt buries the message of another consumer",
        (
            LuaEdit(
                "move",
                "(exceeds_limit or is_free or fence_of(values[2], values[3]) == fence)",
                "true",
            ),
        ),
        (
            "dead_letters/test_move.py::TestBury::test_fenced",
            "dead_letters/test_redrive.py::test_received_before_the_move",
        ),
    ),
    "reasons-pile-up": Breakage(
        "the reasons of messages that are gone are kept",
        (LuaEdit("prelude_dead_letters", "#deaths + 8", "0"),),
        ("dead_letters/test_reasons.py::test_pruned",),
    ),
    "the-remembered-queue-is-trusted": Breakage(
        "a message goes to the dead-letter queue of the last receive though the policy has changed",
        (
            LuaEdit(
                "move",
                "if is_death and name ~= ARGV[3] then",
                "if is_death and ARGV[3] == ARGV[2] then",
            ),
        ),
        ("dead_letters/test_move.py::TestBury::test_remembered_wrongly",),
    ),
    "dead-messages-are-handed-out": Breakage(
        "what was received too often is moved, and handed out as well",
        (Edit("_read_claim", "int(record.receive_count) <= limit", "True"),),
        ("dead_letters/test_max_receives.py::test_moves",),
    ),
    "the-good-one-is-missed": Breakage(
        "a receive that meets dead messages only does not look behind them",
        (
            Edit(
                "ConsumerLine._distribute",
                "waiter.patient or claim.has_more",
                "waiter.patient or (claim.has_more and claim.records)",
            ),
        ),
        ("dead_letters/test_max_receives.py::test_impatient",),
    ),
    "received-again-beside-the-dead": Breakage(
        "a claim without a lease that meets dead messages claims its own messages again",
        (
            Edit(
                "ConsumerLine._on_moved",
                "self._distribute(claim, waiters)",
                """
                if not moving.cancelled() and moving.result():
                    claim = claim._replace(has_more=self._more_are_visible())
                self._distribute(claim, waiters)
                """,
            ),
        ),
        (
            "test_receive.py::TestCutShort::test_without_a_lease_among_the_dead",
            MODEL,
        ),
    ),
    "a-coroutine-is-true": Breakage(
        "a redrive moves everything if `where` returns a coroutine",
        (Edit("DeadLetters.redrive", 'call_plain("where", where, letter)', "where(letter)"),),
        ("worker/test_user_functions.py::test_where",),
    ),
    "redrive-in-circles": Breakage(
        "a redrive does not stop at what was there when it began",
        (Edit("_Cursor.advance", "self._highest = page.highest", ""),),
        ("dead_letters/test_redrive.py::test_dies_again",),
    ),
    "redrive-loses-its-place": Breakage(
        "a redrive goes on behind the last entry that it looked at, which it may have moved",
        (Edit("_Cursor.advance", "staying[-1].place, staying[-1].id", "page.last or self._after"),),
        ("dead_letters/test_redrive.py::test_where",),
    ),
}
