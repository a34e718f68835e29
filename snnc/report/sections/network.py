"""The layers of neurons: how far each is from the trained network's, and why."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, TypeVar

from snnc.blocks import (
    Bins,
    Block,
    Cell,
    Check,
    Checks,
    Color,
    Column,
    Curve,
    Curves,
    Fact,
    Facts,
    Fold,
    Key,
    Map,
    Missing,
    Plot,
    Room,
    Shares,
    SideBySide,
    Table,
    Text,
    Tile,
)
from snnc.measure.gates import Gate
from snnc.measure.layers import Distribution, Layer
from snnc.report.data import Report
from snnc.report.sections import CONVERT, Section, sections
from snnc.report.sections.gates import gate_check, worst
from snnc.report.sentence import sent
from snnc.text import counted, fixed, number, percent

Value = TypeVar("Value", int, float)

# From each of these cumulative errors on, a layer has the next color.
_SHADES = 0.05, 0.1, 0.2, 0.4, 0.8

# So many layers are enough to know where to look.
_WORST = 5


@sections.register("network")
@dataclass(frozen=True)
class NetworkSection(Section):
    """The network, layer by layer."""

    title: ClassVar[str] = "The network, layer by layer"
    label: ClassVar[str] = "Network"
    order: ClassVar[int] = 40

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the layers as a map, plots and a table, and each by itself."""
        layers, measured = report.layers, not report.unmeasured
        yield Checks("layers", tuple(_case(report, layer) for layer in layers), only=("cases",))
        if not measured:
            command = CONVERT if report.stripped else "snnc calibrate --data FOLDER"
            yield Missing("The layers were not measured on images.", command)
        if not layers:
            yield Text("No layer of this network spikes.")
            return
        seen = f"{counted(report.summary.images, 'image')} at T={report.summary.timesteps}"
        if measured:
            yield Text(
                "From image to answer, colored by the error of each layer's output: its distance (L2) from the trained "
                f"network's, relative to that, over {seen} "
                "with all layers converted. Each leads to its details.",
                only=("page",),
            )
        tiles = tuple(
            Tile(layer.name, _error(layer), _anchor(index), _shade(layer)) for index, layer in enumerate(layers)
        )
        yield Map(tuple(tiles), _scale() if measured else (), only=("page",))
        yield SideBySide(tuple(over_layers(report)), only=("page",))
        yield layer_table(layers, only=("page",))
        for index, layer in enumerate(layers):
            details = tuple(_details(report, layer))
            title = f"{index + 1}. {layer.name}"
            yield Fold(title, details, f"error: {_error(layer)}", _anchor(index), only=("page",))
        if measured:
            largest = sorted(layers, key=lambda layer: -(layer.error or 0.0))[:_WORST]
            caption = f"The {len(largest)} layers with the largest errors"
            yield replace(layer_table(largest, only=("card",)), caption=caption)
        yield layer_table(layers, only=("lines",))
        if measured:
            yield Text(f"The layers are as converted, over {seen}.", only=("lines", "card"))
        if report.summary.events is not None:
            words = sent(report.summary.events, report.summary.total_steps)
            # Of what was evaluated, a table on the page says it.
            yield Text(words, only=() if report.headline is None else ("lines", "card"))


def layer_table(layers: Sequence[Layer], *, only: tuple[Room, ...] = ()) -> Table:
    """Return what is known of layers."""
    adds = "what of it clipping, quantization and unevenness in this layer add"
    kinds, uneven = {layer.neuron for layer in layers}, any(layer.over_firing or layer.under_firing for layer in layers)
    return Table.of(
        "The layers of neurons, from image to answer",
        [
            (Column("layer", "layer"), lambda layer: layer.name),
            (Column("kind", "words", short=None), lambda layer: layer.neuron if len(kinds) > 1 else None),
            (Column("neurons"), lambda layer: f"{layer.neurons:,}"),
            (Column("threshold"), _thresholds),
            (
                Column("rate", about="spikes per neuron and step"),
                lambda layer: _written(layer.firing_rate, number),
            ),
            (Column("spikes", short=None, about="per image"), lambda layer: _written(layer.spikes, number)),
            (
                Column("additions", short=None, about="that they cause per image"),
                lambda layer: _written(layer.synaptic_operations, number),
            ),
            (
                Column(
                    "error, %",
                    short="error %",
                    about="relative distance (L2) to the trained network, all layers converted",
                ),
                lambda layer: _share(layer.error),
            ),
            (
                Column("alone, %", short="alone", about="only this layer converted"),
                lambda layer: _share(layer.isolated_error),
            ),
            (Column("inherited, %", short=None), lambda layer: _share(layer.inherited)),
            (
                Column("clipping, %", short="clip", about=adds),
                lambda layer: _share(layer.clipping),
            ),
            (
                Column("quantization, %", short="quant", about=adds),
                lambda layer: _share(layer.quantization),
            ),
            (
                Column("unevenness, %", short="uneven", about=adds),
                lambda layer: _share(layer.unevenness),
            ),
            (Column("fire too often, %", short=None), lambda layer: _share(layer.over_firing) if uneven else None),
            (Column("too seldom, %", short=None), lambda layer: _share(layer.under_firing) if uneven else None),
        ],
        layers,
        only=only,
        sorts=True,
    )


