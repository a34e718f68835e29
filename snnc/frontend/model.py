"""Read a model file, or look at what would become of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from snnc import ops
from snnc.errors import ModelError
from snnc.findings import Finding
from snnc.frontend.bounds import blamed, check_nodes, check_sizes
from snnc.frontend.canonical import canonical
from snnc.frontend.check import check
from snnc.frontend.dequantization import BY_RANGE
from snnc.frontend.expression import InputShapes
from snnc.frontend.fate import in_file_order
from snnc.frontend.files import ModelFile, read_file
from snnc.frontend.inputs import input_ops, not_read
from snnc.frontend.labels import bodies, written_out
from snnc.frontend.merged import merged_layers
from snnc.frontend.preparation import Prepared, prepare_model
from snnc.frontend.walk import BEHIND, FOLDED, Verdict, walk
from snnc.frontend.weights import put_back
from snnc.ir import Graph

# Text names at most this many operations.
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network as a graph, what was noticed on the way, and the SHA-256 of the file it came from.

    ``properties`` are what the file says of itself, by name.
    """

    graph: Graph
    findings: tuple[Finding, ...]
    sha256: str
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """Operations of one kind that cannot become spiking for one reason, and what share of the work is theirs."""

    operation: str
    names: tuple[str, ...]
    problem: str
    hint: str
    macs: int
    share: float

    @property
    def text(self) -> str:
        """The refusal in one line."""
        (first, *others) = self.names
        what = f"{first} ({self.operation})"
        if others:
            more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
            what = f"{self.operation}, {len(self.names)} times ({', '.join(self.names[:_NAMED])}{more})"
        return f"{what}: {self.problem}; {self.hint} [{100 * self.share:.1f} % of the MACs]"


@dataclass(frozen=True)
class Survey:
    """What a file holds and what would become of it. Shapes are without the batch axis.

    ``recipe`` is the name of the recipe that the verdicts are about, "" where they are those of the import alone.
    """

    verdicts: tuple[Verdict, ...]
    input_shapes: Mapping[str, tuple[int, ...]]
    output_shapes: tuple[tuple[int, ...], ...]
    opset: int
    producer: str
    sha256: str
    findings: tuple[Finding, ...]
    recipe: str = ""

    @property
    def problems(self) -> tuple[Verdict, ...]:
        """The verdicts on what cannot become spiking."""
        return tuple(verdict for verdict in self.verdicts if verdict.problem)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The problems, those of one kind and one reason together."""
        alike: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in self.problems:
            alike.setdefault((verdict.operation, verdict.problem, verdict.hint), []).append(verdict)
        return tuple(
            Refusal(
                operation,
                tuple(verdict.name for verdict in verdicts),
                problem,
                hint,
                sum(verdict.macs for verdict in verdicts),
                sum(verdict.share for verdict in verdicts),
            )
            for (operation, problem, hint), verdicts in alike.items()
        )

    @property
    def shortfall(self) -> str:
        """How much of the network cannot become spiking, in words."""
        share = sum(verdict.share for verdict in self.problems)
        count = f"{len(self.problems)} of {len(self.verdicts)} operations"
        behind = sum(verdict.becomes == BEHIND for verdict in self.verdicts)
        more = f", and {behind} behind them cannot be judged yet" if behind else ""
        return f"{count} cannot become spiking ({100 * share:.1f} % of the MACs){more}"

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one sample."""
        return sum(verdict.macs for verdict in self.verdicts)


@dataclass(frozen=True, eq=False)
class Opened:
    """A model file that was read, supported or not; ``files`` are all that were read."""

    path: Path
    files: tuple[Path, ...]
    survey: Survey
    _file: ModelFile
    _prepared: Prepared
    _graph: Graph | None
    _values: Mapping[str, str]
    _unrounded: int

    @property
    def onnx(self) -> ModelProto:
        """What the file holds, its functions written out, or what its TorchScript was exported as."""
        return put_back(self._file.model, self._file.weights)

    def model(self) -> Model:
        """Return the network, checked against onnxruntime on random samples.

        Raises ModelError where it holds unsupported operations (all of them listed in ``details``) or computes
        infinities, VerificationError where the graph computes something else than the file.
        """
        if self._graph is None:
            raise unsupported(self.survey, str(self.path))
        with blamed(self._file.model, self._file.weights, str(self.path)):
            remarks = check(self._graph, self._values, self._prepared, str(self.path), unrounded=self._unrounded)
        properties = {entry.key: entry.value for entry in self._file.model.metadata_props}
        return Model(self._graph, self.survey.findings + remarks, self.survey.sha256, properties)


def open_model(path: Path, input_shape: InputShapes = None) -> Opened:
    """Read an ONNX or TorchScript file and look at every operation.

    ``input_shape`` is that of one sample, without the batch axis, of several inputs by their names; needed where the
    file does not say it. Raises DataError where there is no such file and ModelError where it cannot be read, but not
    for unsupported operations.
    """
    file = read_file(path, input_shape)
    with blamed(file.model, file.weights, str(path)):
        return _opened(path, file, input_shape)


def _opened(path: Path, file: ModelFile, input_shape: InputShapes) -> Opened:
    check_nodes(file.model, str(path))
    if file.model.functions:
        # What is inside one is an operation like any other, for the ends of networks as for reasons.
        file = replace(file, model=written_out(file.model))
    prepared = prepare_model(file.model, file.weights, input_shape, str(path))
    for model in (prepared.pinned, *((prepared.original,) if prepared.batch > 1 else ())):
        check_sizes(model, str(path))
    graph = canonical(prepared.pinned, prepared.weights, str(path))
    fixed = [name for name in graph.outputs if name in graph.constants]
    if fixed:
        hint = "export the network without this output"
        raise ModelError(f"its output {fixed[0]!r} does not depend on its input", place=str(path), hint=hint)
    entrances = input_ops(prepared.inputs, graph)
    walked = walk(graph, entrances)
    seen = Survey(
        verdicts=in_file_order(file.model.graph, prepared.pinned.graph, graph, walked.verdicts),
        input_shapes={given.name: given.shape for given in prepared.inputs if given.name in entrances},
        output_shapes=tuple(graph.shapes.get(name, ())[1:] for name in graph.outputs),
        opset=graph.opset,
        producer=" ".join(part for part in (file.model.producer_name, file.model.producer_version) if part),
        sha256=file.sha256,
        findings=(
            *file.findings,
            *merged_layers(file.model),
            *prepared.findings,
            *(not_read(given.name) for given in prepared.inputs if given.name not in entrances),
            *(() if walked.graph is None else _findings(walked.graph)),
        ),
    )
    # What is rounded to levels of a rectifier is; what else the file rounds is not.
    unrounded = sum(verdict.operation == "QuantizeLinear" and verdict.becomes == FOLDED for verdict in walked.verdicts)
    unrounded += sum(node.op_type in BY_RANGE for body in bodies(prepared.pinned) for node in body.node)
    return Opened(path, (path, *file.external), seen, file, prepared, walked.graph, walked.values, unrounded)


def read_model(path: Path, input_shape: InputShapes = None) -> Model:
    """Read an ONNX or TorchScript file as a graph and check it against onnxruntime on random samples.

    Raises what ``open_model`` and ``Opened.model`` raise.
    """
    return open_model(path, input_shape).model()


def unsupported(seen: Survey, place: str) -> ModelError:
    """Return the error that lists all that cannot become spiking."""
    details = tuple(refusal.text for refusal in seen.refusals)
    hint = "replace these operations and retrain, or export the network without them"
    return ModelError(seen.shortfall, place=place, hint=hint, details=details)


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
