"""An exported file, run by another engine, against the network, run by snnc: spike for spike."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, final

import torch
from torch import Generator, Tensor

from snnc import intervals
from snnc.conversion import Conversion
from snnc.data.samples import MemorySamples, Samples
from snnc.feeds import Feeds, rechunk
from snnc.formats.match import LayerMatch, Match
from snnc.ir import Graph, Input, Node, rewired
from snnc.neurons import Neuron
from snnc.neurons.base import kind_of, mean_signal
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task, chosen, joined

if TYPE_CHECKING:
    from snnc.formats.format import Written

# Values that differ by less than this share of a spike hold the same spikes.
_SAME = 1e-3

# By the names of the outputs their means over time, [N, ...], and by layer of neurons the response.
Reply = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


@final
@dataclass(frozen=True)
class Bounds:
    """What an engine is held to: the fewest equal spikes of a layer, in percent, and the largest error of the outputs.

    ``given`` says from where on both engines are compared: "spikes", the same in the layers before, or "images".
    """

    equal: float
    output_error: float
    given: Literal["spikes", "images"]


class UnreadableError(Exception):
    """An engine does not read a file, for a reason in its own words."""


class Engine(Protocol):
    """Something that runs an exported file, and shows the spikes of some layers of neurons.

    Where ``expected`` is None, the file is to blame for spikes that are not those of the network. Where it is an
    engine, this one is known to read the file as that one does, and the file is to blame where it does not; where it
    does, and differs from the network, ``note`` says why. Without a tolerance the file is never to blame, and the
    engine is run to tell what such a reader makes of the file.
    """

    @property
    def name(self) -> str:
        """What it is called, with its version."""
        ...

    @property
    def layers(self) -> Collection[str]:
        """The layers whose spikes it shows."""
        ...

    @property
    def schedule(self) -> Schedule:
        """For how long it runs the file."""
        ...

    @property
    def tolerance(self) -> Bounds | None:
        """What it is held to."""
        ...

    @property
    def expected(self) -> Engine | None:
        """What it is known to do; None for what the network does."""
        ...

    @property
    def note(self) -> str:
        """Why the file is not to blame for what it does otherwise than the network."""
        ...

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        """Run samples: the mean outputs over time, and by layer the response.

        A response is ``[S, N, ...]``, spikes times their weight, or its mean over time, ``[1, N, ...]``. What is random
        is drawn from ``generator``, as ``snnc.run`` draws it. Raises UnreadableError where the engine does not read the
        file.
        """
        ...


def noise(inputs: Mapping[str, Input], count: int, seed: int) -> Samples:
    """Return synthetic samples: independent values of the kind that each input takes, the same for the same seed."""
    generator = Generator().manual_seed(seed)
    return MemorySamples(Feeds({name: op.drawn(count, generator) for name, op in inputs.items()}))


def verify(conversion: Conversion, written: Written[Any], engine: Engine, samples: Samples) -> Match:
    """Run a file in an engine, and the network that it was made from, over samples: spike for spike.

    Random neurons are given the same random numbers in both.
    """
    fixed: dict[str, Any] = {
        "format": written.format,
        "variant": written.variant,
        "engine": engine.name,
        "timesteps": engine.schedule.timesteps,
    }
    try:
        kinds = frozenset[str]() if samples.dataset is None else samples.dataset.kinds
        task = chosen(conversion.task, conversion.snn, kinds)
        found = _Runs(conversion.snn, engine, samples, task)
    except UnreadableError as refusal:
        return Match(**fixed, images=0, verdict="noted", remark=f"does not read it: {refusal}")
    given = found.alone if engine.tolerance is not None and engine.tolerance.given == "spikes" else found.together
    worst = min(given.compared, key=given.share, default="")
    verdict, remark = found.verdict(given)
    rounding = verdict == "failed" and bool(worst) and found.rounds(worst, given, samples)
    labels = samples.labels(found.task.labels)
    # Where answers are right in part, how many are says less than a score.
    right = None if labels is None or found.task.score_name != "accuracy" else labels.answers
    here, there = found.answers_here, found.answers_there
    lost = _lost(here, there, right)
    return Match(
        **fixed,
        images=len(here),
        verdict=verdict,
        noise=samples.dataset is None,
        equal=given.share(),
        worst_layer=worst,
        worst_equal=given.share(worst) if worst else None,
        output_error=_finite(given.error),
        agreement=_percent(found.task, here, there),
        accuracy=_percent(found.task, here, right),
        accuracy_there=_percent(found.task, there, right),
        remark=remark,
        lost=None if lost is None else 100 * (lost[0] - lost[1]) / len(here),
        lost_interval=None if lost is None else intervals.paired(*lost, len(here)),
        together=found.together.share(),
        together_error=_finite(found.together.error),
        expected=None if engine.expected is None else found.known.share(),
        layers=tuple(
            LayerMatch(name, kind_of(conversion.snn.op(name)), found.alone.share(name), found.together.share(name))
            for name in found.alone.compared
        ),
        rounding=rounding,
    )


@final
class _Runs:
    """An engine and the network after each chunk of samples: alone, together, and against what is expected."""

    def __init__(self, snn: Graph, engine: Engine, samples: Samples, task: Task) -> None:
        self._engine, self._snn = engine, snn
        self._relays = [_relay(name) for name in engine.layers]
        self.task = task
        schedule, expected = engine.schedule, engine.expected
        self.alone, self.together, self.known = (_Comparison(snn, schedule) for _ in range(3))
        want = [*snn.outputs, *(name for name in snn.ops(Neuron) if name in engine.layers)]
        # Who is compared from the images on answers step by step, and so do we, for sums in the same order.
        trains = engine.tolerance is None or engine.tolerance.given == "images"
        own = Program(snn, schedule, want=want, trains=trains)
        relayed = Program(_relayed(own.graph), schedule, want=want, given=self._relays, trains=trains)
        judged = task.judged(snn.outputs)
        answers: list[tuple[Answers, Answers]] = []
        for seed, feeds in enumerate(rechunk(samples.batches(), own.chunk)):
            answer, spikes = engine.answer(feeds, Generator().manual_seed(seed))
            if expected is not None:
                outputs, fired = expected.answer(feeds, Generator().manual_seed(seed))
                self.known.see_outputs(answer, outputs)
                for name, train in fired.items():
                    self.known.see(spikes, name, train)
            there = {_relay(name): train for name, train in spikes.items()}
            for program, given, comparison in ((relayed, there, self.alone), (own, {}, self.together)):
                observe = functools.partial(comparison.see, spikes)
                generator = Generator().manual_seed(seed)
                signals = program(feeds, given=given, observe=observe, generator=generator)
                here = {name: mean_signal(signals[name], schedule)[0] for name in snn.outputs}
                comparison.see_outputs(answer, here)
            both = (task.answers([outputs[name] for name in judged]) for outputs in (here, answer))
            answers.append((next(both), next(both)))
        self.answers_here, self.answers_there = (joined(parts) for parts in zip(*answers, strict=True))

    def rounds(self, layer: str, given: _Comparison, samples: Samples) -> bool:
        """Return whether rounding decides: in double precision, half of a layer's odd spikes are odd here, too."""
        schedule, single = self._engine.schedule, _relayed(self._snn)
        own = Program(self._snn, schedule, want=[layer], trains=True)
        double = Program(single.map_tensors(_doubled), schedule, want=[layer], given=self._relays, trains=True)
        compared = _Comparison(self._snn, schedule)
        for seed, feeds in enumerate(rechunk(samples.batches(), own.chunk)):
            fired = {name: train.double() for name, train in self._fired(own, feeds, seed).items()}
            there = {_relay(name): train for name, train in fired.items() if _relay(name) in self._relays}
            wide = Feeds({name: _doubled(values) for name, values in feeds.items()})
            precise = double(wide, given=there, generator=Generator().manual_seed(seed))
            compared.see(fired, layer, precise[layer])
        return 100 - compared.share(layer) >= (100 - given.share(layer)) / 2

    def _fired(self, own: Program, feeds: Feeds, seed: int) -> dict[str, Tensor]:
        """Return what every layer of neurons fires here."""
        fired: dict[str, Tensor] = {}
        own(feeds, observe=fired.__setitem__, generator=Generator().manual_seed(seed))
        return fired

    def verdict(self, given: _Comparison) -> tuple[Literal["passed", "failed", "noted"], str]:
        """Return whether the file is right, and why not."""
        tolerance, note = self._engine.tolerance, self._engine.note
        if tolerance is None:
            return "noted", note
        mismatch = (given if self._engine.expected is None else self.known).mismatch(tolerance)
        if mismatch:
            return "failed", mismatch
        # It does what it always does, which may not be what the file says.
        return ("noted", note) if given.mismatch(tolerance) else ("passed", "")


