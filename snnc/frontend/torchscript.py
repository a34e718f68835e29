"""TorchScript by way of ONNX. The only file that knows TorchScript, which torch may drop from Python 3.14 on.

A network is run to be exported, and may do anything then: so that happens in a process of its own, within limits.
"""

import contextlib
import copy
import itertools
import json
import math
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn.utils import parametrize

from snnc.errors import ModelError
from snnc.files import temporary_folder
from snnc.frontend.expression import Array, InputShapes, Shape, shown
from snnc.frontend.measuring import session_options, start_session
from snnc.frontend.symbolics import written_too
from snnc.process import limited_memory, memory

# A batch that a module takes.
Example: TypeAlias = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]

_OPSET = 17
# What torch's exporter says behind the cause.
_BESIDE_THE_CAUSE = re.compile(r"\. Please |  \[Caused by")
# Where torch.compile keeps the module that it compiles.
_COMPILED = "_orig_mod"
# What the only input is called.
_ONLY = "input"
# What networks take, most of them first. What is not in single precision becomes so as ONNX.
_KINDS = (torch.float32, torch.int64, torch.float16, torch.float64, torch.bfloat16)


# Seconds of the processor that a network may take to be exported: so many, and more for so many bytes of a file, and of
# a sample; and how often as many by the clock.
_SECONDS, _BYTES_A_SECOND, _SAMPLE_A_SECOND, _PATIENCE = 4, 2_000_000, 1_000_000, 20
# How much is kept of what it prints.
_KEPT = 2_000

_AS_IT_IS = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
# A relative error that neither sums in another order nor half precision within the network explain.
_TOLERANCE, _NOTHING = 0.05, 1e-6
# One number that is rounded otherwise may move all that comes behind.
_ROUNDING = {"QuantizeLinear", "Round"}

_PROCESS = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:] = asked["path"]
from snnc.frontend.torchscript import answer
answer(asked)
"""


def export_torchscript(path: Path, input_shapes: InputShapes) -> tuple[bytes, str]:
    """Return the ONNX form of a TorchScript file for samples of ``input_shapes``, its batch axes free.

    Also returns what the network printed meanwhile. Raises ModelError where a shape is missing or does not fit, where
    the file is no TorchScript, and where the network raises, crashes, does not end or takes too much memory.
    """
    seconds = _seconds(path, input_shapes)
    with temporary_folder() as folder:
        shapes = dict(input_shapes) if isinstance(input_shapes, Mapping) else input_shapes
        asked = {"path": sys.path, "file": str(path), "shapes": shapes, "folder": str(folder), "seconds": seconds}
        code, said = _run(json.dumps({**asked, "memory": memory()}).encode(), _PATIENCE * seconds)
        if code == 0 and (folder / "error").exists():
            message, hint = json.loads((folder / "error").read_bytes())
            raise ModelError(message, place=str(path), hint=hint)
        if code == 0 and (folder / "exported.onnx").exists():
            data = (folder / "exported.onnx").read_bytes()
            with np.load(folder / "answers.npz") as held:
                _check_exported(data, list(held.values()), str(path))
            return data, said
    hint = "export the original module with torch.onnx.export and convert the ONNX file"
    if code in (None, -signal.SIGXCPU, -signal.SIGKILL):
        raise ModelError(f"the network did not end within {seconds} s when it was run", place=str(path), hint=hint)
    raise ModelError(f"the network crashed when it was run (exit {code})", place=str(path), hint=hint)


def export_module(module: torch.nn.Module, example: Example) -> bytes:
    """Return the ONNX form of a module in evaluation mode, its batch axes free.

    ``example`` is a batch that it takes: a tensor, several in order, or by the names of its arguments. The module stays
    as it is. Raises ModelError, which names it, where it does not run on that, or cannot be exported.
    """
    place = Path(type(module).__name__)
    by_name: dict[str, torch.Tensor] = dict(example) if isinstance(example, Mapping) else {}
    in_order: tuple[torch.Tensor, ...] = (example,) if isinstance(example, torch.Tensor) else ()
    if not isinstance(example, torch.Tensor | Mapping):
        in_order = tuple(example)
    given: dict[str, Any] = {"example_kwarg_inputs": by_name} if by_name else {"example_inputs": in_order}
    with warnings.catch_warnings(), torch.no_grad(), _attention_in_parts():
        # As for files, and tracing tells of numbers that it takes for constants.
        warnings.simplefilter("ignore")
        try:
            still = _plain(copy.deepcopy(module).cpu().eval())
            traced = torch.jit.trace(still, check_trace=False, strict=False, **given)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever code the module holds
            taken = ", ".join(shown(tuple(part.shape)) for part in (*in_order, *by_name.values()))
            hint = "check the example; or export it with torch.onnx.export, and give the file"
            message = f"it cannot be traced on an example of {taken}: {_reason(error)}"
            raise ModelError(message, place=str(place), hint=hint) from error
        parts = by_name or dict(zip(_inputs(traced, place), in_order, strict=False))
        shapes = {name: tuple(part.shape[1:]) for name, part in parts.items()}
        data, answers = _export(traced, place, shapes if len(shapes) > 1 else {_ONLY: next(iter(shapes.values()))})
    _check_exported(data, answers, str(place))
    return data


@contextlib.contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Let torch compute attention by the operations that it is made of, not by one that is not of ONNX."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _plain(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module, which it may change, as it is written: not compiled, its weights what parametrizations make."""
    module = dict(module.named_children()).get(_COMPILED, module)
    for part in [*module.modules()]:
        # One that stands in several places is a child of each name.
        for name, child in part._modules.items():
            if child is not None:
                setattr(part, name, dict(child.named_children()).get(_COMPILED, child))
        if parametrize.is_parametrized(part):
            made = {name: getattr(part, name) for name, _ in part.get_submodule("parametrizations").named_children()}
            # A copy shares its class, of which torch would take the weights away, with the module that it is of.
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            for name, values in made.items():
                part.register_buffer(name, values)
    return module


