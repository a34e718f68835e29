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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_count, channel_rows, from_channels
from snnc.analysis.patches import patches, positions
from snnc.calibration import Calibration
from snnc.data.store import Store
from snnc.feeds import laid_out, rechunk
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
from snnc.rules import Rules
from snnc.run import Program

# Positions of one layer's output, over all samples, that the least squares look at.
_POSITIONS = 1 << 18


@final
@passes.register("correct-residual-noise")
@dataclass(frozen=True)
class CorrectResidualNoise(Pass):
    """Correct weights and biases by what separates the converted network from the trained one on the images.

    ``damping`` holds the weights back, as a share of each input's own energy; the number of weights per position
    seen is added to it, so that few images change little. Layer by layer, a tenth of the images, held out of the solve,
    chooses the damping, or another bias and the weights as they were; where there are too few to hold any out, it is
    the one in the middle. With ``refit`` what was chosen is solved again on all images; without, those held out can
    judge what a later pass trains. At most ``images``, spread evenly over all, are solved on. Biases are worked out on
    what is held out, too; on synthetic samples they alone are corrected; without any, nothing is.
    """

    weights: bool = True
    bias: bool = True
    damping: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    images: int = 2048
    refit: bool = True

    def __post_init__(self) -> None:
        if not self.damping or not all(0 < each < math.inf for each in self.damping):
            raise ValueError("damping must be positive and finite")
        if self.images < 1:
            raise ValueError("images start at 1")

    def requires(self, graph: Graph) -> None:
        check_stage(graph, Clipped, Neuron)

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        shown = calibration.shown
        if shown is None or not graph.ops(Quantized):
            return graph
        options = self if calibration.samples is not None else replace(self, weights=False)
        check_form(calibration.reference, graph)
        with temporary_folder() as folder:
            rest, tenth = shown.split()
            solved_on, held_out = rest.thinned(self.images), tenth.thinned(max(1, self.images // 9))
            size, counts = Program(graph).chunk, (len(solved_on), len(held_out))
            walk = _Walk(calibration.reference, graph, folder, size, options, counts)
            for node in graph.nodes.values():
                if node.name in graph.inputs:
                    batches = chain(solved_on.batches(), held_out.batches())
                    walk.enter(node.name, (feeds[node.name] for feeds in rechunk(batches, size)))
                else:
                    walk.visit(node)
            return walk.corrected()


class _Walk:
    """Both networks, advanced together one node at a time over all samples, those held out behind the others."""

    def __init__(
        self,
        reference: Graph,
        graph: Graph,
        folder: Path,
        size: int,
        options: CorrectResidualNoise,
        samples: tuple[int, int],
    ) -> None:
        self._reference = reference
        self._graph = graph
        self._folder = folder
        self._size = size
        self._stores: dict[str, Store] = {}
        self._options = options
        self._solved_on, self._samples = samples[0], sum(samples)
        self._ops: dict[str, Weighted] = {}
        self._shifts: dict[str, Tensor] = {}
        self._equal: set[str] = set()
        self._visited: set[str] = set()
        self._waiting = {name: len(readers) for name, readers in graph.consumers.items()}

    def enter(self, name: str, images: Iterator[Tensor]) -> None:
        self._equal.add(name)
        self._visited.add(name)
        self._keep(_reference(name), images)

    @torch.no_grad()
    def visit(self, node: Node) -> None:
        old = self._reference.op(node.name)
        self._keep(_reference(node.name), self.apply(old, node, reference=True))
        if old is node.op and all(value in self._equal for value in node.inputs):
            self._equal.add(node.name)
        else:
            self._keep(_converted(node.name), corrections(node.op, self, node))
        self._visited.add(node.name)
        for value in dict.fromkeys(node.inputs):
            self._waiting[value] -= 1
            if self._waiting[value] == 0:
                del self._stores[_reference(value)]
                if value not in self._equal:
                    del self._stores[_converted(value)]

    def corrected(self) -> Graph:
        shifts = {name: Affine(None, shift) for name, shift in self._shifts.items()}
        return inserted(self._graph.with_ops(self._ops), shifts, "shift")

    def read(self, name: str, *, reference: bool = False) -> Iterator[Tensor]:
        """Yield the values of a node in one of the networks, chunk by chunk."""
        kept = _reference(name) if reference or name in self._equal else _converted(name)
        return self._stores[kept].chunks(self._size)

    def _keep(self, name: str, chunks: Iterator[Tensor]) -> None:
        self._stores[name] = Store(self._folder / "values", chunks, channels_last=True)

    def apply(self, op: Op, node: Node, *, reference: bool = False) -> Iterator[Tensor]:
        """Yield what an operation makes of the values before a node, in one of the networks, chunk by chunk."""
        fast = op.map_tensors(laid_out)
        for inputs in zip(*(self.read(value, reference=reference) for value in node.inputs), strict=True):
            yield fast(*inputs)

    def correct_layer(self, node: Node, layer: Weighted) -> Iterator[Tensor]:
        """Correct weights and bias, and return what the layer then computes."""
        others = self._summed_with(node.name)
        if self._options.weights:
            layer = self._least_squares(node, layer, others)
        if self._options.bias:
            residuals = self._residuals(node.name, self.apply(layer, node), others)
            layer = shifted(layer, _channel_mean(residuals, channel_axis(self._graph, node.name)))
        self._ops[node.name] = layer
        return self.apply(layer, node)

    def correct_activation(self, node: Node, activation: Quantized) -> Iterator[Tensor]:
        """Correct the bias before an activation, and return what that then computes."""
        (before,) = node.inputs
        shift: Tensor | float = 0.0
        if self._options.bias:
            axis = channel_axis(self._graph, before)
            pairs = zip(self.read(node.name, reference=True), self.apply(activation, node), strict=True)
            mean = _channel_mean((goal - reached for goal, reached in pairs), axis)
            shift = from_channels(self._graph, before, mean).float()
            layer = biased(self._graph, before)
            if layer is None or axis is None:
                self._shifts[node.name] = shift
            else:
                self._ops[layer] = shifted(self._ops.get(layer, self._graph.ops(Weighted)[layer]), mean)
        return (activation(z + shift) for z in self.read(before))

    def _summed_with(self, name: str) -> tuple[str, ...]:
        """Return what a layer's output is only ever added to, if that is known already: its error can be mended too."""
        readers = self._graph.consumers[name]
        if len(readers) != 1 or name in self._graph.outputs:
            return ()
        reader = self._graph.nodes[readers[0]]
        others = tuple(value for value in reader.inputs if value != name)
        known = all(value in self._visited for value in others)
        alike = all(self._graph.shapes[value] == self._graph.shapes[name] for value in others)
        return others if reader.name in self._graph.ops(Add) and known and alike else ()

    def _residuals(self, name: str, reached: Iterator[Tensor], others: tuple[str, ...]) -> Iterator[Tensor]:
        """Yield what the sum of a layer and ``others`` lacks towards the reference, chunk by chunk."""
        goals = self.read(name, reference=True)
        beside = [(self.read(o, reference=True), self.read(o)) for o in others if o not in self._equal]
        for goal, value in zip(goals, reached, strict=True):
            residual = goal - value
            for wanted, found in beside:
                residual = residual + next(wanted) - next(found)
            yield residual

    def _least_squares(self, node: Node, layer: Weighted, others: tuple[str, ...]) -> Weighted:
        kernel, axis = layer.kernel(), channel_axis(self._graph, node.name) or 1
        groups, outputs = kernel.shape[:2]
        features = kernel[0, 0].numel()
        solved_on, held_out = (_Moments.of(groups, features, outputs) for _ in range(2))
        residuals = self._residuals(node.name, self.apply(layer, node), others)
        stride, begun = self._stride(node.name), 0
        for chunk, (x, residual) in enumerate(zip(self.read(node.inputs[0]), residuals, strict=True)):
            first = chunk % stride
            wanted = positions(residual, axis)
            # Samples held out are the last ones.
            inside = (self._solved_on - begun) * (len(wanted) // len(x))
            taken = len(range(first, max(inside, first), stride))
            seen_by, wanted = patches(layer, x)[:, first::stride], wanted[first::stride]
            wanted = wanted.reshape(len(wanted), groups, -1).transpose(0, 1)
            extended = torch.cat([seen_by, torch.ones_like(seen_by[..., :1])], 2)
            solved_on.add(extended[:, :taken], wanted[:, :taken])
            held_out.add(extended[:, taken:], wanted[:, taken:])
            begun += len(x)
        damped = [partial(_Moments.solved, damping=damping) for damping in self._options.damping]
        chosen: _Solver = damped[len(damped) // 2]
        if held_out.count:
            candidates: list[_Solver] = [_Moments.mean, *damped]
            chosen = min(candidates, key=lambda solver: held_out.error(solver(solved_on)))
        solution = chosen(solved_on + held_out if self._options.refit else solved_on)
        change = solution[:, :-1].transpose(1, 2).reshape(kernel.shape)
        return shifted(layer.with_kernel(kernel.double() + change, layer.bias), solution[:, -1].flatten())

    def _stride(self, name: str) -> int:
        shape = self._graph.shapes[name]
        each = torch.Size(shape).numel() // channel_count(self._graph, name)
        return max(1, each * self._samples // _POSITIONS)


@dataclass
class _Moments:
    """What least squares know of inputs ``[groups, N, features + 1]``, the last of them 1, and of what they lack.

    Solutions are ``[groups, features + 1, outputs]``, the constant last.
    """

    gram: Tensor
    moment: Tensor
    count: int = 0

    @classmethod
    def of(cls, groups: int, features: int, outputs: int) -> Self:
        sizes = (features + 1, outputs)
        gram, moment = (torch.zeros(groups, features + 1, size, dtype=torch.float64) for size in sizes)
        return cls(gram, moment)

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        self.gram += (inputs.transpose(1, 2) @ inputs).double()
        self.moment += (inputs.transpose(1, 2) @ wanted).double()
        self.count += inputs.shape[1]

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.gram + other.gram, self.moment + other.moment, self.count + other.count)

    def solved(self, damping: float) -> Tensor:
        """Return the damped solution."""
        energy = self.gram.diagonal(dim1=1, dim2=2).clone()
        energy[:, -1] = 0
        # A feature that is always zero must not make the system singular.
        energy[:, :-1] += 1e-6 * energy.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        features = self.gram.shape[1] - 1
        damped = self.gram + torch.diag_embed(energy * (damping + features / max(self.count, 1)))
        damped[:, -1, -1] = damped[:, -1, -1].clamp(min=1)
        solution: Tensor = torch.linalg.solve(damped, self.moment)
        return solution

    def mean(self) -> Tensor:
        """Return the solution that adds nothing but a constant."""
        constant = torch.zeros_like(self.moment)
        constant[:, -1] = self.moment[:, -1] / max(self.count, 1)
        return constant

    def error(self, solution: Tensor) -> float:
        """Return the squared error of a solution, up to what no solution changes."""
        return float(((self.gram @ solution - 2 * self.moment) * solution).sum())


_Solver = Callable[[_Moments], Tensor]


def _reference(name: str) -> str:
    return f"reference {name}"


def _converted(name: str) -> str:
    return f"converted {name}"


def _channel_mean(chunks: Iterator[Tensor], axis: int | None) -> Tensor:
    """Return the mean per channel, float64, over all chunks ``[N, ...]``: one where ``axis`` is None."""
    total: Tensor | float = 0.0
    count = 0
    for chunk in chunks:
        flat = channel_rows(chunk, axis)
        total = total + flat.sum(1, dtype=torch.float64)
        count += flat.shape[1]
    assert isinstance(total, Tensor)
    return total / count


# rule(op, walk, node): correct an operation, and yield what it then computes, chunk by chunk.
corrections = Rules[Op, Iterator[Tensor]]("what does correct-residual-noise correct")


@corrections.register(Weighted)
def _layer(op: Weighted, walk: _Walk, node: Node) -> Iterator[Tensor]:
    return walk.correct_layer(node, op)


@corrections.register(Quantized)
def _activation(op: Quantized, walk: _Walk, node: Node) -> Iterator[Tensor]:
    return walk.correct_activation(node, op)


@corrections.register(Activation, Add, Affine, BatchNorm, Mean, Nonlinear, Pool, Resample, Routing, Timed)
def _nothing(op: Op, walk: _Walk, node: Node) -> Iterator[Tensor]:
    return walk.apply(op, node)


@corrections.register(Input)
def _images(op: Input, walk: _Walk, node: Node) -> Iterator[Tensor]:
    return walk.read(node.name)
