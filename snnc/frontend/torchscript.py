"""TorchScript by way of ONNX. The only file that knows TorchScript, which torch may drop from Python 3.14 on."""

import warnings
from pathlib import Path

import torch

from snnc.errors import ModelError
from snnc.files import temporary_folder
from snnc.frontend.expression import Shape, shown

_OPSET = 17


def export_torchscript(path: Path, input_shape: Shape | None) -> bytes:
    """Return the ONNX form of a TorchScript file for samples of ``input_shape``, its batch axis free.

    Raises ModelError where the shape is missing or does not fit, and where the file is no TorchScript.
    """
    with warnings.catch_warnings():
        # Loading, tracing and exporting all warn that TorchScript is deprecated; the user cannot act on it here.
        warnings.simplefilter("ignore")
        module = _load(path)
        if input_shape is None:
            hint = "give the shape of one sample without the batch, as in --input-shape 3,32,32"
            raise ModelError("TorchScript stores no input shape", place=str(path), hint=hint)
        return _export(module.eval(), path, input_shape)


def _load(path: Path) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        hint = "save the whole network with torch.jit.trace(model, example).save(path), or export it to ONNX"
        message = "not a TorchScript file (a state dict, a pickled module, or truncated)"
        raise ModelError(message, place=str(path), hint=hint) from error
    return module


def _export(module: torch.jit.ScriptModule, path: Path, input_shape: Shape) -> bytes:
    blank = torch.zeros(1, *input_shape)
    try:
        with torch.no_grad():
            module(blank)
    except RuntimeError as error:
        reason = _reason(error)
        message = f"the network does not run on an input of {shown(input_shape)}: {reason}"
        raise ModelError(message, place=str(path), hint="check --input-shape") from error
    try:
        with temporary_folder() as folder:
            file = folder / "exported.onnx"
            torch.onnx.export(
                module,
                (blank,),
                file,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["input"],
                dynamic_axes={"input": {0: "batch"}},
                # Keeps batch normalization a layer of its own; the module is in evaluation mode already.
                training=torch.onnx.TrainingMode.PRESERVE,
            )
            return file.read_bytes()
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        hint = "export the original module with torch.onnx.export and convert the ONNX file"
        raise ModelError(
            f"TorchScript cannot be exported to ONNX: {_reason(error)}", place=str(path), hint=hint
        ) from error


def _reason(error: Exception) -> str:
    """Return the last line of an error, where TorchScript puts the cause behind its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("RuntimeError: ") if lines else type(error).__name__
