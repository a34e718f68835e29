"""Layers that onnxruntime's optimizer merged with what is behind them, as the operations of ONNX that they were."""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from snnc.findings import Finding
from snnc.frontend.labels import attributes_of, bodies, opset_of, rewritten
from snnc.text import counted

_DOMAIN = "com.microsoft"
_MERGED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
# Since when the bounds of a Clip are inputs.
_BOUNDS_BY_INPUT = 11
# What functions are given beside their input.
_PARAMETERS = {
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "ThresholdedRelu": ("alpha",),
}


def apart(model: ModelProto) -> ModelProto:
    """Return the model with every merged layer as a layer, a sum where there is one, and a function."""
    if not any(_is_merged(node) for node in model.graph.node):
        return model
    made: list[TensorProto] = []
    opset = opset_of(model)
    by_input = opset >= _BOUNDS_BY_INPUT
    nodes = [
        part for node in model.graph.node for part in (_parts(node, made, by_input) if _is_merged(node) else [node])
    ]
    return rewritten(model, nodes, made)


def merged_layers(model: ModelProto) -> Iterator[Finding]:
    """Yield a finding where a file has merged layers."""
    count = sum(_is_merged(node) for body in bodies(model) for node in body.node)
    if count:
        yield Finding(
            code="optimized-by-onnxruntime",
            severity="info",
            node="",
            message=f"onnxruntime optimized the file and merged {counted(count, 'layer')} with what follows",
            hint="they are read apart; in the file from before, batch normalizations are layers of their own",
        )


def _is_merged(node: NodeProto) -> bool:
    return node.domain == _DOMAIN and node.op_type in _MERGED


def _parts(node: NodeProto, made: list[TensorProto], bounds_by_input: bool) -> Iterator[NodeProto]:
    """Yield the nodes that a merged one stands for, the last with its name; ``made`` takes their constants."""
    given = attributes_of(node)
    kind = given.get("activation", b"").decode()
    names = _PARAMETERS.get(kind, ())
    numbers = given.get("activation_params") or [given.get(f"activation_{name}") for name in names]
    parameters = {name: number for name, number in zip(names, numbers, strict=False) if number is not None}
    steps = [(_MERGED[node.op_type], [*node.input[:3]], {n: v for n, v in given.items() if "activation" not in n})]
    if any(node.input[3:]):
        steps.append(("Add", ["", node.input[3]], {}))
    if kind == "Clip" and bounds_by_input:
        bounds = [
            numpy_helper.from_array(np.array(number, np.float32), f"{node.name}/{n}")
            for n, number in parameters.items()
        ]
        made += bounds
        steps.append((kind, ["", *(bound.name for bound in bounds)], {}))
    elif kind:
        steps.append((kind, [""], parameters))
    value = ""
    for number, (own, inputs, attributes) in enumerate(steps, start=1):
        last = number == len(steps)
        name = node.name if last else f"{node.name}/{own}"
        output = node.output[0] if last else name
        yield helper.make_node(own, [value or inputs[0], *inputs[1:]], [output], name, **attributes)
        value = output
