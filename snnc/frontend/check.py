"""The self-check at the door: our graph computes what onnxruntime computes from the file."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper
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


def check(graph: Graph, values: Mapping[str, str], prepared: Prepared, place: str) -> tuple[Finding, ...]:
    """Compare the graph with the file on random samples; return what is remarkable about a difference.

    ``values`` names the values of the file that nodes compute. What is behind a quantized rectifier is computed from
    what the file has there: in a deep network one step crossed would be followed by others, and end anywhere. Raises
    VerificationError where they differ by more than sums in another order explain, and ModelError where the file cannot
    be run or computes infinities.
    """
    count = max(prepared.batch, _SAMPLES)
    samples = torch.randn(count, *prepared.shape, generator=torch.Generator().manual_seed(0))
    known = {value for node in prepared.original.graph.node for value in node.output}
    between = {name: values[name] for name in graph.ops(ops.QuantizedRelu) if values.get(name) in known}
    expected = _run_file(prepared.original, between, prepared, samples, place)
    if not all(output.isfinite().all() for output in expected.outputs):
        hint = "look for infinities in its weights and for variances below zero"
        raise ModelError("the network computes infinities or NaN from normal samples", place=place, hint=hint)
    found = _differences(graph, samples, expected, place)
    if found.tolerable:
        return ()
    if graph.ops(ops.QuantizedRelu):
        upward = _run_file(_halves_upward(prepared.original), between, prepared, samples, place)
        if _differences(graph, samples, upward, place).tolerable:
            return (_halves_differ(found.largest),)
    raise _mismatch(f"relative error {found.largest:.2g}, allowed is {found.allowed:g}", place)


@dataclass(frozen=True, eq=False)
class _Computed:
    """What the file computes: its outputs, and by our nodes the quantized values between, all ``[N, ...]``."""

    outputs: list[Tensor]
    between: dict[str, Tensor]


@dataclass(frozen=True)
class _Differences:
    """The largest relative errors: of the outputs, and of quantized values, from the same values before."""

    outputs: float
    quantized: float
    # Whether all quantized values were taken from the file, so that nothing is behind a step crossed.
    relayed: bool

    @property
    def allowed(self) -> float:
        """The largest error of the outputs that sums in another order explain."""
        return _TOLERANCE if self.relayed else _QUANTIZED_TOLERANCE

    @property
    def tolerable(self) -> bool:
        """Whether sums in another order explain it all."""
        return self.outputs <= self.allowed and self.quantized <= _QUANTIZED_TOLERANCE

    @property
    def largest(self) -> float:
        """The largest error."""
        return max(self.outputs, self.quantized)


def _differences(graph: Graph, samples: Tensor, expected: _Computed, place: str) -> _Differences:
    quantized = list(graph.ops(ops.QuantizedRelu))
    relays = {
        name: values.reshape(len(samples), *graph.shapes[name])
        for name, values in expected.between.items()
        if values.numel() == samples.new_empty(len(samples), *graph.shapes[name], device="meta").numel()
    }
    try:
        values = computed(graph, samples, relays)
    except (RuntimeError, IndexError) as failure:
        raise _mismatch(f"it does not run: {str(failure).splitlines()[0]}", place) from failure
    pairs = zip((values[name] for name in graph.outputs), expected.outputs, strict=True)
    return _Differences(
        outputs=max(_relative_error(ours, theirs) for ours, theirs in pairs),
        quantized=max((_relative_error(values[name], relays[name]) for name in relays), default=0.0),
        relayed=set(relays) == set(quantized),
    )


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
        message=f"the file rounds halves to even, neurons round them up: activations differ by up to {error:.1%}",
        hint="compare the accuracy of the imported network; train with floor(x + 0.5) to have neither",
    )


def computed(graph: Graph, samples: Tensor, relays: Mapping[str, Tensor] = {}) -> dict[str, Tensor]:
    """Return what the nodes of a graph of one input compute for samples ``[N, ...]``.

    Those behind a node in ``relays`` read what is there instead.
    """
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, node in graph.nodes.items():
            inputs = (relays.get(value, values[value]) for value in node.inputs)
            values[name] = node.op(*inputs) if node.inputs else samples
    return values


def _run_file(
    model: ModelProto, between: Mapping[str, str], prepared: Prepared, samples: Tensor, place: str
) -> _Computed:
    """Return what onnxruntime computes from a form of the file, in batches of the size that it asks for."""
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    shown = ModelProto()
    shown.CopyFrom(model)
    outputs = [output.name for output in model.graph.output]
    asked = dict.fromkeys(between.values())
    shown.graph.output.extend(ValueInfoProto(name=value) for value in asked if value not in outputs)
    names = [*outputs, *asked]
    session = start_session(shown, options, place)
    starts = range(0, len(samples), prepared.batch)
    try:
        parts = [samples[start : start + prepared.batch].numpy() for start in starts]
        batches = [session.run(names, {prepared.input: part}) for part in parts]
    except Exception as failure:
        raise refusal(failure, place) from failure
    stacked = [torch.from_numpy(np.stack(parts)) for parts in zip(*batches, strict=True)]
    found = dict(zip(names, stacked, strict=True))
    return _Computed(stacked[: len(outputs)], {node: found[value] for node, value in between.items()})


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative error in the L2 norm; infinite where the numbers of values differ."""
    if ours.numel() != theirs.numel():
        return float("inf")
    difference = (ours.flatten().double() - theirs.flatten().double()).norm()
    return float(difference / theirs.double().norm().clamp_min(1e-12))


def _mismatch(what: str, place: str) -> VerificationError:
    hint = "this is a fault of the import, not of the network: please report it with the file"
    return VerificationError(f"the imported graph differs from the file: {what}", place=place, hint=hint)
