"""From a file on disk to an ONNX model in memory, or one error that says what is wrong with the file."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from snnc.errors import DataError, ModelError
from snnc.frontend.expression import InputShapes
from snnc.frontend.weights import Weights, taken_out

_ZIP = b"PK"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model as it was read, its large constants beside it.

    ``sha256`` is of the file's bytes, then of those of its ``external`` data.
    """

    model: ModelProto
    weights: Weights
    sha256: str
    external: tuple[Path, ...] = ()


def read_file(path: Path, input_shape: InputShapes) -> ModelFile:
    """Read ONNX or TorchScript; raises DataError where there is no such file and ModelError where it is neither."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", place=str(path), hint="check the path") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint="check the path") from None
    digest = hashlib.sha256(data)
    if data.startswith(_ZIP):
        # Lazily, since torch's exporter takes a while to import.
        from snnc.frontend.torchscript import export_torchscript

        data = export_torchscript(path, input_shape)
        return ModelFile(*taken_out(_parsed(data, path)), digest.hexdigest())
    model = _parsed(data, path)
    del data
    external = _external_files(model, path)
    for file in external:
        digest.update(file.read_bytes())
    return ModelFile(*taken_out(model), digest.hexdigest(), external)


def _parsed(data: bytes, path: Path) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        hint = "give an ONNX file or a TorchScript file; a truncated download reads like this, too"
        raise ModelError("not an ONNX model", place=str(path), hint=hint) from None
    if not all(isinstance(text, str) for node in model.graph.node for text in (node.op_type, node.domain, node.name)):
        raise ModelError("not an ONNX model: a name is no text", place=str(path), hint="the file is damaged")
    if not model.graph.node or not model.opset_import:
        hint = "give an ONNX file or a TorchScript file with at least one operation"
        raise ModelError("not an ONNX model: it holds no network", place=str(path), hint=hint)
    return model


def _external_files(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """Load the external data into the model; return the files it lies in, by name."""
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    names = sorted({ExternalDataInfo(tensor).location for tensor in outside})
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            hint = "external data has to lie beside the model file or below"
            raise ModelError(f"its external data {name!r} lies elsewhere", place=str(path), hint=hint)
        if not os.access(path.parent / name, os.R_OK) or not (path.parent / name).is_file():
            hint = f"put {name!r} beside the model file"
            raise ModelError(f"its external data {name!r} is missing", place=str(path), hint=hint)
    if names:
        try:
            load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"its external data cannot be read: {reason}", place=str(path), hint="export it again"
            ) from None
    return tuple(path.parent / name for name in names)
