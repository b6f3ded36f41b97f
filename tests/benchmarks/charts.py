"""The charts of a run: one for each figure, readable on white and on dark, with the text as
text.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.transforms import blended_transform_factory
from results import Results, number, xs

LINES = ("send", "receive", "waiting")
LOG_FROM = 30  # above this ratio of the largest to the smallest, the small ones could not be seen
WIDTH, MARGIN, ROW = 7.2, 0.1, 0.23  # inches
TEXT = "#7a828e"  # these stand out from white as much as from GitHub's dark background
FAINT = "#9aa1ab55"
STYLES = {
    "aiorsmq": {"color": "#e8590c", "weight": "bold", "alpha": 1.0, "width": 2.6},
    "aiorsmq uvloop": {"color": "#c98300", "weight": "bold", "alpha": 1.0, "width": 2.0},
    "aiorsmq.sync": {"color": "#e8590c", "weight": "bold", "alpha": 1.0, "width": 2.6},
    "aiorsmq.sync uvloop": {"color": "#c98300", "weight": "bold", "alpha": 1.0, "width": 2.0},
    "Node rsmq": {"color": "#4c8eda", "weight": "normal", "alpha": 0.9, "width": 1.6},
}
MUTED = {"color": "#8b939e", "weight": "normal", "alpha": 0.75, "width": 1.2}
# Parts of one contender's time: they are all ours
PARTS = ("#e8590c", "#4c8eda", "#2f9e77", "#8b939e")


class Bar(NamedTuple):
    label: str
    values: list[float]
    style: dict[str, Any]


def write_all(results: Results, path: Callable[[str], Path]) -> None:
    """Write each where `path` says for its name; the same results make the same files."""
    options = {
        "svg.fonttype": "none",
        "svg.hashsalt": "aiorsmq",
        "font.size": 9,
        "text.color": TEXT,
    }
    with mpl.rc_context(options):
        for name, figure in results["figures"].items():
            drawing = (
                _lines(figure)
                if name in LINES
                else _bars(figure["title"], _headline(figure), _groups(figure))
            )
            _save(drawing, path(name))
        if costs := dict(_cost_groups(results)):
            _save(
                _bars("Cost of a message, 64 callers", "µs of CPU/message", costs),
                path("costs"),
            )


def _save(drawing: Drawing, path: Path) -> None:
    drawing.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _headline(figure: dict[str, Any]) -> str:
    """The unit that is drawn: the first metric's."""
    return next(iter(figure["units"].values()))


def _drawn(figure: dict[str, Any]) -> list[str]:
    return [metric for metric, unit in figure["units"].items() if unit == _headline(figure)]


def _groups(figure: dict[str, Any]) -> dict[str, list[Bar]]:
    """Bars that compare stand together: contenders at one point, or one contender's at all
    points.
    """
    series, drawn = figure["series"], _drawn(figure)
    if len(series) == 1:
        ((who, points),) = series.items()
        look = _style(who) | {"weight": "normal"}
        return {
            f"{metric}, by {figure['x']}": [
                Bar(x, taken[metric], look) for x, taken in points.items()
            ]
            for metric in drawn
        }
    groups: dict[str, list[Bar]] = {}
    for x in xs(figure):
        for metric in drawn:
            point = [f"{figure['x']}: {x}"] if len(xs(figure)) > 1 else []
            header = " · ".join([*point, *([metric] if len(drawn) > 1 else [])])
            found = {who: points[x].get(metric) for who, points in series.items() if x in points}
            groups[header] = [Bar(who, taken, _style(who)) for who, taken in found.items() if taken]
    return groups


def _cost_groups(results: Results) -> Iterable[tuple[str, list[Bar]]]:
    for name in ("send", "receive"):
        series = results["figures"].get(name, {}).get("series", {})
        for side in ("server", "client"):
            found = {who: points.get("64", {}).get(side) for who, points in series.items()}
            bars = [Bar(who, taken, _style(who)) for who, taken in found.items() if taken]
            if bars:
                yield f"{results['figures'][name]['title'].partition(':')[0]} · {side}", bars


def _style(who: str) -> dict[str, Any]:
    return STYLES.get(who, MUTED)


def _bars(title: str, unit: str, groups: dict[str, list[Bar]]) -> Drawing:
    """Horizontal bars in groups, each with its figure at its end; dots where a log scale has no
    meaningful zero.
    """
    bars = [bar for group in groups.values() for bar in group]
    log = _needs_log(bar.values for bar in bars)
    rows = len(bars) + sum(1.3 if header else 0.3 for header in groups)
    left, right = 1.9, 0.75
    drawing, axes = _drawing(title, unit, rows * ROW, left, right, log=log)
    if log:
        axes.set_xscale("log")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=6)
    lowest = min(median(bar.values) for bar in bars)
    axes.set_xlim(
        lowest / 2 if log else 0, max(max(bar.values) for bar in bars) * (1.35 if log else 1.03)
    )
    axes.set_ylim(rows - 0.4, -0.6)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    y = -0.3
    for header, group in groups.items():
        y += 0.3
        if header:
            axes.text(
                (MARGIN - left) / (WIDTH - left - right),
                y,
                header,
                transform=beside,
                va="center",
                weight="bold",
            )
            y += 1
        for bar in group:
            _bar(axes, y, bar, log)
            label = {"va": "center", "color": bar.style["color"], "weight": bar.style["weight"]}
            axes.text(-0.02, y, bar.label, transform=beside, ha="right", **label)
            axes.text(1.02, y, number(median(bar.values)), transform=beside, **label)
            y += 1
    axes.set_yticks([])
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.xaxis.set_major_formatter(_format)
    return drawing


