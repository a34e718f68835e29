"""One page that needs nothing else: no script, no font, no image, no network."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from snnc.measure.gates import Gate
from snnc.report import facts, figures
from snnc.report.data import Report
from snnc.report.escaping import printable
from snnc.report.faces import faces
from snnc.report.facts import Fact
from snnc.report.figures import Plot
from snnc.report.layers import Layer
from snnc.report.sentence import sentence
from snnc.text import fixed, number, percent

Figure = TypeVar("Figure", int, float)

# From each of these cumulative errors on, a layer has the next color.
_SHADES = 0.05, 0.1, 0.2, 0.4, 0.8


@dataclass(frozen=True)
class Part:
    """One part of a layer's error: what it is, how large, and how long its bar is, in percent."""

    name: str
    value: str
    meaning: str
    width: float


@dataclass(frozen=True)
class Tile:
    """A layer as the page shows it, at ``anchor``. ``shade`` counts from 0; None where nothing was measured."""

    anchor: str
    layer: Layer
    error: str
    shade: int | None
    facts: tuple[Fact, ...]
    parts: tuple[Part, ...]
    plots: tuple[Plot, ...]
    gates: tuple[Gate, ...]


@faces.register("html")
def html(report: Report) -> str:
    """Return the page: what was found first, then what it rests on, and what was not measured."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    tiles = tuple(_tile(report, layer, f"layer-{index}") for index, layer in enumerate(report.layers, 1))
    gates = () if report.evaluation is None else report.evaluation.gates
    blamed = facts.blamed(report)
    return environment.get_template("page.html.jinja").render(
        report=report,
        facts=facts,
        pairs=zip,
        title=facts.model_file(report),
        sentence=sentence(report),
        missing=facts.missing(report),
        whole=[gate for gate in gates if not gate.layer],
        by_layer=[gate for gate in gates if gate.layer],
        over_timesteps=figures.over_timesteps(report),
        tiles=tiles,
        # Of several layers with one name the first is meant.
        anchors={tile.layer.name: tile.anchor for tile in reversed(tiles)},
        shades=_scale(),
        over_layers=figures.over_layers(report),
        blamed=blamed,
        blame=figures.of_blame(blamed[0]) if blamed else None,
        outputs=figures.of_outputs(report),
        energy=facts.measured_energy(report),
        spent=figures.of_energy(report),
    )


def _shown(value: object) -> object:
    """Keep control characters out of the page; what is markup already, a kind of str of its own, was made here."""
    return printable(value) if type(value) is str else value


def _tile(report: Report, layer: Layer, anchor: str) -> Tile:
    gates = () if report.evaluation is None else report.evaluation.gates
    error = layer.error
    return Tile(
        anchor=anchor,
        layer=layer,
        error="not measured" if error is None else percent(error),
        shade=None if error is None else sum(error >= limit for limit in _SHADES),
        facts=_facts(layer),
        parts=_parts(layer),
        plots=figures.of_layer(layer, anchor),
        gates=tuple(gate for gate in gates if gate.layer == layer.name),
    )


def _scale() -> list[str]:
    """Return what every color means."""
    ends = [f"{100 * limit:g}" for limit in _SHADES]
    between = [f"{low} to {high} %" for low, high in pairwise(ends)]
    return [f"below {ends[0]} %", *between, f"{ends[-1]} % or more"]


def _facts(layer: Layer) -> tuple[Fact, ...]:
    shape = f"{layer.neurons:,} of the kind {layer.neuron}, in {layer.channels:,} channels"
    found = [
        Fact("Neurons", shape),
        Fact(
            "Threshold" if layer.threshold_minimum == layer.threshold_maximum else "Thresholds", facts.thresholds(layer)
        ),
        Fact("Stands for", layer.source or layer.name),
    ]
    known = {
        "Error, all layers converted": _written(layer.error, percent),
        "Error, only this one converted": _written(layer.isolated_error, percent),
        "Signal to error": _written(layer.sqnr, lambda value: f"{fixed(value)} dB"),
        "Cosine similarity": _written(layer.cosine, lambda value: fixed(value, 4)),
        "Standard deviation of the error": _written(layer.sigma, number),
        "Largest mean error of a channel": _written(max(map(abs, layer.channel_residuals or ()), default=None), number),
        "Fire too often": _written(layer.over_firing, lambda share: f"{percent(share)} of neurons"),
        "Fire too seldom": _written(layer.under_firing, lambda share: f"{percent(share)} of neurons"),
        "Firing rate": _written(layer.firing_rate, lambda rate: f"{number(rate)} spikes per neuron and step"),
        "Spikes per image": _written(layer.spikes, lambda count: fixed(count, 0)),
        "Additions that they cause": _written(layer.synaptic_operations, lambda count: fixed(count, 0)),
        "Channels that never fire": _written(layer.dead_channels, lambda count: f"{count} of {layer.channels}"),
        "Channels that clip": _written(layer.clipping_channels, lambda count: f"{count} of {layer.channels}"),
        "Saturated channels": _written(layer.saturated_channels, lambda count: f"{count} of {layer.channels}"),
        "Zeros": _zeros(layer),
    }
    return (*found, *(Fact(name, value) for name, value in known.items() if value is not None))


def _zeros(layer: Layer) -> str | None:
    """Say how much the histograms leave out."""
    found = layer.distributions
    if found is None:
        return None
    total = found.reference_zeros + sum(found.reference.counts)
    if not total:
        return None
    silent = 1 - sum(found.rates.counts) / total
    return (
        f"{percent(found.reference_zeros / total)} of the trained network's activations, "
        f"{percent(found.result_zeros / total)} of the spiking network's; {percent(silent)} of neurons stay silent"
    )


def _parts(layer: Layer) -> tuple[Part, ...]:
    known = {
        "inherited": (layer.inherited, "what comes in is wrong already"),
        "clipping": (layer.clipping, "what is above the threshold is cut off"),
        "quantization": (layer.quantization, "values are rounded to counts of spikes"),
        "unevenness": (layer.unevenness, "when spikes arrive, not how many"),
    }
    largest = max((value for value, _ in known.values() if value is not None), default=0.0) or 1.0
    return tuple(
        Part(name, percent(value), meaning, 100 * value / largest)
        for name, (value, meaning) in known.items()
        if value is not None
    )


def _written(value: Figure | None, written: Callable[[Figure], str]) -> str | None:
    return None if value is None else written(value)
