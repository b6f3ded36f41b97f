"""Confirmed sends: what is told as confirmed and is not, and who else waits."""

from .breakage import Breakage
from .edits import Edit, LuaEdit

CONFIRMED = {
    "confirmed-without-a-write": Breakage(
        "a repeated send that finds its message writes nothing: on a new connection the server "
        "then confirms what no replica has",
        (LuaEdit("send", "elseif n == 0 and string.find(ARGV[1], '^rewrite')", "elseif false"),),
        (
            "test_confirm.py::TestRetry::test_not_yet -k new",
            "test_confirm.py::test_lost_reply",
            "chaos/test_model_on_sets.py::test_confirmed --profile full",
        ),
    ),
    "confirmed-though-the-write-was-refused": Breakage(
        "a repetition that cannot write takes the server's word for it all the same",
        (LuaEdit("prelude_minted", "'unwritten'", "'stored'"),),
        ("test_confirm.py::TestRetry::test_full_server",),
    ),
    "handed-out-and-sent-again": Breakage(
        "a retry on the same connection stores again what was received and deleted",
        (Edit("ConfirmedSender._retry", "count is None", "True"),),
        ("test_confirm.py::TestRetry::test_received_and_deleted",),
    ),
    "confirmed-on-the-shared-connection": Breakage(
        "a send that waits for a replica holds up all calls of the client",
        (
            Edit(
                "Connector._open",
                "self._lane = self._new_lane(..., ..., ...)",
                "from .confirmed import ConfirmedLane\n"
                "wire = await self._target.open(self._tasks)\n"
                "self._lane = ConfirmedLane(wire, self._on_lost, on_doubt=lambda: None)",
            ),
            Edit("Server.confirmed", None, "return self.calls"),
        ),
        ("test_confirm.py::TestReplicas::test_unconfirmed_calls_do_not_wait",),
    ),
    "one-wait-behind-the-other": Breakage(
        "with a stopped replica, each confirmed send waits for the timeouts of all before it",
        (Edit("ConfirmedLane._plan", "self._waits or self._is_planned", "self._is_planned"),),
        ("test_confirm.py::TestStoppedReplica::test_other_queues",),
    ),
    "refused-when-it-is-stored": Breakage(
        "that the server does not confirm anything is only found when a message is stored",
        (Edit("ConfirmedLane.run", "confirm.name in self._accepted", "True"),),
        (
            "test_confirm.py::test_not_permitted",
            "test_confirm.py::TestFsync::test_no_append_only_file",
        ),
    ),
    "waiting-taken-for-dead": Breakage(
        "a connection that waits for a replica is given up",
        (
            Edit(
                "Lane._check_silence",
                "self._patience() + self.allowance",
                "self._patience()",
            ),
        ),
        ("test_confirm.py::TestStoppedReplica::test_longer_than_a_server_may_be_silent",),
    ),
    "nobody-suspects-the-server": Breakage(
        "a server that has no replicas any more is not suspected of being the wrong one",
        (
            Edit(
                "ConfirmedLane._on_wait",
                "confirm.replicas and not self.lost and (is_refused or not count)",
                "False",
            ),
        ),
        ("test_confirm.py::TestStoppedReplica::test_sentinels_are_asked",),
    ),
}
