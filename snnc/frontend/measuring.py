"""Running a file in onnxruntime, and the shapes of values that only a run tells."""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from snnc.errors import ModelError
from snnc.frontend.expression import Array, Shape
from snnc.frontend.labels import read_values
from snnc.frontend.weights import Weights, is_outside
from snnc.text import foreign

INTEGERS = {
    TensorProto.BOOL,
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
}

# How onnxruntime tells that a file is of a version to come.
_NEWER = re.compile(r"(?i)(opset|IR version):? ([0-9]+)(?: is under development|, max supported)")
# And that it knows an operation, but not for these numbers, or not on a processor.
_MISSING = re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node with name '(.*)'")

# How many values come out of these depends on what goes in, whatever came out once.
_COUNTING = {"NonMaxSuppression", "NonZero", "StringSplit", "Unique"}
# Runs that must agree, the first of zeros.
_RUNS = 3
_FATAL_ONLY = 4
_ENDLESS = {"Loop", "Scan"}

# What the environment says is asked for on its own by some of its parts.
onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(_FATAL_ONLY)


def values_of(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """Yield all that a graph says of its values."""
    yield from graph.value_info
    yield from graph.input
    yield from graph.output


def shape_of(value: ValueInfoProto) -> Shape | None:
    """Return the shape of a value, None where it is not known."""
    dimensions = value.type.tensor_type.shape.dim
    if not value.type.tensor_type.HasField("shape") or not all(axis.HasField("dim_value") for axis in dimensions):
        return None
    return tuple(axis.dim_value for axis in dimensions)


def inferred(model: ModelProto, *, by_data: bool = False) -> GraphProto:
    """Return the graph of a model with the shapes that follow, ``by_data`` those from what is computed of shapes, too.

    Where nothing follows, as where a domain is not imported, it is the graph as it is.
    """
    try:
        return shape_inference.infer_shapes(model, data_prop=by_data).graph
    except shape_inference.InferenceError:
        return model.graph


def shapes_of(model: ModelProto, *, by_data: bool = False) -> dict[str, Shape | None]:
    """Return the shapes of values, as ``inferred`` has them, by name; None where one is not known."""
    return {value.name: shape_of(value) for value in values_of(inferred(model, by_data=by_data))}


def measured(model: ModelProto, weights: Weights, place: str) -> dict[str, Array]:
    """Return arrays of the shapes and types that values have of which the file does not say them, by name.

    The file is run on a few inputs. What comes out in different shapes, or is counted out of data, is left out, and so
    is everything where the file does not run.
    """
    graph = model.graph
    known = {value.name for value in values_of(graph) if shape_of(value) is not None}
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    # What stands in for operations that onnxruntime does not know can be given nothing.
    foreign = {value.name for value in inputs} - known
    counted: set[str] = set()
    nodes, unknown = [], []
    for node in graph.node:
        # A loop that is still there is decided by data, and may never end.
        if node.op_type in _ENDLESS or foreign & {*read_values(node)}:
            foreign.update(node.output)
            continue
        nodes.append(node)
        if node.op_type in _COUNTING or counted & {*node.input}:
            counted.update(name for name in node.output if name not in known)
        unknown += [name for name in node.output if name and name not in known and name not in counted]
    if not unknown:
        return {}
    inputs = [value for value in inputs if value.name not in foreign]
    asking = ModelProto()
    asking.CopyFrom(model)
    for entries, wanted in (
        (asking.graph.node, nodes),
        (asking.graph.input, inputs),
        (asking.graph.output, [ValueInfoProto(name=name) for name in unknown]),
    ):
        del entries[:]
        entries.extend(wanted)
    try:
        session = start_session(
            asking, session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), place, weights
        )
        runs = [session.run(unknown, {value.name: _given(value, run) for value in inputs}) for run in range(_RUNS)]
    except Exception:
        # Whatever the reason is: then they are not known, which is told where it matters.
        return {}
    found = {}
    for name, *arrays in zip(unknown, *runs, strict=True):
        if all(isinstance(array, np.ndarray) and array.shape == arrays[0].shape for array in arrays):
            found[name] = arrays[0]
    return found


def session_options(level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.SessionOptions:
    """Return quiet options; one thread is fastest for a sample or two."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    # Weights laid out for speed would be there twice.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def start_session(
    model: ModelProto, options: onnxruntime.SessionOptions, place: str, weights: Weights, **arguments: Any
) -> onnxruntime.InferenceSession:
    """Start onnxruntime on a model beside which ``weights`` are kept; raises ModelError where it refuses."""
    outside = [tensor.name for tensor in model.graph.initializer if is_outside(tensor)]
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights[name])) for name in outside]
    if outside:
        options.add_external_initializers(outside, held)
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # Else a failure is printed to stdout and tried again.
            enable_fallback=0,
            **arguments,
        )
    except Exception as error:
        raise refusal(error, place) from error


def refusal(error: Exception, place: str) -> ModelError:
    """Return what an exception of onnxruntime, whose classes share no base that it exports, means to the user."""
    reason = str(error).strip().splitlines()[0]
    newer = _NEWER.search(reason)
    if newer:
        what = "opset" if newer[1] == "Opset" else newer[1]
        message = f"the file is of {what} {newer[2]}, which is newer than onnxruntime {onnxruntime.__version__} reads"
        hint = "export it with an older opset, such as 17, or update onnxruntime"
        return ModelError(message, place=place, hint=hint)
    missing = _MISSING.search(reason)
    if missing:
        operation, opset, name = missing.groups()
        message = f"onnxruntime cannot run {foreign(name)!r} ({operation} of opset {opset}) on numbers of its kind here"
        hint = "export the network in single precision, in ONNX's own operations, or with an older opset"
        return ModelError(message, place=place, hint=hint)
    hint = "check the file with onnx.checker; where it was exported for a fixed batch, export it for a batch of 1"
    return ModelError(f"not a valid network: {reason}", place=place, hint=hint)


def _given(value: ValueInfoProto, run: int) -> Array:
    """Return a value of an input for one of the runs."""
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = shape_of(value) or ()
    if kind.kind != "f":
        return np.full(shape, run % 2, kind)
    waves = np.sin(np.arange(math.prod(shape)) * (1.3 + run)).reshape(shape)
    array: Array = (waves * run).astype(kind)
    return array
