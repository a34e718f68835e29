"""TorchScript by way of ONNX. The only file that knows TorchScript, which torch may drop from Python 3.14 on."""

import contextlib
import ctypes
import itertools
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from snnc.errors import ModelError
from snnc.files import temporary_folder
from snnc.frontend.expression import InputShapes, Shape, shown

_OPSET = 17
# What torch's exporter says behind the cause.
_BESIDE_THE_CAUSE = re.compile(r"\. Please |  \[Caused by")
# What the only input is called.
_ONLY = "input"
# What networks take, most of them first. What is not in single precision becomes so as ONNX.
_KINDS = (torch.float32, torch.int64, torch.float16, torch.float64, torch.bfloat16)


def export_torchscript(path: Path, input_shapes: InputShapes) -> bytes:
    """Return the ONNX form of a TorchScript file for samples of ``input_shapes``, its batch axes free.

    Raises ModelError where a shape is missing or does not fit, and where the file is no TorchScript.
    """
    with warnings.catch_warnings():
        # Loading, tracing and exporting all warn that TorchScript is deprecated; the user cannot act on it here.
        warnings.simplefilter("ignore")
        module = _load(path)
        names = _inputs(module)
        if input_shapes is None:
            hint = "give the shape of one sample without the batch, as in --input-shape 3,32,32"
            if len(names) > 1:
                hint = f"give the shape of one sample of each input, as in --input-shape {names[0]}=3,32,32"
            raise ModelError("TorchScript stores no input shape", place=str(path), hint=hint)
        if not isinstance(input_shapes, Mapping):
            return _export(module.eval(), path, {_ONLY: input_shapes})
        unknown = [name for name in input_shapes if name not in names]
        missing = [name for name in names[: len(input_shapes)] if name not in input_shapes]
        if unknown or missing:
            said = f"no input {unknown[0]!r}" if unknown else f"no shape for its input {missing[0]!r}"
            hint = f"give --input-shape NAME=... for: {', '.join(names)}"
            raise ModelError(f"the network has {said}" if unknown else said, place=str(path), hint=hint)
        return _export(module.eval(), path, {name: input_shapes[name] for name in names if name in input_shapes})


def _inputs(module: torch.jit.ScriptModule) -> list[str]:
    """Return what the arguments of a network are called, in their order."""
    schema = module.forward.schema  # type: ignore[attr-defined]
    return [argument.name for argument in schema.arguments if argument.name != "self"]


def _load(path: Path) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        hint = "save the whole network with torch.jit.trace(model, example).save(path), or export it to ONNX"
        message = "not a TorchScript file (a state dict, a pickled module, or truncated)"
        raise ModelError(message, place=str(path), hint=hint) from error
    return module


def _export(module: torch.jit.ScriptModule, path: Path, input_shapes: Mapping[str, Shape]) -> bytes:
    blanks = _blanks(module, path, list(input_shapes.values()))
    try:
        with temporary_folder() as folder, _printing_nothing():
            file = folder / "exported.onnx"
            torch.onnx.export(
                module,
                blanks,
                file,
                dynamo=False,
                opset_version=_OPSET,
                input_names=list(input_shapes),
                dynamic_axes={name: {0: "batch"} for name in input_shapes},
                # Keeps batch normalization a layer of its own; the module is in evaluation mode already.
                training=torch.onnx.TrainingMode.PRESERVE,
            )
            return file.read_bytes()
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        hint = "export the original module with torch.onnx.export and convert the ONNX file"
        raise ModelError(
            f"TorchScript cannot be exported to ONNX: {_reason(error)}", place=str(path), hint=hint
        ) from error


def _blanks(module: torch.jit.ScriptModule, path: Path, shapes: Sequence[Shape]) -> tuple[torch.Tensor, ...]:
    """Return blank samples on which the network runs: of floats, or else of integers where it looks something up."""
    first: RuntimeError | None = None
    for kinds in itertools.product(_KINDS, repeat=len(shapes)):
        blanks = tuple(torch.zeros(1, *shape, dtype=kind) for shape, kind in zip(shapes, kinds, strict=True))
        try:
            with torch.no_grad():
                module(*blanks)
        except RuntimeError as error:
            first = first or error
        else:
            return blanks
    assert first is not None
    taken = ", ".join(map(shown, shapes))
    message = f"the network does not run on an input of {taken}: {_reason(first)}"
    raise ModelError(message, place=str(path), hint="check --input-shape") from first


def _reason(error: Exception) -> str:
    """Return the cause that an error tells: the exporter begins with it, TorchScript ends with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, torch.onnx.OnnxExporterError):
        return _BESIDE_THE_CAUSE.split(lines[0])[0].removeprefix("Unsupported: ")
    return lines[-1].removeprefix("RuntimeError: ")


@contextlib.contextmanager
def _printing_nothing() -> Iterator[None]:
    """Let nothing be written to standard output meanwhile, where torch prints graphs that it could not export."""
    sys.stdout.flush()
    try:
        held = os.dup(1)
    except OSError:
        # It is closed.
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        # What C has written lies in its own buffer.
        ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
        os.dup2(held, 1)
        os.close(held)
