"""Find the cheapest spiking network that loses no more than allowed, by trying.

The images are split, evenly and by a seed: two thirds calibrate, one third judges, and none does both. What was
calibrated on would flatter the candidate that follows it most.

The order of trying is fixed: what decides comes before what only completes the picture.

  1. Recipe ``quick`` with every neuron, thresholds per channel and per layer. From the middle of the list of time steps
     down while the drop is kept, else up until it is: more time steps only cost more.
  2. Where that fell short, more for the layers whose own error is largest: thresholds per channel, bursts.
  3. Recipes that train, at fewer time steps than were enough without.
  4. For the cheapest so far, the time steps between those that are enough and those that are not.
  5. Still fewer time steps, which fall short, for the frontier.
  6. Where widths of weights are given, the cheapest with the fewest bits, then with the most bits for a quarter of the
     layers, for half and three quarters of them, and for all, until the drop is kept: first those whose own error
     rounding adds most to. Only networks in whole numbers are advised then.

Of networks that answer within a step, levels take the place of time steps: as many for all layers, then as many bits in
the mean, given out where they matter (after PASCAL: Ramesh and Srinivasan, 2025).
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from snnc.actions.opened import Model, task_of, trained_of
from snnc.analysis.integers import MAXIMUM_BITS
from snnc.analysis.units import membranes
from snnc.conversion import Conversion
from snnc.data.dataset import Dataset, Reading
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress
from snnc.errors import DataError, UsageError
from snnc.figure import Row
from snnc.findings import Finding
from snnc.frontend import Example, InputShapes
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import DROP
from snnc.measure.gates import Gate, judge
from snnc.measure.layers import Layer
from snnc.measure.remarks import not_compared
from snnc.neurons import neurons
from snnc.ops import Clipped
from snnc.pipeline import original_of, read_original
from snnc.processes import ALONE, current, working
from snnc.progress import told
from snnc.report import Report
from snnc.tasks import Loss, Task, plain
from snnc.text import number, written
from snnc.trials import Bench, Candidate, Family, Latency

TUNING_VERSION = 1

Prefer = Literal["energy", "steps"]

_TIMESTEPS = (1, 2, 4, 8, 16, 32)
# Levels of neurons that answer within a step: what events of 1 bit, 2 bits, and so on can count.
_LEVELS = (1, 3, 7, 15, 31, 63)
_NUMBERS = {"timesteps": _TIMESTEPS, "levels": _LEVELS}
# Neurons, and the steps of sleep that each is given: those that take spikes back gain more by one than by a wake step
# (tests/benchmarks/splits.py).
_NEURONS = {"two-phase": 0, "dual-threshold": 1, "cif": 1, "if": 0}
# What share of the layers is given the most bits for its weights, one after the other.
_WIDER = (0.25, 0.5, 0.75, 1)
# Layers that are given more: this share of all, the worst first.
_WORST = 0.25
# Once this share of a task is done, the time that all of it takes can be told.
_TELLING = 0.05
# Sums of percentages carry rounding: a drop of exactly the limit is within it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SearchLimits:
    """What a spiking network has to keep to, and how long it may be looked for.

    ``max_drop`` is in points, and kept to by the whole 95 % interval where it has to be ``proven``; ``max_steps`` are
    those from image to answer; ``max_energy`` is relative to the trained network; ``latency`` says whether all layers
    fire at once or each waits for the one before (None: either). ``weight_bits`` are the widths that weights may have,
    the fewest and the most; without any they are real.
    """

    max_drop: float = 1.0
    max_steps: int | None = None
    max_energy: float | None = None
    minutes: float | None = None
    latency: Latency | None = None
    proven: bool = False
    weight_bits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        widths = self.weight_bits
        if not all(2 <= bits <= MAXIMUM_BITS for bits in widths) or len(widths) > 2 or sorted({*widths}) != [*widths]:
            said = ",".join(map(str, widths))
            hint = f"give one or two, rising, from 2 to {MAXIMUM_BITS}: 4,8"
            raise UsageError(f"{said} as widths of weights", place="--weight-bits", hint=hint)
        if not 0 <= self.max_drop < math.inf:
            raise UsageError(f"a drop of {self.max_drop} points", place="--max-drop", hint="give a number from 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise UsageError(f"{self.max_steps} steps", place="--max-steps", hint="give a whole number from 1")
        for place, value in (("--max-energy", self.max_energy), ("--minutes", self.minutes)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"invalid value {value}", place=place, hint="give a number above 0")

    def judged(self, row: Row, drop: float, interval: Interval, samples: int) -> Gate:
        """Judge a drop that was measured on so many samples."""
        return judge(
            "max-drop",
            self.max_drop,
            drop,
            interval,
            samples=samples,
            timesteps=row.timesteps,
            larger=lambda times: None if row.drop is None else DROP.expected(row, samples * times),
            unit=f" {DROP.unit}",
            proven=self.proven,
        )

    def excess(self, drop: float, energy_ratio: float) -> float:
        """Return by how much a network misses the limits, as a share of each; 0 where it keeps to them."""
        too_inaccurate = max(0.0, drop - self.max_drop - _ROUNDING) / max(self.max_drop, 1.0)
        too_dear = 0.0 if self.max_energy is None else max(0.0, energy_ratio / self.max_energy - 1 - _ROUNDING)
        return too_inaccurate + too_dear


@dataclass(frozen=True)
class Trial:
    """A candidate and what was measured on the images that judge.

    ``drop`` is what the task counts as lost (``Advice.loss``): points of accuracy, or, where the images have no labels,
    percent of answers that changed.
    ``kept`` says whether it keeps to the limits, ``frontier`` whether no other is better in one of drop, steps and
    energy and no worse in the others. ``gate`` is the limit on the drop, judged.
    """

    candidate: Candidate
    row: Row
    drop: float
    drop_interval: Interval
    seconds: float
    excess: float
    gate: Gate
    frontier: bool = False

    @property
    def kept(self) -> bool:
        """Whether it keeps to the limits."""
        return self.excess == 0

    @property
    def steps(self) -> int:
        """Steps from image to answer."""
        return self.row.total_steps

    @property
    def energy(self) -> float:
        """Energy per inference, arithmetic and memory traffic, in µJ."""
        return self.row.energy.total

    @property
    def energy_ratio(self) -> float:
        """Energy relative to the trained network's, memory traffic included."""
        return energy_ratio(self.row)

    def cost(self, prefer: Prefer) -> tuple[float, float]:
        """Return what makes a network cheap, the preferred first."""
        return (self.energy, self.steps) if prefer == "energy" else (self.steps, self.energy)

    def plain(self) -> dict[str, Any]:
        """Return the trial as plain data."""
        family = self.candidate.family
        return {
            "title": self.candidate.title,
            "recipe": family.recipe,
            "changes": list(family.changes),
            "timesteps": self.candidate.timesteps,
            "sleep": family.sleep,
            "total_steps": self.steps,
            "latency": family.latency,
            "drop": self.drop,
            "drop_interval": list(self.drop_interval),
            "accuracy": self.row.accuracy,
            "agreement": self.row.agreement,
            "weight_bits": family.weight_bits,
            "scores": {name: score.value for name, score in self.row.scores.items()},
            "spikes": self.row.spikes,
            "synaptic_operations": self.row.synaptic_operations,
            "energy_microjoules": self.energy,
            "energy_ratio": self.energy_ratio,
            "arithmetic_ratio": self.row.energy.arithmetic_ratio,
            "seconds": self.seconds,
            "kept": self.kept,
            "proven": self.gate.proven,
            "samples_needed": self.gate.samples_needed,
            "frontier": self.frontier,
        }