def _case(report: Report, layer: Layer) -> Check:
    """Return a layer as a test case: what its gates say, the worst of it first."""
    gates = _gates(report, layer)
    about = (
        "not measured: no images were given"
        if layer.error is None or layer.isolated_error is None
        else f"as converted: relative error {number(layer.error)}, of this layer alone {number(layer.isolated_error)}"
    )
    verdict = worst(gates)
    words = "; ".join(gate.sentence for gate in gates if gate.verdict == verdict)
    return Check(layer.name, verdict, words, about)


def _details(report: Report, layer: Layer) -> Iterator[Block]:
    if layer.distributions is not None:
        yield SideBySide(tuple(_distributions(layer)))
        yield Text(
            "Heights grow with the square root, so that what is rare can be seen. The outermost bars hold what lies "
            "beyond them.",
            soft=True,
        )
    parts = _parts(layer)
    if parts.rows:
        yield parts
    yield Facts(tuple(_facts(layer)))
    gates = _gates(report, layer)
    if gates:
        yield Checks("gate", tuple(map(gate_check, gates)))


def _gates(report: Report, layer: Layer) -> list[Gate]:
    gates = () if report.evaluation is None else report.evaluation.gates
    return [gate for gate in gates if gate.layer == layer.name]


def _anchor(index: int) -> str:
    return f"layer-{index + 1}"


def _error(layer: Layer) -> str:
    return "not measured" if layer.error is None else percent(layer.error)


def _shade(layer: Layer) -> int | None:
    error = layer.error
    return None if error is None else sum(error >= limit for limit in _SHADES)


def _scale() -> tuple[str, ...]:
    """Return what every color means."""
    ends = [f"{100 * limit:g}" for limit in _SHADES]
    between = [f"{low} to {high} %" for low, high in pairwise(ends)]
    return (f"below {ends[0]} %", *between, f"{ends[-1]} % or more")


def over_layers(report: Report) -> Iterator[Plot]:
    """Draw errors and firing shares over the layers, from image to answer."""
    layers, row = report.layers, report.headline
    if len(layers) < 2 or report.unmeasured:
        return
    gates = () if report.evaluation is None else report.evaluation.gates
    limits = {100 * gate.limit for gate in gates if gate.layer and row is not None and gate.timesteps == row.timesteps}
    yield _by_layer(
        "Error of every layer, %",
        {"all layers converted": "spiking", "only this one": "trained"},
        ([layer.error for layer in layers], [layer.isolated_error for layer in layers]),
        sorted(limits),
    )
    if not any(layer.over_firing or layer.under_firing for layer in layers):
        return
    yield _by_layer(
        "Neurons that fire too often or too seldom, %",
        {"too often": "spiking", "too seldom": "trained"},
        ([layer.over_firing for layer in layers], [layer.under_firing for layer in layers]),
        (),
        "Against what the mean current of a neuron asks for; the shares that CASC (Li et al., 2024) plots.",
    )


def _by_layer(
    title: str,
    shown: dict[str, Color],
    values: Sequence[Sequence[float | None]],
    limits: Sequence[float],
    note: str = "",
) -> Plot:
    shares = [tuple(None if value is None else 100 * value for value in curve) for curve in values]
    curves = [Curve(curve, color=color) for curve, color in zip(shares, shown.values(), strict=True)]
    words = "; ".join(
        f"{meaning}: {', '.join('unknown' if value is None else fixed(value) for value in curve)}"
        for curve, meaning in zip(shares, shown, strict=True)
    )
    keys = [Key(color, meaning) for meaning, color in shown.items()]
    keys += [Key("limit", "limit of a gate")] if limits else []
    levels: tuple[tuple[float, Color], ...] = tuple((limit, "limit") for limit in limits)
    places = tuple(range(1, len(shares[0]) + 1))
    drawing = Curves(places, tuple(curves[::-1]), levels, "layer", from_zero=True)
    label = f"{title.removesuffix(', %')} in percent, from image to answer. {words}"
    return Plot(title, drawing, label, tuple(keys), note)


