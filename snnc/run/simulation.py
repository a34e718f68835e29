"""Run a graph, trained or spiking, over time.

A value on an edge is a signal ``[S, N, ...]``: S is the number of steps of the schedule, or 1 where every step is the
same (the image, and all that is computed from it before the first neuron) or where nobody downstream asks for the
order of the steps but only for their mean. A trained network is the case in which S is 1 everywhere.

Affine operations are applied to every step, with time folded into the batch, and lose their constant part in sleep.
Any other stateless operation f is lifted by temporal differences, y(t) = t·f(x̄_t) − (t−1)·f(x̄_{t−1}) with x̄_t the
mean of the first t steps, so that the mean of its output is f of the mean of its input; in sleep t stays. For
max-pooling this is lateral-inhibition pooling (CASC, Li et al. 2024): the cumulative output is the maximum of the
cumulative inputs.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron, OrderFreeNeuron
from snnc.neurons.base import Timed, is_silent, mean_signal, seeded
from snnc.schedule import Schedule

Signals = dict[str, Tensor]

# Numbers in the largest signal of a chunk: about what the caches of one core hold, found by timing.
_CHUNK_ELEMENTS = 1 << 20

# A trained network is run for one step.
ONCE = Schedule(1)


@torch.no_grad()
def run(
    graph: Graph,
    feeds: Mapping[str, Tensor],
    want: Iterable[str],
    schedule: Schedule = ONCE,
    *,
    step_by_step: bool = False,
    observe: Callable[[str, Tensor], None] | None = None,
    generator: Generator | None = None,
) -> Signals:
    """Compute the signals ``[S, N, ...]`` of the nodes in ``want`` from the signals in ``feeds``.

    Feeds may be any nodes; what lies only behind them is not computed. Only the mean of a wanted signal is asked for,
    so S is 1, unless ``step_by_step`` keeps the order of the steps everywhere. ``observe`` is called with the
    name and the response of every neuron: ``[schedule.total, N, ...]``, or ``[1, N, ...]``, its mean, where the order
    of its spikes is not asked for. What neurons draw at random is drawn from ``generator`` (None: one with seed 0).
    """
    want = tuple(want)
    generator = seeded(generator)
    needed = graph.ancestors(want, stop=feeds)
    order = [node for name, node in graph.nodes.items() if name in needed]
    ordered = needed if step_by_step else order_matters(order, feeds)
    last_use = {value: node.name for node in order if node.name not in feeds for value in node.inputs}
    expiring: dict[str, list[str]] = {}
    for value, reader in last_use.items():
        if value not in want:
            expiring.setdefault(reader, []).append(value)
    signals: Signals = {}
    for node in order:
        name = node.name
        if name in feeds:
            signals[name] = feeds[name]
            continue
        inputs = [signals[value] for value in node.inputs]
        if isinstance(node.op, Timed):
            # Spikes of both signs can be counted in the train only.
            counted = observe is not None and isinstance(node.op, Neuron) and node.op.slope is not None
            signal = _respond(node.op, inputs[0], schedule, name in ordered or counted, generator)
            if observe is not None and isinstance(node.op, Neuron):
                observe(name, signal)
        else:
            signal = _lift(node.op, inputs, schedule)
        signals[name] = signal if name in ordered else mean_signal(signal, schedule)
        for value in expiring.get(name, ()):
            del signals[value]
    return {name: signals[name] if step_by_step else mean_signal(signals[name], schedule) for name in want}


def stream(
    graph: Graph,
    batches: Iterable[Tensor],
    want: Iterable[str],
    schedule: Schedule = ONCE,
    *,
    observe: Callable[[str, Tensor], None] | None = None,
    generator: Generator | None = None,
) -> Iterator[Signals]:
    """Run the graph over images ``[N, ...]`` in chunks that fit the cache, whatever the size of the batches.

    The chunks are always the same for the same images in the same order, so that nothing that is computed from them
    depends on the size of the batches that the reader happens to deliver.
    """
    fast = graph.map_tensors(channels_last)
    (name,) = graph.inputs
    want = tuple(want)
    generator = seeded(generator)
    for chunk in rechunk(batches, chunk_size(graph, schedule)):
        images = channels_last(chunk).unsqueeze(0)
        yield run(fast, {name: images}, want, schedule, observe=observe, generator=generator)


def predicted(output: Tensor) -> Tensor:
    """Return the prediction ``[N]`` that an output ``[N, ...]`` stands for.

    The place of the largest value; of a single value, which has no other, the sign (a decision between two).
    """
    flat = output.flatten(1)
    return flat.argmax(1) if flat.shape[1] > 1 else (flat[:, 0] > 0).long()


def rechunk(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Cut a stream of batches into chunks of ``size`` samples; the last one may be smaller."""
    rest: list[Tensor] = []
    held = 0
    for batch in batches:
        rest.append(batch)
        held += len(batch)
        while held >= size:
            joined = torch.cat(rest) if len(rest) > 1 else rest[0]
            yield joined[:size]
            rest, held = [joined[size:]], held - size
    if held:
        yield torch.cat(rest) if len(rest) > 1 else rest[0]


