"""What `check` has found, in the formats of those who ask."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, NamedTuple

from ..errors import InvalidParameterValue
from ..models import Snapshot
from .output import json_line, number
from .queues import facts

Format = Literal["text", "nagios", "json", "prometheus"]


class Level(IntEnum):
    """By the exit code that Nagios has for it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_SEVERITY: Final = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)


def worst(levels: Iterable[Level]) -> Level:
    return max(levels, key=_SEVERITY.index, default=Level.OK)


class Finding(NamedTuple):
    """What is not as it should be."""

    metric: str
    level: Level
    text: str


@dataclass(frozen=True)
class Metric:
    read: Callable[[Snapshot], float | None]
    text: str
    """What says a value."""
    unit: str = ""


METRICS: Final[dict[str, Metric]] = {
    "age": Metric(lambda queue: round(queue.oldest_claimable_age, 3), "oldest {:,.0f} s", "s"),
    "depth": Metric(lambda queue: queue.visible, "{:,.0f} visible"),
    "dead": Metric(lambda queue: queue.dead, "{:,.0f} dead"),
    "consumers": Metric(lambda queue: queue.consumers, "{:,.0f} listening"),
}


@dataclass(frozen=True)
class Limit:
    """Thresholds of one metric."""

    metric: str
    warning: float | None = None
    critical: float | None = None
    is_minimum: bool = False
    """Whether less is worse, and not more."""

    def validate(self) -> None:
        """Raise InvalidParameterValue for thresholds that make no sense."""
        for name, value in (("warn", self.warning), ("crit", self.critical)):
            if value is not None and value < 0:
                raise InvalidParameterValue(f"{self.metric}-{name}", value, "must be 0 or more")
        if self.warning is not None and self.critical is not None:
            is_reversed = self._is_beyond(self.warning, self.critical)
            if is_reversed:
                reason = f"must not be {self._relation} {self.metric}-crit={self.critical:g}"
                raise InvalidParameterValue(f"{self.metric}-warn", self.warning, reason)

    def judge(self, queue: Snapshot) -> Iterator[Finding]:
        """At most one finding."""
        if self.warning is None and self.critical is None:
            return
        metric = METRICS[self.metric]
        value = metric.read(queue)
        if value is None:
            if self.metric != "dead" or queue.dead_letter_queue:
                yield Finding(self.metric, Level.UNKNOWN, f"{self.metric}: cannot be seen")
            return
        for level, threshold in (
            (Level.CRITICAL, self.critical),
            (Level.WARNING, self.warning),
        ):
            if threshold is not None and self._is_beyond(value, threshold):
                text = f"{metric.text.format(value)} ({self._relation} {threshold:g})"
                yield Finding(self.metric, level, text)
                return

    def ranges(self) -> str:
        """As in the performance data of Nagios."""
        colon = ":" if self.is_minimum else ""
        limits = (self.warning, self.critical)
        return ";".join("" if limit is None else f"{limit:g}{colon}" for limit in limits)

    @property
    def _relation(self) -> str:
        return "<" if self.is_minimum else ">"

    def _is_beyond(self, value: float, threshold: float) -> bool:
        return value < threshold if self.is_minimum else value > threshold


@dataclass(frozen=True)
class Verdict:
    """On one queue."""

    name: str
    queue: Snapshot | None
    """None if it does not exist."""
    limits: Sequence[Limit] = ()
    findings: Sequence[Finding] = ()

    @property
    def level(self) -> Level:
        return worst(finding.level for finding in self.findings)

    @property
    def text(self) -> str:
        if self.findings or self.queue is None:
            return ", ".join(finding.text for finding in self.findings)
        return _look(self.queue.visible, self.queue.oldest_claimable_age)


@dataclass(frozen=True)
class Report:
    verdicts: Sequence[Verdict]
    error: str | None = None
    """Why nothing could be checked."""

    @property
    def level(self) -> Level:
        if self.error is not None:
            return Level.UNKNOWN
        return worst(verdict.level for verdict in self.verdicts)

    @property
    def text(self) -> str:
        """All in one line."""
        if self.error is not None:
            return self.error
        bad = [verdict for verdict in self.verdicts if verdict.findings]
        bad.sort(key=lambda verdict: -_SEVERITY.index(verdict.level))
        if bad:
            return "; ".join(f"{verdict.name}: {verdict.text}" for verdict in bad)
        queues = [verdict.queue for verdict in self.verdicts if verdict.queue]
        visible = sum(queue.visible for queue in queues)
        oldest = max(queue.oldest_claimable_age for queue in queues)
        label = "queue" if len(queues) == 1 else "queues"
        return f"{number(len(queues))} {label}, {_look(visible, oldest)}"


def _look(visible: int, oldest: float) -> str:
    return f"{number(visible)} visible" + (f", oldest {oldest:,.0f} s" if visible else "")


