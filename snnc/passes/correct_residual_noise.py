"""Correct, layer by layer, what the conversion did to the layers before.

No labels, no gradients. In topological order, each layer seeing the already converted network before it:

  1. weights and bias: the damped least squares solution of z_ANN ≈ W·a_SNN + b, started from the trained weights, where
     samples held out say that it does better than another bias;
  2. bias: b_c += mean(z_ANN − z_SNN), exactly, on all samples looked at;
  3. bias again, on the output: b_c += mean(ReLU(z_ANN) − φ_T(z_SNN)).

Steps 2 and 3 are those of bias correction in quantization (Nagel et al., ICCV 2019). Step 1 solves in closed form, per
layer, what reconstruction by gradient descent approximates.

Before there are neurons, a_SNN is the closed form. Afterward it is the mean of the trains that a layer really
receives. Then there is one more error: neurons that fire while they gather fire too often, or too late, where spikes
come unevenly. Hence, before step 3, threshold and initial potential of each channel become those shares of what they
were, of a few, with which the mean output errs least from the trained activation's. Neurons that count the closed form
whatever came when are left as they are.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_count, channel_rows, from_channels
from snnc.analysis.counterparts import check_counterparts
from snnc.analysis.patches import patches, positions
from snnc.calibration import Calibration
from snnc.data.store import FeedsStore, Pieces, Store
from snnc.feeds import Feeds, laid_out, rechunk
from snnc.files import temporary_folder
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import Timed, asked_in_order, drawing, mean_signal, stretched
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
from snnc.run import ONCE, Program
from snnc.run.program import computed
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
# Threshold and initial potential are tried as these shares of what they are, the first pair as they are, on so many
# numbers of a layer.
_SCALES, _STARTS, _TRIED = (1.0, 0.8, 0.9, 1.1, 1.25, 1.5), (1.0, 0.6, 0.2), 1 << 19
# Trains are looked at over so many steps of samples in all, and so many numbers of the largest value are kept on disk.
_STEPS, _TRAINS = 1 << 13, 1 << 31
# What all of it takes, in passes of the trained network (tests/benchmarks/scale.py quick densenet).
_RUNS = 12

# What a node is called that shifts what no bias does, behind the name of the activation.
_SHIFT = "shift"


@final
@passes.register("correct-residual-noise")
@dataclass(frozen=True)
class CorrectResidualNoise(Pass):
    """Correct weights and biases by what separates the converted network from the trained one on the images.

    ``weights`` and ``bias`` say which of them are. After substitute-neurons they are corrected by the trains that
    layers really receive; of neurons that fire while they gather, ``thresholds`` and initial potentials are chosen as
    well, by what these trains make of them. A network whose counts do not depend on when spikes come stays as it is.

    ``damping`` holds the weights back, as a share of each input's own energy; the number of weights per position
    seen is added to it, so that few images change little. Layer by layer, a tenth of the images, held out of the solve,
    chooses the damping, or another bias and the weights as they were; where there are too few to hold any out, it is
    the one in the middle. Thresholds change where that tenth agrees. With ``refit`` what was chosen is solved again on
    all images; without, those held out can judge what a later pass trains. At most ``images``, spread evenly over all,
    are looked at, fewer over many steps, and of the positions of a layer's output on them, spread evenly as well,
    ``rows`` times as many as each has weights: more where that takes no time, fewer where the square of the weights
    does not fit in memory. Biases are worked out on what is held out, too; on synthetic samples they alone are
    corrected, and thresholds; without any, nothing is.
    """

    weights: bool = True
    bias: bool = True
    damping: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    images: int = 2048
    rows: int = 48
    refit: bool = True
    thresholds: bool = True

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
        check_stage(graph, Clipped, ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        shown = calibration.shown
        if shown is None or not _corrected(graph, calibration.schedule):
            return graph
        options = self if calibration.samples is not None else replace(self, weights=False)
        schedule, images = ONCE, self.images
        if graph.ops(Neuron):
            schedule = calibration.schedule
            largest = max(math.prod(shape) for shape in graph.shapes.values())
            images = max(1, min(images, _STEPS // schedule.total, _TRAINS // (schedule.total * largest)))
            check_counterparts(calibration.reference, graph)
        else:
            check_form(calibration.reference, graph)
        with temporary_folder() as folder, Pieces(folder / "goals") as goals:
            rest, tenth = shown.split()
            solved_on, held_out = rest.thinned(images), tenth.thinned(max(1, images // 9))
            samples = solved_on.followed_by(held_out)
            division = samples.divided(Program(graph, schedule).chunk, most=_STRETCHES)
            walk = _Walk(calibration.reference, graph, schedule, folder, goals, options, division, len(solved_on))
            fed = walk.look(samples.own(division).batches())
            for done, node in enumerate(graph.nodes.values()):
                calibration.progress(done, len(graph.nodes))
                walk.visit(node, fed)
            return walk.corrected()

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        if calibration.shown is None or not self.bias:
            return graph
        before = {name: graph.nodes[name].inputs[0] for name in _corrected(graph, calibration.schedule)}
        homeless = [n for n, x in before.items() if _biased(graph, x) is None and _constant(graph, x) is None]
        return inserted(graph, {name: Affine(None, torch.zeros(())) for name in homeless}, _SHIFT)


class _Walk:
    """The converted network, advanced one node at a time over samples of its own, those held out behind the others.

    Of the trained one it knows means, and what the least squares look at.
    """

    def __init__(
        self,
        reference: Graph,
        graph: Graph,
        schedule: Schedule,
        folder: Path,
        goals: Pieces,
        options: CorrectResidualNoise,
        division: Division,
        solved_on: int,
    ) -> None:
        self._reference = reference
        self._graph = graph
        self._schedule = schedule
        self._folder = folder
        self._division, self._size = division, division.size
        self._options = options
        self._solved_on = solved_on
        self._order = {name: number for number, name in enumerate(graph.nodes)}
        self._ordered = asked_in_order([*graph.nodes.values()])
        self._changed = _changed(reference, graph) & reference.nodes.keys()
        self._activations = self._changed & _corrected(graph, schedule)
        layers = self._changed & graph.ops(Weighted).keys()
        self._others = {name: self._summed_with(name) for name in layers}
        # At which positions of its output a layer is looked at.
        self._rows = {name: self._spread_rows(name, graph.ops(Weighted)[name]) for name in layers if options.weights}
        if options.thresholds:
            self._rows |= {n: self._spread(n, _TRIED // channel_count(graph, n)) for n in self._tried()}
        # The means of what the trained network computes, and the converted one.
        self._goal_means: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._averaged = {*layers, *chain(*self._others.values())}
        self._goals = goals
        self._values: dict[str, _Values] = {}
        self._ops: dict[str, Op] = {}
        self._shifts: dict[str, Tensor] = {}
        self._waiting = {name: len(readers) for name, readers in graph.consumers.items()}

    def look(self, batches: Iterable[Feeds]) -> FeedsStore:
        """Run the trained network on the samples, keep of it what is needed, and return the samples."""
        watched = self._averaged | self._activations
        program = Program(self._reference, want=watched)
        sums: Sum[dict[str, Tensor]] = self._division.sum()

        def seen() -> Iterator[Feeds]:
            begun = self._division.start
            for feeds in rechunk(batches, self._size):
                values = {name: signal[0] for name, signal in program(feeds).items()} if watched else {}
                sums.add({name: _summed(value) for name, value in values.items()})
                for name in self._rows:
                    inside = self._inside(name, begun, feeds.samples)
                    added = (name, *self._others.get(name, ()))
                    parts = [self._positions(name, values[part], inside) for part in added]
                    self._goals.append(name, torch.stack(parts).sum(0))
                begun += feeds.samples
                yield feeds

        fed = FeedsStore(self._folder / "feeds", seen())
        self._goal_means = {name: total / self._division.count for name, total in sums.total().items()}
        return fed

    @torch.no_grad()
    def visit(self, node: Node, fed: FeedsStore) -> None:
        if node.name in self._graph.inputs:
            entered = (feeds.signals(self._schedule)[node.name] for feeds in fed.chunks(self._size))
            whole = node.name in self._ordered
            values = self._kept(node, (x if whole else mean_signal(x, self._schedule) for x in entered))
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

    def apply(self, op: Op, node: Node, *values: "_Values") -> Iterator[Tensor]:
        """Yield the signal that an operation makes of values, those before a node unless given, chunk by chunk."""
        fast, ordered, first = op.map_tensors(laid_out), node.name in self._ordered, self._division.start
        before = values or tuple(self._values[value] for value in node.inputs)
        for inputs in zip(*(each.chunks(self._size) for each in before), strict=True):
            yield computed(fast, self._schedule, ordered, drawing(self._order[node.name], first), *inputs)
            first += self._size

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

    def correct_activation(self, node: Node, activation: Quantized | CausalNeuron) -> "_Values":
        """Choose the threshold of neurons, correct the bias before an activation; return what that then computes."""
        if node.name not in self._activations:
            return self.unchanged(activation, node)
        if isinstance(activation, CausalNeuron) and node.name in self._rows:
            activation = self._ops[node.name] = self._chosen_threshold(node, activation)
        (before,) = node.inputs
        if not self._options.bias:
            return self.unchanged(activation, node)
        axis = channel_axis(self._graph, before)
        reached: Sum[Tensor] = self._division.sum()
        for chunk in self.apply(activation, node):
            reached.add(self._summed(chunk))
        mean = _channel_mean(self._goal_means[node.name] - reached.total() / self._division.count, axis)
        shift = from_channels(self._graph, before, mean).float()
        layer = _biased(self._graph, before)
        if layer is not None:
            self._ops[layer] = shifted(self._so_far(layer), mean)
        elif (constant := _constant(self._graph, before)) is not None:
            self._ops[before] = Affine(None, constant + shift)
        else:
            self._shifts[node.name] = shift
        return self._kept(node, self.apply(activation, node, self._values[before].shifted(shift)))

    def _kept(self, node: Node, chunks: Iterator[Tensor]) -> "_Values":
        averaged, steps = node.name in self._averaged, 1
        sums: Sum[Tensor] = self._division.sum()

        def seen() -> Iterator[Tensor]:
            nonlocal steps
            for chunk in chunks:
                if averaged:
                    sums.add(self._summed(chunk))
                steps = len(chunk)
                yield chunk.flatten(0, 1)

        store = Store(self._folder / "values", seen(), channels_last=True)
        if averaged:
            self._means[node.name] = sums.total() / self._division.count
        return _Values(store, self._schedule, steps)

    def _summed(self, signal: Tensor) -> Tensor:
        return _summed(mean_signal(signal, self._schedule)[0])

    def _so_far(self, name: str) -> Weighted:
        """Return a layer as it has been corrected so far."""
        layer = self._ops.get(name, self._graph.op(name))
        assert isinstance(layer, Weighted)
        return layer

    def _tried(self) -> Iterator[str]:
        """Yield the neurons whose thresholds are chosen: those that have one a channel, or one in all."""
        for name, neuron in self._graph.ops(CausalNeuron).items():
            shape, axis = self._graph.shapes[name], channel_axis(self._graph, name)
            along = {len(shape) - axis + 1} if axis else set()
            known = all(_varying(tensor) <= along for tensor in neuron.tensors().values())
            # Thresholds that are whole numbers of units stay so.
            if name in self._activations and known and neuron.unit is None:
                yield name

    def _summed_with(self, name: str) -> tuple[str, ...]:
        """Return what a layer's output is only ever added to, if it differs and is there before: it is mended too."""
        readers = self._graph.consumers[name]
        if len(readers) != 1 or name in self._graph.outputs:
            return ()
        reader = self._graph.nodes[readers[0]]
        others = tuple(value for value in reader.inputs if value != name)
        known = all(self._order[value] < self._order[name] for value in others)
        alike = all(self._graph.shapes[value] == self._graph.shapes[name] for value in others)
        known = known and all(value in self._reference.nodes for value in others)
        changed = tuple(value for value in others if value in self._changed)
        return changed if reader.name in self._graph.ops(Add) and known and alike else ()

    def _spread_rows(self, name: str, layer: Weighted) -> Tensor:
        """Return at which positions of its output, counted over all samples, a layer is looked at."""
        groups, _, features = layer.kernel().flatten(2).shape
        return self._spread(name, rows_within(groups, features, self._options.rows))

    def _spread(self, name: str, most: int) -> Tensor:
        return spread_rows(self._each(name) * self._division.count, max(1, most))

    def _each(self, name: str) -> int:
        return math.prod(self._graph.shapes[name]) // channel_count(self._graph, name)

    def _inside(self, name: str, begun: int, samples: int) -> Tensor:
        """Return the positions looked at in a chunk, counted in it."""
        first, last = (self._each(name) * sample for sample in (begun, begun + samples))
        start, stop = torch.searchsorted(self._rows[name], torch.tensor([first, last])).tolist()
        return self._rows[name][start:stop] - first

    def _positions(self, name: str, values: Tensor, inside: Tensor) -> Tensor:
        axis = channel_axis(self._graph, name)
        # Where no axis counts channels, there is one, and every number is a position.
        return positions(values, axis, inside) if axis else positions(values.unsqueeze(-1), values.ndim, inside)

    def _taken(self, name: str, begun: int, inside: Tensor) -> int:
        """Return how many of the positions looked at in a chunk are of samples solved on: they are the first."""
        return int((inside < self._each(name) * (self._solved_on - begun)).sum())

    def _chosen_threshold(self, node: Node, neuron: CausalNeuron) -> CausalNeuron:
        """Return the neurons with the thresholds and initial potentials whose mean output errs least, by channel.

        What a bias mends is no error here. A channel changes only where samples held out err less so, too.
        """
        name, (before,) = node.name, node.inputs
        flat = neuron.map_tensors(lambda tensor: tensor.flatten())
        starts = _STARTS if neuron.slope is None else _STARTS[:1]
        shares = torch.tensor([*product(_SCALES, starts)])
        scale, start = shares.view(-1, 2, 1, 1).unbind(1)
        # All of them at once: layers of neurons side by side.
        tried = replace(flat, threshold=flat.threshold * scale, potential=flat.potential * start)
        known: Sum[dict[str, Tensor]] = self._division.sum()
        begun = self._division.start
        for goal, signal in zip(self._goals.read(name), self._values[before].chunks(self._size), strict=True):
            inside = self._inside(name, begun, signal.shape[1])
            seen = torch.stack([self._positions(name, current, inside) for current in signal])
            taken = self._taken(name, begun, inside)
            parts = {"solved on": slice(0, taken), "held out": slice(taken, len(inside))}
            response = tried.respond(seen.unsqueeze(1).expand(-1, len(shares), -1, -1), self._schedule)
            errors = mean_signal(response, self._schedule)[0] - goal
            moments = torch.stack([torch.ones_like(errors), errors, errors.square()], 1).double()
            known.add({of: moments[:, :, rows].sum(2) for of, rows in parts.items() if rows.stop > rows.start})
            begun += signal.shape[1]
        wrong = {of: self._variances(total, whole=flat.threshold.numel() == 1) for of, total in known.total().items()}
        best = wrong["solved on"].argmin(0)
        held_out = wrong.get("held out")
        if held_out is not None:
            best = torch.where(held_out.gather(0, best[None])[0] < held_out[0], best, 0)
        if not best.any():
            return neuron
        scale, start = shares[best].unbind(1) if len(best) > 1 else shares[best[0]]
        if len(best) > 1:
            scale, start = (from_channels(self._graph, name, values) for values in (scale, start))
        return replace(neuron, threshold=neuron.threshold * scale, potential=neuron.potential * start)

    def _variances(self, moments: Tensor, *, whole: bool) -> Tensor:
        """Return the mean squared errors ``[tried, C]``, or one for all channels, of moments ``[tried, 3, C]``."""
        count, total, squares = moments.unbind(1)
        errors = squares / count - (total / count).square() * self._options.bias
        return errors.sum(1, keepdim=True) if whole else errors

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
        for goal, signals in zip(self._goals.read(name), parts, strict=True):
            x, *others = (mean_signal(signal, self._schedule)[0] for signal in signals)
            inside = self._inside(name, begun, len(x))
            seen = patches(layer, x, inside)
            missing = sum((-self._positions(name, other, inside) for other in others), goal - bias)
            wanted = missing.view(len(inside), groups, outputs).transpose(0, 1) - seen @ weights.mT
            taken = self._taken(name, begun, inside)
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
    """The signal of a node over so many steps, 1 or all: what is kept, chunk by chunk, and a shift of every sample.

    The shift is there while biases are.
    """

    store: Store
    schedule: Schedule
    steps: int
    shift: Tensor | None = None

    def shifted(self, shift: Tensor) -> "_Values":
        total = shift if self.shift is None else self.shift + shift
        return replace(self, shift=total.float())

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield the signal ``[S, N, ...]``, so many samples at once: as many as it was kept by."""
        shift = None if self.shift is None else self.shift[None, None]
        if shift is not None and self.steps > 1:
            shift = stretched(shift, self.schedule)
        for rows in self.store.chunks(size * self.steps):
            signal = rows.view(self.steps, -1, *rows.shape[1:])
            yield signal if shift is None else signal.add_(shift)


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


def _corrected(graph: Graph, schedule: Schedule) -> set[str]:
    """Return the activations whose output is corrected: of neurons, those that may err where spikes come unevenly.

    To those before which there are none a still image comes evenly, and so does all that comes in a single step.
    """
    found, spiking = {*graph.ops(Quantized)}, set[str]()
    for name, node in graph.nodes.items():
        behind = not spiking.isdisjoint(node.inputs)
        if isinstance(node.op, CausalNeuron) and not node.op.follows_at_once(schedule.timesteps):
            found |= {name} if (behind and schedule.total > 1) or not node.op.exact else set()
        if behind or isinstance(node.op, Neuron):
            spiking.add(name)
    return found


def _varying(constant: Tensor) -> set[int]:
    """Return the axes along which a constant holds several numbers, counted from the last one, which is 1."""
    return {constant.ndim - axis for axis, size in enumerate(constant.shape) if size > 1}


def _constant(graph: Graph, value: str) -> Tensor | None:
    """Return the constant that a node adds, for one reader, and does nothing else."""
    op, own = graph.op(value), len(graph.consumers[value]) == 1 and value not in graph.outputs
    return op.shift if isinstance(op, Affine) and op.scale is None and own else None


def _changed(reference: Graph, graph: Graph) -> set[str]:
    """Return the nodes whose values differ from those of the trained network, or that it lacks."""
    changed: set[str] = set()
    for name, node in graph.nodes.items():
        other = reference.nodes.get(name)
        if other is None or other.op is not node.op or changed.intersection(node.inputs):
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


@corrections.register(CausalNeuron, Quantized)
def _activation(op: CausalNeuron | Quantized, walk: _Walk, node: Node) -> _Values:
    return walk.correct_activation(node, op)


@corrections.register(Activation, Add, Affine, BatchNorm, Input, Mean, Nonlinear, Pool, Resample, Routing, Timed)
def _nothing(op: Op, walk: _Walk, node: Node) -> _Values:
    return walk.unchanged(op, node)
