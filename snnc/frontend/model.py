"""Read a model file, or look at what would become of it."""

from dataclasses import dataclass
from pathlib import Path

from snnc import ops
from snnc.errors import ModelError
from snnc.findings import Finding
from snnc.frontend.canonical import OnnxGraph, canonical
from snnc.frontend.check import check
from snnc.frontend.expression import Shape
from snnc.frontend.files import File, read_file
from snnc.frontend.preparation import Prepared, prepare
from snnc.frontend.walk import FOLDED, Verdict, Walked, walk
from snnc.ir import Graph


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network as a graph, what was noticed on the way, and the SHA-256 of the file it came from."""

    graph: Graph
    findings: tuple[Finding, ...]
    sha256: str


@dataclass(frozen=True)
class Survey:
    """What a file holds and what would become of it. Shapes are without the batch axis."""

    verdicts: tuple[Verdict, ...]
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    opset: int
    producer: str
    sha256: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Verdict, ...]:
        """The verdicts on what cannot become spiking."""
        return tuple(verdict for verdict in self.verdicts if verdict.problem)

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one sample."""
        return sum(verdict.macs for verdict in self.verdicts)


@dataclass(frozen=True, eq=False)
class _Reading:
    """A file at every stage of its reading."""

    file: File
    prepared: Prepared
    onnx: OnnxGraph
    walked: Walked


def read_model(path: Path, input_shape: tuple[int, ...] | None = None) -> Model:
    """Read an ONNX or TorchScript file as a graph and check it against onnxruntime on random samples.

    ``input_shape`` is that of one sample, without the batch axis; needed where the file does not say it. Raises
    DataError where there is no such file, ModelError where it cannot be read or holds unsupported operations (all of
    them listed in ``details``), VerificationError where the graph computes something else than the file.
    """
    reading = _read(path, input_shape)
    graph = reading.walked.graph
    if graph is None:
        raise _unsupported(reading.walked.verdicts, str(path))
    remarks = check(graph, reading.prepared, str(path))
    return Model(graph, reading.prepared.findings + _findings(graph) + remarks, reading.file.sha256)


def survey(path: Path, input_shape: tuple[int, ...] | None = None) -> Survey:
    """Look at an ONNX or TorchScript file: one verdict per operation, whether supported or not.

    Raises DataError and ModelError as ``read_model`` does, but never for unsupported operations.
    """
    reading = _read(path, input_shape)
    model = reading.file.model
    shapes = reading.onnx.shapes
    findings = reading.prepared.findings
    if reading.walked.graph is not None:
        findings += _findings(reading.walked.graph)
    return Survey(
        verdicts=_in_file_order(reading),
        input_shape=reading.prepared.shape,
        output_shapes=tuple(shapes.get(name, ())[1:] for name in reading.onnx.outputs),
        opset=reading.onnx.opset,
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        sha256=reading.file.sha256,
        findings=findings,
    )


def _read(path: Path, input_shape: Shape | None) -> _Reading:
    file = read_file(path, input_shape)
    prepared = prepare(file.model, input_shape, str(path))
    graph = canonical(prepared.pinned, str(path))
    fixed = [name for name in graph.outputs if name in graph.constants]
    if fixed:
        hint = "export the network without this output"
        raise ModelError(f"its output {fixed[0]!r} does not depend on its input", place=str(path), hint=hint)
    return _Reading(file, prepared, graph, walk(graph, prepared.input, prepared.shape))


def _unsupported(verdicts: tuple[Verdict, ...], place: str) -> ModelError:
    problems = [verdict for verdict in verdicts if verdict.problem]
    share = sum(verdict.share for verdict in problems)
    message = f"{len(problems)} of {len(verdicts)} operations cannot become spiking ({share:.1%} of the MACs)"
    details = tuple(
        f"{verdict.name} ({verdict.operation}): {verdict.problem}; {verdict.hint} [{verdict.share:.1%} of the MACs]"
        for verdict in problems
    )
    hint = "replace these operations and retrain, or export the network without them"
    return ModelError(message.replace("%", " %"), place=place, hint=hint, details=details)


def _findings(graph: Graph) -> tuple[Finding, ...]:
    """Remark on activations that the file has quantized already."""
    levels: dict[int, list[str]] = {}
    for name, op in graph.ops(ops.QuantizedRelu).items():
        levels.setdefault(op.levels, []).append(name)
    return tuple(
        Finding(
            code="quantized-activations",
            severity="info",
            node=names[0] if len(names) == 1 else "",
            message=f"{len(names)} activations of the file are quantized to {count} levels already",
            hint=f"{count} time steps, or a divisor of {count}, fit them best",
        )
        for count, names in sorted(levels.items())
    )


def _in_file_order(reading: _Reading) -> tuple[Verdict, ...]:
    """Return the verdicts in the order of the file, with those of its nodes that canonicalization folded away.

    Constants are no operations. Nodes that onnxruntime made stand behind the node before them.
    """
    originals = [node for node in reading.prepared.pinned.graph.node if node.op_type != "Constant"]
    place = {key: index for index, node in enumerate(originals) for key in (node.name, *node.output) if key}
    placed: list[tuple[int, int, Verdict]] = []
    seen: set[int] = set()
    index = 0
    for order, (node, verdict) in enumerate(zip(reading.onnx.nodes, reading.walked.verdicts, strict=True)):
        keys = [key for key in (node.name, *node.outputs) if key in place]
        index = place[keys[0]] if keys else index
        if keys:
            seen.add(index)
        placed.append((index, order, verdict))
    for index, original in enumerate(originals):
        if index not in seen:
            name = original.name or original.output[0]
            placed.append((index, -1, Verdict(name, original.op_type, FOLDED, 0, 0.0)))
    return tuple(verdict for _, _, verdict in sorted(placed, key=lambda entry: entry[:2]))
