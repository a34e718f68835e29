"""A model file with the verdicts written into it, where Netron and others show them."""

from pathlib import Path

from onnx import ModelProto, NodeProto
from onnx.onnx_ml_pb2 import StringStringEntryProto

from snnc.errors import UsageError
from snnc.files import write_atomically
from snnc.frontend.model import Opened, Survey
from snnc.frontend.walk import Verdict
from snnc.version import VERSION

_PREFIX = "snnc."
_MARK = "snnc: "
_FLAG = "--annotate"


def annotate(opened: Opened, seen: Survey, output: Path) -> None:
    """Write the model as it was opened, its weights inside, with the verdicts of ``seen``, a survey of the same file.

    A node's verdict goes into its properties (``snnc.becomes``, ``snnc.into``, ``snnc.problem``, ``snnc.hint``,
    ``snnc.share-of-macs``) and into the first line of its documentation, a summary into the properties of the model.
    What else the file says is kept, its functions written out, earlier verdicts are replaced. Raises UsageError where
    ``output`` is a file that the model was read from, DataError where it cannot be written.
    """
    if output.resolve() in {path.resolve() for path in opened.files}:
        raise UsageError("would overwrite the model", place=str(output), hint=f"choose another place with {_FLAG}")
    write_atomically(output, annotated(opened.onnx, seen).SerializeToString(deterministic=True), flag=_FLAG)


def annotated(model: ModelProto, seen: Survey) -> ModelProto:
    """Return a copy of the model with the verdicts of its survey; every constant is called one."""
    copy = ModelProto()
    copy.CopyFrom(model)
    verdicts = {verdict.position: verdict for verdict in seen.verdicts}
    for position, node in enumerate(copy.graph.node):
        verdict = verdicts.get(position, Verdict(node.name, node.op_type, "a constant", 0, 0.0))
        _set(node.metadata_props, _properties(verdict))
        _document(node, verdict)
    _set(copy.metadata_props, _summary(seen))
    return copy


def _properties(verdict: Verdict) -> dict[str, str]:
    entries = {
        "becomes": verdict.becomes,
        "into": ", ".join(verdict.into),
        "problem": verdict.problem,
        "hint": verdict.hint,
        "share-of-macs": f"{verdict.share:.6f}" if verdict.macs else "",
    }
    return {name: value for name, value in entries.items() if value}


def _summary(seen: Survey) -> dict[str, str]:
    problems = [f"{verdict.name} ({verdict.operation}): {verdict.problem}; {verdict.hint}" for verdict in seen.problems]
    return {
        "summary": seen.shortfall if problems else "every operation can become spiking",
        **({"problems": "\n".join(problems)} if problems else {}),
        **({"recipe": seen.recipe} if seen.recipe else {}),
        "macs": str(seen.macs),
        "model-sha256": seen.sha256,
        "version": VERSION,
    }


def _set(properties: "list[StringStringEntryProto]", entries: dict[str, str]) -> None:
    """Put entries behind those of others; those of an earlier annotation are dropped."""
    others = [(entry.key, entry.value) for entry in properties if not entry.key.startswith(_PREFIX)]
    del properties[:]
    for key, value in [*others, *((f"{_PREFIX}{name}", value) for name, value in entries.items())]:
        properties.append(StringStringEntryProto(key=key, value=value))


def _document(node: NodeProto, verdict: Verdict) -> None:
    own, _, rest = node.doc_string.partition("\n")
    said = rest if own.startswith(_MARK) else node.doc_string
    node.doc_string = f"{_MARK}{verdict.text}" + (f"\n{said}" if said else "")
