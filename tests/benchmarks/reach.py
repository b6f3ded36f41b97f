"""How fast is fast enough: the ratios to others that this library is held to, and what was
measured.
"""

from statistics import median
from typing import NamedTuple

from results import Results, values


class Goal(NamedTuple):
    """A figure of ours over somebody else's, round by round; over several others', the ratio that
    is worst for us.
    """

    what: str
    against: str
    ours: str
    theirs: tuple[str | float, ...]
    """Paths in the results as `ours` is, or a number that needs no measuring."""
    at_least: float
    aim: float | None
    lower_is_better: bool = False

    def ratios(self, results: Results) -> list[float]:
        """The worst comparison's ratios, in order; none unless everything that it takes was
        measured.
        """
        ours = values(results, self.ours)
        compared = [
            sorted(
                a / b
                for a, b in zip(ours, self._their_values(results, path, len(ours)), strict=False)
            )
            for path in self.theirs
        ]
        worst = max if self.lower_is_better else min
        return worst(compared, key=median) if all(compared) else []

    def is_reached(self, ratios: list[float], bound: float) -> bool:
        """Judged by the three digits that are shown."""
        shown = float(f"{median(ratios):.3g}")
        return shown <= bound if self.lower_is_better else shown >= bound

    @staticmethod
    def _their_values(results: Results, path: str | float, rounds: int) -> list[float]:
        return values(results, path) if isinstance(path, str) else [path] * rounds


NAMES = {
    "streams batched": "streams by hand, batched",
    "ceiling": "redis-benchmark, same script, batches of 64",
}


def _stream(consumers: str, callers: int, against: str, at_least: float, aim: float) -> Goal:
    """The iterator, compared with what others reach when that many callers receive and delete."""
    return Goal(
        f"stream, {consumers.replace(' ', ' consumers, ' if callers > 1 else ' consumer, ', 1)}",
        f"{NAMES.get(against, against)}, receive + delete, {callers} caller{'s' * (callers > 1)}",
        f"stream/aiorsmq/{consumers}/rate",
        (f"receive/{against}/{callers}/rate",),
        at_least,
        aim,
    )


def _rate(figure: str, callers: int, against: str, at_least: float, aim: float) -> Goal:
    name = {"send": "send", "receive": "receive + delete"}[figure]
    return Goal(
        f"{name}, {callers} caller{'s' * (callers > 1)}",
        NAMES.get(against, against),
        f"{figure}/aiorsmq/{callers}/rate",
        (f"{figure}/{against}/{callers}/rate",),
        at_least,
        aim,
    )


def _lower(
    what: str, against: str, path: str, contender: str, at_least: float, aim: float | None
) -> Goal:
    theirs = (path.replace("/aiorsmq/", f"/{contender}/"),)
    return Goal(what, against, path, theirs, at_least, aim, lower_is_better=True)


POLLS_A_SECOND = 1 / 5  # one each `poll_interval`

GOALS = (
    _rate("send", 1, "Node rsmq", 2, 2.6),
    _rate("send", 16, "Node rsmq", 2.7, 3.5),
    _rate("send", 64, "Node rsmq", 5, 6.5),
    _rate("send", 256, "Node rsmq", 5.5, 7),
    _rate("send", 64, "ceiling", 0.6, 0.8),
    _rate("receive", 1, "Node rsmq", 1.5, 2),
    _stream("1 prefetch 32", 1, "Node rsmq", 4, 10),
    _rate("receive", 64, "Node rsmq", 2.8, 3.5),
    _stream("64 prefetch 8", 64, "Node rsmq", 2.8, 3.5),
    _rate("receive", 64, "streams batched", 1.1, 1.4),
    _stream("64 prefetch 8", 64, "streams batched", 1.1, 1.4),
    _rate("receive", 256, "Node rsmq", 3, 4),
    _stream("256 prefetch 8", 256, "Node rsmq", 3, 4),
    Goal(
        "end to end, saturated",
        "Node rsmq, and XREADGROUP BLOCK",
        "saturated/aiorsmq/64/rate",
        ("saturated/Node rsmq/64/rate", "saturated/streams/64/rate"),
        5,
        7,
    ),
    _lower(
        "end to end at 200/s, median",
        "Node rsmq",
        "latency/aiorsmq/200/median",
        "Node rsmq",
        0.55,
        0.45,
    ),
    _lower(
        "end to end at 200/s, 99th percentile",
        "Node rsmq",
        "latency/aiorsmq/200/p99",
        "Node rsmq",
        0.3,
        0.2,
    ),
    _lower(
        "end to end at 200/s, median",
        "XREADGROUP BLOCK",
        "latency/aiorsmq/200/median",
        "streams",
        1.35,
        1.1,
    ),
    Goal(
        "processed a second, concurrency 64",
        "BullMQ",
        "jobs/aiorsmq/64/rate",
        ("jobs/BullMQ/64/rate",),
        7,
        9,
    ),
    Goal(
        "processed a second, concurrency 64",
        "best of SAQ, arq, taskiq",
        "jobs/aiorsmq/64/rate",
        ("jobs/SAQ/64/rate", "jobs/arq/64/rate", "jobs/taskiq/64/rate"),
        30,
        45,
    ),
    _lower(
        "server CPU per message, send, 64 callers",
        "Node rsmq",
        "send/aiorsmq/64/server",
        "Node rsmq",
        0.25,
        0.17,
    ),
    _lower(
        "server CPU per message, receive + delete, 64 callers",
        "Node rsmq",
        "receive/aiorsmq/64/server",
        "Node rsmq",
        0.33,
        0.25,
    ),
    *(
        _rate(figure, callers, "PyRSMQ", 20, 60)
        for figure in ("send", "receive")
        for callers in (64, 256)
    ),
    *(
        Goal(
            f"{verb}, {threads} thread{'s' * (threads > 1)}, aiorsmq.sync",
            "PyRSMQ",
            f"sync_{figure}/aiorsmq.sync/{threads}/rate",
            (f"sync_{figure}/PyRSMQ/{threads}/rate",),
            at_least,
            None,
        )
        for figure, verb in (("send", "send"), ("receive", "receive + delete"))
        for threads, at_least in ((1, 1.5), (16, 10))
    ),
    _lower(
        "idle commands, 100 consumers on one queue",
        "rsmq-worker",
        "idle/aiorsmq/100 consumers, one queue/commands",
        "rsmq-worker",
        0.01,
        None,
    ),
    Goal(
        "idle script calls, 100 consumers on one queue",
        "the safety poll alone",
        "idle/aiorsmq/100 consumers, one queue/scripts",
        (POLLS_A_SECOND,),
        1,
        1,
        lower_is_better=True,
    ),
    *(
        Goal(
            f"cost of {verb} at 1,000,000 waiting",
            "at 1,000",
            f"waiting/aiorsmq/1000000/{verb}",
            (f"waiting/aiorsmq/1000/{verb}",),
            2,
            1.5,
            lower_is_better=True,
        )
        for verb in ("send", "receive", "delete")
    ),
    _lower("memory per message", "Node rsmq", "memory/aiorsmq/100000/memory", "Node rsmq", 1.01, 1),
)