def answer(asked: Mapping[str, Any]) -> None:
    """Write the ONNX form of a file, or the error, into a folder, as a process that is asked for nothing else."""
    folder = Path(asked["folder"])
    used = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (used + asked["seconds"], used + asked["seconds"] + 1))
    shapes = asked["shapes"]
    try:
        with limited_memory(asked["memory"]):
            data, answers = _exported(
                Path(asked["file"]),
                {name: tuple(shape) for name, shape in shapes.items()}
                if isinstance(shapes, Mapping)
                else (None if shapes is None else tuple(shapes)),
            )
    except ModelError as error:
        (folder / "error").write_text(json.dumps([error.message, error.hint]))
    except Exception as error:
        hint = "export the original module with torch.onnx.export and convert the ONNX file"
        (folder / "error").write_text(json.dumps([f"TorchScript cannot be exported to ONNX: {_reason(error)}", hint]))
    else:
        np.savez(folder / "answers.npz", *answers)
        (folder / "exported.onnx").write_bytes(data)


def _seconds(path: Path, input_shapes: InputShapes) -> int:
    shapes = input_shapes.values() if isinstance(input_shapes, Mapping) else [input_shapes or ()]
    numbers = sum(math.prod(shape) for shape in shapes)
    return int(_SECONDS + path.stat().st_size / _BYTES_A_SECOND + min(numbers / _SAMPLE_A_SECOND, 60))


