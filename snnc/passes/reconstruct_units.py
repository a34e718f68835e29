"""Train the converted network unit by unit against the trained one, without labels.

A unit is the region between two points that a single value crosses: a residual block, or one layer. In order, each
unit taking what the converted network before it delivers, Adam lessens the squared distance to the trained network's
value before the unit's last activation and behind it, over weights, biases and log thresholds. Block reconstruction of
post-training quantization (BRECQ; Li et al., ICLR 2021).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Generator, Tensor

from snnc.calibration import Calibration
from snnc.data.store import FeedsStore, Store
from snnc.feeds import Feeds, laid_out
from snnc.files import temporary_folder
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.ops import Clipped, Quantized, Weighted
from snnc.passes.base import TrainingPass, check_form, check_stage, passes
from snnc.run import Program
from snnc.training.network import TrainableNetwork
from snnc.training.optimization import Shuffled, minimize, relative_distance
from snnc.training.units import Unit, units


@final
@passes.register("reconstruct-units")
@dataclass(frozen=True)
class ReconstructUnits(TrainingPass):
    """Adjust weights, biases and thresholds of one unit after the other, before neurons are substituted.

    ``steps`` of ``batch_size`` images for each unit, each of which changes at most ``learning_rate`` of a layer's size;
    ``weights: false`` trains thresholds alone; ``seed`` draws the order of the images. Without images nothing is done.
    """

    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 0.015
    weights: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch size start at 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("the learning rate must be positive and finite")

    def planned(self, samples: int) -> int:
        return self.steps

    def requires(self, graph: Graph) -> None:
        check_stage(graph, Clipped, Neuron)

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        if calibration.samples is None or not graph.ops(Quantized):
            return graph
        check_form(calibration.reference, graph)
        with temporary_folder() as folder:
            return _Walk(calibration, graph, self, folder).reconstructed()


class _Walk:
    """Both networks, advanced together one unit at a time over all samples."""

    def __init__(self, calibration: Calibration, graph: Graph, options: ReconstructUnits, folder: Path) -> None:
        assert calibration.samples is not None
        self._reference = Program(calibration.reference).graph
        self._graph = graph
        self._schedule = calibration.schedule
        self._progress = calibration.progress
        self._options = options
        self._folder = folder
        self._stores = 0
        self._chunk = Program(graph).chunk
        self._generator = Generator().manual_seed(options.seed)
        self._samples = FeedsStore(folder / "samples", calibration.samples.batches())

    def reconstructed(self) -> Graph:
        found = units(self._graph)
        if not found:
            return self._graph
        wanted = self._entered(self._reference, found[0].entry)
        reached = self._entered(self._graph, found[0].entry)
        for index, unit in enumerate(found):
            self._progress(index, len(found))
            goal = self._reference.nodes[unit.exit].inputs[0] if unit.activation else unit.exit
            target = self._advanced(self._reference, unit.entry, wanted, goal)
            self._graph = self._trained(unit, reached, target)
            wanted = self._advanced(self._reference, goal, target, unit.exit)
            reached = self._advanced(self._graph, unit.entry, reached, unit.exit)
        return self._graph

    def _trained(self, unit: Unit, reached: Store, target: Store) -> Graph:
        kinds = (Weighted, Quantized) if self._options.weights else (Quantized,)
        trained = [name for name in unit.nodes if isinstance(self._graph.op(name), kinds)]
        if not trained:
            return self._graph
        network = TrainableNetwork(self._graph, self._schedule, trained)
        before = self._graph.nodes[unit.exit].inputs[0] if unit.activation else unit.exit
        activation = self._reference.op(unit.exit) if unit.activation else None

        def shown(chosen: Tensor) -> tuple[Feeds, Tensor]:
            return Feeds({unit.entry: reached[chosen]}), laid_out(target[chosen])

        def loss(samples: tuple[Feeds, Tensor]) -> Tensor:
            entered, goal = samples
            values = network(entered, [before, unit.exit])
            distance = relative_distance(values[before], goal)
            return distance + relative_distance(values[unit.exit], activation(goal)) if activation else distance

        batch = min(self._options.batch_size, len(reached))
        batches = Shuffled(torch.arange(len(reached)), batch, self._generator)
        minimize(
            network,
            shown,
            loss,
            batches,
            steps=self._options.steps,
            learning_rate=self._options.learning_rate,
            place="reconstruct-units",
        )
        return network.graph()

    def _entered(self, graph: Graph, end: str) -> Store:
        """Return the values of ``end`` for the samples."""
        program = Program(graph, want=[end])
        chunks = torch.split(torch.arange(len(self._samples)), self._chunk)
        return self._store(program(self._samples[chunk])[end][0] for chunk in chunks)

    def _advanced(self, graph: Graph, entry: str, values: Store, end: str) -> Store:
        """Return the values of ``end`` for those of ``entry``."""
        program = Program(graph, want=[end], given=[entry])
        return self._store(
            program(Feeds({}), given={entry: laid_out(chunk).unsqueeze(0)})[end][0]
            for chunk in values.chunks(self._chunk)
        )

    def _store(self, chunks: Iterable[Tensor]) -> Store:
        self._stores += 1
        return Store(self._folder / str(self._stores), chunks)