def _distributions(layer: Layer) -> Iterator[Plot]:
    """Draw how activations, rates and what is left in the membrane are distributed."""
    found = layer.distributions
    assert found is not None
    name = layer.name
    yield Plot(
        "Activations that are not 0, %",
        Shares((_bins(found.reference, "trained"), _bins(found.result)), "thresholds", mark=1.0),
        f"Activations of {name} in units of the threshold: {_extent(found.reference, 'the trained network')}; "
        f"{_extent(found.result, 'the spiking network')}.",
        (Key("spiking", "spiking network"), Key("trained", "trained network"), Key("limit", "threshold")),
    )
    yield Plot(
        "Firing rates that are not 0, %",
        Shares((_bins(found.rates),), "spikes per step"),
        f"Firing rates of {name}: {_extent(found.rates, 'neurons that fire', 'spikes per step')}.",
    )
    yield Plot(
        "Potential left over, %",
        Shares((_bins(found.potentials),), "thresholds"),
        f"Potential left in the membranes of {name}, in units of the threshold: "
        f"{_extent(found.potentials, 'neurons')}.",
        note="Between 0 and 1, no spike is missing and none is too many.",
    )


def _bins(distribution: Distribution, color: Color = "spiking") -> Bins:
    return Bins(distribution.low, distribution.high, distribution.counts, color)


def _extent(distribution: Distribution, whose: str, unit: str = "") -> str:
    """Say between which values half of all lie."""
    total = sum(distribution.counts)
    if not total:
        return f"{whose}: none"
    width = (distribution.high - distribution.low) / len(distribution.counts)
    seen, quartiles = 0, []
    for index, count in enumerate(distribution.counts):
        for share in (0.25, 0.75):
            if seen < share * total <= seen + count:
                quartiles.append(distribution.low + width * (index + (share > 0.5)))
        seen += count
    return f"half of {whose} between {number(quartiles[0])} and {number(quartiles[1])} {unit}".rstrip()


def _parts(layer: Layer) -> Table:
    known = {
        "inherited": (layer.inherited, "what comes in is wrong already"),
        "clipping": (layer.clipping, "what is above the threshold is cut off"),
        "quantization": (layer.quantization, "values are rounded to counts of spikes"),
        "unevenness": (layer.unevenness, "when spikes arrive, not how many"),
    }
    largest = max((value for value, _ in known.values() if value is not None), default=0.0) or 1.0
    rows = tuple(
        (Cell(name), Cell(f"{100 * value / largest:.1f}"), Cell(percent(value)), Cell(meaning))
        for name, (value, meaning) in known.items()
        if value is not None
    )
    columns = Column("part", "words"), Column("", "bar", short=None), Column("size"), Column("meaning", "words")
    caption = "Where the error comes from, relative to the trained network's output, as the error is"
    return Table(caption, columns, rows)


def _facts(layer: Layer) -> Iterator[Fact]:
    low, high = layer.threshold_minimum, layer.threshold_maximum
    yield Fact("Neurons", f"{layer.neurons:,} of the kind {layer.neuron}, in {layer.channels:,} channels")
    yield Fact("Threshold" if low == high else "Thresholds", _thresholds(layer))
    yield Fact("Stands for", layer.source)
    of_channels = f"of {layer.channels}"
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
        "Channels that never fire": _written(layer.dead_channels, lambda count: f"{count} {of_channels}"),
        "Channels that clip": _written(layer.clipping_channels, lambda count: f"{count} {of_channels}"),
        "Saturated channels": _written(layer.saturated_channels, lambda count: f"{count} {of_channels}"),
        "Zeros": _zeros(layer),
    }
    yield from (Fact(name, value) for name, value in known.items() if value is not None)


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


def _thresholds(layer: Layer) -> str:
    """Return the threshold, or from where to where those of the channels go."""
    low, high = layer.threshold_minimum, layer.threshold_maximum
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _share(value: float | None) -> str | None:
    return None if value is None else fixed(100 * value)


def _written(value: Value | None, written: Callable[[Value], str]) -> str | None:
    return None if value is None else written(value)
