"""Normalizations with stored statistics."""

from snnc import ops
from snnc.frontend.expression import Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators


@operators.register("BatchNormalization")
def batch_normalization(call: Call) -> Expression:
    """Read batch normalization over axis 1."""
    if call.integer("training_mode", 0):
        raise UnsupportedError("batch normalization in training mode", "call model.eval() before the export")
    scale, shift, mean, variance = (tensor(call.constant(index, "a statistic")) for index in range(1, 5))
    return chain(call.sample(), ops.BatchNorm(scale, shift, mean, variance, call.number("epsilon", 1e-5)))
