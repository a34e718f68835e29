"""Plots as SVG that stands inside a page: its text is text, its colors are those of the page, light or dark.

Each has a name, which makes its ids its own among all plots of the page, and a description for those who cannot see it.
matplotlib is imported where something is drawn: whoever asks for another face does without.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from snnc.intervals import Interval
from snnc.report.layers import Distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is drawn in these colors gets those that the page gives to its variables.
_INK, _GRID, TRAINED, SPIKING, LIMIT = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05"
_VARIABLES = {
    _INK: "var(--plot-ink)",
    _GRID: "var(--plot-grid)",
    TRAINED: "var(--plot-trained)",
    SPIKING: "var(--plot-spiking)",
    LIMIT: "var(--plot-limit)",
}

# In pixels of the page.
_WIDTH, _HEIGHT, _BAR = 340, 190, 22
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 34
_NAMES, _LONGEST_NAME = 122, 20

_SETTINGS: Any = {
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": _INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "path.simplify": False,
    "svg.fonttype": "none",
    # Names come from outside, and are no formulas.
    "text.parse_math": False,
    "xtick.color": _INK,
    "xtick.major.pad": 5.0,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": _INK,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class Curve:
    """Values at each step or layer, None where there is none, with their intervals."""

    values: Sequence[float | None]
    intervals: Sequence[Interval | None]
    color: str = SPIKING


@dataclass(frozen=True)
class Bar:
    """A bar with a name: parts in the colors given, one behind the other, or one with an interval."""

    name: str
    parts: Sequence[float]
    interval: Interval | None = None


def curves(
    name: str,
    label: str,
    places: Sequence[int],
    drawn: Sequence[Curve],
    levels: Sequence[tuple[float, str]],
    axis: str,
    *,
    from_zero: bool,
) -> str:
    """Draw values over time steps or layers, their intervals as bands, and levels that they are compared with."""
    with _figure(_HEIGHT) as (figure, axes):
        for curve in drawn:
            _curve(axes, places, curve)
        for level, color in levels:
            axes.axhline(level, color=color, linewidth=1.2, linestyle=(0, (5, 3)) if color == LIMIT else "-", zorder=1)
        if axis == "T" and places[-1] >= 4 * places[0]:
            axes.set_xscale("log", base=2)
        every = math.ceil(len(places) / 10)
        axes.set_xticks(places[::every], [str(place) for place in places[::every]])
        axes.set_xticks([], minor=True)
        if len(places) > 1:
            axes.set_xlim(places[0], places[-1])
        axes.set_xlabel(axis, labelpad=2)
        axes.margins(y=0.12)
        if from_zero:
            known = [value for curve in drawn for value in curve.values if value]
            axes.set_ylim(0, None if known or levels else 1)
        _grid(axes)
        return _svg(figure, name, label)


def histogram(name: str, label: str, drawn: Sequence[tuple[Distribution, str]], axis: str, mark: float | None) -> str:
    """Draw how values are distributed, in percent of those counted; areas grow with the root, so that few are seen."""
    with _figure(_HEIGHT) as (figure, axes):
        for distribution, color in drawn:
            total = sum(distribution.counts) or 1
            shares = [100 * count / total for count in distribution.counts]
            axes.stairs(shares, _edges(distribution), fill=True, color=color, alpha=0.3, linewidth=0)
            axes.stairs(shares, _edges(distribution), color=color, linewidth=1.2)
        if mark is not None:
            axes.axvline(mark, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.set_yscale("function", functions=(_root, _square))
        axes.set_xlim(drawn[0][0].low, drawn[0][0].high)
        highest = max(axes.dataLim.y1, 1e-9)
        axes.set_ylim(0, 1.05 * highest)
        step = _round_step(highest / 3)
        axes.set_yticks([step * index for index in range(int(highest / step) + 1)])
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.set_xlabel(axis, labelpad=2)
        _grid(axes, "{:g}".format)
        return _svg(figure, name, label)


def bars(name: str, label: str, drawn: Sequence[Bar], colors: Sequence[str], axis: str) -> str:
    """Draw bars below one another, with intervals where there are any."""
    with _figure(_TOP + _BOTTOM + _BAR * len(drawn), left=_NAMES) as (figure, axes):
        places = range(len(drawn))
        start = [0.0] * len(drawn)
        for index, color in enumerate(colors):
            widths = [bar.parts[index] for bar in drawn]
            axes.barh(places, widths, left=start, height=0.62, color=color)
            start = [before + width for before, width in zip(start, widths, strict=True)]
        for place, bar in zip(places, drawn, strict=True):
            if bar.interval is not None:
                axes.plot(bar.interval, (place, place), color=_INK, linewidth=1.2, solid_capstyle="butt")
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(places, [_shortened(bar.name) for bar in drawn], fontsize=10)
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.set_xlabel(axis, labelpad=2)
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        return _svg(figure, name, label)


def scatter(name: str, label: str, pairs: Sequence[tuple[float, float]], axis: str) -> str:
    """Draw pairs of numbers, and the line on which both are the same."""
    with _figure(_WIDTH - 20) as (figure, axes):
        horizontal, vertical = zip(*pairs, strict=True)
        ends = min(*horizontal, *vertical), max(*horizontal, *vertical)
        axes.plot(ends, ends, color=_INK, linewidth=1, zorder=1)
        axes.plot(horizontal, vertical, "o", color=SPIKING, markersize=4, markeredgewidth=0, alpha=0.5, zorder=2)
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.set_xlabel(axis, labelpad=2)
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        _grid(axes)
        return _svg(figure, name, label)


@contextmanager
def _figure(height: int, left: int = _LEFT) -> Iterator[tuple[Figure, Axes]]:
    """Make a figure of one plot; settings of the user's own change nothing, and are as before afterwards."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The fonts are those of the reader: which characters one of matplotlib's lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
        inner = _WIDTH - left - _RIGHT, height - _TOP - _BOTTOM
        box = left / _WIDTH, _BOTTOM / height, inner[0] / _WIDTH, inner[1] / height
        yield figure, figure.add_axes(box)


