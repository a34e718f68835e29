"""A NIR file as others read it: the reference interpreter, and the frameworks that are installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from torch import Generator

from snnc.feeds import Feeds
from snnc.formats.match import Manner
from snnc.formats.nir.file import NirFile
from snnc.formats.nir.frameworks import Framework, installed
from snnc.formats.nir.interpreter import HARD, SOFT, Interpreter
from snnc.formats.verification import Bounds, Reply, UnreadableError
from snnc.ir import Graph, Input
from snnc.neurons import Neuron
from snnc.schedule import Schedule

# Weights are rounded once more, with thresholds folded into them, and sums in another order round differently: a
# potential that comes close to its threshold fires a step earlier or later, and moves others behind it.
_BOUNDS = Bounds(equal=99.9, output_error=1e-2, given="images")


_UNKNOWN = Manner()


@final
class NirEngine:
    """A NIR file in a framework, or in the reference interpreter; the spikes of a layer are those of one node."""

    def __init__(
        self,
        name: str,
        reader: Framework | Interpreter,
        file: NirFile,
        snn: Graph,
        *,
        tolerance: Bounds | None = _BOUNDS,
        expected: NirEngine | None = None,
        note: str = "",
        manner: Manner = _UNKNOWN,
    ) -> None:
        self.name = name
        self.manner = manner
        self.layers = file.layers
        self.schedule = Schedule(file.timesteps)
        self.tolerance = tolerance
        self.expected = expected
        self.note = note
        self._reader = reader
        self._graph = file.graph
        self._snn = snn

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        (images,), (output,) = feeds.values(), self._snn.outputs
        (entry,) = self._snn.ops(Input).values()
        images = entry.entered(images.contiguous())
        try:
            fired = self._reader.answer(self._graph, images, self.schedule.timesteps)
        except Exception as refusal:  # Frameworks refuse in as many ways as there are.
            if isinstance(self._reader, Interpreter):
                raise
            said = (str(refusal).splitlines() or [""])[0]
            raise UnreadableError(said or type(refusal).__name__) from refusal
        neurons = self._snn.ops(Neuron)
        trains = {
            # Spikes are worth 1 in the file, where weights behind them hold what they are worth here.
            name: fired.spikes[node].reshape(-1, len(images), *self._snn.shapes[name]) * neurons[name].threshold
            for name, node in self.layers.items()
        }
        return {output: fired.output}, trains


def reference(file: NirFile, snn: Graph) -> NirEngine:
    """Return the interpreter that resets neurons as the file says."""
    reading = HARD if file.zero else SOFT
    return NirEngine("reference interpreter", Interpreter(reading), file, snn, manner=Manner(reading.words))


def with_hard_reset(file: NirFile, snn: Graph) -> NirEngine:
    """Return the interpreter that resets neurons as NIR defines it, whatever the file says."""
    note = "as NIR defines it, and not as this file says"
    name = "reference interpreter with a reset to zero"
    return NirEngine(name, Interpreter(HARD), file, snn, tolerance=None, note=note, manner=Manner(HARD.words))


def foreign(framework: Framework, file: NirFile, snn: Graph) -> NirEngine:
    """Return a framework, held to the reference that reads neurons as the framework does."""
    name = f"{framework.name} {framework.version}"
    reading = framework.readings[file.profile.neuron]
    expected = NirEngine(name, Interpreter(reading), file, snn)
    manner = Manner(reading.words, framework.code(file.profile.neuron))
    note = "takes neurons otherwise than the file says"
    return NirEngine(name, framework, file, snn, expected=expected, note=note, manner=manner)


def engines(file: NirFile, snn: Graph) -> Iterator[NirEngine]:
    """Yield all that can read a file here, and what a reset to zero costs where the file says another."""
    yield reference(file, snn)
    if not file.zero:
        yield with_hard_reset(file, snn)
    for framework in installed():
        if file.profile.neuron in framework.readings:
            yield foreign(framework, file, snn)
