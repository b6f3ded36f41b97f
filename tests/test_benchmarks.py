"""What is said of the library's speed is what was measured."""

import re

import pytest
import report
from published import PAGE, published
from reach import Goal


@pytest.mark.parametrize("path", [report.README, report.PAGE], ids=["readme", "page"])
def test_generated_section(path):
    """The README and docs/performance.md have the figures of RESULTS.md."""
    assert path.read_text() == report.updated(path, published())


def test_figures_in_prose():
    """A figure that docs/performance.md names in its text is in RESULTS.md, too."""
    text = report.PAGE.read_text().partition(report.END)[2]
    figures = re.findall(r"\d+(?:,\d{3})+|\d+\.\d+(?= µs)", text)
    assert figures
    assert set(figures) - set(re.findall(r"[\d.,]*\d", PAGE.read_text())) == set()


def test_charts():
    """The charts are where the pages look for them."""
    names = [*published()["figures"], "costs"]
    assert [name for name in names if not (report.HERE / report.chart(name)).exists()] == []


def test_results():
    """RESULTS.md has its figures as report.py writes them."""
    figures, page = published()["figures"], PAGE.read_text()
    assert figures
    for name, figure in figures.items():
        assert "\n".join(report.figure_section(name, figure)) in page


def results(**rates):
    series = {who: {"1": {"rate": taken}} for who, taken in rates.items()}
    return {"figures": {"send": {"series": series}}}


def goal(**options):
    return Goal(
        "send", "others", "send/ours/1/rate", ("send/a/1/rate", "send/b/1/rate"), 2, 3, **options
    )


def test_ratios_within_a_round():
    """A ratio compares what was measured in the same round."""
    assert goal().ratios(results(ours=[10, 60, 80], a=[2, 15, 40], b=[1, 1, 1])) == [2, 4, 5]


def test_the_worst_counts():
    """Of several others, the one against which we do worst counts."""
    assert goal().ratios(results(ours=[12], a=[2], b=[3])) == [4]
    assert goal(lower_is_better=True).ratios(results(ours=[12], a=[2], b=[3])) == [6]


def test_not_measured():
    """A goal is not judged while one of the others is missing."""
    assert goal().ratios(results(ours=[12], a=[2])) == []


def test_reached():
    """A goal is judged by its median as it is shown."""
    assert goal().is_reached([1, 1.9951, 9], 2)
    assert not goal().is_reached([1, 1.99, 9], 2)
    assert goal(lower_is_better=True).is_reached([1, 2.0049, 9], 2)
    assert not goal(lower_is_better=True).is_reached([1, 2.01, 9], 2)
