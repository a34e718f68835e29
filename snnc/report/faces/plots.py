"""Plots as SVG that stands inside a page: its text is text, its colors are those of the page, light or dark.

Each has a name, which makes its ids its own among all plots of the page, and a description for those who cannot see it.
matplotlib is imported where something is drawn: whoever asks for another face does without.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from snnc.blocks import Bars, Bins, Color, Curve, Curves, Drawing, Flows, Lines, Plot, Raster, Scatter, Shares
from snnc.files import temporary_folder
from snnc.progress import in_notebook
from snnc.rules import Rules
from snnc.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is drawn in these colors gets those that the page gives to its variables.
_INK, _GRID = "#0a0a01", "#0a0a02"
_COLORS: Mapping[Color, str] = {"trained": "#0a0a03", "spiking": "#0a0a04", "limit": "#0a0a05"}
# For programs, whose figures stand on white.
_PLAIN: Mapping[Color, str] = {"trained": "#7d8187", "spiking": "#0a7f81", "limit": "#b8431f"}
_VARIABLES = {
    _INK: "var(--plot-ink)",
    _GRID: "var(--plot-grid)",
    **{color: f"var(--plot-{name})" for name, color in _COLORS.items()},
}

# Of many lines, which can be told apart on white and on black, and by their marks.
_HUES = ("#0a8f91", "#d0603a", "#7b61c9", "#8f8a1d", "#3f86d6", "#c2478f", "#5b9a3c", "#8a8f96")
_MARKERS = "os^Dv<P*"
_ENTRY, _ROW = 17, 11
# Numbers below an axis that are as far apart stand beside one another.
_APART = 1.2

# In pixels of the page.
_WIDTH, _HEIGHT, _BAR = 340, 190, 22
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 34
_NAMES, _LONGEST_NAME = 122, 20
# What a plot is enlarged by where nothing else says how wide it is.
_SCALE = 1.25
# Of a graph: room of a stop, from one row to the next, and from one way around to the next.
_STOP, _STEP, _LANE = 156, 48, 14

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


draw = Rules[Drawing, "Figure"]("how is it drawn")


@functools.cache
def _matplotlib() -> Any:
    """Return matplotlib, which leaves nothing in the user's folders, reads none, and says nothing of its fonts.

    What shows figures is as the environment says, where there is such; one that a program has loaded is left as it is.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if "matplotlib" in sys.modules:
        return import_module("matplotlib")
    given = {name: os.environ.pop(name, None) for name in ("MPLCONFIGDIR", "MATPLOTLIBRC", "MPLBACKEND")}
    try:
        # A matplotlibrc in the working folder is read before all others.
        elsewhere = contextlib.chdir if Path("matplotlibrc").exists() else contextlib.nullcontext
        with temporary_folder() as folder, elsewhere(folder):
            os.environ["MPLCONFIGDIR"] = str(folder)
            import matplotlib.font_manager
    finally:
        os.environ.pop("MPLCONFIGDIR", None)
        os.environ.update({name: value for name, value in given.items() if value is not None})
    if given["MPLBACKEND"]:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = given["MPLBACKEND"]
    return matplotlib


def svg(plot: Plot, name: str) -> str:
    """Draw a plot as an element of a page that has no other of this name."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The fonts are those of the reader: which characters one of matplotlib's lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        return _svg(draw(plot.drawing), name, printable(plot.words))


def figure(plots: Sequence[Plot], columns: int | None = None) -> Figure:
    """Draw plots side by side in matplotlib's own style, for programs that go on with them; so many in a row."""
    from matplotlib.figure import Figure

    if in_notebook():
        # From then on it shows figures that are the value of a cell.
        import_module("matplotlib.pyplot")
    across = columns or max(1, len(plots))
    rows = max(1, math.ceil(len(plots) / across))
    figure = Figure(figsize=(5.2 * across, 3.6 * rows), layout="constrained")
    for place, plot in enumerate(plots, 1):
        axes = figure.add_subplot(rows, across, place)
        _PLAINLY.get(type(plot.drawing), _as_it_is)(axes, plot)
        axes.set_title(printable(plot.title))
    return figure