@dataclass(frozen=True, eq=False)
class Chosen:
    """The cheapest network that keeps to the limits."""

    trial: Trial
    conversion: Conversion
    report: Report


@dataclass(frozen=True, eq=False, repr=False)
class Advice:
    """What was tried, best first: those that keep to the limits by cost, then the others by how far they miss them.

    ``shortfall`` says what came closest where nothing keeps to the limits, and is "" otherwise.
    """

    limits: SearchLimits
    prefer: Prefer
    trials: tuple[Trial, ...]
    chosen: Chosen | None
    calibration: Dataset = field(repr=False)
    judging: Dataset = field(repr=False)
    task: Task
    seed: int
    reference: Mapping[str, float]
    findings: tuple[Finding, ...]
    shortfall: str

    def __repr__(self) -> str:
        said = self.shortfall if self.chosen is None else self.chosen.trial.candidate.title
        return f"<Advice: {said}; {len(self.trials)} tried>"

    @property
    def loss(self) -> Loss:
        """What drops are of."""
        return self.task.loss(self.judging.labels(self.task.labels) is not None)

    def plain(self) -> dict[str, Any]:
        """Return the advice as plain data."""
        return {
            "schema_version": TUNING_VERSION,
            "limits": dataclasses.asdict(self.limits),
            "prefer": self.prefer,
            "drop_measures": self.loss.measures,
            "task": plain(self.task),
            "reference": dict(self.reference),
            "images": {
                "seed": self.seed,
                "calibration": {"images": len(self.calibration), "sha256": self.calibration.digest()},
                "judging": {"images": len(self.judging), "sha256": self.judging.digest()},
            },
            "candidates": [{"rank": rank, **trial.plain()} for rank, trial in enumerate(self.trials, 1)],
            "chosen": 1 if self.chosen else None,
            "shortfall": self.shortfall,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def tune(
    model: Model,
    *,
    data: Data,
    example: Example | None = None,
    max_drop: float = 1.0,
    max_steps: int | None = None,
    max_energy: float | None = None,
    minutes: float | None = None,
    latency: Latency | None = None,
    proven: bool = False,
    weight_bits: Sequence[int] = (),
    prefer: Prefer = "energy",
    task: Task | str | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Try conversions of a trained network; advise the one that costs least of those that keep to the limits.

    ``model``, ``data`` and ``example`` are as for ``convert``. Cheapest is the least energy or the fewest steps from
    image to answer, as ``prefer`` says; it is made of whole numbers where ``weight_bits`` are given, of as few as
    do it: one width or, of two, the wider for the layers that need it. ``minutes`` may be exceeded by the first
    candidate, and by the report on the one that is chosen. Raises UsageError where no candidate can keep to the
    limits, DataError where the data is broken or too small to be split.
    """
    limits = SearchLimits(max_drop, max_steps, max_energy, minutes, latency, proven, tuple(weight_bits))
    clock = _Clock(minutes)
    held, progress = gathered(data), progress or told()
    trained = trained_of(model, held, input_shape, example)
    around = [Path(model).parent] if isinstance(model, str | Path) else []
    found = None if trained.tuned_from is None else original_of(trained.tuned_from, [*around, Path()])
    original = None if found is None else read_original(found, trained.graph)
    bench = Bench(trained, held, preprocessing or Preprocessing(), reading or Reading(), task_of(task), original)
    search = _Search(bench, limits, prefer, clock, progress)
    search.run()
    advice = search.advice()
    if trained.tuned_from is None or original is not None:
        return advice
    return replace(advice, findings=(*advice.findings, not_compared(trained.tuned_from)))


def energy_ratio(row: Row) -> float:
    """Return the energy relative to the trained network's, memory traffic included; 0 where that one needs none."""
    return row.energy.ratio or 0.0


def on_frontier(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Return for every point whether no other is lower in one coordinate and not higher in any."""
    return [
        not any(other != point and all(o <= p for o, p in zip(other, point, strict=True)) for other in points)
        for point in points
    ]


def ranked(trials: Iterable[Trial], prefer: Prefer) -> list[Trial]:
    """Return those that keep to the limits by cost, then the others by how far they miss them; ties as they came."""
    return sorted(trials, key=lambda trial: (trial.excess, *trial.cost(prefer)))


def worst_layers(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the quarter of the layers, at least one, whose own error is largest, in the order of the network."""
    errors = {layer.name: layer.isolated_error for layer in layers if layer.isolated_error}
    worst = sorted(errors, key=lambda name: -errors[name])[: math.ceil(_WORST * len(layers))]
    return tuple(name for name in errors if name in worst)


def sensitive(real: Sequence[Layer], rounded: Sequence[Layer]) -> list[str]:
    """Return the layers, first those whose own error rounding weights adds most to."""
    before = {layer.name: layer.isolated_error or 0.0 for layer in real}
    added = {layer.name: (layer.isolated_error or 0.0) - before.get(layer.name, 0.0) for layer in rounded}
    return sorted(added, key=lambda name: -added[name])


def families(latency: Latency | None) -> list[Family]:
    """Return what is tried without training: every neuron, with thresholds per channel, then per layer.

    Neurons whose events carry numbers are for who asks for an answer within a step: not every target has them.
    """
    if latency == "one-step":
        return [Family("quick", "graded", "quick, graded", count="levels")]
    found = []
    for per in ("channel", "layer"):
        for neuron, sleep in _NEURONS.items():
            changes = [f"passes.substitute-neurons.neuron={neuron}"]
            changes += [] if per == "channel" else ["passes.calibrate-thresholds.per=layer"]
            title = f"quick, {neuron}" if per == "channel" else f"quick, {neuron}, per layer"
            found.append(Family("quick", neuron, title, tuple(changes), sleep))
    return _of(latency, found)


def training_families(latency: Latency | None) -> list[Family]:
    """Return the recipes that train."""
    if latency == "one-step":
        return [Family("one-step", "graded", "one-step", count="levels")]
    return _of(latency, [Family("default", "two-phase", "default"), Family("synchronous", "cif", "synchronous", (), 1)])


def more_for(family: Family, layers: Sequence[Layer], canonical: Graph) -> list[Family]:
    """Return the family with more for its worst layers: thresholds per channel where they are per layer, else bursts.

    Where events carry numbers, with levels layer by layer, as many bits in the mean. Bursts only beside neurons that
    fire while they gather. ``canonical`` is the network that thresholds are chosen for.
    """
    if family.count == "levels":
        return [replace(family, title=f"{family.title}, mixed levels", mixed=True)]
    if "passes.calibrate-thresholds.per=layer" in family.changes:
        # What is quantized in the file keeps its thresholds.
        free = canonical.ops(Clipped)
        worst = worst_layers([layer for layer in layers if layer.name in free])
        change = f"passes.calibrate-thresholds.channel-wise={json.dumps(worst)}"
        return [family.changed(f"{_counted(worst)} per channel", change)] if worst else []
    worst = worst_layers(layers)
    if family.latency == "pipelined" or "burst" not in neurons or not worst:
        return []
    change = f"passes.substitute-neurons.layers={json.dumps(dict.fromkeys(worst, 'burst'))}"
    return [family.changed(f"{_counted(worst)} burst", change)]


def _of(latency: Latency | None, listed: list[Family]) -> list[Family]:
    return [family for family in listed if latency in (None, family.latency)]


def _counted(layers: Sequence[str]) -> str:
    return f"{len(layers)} layer{'s' if len(layers) > 1 else ''}"


class _OutOfTimeError(Exception):
    """What is being done will not be done in time."""


class _Clock:
    """The time that is left."""

    def __init__(self, minutes: float | None) -> None:
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds, below 0 when they are over; of several processes, those of the first."""
        return current().folded("the time that is left", self._end - time.monotonic(), lambda first, others: first)

    def guarding(self, progress: Progress) -> Progress:
        """Return the progress, giving up what is told by it as soon as it can be seen not to be done in time.

        Of several processes none gives up: the others would wait for it.
        """
        if current().count > 1:
            return progress
        began: dict[tuple[str, int], float] = {}

        def tell(label: str, done: int, total: int) -> None:
            progress(label, done, total)
            now, task = time.monotonic(), (label, total)
            if done == 0 or task not in began:
                began[task] = now
            tells = done > 0 and done >= _TELLING * total
            expected = (now - began[task]) * (total / done - 1) if tells else 0.0
            if now + expected > self._end:
                raise _OutOfTimeError

        return tell


@dataclass(frozen=True, eq=False)
class _Made:
    """What was made of a candidate, and how long that took, judging included.

    ``networks`` are the conversion and what reports compare it with; where one process made it for all, it ``alone``
    has them.
    """

    evaluation: Evaluation
    seconds: float
    networks: tuple[Conversion, Graph] | None
    alone: bool = False

    def of_all(self) -> tuple[Conversion, Graph]:
        """Return the networks to all processes, which ask for them together."""
        found = self.networks
        if self.alone:
            found = current().folded("networks that one of them made", found, lambda one, other: one or other)
        assert found is not None
        return found


@dataclass(frozen=True, eq=False)
class _Tried:
    """A candidate that was tried, and what was made of it."""

    trial: Trial
    made: _Made


class _Search:
    """Trying one candidate after the other."""

    def __init__(self, bench: Bench, limits: SearchLimits, prefer: Prefer, clock: _Clock, progress: Progress) -> None:
        self._bench = bench
        self._limits = limits
        self._prefer: Prefer = prefer
        self._clock = clock
        self._progress = progress
        self._trials: dict[Candidate, Trial] = {}
        # What several processes made of candidates, each of its own, before it was asked for.
        self._ahead: dict[Candidate, _Made] = {}
        self._best: _Tried | None = None
        # Of every family, the one with the most time steps that lost too much.
        self._short: dict[Family, _Tried] = {}
        self._reference: Mapping[str, float] = {}
        self._cut_short = False

    def run(self) -> None:
        """Try all that may be worth it, as long as there is time."""
        quick = families(self._limits.latency)
        if not any(self._list(family) for family in quick):
            fewest = min(self._bench.fewest_steps(family) for family in quick)
            raise UsageError(
                f"no network answers within {self._limits.max_steps} steps",
                place="--max-steps",
                hint=f"give {fewest} or more" + (", or leave out --latency" if self._limits.latency else ""),
            )
        self._walk(dict.fromkeys(quick), upward=True)
        for family in quick:
            self._help_worst_layers(family)
        for family in training_families(self._limits.latency):
            self._train(family)
        self._narrow_down()
        self._complete(quick)
        # What completes the picture has surprised when a better one came of it.
        self._narrow_down()
        if self._limits.weight_bits and self._best is not None:
            self._round(self._best)

    def advice(self) -> Advice:
        """Return what came of it."""
        trials = ranked(self._trials.values(), self._prefer)
        if self._limits.weight_bits:
            trials.sort(key=lambda trial: trial.candidate.family.weight_bits is None or trial.excess > 0)
        frontier = on_frontier([(trial.drop, trial.steps, trial.energy) for trial in trials])
        trials = [replace(trial, frontier=front) for trial, front in zip(trials, frontier, strict=True)]
        chosen = None
        if self._best is not None:
            conversion, report = self._bench.report(*self._best.made.of_all(), self._progress)
            chosen = Chosen(trials[0], conversion, report)
        return Advice(
            limits=self._limits,
            prefer=self._prefer,
            trials=tuple(trials),
            chosen=chosen,
            calibration=self._bench.calibration,
            judging=self._bench.judging,
            task=self._bench.task,
            seed=self._bench.seed,
            reference=self._reference,
            findings=self._findings(trials[0]),
            shortfall="" if chosen else _shortfall(self._closest(trials), self._limits),
        )

    def _closest(self, trials: Sequence[Trial]) -> Trial:
        """Return what comes closest, in whole numbers where these are asked for and there are any."""
        whole = (trial for trial in trials if trial.candidate.family.weight_bits is not None)
        return next(whole, trials[0])

    def _round(self, real: _Tried) -> None:
        """Take the fewest bits for the weights of a network with which it keeps to the limits, layer by layer."""
        fewest, *_, most = (*self._limits.weight_bits, self._limits.weight_bits[-1])
        family, number = real.trial.candidate.family, real.trial.candidate.number
        self._best = None
        narrow = replace(family, title=f"{family.title}, weights of {fewest} bits", weight_bits=fewest)
        if self._try(narrow.at(number)) is None or self._best is not None or fewest == most:
            return
        short = self._short.get(narrow)
        if short is None:
            # It needs too much energy, and wider weights need no less.
            return
        try:
            progress = self._guarded(narrow.at(number))
            networks = [tried.made.of_all() for tried in (real, short)]
            reports = [self._bench.report(*both, progress)[1] for both in networks]
        except _OutOfTimeError:
            self._cut_short = True
            return
        listed = sensitive(*(report.layers for report in reports))
        # What no neurons stand behind decides the answer.
        last = [membrane.name for membrane in membranes(networks[1][0].snn) if not membrane.neuron]
        for share in _WIDER:
            wide = [*last, *listed[: math.ceil(share * len(listed))]]
            if share == 1:
                helped = replace(narrow, title=f"{family.title}, weights of {most} bits", weight_bits=most)
            else:
                change = f"passes.quantize-weights.layers={json.dumps(dict.fromkeys(wide, most))}"
                helped = narrow.changed(f"{most} in {_counted(wide)}", change)
            if self._try(helped.at(number)) is None or self._best is not None:
                return

    def _walk(self, starts: dict[Family, int | None], *, upward: bool) -> None:
        """Try families side by side, from these numbers (None: the middle of the list) in the way that pays."""
        waiting = dict(starts)
        while waiting:
            numbers = {family: self._next(family, start, upward=upward) for family, start in waiting.items()}
            self._make_ahead([family.at(number) for family, number in numbers.items() if number is not None])
            for family, start in list(waiting.items()):
                number = self._next(family, start, upward=upward)
                if number is None or self._try(family.at(number)) is None:
                    del waiting[family]
        self._ahead.clear()

    def _make_ahead(self, asked: Sequence[Candidate]) -> None:
        """Let several processes make what is probably tried next, each of them whole candidates, as many as the others.

        What is tried, and in which order, does not change by it: what is left over is made together, and what turns
        out not to be worth it was made for nothing.
        """
        processes = current()
        new = [candidate for candidate in asked if candidate not in self._trials and candidate not in self._ahead]
        share = len(new) // processes.count
        if processes.count == 1 or share == 0 or self._clock.left < math.inf:
            return
        mine = {}
        with working(ALONE):
            for candidate in new[processes.rank * share : (processes.rank + 1) * share]:
                mine[candidate] = replace(self._make(candidate), alone=True)
        sent = {candidate: replace(made, networks=None) for candidate, made in mine.items()}
        self._ahead |= processes.folded("candidates", sent, lambda some, others: {**some, **others}) | mine

    def _next(self, family: Family, start: int | None, *, upward: bool) -> int | None:
        listed, tried = self._list(family), self._tried(family)
        if not tried:
            return start or (listed[len(listed) // 2] if listed else None)
        enough = [number for number, trial in tried.items() if self._accurate(trial)]
        if enough:
            fewer = max((number for number in listed if number < min(enough)), default=None)
            return None if fewer in tried else fewer
        last = tried[max(tried)]
        if not upward or self._too_dear(last):
            return None
        return min((number for number in listed if number > max(tried)), default=None)

    def _help_worst_layers(self, family: Family) -> None:
        """Where a family fell short, give its worst layers more before all get more time steps."""
        if family not in self._short:
            return
        tried, candidate = self._short[family], self._short[family].trial.candidate
        if self._too_dear(tried.trial):
            return
        conversion, canonical = tried.made.of_all()
        try:
            _, report = self._bench.report(conversion, canonical, self._guarded(candidate))
        except _OutOfTimeError:
            self._cut_short = True
            return
        for helped in more_for(family, report.layers, canonical):
            # Of one bit each there is nothing to give out.
            if not helped.mixed or candidate.number > 1:
                self._walk({helped: candidate.number}, upward=False)

    def _train(self, family: Family) -> None:
        """Try a recipe that trains, with fewer time steps than were enough without."""
        alike = [trial for trial in self._trials.values() if trial.candidate.family.latency == family.latency]
        enough = [trial.candidate.number for trial in alike if self._accurate(trial)]
        fewer = [number for number in self._list(family) if number < min(enough, default=math.inf)]
        if self._best is not None:
            # If it cannot become the cheapest, training is not worth the time.
            least, _ = self._best.trial.cost(self._prefer)
            untrained = [trial for trial in alike if trial.candidate.family.neuron == family.neuron]
            fewer = [number for number in fewer if self._expected_cost(untrained, number) < least]
        if fewer:
            self._walk({family: max(fewer)}, upward=False)

    def _expected_cost(self, alike: Sequence[Trial], number: int) -> float:
        """Return what a network costs at least, by one that costs about the same to run; 0 where there is none."""
        if not alike:
            return 0.0
        nearest = min(alike, key=lambda trial: abs(trial.candidate.number - number))
        cost, _ = nearest.cost(self._prefer)
        return cost * min(1.0, number / nearest.candidate.number)

    def _narrow_down(self) -> None:
        """Halve the gap between the time steps of the cheapest and those that are too few."""
        while self._best is not None:
            candidate = self._best.trial.candidate
            tried = self._tried(candidate.family)
            fewer = max((number for number in tried if number < candidate.number), default=0)
            between = (fewer + candidate.number) // 2
            # Bits in the mean have nothing between two of those listed.
            if between == fewer or candidate.family.mixed or self._try(candidate.family.at(between)) is None:
                return

    def _complete(self, listed: Sequence[Family]) -> None:
        """Try what falls short, but may be cheaper than all else: most time steps first."""
        least = {family: min(self._tried(family), default=0) for family in listed}
        found = [
            family.at(_NUMBERS[family.count][place])
            for place in reversed(range(len(_TIMESTEPS)))
            for family in listed
            if _NUMBERS[family.count][place] < least[family]
        ]
        self._make_ahead(found)
        for candidate in found:
            self._try(candidate)

    def _try(self, candidate: Candidate) -> Trial | None:
        """Make and measure a candidate, unless that was done; None where the time does not suffice."""
        if candidate in self._trials:
            return self._trials[candidate]
        if self._trials and self._expected_seconds(candidate) >= self._clock.left:
            self._cut_short = True
            return None
        try:
            made = self._ahead.pop(candidate, None) or self._make(candidate)
        except _OutOfTimeError:
            self._cut_short = True
            return None
        trial = self._judged(candidate, made.evaluation, made.seconds)
        self._trials[candidate] = trial
        self._reference = made.evaluation.reference
        self._keep(_Tried(trial, made))
        return trial

    def _make(self, candidate: Candidate) -> _Made:
        """Make and measure a candidate; raises _OutOfTimeError where the time does not suffice."""
        started, progress = time.monotonic(), self._guarded(candidate)
        networks = self._bench.make(candidate, progress)
        evaluation = self._bench.judge(networks[0], progress)
        # By how long it took is decided what is tried next, in all processes alike.
        return _Made(evaluation, current().folded("the time it took", time.monotonic() - started, max), networks)

    def _keep(self, tried: _Tried) -> None:
        """Hold on to a network while it may be needed: there is memory for a few, not for all."""
        trial, family = tried.trial, tried.trial.candidate.family
        if trial.kept and (self._best is None or trial.cost(self._prefer) < self._best.trial.cost(self._prefer)):
            self._best = tried
        if not self._accurate(trial):
            before = self._short.get(family)
            if before is None or before.trial.candidate.number < trial.candidate.number:
                self._short[family] = tried

    def _judged(self, candidate: Candidate, evaluation: Evaluation, seconds: float) -> Trial:
        (row,) = evaluation.rows
        task = self._bench.task
        lost = task.lost(row)
        if lost is None:
            message = f"the trained network has no {task.answer_name} to compare with"
            raise DataError(message, place="--data", hint=task.wanted or "give data that it answers")
        drop, interval = lost
        gate = self._limits.judged(row, drop, interval, evaluation.samples)
        held = interval[1] if self._limits.proven else drop
        return Trial(candidate, row, drop, interval, seconds, self._limits.excess(held, energy_ratio(row)), gate)

    def _guarded(self, candidate: Candidate) -> Progress:
        """Return the progress for a candidate; the first one is finished however long it takes."""

        def tell(label: str, done: int, total: int) -> None:
            self._progress(f"{candidate.title}: {label}", done, total)

        return self._clock.guarding(tell) if self._trials else tell

    def _expected_seconds(self, candidate: Candidate) -> float:
        """Return how long a candidate takes, by the last one of its kind; 0 where there was none."""
        family = candidate.family
        for trial in reversed(self._trials.values()):
            other = trial.candidate
            if (other.family.recipe, other.family.neuron) == (family.recipe, family.neuron):
                return trial.seconds * max(1.0, candidate.number / other.number)
        return 0.0

    def _list(self, family: Family) -> list[int]:
        """Return the time steps to try, in rising order: the most that are allowed are among them."""
        if self._limits.max_steps is None or family.count == "levels":
            return list(_NUMBERS[family.count])
        most = min(self._bench.most_timesteps(family, self._limits.max_steps), _TIMESTEPS[-1])
        return sorted({most, *(timesteps for timesteps in _TIMESTEPS if timesteps < most)}) if most > 0 else []

    def _tried(self, family: Family) -> dict[int, Trial]:
        return {c.number: trial for c, trial in self._trials.items() if c.family == family}

    def _accurate(self, trial: Trial) -> bool:
        return trial.gate.verdict != "failed"

    def _too_dear(self, trial: Trial) -> bool:
        """Return whether nothing that costs more can be advised: it breaks a limit, or another is cheaper."""
        if self._limits.excess(0.0, trial.energy_ratio) > 0:
            return True
        if self._best is None:
            return False
        kept = (other for other in self._trials.values() if other.kept)
        return any(other.steps <= trial.steps and other.energy <= trial.energy for other in kept)

    def _findings(self, best: Trial) -> tuple[Finding, ...]:
        found = []
        if self._cut_short:
            message = f"the time ({self._limits.minutes:g} min) was over before all was tried"
            hint = "give more --minutes: how much is tried depends on the speed of the computer, too"
            found.append(Finding("budget-spent", "warning", "", message, hint))
        task, judging = self._bench.task, self._bench.judging
        lost, wanted = task.loss(judging.labels(task.labels) is not None), task.loss(True)
        if lost != wanted:
            message = f"the data has no {task.labels} as labels: the drop is the {lost.title}"
            hint = f"for the drop in {wanted.measures}, {task.wanted}"
            found.append(Finding("no-labels", "info", "", message, hint))
        if best.kept and best.gate.proven is False:
            message = f"{best.candidate.title}: {best.gate.sentence}"
            hint = "give more images, and evaluate on others: of many candidates, the lucky ones come first"
            found.append(Finding("not-proven", "info", "", message, hint))
        return tuple(found)


def _shortfall(closest: Trial, limits: SearchLimits) -> str:
    missed = []
    if closest.gate.verdict == "failed":
        doubt = f" (not proven, {closest.gate.doubt})" if closest.gate.proven is False else ""
        missed.append(f"a drop of {written(closest.drop, 'points')}, allowed {limits.max_drop:g}{doubt}")
    if limits.max_energy is not None and limits.excess(0.0, closest.energy_ratio) > 0:
        missed.append(f"{number(closest.energy_ratio)} times the energy, allowed {limits.max_energy:g}")
    if not missed:
        return f"{closest.candidate.title} keeps to the limits, and none in whole numbers was tried in time"
    return f"nothing keeps to the limits; closest is {closest.candidate.title} with {' and '.join(missed)}"
