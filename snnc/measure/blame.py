"""Blame: how much of the loss each layer brings in.

A layer is its neurons and all that stands between them and the neurons before. Layers are switched from the trained
network to the spiking one, one after the other in random order, and each is charged with the answers that turn
wrong in that moment, less those that turn right. The mean over orders is the layer's Shapley value (Shapley, 1953;
estimated by sampling orders, Castro et al., 2009): the values add up to the whole loss, and layers that make up
for one another's errors, or add to them, share the blame. Every small group of images has an order of its own, so that
N layers cost N runs of each sample instead of 2^N, and the groups say how uncertain a value is. Where neurons only
count, a run starts at the layer that was switched: what lies before it is as it was.
"""

import functools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Generator

from snnc.data.samples import Samples
from snnc.errors import PreconditionError
from snnc.feeds import Feeds, Signals
from snnc.intervals import NORMAL_95, Interval
from snnc.ir import Graph
from snnc.neurons import Neuron, OrderFreeNeuron
from snnc.neurons.base import Timed, drawing
from snnc.run.program import Program, with_layout
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task, joined

# Small groups see many orders; larger ones would run faster.
_GROUP, _LEAST_GROUPS = 16, 16
# The most numbers of a group that are kept from one run to the next: a gigabyte.
_MOST_KEPT = 1 << 28


@dataclass(frozen=True)
class Charged:
    """What one layer (named by its neurons, the last by the output) adds to the loss: samples, and points of all."""

    name: str
    samples: float
    points: float
    interval: Interval | None


def layers_of(snn: Graph) -> dict[str, tuple[str, ...]]:
    """Return the nodes of every layer by the name of its neurons; what only the outputs need is the first output's.

    A node belongs to the first neurons that it reaches.
    """
    found: dict[str, list[str]] = {name: [] for name in (*snn.ops(Neuron), snn.outputs[0])}
    waiting = dict.fromkeys(snn.nodes)
    for name, members in found.items():
        before = snn.ancestors([name], stop=set(snn.ops(Neuron)) - {name})
        own = [node for node in waiting if node in before and (node == name or node not in found)]
        members += own
        for node in own:
            del waiting[node]
    found[snn.outputs[0]] += [node for node in waiting if node not in found]
    return {name: tuple(members) for name, members in found.items() if members}


def blame(
    canonical: Graph,
    snn: Graph,
    samples: Samples,
    labels: Answers | None,
    schedule: Schedule,
    task: Task,
    *,
    seed: int = 0,
) -> tuple[Charged, ...]:
    """Charge every layer with its part of the loss on samples, whose truth are ``labels``.

    Without labels the truth is what the trained network answers. ``canonical`` is the trained network in the form that
    the spiking one was made from: equal names, equal values.
    """
    layers = layers_of(snn)
    trained, spiking = with_layout(canonical), with_layout(snn)
    chunk, keep = Program(snn, schedule).chunk, _can_be_kept(snn)

    def charged(group: Feeds, first: int) -> dict[str, list[float]]:
        generator = drawing(seed, first)
        # What is random is drawn alike for all networks on a group, and otherwise for the next one.
        draws = int(torch.randint(2**62, (1,), generator=generator))
        known = [part.signals(schedule) for part in group.split(chunk)]
        answer = functools.partial(_answers, task, schedule=schedule, seed=draws, keep=keep)
        before, known = answer(hybrid(trained, spiking, layers, ()), known)
        truth = before if labels is None else labels[first : first + group.samples]
        lost = float(task.losses(before, truth).sum())
        order = [list(layers)[place] for place in torch.randperm(len(layers), generator=generator).tolist()]
        charges: dict[str, list[float]] = {}
        for done, name in enumerate(order, 1):
            network = hybrid(trained, spiking, layers, order[:done])
            changed = _behind(network, layers[name])
            known = [{node: signal for node, signal in part.items() if node not in changed} for part in known]
            found, known = answer(network, known)
            now = float(task.losses(found, truth).sum())
            charges[name] = [now - lost]
            lost = now
        return charges

    charges = samples.added(max(1, min(_GROUP, len(samples) // _LEAST_GROUPS)), charged)
    return tuple(_charged(name, charges[name], len(samples)) for name in layers)


def check_alike(canonical: Graph, snn: Graph) -> None:
    """Raise PreconditionError where the networks are not the same but for their operations and what passes put in.

    Only then can a layer of one stand in the place of that of the other.
    """
    stands_for: dict[str, str] = {}
    for name, node in snn.nodes.items():
        inputs = tuple(stands_for[value] for value in node.inputs)
        known = name in canonical.nodes
        if canonical.nodes[name].inputs != inputs if known else len(inputs) != 1:
            hint = "put the passes that change the network's form first in the recipe"
            raise PreconditionError("the trained network has another form here", place=node.place, hint=hint)
        stands_for[name] = name if known else inputs[0]
    if tuple(stands_for[name] for name in snn.outputs) != canonical.outputs:
        hint = "put the passes that change the network's form first in the recipe"
        raise PreconditionError("the trained network ends differently", place=snn.outputs[0], hint=hint)


def hybrid(canonical: Graph, snn: Graph, layers: dict[str, tuple[str, ...]], spiking: Iterable[str]) -> Graph:
    """Return the network in which only the layers named ``spiking`` are, and all others are as they were trained."""
    kept = set(spiking)
    plain = [node for name, members in layers.items() if name not in kept for node in members]
    graph = snn.with_ops({node: canonical.op(node) for node in plain if node in canonical.nodes})
    # What a pass put in, a bias of its own, is left out again.
    for node in plain:
        if node not in canonical.nodes:
            graph = graph.without(node)
    return graph


def _can_be_kept(snn: Graph) -> bool:
    """Return whether the mean of a signal is all there is to it, is the same whatever is run after it, and has room.

    Trains would fill the memory, and what is drawn at random depends on what was drawn before.
    """
    numbers = _GROUP * sum(torch.Size(shape).numel() for shape in snn.shapes.values())
    means = all(isinstance(op, OrderFreeNeuron) and not type(op).random for op in snn.ops(Timed).values())
    return means and numbers <= _MOST_KEPT


def _behind(graph: Graph, members: Iterable[str]) -> set[str]:
    """Return the members that are no inputs, and all nodes that are computed from them."""
    found = set(members) - set(graph.inputs)
    for name, node in graph.nodes.items():
        if not found.isdisjoint(node.inputs):
            found.add(name)
    return found


def _answers(
    task: Task, graph: Graph, known: Iterable[Signals], *, schedule: Schedule, seed: int, keep: bool
) -> tuple[Answers, list[Signals]]:
    """Return the answers from signals that are known, chunk by chunk, and what is known then.

    Those are the inputs and, where signals are kept, all that the answers were computed from.
    """
    outputs = task.judged(graph.outputs)
    want = graph.ancestors(outputs) if keep else {*graph.inputs, *outputs}
    reached = []
    for part in known:
        program = Program(graph, schedule, want=want, given=part)
        reached.append(program(Feeds({}), given=part, generator=Generator().manual_seed(seed)))
    return joined(task.answers([part[name][0] for name in outputs]) for part in reached), reached


def _charged(name: str, lost: list[float], samples: int) -> Charged:
    whole, groups = sum(lost), len(lost)
    points, interval = 100 * whole / samples, None
    if groups > 1:
        # Half a sample more that changed to either side: that nothing changed in a few samples proves little.
        half = NORMAL_95 * math.sqrt(groups * statistics.variance(lost) + 0.5)
        interval = points - 100 * half / samples, points + 100 * half / samples
    return Charged(name, whole, points, interval)
