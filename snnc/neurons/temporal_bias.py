"""A bias that changes from step to step.

    y(t) = x(t) + β(t) while the image is on;   y(t) = x(t) in sleep

What forward temporal bias correction (FTBC; Wu et al., ECCV 2024) adds to the current of a layer of neurons.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from snnc.ir import broadcast, operation
from snnc.neurons.base import Timed, empty_train, stretched
from snnc.schedule import Schedule


@final
@operation
@dataclass(frozen=True, eq=False)
class TemporalBias(Timed):
    """The addition of ``shift[t]`` at step t: ``[steps, ...]``, each of them broadcasting against one sample.

    Steps are counted from the start of the rehearsal, and again from its end: neurons rehearse what they will see. Past
    the last step its bias stays.
    """

    linear: ClassVar[bool] = True

    shift: Tensor

    def __post_init__(self) -> None:
        if not self.shift.ndim or not len(self.shift):
            raise ValueError("a temporal bias has at least one step")
        if not bool(self.shift.isfinite().all()):
            raise ValueError("a temporal bias must be finite")

    def shaped(self, *inputs: Tensor) -> Tensor:
        return broadcast(*inputs, self.shift[0])

    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        steps = torch.cat([torch.arange(n, device=currents.device) for n in (schedule.rehearsal, schedule.timesteps)])
        shift = self.shift[steps.clamp(max=len(self.shift) - 1)]
        ones = (1,) * (currents.ndim - self.shift.ndim)
        if schedule.shares:
            currents = stretched(currents, schedule)
        lit = currents[: schedule.lit] + shift.reshape(len(steps), *ones, *shift.shape[1:])
        if not schedule.sleep:
            return lit
        # Joined otherwise, images would lose the layout that the next layers read them in.
        shifted = empty_train(schedule.total, lit[0])
        shifted[: schedule.lit] = lit
        shifted[schedule.lit :] = currents[schedule.lit :] if len(currents) > 1 else 0
        return shifted

    def shift_at(self, step: int) -> Tensor:
        """Return what is added at a step with the image on, counted from 0 and from the last start."""
        return self.shift[min(step, len(self.shift) - 1)]
