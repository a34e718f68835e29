"""What a conversion will do, told before it is done."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from snnc.analysis.latency import latency
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.frontend import FOLDED, LEFT_OUT, UNROLLED, InputShapes, Opened, Survey, Verdict, open_model
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import kind_of
from snnc.pipeline import outline
from snnc.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Plan:
    """What converting a file by a recipe comes to. ``survey`` says what the spiking network has for every operation.

    Where the file holds what cannot spike, ``survey`` is that of the import, ``total_steps`` (from image to answer) and
    ``layers`` (of neurons) are None, and the data is not looked at. ``images`` is how many would be read.
    """

    model: Opened
    recipe: Recipe
    survey: Survey
    total_steps: int | None = None
    layers: int | None = None
    images: int | None = None


def plan(
    model: Path,
    recipe: Recipe,
    *,
    data: Path | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
) -> Plan:
    """Tell what ``snnc.convert`` would do with the same arguments, reading no image and writing nothing.

    The passes run as they do without images: what they measure on images is weights and thresholds. Raises what
    ``convert`` raises, except for operations that cannot spike and for images that cannot be read.
    """
    read = open_model(model, input_shape)
    if read.survey.problems:
        return Plan(read, recipe, read.survey)
    network = read.model()
    images = None
    if data is not None:
        how = reading or Reading()
        dataset = open_dataset(data, preprocessing or Preprocessing(), network.graph.ops(Input), how)
        # Refuses sizes that make no sense, and reads nothing unless it is iterated.
        dataset.batches(how)
        images = len(dataset)
    snn = outline(network.graph, recipe)
    survey = replace(
        read.survey,
        verdicts=_in_the_spiking_network(read.survey.verdicts, network.graph, snn),
        findings=network.findings,
        recipe=recipe.name,
    )
    return Plan(read, recipe, survey, latency(snn, recipe.schedule), len(snn.ops(Neuron)), images)


def _in_the_spiking_network(verdicts: tuple[Verdict, ...], trained: Graph, snn: Graph) -> tuple[Verdict, ...]:
    """Return the verdicts with what the spiking network has for each operation.

    A node that was merged from several belongs to the first of them; the others are folded into it. What passes took
    out is folded into what reads it.
    """
    # What is folded into several is what these compute: no layer is its own.
    layers = {verdict.name: _layer(verdict) for verdict in verdicts if len(verdict.into) < 2}
    own: dict[str, list[Op]] = {}
    hosts: dict[str, list[str]] = {}
    for node in snn.nodes.values():
        first, *others = _sources(node, layers) or [""]
        # A value that is computed nowhere is no operation of the file, whatever it is called.
        if not isinstance(node.op, Input):
            own.setdefault(first, []).append(node.op)
        for other in others:
            hosts.setdefault(other, []).append(first)
    gone = set(layers.values()) - {*own, *hosts}
    for node in trained.nodes.values():
        for source in gone.intersection(_sources(node, layers)):
            readers = (trained.nodes[reader] for reader in _readers(trained, snn, node.name))
            found = (other for reader in readers for other in _sources(reader, layers))
            hosts.setdefault(source, []).extend(other for other in found if other != source)
    return tuple(_judged(verdict, own, hosts) for verdict in verdicts)


def _judged(verdict: Verdict, own: Mapping[str, list[Op]], hosts: Mapping[str, list[str]]) -> Verdict:
    if verdict.becomes in (FOLDED, LEFT_OUT, UNROLLED):
        return verdict
    name = _layer(verdict)
    if name in own:
        return replace(verdict, becomes=", ".join(dict.fromkeys(map(_kind, own[name]))))
    return replace(verdict, becomes=FOLDED, into=tuple(dict.fromkeys(hosts.get(name, ()))))


def _readers(trained: Graph, snn: Graph, name: str) -> Iterator[str]:
    """Yield the nodes that read a value and are still there, be it by way of others that are not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        following = [reader for reader in trained.consumers[waiting.pop()] if reader not in found]
        found.update(following)
        yield from (reader for reader in following if reader in snn.nodes)
        waiting += [reader for reader in following if reader not in snn.nodes]


def _layer(verdict: Verdict) -> str:
    """Return the operation that does what this one is a part of: often itself."""
    (name,) = verdict.into or (verdict.name,)
    return name


def _sources(node: Node, layers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the operations that a node was merged from; none where it stems from no operation."""
    return tuple(dict.fromkeys(layers[source] for source in node.source if source in layers))


def _kind(op: Op) -> str:
    return f"{kind_of(op)} neurons" if isinstance(op, Neuron) else kind_of(op)
