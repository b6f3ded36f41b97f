"""What the library would be without one of its answers to what goes wrong, and which tests say so.

A breakage is a change of the package's text. The text to be changed must be there, once: else the control fails, so
that it does not go on testing what has since been written anew.
"""

from typing import NamedTuple


class Change(NamedTuple):
    """In one file of the package."""

    file: str
    old: str
    new: str


class Breakage(NamedTuple):
    what: str
    changes: tuple[Change, ...]
    caught_by: tuple[str, ...]
    """Tests, each of which must go red."""


MODEL = "chaos/test_model.py::test_model --profile full"

BREAKAGES = {
    "receive-does-not-count": Breakage(
        "a receive leaves the receive count as it was",
        (Change("_lua/receive.lua", "text((whole(values[i + 1]) or 0) + 1)", "text(whole(values[i + 1]) or 0)"),),
        (MODEL,),
    ),
    "no-fence": Breakage(
        "a stale receipt deletes the message all the same",
        (
            Change(
                "_lua/delete.lua",
                "mine = here and (equal or fence == '' or fence_of(count, since) == fence)",
                "mine = here",
            ),
        ),
        (MODEL,),
    ),
    "no-fence-for-extend": Breakage(
        "a stale receipt extends the lease of another consumer",
        (
            Change(
                "_lua/change_visibility.lua",
                "scores[i] and (fence == '' or fence_of(values[2 * i - 1], values[2 * i]) == fence)",
                "scores[i]",
            ),
        ),
        (MODEL,),
    ),
    "hand-back-forgets-total": Breakage(
        "a message that is handed back stays counted as received",
        (Change("_lua/hand_back.lua", "redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -back)", ""),),
        (MODEL,),
    ),
    "ids-do-not-ascend": Breakage(
        "the ids of one batch are in no order",
        (Change("_protocol.py", "return self._last_us, sorted(", "return self._last_us, list("),),
        (MODEL,),
    ),
    "delay-ignored": Breakage(
        "a send of many with a delay of its own takes the queue's",
        (Change("_commands/send.py", "if delays.count(None) == len(delays):", "if len(delays) > 1:"),),
        (MODEL,),
    ),
    "pop-leaves-a-field": Breakage(
        "a pop leaves the time of the first receipt behind",
        (
            Change(
                "_lua/receive.lua",
                "fields[3 * k + 3] = fr",
                "fields[3 * k + 3] = names[i + 1]",
            ),
        ),
        (MODEL,),
    ),
    "no-hand-back": Breakage(
        "a message claimed for a consumer that is cancelled stays hidden",
        (Change("_claims.py", "self._tasks.start(self._return(unwanted))", "pass"),),
        (MODEL, "chaos/test_cancellation.py::test_cancelled_at_random_awaits"),
    ),
    "all-or-none-forgotten": Breakage(
        "send_many stores those that are not too long",
        (Change("_lua/send.lua", "if all and #reply > 4 then", "if false then"),),
        (MODEL,),
    ),
    "deleted-twice": Breakage(
        "two deletes of one message in one call both say that they have done it",
        (Change("_commands/settle.py", "if len(set(ids)) < len(ids):", "if False:"),),
        (MODEL,),
    ),
    "phantom-leaves-a-count": Breakage(
        "an entry without a body is removed, its receive count stays",
        (Change("_lua/receive.lua", "      redis.call('HDEL', KEYS[2], names[i + 1], fr)\n", ""),),
        (MODEL, "foreign_data/test_messages.py::TestPhantoms::test_received_before"),
    ),
    "a-new-id-per-retry": Breakage(
        "a send that is repeated takes new ids",
        (
            Change("_commands/send.py", "again=lambda: (RETRY, *args[1:]))", "retry_unknown=False)"),
            Change(
                "_commands/send.py",
                "if isinstance(reply, Exception):\n            sending",
                'if type(reply).__name__ in ("ConnectionError", "TimeoutError"):\n'
                "            self._submit(sending.which, sending.messages, sending.answered, sending.until, RETRY)\n"
                "        elif isinstance(reply, Exception):\n            sending",
            ),
        ),
        ("test_lost_replies.py::test_lost_reply_to_a_send", "chaos/test_network.py::test_cut_replies_to_sends"),
    ),
    "no-lookup-on-retry": Breakage(
        "a send that is repeated does not look whether it has been stored",
        (Change("_lua/send.lua", "redis.call('HMGET', KEYS[2], argv[i - 1])[1]", "false"),),
        ("test_lost_replies.py::test_send_of_which_some_are_gone",),
    ),
    "a-retried-delete-is-refused": Breakage(
        "a delete whose reply was lost finds the message gone, and says that it has not deleted it",
        (
            Change(
                "_lua/delete.lua",
                "elseif here or not again or (tonumber(argv[i + 2 * n + 2]) or math.huge) < now_ms() then",
                "else",
            ),
        ),
        ("test_lost_replies.py::test_lost_reply_to_a_delete",),
    ),
    "pop-is-retried": Breakage(
        "a pop whose reply was lost is repeated, and takes another message",
        (
            Change(
                "_commands/receive.py",
                "args, retry_unknown=False, holds_messages=True)",
                "args, holds_messages=True)",
            ),
        ),
        ("test_lost_replies.py::test_lost_reply_to_a_pop",),
    ),
    "no-eval": Breakage(
        "NOSCRIPT is the caller's",
        (
            Change(
                "_scripts.py",
                "if not isinstance(error, NoScriptError) and not is_not_yet(error):",
                "if not is_not_yet(error):",
            ),
        ),
        ("test_outages.py::test_script_flush", "chaos/test_server.py::test_forgotten_scripts", MODEL),
    ),
    "readonly-is-raised": Breakage(
        "the error of a replica is not waited out",
        (
            Change(
                "_failures.py",
                "MasterDownError, ReadOnlyError, TryAgainError)\n_NOT",
                "MasterDownError, TryAgainError)\n_NOT",
            ),
            Change("_failures.py", "MASTERDOWN|READONLY|TRYAGAIN", "MASTERDOWN|TRYAGAIN"),
        ),
        ("chaos/test_conditions.py::test_waits",),
    ),
    "stays-at-the-replica": Breakage(
        "a connection that has ended at a replica is kept",
        (Change("_scripts.py", "if is_replica(error):", "if False:"),),
        ("test_outages.py::test_left_at_a_replica",),
    ),
    "no-deadline": Breakage(
        "a call is tried for ever",
        (Change("_scripts.py", "asyncio.timeout_at(until)", "asyncio.timeout_at(None)"),),
        ("test_outages.py::test_no_call_outlasts_the_deadline",),
    ),
    "no-resync": Breakage(
        "a subscription that is confirmed is no news",
        (
            Change(
                "_listener.py",
                "for flag in self._flags.get(channel, ()):",
                'for flag in self._flags.get(channel, ()) if what == b"message" else ():',
            ),
        ),
        ("chaos/test_wake_up.py::test_subscribing_while_it_is_sent", "test_announcements.py::test_killed"),
    ),
    "listens-once": Breakage(
        "a listener that has lost its connection makes no other",
        (Change("_listener.py", "self._pause(error, opened=wire is not None)", "return"),),
        ("test_announcements.py::test_killed", "chaos/test_wake_up.py::test_listener_killed_just_before"),
    ),
    "no-watchdog-of-the-listener": Breakage(
        "a listener's connection that is silent is kept",
        (
            Change(
                "_listener.py",
                'raise TimeoutError(f"the connection has been silent for {silence:.0f} seconds")',
                "pinged_at = None",
            ),
        ),
        ("chaos/test_network.py::test_black_hole[forgotten]",),
    ),
    "no-watchdog-of-the-calls": Breakage(
        "a connection on which no reply comes is kept",
        (
            Change(
                "_pipeline.py",
                'self.lose(TimeoutError(f"No reply from the server for {timeout:g} seconds"))',
                "pass",
            ),
        ),
        ("test_pipelining.py::test_silence",),
    ),
    "plain-publish": Breakage(
        "the announcement comes before the writes, and may fail",
        (
            Change("_lua/send.lua", "  announce(ARGV[4], KEYS[1])\n", ""),
            Change(
                "_lua/send.lua",
                "for i = 1, n, 1000 do",
                "if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], 0) end\nfor i = 1, n, 1000 do",
            ),
        ),
        ("test_announcements.py::test_sends_without_the_right_to_announce", "permissions/test_permissions.py::test_channel[producer]"),
    ),
    "release-is-not-announced": Breakage(
        "a message that is made visible is not announced",
        (Change("_lua/change_visibility.lua", "announce(ARGV[1], KEYS[1])", ""),),
        ("chaos/test_wake_up.py::test_visibility_of_0",),
    ),
    "zadd-first": Breakage(
        "a receive begins with a write that a full server refuses",
        (
            Change(
                "_lua/receive.lua",
                "redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this\n",
                "",
            ),
        ),
        ("test_full_server.py::test_drained", "chaos/test_full_server.py::test_refused_and_drained"),
    ),
    "a-place-before-its-body": Breakage(
        "a send for which the body is refused has stored the place, and is acknowledged",
        (
            Change(
                "_lua/send.lua",
                "  redis.call('HSET', KEYS[2], 'totalsent', total, unpack(argv, from + i - 1, from + last - 1))\n",
                "",
            ),
            Change(
                "_lua/send.lua",
                "'NX', unpack(places, i, last))\n",
                "'NX', unpack(places, i, last))\n"
                "  redis.pcall('HSET', KEYS[2], 'totalsent', total, unpack(argv, from + i - 1, from + last - 1))\n",
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[producer-hset]",),
    ),
    "a-body-without-a-place": Breakage(
        "a send for which the place is refused leaves the body",
        (Change("_lua/send.lua", "  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see _common\n", ""),),
        ("permissions/test_permissions.py::test_needed_command[producer-zadd]",),
    ),
    "a-refused-count-is-ignored": Breakage(
        "a receive for which the receive count is refused hides the message all the same",
        (
            Change(
                "_lua/receive.lua",
                "redis.call('HSET', KEYS[2], 'totalrecv', total",
                "redis.pcall('HSET', KEYS[2], 'totalrecv', total",
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[consumer-hset]",),
    ),
    "a-refused-delete-is-ignored": Breakage(
        "a delete that may not delete the body says that it is done",
        (
            Change(
                "_lua/delete.lua",
                "redis.call('HDEL', KEYS[2], unpack(fields))",
                "redis.pcall('HDEL', KEYS[2], unpack(fields))",
            ),
        ),
        ("permissions/test_permissions.py::test_needed_command[consumer-hdel]",),
    ),
    "a-pop-that-cannot-be-undone": Breakage(
        "a pop does not ask for the right to put back what reaches nobody",
        (Change("_lua/receive.lua", "  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see _common; ", "  -- "),),
        ("permissions/test_permissions.py::test_needed_command[consumer-zadd]",),
    ),
    "claim-is-not-passed-on": Breakage(
        "what was claimed for a consumer that goes is dropped",
        (Change("_claims.py", "        self._give(held)\n", ""),),
        (
            "test_stream.py::TestNothingIsLost::test_what_was_claimed_ahead_goes_to_another",
            "chaos/test_cancellation.py::test_cancelled_at_random_awaits",
        ),
    ),
    "no-poll": Breakage(
        "a consumer that hears nothing never looks",
        (Change("_claims.py", "poll = self._claimed_at + self._poll_interval - time.monotonic()", "poll = 3600.0"),),
        ("chaos/test_wake_up.py::test_silent_producer",),
    ),
    "no-due-timer": Breakage(
        "a consumer does not know when the next message becomes visible",
        (
            Change(
                "_claims.py",
                "return min(poll, (self._next_ms + 1 - self._scripts.clock.now_ms()) / 1000)",
                "return poll",
            ),
        ),
        ("chaos/test_wake_up.py::test_delayed", "chaos/test_wake_up.py::test_expired_lease"),
    ),
    "a-claim-per-consumer": Breakage(
        "each consumer claims by a script call of its own",
        (Change("_claims.py", "count = len(self._line)\n", "count = 1\n"),),
        ("test_waiting.py::TestCounts::test_a_thousand_messages",),
    ),
    "another-form-is-not-told": Breakage(
        "a call whose reply is of another form than its script's hears nothing",
        (Change("_scripts.py", "answered(InvalidResponse(f", "str(InvalidResponse(f"),),
        ("test_outages.py::test_replies_of_another_form",),
    ),
    "listener-is-not-closed": Breakage(
        "closing leaves the listener to itself",
        (Change("client.py", "await self._listener.aclose()", "pass"),),
        ("test_client.py::test_closing_takes_no_time",),
    ),
    "dead-messages-are-handed-out": Breakage(
        "what was received too often is moved, and handed out as well",
        (Change("_commands/receive.py", "int(record.receive_count) <= most", "True"),),
        ("dead_letters/test_max_receives.py::test_moves",),
    ),
    "the-good-one-is-missed": Breakage(
        "a receive that meets dead messages only does not look behind them",
        (
            Change(
                "_claims.py", "elif slot.patient or claim.more:", "elif slot.patient or (claim.more and claim.records):"
            ),
        ),
        ("dead_letters/test_max_receives.py::test_impatient",),
    ),
    "no-fence-for-the-dead": Breakage(
        "a stale receipt buries the message of another consumer",
        (Change("_lua/move.lua", "(over or free or fence_of(values[2], values[3]) == fence)", "true"),),
        ("dead_letters/test_move.py::TestBury::test_fenced", "dead_letters/test_redrive.py::test_received_before_the_move"),
    ),
    "a-move-leaves-a-copy": Breakage(
        "a message that is moved stays where it was, too",
        (Change("_lua/move.lua", "  redis.call('ZREM', KEYS[1], unpack(ids))\n", ""),),
        ("dead_letters/test_max_receives.py::test_moves", "chaos/test_dead_letters.py::test_redrive_killed"),
    ),
    "a-retried-move-is-refused": Breakage(
        "a move whose reply was lost finds the message gone, and says that it has not moved it",
        (Change("_lua/move.lua", "argv[1] == 'retry' and", "false and"),),
        (
            "dead_letters/test_max_receives.py::test_lost_reply",
            "dead_letters/test_redrive.py::test_lost_reply",
        ),
    ),
    "a-full-server-keeps-its-dead": Breakage(
        "a move begins with a write that a full server refuses",
        (
            Change(
                "_lua/move.lua",
                "redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this\n",
                "",
            ),
        ),
        ("dead_letters/test_move.py::TestBury::test_full_server",),
    ),
    "circles-are-not-looked-for": Breakage(
        "a queue gets a dead-letter queue whatever lies behind that",
        (Change("_lua/_dead_letters.lua", "if following ~= (ARGV[arg + i + 1] or '') then", "if false then"),),
        ("dead_letters/test_policy.py::test_circle", "dead_letters/test_policy.py::test_two_admins"),
    ),
    "the-remembered-queue-is-trusted": Breakage(
        "a message goes to the dead-letter queue of the last receive, whatever the policy is now",
        (Change("_lua/move.lua", "if dies and name ~= argv[3] then", "if dies and argv[3] == argv[2] then"),),
        ("dead_letters/test_move.py::TestBury::test_remembered_wrongly",),
    ),
    "redrive-loses-its-place": Breakage(
        "a redrive goes on behind the last entry that it looked at, which it may have moved",
        (
            Change(
                "_commands/dead.py",
                "after = stay[-1].place, stay[-1].id",
                "after = page.last or after",
            ),
        ),
        ("dead_letters/test_redrive.py::test_where",),
    ),
    "redrive-in-circles": Breakage(
        "a redrive does not stop at what was there when it began",
        (Change("_commands/dead.py", "highest, more = page.highest,", 'highest, more = "now",'),),
        ("dead_letters/test_redrive.py::test_dies_again",),
    ),
    "reasons-pile-up": Breakage(
        "the reasons of messages that are gone are kept",
        (Change("_lua/move.lua", "2 * n + 8", "0"),),
        ("dead_letters/test_reasons.py::test_pruned",),
    ),
    "a-death-is-not-announced": Breakage(
        "a consumer of the dead-letter queue hears of nothing",
        (Change("_lua/move.lua", "  announce(argv[4], KEYS[3])\n", ""),),
        ("dead_letters/test_max_receives.py::test_wakes_a_consumer",),
    ),
    "leases-are-not-renewed": Breakage(
        "a worker lets the leases of running handlers end",
        (Change("_leases.py", "await self._renew()\n", "await asyncio.sleep(0)\n"),),
        ("worker/test_leases.py::test_lease_is_renewed", "worker/test_stop.py::test_leases_are_renewed_while_stopping"),
    ),
    "a-renewal-per-message": Breakage(
        "each lease is renewed by a script call of its own",
        (Change("_leases.py", "MAX_RENEWED: Final = 1000", "MAX_RENEWED: Final = 1"),),
        ("worker/test_leases.py::test_one_call_renews_all",),
    ),
    "the-ended-are-renewed": Breakage(
        "the lease of a handler that has ended is renewed with the others",
        (Change("_leases.py", "            del held[id]\n", "            pass\n"),),
        ("worker/test_leases.py::test_an_ended_handler_is_not_renewed",),
    ),
    "a-lost-lease-is-ignored": Breakage(
        "a handler goes on though another consumer has received its message",
        (Change("_leases.py", "                    lease.lost()\n", "                    pass\n"),),
        ("worker/test_leases.py::test_lost_lease",),
    ),
    "own-claims-are-strangers": Breakage(
        "a worker whose own claim comes before its renewal cancels the handler, and starts another",
        (
            Change(
                "_leases.py",
                "        lease.record, lease.visible_until = record, record.visible\n        return True",
                "        return False",
            ),
        ),
        ("worker/test_leases.py::test_claimed_before_it_was_renewed",),
    ),
    "stuck-for-ever": Breakage(
        "a handler that does not end keeps its message beyond max_lease",
        (
            Change("_leases.py", "if lease.until > now > ", "if now > "),
            Change("_leases.py", "min(self._vt, lease.until - now)", "self._vt"),
        ),
        ("worker/test_leases.py::test_max_lease",),
    ),
    "no-grace": Breakage(
        "a worker that stops cancels its handlers at once",
        (Change("worker.py", "anyio.move_on_after(self._grace)", "anyio.move_on_after(0)"),),
        ("worker/test_stop.py::test_leases_are_renewed_while_stopping", "worker/test_stop.py::test_signal"),
    ),
    "the-stopped-keep-theirs": Breakage(
        "a message whose handler was cancelled by the end of the worker stays hidden",
        (
            Change(
                "_handling.py", "            await self._release(job, lease.release_ms or 0)\n", "            pass\n"
            ),
        ),
        ("worker/test_stop.py::test_end_of_grace",),
    ),
    "the-last-attempt-comes-again": Breakage(
        "what has failed for the last time is released, and dies of no reason at its next receipt",
        (Change("_handling.py", "int(job.record.receive_count) >= job.source.shared.max_receives", "False"),),
        ("worker/test_failures.py::test_last_attempt_fails",),
    ),
    "a-piece-of-a-password-is-a-host": Breakage(
        "a URL that its password has cut to pieces is taken at its word",
        (
            Change(
                "_settings.py",
                'if "@" in parts.query or "#" in url or (parts.netloc and "@" in parts.path):',
                "if False:",
            ),
        ),
        ("bad_input/test_clients.py::TestClients::test_password_that_is_not_encoded", "chaos/test_canary.py::test_canaries"),
    ),
    "a-host-is-anything": Breakage(
        "a host is looked up, and shown, whatever is in it",
        (Change("_settings.py", '"host": (_HOST.fullmatch,', '"host": (str,'),),
        ("bad_input/test_clients.py::TestClients::test_host",),
    ),
    "a-codec-is-quoted": Breakage(
        "an error repeats what a user's codec says of a body",
        (Change("codecs.py", 'return f"{type(codec).__name__} raised {type(error).__name__}"', "return str(error)"),),
        ("bad_input/test_parameters.py::TestMessages::test_codec_that_quotes", "chaos/test_canary.py::test_canaries"),
    ),
    "a-url-is-shown": Breakage(
        "an error shows every value that may be a URL",
        (
            Change(
                "errors.py",
                'return hidden if self.parameter != "url" and re.search("://|@", value) else value',
                "return value",
            ),
        ),
        ("test_errors.py::test_urls_are_not_shown", "chaos/test_canary.py::test_canaries"),
    ),
    "a-script-is-quoted": Breakage(
        "an error repeats what a server without scripts says",
        (Change("_failures.py", "if _NO_SCRIPTS.search(str(error)):", "if False:"),),
        ("test_connection.py::test_no_scripts",),
    ),
    "a-login-is-quoted": Breakage(
        "an error repeats with what a server was logged in to that knows no logins",
        (Change("_connection.py", 'if ", with args beginning with" in str(error):', "if False:"),),
        ("test_connection.py::test_login_at_a_server_that_knows_none",),
    ),
    "no-waiting-for-the-first": Breakage(
        "a server that is not up yet is not waited for",
        (
            Change(
                "_connection.py",
                "return self.ever_open or self._tasks.loop().time() < self.given_up_at()",
                "return self.ever_open",
            ),
        ),
        ("test_outages.py::test_a_server_that_is_not_up_yet",),
    ),
    "a-receipt-is-an-id": Breakage(
        "a receipt deletes whatever its id names",
        (Change("queue.py", 'errors="surrogateescape"), id.fence', 'errors="surrogateescape"), b""'),),
        ("test_receipts.py::test_a_receipt_is_a_fence",),
    ),
    "first-queue-last": Breakage(
        "a list of queues is asked in no order",
        (Change("worker.py", "            return self._sources\n", "            return self._sources[::-1]\n"),),
        ("worker/test_queues.py::test_strict_priority",),
    ),
    "the-fence-begins-again": Breakage(
        "a receipt from before a move to another queue and back settles what another consumer holds",
        (
            Change("_lua/_common.lua", "(since and text(since) or '')", "''"),
            Change("models.py", 'b" " + self.first_received', 'b" "'),
        ),
        ("test_receipts.py::test_a_receipt_from_before_a_move", "chaos/test_moves.py::test_stale_receipts", MODEL),
    ),
    "a-move-within-a-millisecond": Breakage(
        "a message that moves in the millisecond of its first receipt can have the same receipt again",
        (Change("_lua/move.lua", "whole(values[3]) == now and now + 1 or now", "now"),),
        ("test_receipts.py::test_received_again_in_the_millisecond_of_a_move",),
    ),
    "adopted-from-a-former-life": Breakage(
        "a worker takes the receipt of a message that came back for its own renewed lease",
        (Change("_leases.py", "if record.first_received != lease.record.first_received:", "if False:"),),
        ("test_receipts.py::test_a_worker_that_receives_its_message_again",),
    ),
    "a-later-queue-is-deleted": Breakage(
        "deleting a queue is repeated on a queue that was created since",
        (Change("_lua/delete_queue.lua", "if there and not done then", "if there then"),),
        ("test_lost_replies.py::test_delete_of_a_queue", "chaos/test_changed_world.py::test_repeats"),
    ),
    "put-back-again": Breakage(
        "a popped message is put back again after another consumer has popped it",
        (
            Change(
                "_commands/settle.py", 'self._call("restore", args, retry_unknown=False)', 'self._call("restore", args)'
            ),
        ),
        ("test_lost_replies.py::test_put_back", "chaos/test_changed_world.py::test_repeats"),
    ),
    "sent-again-though-dead": Breakage(
        "a send is repeated though its message lies in the dead-letter queue",
        (Change("_lua/send.lua", "local dead = again and policy(KEYS[2], '')", "local dead = nil"),),
        ("test_lost_replies.py::test_send_of_what_has_died",),
    ),
    "both-have-deleted-it": Breakage(
        "a late delete says True of what another consumer has deleted",
        (Change("_lua/delete.lua", "(tonumber(argv[i + 2 * n + 2]) or math.huge) < now_ms()", "false"),),
        ("test_lost_replies.py::test_late_delete",),
    ),
    "shown-again": Breakage(
        "a change of visibility by id is repeated on what another consumer holds",
        (Change("_commands/settle.py", "self._changes if fence else self._changes_by_id", "self._changes"),),
        ("test_lost_replies.py::test_visibility_by_id",),
    ),
    "redriven-twice": Breakage(
        "a step of a redrive that is repeated moves what has died again",
        (Change("_commands/dead.py", "(record.id, AT + record.place)", "(record.id, IF_VISIBLE)"),),
        ("dead_letters/test_redrive.py::test_redrive_of_what_dies_again",),
    ),
    "purge-takes-what-is-sent": Breakage(
        "a purge whose reply was lost is repeated on what was sent since",
        (Change("_commands/admin.py", 'call("begin", retry_unknown=False)', 'call("begin", retry_unknown=True)'),),
        ("test_purge.py::test_lost_reply", "chaos/test_changed_world.py::test_repeats"),
    ),
    "cut-short-is-complete": Breakage(
        "a claim that stopped early is taken for all that there is",
        (Change("_commands/receive.py", "bool(more)", "False"),),
        (
            "test_receive.py::TestCutShort::test_without_a_lease",
            "test_receive.py::TestCutShort::test_large_bodies_without_a_lease",
        ),
    ),
    "no-answer-is-nothing": Breakage(
        "a long poll that was never answered says that there is no message",
        (
            Change("_claims.py", 'raise self._scripts.trouble("receive") or self._scripts.late(NO_REPLY)', "return []"),
            Change("_claims.py", "slot.fail(trouble)", "slot.finish()"),
        ),
        ("test_receive.py::TestNoAnswer::test_stopped", "test_receive.py::TestNoAnswer::test_a_replica"),
    ),
    "the-line-has-no-deadline": Breakage(
        "calls that wait behind others wait for ever",
        (
            Change(
                "_batch.py",
                "self._expiry = loop.call_at(deadline + SLACK",
                "self._expiry = loop.call_at(deadline + 3600",
            ),
            Change("_pipeline.py", "REPLY_TIMEOUT: Final = 5.0", "REPLY_TIMEOUT: Final = 3600.0"),
        ),
        ("test_receive.py::TestDeadline::test_sends_that_wait_behind_others",),
    ),
    "filled-in-the-order-of-the-line": Breakage(
        "a stream hands out its slots in the order of the line, not in that of the claims",
        (Change("_stream.py", "slot = done.done.popleft()", "slot = done.done.pop()"),),
        ("test_receive.py::TestCutShort::test_order_of_large_bodies_with_prefetch",),
    ),
    "healthy-without-a-server": Breakage(
        "nobody looks for the server when its connection is lost",
        (
            Change("client.py", "        shared.look_again()\n", "        pass\n"),
            Change("_listener.py", "            flag.set()  # perhaps", "            pass  # perhaps"),
        ),
        ("test_receive.py::TestHealth::test_a_worker_whose_server_is_killed",),
    ),
    "guard-trusts-the-pipe": Breakage(
        "the embedded server lives as long as a forked child of a killed program",
        (Change("embedded.py", "do is_child || kill 0; done", "do :; done"),),
        ("test_embedded.py::test_gone_with_its_program",),
    ),
    "guard-is-not-told": Breakage(
        "the embedded server is stopped by the end of the pipe alone",
        (Change("embedded.py", "        self._signal(signal.SIGTERM)\n", ""),),
        ("test_embedded.py::test_stopped_while_a_forked_child_lives",),
    ),
    "guard-does-not-watch": Breakage(
        "the embedded server outlives its program",
        (
            Change("embedded.py", "{ read -r word <&3; kill 0; }", "{ sleep 1000; }"),
            Change("embedded.py", "{ is_child && while", "{ while false && "),
        ),
        ("test_embedded.py::test_program_killed_while_it_starts",),
    ),
    "start-leaves-its-server": Breakage(
        "a start of the embedded server that is cancelled does not stop it",
        (Change("embedded.py", "if self._guard is not None and not self._guard.is_up:", "if False:"),),
        ("test_embedded.py::test_start_cancelled",),
    ),
    "data-for-all-to-read": Breakage(
        "everybody may read the embedded server's data",
        (Change("embedded.py", "umask 077\n", ""),),
        ("test_embedded.py::test_files_are_private",),
    ),
    "json-reads-infinity": Breakage(
        "JSON hands out numbers that it refuses to send",
        (Change("codecs.py", "JSONDecoder(parse_float=_finite, parse_constant=_no_json)", "JSONDecoder()"),),
        ("test_codecs.py::test_json_does_not_read_what_it_could_not_write", "chaos/test_fuzz_parts.py::test_codecs"),
    ),
    "json-refuses-half-a-pair": Breakage(
        "JSON hands out half a surrogate pair, and refuses to send it",
        (Change("codecs.py", 'raw = text.encode(errors="backslashreplace")', "raise"),),
        ("test_codecs.py::test_json_reads_and_writes_alike", "chaos/test_fuzz_parts.py::test_codecs"),
    ),
    "nan-becomes-null": Breakage(
        "a typed codec writes NaN as null where null can be read",
        (Change("codecs.py", "and unsayable != self._unsayable(again)", "and False"),),
        ("test_codecs.py::test_typed_infinity", "chaos/test_fuzz_parts.py::test_typed_codecs_read_and_write_alike"),
    ),
    "late-first-attempt": Breakage(
        "a first attempt of a send that arrives after its repetition shows what a consumer holds",
        (Change("_lua/send.lua", "'ZADD', KEYS[1], 'NX', ", "'ZADD', KEYS[1], "),),
        ("test_lost_replies.py::test_first_attempt_after_its_repetition", "chaos/test_late.py::test_late_requests"),
    ),
    "too-long-is-stored": Breakage(
        "a repeated send returns ids of messages that were too long at first and never stored",
        (Change("_lua/send.lua", ">= math.floor(ARGV[3] / 1000000)", "< 0"),),
        ("test_lost_replies.py::test_send_of_what_was_too_long",),
    ),
    "unreadable-at-once-again": Breakage(
        "what the codec cannot read comes again at once from a queue of vt=0",
        (Change("_shared.py", "elif left_ms < SHORTEST_HIDING * 1000:", "elif False:"),),
        ("test_receive.py::TestUnreadable::test_without_a_lease",),
    ),
    "what-users-raise-ends-the-task": Breakage(
        "a backoff or an on_error that fails ends the task that was to settle the message",
        (
            Change(
                "_handling.py", "except BaseException as error:  # noqa: BLE001 - a", "except KeyError as error:  # a"
            ),
        ),
        ("worker/test_user_functions.py::test_on_error", "worker/test_user_functions.py::test_backoff"),
    ),
    "own-retry-and-reject": Breakage(
        "a Retry or a Reject has its attributes from `__init__` alone, and nobody expects one without",
        (
            Change(
                "_handlers.py",
                "        self.reason = str(reason)\n\n\ndef exponential",
                "        self.reason = str(reason)\n\n\ndel Retry.delay, Reject.reason\n\n\ndef exponential",
            ),
            Change("_handlers.py", "except BaseException:  # noqa: BLE001 - its own", "except KeyError:  # its own"),
            Change(
                "_handling.py", "except BaseException as error:  # noqa: BLE001 - a", "except KeyError as error:  # a"
            ),
        ),
        ("worker/test_user_functions.py::test_rejects", "worker/test_user_functions.py::test_retries"),
    ),
    "settled-by-a-cancelled-task": Breakage(
        "the handler's own task settles its message, though the handler may have cancelled it",
        (Change("_handling.py", "job.task = asyncio.create_task(settling)", "await settling"),),
        ("worker/test_user_functions.py::test_handler_fails", "worker/test_user_functions.py::test_retries"),
    ),
    "whatever-is-returned-is-done": Breakage(
        "a handler that returns False, to keep its message, has it deleted",
        (Change("_handling.py", "                check_result(result)\n", "                pass\n"),),
        ("worker/test_user_functions.py::test_handler_fails",),
    ),
    "a-coroutine-is-true": Breakage(
        "a redrive moves everything if `where` returns a coroutine",
        (Change("_commands/dead.py", 'call_plain("where", where, letter)', "where(letter)"),),
        ("worker/test_user_functions.py::test_where",),
    ),
    "no-fence-for-the-dropped": Breakage(
        "a stale receipt drops the message of another consumer",
        (Change("_lua/drop.lua", "local mine = score and meant", "local mine = score"),),
        ("dead_letters/test_max_receives_alone.py::test_fenced",),
    ),
    "drops-what-should-be-kept": Breakage(
        "a queue that has been told to drop nothing drops what is rejected",
        (Change("_lua/drop.lua", "if name or not most then", "if name then"),),
        ("dead_letters/test_max_receives_alone.py::test_nowhere_to_put_it",),
    ),
    "a-misnamed-queue-drops-all": Breakage(
        "a senseless dead_letter_queue with a max_receives reads as that number alone",
        (
            Change("_lua/_dead_letters.lua", "  if name == '' then\n", "  if name == '' or name == 'a b' then\n"),
            Change(
                "_protocol.py", 'or name in (qname, "QUEUES")):', 'or name in (qname, "QUEUES")) and name != "a b":'
            ),
        ),
        ("dead_letters/test_policy.py::test_senseless_name",),
    ),
    "a-worker-ends-with-its-queue": Breakage(
        "a worker ends when its queue is deleted",
        (Change("_source.py", "            self.miss()\n            return []\n", "            raise\n"),),
        ("test_missing_queue.py::TestWorker::test_waits",),
    ),
    "a-lost-name-stays-lost": Breakage(
        "creating a queue that is there does not enter it in the set of all queues",
        (Change("_lua/create_queue.lua", "    redis.pcall('SADD', KEYS[3], ARGV[2])\n", ""),),
        ("test_missing_queue.py::TestSetOfAllQueues::test_restored",),
    ),
    "replies-alone-are-a-sign-of-life": Breakage(
        "a reply that takes long to arrive is taken for silence",
        (
            Change("_wire.py", "        self.heard_at = self._now()\n        bounds", "        bounds"),
            Change("_wire.py", "any_reply = True", "any_reply, self.heard_at = True, self._now()"),
        ),
        (
            "test_receive.py::TestSlowLine::test_a_large_message",
            "test_receive.py::TestSlowLine::test_many",
            "chaos/test_late.py::test_slow_line",
            "test_pipelining.py::test_reply_that_takes_long",
        ),
    ),
    "no-patience-with-whole-replies": Breakage(
        "the way through redis-py's public methods waits no longer for a reply than the other for a byte",
        (Change("_wire.py", "patience = 6", "patience = 1"),),
        ("test_pipelining.py::test_reply_that_takes_long",),
    ),
    "repeated-claim-for-all": Breakage(
        "each repetition of a claim hides as many messages as the first attempt",
        (Change("_commands/receive.py", "lambda: (1, lease", "lambda: (args[0], lease"),),
        ("test_receive.py::TestRepeatedClaim::test_claims_one",),
    ),
    "late-reply-dropped": Breakage(
        "messages in a reply that comes after the deadline are lost",
        (Change("_scripts.py", "if call.holds_messages and attempts:", "if False:"),),
        ("test_receive.py::TestAfterTheDeadline::test_put_back",),
    ),
    "long-poll-leaves-what-arrives": Breakage(
        "a long poll that ends does not wait for a message that is arriving",
        (Change("_scripts.py", "heard_at = ends if pipeline is None", "heard_at = ends if True"),),
        ("test_receive.py::TestSlowLine::test_a_long_poll_that_ends",),
    ),
    "room-for-what-is-announced": Breakage(
        "a reply may announce any number of elements",
        (Change("_wire.py", 'self._check("elements", self._elements, MAX_ELEMENTS)', "pass"),),
        ("test_pipelining.py::test_too_large_an_array -k many",),
    ),
    "announced-in-two-pieces": Breakage(
        "the length of an array that comes in two pieces is not looked at",
        (Change("_wire.py", "if cut := _cut_array(data", "if cut := _cut_array(b''"),),
        ("test_pipelining.py::test_too_large_an_array -k 1-many",),
    ),
    "bodies-taken-for-arrays": Breakage(
        "a line of a body that looks like a long array ends the connection",
        (Change("_wire.py", "if not self._reader.has_data():", "if True:"),),
        ("test_pipelining.py::test_bodies_like_long_arrays",),
    ),
    "endless-replies": Breakage(
        "a reply may go on for ever",
        (Change("_wire.py", "                bounds.add(data)", "                pass"),),
        ("test_pipelining.py::test_endless_reply",),
    ),
    "unknown-subscribe-is-an-outage": Breakage(
        "a server that knows no SUBSCRIBE gets a new connection again and again",
        (
            Change("_listener.py", "self._again_at = self._now() + RETRY_REFUSED\n", "pass\n"),
            Change("_listener.py", "opened=wire is not None", "opened=False"),
        ),
        ("test_announcements.py::TestUnknown::test_subscribe_on_a_server",),
    ),
    "closed-on-subscribe-is-an-outage": Breakage(
        "a proxy that closes the connection on SUBSCRIBE gets a new one again and again",
        (Change("_listener.py", "opened=wire is not None", "opened=False"),),
        ("test_announcements.py::TestUnknown::test_subscribe_behind_a_proxy",),
    ),
    "one-refused-channel-stops-all": Breakage(
        "a channel that is refused keeps the client from listening to any",
        (
            Change(
                "_listener.py",
                "self._refused[command] = self._now() + RETRY_REFUSED",
                "self._again_at = math.inf; self._fail(error)",
            ),
        ),
        ("test_announcements.py::test_one_channel_is_refused",),
    ),
    "refused-for-ever": Breakage(
        "a channel that was refused once is never tried again",
        (
            Change(
                "_listener.py",
                "self._refused[command] = self._now() + RETRY_REFUSED",
                "self._refused[command] = math.inf",
            ),
        ),
        ("test_announcements.py::test_one_channel_is_refused",),
    ),
    "no-ping-no-listening": Breakage(
        "a proxy that knows no PING costs a connection for each",
        (
            Change(
                "_listener.py",
                "case _ if command in _SIGNS_OF_LIFE:\n                self._refused[command] = math.inf",
                "case _ if command in _SIGNS_OF_LIFE:\n                self._fail(error)",
            ),
            Change("_listener.py", "and command not in self._known:", "and False:"),
        ),
        ("test_announcements.py::TestUnknown::test_ping",),
    ),
    "refused-password-is-final-at-once": Breakage(
        "a password that is refused while it is rotated ends streams and workers",
        (Change("_connection.py", "self._refused_since + LOGIN_PATIENCE", "self._refused_since"),),
        ("test_connection.py::TestRefusedLogin::test_login_works_again",),
    ),
    "refused-password-is-never-final": Breakage(
        "a password that is refused for good is waited for, for ever",
        (Change("_connection.py", "self._refused_since + LOGIN_PATIENCE", "math.inf"),),
        (
            "test_connection.py::TestRefusedLogin::test_refused_for_good",
            "test_connection.py::TestRefusedLogin::test_logged_out_for_good",
        ),
    ),
    "login-that-never-worked-is-waited-for": Breakage(
        "a missing password is taken for one that is being rotated",
        (
            Change("_scripts.py", "if self.clock.known:", "if True:"),
            Change("_scripts.py", "(self.clock.known and ", "("),
        ),
        ("test_connection.py::TestRefusedLogin::test_no_password",),
    ),
    "each-call-logs-in": Breakage(
        "the more calls wait, the more often a refused login is tried",
        (Change("_connection.py", "self._refused_at + LOGIN_PAUSE", "self._refused_at"),),
        ("test_connection.py::TestRefusedLogin::test_few_attempts",),
    ),
    "stays-logged-out": Breakage(
        "a connection that is no longer logged in is kept",
        (Change("_scripts.py", "if is_refused_login(error):", "if False:"),),
        ("test_connection.py::TestRefusedLogin::test_logged_out",),
    ),
    "patience-is-spent-once": Breakage(
        "a second rotation finds the patience of the first spent",
        (Change("_connection.py", "(has_worked and self._opened_at > self._refused_since)", "False"),),
        ("test_connection.py::TestRefusedLogin::test_rotated_again",),
    ),
    "nobody-asks-for-those-left": Breakage(
        "those for whom a claim cut short had nothing wait for the safety poll if another claim finds no more",
        (Change("_claims.py", "self._flag.is_set = self._flag.is_set or not slot.patient", "pass"),),
        ("test_receive.py::TestCutShort::test_more_than_there_are_of_large_bodies", MODEL),
    ),
    "received-again-beside-the-dead": Breakage(
        "a claim without a lease that meets dead messages asks again for what it has just handed out",
        (
            Change(
                "_claims.py",
                "claim = claim._replace(more=False)\n",
                "claim = claim._replace(more=False)\n"
                "        else:\n            claim = claim._replace(more=self._more_are_visible())\n",
            ),
        ),
        ("test_receive.py::TestCutShort::test_without_a_lease_among_the_dead", MODEL),
    ),
    "what-the-system-holds-is-sent": Breakage(
        "an upload that the system has taken over counts as done, while it goes out",
        (
            Change(
                "_wire.py", "get_write_buffer_size() + _unsent_by_system(self._transport)", "get_write_buffer_size()"
            ),
        ),
        ("test_pipelining.py::test_upload_in_the_hands_of_the_system",),
    ),
    "an-upload-that-grows-stands-still": Breakage(
        "an upload is taken to stand still because others add to it",
        (Change("_pipeline.py", "moved = self._sent - sent_then", "moved = unsent_then - self._unsent"),),
        ("test_pipelining.py::test_growing_upload",),
    ),
    "one-time-for-all-of-a-handshake": Breakage(
        "a connection whose opening takes several slow round trips is never opened",
        (Change("_connection.py", "with anyio.fail_after(OPEN_TIMEOUT):", "with anyio.fail_after(CONNECT_TIMEOUT):"),),
        ("test_connection.py::test_slow_handshake",),
    ),
    "dropped-by-a-former-limit": Breakage(
        "a worker drops what its queue no longer wants dropped",
        (Change("_lua/drop.lua", "(ARGV[3] == 'rejected' or count >= most) and ", ""),),
        ("dead_letters/test_max_receives_alone.py::test_limit_raised_while_a_handler_runs",),
    ),
    "in-the-line-is-answered": Breakage(
        "a long poll that stands behind an unanswered claim says that there is no message",
        (Change("_claims.py", "not (has_been_answered and slot in line)", "slot not in line"),),
        ("test_receive.py::TestNoAnswer::test_stopped_behind_another",),
    ),
    "a-cancelled-call-takes-the-deadline-away": Breakage(
        "a call whose neighbour in the script call was cancelled has no deadline",
        (
            Change(
                "_batch.py",
                "for deadline, _ in self._calls if deadline > now",
                "for deadline, futures in self._calls if not futures[-1].done()",
            ),
        ),
        ("test_batch.py::test_deadline_after_a_cancelled_call",),
    ),
}