def render(report: Report, format: Format) -> str:
    """Whole lines."""
    return "".join(f"{line}\n" for line in _FORMATS[format](report))


def _text(report: Report) -> Iterator[str]:
    if report.error is not None:
        yield f"UNKNOWN   {report.error}"
    width = max((len(verdict.name) for verdict in report.verdicts), default=0)
    for verdict in report.verdicts:
        yield f"{verdict.level.name:8}  {verdict.name:{width}}  {verdict.text}"


def _nagios(report: Report) -> Iterator[str]:
    line = f"RSMQ {report.level.name} - {report.text}".replace("|", "/")
    data = " ".join(
        datum
        for verdict in report.verdicts
        if verdict.queue
        for datum in _performance(verdict, verdict.queue)
    )
    yield f"{line} | {data}" if data else line


def _performance(verdict: Verdict, queue: Snapshot) -> Iterator[str]:
    limits = {limit.metric: limit for limit in verdict.limits}
    for name, metric in METRICS.items():
        value = metric.read(queue)
        if value is not None:
            ranges = limits[name].ranges() if name in limits else ";"
            yield f"'{queue.name}_{name}'={value:.10g}{metric.unit};{ranges};0"
    yield f"'{queue.name}_sent'={queue.totalsent}c"
    yield f"'{queue.name}_received'={queue.totalrecv}c"


def _json(report: Report) -> Iterator[str]:
    value = {
        "status": report.level.name.lower(),
        "code": report.level.value,
        "text": report.text,
        "queues": [
            {
                "name": verdict.name,
                "status": verdict.level.name.lower(),
                "code": verdict.level.value,
                "findings": [
                    {"metric": metric, "status": level.name.lower(), "text": text}
                    for metric, level, text in verdict.findings
                ],
                "facts": verdict.queue and facts(verdict.queue),
            }
            for verdict in report.verdicts
        ],
    }
    yield json_line(value)


@dataclass(frozen=True)
class _Family:
    kind: str
    text: str
    read: Callable[[Snapshot], float | None]


_FAMILIES: Final[dict[str, _Family]] = {
    "rsmq_queue_oldest_claimable_seconds": _Family(
        "gauge",
        "For how long the next message in turn could have been received; 0 if none is visible.",
        lambda queue: round(queue.oldest_claimable_age, 3),
    ),
    "rsmq_queue_sent_total": _Family(
        "counter", "Messages sent to the queue, by any program.", lambda queue: queue.totalsent
    ),
    "rsmq_queue_received_total": _Family(
        "counter", "Messages received, by any program.", lambda queue: queue.totalrecv
    ),
    "rsmq_queue_dead_messages": _Family(
        "gauge",
        "Messages in the queue's dead-letter queue, which queues may share.",
        lambda queue: 0 if queue.dead_letter_queue is None else queue.dead,
    ),
    "rsmq_queue_consumers": _Family(
        "gauge", "Clients that listen to the queue's announcements.", lambda queue: queue.consumers
    ),
    "rsmq_queue_paused": _Family(
        "gauge", "1 if the queue is paused.", lambda queue: int(queue.paused_since is not None)
    ),
}


def _prometheus(report: Report) -> Iterator[str]:
    queues = [verdict.queue for verdict in report.verdicts if verdict.queue]
    if queues:
        yield from _head("rsmq_queue_messages", "gauge", "Messages in the queue.")
    for queue in queues:
        for state, value in (("visible", queue.visible), ("hidden", queue.hidden)):
            yield f'rsmq_queue_messages{{queue="{queue.name}",state="{state}"}} {value}'
    for name, family in _FAMILIES.items():
        values = [(queue.name, family.read(queue)) for queue in queues]
        samples = [(qname, value) for qname, value in values if value is not None]
        if samples:
            yield from _head(name, family.kind, family.text)
        for qname, value in samples:
            yield f'{name}{{queue="{qname}"}} {value}'
    meaning = "0 ok, 1 warning, 2 critical, 3 unknown."
    if report.verdicts:
        yield from _head("rsmq_queue_check_status", "gauge", f"The check of the queue: {meaning}")
    for verdict in report.verdicts:
        yield f'rsmq_queue_check_status{{queue="{verdict.name}"}} {verdict.level.value}'
    if report.error is not None:
        yield f"# {report.error}"
    yield from _head("rsmq_check_status", "gauge", f"The check of all queues: {meaning}")
    yield f"rsmq_check_status {report.level.value}"


def _head(name: str, kind: str, help: str) -> tuple[str, str]:
    return f"# HELP {name} {help}", f"# TYPE {name} {kind}"


_FORMATS: Final[dict[Format, Callable[[Report], Iterator[str]]]] = {
    "text": _text,
    "nagios": _nagios,
    "json": _json,
    "prometheus": _prometheus,
}
