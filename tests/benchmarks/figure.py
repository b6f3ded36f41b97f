"""What one figure is: what is measured, of whom, at which points."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from server import Server


class Figure(NamedTuple):
    name: str
    """What it is called in results.json and after `--only`."""
    title: str
    x: str
    """What varies from point to point."""
    points: Mapping[str, tuple[Any, ...]]
    """Contender -> where it is measured."""
    measure: Callable[[Server, str, Any], dict[str, float]]
    """Server, contender, point -> metric -> value. The server is empty at the beginning."""
    units: Mapping[str, str]
    """Metric -> its unit."""
    rounds: int | None = None
    """At most so many, if it takes long."""
