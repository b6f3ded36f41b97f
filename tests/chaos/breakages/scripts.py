"""What the Lua scripts do to a queue."""

from .breakage import MODEL, Breakage
from .edits import Edit, LuaEdit

SCRIPTS = {
    "no-fence-for-extend": Breakage(
        "a stale receipt extends the lease of another consumer",
        (
            LuaEdit(
                "change_visibility",
                "scores[i] and (fence == '' or fence_of(count, first_received) == fence)",
                "scores[i]",
            ),
        ),
        (MODEL,),
    ),
    "the-fence-begins-again": Breakage(
        "a receipt from before a move and back settles what another consumer holds",
        (
            LuaEdit("prelude", "(first_ms and text(first_ms) or '')", "''"),
            Edit(
                "Record.fence",
                'self.receive_count + b" " + self.first_received',
                'self.receive_count + b" "',
            ),
        ),
        (
            "test_receipts.py::test_a_receipt_from_before_a_move",
            "chaos/test_moves.py::test_stale_receipts",
            MODEL,
        ),
    ),
    "a-lost-name-stays-lost": Breakage(
        "creating a queue that is there does not enter it in the set of all queues",
        (LuaEdit("create_queue", "redis.pcall('SADD', KEYS[3], ARGV[2])", ""),),
        ("test_missing_queue.py::TestSetOfAllQueues::test_restored",),
    ),
    "ensure-resets-the-rest": Breakage(
        "ensure() sets what was not named to its default",
        (LuaEdit("create_queue", "if i < last_named then", "if true then"),),
        (
            "test_ensure.py::TestEnsure::test_an_explicit_default",
            "test_ensure.py::TestExistOk::test_the_settings_that_are_there",
        ),
    ),
    "a-refused-delete-is-ignored": Breakage(
        "a delete that may not delete the body says that it is done",
        (
            LuaEdit(
                "delete",
                "redis.call('HDEL', KEYS[2], unpack(fields))",
                "redis.pcall('HDEL', KEYS[2], unpack(fields))",
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[consumer-hdel]",),
    ),
    "no-fence": Breakage(
        "a stale receipt deletes the message all the same",
        (
            LuaEdit(
                "delete",
                "score and (is_equal or fence == '' or fence_of(count, first_received) == fence)",
                "score",
            ),
        ),
        (MODEL,),
    ),
    "a-pop-from-a-paused-queue": Breakage(
        "a pop takes messages from a paused queue",
        (
            LuaEdit(
                "receive",
                "if queue[2] and queue[2] ~= '' then",
                "if queue[2] and queue[2] ~= '' and ARGV[2] ~= 'pop' then",
            ),
        ),
        ("operations/test_pause.py::TestConsumers::test_calls",),
    ),
    "a-pause-is-repeated": Breakage(
        "a pause whose reply was lost is repeated after others have resumed the queue",
        (LuaEdit("pause", "if earlier then", "if false then"),),
        (
            "operations/test_pause.py::TestAnswers::test_lost_reply",
            "operations/test_pause.py::TestAnswers::test_lost_reply_of_no_change",
        ),
    ),
    "hand-back-forgets-total": Breakage(
        "a message that is handed back stays counted as received",
        (LuaEdit("hand_back", "redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -total)", ""),),
        (MODEL,),
    ),
    "a-pop-that-cannot-be-undone": Breakage(
        "a pop does not ask for the right to put back what reaches nobody",
        (LuaEdit("receive", "redis.call('ZADD', KEYS[1], 'XX', 0, '')", ""),),
        ("permissions/test_permissions.py::test_needed_command[consumer-zadd]",),
    ),
    "a-refused-count-is-ignored": Breakage(
        "a receive for which the receive count is refused hides the message all the same",
        (
            LuaEdit(
                "receive",
                "redis.call('HSET', KEYS[2], 'totalrecv', total",
                "redis.pcall('HSET', KEYS[2], 'totalrecv', total",
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[consumer-hset]",),
    ),
    "phantom-leaves-a-count": Breakage(
        "an entry without a body is removed, its receive count stays",
        (LuaEdit("prelude_claims", "redis.call('HDEL', queue, rc, fr)", ""),),
        (
            MODEL,
            "foreign_data/test_messages.py::TestPhantoms::test_received_before",
        ),
    ),
    "pop-leaves-a-field": Breakage(
        "a pop leaves the time of the first receipt behind",
        (
            LuaEdit(
                "prelude_claims",
                "fields[field + 3] = fr places[length + 1] = id",
                "fields[field + 3] = rc places[length + 1] = id",
            ),
        ),
        (MODEL,),
    ),
    "receive-does-not-count": Breakage(
        "a receive leaves the receive count as it was",
        (
            LuaEdit(
                "prelude_claims",
                "text((integer(count) or 0) + 1)",
                "text(integer(count) or 0)",
            ),
        ),
        (MODEL,),
    ),
    "zadd-first": Breakage(
        "a receive begins with a write that a full server refuses",
        (LuaEdit("receive", "redis.call('ZREM', KEYS[1], '')", ""),),
        (
            "test_full_server.py::test_drained",
            "chaos/test_full_server.py::test_refused_and_drained",
        ),
    ),
    "a-body-without-a-place": Breakage(
        "a send for which the place is refused leaves the body",
        (LuaEdit("send", "redis.call('ZADD', KEYS[1], 'XX', 0, '')", ""),),
        ("permissions/test_permissions.py::test_needed_command[producer-zadd]",),
    ),
    "a-place-before-its-body": Breakage(
        "a send for which the body is refused has stored the place, and is acknowledged",
        (
            LuaEdit(
                "send",
                """
                redis.call('HSET', KEYS[2], 'totalsent', total,
                  unpack(messages, i + 5, chunk_end + 5))
                """,
                "",
            ),
            LuaEdit(
                "send",
                "'NX', unpack(places, i, chunk_end))",
                """
                'NX', unpack(places, i, chunk_end))
                redis.pcall('HSET', KEYS[2], 'totalsent', total,
                  unpack(messages, i + 5, chunk_end + 5))
                """,
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[producer-hset]",),
    ),
    "all-or-none-forgotten": Breakage(
        "send_many stores those that are not too long",
        (LuaEdit("send", "if is_atomic and #reply > 4 then", "if false then"),),
        (MODEL,),
    ),
}
