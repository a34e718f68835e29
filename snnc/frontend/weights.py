"""Large constants of a file, kept beside it: a model in memory is copied several times, and these need not be."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, numpy_helper

from snnc.frontend.expression import Array
from snnc.frontend.labels import bodies

Weights = Mapping[str, Array]

# From this size on, in bytes; what says shapes is far smaller.
LEAST = 1 << 14
# The most numbers of a constant that is written with its zeros.
_LARGEST = 1 << 30
# Those that numpy has as they lie in a file.
KINDS = {
    *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16),
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64),
}


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Yield all constants of a file: of the network, its functions, branches and loops, and those of nodes."""
    for body in bodies(model):
        if isinstance(body, GraphProto):
            yield from body.initializer
            for sparse in body.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for attribute in (attribute for node in body.node for attribute in node.attribute):
            yield from attribute.tensors
            yield from (attribute.t,) if attribute.HasField("t") else ()
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def made_dense(model: ModelProto) -> None:
    """Write sparse constants with their zeros; raises ValueError where one holds a place that is not in it."""
    for body in bodies(model):
        if isinstance(body, GraphProto):
            body.initializer.extend(_dense(sparse) for sparse in body.sparse_initializer)
            del body.sparse_initializer[:]
        for attribute in (attribute for node in body.node for attribute in node.attribute):
            if attribute.HasField("sparse_tensor"):
                attribute.t.CopyFrom(_dense(attribute.sparse_tensor))
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.ClearField("sparse_tensor")


def _dense(sparse: SparseTensorProto) -> TensorProto:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    shape = tuple(sparse.dims)
    if math.prod(shape) > _LARGEST or min(shape, default=0) < 0:
        raise ValueError("a sparse constant is larger than memory allows")
    if places.ndim == 2:
        places = np.ravel_multi_index(tuple(places.T), shape)
    array = np.zeros(math.prod(shape), values.dtype)
    if len(places) != len(values) or (len(places) and not 0 <= places.min() <= places.max() < array.size):
        raise ValueError("a sparse constant has a value at a place that is not in it")
    array[places] = values
    return numpy_helper.from_array(array.reshape(shape), sparse.values.name)


def taken_out(model: ModelProto) -> tuple[ModelProto, dict[str, Array]]:
    """Return a model that only says where its large constants lie, and these by name."""
    large = [
        tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= LEAST and tensor.data_type in KINDS
    ]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in large}
    if len(weights) < len(large):
        # Of two of a name, nobody can say which is meant.
        return model, {}
    light = ModelProto()
    _copy(model, light, "graph")
    _copy(model.graph, light.graph, "initializer")
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            light.graph.initializer.append(_placeholder(tensor.name, weights[tensor.name], tensor.data_type))
        else:
            light.graph.initializer.append(tensor)
    return light, weights


def put_back(light: ModelProto, weights: Weights) -> ModelProto:
    """Return the model with its large constants inside."""
    model = ModelProto()
    model.CopyFrom(light)
    for tensor in model.graph.initializer:
        if is_outside(tensor):
            kind = tensor.data_type
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
            assert tensor.data_type == kind
    return model


def is_outside(tensor: TensorProto) -> bool:
    """Return whether a constant of a light model is kept beside it."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def array_of(tensor: TensorProto, weights: Weights) -> Array:
    """Return the numbers of a constant, wherever they are kept."""
    return weights[tensor.name] if is_outside(tensor) else numpy_helper.to_array(tensor)


def in_single_precision(graph: GraphProto, weights: Weights) -> dict[str, Array]:
    """Make every large constant of floats a float32; return them, those that are shared as they are."""
    narrowed = dict(weights)
    for tensor in graph.initializer:
        if is_outside(tensor) and tensor.data_type in (TensorProto.DOUBLE, TensorProto.FLOAT16):
            narrowed[tensor.name] = weights[tensor.name].astype(np.float32)
            tensor.CopyFrom(_placeholder(tensor.name, narrowed[tensor.name], TensorProto.FLOAT))
    return narrowed


def _placeholder(name: str, array: Array, kind: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=array.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "beside"), ("offset", "0"), ("length", str(array.nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def _copy(source: ModelProto | GraphProto, target: ModelProto | GraphProto, but: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
