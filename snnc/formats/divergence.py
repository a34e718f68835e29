"""Where spikes that were fired elsewhere are others than those of the network, and first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from torch import Generator, Tensor

from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.feeds import Feeds
from snnc.ir import Graph, Input
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import kind_of, stretched
from snnc.run import Program
from snnc.schedule import Schedule


@final
@dataclass(frozen=True)
class First:
    """A spike that is another there: ``neuron`` is its place in the layer, and numbers are signed.

    Of the first of all layers, ``current`` is what comes in at the step, ``potential`` the membrane's after it, and
    ``potential_there`` what the file says of it; None of neurons that gather their input first.
    """

    layer: str
    neuron: tuple[int, ...]
    sample: int
    step: int
    here: int
    there: float
    threshold: float
    current: float | None = None
    potential: float | None = None
    potential_there: float | None = None


@final
@dataclass(frozen=True)
class LayerDivergence:
    """The spikes of a layer, at every step and of every sample, that are the same there, in percent, and the first."""

    name: str
    neuron: str
    equal: float
    first: First | None = None


@final
@dataclass(frozen=True)
class Divergence:
    """All layers that were compared, in order, and those that were not ``given``."""

    layers: tuple[LayerDivergence, ...]
    missing: tuple[str, ...]
    samples: int
    steps: int

    @property
    def first(self) -> First | None:
        """The spike that comes first: at the earliest step, of the layer that all others at it are behind."""
        found = (layer.first for layer in self.layers if layer.first is not None)
        return min(found, key=lambda first: first.step, default=None)

    @property
    def equal(self) -> bool:
        """Whether all spikes are the same."""
        return self.first is None


def divergence(
    conversion: Conversion,
    theirs: Mapping[str, Tensor],
    samples: Mapping[str, Tensor],
    *,
    place: str,
    samples_place: str = "",
    partial: bool = False,
    seed: int = 0,
) -> Divergence:
    """Compare ``theirs``, vectors by their names, with what the network fires for the inputs in ``samples``.

    With ``partial``, layers may be missing; neurons that draw do so from the ``seed``. Raises DataError where inputs or
    layers are missing, of another shape or not finite, at the ``place`` of theirs or, where that is another,
    at the ``samples_place``.
    """
    snn, schedule = conversion.snn, conversion.schedule
    theirs, samples = _in_shape(snn, theirs), _in_shape(snn, samples)
    feeds = _inputs(snn, samples, samples_place or place)
    neurons = snn.without_dead().ops(Neuron)
    trains = {name: theirs[f"spikes.{name}"] for name in neurons if f"spikes.{name}" in theirs}
    missing = tuple(name for name in neurons if name not in trains)
    if missing and not (partial and trains):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        hint = (
            "give an array of that name for each, or add --partial" if trains else "give an array of that name for each"
        )
        raise DataError(f"no spikes.{missing[0]}{more}", place=place, hint=hint)
    for name, train in trains.items():
        wanted = (schedule.total, feeds.samples, *snn.shapes[name])
        if train.shape != wanted:
            hint = f"give {[*wanted]}: steps, samples, and what the layer is of"
            raise DataError(f"spikes.{name} are of {[*train.shape]}", place=place, hint=hint)
    _check_finite({name: theirs[name] for name in theirs if name.startswith(("spikes.", "potential."))}, place)
    equal, first = _compared(snn, schedule, feeds, trains, seed)
    found = Divergence(
        tuple(
            LayerDivergence(name, kind_of(neurons[name]), 100 * equal[name] / max(train.numel(), 1), first.get(name))
            for name, train in trains.items()
        ),
        missing,
        feeds.samples,
        schedule.total,
    )
    spike = found.first
    if spike is None or not isinstance(neurons[spike.layer], CausalNeuron):
        return found
    explained = _explained(snn, schedule, feeds, spike, theirs.get(f"potential.{spike.layer}"))
    layers = (replace(layer, first=explained) if layer.first is spike else layer for layer in found.layers)
    return replace(found, layers=tuple(layers))


def _in_shape(snn: Graph, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return vectors with the axes of their nodes where all numbers of a sample stand in one row."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        kind, _, node = name.partition(".")
        shape = snn.shapes.get(node or snn.inputs[0], ())
        outer = 1 if kind == "input" else 2
        if tensor.ndim == outer + 1 and tensor.shape[outer:] == (math.prod(shape),):
            found[name] = tensor.reshape(*tensor.shape[:outer], *shape)
    return found


def _inputs(snn: Graph, samples: Mapping[str, Tensor], place: str) -> Feeds:
    found = {}
    for name, op in snn.ops(Input).items():
        key = "input" if len(snn.inputs) == 1 else f"input.{name}"
        if key not in samples:
            raise DataError(f"no array {key}", place=place, hint="put it in, or add --vectors FILE, which has it")
        if samples[key].shape[1:] != op.shape or not len(samples[key]):
            hint = f"give {['N', *op.shape]}, as the network takes it".replace("'", "")
            raise DataError(f"{key} is of {[*samples[key].shape]}", place=place, hint=hint)
        _check_finite({key: samples[key]}, place)
        found[name] = samples[key] if op.numbers != "real" else samples[key].float()
    if len({len(values) for values in found.values()}) > 1:
        raise DataError("inputs of different numbers of samples", place=place, hint="give as many of each")
    return Feeds(found)


def _check_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise DataError(f"{name} holds what is not finite", place=place, hint="give finite numbers")


def _compared(
    snn: Graph, schedule: Schedule, feeds: Feeds, trains: Mapping[str, Tensor], seed: int
) -> tuple[dict[str, int], dict[str, First]]:
    """Return how many spikes of each layer are equal, and the first that is not."""
    program, neurons = Program(snn, schedule, trains=True), snn.ops(Neuron)
    equal = dict.fromkeys(trains, 0)
    first: dict[str, First] = {}
    start = 0

    def observe(name: str, response: Tensor) -> None:
        if name not in trains:
            return
        here = neurons[name].fired(response, schedule)
        there = trains[name].narrow(1, start, response.shape[1]).to(here.dtype)
        different = here != there
        equal[name] += different.numel() - int(different.sum())
        if not different.any():
            return
        step, sample, *neuron = different.nonzero()[0].tolist()
        if name in first and first[name].step <= step:
            return
        at = (step, sample, *neuron)
        threshold = float(neurons[name].threshold.expand(snn.shapes[name])[tuple(neuron)])
        first[name] = First(name, tuple(neuron), start + sample, step, int(here[at]), float(there[at]), threshold)

    generator = Generator().manual_seed(seed)
    for chunk in feeds.split(program.chunk):
        program(chunk, observe=observe, generator=generator)
        start += chunk.samples
    return equal, first


def _explained(snn: Graph, schedule: Schedule, feeds: Feeds, spike: First, there: Tensor | None) -> First:
    """Return a spike with what drove its neuron, here and, if they say so, there."""
    (source,) = snn.nodes[spike.layer].inputs
    one = feeds.part(spike.sample, spike.sample + 1)
    currents = stretched(Program(snn, schedule, want=[source], trains=True)(one)[source], schedule)
    neuron = snn.op(spike.layer)
    assert isinstance(neuron, CausalNeuron)
    at = (spike.step, 0, *spike.neuron)
    known = there is not None and there.shape == (schedule.total, feeds.samples, *snn.shapes[spike.layer])
    return replace(
        spike,
        current=float(currents[at]),
        potential=float(neuron.potentials(currents, schedule)[at]),
        potential_there=float(there[spike.step, spike.sample][spike.neuron]) if known and there is not None else None,
    )