def png(plots: Sequence[Plot], columns: int) -> bytes:
    """Draw plots as a picture."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        content = io.BytesIO()
        figure(plots, columns).savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def _as_it_is(axes: Axes, plot: Plot) -> None:
    """Leave out what only pages draw."""
    axes.set_axis_off()


def _plain_lines(axes: Axes, plot: Plot) -> None:
    assert isinstance(plot.drawing, Lines)
    many_lines(axes, plot.drawing)
    axes.set_xlabel(plot.drawing.axis)
    axes.legend()


def _plain_raster(axes: Axes, plot: Plot) -> None:
    assert isinstance(plot.drawing, Raster)
    rasters(axes, plot.drawing, _PLAIN)
    axes.set_xlabel(plot.drawing.axis)
    axes.set_ylabel("neuron")


def _plain_curves(axes: Axes, plot: Plot) -> None:
    drawn, names = plot.drawing, {key.color: key.meaning for key in plot.keys}
    assert isinstance(drawn, Curves)
    for curve in drawn.curves:
        known = [(at, value) for at, value in zip(drawn.places, curve.values, strict=True) if value is not None]
        color = _PLAIN[curve.color]
        axes.plot(*zip(*known, strict=True), "o-", color=color, label=names.get(curve.color))
        bands = [(at, *span) for at, span in zip(drawn.places, curve.intervals, strict=False) if span is not None]
        for at, low, high in bands:
            axes.plot((at, at), (low, high), color=color, alpha=0.5)
    for level, color_of in drawn.levels:
        axes.axhline(level, color=_PLAIN[color_of], linestyle="--", label=names.get(color_of))
    axes.set_xlabel(drawn.axis)
    axes.legend()


_PLAINLY: Mapping[type[Drawing], Callable[[Axes, Plot], None]] = {
    Curves: _plain_curves,
    Lines: _plain_lines,
    Raster: _plain_raster,
}


@draw.register(Curves)
def _curves(drawn: Curves) -> Figure:
    """Draw intervals as bands behind the values."""
    figure, axes = _figure(_HEIGHT)
    places = drawn.places
    for curve in drawn.curves:
        _curve(axes, places, curve)
    for level, color in drawn.levels:
        line = (0, (5, 3)) if color == "limit" else "-"
        axes.axhline(level, color=_COLORS[color], linewidth=1.2, linestyle=line, zorder=1)
    if drawn.doubling and places[-1] >= 4 * places[0]:
        axes.set_xscale("log", base=2)
    every = math.ceil(len(places) / 10)
    axes.set_xticks(places[::every], [str(place) for place in places[::every]])
    axes.set_xticks([], minor=True)
    if len(places) > 1:
        axes.set_xlim(places[0], places[-1])
    axes.set_xlabel(drawn.axis, labelpad=2)
    axes.margins(y=0.12)
    if drawn.from_zero:
        known = [value for curve in drawn.curves for value in curve.values if value]
        axes.set_ylim(0, None if known or drawn.levels else 1)
    _grid(axes)
    return figure


@draw.register(Lines)
def _lines(drawn: Lines) -> Figure:
    """Draw lines with bars for what varies, and what they are called below."""
    below = _ENTRY * len(drawn.lines) + 6
    figure, axes = _figure(_HEIGHT + 60, below=below)
    many_lines(axes, drawn)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.13), frameon=False, labelcolor=_INK, fontsize=10.5)
    axes.set_xlabel(drawn.axis, labelpad=2)
    _grid(axes)
    return figure


def many_lines(axes: Axes, drawn: Lines) -> None:
    """Draw lines, each in its color, with its mark and its name."""
    for line in drawn.lines:
        hue, marker = _HUES[line.hue % len(_HUES)], _MARKERS[line.hue % len(_MARKERS)]
        horizontal, vertical = zip(*line.points, strict=True)
        axes.errorbar(
            horizontal,
            vertical,
            [spread or 0.0 for spread in line.spreads],
            color=hue,
            marker=marker,
            markersize=4 if line.dashed else 5,
            markerfacecolor="none" if line.dashed else hue,
            linestyle="--" if line.dashed else "-",
            linewidth=1.1 if line.dashed else 1.6,
            elinewidth=1,
            label=printable(line.name),
        )
    places = sorted({place for line in drawn.lines for place, _ in line.points})
    if drawn.doubling:
        axes.set_xscale("log", base=2)
        apart = places[:1]
        for place in places:
            if place >= _APART * apart[-1]:
                apart.append(place)
        axes.set_xticks(apart, [f"{place:g}" for place in apart])
        axes.set_xticks([], minor=True)
    axes.margins(x=0.04, y=0.1)


@draw.register(Raster)
def _raster(drawn: Raster) -> Figure:
    figure, axes = _figure(_TOP + _BOTTOM + max(60, _ROW * len(drawn.rows)))
    rasters(axes, drawn, _COLORS)
    axes.set_xlabel(drawn.axis, labelpad=2)
    return figure


def rasters(axes: Axes, drawn: Raster, colors: Mapping[Color, str]) -> None:
    """Draw a mark for each event, as high as many spikes are in it, the first neuron on top."""
    most = max((abs(fired) for row in drawn.rows for fired in row), default=1) or 1
    for taken_back, color in ((False, colors["spiking"]), (True, colors["limit"])):
        events = [
            (step, row, abs(fired) / most)
            for row, fired_by in enumerate(drawn.rows)
            for step, fired in enumerate(fired_by, 1)
            if fired and (fired < 0) == taken_back
        ]
        for step, row, share in events:
            ends = row - 0.38 * share, row + 0.38 * share
            axes.plot((step, step), ends, color=color, linewidth=2, solid_capstyle="butt")
    steps = max((len(row) for row in drawn.rows), default=1)
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_ylim(len(drawn.rows) - 0.5, -0.5)
    every = math.ceil(steps / 10)
    axes.set_xticks(range(1, steps + 1, every))
    axes.set_yticks(range(len(drawn.names)), [str(name) for name in drawn.names], fontsize=8)


@draw.register(Shares)
def _shares(drawn: Shares) -> Figure:
    """Draw in percent of those counted; areas grow with the root, so that few are seen."""
    figure, axes = _figure(_HEIGHT)
    for bins in drawn.bins:
        total = sum(bins.counts) or 1
        shares = [100 * count / total for count in bins.counts]
        axes.stairs(shares, _edges(bins), fill=True, color=_COLORS[bins.color], alpha=0.3, linewidth=0)
        axes.stairs(shares, _edges(bins), color=_COLORS[bins.color], linewidth=1.2)
    if drawn.mark is not None:
        axes.axvline(drawn.mark, color=_COLORS["limit"], linewidth=1.2, linestyle=(0, (5, 3)))
    axes.set_yscale("function", functions=(_root, _square))
    axes.set_xlim(drawn.bins[0].low, drawn.bins[0].high)
    highest = max(axes.dataLim.y1, 1e-9)
    axes.set_ylim(0, 1.05 * highest)
    step = _round_step(highest / 3)
    axes.set_yticks([step * index for index in range(int(highest / step) + 1)])
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
    axes.set_xlabel(drawn.axis, labelpad=2)
    _grid(axes, "{:g}".format)
    return figure


@draw.register(Bars)
def _bars(drawn: Bars) -> Figure:
    figure, axes = _figure(_TOP + _BOTTOM + _BAR * len(drawn.bars), left=_NAMES)
    places = range(len(drawn.bars))
    start = [0.0] * len(drawn.bars)
    for index, color in enumerate(drawn.colors):
        widths = [bar.parts[index] for bar in drawn.bars]
        axes.barh(places, widths, left=start, height=0.62, color=_COLORS[color])
        start = [before + width for before, width in zip(start, widths, strict=True)]
    for place, bar in zip(places, drawn.bars, strict=True):
        if bar.interval is not None:
            axes.plot(bar.interval, (place, place), color=_INK, linewidth=1.2, solid_capstyle="butt")
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_yticks(places, [_shortened(printable(bar.name)) for bar in drawn.bars], fontsize=10)
    axes.set_ylim(len(drawn.bars) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
    axes.set_xlabel(drawn.axis, labelpad=2)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure


@draw.register(Scatter)
def _scatter(drawn: Scatter) -> Figure:
    figure, axes = _figure(_WIDTH - 20)
    horizontal, vertical = zip(*drawn.pairs, strict=True)
    ends = min(*horizontal, *vertical), max(*horizontal, *vertical)
    axes.plot(ends, ends, color=_INK, linewidth=1, zorder=1)
    spiking = _COLORS["spiking"]
    axes.plot(horizontal, vertical, "o", color=spiking, markersize=4, markeredgewidth=0, alpha=0.5, zorder=2)
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
    axes.set_xlabel(drawn.axis, labelpad=2)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    _grid(axes)
    return figure


@draw.register(Flows)
def _flows(drawn: Flows) -> Figure:
    """Draw stops from top to bottom, those that follow the same ones side by side; who skips some goes around."""
    from matplotlib.figure import Figure

    places, columns = _placed(drawn)
    around = [flow for flow in drawn.flows if places[flow.target][1] - places[flow.source][1] > 1]
    lanes = _lanes([(places[flow.source][1], places[flow.target][1]) for flow in around])
    inner = max(_STOP * columns, _WIDTH - _LANE * (max(lanes, default=-1) + 1) - 2 * _LANE)
    width, height = inner + _LANE * (max(lanes, default=-1) + 3), _STEP * (1 + max(row for _, row in places.values()))
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    at = {stop: (inner * share, _STEP * (row + 0.5)) for stop, (share, row) in places.items()}
    half = _STOP / 2 - 8
    ways = dict(zip(around, lanes, strict=True))
    for flow in drawn.flows:
        (left, top), (right, bottom) = at[flow.source], at[flow.target]
        color = _COLORS["trained" if flow.share is None else "spiking"]
        thick = 1.0 if flow.share is None else 0.8 + 4.2 * flow.share**0.5
        if flow in ways:
            beyond = inner + _LANE * (ways[flow] + 0.5)
            # What leaves a stop does so below what arrives there.
            path = [(left + half, top + 5), (beyond, top + 5), (beyond, bottom - 5), (right + half, bottom - 5)]
            axes.plot(*zip(*path, strict=True), color=color, linewidth=thick, solid_capstyle="butt", alpha=0.75)
            axes.text(left + half + 4, top + 16, flow.words, color=_INK, fontsize=9)
        else:
            ends = (left, right), (top + 11, bottom - 11)
            axes.plot(*ends, color=color, linewidth=thick, solid_capstyle="butt", alpha=0.75)
            axes.text((left + right) / 2 + 7, (top + bottom) / 2 + 3, flow.words, color=_INK, fontsize=9)
    for stop, (across, down) in at.items():
        corners = (across - half, across + half, across + half, across - half, across - half)
        axes.plot(corners, (down - 11, down - 11, down + 11, down + 11, down - 11), color=_INK, linewidth=0.8)
        axes.text(across, down + 4, _shortened(printable(stop)), color=_INK, fontsize=10, ha="center")
    return figure


def _placed(drawn: Flows) -> tuple[dict[str, tuple[float, int]], int]:
    """Return for every stop how far across it stands, from 0 to 1, and in which row; and the most stops of a row."""
    rows = dict.fromkeys(drawn.stops, 0)
    for flow in drawn.flows:
        rows[flow.target] = max(rows[flow.target], rows[flow.source] + 1)
    beside = [[stop for stop in drawn.stops if rows[stop] == row] for row in range(max(rows.values(), default=0) + 1)]
    places = {
        stop: ((place + 0.5) / len(stops), row) for row, stops in enumerate(beside) for place, stop in enumerate(stops)
    }
    return places, max(map(len, beside), default=1)


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return a lane for every span of rows, in which it meets no other."""
    taken: list[list[tuple[int, int]]] = []
    found = []
    for first, last in spans:
        free = (lane for lane, others in enumerate(taken) if all(last <= a or b <= first for a, b in others))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((first, last))
        found.append(lane)
    return found


