"""The minutes that a conversion may take, and what it does less of to keep to them.

How fast a machine is decides two kinds of numbers, and nothing else: of how many samples a recipe sees all, and how
many steps each of its trainings takes. They are written down, in the file and its recipe, and with them the same bytes
come again, on any machine and without minutes.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, final

import torch

from snnc.calibration import Calibration
from snnc.data.dataset import Dataset, Reading
from snnc.data.samples import DatasetSamples
from snnc.errors import PreconditionError, UsageError
from snnc.feeds import rechunk
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.passes import Pass, TrainingPass
from snnc.processes import current
from snnc.run import Program
from snnc.schedule import Schedule

T = TypeVar("T")

# What all but trainings may take of the time, by an estimate, and what a training takes of the time that is left for
# it: the rest is for what nobody foresees.
_LOOKING, _TRAINING = 0.5, 0.8
# Thresholds of fewer samples mean nothing.
_FEWEST = 16
# So many samples of a batch are trained on at once.
_PART = 8
# What numbers of samples are called among those that are decided.
_SAMPLES = "samples"


@final
class Budget:
    """The time that something may take, from when this was made; it has no end without ``minutes``.

    ``decided`` are the numbers that were decided, and of how many, by what they are of: those from before, where a
    conversion goes on that had been stopped. Of several processes the first one's time counts.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise UsageError(f"invalid value {minutes:g}", place="--minutes", hint="give a number above 0")
        self.minutes = minutes
        self.decided: dict[str, tuple[int, int]] = {}
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds, below 0 when they are over."""
        return math.inf if self.minutes is None else _agreed(60 * self.minutes - self._spent)

    @property
    def minutes_left(self) -> float | None:
        """The minutes that are left for something else, a second at least."""
        return None if self.minutes is None else max(1.0, self.left) / 60

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What there is less of, if anything, and how to have the same again."""
        less = {name: (number, whole) for name, (number, whole) in self.decided.items() if number < whole}
        if not less:
            return ()
        told = [f"{number:,} of {whole:,} {name}" for name, (number, whole) in less.items()]
        # Who goes on with what was stopped may give other minutes, or none.
        message = f"there was time for {' and '.join(told)}"
        limit = f", with --limit {less[_SAMPLES][0]}," if _SAMPLES in less else ""
        hint = f"give more --minutes; the recipe that --save-recipe writes{limit} makes the same network again"
        return (Finding("less-for-time", "warning", "", message, hint),)

    def fitting_limit(
        self, passes: Sequence[Pass], schedule: Schedule, graph: Graph, dataset: Dataset, reading: Reading
    ) -> int | None:
        """Return how many samples there is time to see all of, by how long the first few take; None for all."""
        whole = len(dataset)
        if self.minutes is not None and _SAMPLES not in self.decided:
            each, allowed = _seconds_a_sample(graph, dataset, reading), _LOOKING * self.left

            def takes(samples: int) -> float:
                return each * sum(step.runs(samples, schedule) for step in passes)

            fits = whole if takes(whole) <= allowed else _rounded(_largest(whole, lambda n: takes(n) <= allowed))
            self.decided[_SAMPLES] = _agreed(min(whole, max(_FEWEST, fits))), whole
        most, _ = self.decided.get(_SAMPLES, (whole, whole))
        return None if most >= whole else most

    def fitting_steps(self, step: Pass, name: str, graph: Graph, calibration: Calibration, following: int) -> Pass:
        """Return a pass whose training takes its share of the time that is left: as many ``following`` ones train."""
        samples = calibration.samples
        if not isinstance(step, TrainingPass) or samples is None:
            return step
        key = f"steps of {name}"
        whole = step.planned(len(samples))
        # What has begun goes on as it began.
        if self.minutes is not None and key not in self.decided and calibration.begun is None:
            # What comes behind trainings takes no longer than what came before.
            left = self.left
            share = _TRAINING * max(left / 2, left - self._spent) / (1 + following)
            fits = share / _seconds_a_step(step, graph, calibration)
            self.decided[key] = _agreed(min(whole, max(1, _rounded(fits)))), whole
        most, _ = self.decided.get(key, (whole, whole))
        return step if most >= whole else _with_steps(step, most)

    @property
    def _spent(self) -> float:
        return time.monotonic() - self._began


def _agreed(mine: T) -> T:
    """Return what the first process says, to all of them."""
    return current().folded("the time there is", mine, lambda first, others: first)


def _seconds_a_sample(graph: Graph, dataset: Dataset, reading: Reading) -> float:
    """Return how long it takes to read a sample and run the trained network on it."""
    program = Program(graph)
    few = DatasetSamples(dataset.spread(min(program.chunk, len(dataset))), reading, "")

    def seconds() -> float:
        began = time.monotonic()
        for feeds in rechunk(few.still().batches(), program.chunk):
            program(feeds)
        return time.monotonic() - began

    # The first time, memory is had and files are found.
    return min(seconds(), seconds()) / max(1, len(few))


def _seconds_a_step(step: TrainingPass, graph: Graph, calibration: Calibration) -> float:
    """Return how long a step of a training takes, by a few on a part of a batch."""
    assert calibration.samples is not None
    batch = min(step.batch_size, len(calibration.samples))
    part = min(_PART, batch)
    # Told and kept is what is made, not what is tried.
    few = replace(
        calibration,
        samples=calibration.samples.thinned(part),
        progress=lambda done, total: None,
        keep=lambda state: None,
    )

    def seconds(steps: int) -> float:
        began = time.monotonic()
        with contextlib.suppress(PreconditionError):
            _with_steps(step, steps)(graph, few)
        return time.monotonic() - began

    seconds(1)
    once, thrice = seconds(1), seconds(3)
    at_once = torch.get_num_threads() * current().count
    return max(1e-6, (thrice - once) / 2) * math.ceil(batch / part / at_once)


def _with_steps(step: TrainingPass, steps: int) -> TrainingPass:
    return replace(step, steps=steps)  # type: ignore[call-arg]


def _largest(below: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number for which something holds that holds for small ones, and does not for ``below``."""
    least = 0
    while below - least > 1:
        middle = (least + below) // 2
        least, below = (middle, below) if holds(middle) else (least, middle)
    return least


def _rounded(number: float) -> int:
    """Return a number without what is beyond its first two digits, which no clock knows."""
    if number < 100:
        return int(number)
    unit = 10 ** (math.floor(math.log10(number)) - 1)
    return int(number // unit * unit)
