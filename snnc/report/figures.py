"""What is drawn of a report: each plot with its title, what its colors mean, and a description in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snnc.figure import Blame, Row
from snnc.intervals import Interval
from snnc.measure.gates import Gate
from snnc.report import plots
from snnc.report.data import Report
from snnc.report.escaping import printable
from snnc.report.facts import energy_bars, measured_energy, worst_first
from snnc.report.layers import Distribution, Layer
from snnc.report.plots import LIMIT, SPIKING, TRAINED, Bar, Curve
from snnc.text import fixed, number, percent, span, written

# What every plot says by its colors, in the same words.
_NETWORKS = (SPIKING, "spiking network"), (TRAINED, "trained network")
_LIMIT = LIMIT, "limit of a gate"
_NAMES = {SPIKING: "spiking", TRAINED: "trained", LIMIT: "limit"}


@dataclass(frozen=True)
class Key:
    """What a color means; ``kind`` is ``spiking``, ``trained`` or ``limit``."""

    kind: str
    meaning: str


@dataclass(frozen=True)
class Plot:
    """A drawing (an SVG element) with its title, the key to its colors, and what else there is to know."""

    title: str
    svg: str
    keys: tuple[Key, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class _Quantity:
    name: str
    title: str
    gate: str
    value: Callable[[Row], float | None]
    interval: Callable[[Row], Interval | None]
    unit: str = ""


_QUANTITIES = (
    _Quantity("accuracy", "Accuracy, %", "max-drop", lambda row: row.accuracy, lambda row: row.accuracy_interval, "%"),
    _Quantity(
        "agreement",
        "Agreement with the trained network, %",
        "min-agreement",
        lambda row: row.agreement,
        lambda row: row.agreement_interval,
        "%",
    ),
    _Quantity(
        "energy",
        "Energy of arithmetic, trained network = 1",
        "max-energy-ratio",
        lambda row: row.energy.ratio,
        lambda row: row.energy_ratio_interval,
    ),
    _Quantity("spikes", "Spikes per image", "max-spikes", lambda row: row.spikes, lambda row: row.spikes_interval),
)


def over_timesteps(report: Report) -> tuple[Plot, ...]:
    """Draw accuracy, agreement, energy and spikes against the number of steps, with their intervals and limits."""
    evaluation = report.evaluation
    if evaluation is None:
        return ()
    rows = sorted(evaluation.rows, key=lambda row: row.timesteps)
    known = [quantity for quantity in _QUANTITIES if any(quantity.value(row) is not None for row in rows)]
    trained = evaluation.reference_accuracy
    references = {"accuracy": trained, "energy": 1.0}
    return tuple(_over(quantity, rows, references.get(quantity.name), trained, evaluation.gates) for quantity in known)


def over_layers(report: Report) -> tuple[Plot, ...]:
    """Draw errors and firing shares over the layers, from image to answer."""
    layers = report.layers
    if len(layers) < 2 or any(layer.error is None for layer in layers):
        return ()
    gates = () if report.headline is None or report.evaluation is None else report.evaluation.gates
    limits = {
        100 * gate.limit
        for gate in gates
        if gate.layer and report.headline is not None and gate.timesteps == report.headline.timesteps
    }
    errors = _by_layer(
        "plot-errors",
        "Error of every layer, %",
        ((SPIKING, "all layers converted"), (TRAINED, "only this one")),
        ([layer.error for layer in layers], [layer.isolated_error for layer in layers]),
        sorted(limits),
    )
    firing = _by_layer(
        "plot-firing",
        "Neurons that fire too often or too seldom, %",
        ((SPIKING, "too often"), (TRAINED, "too seldom")),
        ([layer.over_firing for layer in layers], [layer.under_firing for layer in layers]),
        (),
        "Against what the mean current of a neuron asks for; the shares that CASC (Li et al., 2024) plots.",
    )
    return errors, firing


def of_layer(layer: Layer, name: str) -> tuple[Plot, ...]:
    """Draw how activations, rates and what is left in the membrane are distributed in one layer."""
    found = layer.distributions
    if found is None:
        return ()
    place = printable(layer.name)
    activations = plots.histogram(
        f"{name}-activations",
        f"Activations of {place} in units of the threshold: {_extent(found.reference, 'the trained network')}; "
        f"{_extent(found.result, 'the spiking network')}.",
        [(found.reference, TRAINED), (found.result, SPIKING)],
        "thresholds",
        mark=1.0,
    )
    rates = plots.histogram(
        f"{name}-rates",
        f"Firing rates of {place}: {_extent(found.rates, 'neurons that fire', 'spikes per step')}.",
        [(found.rates, SPIKING)],
        "spikes per step",
        mark=None,
    )
    potentials = plots.histogram(
        f"{name}-potentials",
        f"Potential left in the membranes of {place}, in units of the threshold: "
        f"{_extent(found.potentials, 'neurons')}.",
        [(found.potentials, SPIKING)],
        "thresholds",
        mark=None,
    )
    threshold = Key("limit", "threshold")
    return (
        Plot("Activations that are not 0, %", activations, (*_keys(_NETWORKS), threshold)),
        Plot("Firing rates that are not 0, %", rates),
        Plot(
            "Potential left over, %",
            potentials,
            (),
            "Between 0 and 1, no spike is missing and none is too many.",
        ),
    )


def of_blame(row: Row) -> Plot:
    """Draw what every layer adds to the loss, the worst first."""
    blamed = worst_first(row)
    label = f"Points of the loss that enter at every layer: {'; '.join(map(_blamed, blamed))}"
    drawn = [Bar(printable(blame.name), (blame.points,), blame.interval) for blame in blamed]
    svg = plots.bars("plot-blame", label, drawn, (SPIKING,), "points")
    return Plot(f"Points of the loss by layer, T={row.timesteps}", svg, (), "Thin lines are 95 % intervals.")


def of_outputs(report: Report) -> Plot | None:
    """Draw outputs of the spiking network over those of the trained one."""
    pairs = report.summary.outputs
    if not pairs:
        return None
    error = report.summary.output_error
    relative = "" if error is None else f" The relative error (L2) of all outputs is {percent(error)}."
    label = f"{len(pairs)} outputs of the spiking network over those of the trained one.{relative}"
    svg = plots.scatter("plot-outputs", label, pairs, "trained network")
    return Plot(
        "Output of the spiking network", svg, (), f"{len(pairs)} outputs; on the line both are the same.{relative}"
    )


def of_energy(report: Report) -> tuple[Plot, ...]:
    """Draw the energy of arithmetic and of memory, beside the trained and the narrow network."""
    energy = measured_energy(report)
    if energy is None:
        return ()
    networks = energy_bars(energy)
    arithmetic = "; ".join(
        f"{name} {number(added + multiplied)} µJ, of this {number(added)} µJ caused by spikes"
        for name, added, multiplied, _ in networks
    )
    memory = "; ".join(f"{name} {number(moved)} µJ" for name, _, _, moved in networks)
    both = [Bar(name, (added, multiplied)) for name, added, multiplied, _ in networks]
    svg = plots.bars("plot-arithmetic", f"Energy of arithmetic: {arithmetic}", both, (SPIKING, TRAINED), "µJ per image")
    keys = Key("spiking", "additions caused by spikes"), Key("trained", "multiplications")
    moved = [Bar(name, (traffic,)) for name, _, _, traffic in networks]
    words = (Key("trained", "weights, values and potentials moved"),)
    traffic = plots.bars("plot-memory", f"Energy of memory traffic: {memory}", moved, (TRAINED,), "µJ per image")
    return Plot("Arithmetic", svg, keys), Plot("Memory traffic", traffic, words)


def _over(
    quantity: _Quantity, rows: Sequence[Row], reference: float | None, trained: float | None, gates: Sequence[Gate]
) -> Plot:
    limits = sorted({_drawn(gate, trained) for gate in gates if gate.name == quantity.gate})
    levels = [(limit, LIMIT) for limit in limits]
    if reference is not None:
        levels.insert(0, (reference, TRAINED))
    values, intervals = [quantity.value(row) for row in rows], [quantity.interval(row) for row in rows]
    known = zip(rows, values, intervals, strict=True)
    words = "; ".join(
        f"T={row.timesteps}: {_written(value, interval, quantity.unit)}"
        for row, value, interval in known
        if value is not None
    )
    label = f"{quantity.title}, against the number of time steps. {words}"
    places = [row.timesteps for row in rows]
    svg = plots.curves(
        f"plot-{quantity.name}",
        label,
        places,
        [Curve(values, intervals)],
        levels,
        "T",
        from_zero=not quantity.unit,
    )
    shown = [_NETWORKS[0], *([_NETWORKS[1]] if reference is not None else []), *([_LIMIT] if limits else [])]
    return Plot(quantity.title, svg, _keys(shown))


def _drawn(gate: Gate, trained: float | None) -> float:
    """Return where a limit is in the plot: that on the drop is so far below the trained network's accuracy."""
    if gate.name != "max-drop" or trained is None:
        return gate.limit
    return trained - gate.limit if gate.unit == " points" else trained * (1 - gate.limit / 100)


