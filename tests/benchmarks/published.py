"""The figures as RESULTS.md has them: medians, with three digits."""

import re
from collections.abc import Iterator
from typing import Any

from results import HERE, Results

PAGE = HERE / "RESULTS.md"


def published() -> Results:
    """A run that would give the page's tables: in each round, each value was its median."""
    head, *sections = PAGE.read_text().split("\n## ")
    results: Results = {"machine": dict(_rows(head)), "figures": {}}
    for section in sections:
        name = re.search(r"\(\S+/(?:benchmark-)?(\w+)\.svg\)", section)
        rounds = re.search(r"^(?:Medians of (\d+) rounds|One round):$", section, re.MULTILINE)
        if name and rounds:
            results["figures"][name[1]] = _figure(section, int(rounds[1] or 1))
    return results


def _figure(section: str, rounds: int) -> dict[str, Any]:
    (x, _, *columns), *rows = _rows(section)
    units = dict(column.split(", ", 1) for column in columns)
    series: dict[str, dict[str, dict[str, list[float]]]] = {}
    for point, who, *cells in rows:
        series.setdefault(who, {})[point] = {
            metric: [float(cell.replace(",", ""))] * rounds
            for metric, cell in zip(units, cells, strict=True)
            if cell
        }
    return {"title": section.partition("\n")[0], "x": x, "units": units, "series": series}


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line[1:-1].split("|")]
