"""Functions of every number by itself."""

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Call, Converter, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.activation import unit_clipped
from snnc.ir import Op

# Those that have their own operation, called as in ONNX.
NAMED: tuple[type[ops.Function], ...] = (
    ops.Acos,
    ops.Acosh,
    ops.Asin,
    ops.Asinh,
    ops.Atan,
    ops.Atanh,
    ops.Ceil,
    ops.Cos,
    ops.Cosh,
    ops.Erf,
    ops.Exp,
    ops.Floor,
    ops.Log,
    ops.Mish,
    ops.Round,
    ops.Sigmoid,
    ops.Sign,
    ops.Sin,
    ops.Sinh,
    ops.Softplus,
    ops.Softsign,
    ops.Sqrt,
    ops.Tan,
    ops.Tanh,
)


def _reading(op: Op) -> Converter:
    return lambda call: chain(call.broadcast(0), op)


for _function in NAMED:
    operators.register(_function.__name__)(_reading(_function()))


@operators.register("Abs")
def absolute(call: Call) -> Expression:
    """Read an absolute value, the sum of two rectifiers."""
    return rectified_sum(call.broadcast(0))


@operators.register("ScaledTanh")
def scaled_tanh(call: Call) -> Expression:
    """Read ``alpha · tanh(beta · x)``."""
    alpha, beta = (ops.Affine(tensor(call.number(name, 1.0)), None) for name in ("alpha", "beta"))
    return chain(call.broadcast(0), beta, ops.Tanh(), alpha)


@operators.register("ParametricSoftplus")
def parametric_softplus(call: Call) -> Expression:
    """Read ``alpha · ln(1 + exp(beta · x))``."""
    alpha, beta = (ops.Affine(tensor(call.number(name, 1.0)), None) for name in ("alpha", "beta"))
    return chain(call.broadcast(0), beta, ops.Softplus(), alpha)


@operators.register("Reciprocal")
def reciprocal(call: Call) -> Expression:
    """Read one divided by an activation."""
    return chain(call.broadcast(0), ops.Power(tensor(-1.0)))


@operators.register("Pow")
def power(call: Call) -> Expression:
    """Read a power of an activation, of a constant, or of one activation to another."""
    base, exponent = call.constants
    if exponent is not None:
        return chain(call.broadcast(0), ops.Power(call.broadcast_constant(exponent)))
    if base is not None:
        if not np.all(base > 0):
            raise UnsupportedError("a power of a constant that is not above zero", "check the file")
        logarithm = call.broadcast_constant(np.log(base.astype(np.float64)))
        return chain(call.broadcast(1), ops.Affine(logarithm, None), ops.Exp())
    return Apply(ops.Exponentiation(), (call.broadcast(0), call.broadcast(1)))


@operators.register("Swish")
def swish(call: Call) -> Expression:
    """Read a SiLU with a steepness."""
    return chain(call.broadcast(0), ops.Silu(call.number("alpha", 1.0)))


@operators.register("SwiGLU")
def gated_swish(call: Call) -> Expression:
    """Read the product of an activation and of another's SiLU."""
    return Apply(ops.Product(), (swish(call), call.operand(1)))


@operators.register("QuickGelu")
def quick_gelu(call: Call) -> Expression:
    """Read onnxruntime's SiLU that is near to GELU."""
    return chain(call.broadcast(0), ops.Silu(call.number("alpha", 1.702)))


@operators.register("Gelu")
def gelu(call: Call) -> Expression:
    """Read a GELU, that of ONNX or onnxruntime's."""
    return chain(call.broadcast(0), ops.Gelu(call.text("approximate", "none") == "tanh"))


@operators.register("BiasGelu")
def biased_gelu(call: Call) -> Expression:
    """Read onnxruntime's GELU of a sum."""
    return chain(_biased(call), ops.Gelu())


@operators.register("FastGelu")
def fast_gelu(call: Call) -> Expression:
    """Read onnxruntime's approximate GELU, perhaps of a sum."""
    return chain(_biased(call), ops.Gelu(approximate=True))


