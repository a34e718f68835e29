"""Train the whole converted network against the trained one, without labels.

Every step shows both networks the same images, flipped and shifted at random, and lessens by Adam the squared
distance between their outputs, and between what they hand on where a single value crosses (``snnc.training.units``),
each relative to the trained network's own size. Distillation of quantized networks (Mishra and Marr, ICLR 2018) with
hints (Romero et al., ICLR 2015) in place of labels.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import median
from typing import Any, Literal, final

import torch
from torch import Generator, Tensor

from snnc.calibration import Calibration
from snnc.data.store import FeedsStore
from snnc.errors import PreconditionError
from snnc.feeds import Feeds
from snnc.files import temporary_folder
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Clipped,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    Mean,
    Nonlinear,
    Pad,
    Pool,
    Quantized,
    Resample,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)
from snnc.passes.base import TrainingPass, check_stage, passes
from snnc.passes.biases import temporal_bias, with_temporal_biases
from snnc.rules import Rules
from snnc.schedule import Schedule
from snnc.training.augmentation import flipped_and_shifted
from snnc.training.comparison import Comparison
from snnc.training.network import TrainableNetwork
from snnc.training.optimization import Shuffled, minimize
from snnc.training.through_time import has_few_steps

# How often the held-out images are looked at.
_LOOKS = 10
# An error that has grown so many times at the first look has come from too high a rate: training begins anew with one
# so many times lower, and so often at most. What a network bears differs widely: wide residual ones stand a hundred
# times the rate of narrow ones of depthwise layers.
_LOST, _SLOWER, _TRIES = 1.5, 4.0, 4


@final
@passes.register("distill")
@dataclass(frozen=True)
class Distill(TrainingPass):
    """Adjust weights, biases and thresholds of the whole network at once, before or after neurons are substituted.

    Afterward it costs a simulation at every step, and is done on the spikes that the layers really receive. A tenth of
    the images is held out: the state with the least error there, the one at the start included, is what is returned.
    ``epochs`` over the images, at most ``steps`` steps of ``batch_size`` images, in an order drawn from ``seed``;
    without ``augment`` they stay as they are, without ``features`` outputs alone are compared.

    ``gradients`` of neurons are those of what they stand for, on means over the steps, or, where there are at most
    eight ``steps`` and neurons fire at each, go through these: back-propagation through time. ``temporal`` has these
    train a bias for every step as well, right before neurons; it starts at what is there, or at 0.

    ``learning_rate`` is the share of a layer's size that a step may change, divided by the number of levels, the median
    of the layers': the finer these are, the less may change at once. Where the first look shows that it is too high for
    a network, training begins anew with a lower one. Without images, or where the start is exact, nothing is done.
    """

    epochs: int = 40
    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 0.06
    features: bool = True
    augment: bool = True
    gradients: Literal["means", "steps"] = "means"
    temporal: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps, self.batch_size) < 1:
            raise ValueError("epochs, steps and batch size start at 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("the learning rate must be positive and finite")
        if self.temporal and self.gradients != "steps":
            raise ValueError("biases that change from step to step are trained with gradients: steps")

    def planned(self, samples: int) -> int:
        return self._within(max(1, samples - samples // 10))

    def requires(self, graph: Graph) -> None:
        check_stage(graph, Clipped, ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        if calibration.samples is None or not graph.ops((Quantized, Neuron)):
            return graph
        with temporary_folder() as folder:
            training, held_out = calibration.samples.split()
            samples = FeedsStore(folder / "samples", chain(training.batches(), held_out.batches()))
            return self._trained(graph, calibration, samples, len(held_out))

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        return self._prepared(graph, calibration.schedule)

    def _prepared(self, graph: Graph, schedule: Schedule) -> Graph:
        """Return the graph with a place for every bias that is trained."""
        several = self.temporal and schedule.timesteps > 1 and has_few_steps(graph, schedule)
        return with_temporal_biases(graph, schedule.timesteps) if several else graph

    def _trainable(self, graph: Graph, schedule: Schedule) -> TrainableNetwork:
        through = self.gradients == "steps" and has_few_steps(graph, schedule)
        trained = [*graph.ops((Weighted, Quantized, Neuron))]
        if self.temporal and through:
            places = (temporal_bias(graph, name) for name in graph.ops(Neuron))
            trained += [name for name in places if name is not None]
        return TrainableNetwork(graph, schedule, trained, through_steps=through)

    def _within(self, training: int) -> int:
        """Return how many steps all epochs over so many images are, as far as they are done."""
        return min(self.steps, self.epochs * max(1, training // min(self.batch_size, training)))

    def _trained(self, graph: Graph, calibration: Calibration, samples: FeedsStore, held: int) -> Graph:
        training, held_out = torch.arange(len(samples)).tensor_split([len(samples) - held])
        augmented = self.augment and _takes_images(graph)
        schedule = calibration.schedule
        prepared = self._prepared(graph, schedule)
        compare = Comparison(calibration.reference, prepared, features=self.features)
        batch = min(self.batch_size, len(training))
        steps = self._within(len(training))

        def error(network: TrainableNetwork) -> float:
            return compare.error(network, samples, held_out, batch) if held else math.inf

        begun = calibration.begun
        untrained = self._trainable(prepared, schedule)
        start: float = error(untrained) if begun is None else begun["start"]
        if not start:
            return graph
        highest = self.learning_rate / median([*calibration.levels.values()] or [schedule.timesteps])

        def attempt(number: int) -> Graph | None:
            """Return the best state of a training, None where its first look says that the rate is too high."""
            kept = begun if begun is not None and begun["attempt"] == number else None
            generator = Generator().manual_seed(self.seed)
            network = self._trainable(prepared, schedule)
            best, lowest, first = (graph, start, True) if kept is None else kept["looks"]
            batches = Shuffled(training, batch, generator, kept and kept["batches"])

            def shown(chosen: Tensor) -> Feeds:
                return _varied(samples[chosen], generator) if augmented else samples[chosen]

            def looked(step: int) -> bool:
                nonlocal best, lowest, first
                if not held or (step % max(1, steps // _LOOKS) and step != steps):
                    return True
                found = error(network)
                if found < lowest:
                    best, lowest = network.graph(), found
                lost, first = first and _LOST * start < found < math.inf, False
                return not lost

            def after(step: int, state: Callable[[], dict[str, Any]]) -> bool:
                calibration.progress(step, steps)
                going = looked(step)
                calibration.keep(
                    lambda: {
                        "attempt": number,
                        "start": start,
                        "looks": (best, lowest, first),
                        "batches": batches.state(),
                        "training": state(),
                    }
                )
                return going

            done = minimize(
                network,
                shown,
                partial(compare, network),
                batches,
                steps=steps,
                learning_rate=highest / _SLOWER**number,
                place="distill",
                after=after,
                begun=kept and kept["training"],
            )
            return (best if held else network.graph()) if done else None

        for number in range(0 if begun is None else begun["attempt"], _TRIES - 1):
            with contextlib.suppress(PreconditionError):
                found = attempt(number)
                if found is not None:
                    return found
        return attempt(_TRIES - 1) or graph


# Whether an operation reads a value of three axes as an image; None where its readers have to be asked.
reads_image = Rules[Op, bool | None]("is what comes in read as an image")


@reads_image.register(Conv, ConvTranspose, Pool)
def _yes(op: Op) -> bool:
    return True


@reads_image.register(Affine, BatchNorm, Pad, Resample)
def _as_it_comes(op: Op) -> None:
    """Another scale, another size or a border leaves an image one."""


@reads_image.register(Activation, Add, Concat, Input, Linear, Mean, Nonlinear, Reshape, Slice, Take, Timed, Transpose)
def _no(op: Op) -> bool:
    return False


def _varied(feeds: Feeds, generator: Generator) -> Feeds:
    varied = {name: flipped_and_shifted(images, generator) for name, images in feeds.items()}
    return Feeds(varied, feeds.over_time, apart=feeds.apart)


def _takes_images(graph: Graph) -> bool:
    """Return whether all that reads the one input reads an image: only then is its last axis the width.

    What of several inputs would have to move together, nobody says.
    """
    image, *others = graph.inputs
    if others:
        return False
    waiting, answers = [image], list[bool]()
    while waiting:
        for reader in graph.consumers[waiting.pop()]:
            answer = reads_image(graph.op(reader))
            if answer is None:
                waiting.append(reader)
            else:
                answers.append(answer)
    return len(graph.shapes[image]) == 3 and all(answers)
