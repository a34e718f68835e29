"""Functions of every number by itself and of several beside one another; onnxruntime is the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import read_model
from snnc.frontend.expression import Apply, Call
from snnc.frontend.operators import operators
from snnc.neurons import neurons
from snnc.run import ONCE
from snnc.schedule import Schedule
from tests.frontend_files import array, one, parity, save
from tests.support import run as signals_of

SHAPE = (3, 5)
FRONT = {
    "any": [one("Identity", ["x"], ["a"])],
    "positive": [one("Abs", ["x"], ["p"]), one("Add", ["p", "tenth"], ["a"])],
    "unit": [one("Clip", ["x", "low", "high"], ["a"])],
    "beyond one": [one("Abs", ["x"], ["p"]), one("Add", ["p", "one"], ["a"])],
}
CONSTANTS = {
    "one": np.float32(1),
    "two": np.float32(2),
    "tenth": np.float32(0.1),
    "low": np.float32(-0.9),
    "high": np.float32(0.9),
    "vector": array(5),
    "exponents": np.float32([0.5, 1, 2, 3, -1]),
    "mask": np.array([True, False, True, True, False]),
}
B = one("Mul", ["x", "vector"], ["b"])
POSITIVE = [one("Abs", ["b"], ["q"]), one("Add", ["q", "tenth"], ["c"])]

# Nodes between ``a`` and ``y``, what ``a`` is, and the first opset.
FUNCTIONS: dict[str, tuple[list[Any], str, int]] = {
    **{kind: ([one(kind, ["a"])], "any", 13) for kind in ("Abs", "Erf", "Exp", "Sign", "Sin", "Cos", "Tan", "Atan")},
    **{kind: ([one(kind, ["a"])], "any", 13) for kind in ("Sinh", "Cosh", "Asinh", "Softplus", "Softsign", "Tanh")},
    **{kind: ([one(kind, ["a"])], "any", 13) for kind in ("Floor", "Ceil", "Round", "Elu", "Selu", "Celu", "Neg")},
    **{kind: ([one(kind, ["a"])], "unit", 13) for kind in ("Asin", "Acos", "Atanh")},
    **{kind: ([one(kind, ["a"])], "positive", 13) for kind in ("Log", "Sqrt", "Reciprocal")},
    "Acosh": ([one("Acosh", ["a"])], "beyond one", 13),
    "Elu wide": ([one("Elu", ["a"], alpha=0.4)], "any", 13),
    "Celu wide": ([one("Celu", ["a"], alpha=1.7)], "any", 13),
    "Mish": ([one("Mish", ["a"])], "any", 18),
    "Gelu": ([one("Gelu", ["a"])], "any", 20),
    "Gelu tanh": ([one("Gelu", ["a"], approximate="tanh")], "any", 20),
    "Swish": ([one("Swish", ["a"], alpha=1.3)], "any", 24),
    "HardSwish": ([one("HardSwish", ["a"])], "any", 14),
    "HardSigmoid": ([one("HardSigmoid", ["a"], alpha=0.3)], "any", 13),
    "ThresholdedRelu": ([one("ThresholdedRelu", ["a"], alpha=0.6)], "any", 13),
    "Shrink": ([one("Shrink", ["a"], lambd=0.7)], "any", 13),
    "Shrink soft": ([one("Shrink", ["a"], lambd=0.7, bias=0.7)], "any", 13),
    "Mod": ([one("Mod", ["a", "two"], fmod=1)], "any", 13),
    "Mod of two": ([B, *POSITIVE, one("Mod", ["a", "c"], fmod=1)], "any", 13),
    "Pow": ([one("Pow", ["a", "two"])], "any", 13),
    "Pow of a constant": ([one("Pow", ["two", "a"])], "any", 13),
    "Pow by vector": ([one("Pow", ["a", "exponents"])], "positive", 13),
    "Pow of two": ([B, one("Pow", ["a", "b"])], "positive", 13),
    "Div": ([B, *POSITIVE, one("Div", ["a", "c"])], "any", 13),
    "Div of a constant": ([one("Div", ["vector", "a"])], "positive", 13),
    "Mul": ([B, one("Mul", ["a", "b"])], "any", 13),
    "Max": ([B, one("Max", ["a", "b"])], "any", 13),
    "Max of three": ([B, one("Neg", ["b"], ["n"]), one("Max", ["a", "vector", "b", "n"])], "any", 13),
    "Min": ([B, one("Min", ["b", "a", "two"])], "any", 13),
    "Clip crossed": ([one("Clip", ["a", "high", "low"])], "any", 13),
    "Max of some": ([one("Max", ["a", "some"])], "any", 13),
    "Min of some": ([one("Min", ["a", "few"])], "any", 13),
    "IsNaN": ([one("IsNaN", ["a"], ["n"]), one("Where", ["n", "vector", "a"])], "any", 13),
    "IsInf": ([one("IsInf", ["a"], ["n"]), one("Where", ["n", "vector", "a"])], "any", 13),
    "Where": ([B, one("Where", ["mask", "a", "b"])], "any", 13),
    "Where constant": ([one("Where", ["mask", "a", "vector"])], "any", 13),
    "Where computed": ([B, one("Greater", ["a", "b"], ["g"]), one("Where", ["g", "b", "vector"])], "any", 13),
    "Where of constants": ([one("Less", ["a", "vector"], ["g"]), one("Where", ["g", "two", "vector"])], "any", 13),
    "Cast to whole numbers": (
        [one("Cast", ["a"], ["i"], to=TensorProto.INT64), one("Cast", ["i"], to=TensorProto.FLOAT)],
        "any",
        13,
    ),
    "Cast to truth": (
        [one("Relu", ["a"], ["r"]), one("Cast", ["r"], ["t"], to=TensorProto.BOOL), one("Cast", ["t"], to=1)],
        "any",
        13,
    ),
}
CONSTANTS["some"] = np.float32([-np.inf, 0.3, -0.2, -np.inf, 0])
CONSTANTS["few"] = np.float32([np.inf, 0.3, -0.2, np.inf, 0])


def network(nodes: list[Any], path: Path, front: str = "any", opset: int = 17, **more: np.ndarray) -> Path:
    """A file whose nodes lie between something else and something affine."""
    back = [one("Mul", ["y", "two"], ["doubled"]), one("Add", ["doubled", "vector"], ["out"])]
    used = {value for node in [*FRONT[front], *nodes, *back] for value in node.input}
    constants = {name: value for name, value in {**CONSTANTS, **more}.items() if name in used}
    return save(path / "m.onnx", [*FRONT[front], *nodes, *back], SHAPE, constants, ["out"], opset)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_function(case: str, tmp_path: Path) -> None:
    nodes, front, opset = FUNCTIONS[case]
    parity(network(nodes, tmp_path, front, opset), SHAPE, tolerance=1e-4)


@pytest.mark.parametrize("kind", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
@pytest.mark.parametrize("other", ["b", "vector"])
def test_comparison(kind: str, other: str, tmp_path: Path) -> None:
    # Rounded, so that some are the same.
    rounded = [one("Round", ["a"], ["r"]), one("Round", [other], ["s"])]
    compared = one(kind, ["r", "s"], ["g"])
    model = parity(network([B, *rounded, compared, one("Cast", ["g"], to=1)], tmp_path), SHAPE)
    assert model.graph.ops(ops.Greater)


@pytest.mark.parametrize("kind", ["And", "Or", "Xor", "Not"])
@pytest.mark.parametrize("other", ["h", "mask"])
def test_conclusion(kind: str, other: str, tmp_path: Path) -> None:
    compared = [B, one("Greater", ["a", "tenth"], ["g"]), one("Less", ["b", "tenth"], ["h"])]
    concluded = one(kind, ["g"] if kind == "Not" else ["g", other], ["z"])
    parity(network([*compared, concluded, one("Cast", ["z"], to=1)], tmp_path), SHAPE)


FOREIGN = {
    "Gelu": (["a"], {}, lambda a, v: torch.nn.functional.gelu(a)),
    "BiasGelu": (["a", "vector"], {}, lambda a, v: torch.nn.functional.gelu(a + v)),
    "FastGelu": (["a", "vector"], {}, lambda a, v: torch.nn.functional.gelu(a + v, approximate="tanh")),
    "QuickGelu": (["a"], {"alpha": 1.5}, lambda a, v: a * torch.sigmoid(1.5 * a)),
    "SwiGLU": (["a", "vector"], {"alpha": 1.5}, lambda a, v: a * torch.sigmoid(1.5 * a) * v),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_functions_that_not_every_onnx_has(kind: str) -> None:
    inputs, attributes, function = FOREIGN[kind]
    given = {"a": None, "vector": CONSTANTS["vector"]}
    shapes = tuple((1, *SHAPE) if name == "a" else (5,) for name in inputs)
    call = Call(kind, 17, attributes, shapes, tuple(given[name] for name in inputs), ((1, *SHAPE),), (True,))
    expression = operators[kind](call)
    assert isinstance(expression, Apply)
    a = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))

    def value(part: Any) -> torch.Tensor:
        return part.op(*map(value, part.arguments)) if isinstance(part, Apply) else a

    torch.testing.assert_close(value(expression), function(a, torch.tensor(CONSTANTS["vector"])))


def spelled(text: str) -> list[Any]:
    """Nodes of lines such as ``y = Mul(a, half)``."""
    nodes = []
    for line in text.split(";"):
        result, call = line.split("=")
        kind, arguments = call.strip(" )").split("(")
        names = [name.strip() for name in arguments.split(",")]
        attributes = {"to": TensorProto.FLOAT} if kind == "Cast" else {}
        nodes.append(one(kind, names, [result.strip()], **attributes))
    return nodes


NUMBERS = {
    "half": 0.5,
    "root": np.sqrt(2),
    "three": 3,
    "six": 6,
    "sixth": 1 / 6,
    "bend": 0.044715,
    "factor": np.sqrt(2 / np.pi),
    "steep": 1.702,
    "minus": -1,
    "zero": 0,
    "slope": 0.3,
    "twenty": 20,
    "gamma": 1.0507009873554805,
    "wide": 1.6732632423543772,
}
# How networks spell functions, and what stands for it.
SPELLINGS: dict[str, tuple[str, list[type]]] = {
    "silu": ("s = Sigmoid(a); y = Mul(a, s)", [ops.Silu]),
    "silu as quotient": ("m = Neg(a); e = Exp(m); d = Add(e, one); y = Div(a, d)", [ops.Silu]),
    "swish": ("m = Mul(steep, a); s = Sigmoid(m); y = Mul(s, a)", [ops.Silu]),
    "sigmoid": ("m = Mul(a, minus); e = Exp(m); d = Add(one, e); y = Reciprocal(d)", [ops.Sigmoid]),
    "tanh": ("d = Mul(a, two); s = Sigmoid(d); t = Mul(s, two); y = Sub(t, one)", [ops.Tanh]),
    "gelu": ("d = Div(a, root); e = Erf(d); s = Add(e, one); p = Mul(a, s); y = Mul(p, half)", [ops.Gelu]),
    "gelu halved first": (
        "h = Mul(half, a); d = Div(a, root); e = Erf(d); s = Add(one, e); y = Mul(h, s)",
        [ops.Gelu],
    ),
    "gelu with a half inside": (
        "d = Div(a, root); e = Erf(d); p = Mul(e, half); s = Add(p, half); y = Mul(s, a)",
        [ops.Gelu],
    ),
    "tanh gelu": (
        "c = Pow(a, three); b = Mul(c, bend); i = Add(a, b); f = Mul(i, factor); t = Tanh(f); s = Add(t, one); "
        "h = Mul(a, half); y = Mul(h, s)",
        [ops.Gelu],
    ),
    "tanh gelu of products": (
        "q = Mul(a, a); b = Mul(q, bend); g = Add(b, one); f = Mul(a, factor); i = Mul(f, g); t = Tanh(i); "
        "s = Add(one, t); p = Mul(s, half); y = Mul(a, p)",
        [ops.Gelu],
    ),
    "mish": ("s = Softplus(a); t = Tanh(s); y = Mul(a, t)", [ops.Mish]),
    "mish of logarithms": ("e = Exp(a); s = Add(e, one); l = Log(s); t = Tanh(l); y = Mul(a, t)", [ops.Mish]),
    "softplus": ("e = Exp(a); s = Add(one, e); y = Log(s)", [ops.Softplus]),
    "softplus with a switch": (
        "g = Greater(a, twenty); e = Exp(a); s = Add(e, one); l = Log(s); y = Where(g, a, l)",
        [ops.Softplus],
    ),
    "log of sigmoid": ("s = Sigmoid(a); y = Log(s)", [ops.Affine, ops.Softplus, ops.Affine]),
    "softsign": ("m = Abs(a); d = Add(m, one); y = Div(a, d)", [ops.Softsign]),
    "elu": ("g = Greater(a, zero); e = Exp(a); m = Sub(e, one); y = Where(g, a, m)", [ops.Elu]),
    "elu of halves": (
        "r = Relu(a); l = Min(a, zero); e = Exp(l); m = Sub(e, one); s = Mul(m, slope); y = Add(r, s)",
        [ops.Elu],
    ),
    "selu": (
        "g = LessOrEqual(a, zero); e = Exp(a); m = Sub(e, one); s = Mul(m, wide); w = Where(g, s, a); "
        "y = Mul(w, gamma)",
        [ops.Elu, ops.Affine],
    ),
    "hard sigmoid": (
        "s = Add(a, three); c = Clip(s, zero, six); y = Div(c, six)",
        [ops.Affine, ops.ClippedRelu],
    ),
    "hard swish": (
        "s = Add(a, three); c = Clip(s, zero, six); p = Mul(a, c); y = Div(p, six)",
        [ops.Affine, ops.ClippedRelu, ops.Product],
    ),
    "hard swish of a gate": (
        "m = Mul(a, sixth); s = Add(m, half); c = Clip(s, zero, one); y = Mul(a, c)",
        [ops.Affine, ops.ClippedRelu, ops.Product],
    ),
    "relu": ("g = Greater(a, zero); y = Where(g, a, zero)", [ops.Relu]),
    "relu as product": ("g = Greater(a, zero); c = Cast(g); y = Mul(a, c)", [ops.Relu]),
    "leaky": ("g = Greater(a, zero); s = Mul(a, slope); y = Where(g, a, s)", [ops.LeakyRelu]),
    "abs": ("m = Neg(a); y = Max(a, m)", [ops.Affine, ops.Relu, ops.Relu, ops.Add]),
    "soft shrink": (
        "g = Greater(a, half); u = Sub(a, half); z = Mul(a, zero); p = Where(g, u, z); n = Neg(a); "
        "h = Greater(n, half); v = Add(a, half); q = Where(h, v, z); y = Add(p, q)",
        [ops.Affine, ops.Relu, ops.Affine, ops.Relu, ops.Affine, ops.Add],
    ),
    "guard": ("n = IsNaN(a); y = Where(n, zero, a)", []),
    "limits": (
        "g = Less(a, zero); p = Where(g, zero, a); h = Greater(p, six); y = Where(h, six, p)",
        [ops.ClippedRelu],
    ),
    "limits beside zero": (
        "g = Less(a, half); p = Where(g, half, a); h = Greater(p, six); y = Where(h, six, p)",
        [ops.Affine, ops.ClippedRelu, ops.Affine],
    ),
    "lower limit": ("g = Less(a, half); y = Where(g, half, a)", [ops.Affine, ops.Relu, ops.Affine]),
    "upper limit": ("g = Greater(a, half); y = Where(g, half, a)", [ops.Affine, ops.Relu, ops.Affine]),
}
# Those of rectifiers may be spelled with constants in the shape of the value.
FOLDED = ("relu", "relu as product", "leaky", "limits", "upper limit")


@pytest.mark.parametrize("case", FOLDED)
def test_constants_may_be_as_large_as_the_value(case: str, tmp_path: Path) -> None:
    text, kinds = SPELLINGS[case]
    front, back = [one("Mul", ["x", "vector"], ["a"])], [one("Mul", ["y", "exponents"], ["out"])]
    nodes = [*front, *spelled(text), *back]
    used = {value for node in nodes for value in node.input}
    large = {name: np.full((1, *SHAPE), value, np.float32) for name, value in NUMBERS.items()}
    constants = {name: value for name, value in {**CONSTANTS, **large}.items() if name in used}
    model = parity(save(tmp_path / "m.onnx", nodes, SHAPE, constants, ["out"]), SHAPE, tolerance=1e-4)
    assert [type(node.op) for node in model.graph.nodes.values()][2:-1] == kinds


@pytest.mark.parametrize("case", SPELLINGS)
def test_functions_of_many_nodes_are_named(case: str, tmp_path: Path) -> None:
    text, kinds = SPELLINGS[case]
    numbers = {name: np.float32(value) for name, value in NUMBERS.items()}
    # Neither the front nor the back is a part of it: their constants are vectors.
    front = [one("Mul", ["x", "vector"], ["a"])]
    back = [one("Mul", ["y", "exponents"], ["out"])]
    nodes = [*front, *spelled(text), *back]
    used = {value for node in nodes for value in node.input}
    constants = {name: value for name, value in {**CONSTANTS, **numbers}.items() if name in used}
    model = parity(save(tmp_path / "m.onnx", nodes, SHAPE, constants, ["out"]), SHAPE, tolerance=1e-4)
    found = [type(node.op) for node in model.graph.nodes.values()]
    assert sorted(kind.__name__ for kind in found) == sorted(
        kind.__name__ for kind in [ops.Input, ops.Affine, *kinds, ops.Affine]
    )


@pytest.mark.parametrize(
    "text",
    [
        "s = Sigmoid(a); p = Mul(a, s); y = Add(p, s)",
        "d = Div(a, root); e = Erf(d); s = Add(e, one); p = Mul(a, s); y = Mul(p, slope)",
        "s = Add(a, three); c = Clip(s, zero, six); p = Mul(a, c); y = Div(p, three)",
        "m = Mul(a, a); s = Sigmoid(m); y = Mul(a, s)",
        "s = Softplus(a); t = Tanh(s); y = Mul(t, t)",
    ],
)
def test_what_has_no_name_stays_what_it_is(text: str, tmp_path: Path) -> None:
    numbers = {name: np.float32(value) for name, value in NUMBERS.items()}
    model = parity(network(spelled(text), tmp_path, **numbers), SHAPE, tolerance=1e-4)
    assert not model.graph.ops((ops.Silu, ops.Gelu, ops.Mish))


@pytest.mark.parametrize("limit", [-0.1, 0.02, 0.1, 3.31])
def test_a_jump_between_the_points_that_are_looked_at_is_no_rectifier(limit: float, tmp_path: Path) -> None:
    nodes = [one("Greater", ["a", "limit"], ["g"]), one("Cast", ["g"], ["c"], to=TensorProto.FLOAT)]
    nodes.append(one("Mul", ["c", "a"]))
    model = parity(network(nodes, tmp_path, limit=np.float32(limit)), SHAPE)
    assert not model.graph.ops(ops.Relu)


def test_a_part_that_is_read_elsewhere_keeps_a_function_from_being_named(tmp_path: Path) -> None:
    model = parity(network(spelled("s = Sigmoid(a); p = Mul(a, s); y = Max(p, s)"), tmp_path), SHAPE)
    assert not model.graph.ops(ops.Silu)


# What is exact with rectifiers, by how many of them.
EXACT: dict[str, tuple[str, int]] = {
    "abs": ("y = Abs(a)", 2),
    "max": ("b = Mul(a, vector); y = Max(a, b)", 1),
    "min": ("b = Mul(a, vector); y = Min(a, b)", 1),
    "clip": ("y = Clip(a, low, high)", 1),
    "hard sigmoid": ("y = HardSigmoid(a)", 1),
    "abs in other words": ("m = Neg(a); y = Max(a, m)", 2),
}


@pytest.mark.parametrize("timesteps", [4, 32])
@pytest.mark.parametrize("case", EXACT)
def test_what_is_exact_with_rectifiers_is_off_by_no_more_than_their_neurons(
    case: str, timesteps: int, tmp_path: Path
) -> None:
    text, count = EXACT[case]
    graph = parity(network(spelled(text), tmp_path), SHAPE).graph
    rectifiers = graph.ops((ops.Relu, ops.ClippedRelu))
    assert len(rectifiers) == count
    # Above all that random constants make of the samples.
    schedule, ceiling = Schedule(timesteps), 256.0
    rounded = {
        name: ops.QuantizedRelu(getattr(op, "ceiling", torch.tensor(ceiling)), timesteps)
        for name, op in rectifiers.items()
    }
    spiking = graph.with_ops({name: neurons["two-phase"].standing_for(op, schedule) for name, op in rounded.items()})
    x = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2
    given = {graph.inputs[0]: x.unsqueeze(0)}
    (output,) = graph.outputs
    wanted, found = (
        signals_of(one, given, [output], when)[output][0] for one, when in ((graph, ONCE), (spiking, schedule))
    )
    # What is behind doubles them.
    slack = 2 * sum(float(op.ceiling.max()) for op in rounded.values()) / (2 * timesteps)
    assert float((found - wanted).abs().max()) <= slack * 1.001
    assert not torch.equal(found, wanted)


@pytest.mark.parametrize("hidden", [-np.inf, np.finfo(np.float32).min, -1e9, -65504.0])
@pytest.mark.parametrize("by", ["Add", "Where", "Where computed"])
def test_masks_are_read_with_numbers(by: str, hidden: float, tmp_path: Path) -> None:
    visible = np.tri(5, dtype=bool)
    masked = {
        "Add": [one("Add", ["a", "hiding"], ["m"])],
        "Where": [one("Where", ["visible", "a", "low"], ["m"])],
        "Where computed": [
            one("Abs", ["a"], ["p"]),
            one("Mul", ["p", "signs"], ["s"]),
            one("GreaterOrEqual", ["s", "zero"], ["g"]),
            one("Where", ["g", "a", "low"], ["m"]),
        ],
    }[by]
    constants = {
        "hiding": np.where(visible, np.float32(0), np.float32(hidden)),
        "visible": visible,
        "low": np.float32(hidden),
        "signs": np.where(visible, np.float32(1), np.float32(-1)),
        "zero": np.float32(0),
        "exponents": CONSTANTS["exponents"],
    }
    nodes = [one("Mul", ["x", "exponents"], ["a"]), *masked, one("Softmax", ["m"], ["y"], axis=-1)]
    nodes.append(one("Mul", ["y", "exponents"], ["out"]))
    used = {value for node in nodes for value in node.input}
    kept = {name: value for name, value in constants.items() if name in used}
    model = parity(save(tmp_path / "m.onnx", nodes, (5, 5), kept, ["out"]), (5, 5))
    shifts = [op.shift for op in model.graph.ops(ops.Affine).values() if op.shift is not None]
    assert shifts
    assert all(bool((shift >= -1e4).all()) for shift in shifts)


def test_a_row_without_anything_to_see_is_refused(tmp_path: Path) -> None:
    hiding = np.zeros((5, 5), np.float32)
    hiding[3] = -np.inf
    nodes = [one("Add", ["x", "hiding"], ["m"]), one("Softmax", ["m"], ["y"]), one("Mul", ["y", "two"], ["out"])]
    path = save(tmp_path / "m.onnx", nodes, (5, 5), {"hiding": hiding, "two": np.float32(2)}, ["out"])
    with pytest.raises(ModelError, match="cannot become spiking") as caught:
        read_model(path)
    assert any("hides every entry of a row" in detail for detail in caught.value.details)


def test_a_constant_that_is_no_mask_stays_what_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Add", ["x", "c"])], SHAPE, {"c": np.float32(-32768)})
    assert parity(path, SHAPE).graph.op("the_Add_y").shift == -32768