def chunk_size(graph: Graph, schedule: Schedule = ONCE) -> int:
    """Return how many samples to run at once: as many as keep the largest signal within the caches."""
    largest = max(torch.Size(shape).numel() for shape in graph.shapes.values())
    ordered = any(not isinstance(neuron, OrderFreeNeuron) for neuron in graph.ops(Timed).values())
    steps = schedule.total if ordered else 1
    return max(1, min(256, _CHUNK_ELEMENTS // (largest * steps)))


def channels_last(tensor: Tensor) -> Tensor:
    """Return a tensor of images or of kernels with the channels innermost: what convolutions on a CPU like."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def order_matters(order: Sequence[Node], feeds: Container[str] = ()) -> set[str]:
    """Return the nodes whose step order matters: a neuron that asks for it lies behind them, no other between.

    ``order`` is topological; what is behind a node of ``feeds`` only does not count.
    """
    found: set[str] = set()
    for node in reversed(order):
        if node.name in feeds or isinstance(node.op, OrderFreeNeuron):
            continue
        if isinstance(node.op, Neuron) or node.name in found:
            found.update(node.inputs)
    return found


def _respond(op: Timed, currents: Tensor, schedule: Schedule, ordered: bool, generator: Generator) -> Tensor:
    if isinstance(op, OrderFreeNeuron) and not ordered:
        return op.mean_response(mean_signal(currents, schedule)[0], schedule, generator).unsqueeze(0)
    return op.respond(currents, schedule, generator)


def _lift(op: Op, inputs: list[Tensor], schedule: Schedule) -> Tensor:
    """Apply a stateless operation to signals."""
    if isinstance(op, Input):
        raise ValueError("the input of the network was not fed")
    if all(len(signal) == 1 for signal in inputs):
        return op(*(signal[0] for signal in inputs)).unsqueeze(0)
    signals = [stretched(signal, schedule) for signal in inputs]
    if not op.linear:
        parts = (slice(0, schedule.rehearsal), slice(schedule.rehearsal, None))
        awake = (schedule.rehearsal, schedule.timesteps)
        pieces = [_temporal_difference(op, [s[p] for s in signals], a) for p, a in zip(parts, awake, strict=True) if a]
        return torch.cat(pieces)
    steps = _stirring(signals, schedule)
    result = op(*(signal[:steps].flatten(0, 1) for signal in signals))
    result = result.view(steps, signals[0].shape[1], *result.shape[1:])
    if schedule.sleep:
        constant = op(*(torch.zeros_like(signal[0, :1]) for signal in signals))
        # Without a constant part the result may be a view of the input, which is not ours to write to.
        if constant.any():
            result[schedule.lit :] -= constant
    if steps < schedule.total:
        result = torch.cat([result, torch.zeros_like(result[:1]).expand(schedule.total - steps, *result.shape[1:])])
    return result


def _stirring(signals: list[Tensor], schedule: Schedule) -> int:
    """Return after how many steps nothing more comes: asleep, where all is silent, there is nothing to compute."""
    steps = schedule.total
    while steps > schedule.lit and all(is_silent(signal[steps - 1]) for signal in signals):
        steps -= 1
    return steps


def _temporal_difference(op: Op, inputs: list[Tensor], awake: int) -> Tensor:
    sums = [torch.zeros_like(signal[0]) for signal in inputs]
    outputs: list[Tensor] = []
    before: Tensor | None = None
    for t in range(len(inputs[0])):
        sums = [total + signal[t] for total, signal in zip(sums, inputs, strict=True)]
        steps = min(t + 1, awake)
        after = op(*(total / steps for total in sums)) * steps
        outputs.append(after if before is None else after - before)
        before = after
    return torch.stack(outputs)


def stretched(signal: Tensor, schedule: Schedule) -> Tensor:
    """Return a signal with all its steps: a constant one is on as long as the image is."""
    if len(signal) == schedule.total:
        return signal
    on = signal.expand(schedule.lit, *signal.shape[1:])
    return torch.cat([on, torch.zeros_like(signal).expand(schedule.sleep, *signal.shape[1:])]) if schedule.sleep else on