def _figure(height: int, left: int = _LEFT, below: int = 0) -> tuple[Figure, Axes]:
    """Make a figure of one plot, with so much room ``below`` it."""
    from matplotlib.figure import Figure

    whole = height + below
    figure = Figure(figsize=(_WIDTH / 72, whole / 72), dpi=72)
    inner = _WIDTH - left - _RIGHT, height - _TOP - _BOTTOM
    box = left / _WIDTH, (_BOTTOM + below) / whole, inner[0] / _WIDTH, inner[1] / whole
    return figure, figure.add_axes(box)


def _curve(axes: Axes, places: Sequence[int], curve: Curve) -> None:
    known = [(place, value) for place, value in zip(places, curve.values, strict=True) if value is not None]
    spans = [
        (place, interval) for place, interval in zip(places, curve.intervals, strict=False) if interval is not None
    ]
    color = _COLORS[curve.color]
    if len(spans) > 1:
        low, high = zip(*(interval for _, interval in spans), strict=True)
        axes.fill_between([place for place, _ in spans], low, high, color=color, alpha=0.18, linewidth=0)
    for place, interval in spans:
        axes.plot((place, place), interval, color=color, linewidth=1.2, clip_on=False)
    line = [place for place, _ in known], [value for _, value in known]
    axes.plot(*line, "o-", color=color, markersize=4, clip_on=False)


def _grid(axes: Axes, written: Callable[[float], str] | None = None) -> None:
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if written is None:
        axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: (written or _tick)(value))


def _edges(bins: Bins) -> list[float]:
    low, high, count = bins.low, bins.high, len(bins.counts)
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
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = ElementTree.fromstring(text.getvalue())
    written = " ".join(value for element in drawn.iter() for key, value in element.items() if key != "id")
    targets = dict.fromkeys(re.findall(r"#(?![0-9a-f]{6}\b)([\w-]+)", written))
    names = {f"#{target}": f"#{name}-{index}" for index, target in enumerate(targets)}
    box = drawn.attrib["viewBox"]
    # What is as wide as the page lets it be, style sheets say.
    width = f"{_SCALE * float(box.split()[2]):.0f}"
    plot = ElementTree.Element(
        "svg", {"class": "plot", "viewBox": box, "width": width, "role": "img", "aria-label": label}
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
