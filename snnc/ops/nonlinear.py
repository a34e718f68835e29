"""What is neither affine nor a place for neurons: computed on values, and lifted to spike trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Op


@dataclass(frozen=True, eq=False)
class Nonlinear(Op):
    """A function that is not affine in its inputs and that no neuron stands for.

    Run on trains it is lifted by temporal differences, so that its mean output is the function of its mean inputs.
    """

    linear: ClassVar[bool] = False
