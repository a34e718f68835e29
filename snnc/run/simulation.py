"""Run a graph, trained or spiking, over time.

A value on an edge is a signal ``[S, N, ...]``: S is the number of time steps, or 1 where every step is the same (the
image, and all that is computed from it before the first neuron) or where nobody downstream asks for the order of the
steps but only for their mean. A trained network is the case in which S is 1 everywhere.

Affine operations are applied to every step, with time folded into the batch. Any other stateless operation f is
lifted by temporal differences, y(t) = t·f(x̄_t) − (t−1)·f(x̄_{t−1}) with x̄_t the mean of the first t steps, so
that the mean of its output is f of the mean of its input. For max-pooling this is lateral-inhibition pooling
(CASC, Li et al. 2024): the cumulative output is the maximum of the cumulative inputs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron

Signals = dict[str, Tensor]

# Numbers in the largest signal of a chunk: about what the caches of one core hold, found by timing.
_CHUNK_ELEMENTS = 1 << 20


@torch.no_grad()
def run(
    graph: Graph,
    feeds: Mapping[str, Tensor],
    want: Iterable[str],
    timesteps: int = 1,
    *,
    step_by_step: bool = False,
    observe: Callable[[str, Tensor], None] | None = None,
) -> Signals:
    """Compute the signals ``[S, N, ...]`` of the nodes in ``want`` from the signals in ``feeds``.

    Feeds may be any nodes; what lies only behind them is not computed. Only the mean of a wanted signal is asked for,
    so S is 1, unless ``step_by_step`` keeps the order of the steps everywhere. ``observe`` is called with the
    name and the response of every neuron: ``[timesteps, N, ...]``, or ``[1, N, ...]``, its mean, where the order of
    its spikes is not asked for.
    """
    want = tuple(want)
    needed = graph.ancestors(want, stop=feeds)
    order = [node for name, node in graph.nodes.items() if name in needed]
    ordered = needed if step_by_step else _ordered(order, feeds)
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
        if isinstance(node.op, Neuron):
            # Spikes of both signs can be counted in the train only.
            as_train = name in ordered or (observe is not None and node.op.slope is not None)
            signal = _respond(node.op, inputs[0], timesteps, as_train)
            if observe is not None:
                observe(name, signal)
        else:
            signal = _lift(node.op, inputs)
        signals[name] = signal if name in ordered else _mean(signal)
        for value in expiring.get(name, ()):
            del signals[value]
    return {name: signals[name] if step_by_step else _mean(signals[name]) for name in want}


def stream(
    graph: Graph,
    batches: Iterable[Tensor],
    want: Iterable[str],
    timesteps: int = 1,
    *,
    observe: Callable[[str, Tensor], None] | None = None,
) -> Iterator[Signals]:
    """Run the graph over images ``[N, ...]`` in chunks that fit the cache, whatever the size of the batches.

    The chunks are always the same for the same images in the same order, so that nothing that is computed from them
    depends on the size of the batches that the reader happens to deliver.
    """
    fast = graph.map_tensors(channels_last)
    (name,) = graph.inputs
    want = tuple(want)
    for chunk in rechunk(batches, chunk_size(graph, timesteps)):
        images = channels_last(chunk).unsqueeze(0)
        yield run(fast, {name: images}, want, timesteps, observe=observe)


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


def chunk_size(graph: Graph, timesteps: int = 1) -> int:
    """Return how many samples to run at once: as many as keep the largest signal within the caches."""
    largest = max(torch.Size(shape).numel() for shape in graph.shapes.values())
    steps = timesteps if graph.ops(CausalNeuron) else 1
    return max(1, min(256, _CHUNK_ELEMENTS // (largest * steps)))


def channels_last(tensor: Tensor) -> Tensor:
    """Return a tensor of images or of kernels with the channels innermost: what convolutions on a CPU like."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _mean(signal: Tensor) -> Tensor:
    return signal if len(signal) == 1 else signal.mean(0, keepdim=True)


def _ordered(order: list[Node], feeds: Mapping[str, Tensor]) -> set[str]:
    """Return the nodes whose step order matters: a causal neuron lies behind them, stateless operations between."""
    found: set[str] = set()
    for node in reversed(order):
        if node.name in feeds or isinstance(node.op, OrderFreeNeuron):
            continue
        if isinstance(node.op, CausalNeuron) or node.name in found:
            found.update(node.inputs)
    return found


def _respond(neuron: Neuron, currents: Tensor, timesteps: int, ordered: bool) -> Tensor:
    if isinstance(neuron, OrderFreeNeuron) and not ordered:
        return neuron.mean_response(_mean(currents)[0], timesteps).unsqueeze(0)
    return neuron.respond(currents, timesteps)


def _lift(op: Op, inputs: list[Tensor]) -> Tensor:
    """Apply a stateless operation to signals."""
    if isinstance(op, Input):
        raise ValueError("the input of the network was not fed")
    steps = max(len(signal) for signal in inputs)
    if steps > 1 and not op.linear:
        return _temporal_difference(op, inputs, steps)
    folded = [_stretch(signal, steps).flatten(0, 1) for signal in inputs]
    result = op(*folded)
    return result.view(steps, len(folded[0]) // steps, *result.shape[1:])


def _temporal_difference(op: Op, inputs: list[Tensor], steps: int) -> Tensor:
    sums = [torch.zeros_like(signal[0]) for signal in inputs]
    outputs: list[Tensor] = []
    before: Tensor | None = None
    for t in range(1, steps + 1):
        sums = [total + signal[(t - 1) % len(signal)] for total, signal in zip(sums, inputs, strict=True)]
        after = op(*(total / t for total in sums)) * t
        outputs.append(after if before is None else after - before)
        before = after
    return torch.stack(outputs)


def _stretch(signal: Tensor, steps: int) -> Tensor:
    return signal if len(signal) == steps else signal.expand(steps, *signal.shape[1:])
