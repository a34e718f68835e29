"""Choose how many levels each layer has, so that the same bits lose less."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from snnc.analysis.channels import channel_axis
from snnc.calibration import Calibration, Histogram
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.neurons.choice import chosen, options_of, with_options
from snnc.ops import Clipped, ClippedCoding
from snnc.passes.base import Pass, passes
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.passes.thresholds import largest_by_channel
from snnc.validation import keys

_NAME = "allocate-levels"
# An event of so many bits is as good as a current.
_MOST_BITS = 8
# What 1 bit, 2 bits, and so on can count.
_LEVELS = [2**bits - 1 for bits in range(1, _MOST_BITS + 1)]


@final
@passes.register(_NAME)
@dataclass(frozen=True)
class AllocateLevels(Pass):
    """Have layers whose errors move the outputs most fire in more levels, others in fewer, ``mean_bits`` in the mean.

    The mean is over neurons, of the bits that write a neuron's levels; without a number it is that of the levels that
    all would have. Each layer's error is that of the best thresholds, in which a value counts as much as the outputs
    move with it, on ``samples`` of them, spread evenly; bits go where they take most of it away (by what a layer loses
    as PASCAL does, Ramesh and Srinivasan, 2025; by a second-order estimate as HAWQ does, Dong et al., ICCV 2019). What
    was chosen is an option of ``substitute-neurons``, whose ``layers`` keep what they name. It needs neurons with
    levels of their own.
    """

    mean_bits: float | None = None
    samples: int = 64

    def __post_init__(self) -> None:
        if self.mean_bits is not None and not 1 <= self.mean_bits <= _MOST_BITS:
            raise ValueError(f"mean-bits are from 1 to {_MOST_BITS}")
        if self.samples < 1:
            raise ValueError("samples start at 1")

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph

    def settled(self, graph: Graph, calibration: Calibration, following: tuple[Pass, ...]) -> tuple[Pass, ...]:
        return tuple(
            self._allocated(graph, calibration, step) if isinstance(step, SubstituteNeurons) else step
            for step in following
        )

    def _allocated(self, graph: Graph, calibration: Calibration, step: SubstituteNeurons) -> SubstituteNeurons:
        layers = [name for name in graph.ops(Clipped) if name not in step.layers]
        if not layers:
            return step
        if "levels" not in keys(options_of(chosen(step.neuron).kind)):
            hint = "take neurons with levels of their own, as --neuron graded, or leave out allocate-levels"
            raise PreconditionError(f"{step.neuron} neurons have as many levels as time steps", place=_NAME, hint=hint)
        if calibration.shown is None:
            hint = "give --data, or leave out allocate-levels"
            raise PreconditionError("which layers need more levels shows on samples only", place=_NAME, hint=hint)
        look = replace(calibration, samples=calibration.shown.thinned(self.samples))
        counted = look.histograms(graph, layers, weighed=True)
        errors = {name: [_error(graph, name, counted[name], levels) for levels in _LEVELS] for name in layers}
        sizes = {name: math.prod(graph.shapes[name]) for name in layers}
        levels = calibration.levels
        spent = sum(sizes[name] * min(_MOST_BITS, levels[name].bit_length()) for name in layers)
        mean = spent / sum(sizes.values()) if self.mean_bits is None else self.mean_bits
        bits = allocated(errors, sizes, mean)
        given = {name: with_options(step.neuron, {"levels": _LEVELS[bits[name] - 1]}, place=_NAME) for name in layers}
        return replace(step, layers={**given, **step.layers})


def allocated(errors: Mapping[str, Sequence[float]], sizes: Mapping[str, int], mean: float) -> dict[str, int]:
    """Return the bits of every layer, from 1, that leave least of the errors at so many bits a neuron in the mean.

    ``errors`` are a layer's with 1 bit, 2 bits, and so on, ``sizes`` its neurons. Bits are given out where they take
    most away for each of them, as many at once as do that best, as long as there are any.
    """
    bits = dict.fromkeys(errors, 1)
    # In whole bits: 1.15 of 100 are 14.999… more than 1.
    left = math.floor((mean - 1) * sum(sizes.values()) + 1e-6)
    while True:
        gains = [
            ((errors[name][bits[name] - 1] - errors[name][more - 1]) / (sizes[name] * (more - bits[name])), name, more)
            for name in errors
            for more in range(bits[name] + 1, len(errors[name]) + 1)
            if sizes[name] * (more - bits[name]) <= left
        ]
        gain, name, more = max(gains, key=lambda each: each[0], default=(0.0, "", 0))
        if gain <= 0:
            return bits
        left -= sizes[name] * (more - bits[name])
        bits[name] = more


def _error(graph: Graph, name: str, counts: Histogram, levels: int) -> float:
    """Return what a layer's errors on so many levels add to those of the outputs, thresholds being the best."""
    op = graph.op(name)
    assert isinstance(op, Clipped)
    shape, axis, channels = graph.shapes[name], channel_axis(graph, name), len(counts.total)
    ceiling = largest_by_channel(op.ceiling, shape, axis, channels)
    if isinstance(op, ClippedCoding):
        sides, slope = [counts, counts.mirrored()], None
    else:
        sides = [counts]
        slope = None if op.slope is None else largest_by_channel(op.slope, shape, axis, channels)
    return sum(float(side.error(side.mmse(levels, ceiling, slope), levels, ceiling, slope).sum()) for side in sides)
