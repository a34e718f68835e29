"""From a file on disk to an ONNX model in memory, or one error that says what is wrong with the file."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from snnc.errors import DataError, ModelError
from snnc.files import check_file, linked, read_bytes
from snnc.findings import Finding
from snnc.frontend.bounds import too_large
from snnc.frontend.expression import InputShapes
from snnc.frontend.strangers import BUNDLES, stranger
from snnc.frontend.weights import Weights, made_dense, taken_out, tensors_of
from snnc.process import memory
from snnc.text import foreign

# The first version of ONNX that is read.
_OLDEST = 7
# Numbers that share a byte, and how many bits each has.
_PACKED = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model as it was read, its large constants beside it.

    ``sha256`` is of the file's bytes, then of those of its ``external`` data; ``findings`` are on how it was read.
    """

    model: ModelProto
    weights: Weights
    sha256: str
    external: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_file(path: Path, input_shape: InputShapes) -> ModelFile:
    """Read ONNX or TorchScript; raises DataError where there is no such file and ModelError where it is neither."""
    if path.is_dir():
        found = next((BUNDLES[name] for name in sorted(BUNDLES) if (path / name).exists()), None)
        message, hint = found or ("a folder, not a file", "check the path")
        raise DataError(message, place=str(path), hint=hint)
    data = read_bytes(linked(path), most=memory())
    digest = hashlib.sha256(data)
    known = stranger(path, data)
    if known is not None:
        what, hint = known
        raise ModelError(f"{what}, no ONNX and no TorchScript", place=str(path), hint=hint)
    if data.startswith(b"PK"):
        # Lazily, since torch's exporter takes a while to import.
        from snnc.frontend.torchscript import export_torchscript

        data, said = export_torchscript(path, input_shape)
        return ModelFile(*taken_out(_parsed(data, path)), digest.hexdigest(), findings=_told(said))
    model = _parsed(data, path)
    del data
    external = _external_files(model, path)
    for file in external:
        digest.update(file.read_bytes())
    try:
        made_dense(model)
    except ValueError as error:
        raise ModelError(f"not a valid network: {error}", place=str(path), hint="export it again") from None
    return ModelFile(*taken_out(model), digest.hexdigest(), external)


def _told(said: str) -> tuple[Finding, ...]:
    """Return a finding on what a network printed when it was run."""
    if not said.strip():
        return ()
    message = f"the network prints when it runs: {foreign(said)!r}"
    hint = "what it does besides computing its outputs is not converted"
    return (Finding("network-prints", "info", "", message, hint),)


def _parsed(data: bytes, path: Path) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        hint = "give an ONNX file or a TorchScript file; a truncated download reads like this, too"
        raise ModelError("not an ONNX model", place=str(path), hint=hint) from None
    if not all(isinstance(text, str) for node in model.graph.node for text in (node.op_type, node.domain, node.name)):
        raise ModelError("not an ONNX model: a name is no text", place=str(path), hint="the file is damaged")
    if model.graph.node and not (model.graph.output and all(any(node.output) for node in model.graph.node)):
        what = "an operation" if model.graph.output else "it"
        raise ModelError(f"{what} has no output", place=str(path), hint="export the network with its output")
    if not model.graph.node or not model.opset_import:
        hint = "give an ONNX file or a TorchScript file with at least one operation"
        what = "it says no opset" if model.graph.node else "it holds no network"
        raise ModelError(f"not an ONNX model: {what}", place=str(path), hint=hint)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), _OLDEST)
    if opset < _OLDEST:
        message = f"the file is of opset {opset}, and onnxruntime reads those from {_OLDEST} on"
        hint = "export it again with a newer opset, or try onnx.version_converter, which may change what it computes"
        raise ModelError(message, place=str(path), hint=hint)
    return model


def _external_files(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """Load the external data into the model; return the files it lies in, by name."""
    files: dict[str, Path] = {}
    for tensor in tensors_of(model):
        if uses_external_data(tensor):
            try:
                info = ExternalDataInfo(tensor)
                file = files.setdefault(info.location, _beside(path, info.location))
                _load(tensor, file, int(info.offset or 0), info.length)
            except (KeyError, OSError, TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                message = f"its external data cannot be read: {reason}"
                raise ModelError(message, place=str(path), hint="export it again") from None
    return tuple(files[name] for name in sorted(files))


def _beside(path: Path, name: str) -> Path:
    """Return the file of external data, which lies in the model's folder or where the model itself is linked to."""
    written = path.parent / name
    # Exporters on Windows separate folders by backslashes.
    parts = Path(name if written.exists() else name.replace("\\", "/"))
    file = linked(path.parent / parts)
    homes = {path.parent.resolve(), linked(path).resolve().parent}
    inside = not parts.is_absolute() and ".." not in parts.parts
    if not inside or not any(file.resolve().is_relative_to(home) for home in homes):
        hint = "external data has to lie beside the model file or below"
        raise ModelError(f"its external data {name!r} lies elsewhere", place=str(path), hint=hint)
    try:
        size = check_file(file, hint=f"put {name!r} beside the model file")
    except DataError as error:
        message = error.message.replace("no such file", f"{name!r} is missing")
        raise ModelError(f"its external data: {message}", place=str(path), hint=error.hint) from None
    if size > memory():
        raise too_large(size, f"its external data {name!r}", str(path))
    return file


def _load(tensor: TensorProto, file: Path, offset: int, length: int | None) -> None:
    """Put the bytes of a constant where they belong; raises ValueError where there are fewer."""
    whole = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    bits = _PACKED.get(TensorProto.DataType.Name(tensor.data_type), whole)
    needed = -(-math.prod(tensor.dims) * bits // 8)
    size = file.stat().st_size
    if min(tensor.dims, default=0) < 0 or offset < 0 or (length is not None and int(length) < needed):
        raise ValueError(f"{tensor.name!r} has another size than its shape")
    if offset + needed > size:
        raise ValueError(f"{file.name!r} ends before {tensor.name!r}")
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(needed)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
