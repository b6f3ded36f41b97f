"""Sentinels: which server is believed to be the primary, and when it is left."""

from .breakage import Breakage
from .edits import Edit

_FAILOVER = "sets/test_sentinel.py::TestFailover"

SENTINEL = {
    "a-replica-will-do": Breakage(
        "whatever answers at the primary's address is taken for the primary",
        (Edit("SentinelTarget._connect", 'reply[0] != b"master"', "False"),),
        (f"{_FAILOVER}::test_replica",),
    ),
    "one-sentinel-is-asked": Breakage(
        "only the first sentinel is asked",
        (
            Edit(
                "Quorum._ask_all",
                "[self._tasks.start(self._ask(sentinel)) for sentinel in self._sentinels]",
                "[self._tasks.start(self._ask(sentinel)) for sentinel in self._sentinels[:1]]",
            ),
            Edit(
                "Quorum._ask_all",
                "zip(self._sentinels, questions, strict=True)",
                "zip(self._sentinels, questions, strict=False)",
            ),
        ),
        ("sets/test_sentinel.py::TestSentinels::test_first_is_gone",),
    ),
    "the-latest-word-counts": Breakage(
        "sentinels are believed whatever their epoch",
        (
            Edit(
                "Primary._look",
                "max(view.epoch for view in self._views.values())",
                "[*self._views.values()][0].epoch",
            ),
        ),
        ("inside/test_failover.py::test_highest_epoch",),
    ),
    "one-sentinel-is-not-listened-to": Breakage(
        "a sentinel is not listened to, and only the one in charge tells of the danger",
        (
            Edit(
                "Quorum.__init__",
                "self._tasks.start(sentinel.watch(self._tasks, partial(self._on_event, sentinel)))",
                "sentinel is sentinels[0] or self._tasks.start("
                "sentinel.watch(self._tasks, partial(self._on_event, sentinel)))",
            ),
        ),
        (f"{_FAILOVER}::test_planned",),
    ),
    "no-hold": Breakage(
        "calls go on to a primary whose place is being taken",
        (Edit("Quorum._on_event", "self.primary.hold()", "pass"),),
        (f"{_FAILOVER}::test_planned",),
    ),
    "held-for-ever": Breakage(
        "calls wait for the end of a failover of which nothing is heard any more",
        (
            Edit(
                "Primary.settled",
                "anyio.move_on_after(self._held_at + HOLD - self._home.loop().time())",
                "anyio.move_on_after(3600)",
            ),
        ),
        ("inside/test_failover.py::test_held_for_a_while",),
    ),
    "the-listener-stays": Breakage(
        "the listener stays with the old primary",
        (Edit("Engine._leave", "self.listener.leave()", "pass"),),
        (f"{_FAILOVER}::test_consumer",),
    ),
    "the-lanes-stay": Breakage(
        "the calls stay with the old primary",
        (Edit("Engine._leave", "self.upkeep.start(server.leave())", "pass"),),
        (f"{_FAILOVER}::test_planned",),
    ),
    "no-second-look": Breakage(
        "a connection that opens after the primary was replaced is used",
        (Edit("Primary._leave", "opening.cancel()", "pass"),),
        (f"{_FAILOVER}::test_connecting",),
    ),
    "sentinels-outlive-the-client": Breakage(
        "the tasks that listen to sentinels go on after the client was closed",
        (Edit("SentinelTarget.aclose", "await self._quorum.aclose()", "pass"),),
        ("sets/test_sentinel.py::TestSentinels::test_closing",),
    ),
}
