"""Correct, layer by layer, what the conversion did to the layers before.

No labels, no gradients. In topological order, each layer seeing the already converted network before it:

  1. weights and bias: the damped least squares solution of z_ANN ≈ W·a_SNN + b, started from the trained weights, where
     samples held out say that it does better than another bias;
  2. bias: b_c += mean(z_ANN − z_SNN), exactly, on all samples looked at;
  3. bias again, on the output: b_c += mean(ReLU(z_ANN) − φ_T(z_SNN)).

Steps 2 and 3 are those of bias correction in quantization (Nagel et al., ICCV 2019). Step 1 solves in closed form, per
layer, what reconstruction by gradient descent approximates.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_count, channel_rows, from_channels
from snnc.analysis.patches import patches, positions
from snnc.calibration import Calibration
from snnc.data.store import FeedsStore, Pieces, Store
from snnc.feeds import Feeds, laid_out, rechunk
from snnc.files import temporary_folder
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Clipped,
    Mean,
    Nonlinear,
    Pool,
    Quantized,
    Resample,
    Routing,
    Weighted,
)
from snnc.passes.base import Pass, check_form, check_stage, passes
from snnc.passes.biases import biased, inserted, shifted
from snnc.passes.least_squares import LeastSquares, Moments, Rows, Solution
from snnc.process import memory
from snnc.processes import Division, Sum
from snnc.rules import Rules
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.threads import Threads

# Rows of so many numbers are looked at where a position sees so little that it takes no time.
_NUMBERS = 1 << 21
# The square of the features is kept up to so many numbers, and only as long as so many bytes each may be used: what is
# kept is solved, judged and rounded besides.
_SQUARE, _BYTES = 1 << 26, 128
# Samples are added up in so many stretches at most: sums of a few of them are in memory at once.
_STRETCHES = 16
# Multiples of this, less their integers, are spread evenly however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2
# What all of it takes, in passes of the trained network (tests/benchmarks/scale.py quick densenet).
_RUNS = 12

# What a node is called that shifts what no bias does, behind the name of the activation.
_SHIFT = "shift"


@final
@passes.register("correct-residual-noise")
@dataclass(frozen=True)
class CorrectResidualNoise(Pass):
    """Correct weights and biases by what separates the converted network from the trained one on the images.

    ``weights`` and ``bias`` say which of them are.

    ``damping`` holds the weights back, as a share of each input's own energy; the number of weights per position
    seen is added to it, so that few images change little. Layer by layer, a tenth of the images, held out of the solve,
    chooses the damping, or another bias and the weights as they were; where there are too few to hold any out, it is
    the one in the middle. With ``refit`` what was chosen is solved again on all images; without, those held out can
    judge what a later pass trains. At most ``images``, spread evenly over all, are looked at, and of the positions of a
    layer's output on them, spread evenly as well, ``rows`` times as many as each has weights: more where that takes no
    time, fewer where the square of the weights does not fit in memory. Biases are worked out on what is held out, too;
    on synthetic samples they alone are corrected; without any, nothing is.
    """

    weights: bool = True
    bias: bool = True
    damping: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    images: int = 2048
    rows: int = 48
    refit: bool = True

    def __post_init__(self) -> None:
        if not self.damping or not all(0 < each < math.inf for each in self.damping):
            raise ValueError("damping must be positive and finite")
        if self.images < 1:
            raise ValueError("images start at 1")
        if self.rows < 1:
            raise ValueError("rows start at 1")

    def runs(self, samples: int, schedule: Schedule) -> int:
        return _RUNS * min(samples, self.images)

    def requires(self, graph: Graph) -> None:
        check_stage(graph, Clipped, Neuron)

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        shown = calibration.shown
        if shown is None or not graph.ops(Quantized):
            return graph
        options = self if calibration.samples is not None else replace(self, weights=False)
        check_form(calibration.reference, graph)
        with temporary_folder() as folder, Pieces(folder / "goals") as goals:
            rest, tenth = shown.split()
            solved_on, held_out = rest.thinned(self.images), tenth.thinned(max(1, self.images // 9))
            samples = solved_on.followed_by(held_out)
            division = samples.divided(Program(graph).chunk, most=_STRETCHES)
            walk = _Walk(calibration.reference, graph, folder, goals, options, division, len(solved_on))
            fed = walk.look(samples.own(division).batches())
            for done, node in enumerate(graph.nodes.values()):
                calibration.progress(done, len(graph.nodes))
                walk.visit(node, fed)
            return walk.corrected()

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        if calibration.shown is None or not self.bias:
            return graph
        before = {name: graph.nodes[name].inputs[0] for name in graph.ops(Quantized)}
        return inserted(
            graph, {n: Affine(None, torch.zeros(())) for n in before if _biased(graph, before[n]) is None}, _SHIFT
        )


class _Walk:
    """The converted network, advanced one node at a time over samples of its own, those held out behind the others.

    Of the trained one it knows means, and what the least squares look at.
    """

    def __init__(
        self,
        reference: Graph,
        graph: Graph,
        folder: Path,
        goals: Pieces,
        options: CorrectResidualNoise,
        division: Division,
        solved_on: int,
    ) -> None:
        self._reference = reference
        self._graph = graph
        self._folder = folder
        self._division, self._size = division, division.size
        self._options = options
        self._solved_on = solved_on
        self._order = {name: number for number, name in enumerate(graph.nodes)}
        self._changed = _changed(reference, graph)
        layers = self._changed & graph.ops(Weighted).keys()
        self._others = {name: self._summed_with(name) for name in layers}
        self._rows = {name: self._spread_rows(name, graph.ops(Weighted)[name]) for name in layers if options.weights}
        # The means of what the trained network computes, and the converted one.
        self._goal_means: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._averaged = {*layers, *chain(*self._others.values())}
        self._goals = goals
        self._values: dict[str, _Values] = {}
        self._ops: dict[str, Weighted] = {}
        self._shifts: dict[str, Tensor] = {}
        self._waiting = {name: len(readers) for name, readers in graph.consumers.items()}

    def look(self, batches: Iterable[Feeds]) -> FeedsStore:
        """Run the trained network on the samples, keep of it what is needed, and return the samples."""
        watched = self._averaged | self._changed & self._graph.ops(Quantized).keys()
        program = Program(self._reference, want=watched)
        sums: Sum[dict[str, Tensor]] = self._division.sum()

        def seen() -> Iterator[Feeds]:
            begun = self._division.start
            for feeds in rechunk(batches, self._size):
                values = {name: signal[0] for name, signal in program(feeds).items()} if watched else {}
                sums.add({name: _summed(value) for name, value in values.items()})
                for name in self._rows:
                    inside = self._inside(name, begun, feeds.samples)
                    parts = [self._positions(name, values[part], inside) for part in (name, *self._others[name])]
                    self._goals.append(name, torch.stack(parts).sum(0))
                begun += feeds.samples
                yield feeds

        fed = FeedsStore(self._folder / "feeds", seen())
        self._goal_means = {name: total / self._division.count for name, total in sums.total().items()}
        return fed

    @torch.no_grad()
    def visit(self, node: Node, fed: FeedsStore) -> None:
        if node.name in self._graph.inputs:
            values = self._kept(node, (feeds[node.name] for feeds in fed.chunks(self._size)))
        else:
            values = corrections(node.op, self, node) if node.name in self._changed else self.unchanged(node.op, node)
        self._values[node.name] = values
        for value in dict.fromkeys(node.inputs):
            self._waiting[value] -= 1
            if self._waiting[value] == 0:
                del self._values[value]

    def corrected(self) -> Graph:
        shifts = {name: Affine(None, shift) for name, shift in self._shifts.items()}
        return inserted(self._graph.with_ops(self._ops), shifts, _SHIFT)

    def apply(self, op: Op, node: Node) -> Iterator[Tensor]:
        """Yield what an operation makes of the values before a node, chunk by chunk."""
        fast = op.map_tensors(laid_out)
        for inputs in zip(*(self._values[value].chunks(self._size) for value in node.inputs), strict=True):
            yield fast(*inputs)

    def unchanged(self, op: Op, node: Node) -> "_Values":
        """Return what an operation computes as it is."""
        return self._kept(node, self.apply(op, node))

    def correct_layer(self, node: Node, layer: Weighted) -> "_Values":
        """Correct weights and bias, and return what the layer then computes."""
        if self._options.weights:
            layer = self._least_squares(node, layer)
        reached = self.unchanged(layer, node)
        if self._options.bias:
            parts = (node.name, *self._others[node.name])
            missing = sum((self._goal_means[part] - self._means[part] for part in parts), torch.zeros(()))
            shift = _channel_mean(missing, channel_axis(self._graph, node.name))
            layer = shifted(layer, shift)
            shaped = from_channels(self._graph, node.name, shift)
            self._means[node.name] = self._means[node.name] + shaped
            reached = reached.shifted(shaped)
        self._ops[node.name] = layer
        return reached

    def correct_activation(self, node: Node, activation: Quantized) -> "_Values":
        """Correct the bias before an activation, and return what that then computes."""
        (before,) = node.inputs
        if not self._options.bias:
            return self.unchanged(activation, node)
        axis = channel_axis(self._graph, before)
        reached: Sum[Tensor] = self._division.sum()
        for chunk in self.apply(activation, node):
            reached.add(_summed(chunk))
        mean = _channel_mean(self._goal_means[node.name] - reached.total() / self._division.count, axis)
        shift = from_channels(self._graph, before, mean).float()
        layer = _biased(self._graph, before)
        if layer is None:
            self._shifts[node.name] = shift
        else:
            self._ops[layer] = shifted(self._ops.get(layer, self._graph.ops(Weighted)[layer]), mean)
        return self._kept(node, (activation(z) for z in self._values[before].shifted(shift).chunks(self._size)))

    def _kept(self, node: Node, chunks: Iterator[Tensor]) -> "_Values":
        if node.name not in self._averaged:
            return _Values(Store(self._folder / "values", chunks, channels_last=True))
        sums: Sum[Tensor] = self._division.sum()

        def seen() -> Iterator[Tensor]:
            for chunk in chunks:
                sums.add(_summed(chunk))
                yield chunk

        store = Store(self._folder / "values", seen(), channels_last=True)
        self._means[node.name] = sums.total() / self._division.count
        return _Values(store)

    def _summed_with(self, name: str) -> tuple[str, ...]:
        """Return what a layer's output is only ever added to, if it differs and is there before: it is mended too."""
        readers = self._graph.consumers[name]
        if len(readers) != 1 or name in self._graph.outputs:
            return ()
        reader = self._graph.nodes[readers[0]]
        others = tuple(value for value in reader.inputs if value != name)
        known = all(self._order[value] < self._order[name] for value in others)
        alike = all(self._graph.shapes[value] == self._graph.shapes[name] for value in others)
        changed = tuple(value for value in others if value in self._changed)
        return changed if reader.name in self._graph.ops(Add) and known and alike else ()

    def _spread_rows(self, name: str, layer: Weighted) -> Tensor:
        """Return at which positions of its output, counted over all samples, a layer is looked at."""
        groups, _, features = layer.kernel().flatten(2).shape
        return spread_rows(self._each(name) * self._division.count, rows_within(groups, features, self._options.rows))

    def _each(self, name: str) -> int:
        return math.prod(self._graph.shapes[name]) // channel_count(self._graph, name)

    def _inside(self, name: str, begun: int, samples: int) -> Tensor:
        """Return the positions looked at in a chunk, counted in it."""
        first, last = (self._each(name) * sample for sample in (begun, begun + samples))
        start, stop = torch.searchsorted(self._rows[name], torch.tensor([first, last])).tolist()
        return self._rows[name][start:stop] - first

    def _positions(self, name: str, values: Tensor, inside: Tensor) -> Tensor:
        return positions(values, channel_axis(self._graph, name) or 1, inside)

    def _least_squares(self, node: Node, layer: Weighted) -> Weighted:
        name, kernel = node.name, layer.kernel()
        weights, bias = kernel.flatten(2), 0.0 if layer.bias is None else layer.bias
        groups, outputs, features = weights.shape
        kind = Rows if len(self._rows[name]) <= features else Moments
        known: Sum[dict[str, LeastSquares]] = self._division.sum()
        parts = zip(
            *(self._values[part].chunks(self._size) for part in (*node.inputs, *self._others[name])), strict=True
        )
        begun = self._division.start
        for goal, (x, *others) in zip(self._goals.read(name), parts, strict=True):
            inside = self._inside(name, begun, len(x))
            seen = patches(layer, x, inside)
            missing = sum((-self._positions(name, other, inside) for other in others), goal - bias)
            wanted = missing.view(len(inside), groups, outputs).transpose(0, 1) - seen @ weights.mT
            # Samples held out are the last ones.
            taken = int((inside < self._each(name) * (self._solved_on - begun)).sum())
            parts_of = {"solved on": slice(0, taken), "held out": slice(taken, len(inside))}
            known.add(
                {of: kind.of(seen[:, rows], wanted[:, rows]) for of, rows in parts_of.items() if rows.stop > rows.start}
            )
            begun += len(x)
        with Threads():
            change = self._chosen(known.total())
        kernel = change.weights.view(kernel.shape).add_(kernel)
        return shifted(layer.with_kernel(kernel, layer.bias), change.constant.flatten())

    def _chosen(self, rows: Mapping[str, LeastSquares]) -> Solution:
        """Return the solution that errs least on what is held out."""
        dampings = self._options.damping
        best = len(dampings) // 2
        solved_on, held_out = rows["solved on"], rows.get("held out")
        if held_out is not None:
            errors = [held_out.error(solved_on.constant()), *map(held_out.error, solved_on.solutions(dampings))]
            best = errors.index(min(errors)) - 1
        known = solved_on + held_out if held_out is not None and self._options.refit else solved_on
        return known.constant() if best < 0 else next(known.solutions(dampings[best : best + 1]))