def _by_layer(
    name: str,
    title: str,
    shown: Sequence[tuple[str, str]],
    values: Sequence[Sequence[float | None]],
    limits: Sequence[float],
    note: str = "",
) -> Plot:
    shares = [[None if value is None else 100 * value for value in curve] for curve in values]
    drawn = [Curve(curve, [None] * len(curve), color) for curve, (color, _) in zip(shares, shown, strict=True)]
    words = "; ".join(
        f"{meaning}: {', '.join('unknown' if value is None else fixed(value) for value in curve)}"
        for curve, (_, meaning) in zip(shares, shown, strict=True)
    )
    label = f"{title.removesuffix(', %')} in percent, from image to answer. {words}"
    places = range(1, len(shares[0]) + 1)
    svg = plots.curves(name, label, places, drawn[::-1], [(limit, LIMIT) for limit in limits], "layer", from_zero=True)
    return Plot(title, svg, _keys([*shown, *([_LIMIT] if limits else [])]), note)


def _keys(shown: Sequence[tuple[str, str]]) -> tuple[Key, ...]:
    return tuple(Key(_NAMES[color], meaning) for color, meaning in shown)


def _written(value: float, interval: Interval | None, unit: str) -> str:
    return written(value, unit) if interval is None else f"{written(value, unit)} ({span(interval, unit)})"


def _blamed(blame: Blame) -> str:
    return f"{printable(blame.name)} {written(blame.points, 'points')}"


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