def _bar(axes: Axes, y: float, bar: Bar, log: bool) -> None:
    middle, color, alpha = median(bar.values), bar.style["color"], bar.style["alpha"]
    if log:
        axes.hlines(y, axes.get_xlim()[0], middle, color=FAINT, linewidth=0.8)
        axes.plot(middle, y, "o", color=color, alpha=alpha, markersize=6)
    else:
        axes.barh(y, middle, height=0.66, color=color, alpha=alpha * 0.85, linewidth=0)
    axes.plot(
        [min(bar.values), max(bar.values)], [y, y], color=color if log else TEXT, linewidth=1.2
    )


def _lines(figure: dict[str, Any]) -> Drawing:
    """A line for each contender, or for each metric of the only one, named at its end."""
    series, drawn = figure["series"], _drawn(figure)
    if len(series) > 1:
        lines = {
            who: {float(x): taken[drawn[0]] for x, taken in series[who].items()} for who in series
        }
        styles = {who: _style(who) for who in lines}
    else:
        (points,) = series.values()
        lines = {
            metric: {float(x): taken[metric] for x, taken in points.items()} for metric in drawn
        }
        styles = {
            metric: MUTED | {"color": PARTS[i], "width": 2.0, "alpha": 1.0}
            for i, metric in enumerate(drawn)
        }
    log = _needs_log(values for line in lines.values() for values in line.values())
    drawing, axes = _drawing(figure["title"], _headline(figure), 3.2, 0.75, 2.0, log=log)
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    ticks = sorted({x for line in lines.values() for x in line})
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.minorticks_off()
    axes.set_xlabel(figure["x"], color=TEXT)
    for who, line in lines.items():
        _line(axes, line, styles[who])
    if not log:
        axes.set_ylim(0)
    axes.yaxis.set_major_formatter(_format)
    axes.grid(color=FAINT, linewidth=0.6)
    _name_lines(axes, {who: median(line[max(line)]) for who, line in lines.items()}, styles)
    return drawing


def _line(axes: Axes, line: dict[float, list[float]], style: dict[str, Any]) -> None:
    at = sorted(line)
    middles = [median(line[x]) for x in at]
    whiskers = [
        [middle - min(line[x]) for x, middle in zip(at, middles, strict=True)],
        [max(line[x]) - middle for x, middle in zip(at, middles, strict=True)],
    ]
    look = {
        "color": style["color"],
        "alpha": style["alpha"],
        "linewidth": style["width"],
        "zorder": style["width"],
    }
    axes.errorbar(
        at, middles, whiskers, marker="o", markersize=3.5, elinewidth=1, capsize=2, **look
    )


def _name_lines(axes: Axes, ends: dict[str, float], styles: dict[str, dict[str, Any]]) -> None:
    """Names on the right at the height of the lines' ends, moved apart where they would overlap."""
    # fixes the scale of the axes, in which the heights are reckoned
    axes.figure.draw_without_rendering()
    to_height = axes.transData + axes.transAxes.inverted()
    heights = {who: to_height.transform((axes.get_xlim()[1], end))[1] for who, end in ends.items()}
    previous = -1.0
    for who in sorted(heights, key=heights.__getitem__):
        previous = max(heights[who], previous + 0.058)
        look = {"color": styles[who]["color"], "weight": styles[who]["weight"]}
        axes.text(
            1.02,
            previous,
            f"{who} {number(ends[who])}",
            transform=axes.transAxes,
            va="center",
            **look,
        )


def _drawing(
    title: str, unit: str, height: float, left: float, right: float, *, log: bool
) -> tuple[Drawing, Axes]:
    """An empty chart; the margins and the height of what is drawn in are in inches."""
    top, bottom = 0.62, 0.5
    total = height + top + bottom
    drawing = Drawing(figsize=(WIDTH, total))
    axes = drawing.add_axes(
        (left / WIDTH, bottom / total, (WIDTH - left - right) / WIDTH, height / total)
    )
    drawing.text(MARGIN / WIDTH, 1 - 0.22 / total, title, size=11, weight="bold", va="center")
    scale = f"{unit}{', log scale' * log}; medians, whiskers: smallest to largest"
    drawing.text(MARGIN / WIDTH, 1 - 0.43 / total, scale, va="center")
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=TEXT, length=0)
    axes.set_facecolor("none")
    return drawing, axes


def _needs_log(values: Iterable[list[float]]) -> bool:
    middles = [median(taken) for taken in values]
    return max(middles) > LOG_FROM * min(middles)


def _format(value: float, _: int) -> str:
    return number(value)
