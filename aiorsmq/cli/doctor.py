"""What is wrong with queues and their server, and what to do about it."""

import logging
import os
import re
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final

from cyclopts import Parameter
from rich.text import Text

from ..client import AsyncRSMQ
from ..doctor import SEVERITIES, Finding, Repair, examine, plan
from ..doctor import repair as repair_all
from .durations import Duration
from .errors import NotDone
from .output import AsJson, Yes, console, foreign, notes, print_json
from .reading import confirm
from .server import DEFAULT_SERVER, Server

_COLOURS: Final = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_INDENT: Final = 10


async def doctor(
    *queues: str,
    watch: Duration = 0,
    budget: int = 200_000,
    repair: Annotated[bool, Parameter(negative="")] = False,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Tell what is wrong with queues and their server, and which command mends it.

    Receives nothing and changes nothing. Exit code 0 if nothing is wrong, 1 if something is; what
    is only good to know (info) is not wrong.

    Args:
        queues: their names; all queues if none is given.
        watch: for how long to watch them; 5 is enough. That shows consumers that poll, as those of
            Node rsmq and PyRSMQ do, and producers that announce nothing.
        budget: the most messages and fields to look through in each queue.
        repair: mend what needs no decision: messages without a place, places without a message,
            fields of messages that are gone, half-made queues, the set of all queues. Says what it
            will do, and asks. Never changes a setting that is there.
    """
    logging.getLogger("aiorsmq.queue").setLevel(logging.ERROR)  # what it warns of is found here
    async with server.connect() as rsmq:
        findings = await _examine(rsmq, queues, watch, budget)
        findings = [
            replace(
                finding,
                remedy=adapt(finding.remedy, rsmq, server),
                look=adapt(finding.look, rsmq, server),
            )
            for finding in findings
        ]
        if repair:
            await _repair(rsmq, findings, yes=yes, json=json)
            return
        if json:
            print_json(findings)
        else:
            print_findings(findings)
    if any(finding.severity != "info" for finding in findings):
        sys.exit(1)


async def _examine(
    rsmq: AsyncRSMQ, queues: Sequence[str], watch: float, budget: int
) -> list[Finding]:
    with notes.status("") as status:

        def tell(step: str) -> None:
            status.update(Text.assemble("looking at ", foreign(step)))

        return await examine(rsmq, queues or None, watch=watch, budget=budget, on_step=tell)


def adapt(command: str, rsmq: AsyncRSMQ, server: Server) -> str:
    """A command line, for the same server: with the flags that this command was given, and PASSWORD
    for a password."""
    if command.startswith("redis-cli "):
        words = command.split()
        first_node = rsmq.address.partition(",")[0]
        host, _, port = first_node.rpartition(":")
        if rsmq.address.startswith("service "):  # behind sentinels, who name another after a fault
            place = ["-h", "PRIMARY", "-p", "PORT"]
        else:
            place = ["-h", host, "-p", port] if host else ["-s", rsmq.address]
            place += ["-c"] * ("+cluster://" in server.url)  # it goes where the key is
        place += ["--tls"] * server.url.startswith(("rediss", "valkeys"))
        return " ".join(["redis-cli", *map(shlex.quote, place), *words[1:]])
    flags: list[str] = []
    if command.startswith("aiorsmq "):
        if server.ns != os.environ.get("AIORSMQ_NS", "rsmq"):
            flags += ["--ns", server.ns]
        usual = os.environ.get("AIORSMQ_URL") or os.environ.get("REDIS_URL") or Server().url
        if server.url != usual:  # without the flag, the command would change another server
            flags += ["--url", mask(server.url)]
    return " ".join([command, *map(shlex.quote, flags)])


def mask(url: str) -> str:
    """A URL with PASSWORD for its password."""
    url = re.sub(r"://([^:/?@]*):[^/?@]*@", r"://\1:PASSWORD@", url)
    url = re.sub(r"://[^:/?@]+@", "://:PASSWORD@", url)
    return re.sub(r"([?&](?:sentinel_)?password=)[^&]*", r"\1PASSWORD", url)


def print_findings(findings: Sequence[Finding]) -> None:
    """Worst first: what, the evidence, what to do."""
    for finding in findings:
        title = Text(f"{finding.severity:<{_INDENT}}", _COLOURS[finding.severity])
        title.append_text(foreign(finding.queue or "the server")).append(f"  {finding.code}", "dim")
        console.print(title, soft_wrap=True)
        _print_block("", finding.text)
        _print_block("dim", finding.hint)
        # Commands stay in one line each, so that they can be copied.
        for label, line in (("see:", finding.look), ("do:", finding.remedy)):
            if line:
                text = Text(f"{label:>{_INDENT - 1}} ", "bold").append(foreign(line).plain, "cyan")
                console.print(text, soft_wrap=True)
        console.print()
    numbers = Counter(finding.severity for finding in findings)
    summary = ", ".join(f"{numbers[name]:,} {name}" for name in SEVERITIES if numbers[name])
    console.print(summary or "Nothing is wrong.", markup=False)
    if any(plan(finding) for finding in findings):
        console.print("`aiorsmq doctor --repair` mends what needs no decision.", markup=False)


def _print_block(style: str, text: str) -> None:
    """Indented and in lines, without spaces at their ends."""
    width = max(console.width - _INDENT, 20)
    for line in textwrap.wrap(foreign(text).plain, width, break_on_hyphens=False):
        console.print(Text(" " * _INDENT + line, style), soft_wrap=True)


async def _repair(rsmq: AsyncRSMQ, findings: Sequence[Finding], *, yes: bool, json: bool) -> None:
    planned = [finding for finding in findings if plan(finding)]
    if not json:
        for finding in planned:
            console.print(foreign(f"{finding.queue}: will {plan(finding)}"))
            _print_block("dim", finding.text)
    results: list[Repair] = []
    if planned:
        await confirm(f"Repair {len(planned)} findings?", yes=yes)
        results = await repair_all(rsmq, planned)
    if json:
        print_json(results)
    else:
        for result in results:
            sign = Text("done  ", "green") if result.is_done else Text("failed  ", "red")
            console.print(sign.append_text(foreign(f"{result.finding.queue}: {result.text}")))
        if not planned:
            console.print("Nothing to repair.")
    failures = sum(not result.is_done for result in results)
    if failures:
        raise NotDone(f"{failures} of {len(results)} could not be repaired")