@operators.register("Elu")
def elu(call: Call) -> Expression:
    """Read an ELU."""
    return chain(call.broadcast(0), ops.Elu(call.number("alpha", 1.0)))


@operators.register("Selu")
def selu(call: Call) -> Expression:
    """Read a SELU, an ELU that is multiplied."""
    scale = ops.Affine(tensor(call.number("gamma", 1.0507009873554805)), None)
    return chain(call.broadcast(0), ops.Elu(call.number("alpha", 1.6732632423543772)), scale)


@operators.register("Celu")
def celu(call: Call) -> Expression:
    """Read a CELU, an ELU whose input is divided by what its output is multiplied by."""
    alpha = call.number("alpha", 1.0)
    narrow, wide = (ops.Affine(tensor(factor), None) for factor in (1 / alpha, alpha))
    return chain(call.broadcast(0), narrow, ops.Elu(), wide)


@operators.register("HardSwish")
def hard_swish(call: Call) -> Expression:
    """Read the product of an activation and its hard sigmoid."""
    value = call.broadcast(0)
    return Apply(ops.Product(), (value, chain(value, *unit_clipped(1 / 6, 0.5))))


@operators.register("ThresholdedRelu")
def thresholded_relu(call: Call) -> Expression:
    """Read a rectifier that jumps."""
    return chain(call.broadcast(0), ops.ThresholdedRelu(call.number("alpha", 1.0)))


@operators.register("Shrink")
def shrink(call: Call) -> Expression:
    """Read a function that is zero around zero; where it does not jump it is a difference of rectifiers."""
    limit, shift = call.number("lambd", 0.5), call.number("bias", 0.0)
    if limit == shift and limit >= 0:
        return softly_shrunk(call.broadcast(0), limit)
    return chain(call.broadcast(0), ops.Shrink(limit, shift))


@operators.register("Mod")
def modulo(call: Call) -> Expression:
    """Read what a division leaves."""
    floored = not call.integer("fmod", 0)
    if call.constants[1] is not None:
        return chain(call.broadcast(0), ops.Remainder(call.broadcast_constant(call.constants[1]), floored))
    dividend, divisor = call.operand(0), call.operand(1)
    whole = chain(Apply(ops.Quotient(), (dividend, divisor)), ops.Floor() if floored else ops.Truncate())
    taken = chain(Apply(ops.Product(), (whole, divisor)), ops.Affine(tensor(-1.0), None))
    return Apply(ops.Add(), (dividend, taken))


@operators.register("IsNaN")
def is_no_number(call: Call) -> Expression:
    """Read nothing: a network that computes what is no number is refused."""
    return chain(call.broadcast(0), ops.Affine(tensor(0.0), None))


@operators.register("IsInf")
def is_infinite(call: Call) -> Expression:
    """Read nothing: a network that computes infinities is refused."""
    return is_no_number(call)


def rectified_sum(value: Expression) -> Expression:
    """Return ``|value|``."""
    mirror = ops.Affine(tensor(-1.0), None)
    return Apply(ops.Add(), (chain(value, ops.Relu()), chain(value, mirror, ops.Relu())))


def softly_shrunk(value: Expression, limit: float) -> Expression:
    """Return what remains of a value beyond a limit on either side."""
    mirror, lower = ops.Affine(tensor(-1.0), None), tensor(-limit)
    above = chain(value, ops.Affine(None, lower), ops.Relu())
    below = chain(value, ops.Affine(tensor(-1.0), lower), ops.Relu(), mirror)
    return Apply(ops.Add(), (above, below))


def _biased(call: Call) -> Expression:
    value = call.broadcast(0)
    if len(call.shapes) < 2 or call.shapes[1] is None:
        return value
    if call.constants[1] is None:
        return Apply(ops.Add(), (value, call.broadcast(1)))
    return chain(value, ops.Affine(None, call.broadcast_constant(call.constants[1])))
