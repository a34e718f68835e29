"""Read a module of torch that a program holds."""

import inspect
from collections.abc import Mapping

import torch

from snnc.errors import ModelError, SnncError
from snnc.files import temporary_folder
from snnc.frontend.expression import InputShapes
from snnc.frontend.model import Model, read_model
from snnc.frontend.torchscript import Example, export_module

__all__ = ["Example", "example_of", "read_module"]

# What the only array is called.
_X = "x"


def read_module(module: torch.nn.Module, example: Example | None, input_shape: InputShapes = None) -> Model:
    """Read a module as ``read_model`` reads its file, from a batch that it takes, or of samples of a shape.

    Raises ModelError where there is neither, or the module does not run on it, and what ``read_model`` raises, with the
    name of its class as the place.
    """
    name = type(module).__name__
    if example is None and input_shape is not None:
        by_name = isinstance(input_shape, Mapping)
        stated = input_shape if isinstance(input_shape, Mapping) else {_X: input_shape}
        blanks = {key: torch.zeros(1, *shape) for key, shape in stated.items()}
        example = blanks if by_name else blanks[_X]
    if example is None:
        hint = "give example=, a batch that it takes, or data= with arrays"
        raise ModelError("a module does not say what it takes", place=name, hint=hint)
    with temporary_folder() as folder:
        path = folder / f"{name}.onnx"
        path.write_bytes(export_module(module, example))
        try:
            return read_model(path)
        except SnncError as error:
            error.place = error.place.replace(str(path), name)
            raise


def example_of(module: torch.nn.Module, samples: Mapping[str | int, torch.Tensor]) -> Example | None:
    """Return what of samples, by name or in order, a module takes: labels come after; None where that is not clear."""
    parameters = inspect.signature(module.forward).parameters.values()
    pixels = {name: part.float() if part.dtype == torch.uint8 else part for name, part in samples.items()}
    if 0 in samples:
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        needed = sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
        return tuple(pixels.values())[: max(1, needed)]
    named = {p.name: pixels[p.name] for p in parameters if p.name in pixels}
    return named or pixels.get(_X)
