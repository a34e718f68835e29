"""An exported file, run by another engine, against the network, run by snnc: spike for spike."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph, Input, Node, rewired
from snnc.neurons import Neuron
from snnc.neurons.base import mean_signal
from snnc.run import Program, predicted
from snnc.schedule import Schedule

# Fewest equal spikes of a layer, in percent, and the largest relative error of the outputs, from equal input. Sums in
# another order round differently, and a potential that comes so close to its threshold fires a step earlier or later.
TOLERANCE = 99.99
OUTPUT_TOLERANCE = 1e-4

# Values that differ by less than this share of a spike hold the same spikes.
_SAME = 1e-3


@dataclass(frozen=True)
class LayerMatch:
    """The spikes of a layer, at every step and of every image, that are the same in both engines, in percent.

    ``alone`` compares what both fire where the layers before fired what they fire in the other; ``together``, what
    they fire where every layer is fed by its own engine, so that one spike that comes a step later moves others behind
    it. Of neurons that gather their input first the file may hold the mean, which says all: their steps are equal or
    not together.
    """

    name: str
    neuron: str
    alone: float
    together: float


@dataclass(frozen=True)
class Match:
    """What both engines answer to the same images for the same number of time steps.

    ``alone`` and ``together`` are those of ``LayerMatch``, over the spikes of all layers. So are the relative
    distances (L2) of the outputs, all of them together: ``readout_error`` from the same spikes, ``output_error`` from
    the images. ``agreement`` is the percentage of predictions, by the first output, that are the same; accuracies are
    in percent, and None without labels.
    """

    timesteps: int
    images: int
    layers: tuple[LayerMatch, ...]
    alone: float
    together: float
    readout_error: float
    output_error: float
    agreement: float
    accuracy: float | None
    accuracy_there: float | None

    @property
    def mismatch(self) -> str:
        """What is beyond tolerance: the first such layer, or the outputs; "" where nothing is."""
        for layer in self.layers:
            if layer.alone < TOLERANCE:
                return f"layer {layer.name!r} fires {layer.alone:.3f} % of its spikes"
        if not self.readout_error <= OUTPUT_TOLERANCE:
            return f"the outputs differ by {self.readout_error:.1e}"
        return ""


class Engine(Protocol):
    """Something that runs an exported file, and shows the spikes of some layers of neurons."""

    @property
    def layers(self) -> Collection[str]:
        """The layers whose spikes it shows."""
        ...

    def answer(self, images: Tensor, generator: Generator) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        """Run images ``[N, ...]``: the mean outputs over time, and by layer the response.

        A response is ``[S, N, ...]``, or its mean over time, ``[1, N, ...]``. What is random is drawn from
        ``generator``, as ``snnc.run`` draws it.
        """
        ...


def match(
    engine: Engine, snn: Graph, schedule: Schedule, batches: Iterable[Tensor], labels: Tensor | None = None
) -> Match:
    """Run a file in an engine, and the network that it was made from, over images ``[N, ...]``.

    Random neurons are given the same random numbers in both.
    """
    (image,) = snn.inputs
    want = [*snn.outputs, *(name for name in snn.ops(Neuron) if name in engine.layers)]
    own = Program(snn, schedule, want=want)
    relayed = Program(_relayed(own.graph), schedule, want=want, given=[_relay(name) for name in engine.layers])
    alone, together = _Comparison(snn, schedule), _Comparison(snn, schedule)
    answers: list[tuple[_Answer, _Answer, _Answer]] = []
    for seed, feeds in enumerate(rechunk((Feeds({image: batch}) for batch in batches), own.chunk)):
        answer, spikes = engine.answer(feeds[image].contiguous(), Generator().manual_seed(seed))
        relays = {_relay(name): train for name, train in spikes.items()}
        found = []
        for program, given, comparison in ((relayed, relays, alone), (own, {}, together)):
            generator = Generator().manual_seed(seed)
            observe = functools.partial(comparison.see, spikes)
            signals = program(feeds, given=given, observe=observe, generator=generator)
            found.append(_Answer.of([signals[name][0] for name in snn.outputs]))
        answers.append((_Answer.of(answer), found[0], found[1]))
    there, read, here = (_Answer.joined(parts) for parts in zip(*answers, strict=True))
    return Match(
        timesteps=schedule.timesteps,
        images=len(here.predictions),
        layers=tuple(
            LayerMatch(name, type(snn.op(name)).__name__, alone.share(name), together.share(name))
            for name in alone.compared
        ),
        alone=alone.share(),
        together=together.share(),
        readout_error=relative_error(there.outputs, read.outputs),
        output_error=relative_error(there.outputs, here.outputs),
        agreement=percent(here.predictions == there.predictions),
        accuracy=None if labels is None else percent(here.predictions == labels),
        accuracy_there=None if labels is None else percent(there.predictions == labels),
    )


@dataclass(frozen=True, eq=False)
class _Answer:
    """All outputs in a row, ``[N, ...]``, and what is predicted by the first of them."""

    outputs: Tensor
    predictions: Tensor

    @classmethod
    def of(cls, outputs: Sequence[Tensor]) -> _Answer:
        return cls(torch.cat([output.flatten(1) for output in outputs], 1), predicted(outputs[0]))

    @classmethod
    def joined(cls, parts: Sequence[_Answer]) -> _Answer:
        return cls(torch.cat([part.outputs for part in parts]), torch.cat([part.predictions for part in parts]))


class _Comparison:
    """Spikes counted, and those of them that are equal, by the names of the neurons."""

    def __init__(self, snn: Graph, schedule: Schedule) -> None:
        self.compared: dict[str, int] = {}
        self._equal: dict[str, int] = {}
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

    def share(self, *names: str) -> float:
        """Return the equal ones of some layers, or of all, in percent."""
        chosen = names or tuple(self.compared)
        total = sum(self.compared[name] for name in chosen)
        return 100 * sum(self._equal[name] for name in chosen) / total if total else 100.0


def _relayed(snn: Graph) -> Graph:
    """Return the network with an input beside every neuron, which those behind it read instead."""
    names = {name: _relay(name) for name in snn.ops(Neuron)}
    inputs = [Node(relay, Input(snn.shapes[name]), ()) for name, relay in names.items()]
    return Graph.of([*inputs, *(rewired(node, names) for node in snn.nodes.values())], snn.outputs)


def _relay(name: str) -> str:
    return f"{name} elsewhere"


def relative_error(there: Tensor, here: Tensor) -> float:
    """Return the distance (L2) of both, as a share of what is here."""
    return float((here - there).double().norm() / here.double().norm().clamp(min=1e-30))


def percent(hits: Tensor) -> float:
    """Return how many are true, in percent."""
    return 100 * float(hits.double().mean())