@final
class _Comparison:
    """Spikes counted, and those of them that are equal, by the names of the neurons; and all outputs in a row."""

    def __init__(self, snn: Graph, schedule: Schedule) -> None:
        self.compared: dict[str, int] = {}
        self._equal: dict[str, int] = {}
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._snn = snn
        self._neurons = snn.ops(Neuron)
        self._schedule = schedule

    def see(self, spikes: Mapping[str, Tensor], name: str, response: Tensor) -> None:
        there = spikes[name]
        here = response if len(there) == len(response) else mean_signal(response, self._schedule)
        there = there if len(there) == len(here) else mean_signal(there, self._schedule)
        steps = 1 if len(here) == self._schedule.total else self._schedule.timesteps
        same = (here - there).abs() <= _SAME * self._neurons[name].threshold / steps
        self._equal[name] = self._equal.get(name, 0) + int(same.sum())
        self.compared[name] = self.compared.get(name, 0) + same.numel()

    def see_outputs(self, there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
        self._outputs.append((self._row(there), self._row(here)))

    def _row(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([outputs[name].flatten(1) for name in self._snn.outputs], 1)

    def share(self, *names: str) -> float:
        """Return the equal ones of some layers, or of all, in percent."""
        chosen = names or tuple(self.compared)
        total = sum(self.compared[name] for name in chosen)
        return 100 * sum(self._equal[name] for name in chosen) / total if total else 100.0

    @property
    def error(self) -> float:
        """The distance (L2) of the outputs, as a share of those here."""
        there, here = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        return float((here - there).double().norm() / here.double().norm().clamp(min=1e-30))

    def mismatch(self, tolerance: Bounds) -> str:
        """Return what is beyond tolerance: the first such layer, or the outputs; "" where nothing is."""
        for name in self.compared:
            if self.share(name) < tolerance.equal:
                return f"layer {name!r} fires {self.share(name):.3f} % of its spikes"
        return "" if self.error <= tolerance.output_error else f"the outputs differ by {self.error:.1e}"


def _relayed(snn: Graph) -> Graph:
    """Return the network with an input beside every neuron, which those behind it read instead."""
    names = {name: _relay(name) for name in snn.ops(Neuron)}
    inputs = [Node(relay, Input(snn.shapes[name]), ()) for name, relay in names.items()]
    return Graph.of([*inputs, *(rewired(node, names) for node in snn.nodes.values())], snn.outputs)


def _doubled(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


def _relay(name: str) -> str:
    return f"{name} elsewhere"


def _percent(task: Task, answers: Answers, truth: Answers | None) -> float | None:
    """Return how many answers are right, None where that is not known or answers are hardly ever the same."""
    right = None if truth is None else task.agreeing(answers, truth)
    return None if right is None else 100 * (right / len(answers))


def _lost(here: Answers, there: Answers, truth: Answers | None) -> tuple[int, int] | None:
    """Return how many answers only the network has right, and how many only the reader."""
    if not (isinstance(here, Tensor) and isinstance(there, Tensor) and isinstance(truth, Tensor)):
        return None
    own, other = here == truth, there == truth
    return int((own & ~other).sum()), int((other & ~own).sum())


def _finite(value: float) -> float | None:
    """Return None for what is no finite number: an engine may answer anything."""
    return value if math.isfinite(value) else None
