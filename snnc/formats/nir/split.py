"""A network in two: what NIR can say of it, from the input on, and the rest, for the host that keeps the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from torch import Generator

from snnc.analysis.work import macs
from snnc.errors import ModelError
from snnc.feeds import Feeds
from snnc.formats.nir.engines import reference
from snnc.formats.nir.file import NirFile
from snnc.formats.onnx import Onnxruntime, SpikingFile
from snnc.formats.verification import Bounds, Reply
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.schedule import Schedule

SUFFIX = ".rest.onnx"


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """A network cut at the spikes of one layer: ``front`` ends with them, ``rest`` takes them, step by step.

    ``share`` is how much of the multiply-accumulates of one sample the front has.
    """

    cut: str
    front: Graph
    rest: Graph
    share: float


def split_network(snn: Graph, write: Callable[[Graph], NirFile]) -> tuple[Parts, NirFile]:
    """Return a network in two, the front as large as NIR can say it, which ``write`` writes or raises ModelError for.

    Raises ModelError where NIR can say no layer of neurons that all behind depends on alone.
    """
    snn = snn.without_dead()
    for name in reversed([*snn.ops(Neuron)]):
        parts = _cut(snn, name)
        if parts is None:
            continue
        try:
            return parts, write(parts.front)
        except ModelError:
            continue
    raise ModelError(
        "NIR can say no part of it that ends with a layer of neurons which all behind reads alone",
        hint="export onnx or torch",
    )


def _cut(snn: Graph, name: str) -> Parts | None:
    """Return both parts of a network, None where what is behind reads more than this layer."""
    before, behind = snn.ancestors([name]), snn.ancestors(snn.outputs, stop=[name])
    if before & behind != {name} or behind & {*snn.inputs}:
        return None
    entry = Node(name, Input(snn.shapes[name]), (), snn.nodes[name].source)
    front = Graph.of((node for node in snn.nodes.values() if node.name in before), [name])
    kept = (entry if node.name == name else node for node in snn.nodes.values() if node.name in behind)
    return Parts(name, front, Graph.of(kept, snn.outputs), macs(front) / max(macs(snn), 1))


@final
class SplitEngine:
    """The front in the reference interpreter, whose spikes onnxruntime takes, step by step, and computes the rest."""

    tolerance = Bounds(equal=99.9, output_error=1e-2, given="images")
    expected, note = None, ""

    def __init__(self, file: NirFile, rest: SpikingFile, data: bytes, parts: Parts, schedule: Schedule) -> None:
        self._front = reference(file, parts.front)
        self._rest = Onnxruntime(rest, data, parts.rest, schedule)
        self._cut = parts.cut
        self.name = f"{self._front.name}, then {self._rest.name}"
        self.layers: Mapping[str, str] = {**self._front.layers, **self._rest.layers}
        self.schedule = schedule

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        _, fired = self._front.answer(feeds, generator)
        outputs, behind = self._rest.answer(Feeds({self._cut: fired[self._cut]}, over_time=[self._cut]), generator)
        return outputs, {**fired, **behind}
