"""What a run has measured, and how its numbers are written.

The raw values are in results.json, which is not part of the repository: RESULTS.md is.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RAW = HERE / "results.json"

Results = dict[str, Any]


def load(path: Path = RAW) -> Results:
    return json.loads(path.read_text())


def save(results: Results) -> None:
    RAW.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def values(results: Results, path: str) -> list[float]:
    """The values of all rounds at "figure/contender/x/metric"; none if that was not measured."""
    figure, contender, x, metric = path.split("/")
    found = results["figures"].get(figure, {}).get("series", {})
    return found.get(contender, {}).get(x, {}).get(metric, [])


def xs(figure: dict[str, Any]) -> list[str]:
    """Every x at which a contender was measured, in the order of the first contender's, then the
    next one's.
    """
    return list(dict.fromkeys(x for points in figure["series"].values() for x in points))


def number(value: float) -> str:
    """Three digits: more would be noise."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"