def _run(asked: bytes, seconds: float) -> tuple[int | None, str]:
    """Return the exit code of a process that answers, None where it had to be stopped, and what it printed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen([sys.executable, "-P", "-c", _PROCESS], **pipes)  # type: ignore[call-overload]
    kept = bytearray()

    def listen() -> None:
        while some := process.stdout.read1(1 << 16):
            kept.extend(some[: _KEPT - len(kept)])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(asked)
            process.stdin.close()
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join()
        process.stdout.close()
    return code, kept.decode(errors="replace")


def _exported(path: Path, input_shapes: InputShapes) -> tuple[bytes, list[Array]]:
    """Return the ONNX form of a file, and what it answers; raises ModelError as ``export_torchscript`` does."""
    with warnings.catch_warnings():
        # Loading, tracing and exporting all warn that TorchScript is deprecated; the user cannot act on it here.
        warnings.simplefilter("ignore")
        module = _load(path)
        names = _inputs(module, path)
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


def _inputs(module: torch.jit.ScriptModule, path: Path) -> list[str]:
    """Return what the arguments of a network are called, in their order."""
    try:
        schema = module.forward.schema  # type: ignore[attr-defined]
    except AttributeError:
        hint = "save a whole network with torch.jit.trace(model, example).save(path)"
        raise ModelError("it has no method forward", place=str(path), hint=hint) from None
    return [argument.name for argument in schema.arguments if argument.name != "self"]


def _load(path: Path) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        hint = "save the whole network with torch.jit.trace(model, example).save(path), or export it to ONNX"
        message = "not a TorchScript file (a state dict, a pickled module, or truncated)"
        raise ModelError(message, place=str(path), hint=hint) from error
    return module


def _export(module: torch.jit.ScriptModule, path: Path, input_shapes: Mapping[str, Shape]) -> tuple[bytes, list[Array]]:
    blanks = _blanks(module, path, list(input_shapes.values()))
    module, names = _flat(module, blanks)
    try:
        with temporary_folder() as folder, written_too(_OPSET):
            file = folder / "exported.onnx"
            torch.onnx.export(
                module,
                blanks,
                file,
                dynamo=False,
                opset_version=_OPSET,
                input_names=list(input_shapes),
                output_names=[f"{name}_" if name in input_shapes else name for name in names],
                dynamic_axes={name: {0: "batch"} for name in input_shapes},
                # Keeps batch normalization a layer of its own; the module is in evaluation mode already.
                training=torch.onnx.TrainingMode.PRESERVE,
            )
            return file.read_bytes(), _answers(module, blanks)
    except (AssertionError, RuntimeError, torch.jit.Error, torch.onnx.OnnxExporterError) as error:
        hint = "export the original module with torch.onnx.export and convert the ONNX file"
        raise ModelError(
            f"TorchScript cannot be exported to ONNX: {_reason(error)}", place=str(path), hint=hint
        ) from error


def _answers(module: torch.jit.ScriptModule, blanks: Sequence[torch.Tensor]) -> list[Array]:
    """Return a random sample, input by input, and what the network answers.

    Nothing where it answers at random or does not bear such a sample, and of what is neither in single precision nor
    whole, which has ONNX of its own.
    """
    if not {blank.dtype for blank in blanks} <= {torch.float32, torch.int64}:
        return []
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(blank.shape, generator=generator) if blank.dtype == torch.float32 else blank for blank in blanks
    ]
    try:
        with torch.no_grad():
            made, again = (module(*drawn) for _ in range(2))
    except Exception:
        # It may bear no numbers below zero, or none but whole ones.
        return []
    found, repeated = ([part] if isinstance(part, torch.Tensor) else [*part] for part in (made, again))
    if not all(torch.equal(one, other) and one.isfinite().all() for one, other in zip(found, repeated, strict=True)):
        return []
    return [part.numpy() for part in drawn] + [part.double().numpy() for part in found]


def _check_exported(data: bytes, answers: Sequence[Array], place: str) -> None:
    """Raise ModelError where the ONNX form of a network has other ``answers`` than it has."""
    model = onnx.load_from_string(data)
    taken = len(model.graph.input)
    if len(answers) != taken + len(model.graph.output) or _ROUNDING & {node.op_type for node in model.graph.node}:
        return
    given = dict(zip((value.name for value in model.graph.input), answers, strict=False))
    try:
        session = start_session(model, session_options(_AS_IT_IS), place, {})
        found = session.run(None, given)
    except Exception:
        # What it does not run is told where it is read.
        return
    for ours, theirs in zip(found, answers[taken:], strict=True):
        error = np.linalg.norm(ours.astype(np.float64).ravel() - theirs.ravel()) if ours.size == theirs.size else np.inf
        if not error <= _TOLERANCE * np.linalg.norm(theirs) + _NOTHING:
            message = "torch writes ONNX that computes something else than the network"
            hint = "export the original module with torch.onnx.export(dynamo=True) and convert the ONNX file"
            raise ModelError(message, place=place, hint=hint)


def _blanks(module: torch.jit.ScriptModule, path: Path, shapes: Sequence[Shape]) -> tuple[torch.Tensor, ...]:
    """Return blank samples on which the network runs: of floats, or else of integers where it looks something up."""
    first: Exception | None = None
    for kinds in itertools.product(_KINDS, repeat=len(shapes)):
        blanks = tuple(torch.zeros(1, *shape, dtype=kind) for shape, kind in zip(shapes, kinds, strict=True))
        try:
            with torch.no_grad():
                module(*blanks)
        except (RuntimeError, torch.jit.Error) as error:
            first = first or error
        else:
            return blanks
    assert first is not None
    taken = ", ".join(map(shown, shapes))
    message = f"the network does not run on an input of {taken}: {_reason(first)}"
    raise ModelError(message, place=str(path), hint="check --input-shape") from first


def _flat(module: torch.jit.ScriptModule, blanks: tuple[torch.Tensor, ...]) -> tuple[torch.jit.ScriptModule, list[str]]:
    """Return a network that has all its tensors as outputs, and what they are called where dictionaries say so.

    The exporter knows tuples of tensors, but neither dictionaries nor what is nested.
    """
    with torch.no_grad():
        made = module(*blanks)
    plain = isinstance(made, torch.Tensor) or (isinstance(made, tuple) and made and all(map(torch.is_tensor, made)))
    # Of arguments that may be left out, it counts those, too.
    if plain and len(module.forward.schema.arguments) == 1 + len(blanks):  # type: ignore[attr-defined]
        return module, []
    found = list(_tensors(made))
    if not found:
        raise RuntimeError("it returns no tensor")
    holder = torch.nn.Module()
    holder.network = module
    flat = torch.jit.script(holder)
    taken = ", ".join(f"x{place}" for place in range(len(blanks)))
    parts = ", ".join(f"found{where}" for where, _ in found)
    returned = module.forward.schema.returns[0].type  # type: ignore[attr-defined]
    # What it was seen to return is no longer left out.
    sure = "    assert found is not None\n" if str(returned).startswith("Optional[") else ""
    try:
        flat.define(f"def forward(self, {taken}):\n    found = self.network({taken})\n{sure}    return {parts}\n")
    except RuntimeError:
        raise RuntimeError(f"it returns {returned}, of which TorchScript does not say what is in it") from None
    names = ["_".join(keys) or f"output{place}" for place, (_, keys) in enumerate(found)]
    # The exporter takes no number for a name.
    return flat.eval(), [f"output{name}" if name.isdigit() else name for name in names]


def _tensors(made: object, where: str = "", keys: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield where each tensor is in what a network returned, as Python writes it, and the keys that lead there."""
    if isinstance(made, torch.Tensor):
        yield where, keys
    elif isinstance(made, dict):
        for key, value in made.items():
            yield from _tensors(value, f"{where}[{key!r}]", (*keys, str(key)))
    elif isinstance(made, list | tuple):
        for place, value in enumerate(made):
            yield from _tensors(value, f"{where}[{place}]", (*keys, str(place)) if keys else ())


def _reason(error: Exception) -> str:
    """Return the cause that an error tells: the exporter begins with it, TorchScript ends with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, torch.onnx.OnnxExporterError):
        return _BESIDE_THE_CAUSE.split(lines[0])[0].removeprefix("Unsupported: ")
    return lines[-1].removeprefix("RuntimeError: ")