def _summed(values: Tensor) -> Tensor:
    """Return the sum of values ``[N, ...]`` over samples, float64."""
    # Summed as they lie in memory: images have their channels innermost.
    rows = values.movedim(1, -1) if values.ndim == 4 else values
    total = rows.sum(0).double()
    return total.movedim(-1, 0) if values.ndim == 4 else total


@dataclass(frozen=True, eq=False)
class _Values:
    """The values of a node: what is on disk, and a shift that is added to every sample."""

    store: Store
    shift: Tensor | None = None

    def shifted(self, shift: Tensor) -> "_Values":
        total = shift if self.shift is None else self.shift + shift
        return _Values(self.store, total.float())

    def chunks(self, size: int) -> Iterator[Tensor]:
        chunks = self.store.chunks(size)
        return chunks if self.shift is None else (chunk.add_(self.shift) for chunk in chunks)


def rows_within(groups: int, features: int, multiple: int) -> int:
    """Return how many rows suffice for a layer, and fit in memory where the square of its features does not."""
    square = min(_SQUARE, memory() // _BYTES)
    wanted = max(multiple * features, _NUMBERS // (groups * features))
    return wanted if groups * features**2 <= square else max(1, min(wanted, square // (groups * features)))


def spread_rows(available: int, most: int) -> Tensor:
    """Return at most so many rows in order, one from each of as many equal parts, each at another place of its part."""
    count = min(available, most)
    edges = torch.arange(count + 1) * available // count
    places = (torch.arange(count, dtype=torch.float64) * _GOLDEN).frac()
    return edges[:-1] + (places * edges.diff()).long()


def _biased(graph: Graph, before: str) -> str | None:
    """Return the layer whose bias shifts a value, if there is one; else the shift becomes a node of its own."""
    return None if channel_axis(graph, before) is None else biased(graph, before)


def _changed(reference: Graph, graph: Graph) -> set[str]:
    """Return the nodes whose values differ from those of the trained network."""
    changed: set[str] = set()
    for name, node in graph.nodes.items():
        if reference.op(name) is not node.op or changed.intersection(node.inputs):
            changed.add(name)
    return changed


def _channel_mean(sample: Tensor, axis: int | None) -> Tensor:
    """Return the mean of a sample per channel: one where ``axis`` is None."""
    return channel_rows(sample.unsqueeze(0), axis).mean(1)


# rule(op, walk, node): correct an operation, and return what it then computes.
corrections = Rules[Op, _Values]("what does correct-residual-noise correct")


@corrections.register(Weighted)
def _layer(op: Weighted, walk: _Walk, node: Node) -> _Values:
    return walk.correct_layer(node, op)


@corrections.register(Quantized)
def _activation(op: Quantized, walk: _Walk, node: Node) -> _Values:
    return walk.correct_activation(node, op)


@corrections.register(Activation, Add, Affine, BatchNorm, Input, Mean, Nonlinear, Pool, Resample, Routing, Timed)
def _nothing(op: Op, walk: _Walk, node: Node) -> _Values:
    return walk.unchanged(op, node)
