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


MODEL = "chaos/test_model.py::test_model"

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
                "_lua/delete.lua", "mine = here and (fence == '' or text(whole(count) or 0) == fence)", "mine = here"
            ),
        ),
        (MODEL,),
    ),
    "no-fence-for-extend": Breakage(
        "a stale receipt extends the lease of another consumer",
        (
            Change(
                "_lua/change_visibility.lua",
                "scores[i] and (fence == '' or text(whole(counts[i]) or 0) == fence)",
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
        (Change("_protocol.py", "        tails.sort()\n", ""),),
        (MODEL,),
    ),
    "delay-ignored": Breakage(
        "a send of many with a delay of its own takes the queue's",
        (
            Change(
                "_commands/send.py",
                "if all(message.delay_ms is None for message in messages):",
                "if len(messages) > 1:",
            ),
        ),
        (MODEL,),
    ),
    "pop-leaves-a-field": Breakage(
        "a pop leaves the time of the first receipt behind",
        (
            Change(
                "_lua/receive.lua",
                "redis.pcall('HDEL', KEYS[2], id, names[i + 1], fr)",
                "redis.pcall('HDEL', KEYS[2], id, names[i + 1])",
            ),
        ),
        (MODEL,),
    ),
    "no-hand-back": Breakage(
        "a message claimed for a consumer that is cancelled stays hidden",
        (Change("_claims.py", "self._tasks.start(self._return(unwanted))", "pass"),),
        (MODEL,),
    ),
    "all-or-none-forgotten": Breakage(
        "send_many stores those that are not too long",
        (Change("_lua/send.lua", "(ARGV[2] == 'all' and #reply > 4)", "false"),),
        (MODEL,),
    ),
    "deleted-twice": Breakage(
        "two deletes of one message in one call both say that they have done it",
        (Change("_commands/settle.py", "if len(set(ids)) < len(ids):", "if False:"),),
        (MODEL,),
    ),
    "no-eval": Breakage(
        "a script that the server has forgotten is sent by its SHA1 again",
        (Change("_scripts.py", '"EVAL", script.source', '"EVALSHA", script.sha1'),),
        (MODEL,),
    ),
}
