"""What is wrong with queues and their server, and what to do about it.

`judge` has the rules for what one snapshot shows, as for a badge in a list of queues; `examine`
looks at everything; `repair` mends what needs no decision.
"""

from __future__ import annotations

from .examine import examine
from .finding import SEVERITIES, Finding, Severity, duration, worst_first
from .repair import Repair, plan, repair
from .rules import judge

__all__ = [
    "SEVERITIES",
    "Finding",
    "Repair",
    "Severity",
    "duration",
    "examine",
    "judge",
    "plan",
    "repair",
    "worst_first",
]
