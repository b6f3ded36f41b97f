"""Measures this library and others, as RESULTS.md and docs/performance.md say: `nox -s benchmarks`.

One server; each contender is a process of its own on the emptied server. The contenders take turns,
so that a round compares neighbours in time. Machines differ, and from hour to hour: read the
ratios.
"""

import argparse
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import environments
from figure import Figure
from figures import FIGURES
from results import RAW, load, save
from server import Server, running_server


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="FIGURE",
        choices=[figure.name for figure in FIGURES],
        help="measure these, and leave the others in results.json as they are: %(choices)s",
    )
    parser.add_argument("--quick", action="store_true", help="one round, printed and not written")
    args = parser.parse_args()
    if args.only and not args.quick and not RAW.exists():
        parser.error(f"--only leaves other figures as they are, but there is no {RAW}")
    chosen = [figure for figure in FIGURES if not args.only or figure.name in args.only]
    with running_server() as server:
        if args.quick:
            for figure in chosen:
                measure(server, figure, 1)
            return
        results = {"machine": machine(server), "versions": environments.versions()}
        results["figures"] = load()["figures"] if args.only else {}
        for figure in chosen:
            results["figures"][figure.name] = measure(server, figure, args.rounds)
            save(results)
    import report  # noqa: PLC0415 - what measures needs nothing that draws

    report.main()


def machine(server: Server) -> dict[str, str | int | None]:
    cpu = next(
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return {
        "cpu": cpu.partition(": ")[2],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "node": subprocess.run(
            ["node", "--version"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip(),
        "server": server.version,
        "kernel": platform.release(),
        "date": str(datetime.now(UTC).date()),
    }


def measure(server: Server, figure: Figure, rounds: int) -> dict[str, Any]:
    """What results.json has of a figure: at each index the values of one round."""
    series: dict[str, Any] = {
        contender: {str(x): {metric: [] for metric in figure.units} for x in points}
        for contender, points in figure.points.items()
    }
    for x in dict.fromkeys(x for points in figure.points.values() for x in points):
        for _ in range(min(rounds, figure.rounds or rounds)):
            for contender in (
                contender for contender, points in figure.points.items() if x in points
            ):
                server.redis.flushall()
                values = figure.measure(server, contender, x)
                for metric in figure.units:
                    series[contender][str(x)][metric].append(float(f"{values[metric]:.5g}"))
                said = "  ".join(
                    f"{metric} {values[metric]:,.4g} {unit}"
                    for metric, unit in figure.units.items()
                )
                print(f"{figure.name}, {figure.x} {x}, {contender}: {said}", flush=True)
    return {"title": figure.title, "x": figure.x, "units": dict(figure.units), "series": series}


if __name__ == "__main__":
    main()
