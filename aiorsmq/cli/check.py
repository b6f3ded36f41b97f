"""`check`: are the queues as they should be? For Nagios, Prometheus and scripts."""

from collections.abc import Sequence
from typing import Annotated, get_args

from cyclopts import Parameter

from ..doctor import duration
from ..models import Snapshot
from .durations import Duration
from .errors import EXPECTED, explain
from .reports import Finding, Format, Level, Limit, Report, Verdict, render
from .server import DEFAULT_SERVER, Server


async def check(
    *queues: str,
    age_warn: Duration | None = None,
    age_crit: Duration | None = None,
    depth_warn: int | None = None,
    depth_crit: int | None = None,
    dead_warn: int | None = None,
    dead_crit: int | None = None,
    consumers_warn: int | None = None,
    consumers_crit: int | None = None,
    allow_paused: Annotated[bool, Parameter(negative="")] = False,
    format: Format = "text",
    server: Server = DEFAULT_SERVER,
) -> int:
    """Check queues against thresholds, for monitoring.

    Exit codes are those of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown: the server cannot be
    reached or refuses, or the command was wrong. A queue that is named and does not exist is
    critical; a paused queue is a warning. A dead-letter queue counts for the queues before it, and
    has no thresholds of its own unless it is named.

    Args:
        queues: names; all queues if none is given.
        age_warn: warn if the next message in turn could have been received for longer than this.
        age_crit: critical beyond this.
        depth_warn: warn if more messages than this are visible.
        depth_crit: critical beyond this.
        dead_warn: warn if the dead-letter queue has more messages than this; 0 for any.
        dead_crit: critical beyond this.
        consumers_warn: warn if fewer clients than this listen. Clients of other libraries poll and
            are not counted, nor are consumers that are busy.
        consumers_crit: critical beyond this.
        allow_paused: a paused queue is no reason to warn.
        format: text for people; nagios; json; prometheus for node_exporter's textfile collector.
    """
    limits = (
        Limit("age", age_warn, age_crit),
        Limit("depth", depth_warn, depth_crit),
        Limit("dead", dead_warn, dead_crit),
        Limit("consumers", consumers_warn, consumers_crit, is_minimum=True),
    )
    try:
        for limit in limits:
            limit.validate()
        async with server.connect() as rsmq:
            found = await rsmq.snapshots(queues or None)
    except EXPECTED as error:
        report = Report([], error=explain(error))
    else:
        report = examine(found, queues, limits, allow_paused=allow_paused)
        if not report.verdicts:  # a wrong namespace, most likely
            report = Report([], error=f"no queues in namespace {server.ns!r}")
    print(render(report, format), end="")
    return report.level


def examine(
    found: Sequence[Snapshot],
    named: Sequence[str],
    limits: Sequence[Limit],
    *,
    allow_paused: bool,
) -> Report:
    """Judge each queue that was found, or named."""
    behind = {queue.dead_letter_queue for queue in found} - set(named)
    verdicts: list[Verdict] = []
    for queue in found:
        applied = () if queue.name in behind else limits
        findings = [finding for limit in applied for finding in limit.judge(queue)]
        if queue.paused_since is not None and not allow_paused:
            paused_for = (queue.server_time - queue.paused_since).total_seconds()
            text = f"paused for {duration(max(paused_for, 0))}"
            findings.append(Finding("paused", Level.WARNING, text))
        verdicts.append(Verdict(queue.name, queue, applied, findings))
    absence = Finding("exists", Level.CRITICAL, "does not exist")
    missing = set(named) - {queue.name for queue in found}
    verdicts += [Verdict(name, None, (), (absence,)) for name in missing]
    return Report(sorted(verdicts, key=lambda verdict: verdict.name))


def report_wrong_usage(arguments: Sequence[str]) -> Level:
    """Tell it on stdout too, where monitoring reads, in the format that was asked for; the details
    are on stderr."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    following = [words[index + 1] for index in range(len(words) - 1) if words[index] == "--format"]
    formats = [format for format in get_args(Format) if format in following]
    report = Report([], error="wrong usage, see aiorsmq check --help")
    print(render(report, formats[0] if formats else "text"), end="")
    return report.level
