"""The self-check at the door: our graph computes what onnxruntime computes from the file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from snnc import ops
from snnc.errors import ModelError, VerificationError
from snnc.findings import Finding
from snnc.frontend.expression import Array
from snnc.frontend.inputs import FileInput
from snnc.frontend.measuring import refusal, session_options, start_session
from snnc.frontend.overflow import without_overflow
from snnc.frontend.preparation import Prepared
from snnc.frontend.weights import Weights
from snnc.ir import Graph, Input
from snnc.text import counted

# Relative errors that sums in another order explain: of values, and of what is behind steps that may have been crossed.
_TOLERANCE = 1e-3
_QUANTIZED_TOLERANCE = 5e-2
# What a file may differ by that rounds where the graph does not: most stay below the first, which is remarked on, a
# fault is beyond the last.
_UNROUNDED_TOLERANCE = 0.25
_SHARE = 0.25
# Constants of a file are rounded to float32 and may have been multiplied by one another.
_LEVEL_TOLERANCE = 1e-4
_SAMPLES = 2


def check(
    graph: Graph, values: Mapping[str, str], prepared: Prepared, place: str, *, unrounded: int = 0
) -> tuple[Finding, ...]:
    """Compare the graph with the file on random samples; return what is remarkable about a difference.

    ``values`` names the values of the file that nodes compute. A quantized rectifier has to be at a level that it would
    be at for nearly the same input, and what is behind it is computed from what the file has there: in a deep network
    one step crossed would be followed by others, and end anywhere. ``unrounded`` is how many values the file rounds
    that the graph does not. Raises VerificationError where they differ by more than sums in another order explain, and
    ModelError where there are such roundings and they differ by more than these do in other networks, on smaller
    samples too, and where the file cannot be run or computes infinities.
    """
    quantized = graph.ops(ops.QuantizedRelu)
    # One sample at a time, what is between has the batch nowhere else than in front, and so have several inputs.
    alone = bool(quantized) or len(prepared.inputs) > 1 or prepared.inputs[0].batch != 0
    file, batch = (prepared.pinned, 1) if alone and prepared.batch > 1 else (prepared.original, prepared.batch)
    generator = torch.Generator().manual_seed(0)
    count = max(batch, _SAMPLES)
    sampled = {name: (op, op.drawn(count, generator)) for name, op in graph.ops(Input).items()}
    known = {value for node in file.graph.node for value in node.output}
    between = {name: values[name] for name in quantized if values.get(name) in known}

    def compared(model: ModelProto, batch: int = batch, share: float = 1) -> _Compared:
        samples = {name: share * drawn if op.numbers == "real" else drawn for name, (op, drawn) in sampled.items()}
        given = {graph.nodes[name].place: values for name, values in samples.items()}
        parts = [_part(prepared.inputs, given, start, start + batch) for start in range(0, count, batch)]
        whole = without_overflow(model, prepared.weights)
        outputs, found = _run_file(whole, prepared.weights, between, parts, place)
        if not all(output.isfinite().all() for output in outputs):
            hint = "look for infinities in its weights and for variances below zero"
            raise ModelError("the network computes infinities or NaN from random samples", place=place, hint=hint)
        return _compared(graph, samples, outputs, found, place, exact=not unrounded)

    first = compared(file)
    _check_shapes(graph, prepared.batch, place)
    if first.problem and unrounded:
        # What is cut off is so where samples are larger than what the file was quantized on.
        smaller = compared(file, share=_SHARE)
        first = first if smaller.problem else smaller
    allowed = _UNROUNDED_TOLERANCE if unrounded else _QUANTIZED_TOLERANCE
    if prepared.free is not None:
        given = {graph.nodes[name].place: drawn for name, (_, drawn) in sampled.items()}
        _check_apart(prepared.free, prepared, given, place, allowed if quantized or unrounded else _TOLERANCE)
    if not first.problem and first.crossed <= allowed:
        return (_unrounded(unrounded, first.error),) if unrounded else ()
    if quantized:
        upward = compared(_halves_upward(file))
        if not upward.problem and upward.crossed <= _QUANTIZED_TOLERANCE:
            return (_halves_differ(first.crossed),)
    if first.problem and batch > 1 and not compared(prepared.pinned, 1).problem:
        message = f"an answer of it depends on other samples of its batch of {batch}"
        raise ModelError(message, place=place, hint="export it with a batch of 1, or a free one")
    if first.problem and unrounded:
        what = counted(unrounded, "value")
        message = f"{what} that it rounds to integers, or cuts off, and no rectifier does: {first.problem}"
        hint = "quantize what comes of rectifiers alone, or export the network unquantized"
        raise ModelError(message, place=place, hint=hint)
    if first.problem:
        raise _mismatch(first.problem, place)
    return ()


def _check_shapes(graph: Graph, batch: int, place: str) -> None:
    """Raise an error where a graph is none of one sample: ModelError where the file is of a larger batch."""
    try:
        _ = graph.shapes
    except ValueError as error:
        if batch > 1:
            message = f"samples of its batch of {batch} cannot be told apart: {error}"
            raise ModelError(message, place=place, hint="export it with a batch of 1, or a free one") from error
        raise _mismatch(f"it does not run: {error}", place) from error


def _check_apart(
    free: ModelProto, prepared: Prepared, given: Mapping[str, Tensor], place: str, tolerance: float
) -> None:
    """Raise ModelError where samples are answered otherwise together than alone.

    What the file does not run, and values of which no axis counts samples, tell nothing.
    """
    shared = {entry.name for entry in prepared.inputs if entry.batch is None}
    given = {name: values[:1].expand_as(values) if name in shared else values for name, values in given.items()}
    parts = [_part(prepared.inputs, given, start, start + 1) for start in range(_SAMPLES)]
    parts.append(_part(prepared.inputs, given, 0, _SAMPLES))
    whole = without_overflow(free, prepared.weights)
    if not _mixed(whole, prepared.weights, [output.name for output in free.graph.output], parts, place, tolerance):
        return
    inside = {value: node for node in free.graph.node for value in node.output if value}
    mixed = _mixed(whole, prepared.weights, list(inside), parts, place, tolerance)
    named = [f" from {inside[value].name!r} ({inside[value].op_type}) on" for value in mixed[:1]]
    message = f"an answer of it depends on other samples of its batch{''.join(named)}"
    raise ModelError(message, place=place, hint="export it with a batch of 1")


def _mixed(
    model: ModelProto,
    weights: Weights,
    names: Sequence[str],
    parts: Sequence[Mapping[str, Array]],
    place: str,
    tolerance: float,
) -> list[str]:
    """Return which values are others for samples together, the last of ``parts``, than for each alone."""
    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    try:
        session = start_session(shown, options, place, weights)
        *alone, together = [session.run(names, dict(part)) for part in parts]
    except Exception:
        # It is for one sample, whatever its input says.
        return []
    found = []
    for name, *apart, joint in zip(names, *alone, together, strict=True):
        if not all(isinstance(array, np.ndarray) for array in (*apart, joint)) or joint.ndim != apart[0].ndim:
            continue
        lengths = zip(apart[0].shape, joint.shape, strict=True)
        counting = [axis for axis, pair in enumerate(lengths) if pair == (1, len(apart))]
        if counting and joint.size == sum(part.size for part in apart):
            expected = torch.from_numpy(np.concatenate(apart, counting[0]))
            if not _relative_error(torch.from_numpy(joint), expected) <= tolerance:
                found.append(name)
    return found


@dataclass(frozen=True)
class _Compared:
    """What is wrong ("" where nothing is), and how far steps that were crossed have moved values, relatively.

    ``error`` is the largest relative error of an output.
    """

    problem: str
    crossed: float
    error: float = math.inf


def _compared(
    graph: Graph,
    samples: Mapping[str, Tensor],
    outputs: Sequence[Tensor],
    between: Mapping[str, Tensor],
    place: str,
    *,
    exact: bool,
) -> _Compared:
    quantized = graph.ops(ops.QuantizedRelu)
    count = len(next(iter(samples.values())))
    for name, found in between.items():
        if found.numel() != count * math.prod(graph.shapes[name]):
            return _Compared(f"{graph.nodes[name].place!r} has another size", math.inf)
    relays = {name: found.reshape(count, *graph.shapes[name]) for name, found in between.items()}
    try:
        values = computed(graph, samples, relays)
    except (RuntimeError, IndexError) as failure:
        raise _mismatch(f"it does not run: {str(failure).splitlines()[0]}", place) from failure
    tolerance = _TOLERANCE if exact else _UNROUNDED_TOLERANCE
    crossed = worst = 0.0
    for name, relayed in relays.items():
        (before,) = graph.nodes[name].inputs
        if exact and not _at_its_level(quantized[name], relays.get(before, values[before]), relayed):
            return _Compared(f"{graph.nodes[name].place!r} is at levels that its input does not explain", math.inf)
        crossed = max(crossed, _relative_error(values[name], relayed))
    behind_crossings = set(relays) != set(quantized)
    for name, output in zip(graph.outputs, outputs, strict=True):
        error = _relative_error(values[name], output)
        if name in relays:
            continue
        worst = max(worst, error)
        allowed = max(tolerance, _QUANTIZED_TOLERANCE) if behind_crossings else tolerance
        if not error <= allowed:
            return _Compared(f"relative error {error:.2g}, allowed is {allowed:g}", max(crossed, error))
    return _Compared("", crossed, max(crossed, worst))


def _at_its_level(rectifier: ops.QuantizedRelu, x: Tensor, found: Tensor) -> bool:
    """Return whether every value is at a level that rounding of the input could have led to."""
    reach = _TOLERANCE * x.square().mean().sqrt()
    nearby = torch.stack([rectifier(x - reach), rectifier(x), rectifier(x + reach)])
    slack = _LEVEL_TOLERANCE * rectifier.ceiling
    # Said so that what is no number is at no level.
    return bool(((found >= nearby.amin(0) - slack) & (found <= nearby.amax(0) + slack)).all())


def _halves_upward(model: ModelProto) -> ModelProto:
    """Return the model with its roundings to the nearest, of halves to the even, as roundings of halves upward."""
    changed = ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    half = "snnc/half"
    changed.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), half))
    for node in model.graph.node:
        if node.op_type == "Round":
            raised = f"{node.output[0]}/raised"
            changed.graph.node.append(helper.make_node("Add", [node.input[0], half], [raised]))
            changed.graph.node.append(helper.make_node("Floor", [raised], [node.output[0]]))
        else:
            changed.graph.node.append(node)
    return changed


def _unrounded(count: int, error: float) -> Finding:
    return Finding(
        code="quantization-left-out",
        severity="info" if error <= _QUANTIZED_TOLERANCE else "warning",
        node="",
        message=f"{count} values that the file rounds to integers, or cuts off, are read as they are: outputs differ "
        f"by up to {error:.1%}",
        hint="what is rounded behind a rectifier becomes its threshold and levels; weights are those of the file",
    )


def _halves_differ(error: float) -> Finding:
    return Finding(
        code="halves-round-up",
        severity="warning",
        node="",
        message=f"the file rounds halves to even, neurons round them up: activations differ by up to {error:.1%}",
        hint="compare the accuracy of the imported network; train with floor(x + 0.5) to have neither",
    )


def computed(graph: Graph, samples: Mapping[str, Tensor], relays: Mapping[str, Tensor] = {}) -> dict[str, Tensor]:
    """Return what the nodes of a graph compute for samples ``[N, ...]`` by its inputs.

    Those behind a node in ``relays`` read what is there instead.
    """
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, node in graph.nodes.items():
            inputs = (relays.get(value, values[value]) for value in node.inputs)
            values[name] = samples[name] if name in samples else node.op(*inputs)
    return values


def _run_file(
    model: ModelProto,
    weights: Weights,
    between: Mapping[str, str],
    batches: Sequence[Mapping[str, Array]],
    place: str,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return what onnxruntime computes from a form of the file for some batches by its inputs.

    Its outputs, and the values ``between``, by our nodes; each stacked over the batches.
    """
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    shown = ModelProto()
    shown.CopyFrom(model)
    outputs = [output.name for output in model.graph.output]
    asked = dict.fromkeys(between.values())
    shown.graph.output.extend(ValueInfoProto(name=value) for value in asked if value not in outputs)
    names = [*outputs, *asked]
    session = start_session(shown, options, place, weights)
    try:
        results = [session.run(names, dict(batch)) for batch in batches]
    except Exception as failure:
        raise refusal(failure, place) from failure
    stacked = [torch.from_numpy(np.stack(parts)) for parts in zip(*results, strict=True)]
    found = dict(zip(names, stacked, strict=True))
    return stacked[: len(outputs)], {node: found[value] for node, value in between.items()}


def _part(inputs: Sequence[FileInput], given: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Array]:
    """Return some samples as the file takes them, and zeros where it reads none."""
    return {
        entry.name: entry.array(given[entry.name][start:stop] if entry.name in given else torch.zeros(1, *entry.shape))
        for entry in inputs
    }


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative error in the L2 norm; infinite where the numbers of values differ, or one is no number."""
    if ours.numel() != theirs.numel():
        return math.inf
    difference = (ours.flatten().double() - theirs.flatten().double()).norm()
    error = float(difference / theirs.double().norm().clamp_min(1e-12))
    return error if math.isfinite(error) else math.inf


def _mismatch(what: str, place: str) -> VerificationError:
    hint = "this is a fault of the import, not of the network: please report it with the file"
    return VerificationError(f"the imported graph differs from the file: {what}", place=place, hint=hint)