def _curve(axes: Axes, places: Sequence[int], curve: Curve) -> None:
    known = [(place, value) for place, value in zip(places, curve.values, strict=True) if value is not None]
    spans = [(place, interval) for place, interval in zip(places, curve.intervals, strict=True) if interval is not None]
    if len(spans) > 1:
        low, high = zip(*(interval for _, interval in spans), strict=True)
        axes.fill_between([place for place, _ in spans], low, high, color=curve.color, alpha=0.18, linewidth=0)
    for place, interval in spans:
        axes.plot((place, place), interval, color=curve.color, linewidth=1.2, clip_on=False)
    line = [place for place, _ in known], [value for _, value in known]
    axes.plot(*line, "o-", color=curve.color, markersize=4, clip_on=False)


def _grid(axes: Axes, written: Callable[[float], str] | None = None) -> None:
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if written is None:
        axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: (written or _tick)(value))


def _edges(distribution: Distribution) -> list[float]:
    low, high, count = distribution.low, distribution.high, len(distribution.counts)
    return [low + (high - low) * index / count for index in range(count + 1)]


def _root(values: Any) -> Any:
    return values.clip(0) ** 0.5


def _square(values: Any) -> Any:
    return values**2


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not above the step."""
    power = 10.0 ** math.floor(math.log10(step))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= step * 1.000001)


def _tick(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def _shortened(name: str) -> str:
    """Leave out what is not the end of a long name: the end tells layers apart."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:4]}…{name[5 - _LONGEST_NAME :]}"


def _svg(figure: Figure, name: str, label: str) -> str:
    """Write a figure as an element of a page, with nothing in it that the page does not need."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = ElementTree.fromstring(text.getvalue())
    written = " ".join(value for element in drawn.iter() for key, value in element.items() if key != "id")
    targets = dict.fromkeys(re.findall(r"#(?![0-9a-f]{6}\b)([\w-]+)", written))
    names = {f"#{target}": f"#{name}-{index}" for index, target in enumerate(targets)}
    plot = ElementTree.Element(
        "svg", {"class": "plot", "viewBox": drawn.attrib["viewBox"], "role": "img", "aria-label": label}
    )
    ElementTree.SubElement(plot, "title").text = label
    plot.extend(_page_element(child, names) for child in drawn if _is_shown(child))
    return ElementTree.tostring(plot, encoding="unicode")


def _page_element(element: ElementTree.Element, names: dict[str, str]) -> ElementTree.Element:
    """Return an element in the terms of the page: no namespaces, ids of its own, colors and fonts of the page."""
    attributes = {}
    for key, value in element.items():
        if key == "id":
            if f"#{value}" in names:
                attributes["id"] = names[f"#{value}"][1:]
        elif not value.startswith("rotate(-0 "):
            attributes[_local(key)] = _page_value(value, names)
    rewritten = ElementTree.Element(_local(element.tag), attributes)
    rewritten.text = element.text if (element.text or "").strip() else None
    rewritten.extend(_page_element(child, names) for child in element if _is_shown(child))
    return rewritten


def _page_value(value: str, names: dict[str, str]) -> str:
    value = re.sub(r"#[\w-]+", lambda found: (names | _VARIABLES).get(found[0], found[0]), value)
    value = re.sub(r"font-family: [^;]*;? ?", "", value)
    value = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    return " ".join(value.split())


def _is_shown(element: ElementTree.Element) -> bool:
    """Leave out what only stands for itself in a file: who made it, and a style for all of a page."""
    return _local(element.tag) not in ("metadata", "style") and (
        len(element) > 0 or _local(element.tag) not in ("g", "defs")
    )


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
