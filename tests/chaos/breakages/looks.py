"""What operators read of a queue, and repair in it."""

from .breakage import Breakage
from .edits import Edit, LuaEdit

LOOKS = {
    "a-page-begins-at-its-score": Breakage(
        "a search goes on at the score of a message that is gone, and finds others again",
        (LuaEdit("prelude_places", "while low < high do", "while false do"),),
        ("operations/test_find.py::test_same_score",),
    ),
    "every-id-has-a-time": Breakage(
        "an id that carries no time counts as old",
        (LuaEdit("prelude_matches", "us or math.huge", "us or 0"),),
        ("operations/test_find.py::test_older_than",),
    ),
    "patterns-in-text": Breakage(
        "the text to look for is taken as a pattern",
        (LuaEdit("prelude_matches", "conditions.text, 1, true", "conditions.text, 1, false"),),
        ("operations/test_find.py::test_text",),
    ),
    "the-whole-body-travels": Breakage(
        "bodies are not cut on the server",
        (
            LuaEdit(
                "prelude_matches",
                "string.sub(message.body, 1, max_bytes)",
                "message.body",
            ),
        ),
        (
            "operations/test_find.py::test_cut",
            "operations/test_get.py::test_cut",
        ),
    ),
    "a-purge-strands": Breakage(
        "what an unfinished purge has left is put back into the queue",
        (LuaEdit("prelude_findings", "is_used or is_purged(purged, id)", "is_used"),),
        ("operations/test_audit.py::test_unfinished_purge",),
    ),
    "repair-believes-the-audit": Breakage(
        "what an audit has found is repaired without another look",
        (
            LuaEdit("repair", "member_finding(KEYS[2], name) == finding", "true"),
            LuaEdit("repair", "field_finding(KEYS[1], KEYS[2], KEYS[3], name) == finding", "true"),
        ),
        ("operations/test_audit.py::test_gone_between_steps",),
    ),
    "unknown-fields-are-leaks": Breakage(
        "a repair deletes fields that it does not know",
        (LuaEdit("prelude_findings", "string.match(name, '^' .. digits .. '%w+$')", "true"),),
        ("operations/test_audit.py::test_unknown",),
    ),
    "joins-a-channel-deaf": Breakage(
        "a consumer on a channel that is listened to already misses what was announced before",
        (Edit("Listener.watch", "flag.channel in self._confirmed", "False"),),
        (
            "operations/test_announcements.py::test_besides_a_consumer",
            "operations/test_announcements.py::test_several",
        ),
    ),
    "polls-in-vain": Breakage(
        "an iterator over announcements that cannot listen waits for ever",
        (Edit("Announcements._wait", "self._flag.is_set = True", "pass"),),
        ("operations/test_announcements.py::test_polling",),
    ),
}
