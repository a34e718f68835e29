"""The self-check at the door: our graph computes what onnxruntime computes from the file."""

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor

from snnc import ops
from snnc.errors import ModelError, VerificationError
from snnc.findings import Finding
from snnc.frontend.canonical import refusal, session_options, start_session
from snnc.frontend.preparation import Prepared
from snnc.ir import Graph

_TOLERANCE = 1e-3
# Sums in another order cross steps of a quantized rectifier, and one crossing is a large difference.
_QUANTIZED_TOLERANCE = 5e-2
_SAMPLES = 2


def check(graph: Graph, prepared: Prepared, place: str) -> tuple[Finding, ...]:
    """Compare the graph with the file on random samples; return what is remarkable about a difference.

    Raises VerificationError where they differ by more than sums in another order explain, and ModelError where the
    file cannot be run or computes infinities.
    """
    count = max(prepared.batch, _SAMPLES)
    samples = torch.randn(count, *prepared.shape, generator=torch.Generator().manual_seed(0))
    expected = _run_file(prepared.original, prepared, samples, place)
    if not all(output.isfinite().all() for output in expected):
        hint = "look for infinities in its weights and for variances below zero"
        raise ModelError("the network computes infinities or NaN from normal samples", place=place, hint=hint)
    try:
        computed = run(graph, samples)
    except (RuntimeError, IndexError) as failure:
        raise _mismatch(f"it does not run: {str(failure).splitlines()[0]}", place) from failure
    error = _largest_error(computed, expected)
    quantized = bool(graph.ops(ops.QuantizedRelu))
    tolerance = _QUANTIZED_TOLERANCE if quantized else _TOLERANCE
    if error <= tolerance:
        return ()
    if quantized:
        upward = _run_file(_halves_upward(prepared.original), prepared, samples, place)
        if _largest_error(computed, upward) <= tolerance:
            return (_halves_differ(error),)
    raise _mismatch(f"relative error {error:.2g}, allowed is {tolerance:g}", place)


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


def _halves_differ(error: float) -> Finding:
    return Finding(
        code="halves-round-up",
        severity="warning",
        node="",
        message=f"the file rounds halves to even, neurons round them up: outputs differ by {error:.1%}",
        hint="compare the accuracy of the imported network; train with floor(x + 0.5) to have neither",
    )


def run(graph: Graph, samples: Tensor) -> list[Tensor]:
    """Return the outputs of a graph of one input for samples ``[N, ...]``."""
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, node in graph.nodes.items():
            values[name] = node.op(*(values[value] for value in node.inputs)) if node.inputs else samples
    return [values[name] for name in graph.outputs]


def _run_file(model: ModelProto, prepared: Prepared, samples: Tensor, place: str) -> list[Tensor]:
    """Return what onnxruntime computes from a form of the file, in batches of the size that it asks for."""
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    session = start_session(model, options, place)
    starts = range(0, len(samples), prepared.batch)
    try:
        parts = [samples[start : start + prepared.batch].numpy() for start in starts]
        batches = [session.run(None, {prepared.input: part}) for part in parts]
    except Exception as failure:
        raise refusal(failure, place) from failure
    return [torch.from_numpy(np.stack(parts)) for parts in zip(*batches, strict=True)]


def _largest_error(computed: list[Tensor], expected: list[Tensor]) -> float:
    return max(_relative_error(ours, theirs) for ours, theirs in zip(computed, expected, strict=True))


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative error in the L2 norm; infinite where the numbers of values differ."""
    if ours.numel() != theirs.numel():
        return float("inf")
    difference = (ours.flatten().double() - theirs.flatten().double()).norm()
    return float(difference / theirs.double().norm().clamp_min(1e-12))


def _mismatch(what: str, place: str) -> VerificationError:
    hint = "this is a fault of the import, not of the network: please report it with the file"
    return VerificationError(f"the imported graph differs from the file: {what}", place=place, hint=hint)
