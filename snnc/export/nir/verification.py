"""A NIR file, run elsewhere, against the network, run by snnc: spike for spike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from snnc.export.comparison import percent, relative_error
from snnc.export.nir.file import NirFile
from snnc.export.nir.interpreter import Answer, Engine
from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.run import Program, predicted
from snnc.schedule import Schedule

# Fewest equal spikes of a layer, in percent, and the largest relative error of the outputs. Weights are rounded once
# more, with thresholds folded into them, and sums in another order round differently: a potential that comes close to
# its threshold fires a step earlier or later, and moves others behind it.
TOLERANCE = 99.9
OUTPUT_TOLERANCE = 1e-2


@final
@dataclass(frozen=True)
class LayerMatch:
    """The spikes of a layer, at every step and of every image: equal ones, in percent, and how many there are a step.

    ``rate`` and ``rate_there`` are spikes for each neuron and step.
    """

    name: str
    equal: float
    rate: float
    rate_there: float


@final
@dataclass(frozen=True)
class Match:
    """What two engines answer to the same images for the same number of time steps.

    ``output_error`` is the relative distance (L2) of the mean outputs, ``agreement`` the percentage of predictions that
    are the same; accuracies are in percent, and None without labels.
    """

    engine: str
    timesteps: int
    images: int
    layers: tuple[LayerMatch, ...]
    equal: float
    output_error: float
    agreement: float
    accuracy: float | None
    accuracy_there: float | None

    @property
    def mismatch(self) -> str:
        """What is beyond tolerance: the first such layer, or the outputs; "" where nothing is."""
        for layer in self.layers:
            if not layer.equal >= TOLERANCE:
                return f"layer {layer.name!r} fires {layer.equal:.3f} % of its spikes"
        if not self.output_error <= OUTPUT_TOLERANCE:
            return f"the outputs differ by {self.output_error:.1e}"
        return ""


@final
@dataclass(frozen=True)
class Network:
    """snnc itself as an engine: a spiking network, whose layers of neurons are nodes of a file."""

    snn: Graph
    layers: Mapping[str, str] = field(default_factory=dict)
    name: str = "snnc"

    def answer(self, graph: object, images: Tensor, timesteps: int) -> Answer:
        """Run images ``[N, ...]``; the graph of NIR is not looked at."""
        spikes: dict[str, Tensor] = {}

        def observe(name: str, response: Tensor) -> None:
            spikes[self.layers[name]] = (response != 0).float()

        (image,), (output,) = self.snn.inputs, self.snn.outputs
        program = Program(self.snn, Schedule(timesteps), want=[output, *self.snn.ops(Neuron)], trains=True)
        found = program(Feeds({image: images}), observe=observe)[output]
        mean = found.mean(0)
        return Answer(mean, spikes)


def match(
    file: NirFile,
    here: Engine,
    there: Engine,
    batches: Iterable[Tensor],
    labels: Tensor | None = None,
    timesteps: int | None = None,
) -> Match:
    """Run a file in two engines over images ``[N, ...]`` and compare what they fire and answer."""
    timesteps = timesteps or file.timesteps
    counts = {name: torch.zeros(4, dtype=torch.float64) for name in file.layers}
    answers: list[tuple[Tensor, Tensor]] = []
    size = _chunk(file)
    for feeds in rechunk((Feeds({"input": batch}) for batch in batches), size):
        images = feeds["input"].contiguous()
        one, other = (engine.answer(file.graph, images, timesteps) for engine in (here, there))
        for name, node in file.layers.items():
            ours, theirs = one.spikes[node], other.spikes[node].reshape(one.spikes[node].shape)
            same = (ours == theirs).sum()
            counts[name] += torch.stack([same, ours.sum(), theirs.sum(), torch.tensor(same.numel() * ours.numel())])
        answers.append((one.output, other.output))
    ours, theirs = (torch.cat(parts) for parts in zip(*answers, strict=True))
    total = sum(counts.values(), torch.zeros(4, dtype=torch.float64))
    return Match(
        engine=there.name,
        timesteps=timesteps,
        images=len(ours),
        layers=tuple(
            LayerMatch(name, 100 * float(c[0] / c[3]), float(c[1] / c[3]), float(c[2] / c[3]))
            for name, c in counts.items()
        ),
        equal=100 * float(total[0] / total[3]) if counts else 100.0,
        output_error=relative_error(theirs, ours),
        agreement=percent(predicted(ours) == predicted(theirs)),
        accuracy=None if labels is None else percent(predicted(ours) == labels),
        accuracy_there=None if labels is None else percent(predicted(theirs) == labels),
    )


def _chunk(file: NirFile) -> int:
    """Return how many samples to run at once: few enough for the trains of all layers to be held."""
    largest = max(int(node.output_type["output"].prod()) for node in file.graph.nodes.values())
    return max(1, min(64, (1 << 22) // max(1, largest * file.timesteps)))
