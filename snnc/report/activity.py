"""What the neurons of a network do while one sample is shown: spikes and membranes, as plots and in a terminal."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from snnc.blocks import Block, Line, Lines, Listing, Plot, Raster, SideBySide, Text
from snnc.display import Displayed
from snnc.report.faces.page import Part, document
from snnc.report.faces.plots import png
from snnc.schedule import Schedule
from snnc.text import counted

# Membranes that can be told apart in one plot, and rows of a terminal.
_MEMBRANES, _ROWS = 5, 8
# How high a membrane stands, between the least and the most of its layer.
_BARS = "▁▂▃▄▅▆▇█"
# So many steps have room in a terminal.
_STEPS = 48


@final
@dataclass(frozen=True)
class LayerActivity:
    """What some ``neurons`` of a layer do, those of these ``numbers``, the most active ones first.

    ``spikes`` are signed numbers of spikes, a row for each neuron and a place for each step; ``potentials`` are shares
    of the threshold after every step, () of neurons that gather all they are sent before they fire. Of all neurons of
    the layer, ``active`` ones fire ``fired`` spikes.
    """

    name: str
    neuron: str
    neurons: int
    fired: int
    active: int
    numbers: tuple[int, ...]
    spikes: tuple[tuple[int, ...], ...]
    potentials: tuple[tuple[float, ...], ...]

    @property
    def told(self) -> str:
        """The layer in a line."""
        return f"{self.name} ({self.neuron}): {counted(self.fired, 'spike')}, {self.active:,} of {self.neurons:,} fire"

    def plots(self) -> Iterator[Plot]:
        """Draw spikes, and membranes where they are known."""
        words = "; ".join(f"neuron {n}: {sum(map(abs, row))}" for n, row in zip(self.numbers, self.spikes, strict=True))
        title = f"Spikes of {self.name}"
        note = f"{self.told}; shown: the {len(self.numbers):,} most active."
        yield Plot(title, Raster(self.spikes, self.numbers, "time step"), f"{title}. {words}", note=note)
        if not self.potentials:
            return
        lines = tuple(
            Line(f"neuron {number}", tuple(enumerate(row, 1)), (None,) * len(row), hue)
            for hue, (number, row) in enumerate(
                zip(self.numbers[:_MEMBRANES], self.potentials[:_MEMBRANES], strict=True)
            )
        )
        title = f"Membranes of {self.name}"
        last = "; ".join(f"{line.name}: {line.points[-1][1]:.3g}" for line in lines)
        note = "Potential after every step, in shares of the threshold."
        yield Plot(title, Lines(lines, "time step"), f"{title}. After the last step {last}", note=note)

    def lines(self) -> Iterator[str]:
        """Draw spikes and membranes in characters, a line for each of some neurons."""
        yield self.told
        ends = [value for row in self.potentials[:_ROWS] for value in row]
        low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
        width = len(str(max(self.numbers[:_ROWS], default=0)))
        for place, number in enumerate(self.numbers[:_ROWS]):
            raster = "".join(map(_mark, self.spikes[place][:_STEPS]))
            membrane = "".join(_height(value, low, high) for value in self.potentials[place][:_STEPS]) if ends else ""
            yield f"  {number:>{width}}  {raster}  {membrane}".rstrip()
        if ends:
            yield f"  membranes from {low:.3g} to {high:.3g} thresholds"


@final
@dataclass(frozen=True, repr=False)
class Activity(Displayed):
    """What a network does while it is shown a ``sample``, and what it answers."""

    model: str
    sample: str
    answer: str
    schedule: Schedule
    layers: tuple[LayerActivity, ...]

    def __repr__(self) -> str:
        return f"<Activity of {self.model} on {self.sample}: {self.answer}>"

    @property
    def lead(self) -> str:
        """What was shown, and what came of it."""
        fired = sum(layer.fired for layer in self.layers)
        steps = counted(self.schedule.total, "step")
        return f"{self.sample} is answered with {self.answer}: {counted(fired, 'spike')} in {steps} of every layer."

    @property
    def rows(self) -> tuple[dict[str, object], ...]:
        """Each event, and each membrane, as a row of a table."""
        return tuple(
            {
                "layer": layer.name,
                "neuron": number,
                "step": step + 1,
                "spikes": fired,
                **({"potential": layer.potentials[place][step]} if layer.potentials else {}),
            }
            for layer in self.layers
            for place, number in enumerate(layer.numbers)
            for step, fired in enumerate(layer.spikes[place])
        )

    def plots(self) -> tuple[Plot, ...]:
        """Draw all layers, from image to answer."""
        return tuple(plot for layer in self.layers for plot in layer.plots())

    def blocks(self) -> Iterator[Block]:
        """Tell it where there is little room."""
        yield Text(self.lead)
        for layer in self.layers:
            yield Listing(("", *layer.lines()))
        yield Text("")
        rows = min(_ROWS, max((len(layer.numbers) for layer in self.layers), default=0))
        which = "the most active neuron" if rows == 1 else f"each of the {rows} most active neurons"
        yield Text(f"a row for {which}, a place for each step: · silent, | a spike, - one taken back, a number several")

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)

    def page(self) -> str:
        """Return a page with all plots."""
        parts = [
            Part(f"layer-{at}", layer.name, layer.told, (SideBySide(tuple(layer.plots())),))
            for at, layer in enumerate(self.layers, 1)
        ]
        return document("spikes", f"{self.model}, {self.sample}", self.lead, parts)

    def png(self) -> bytes:
        """Return a picture of all plots."""
        plots = self.plots()
        return png(plots, 2 if len(plots) > len(self.layers) else 1)


def _mark(spikes: int) -> str:
    if not spikes:
        return "·"
    if spikes < 0:
        return "-"
    return "|" if spikes == 1 else str(spikes) if spikes < 10 else "#"


def _height(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
