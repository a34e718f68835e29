"""Products of two activations and with constants, summed over any axes; onnxruntime is the oracle."""

from pathlib import Path

import numpy as np
import pytest

from snnc import ops
from tests.frontend_files import PROJECTED, array, on_projections, one, parity, save

# Shapes of what is computed, and of constants.
EINSUMS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
    "bij,bjk->bik": ({"p": (-1, 3, 4), "q": (-1, 4, 5)}, {}),
    "bhid,bhjd->bhij": ({"p": (-1, 2, 3, 4), "q": (-1, 2, 5, 4)}, {}),
    "bihd,bjhd->bhij": ({"p": (-1, 3, 2, 4), "q": (-1, 5, 2, 4)}, {}),
    "bhij,bjhd->bihd": ({"p": (-1, 2, 3, 5), "q": (-1, 5, 2, 4)}, {}),
    "bnc,cd->bnd": ({"p": (-1, 3, 4)}, {"c": (4, 5)}),
    "bnhc,hcd->bnhd": ({"p": (-1, 3, 2, 4)}, {"c": (2, 4, 5)}),
    "bnhc,hcd->bhnd": ({"p": (-1, 3, 2, 4)}, {"c": (2, 4, 5)}),
    "ij,bjc->bic": ({"p": (-1, 4, 3)}, {"c": (5, 4)}),
    "bchw,cd->bdhw": ({"p": (-1, 4, 3, 2)}, {"c": (4, 5)}),
    "bnc,c->bnc": ({"p": (-1, 3, 4)}, {"c": (4,)}),
    "bnc,nc->b": ({"p": (-1, 3, 4)}, {"c": (3, 4)}),
    "bn,c->bnc": ({"p": (-1, 3)}, {"c": (4,)}),
    "bn,bc->bnc": ({"p": (-1, 3), "q": (-1, 4)}, {}),
    "bnc,bnc->bnc": ({"p": (-1, 3, 4), "q": (-1, 3, 4)}, {}),
    "bnc,bn->bc": ({"p": (-1, 3, 4), "q": (-1, 3)}, {}),
    "bnc,bnd->b": ({"p": (-1, 3, 4), "q": (-1, 3, 5)}, {}),
    "bnc->bcn": ({"p": (-1, 3, 4)}, {}),
    "bnc->bc": ({"p": (-1, 3, 4)}, {}),
    "bnn->bn": ({"p": (-1, 3, 3)}, {}),
    "bnn->b": ({"p": (-1, 3, 3)}, {}),
    "b...c,cd->b...d": ({"p": (-1, 3, 2, 4)}, {"c": (4, 5)}),
    "...ij,...jk": ({"p": (-1, 2, 3, 4), "q": (-1, 1, 4, 5)}, {}),
    "bi,ijk,bk->bj": ({"p": (-1, 3), "q": (-1, 5)}, {"c": (3, 4, 5)}),
    "bi,ij,jk->bk": ({"p": (-1, 3)}, {"c": (3, 4), "d": (4, 5)}),
    "nij,njk->nik": ({"p": (2, 3, 4), "q": (2, 4, 5)}, {}),
    "nij,jk->kn": ({"p": (2, 3, 4)}, {"c": (4, 5)}),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_an_einsum(equation: str, tmp_path: Path) -> None:
    shapes, given = EINSUMS[equation]
    # In the order of the equation a constant may stand in front.
    names = [*shapes, *given]
    if equation.startswith("ij,"):
        names.reverse()
    if equation.startswith("bi,ijk"):
        names = ["p", "c", "q"]
    node = one("Einsum", names, equation=equation)
    path = on_projections(tmp_path / "m.onnx", node, shapes, {name: array(*shape) for name, shape in given.items()}, 13)
    parity(path, PROJECTED, 1e-4, pinned=any(shape[0] != -1 for shape in shapes.values()))


MATRICES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], type[ops.Op]]] = {
    "right": ("pc", (-1, 2, 3, 4), (2, 4, 5), ops.Conv),
    "left": ("cp", (-1, 2, 4, 3), (2, 5, 4), ops.Conv),
    "right-four": ("pc", (-1, 2, 3, 4), (1, 2, 4, 5), ops.Conv),
    "right-broadcast": ("pc", (-1, 1, 3, 4), (2, 4, 5), ops.Linear),
    "right-two-axes": ("pc", (-1, 2, 3, 2, 4), (2, 3, 4, 5), ops.Conv),
    "left-one": ("cp", (-1, 4, 3), (5, 4), ops.Linear),
    "left-vector": ("cp", (-1, 4, 3), (4,), ops.Linear),
    "right-vector": ("pc", (-1, 3, 4), (4,), ops.Linear),
}


@pytest.mark.parametrize("case", MATRICES)
def test_a_constant_matrix_for_every_slice(case: str, tmp_path: Path) -> None:
    order, shape, matrix, layer = MATRICES[case]
    path = on_projections(tmp_path / "m.onnx", one("MatMul", [*order]), {"p": shape}, {"c": array(*matrix)}, 13)
    graph = parity(path, PROJECTED, 1e-4).graph
    # One layer makes the value, one multiplies it.
    kinds = [type(op) for op in graph.ops(ops.Weighted).values()]
    assert kinds == [ops.Linear, layer]


ACTIVATIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "scores": ((-1, 2, 3, 4), (-1, 2, 4, 5)),
    "broadcast": ((-1, 2, 3, 4), (-1, 1, 4, 5)),
    "more-axes": ((-1, 2, 3, 4), (4, 5)),
    "vectors": ((-1, 3, 4), (4,)),
    "merged": ((6, 3, 4), (6, 4, 5)),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_a_product_of_two_activations(case: str, tmp_path: Path) -> None:
    first, second = ACTIVATIONS[case]
    path = on_projections(tmp_path / "m.onnx", one("MatMul", ["p", "q"]), {"p": first, "q": second}, {}, 13)
    assert len(parity(path, PROJECTED, 1e-4, pinned=second[0] != -1).graph.ops(ops.MatMul)) == 1


@pytest.mark.parametrize("transposed", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}], ids=str)
@pytest.mark.parametrize("bias", ["none", "constant", "computed"])
@pytest.mark.parametrize("constant", ["left", "right", "neither"])
def test_a_gemm_in_any_form(constant: str, bias: str, transposed: dict[str, int], tmp_path: Path) -> None:
    left, right = (4, 3) if transposed.get("transA") else (3, 4), (5, 4) if transposed.get("transB") else (4, 5)
    shapes = {"p": left, "q": right, "r": (3, 5)}
    constants = {}
    for name, side in (("p", "left"), ("q", "right")):
        if constant == side:
            constants[name] = array(*shapes.pop(name))
    if bias != "computed":
        del shapes["r"]
    if bias == "constant":
        constants["r"] = array(5)
    inputs = ["p", "q", *([] if bias == "none" else ["r"])]
    node = one("Gemm", inputs, alpha=0.5, beta=2.0, **transposed)
    parity(on_projections(tmp_path / "m.onnx", node, shapes, constants, 13), PROJECTED, 1e-4, pinned=True)


FUSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = {
    "plain": ((-1, 2, 3, 4), (-1, 2, 4, 5), {}),
    "left": ((-1, 2, 4, 3), (-1, 2, 4, 5), {"transA": 1}),
    "right": ((-1, 3, 4), (-1, 5, 4), {"transB": 1}),
    "both": ((-1, 4, 3), (-1, 5, 4), {"transA": 1, "transB": 1}),
}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("case", FUSED)
def test_a_product_that_onnxruntime_has_transposed_and_scaled(case: str, constant: bool, tmp_path: Path) -> None:
    first, second, attributes = FUSED[case]
    shapes, constants = {"p": first, "q": second}, {}
    if constant:
        constants["q"] = array(*shapes.pop("q")[1:])
    node = one("FusedMatMul", ["p", "q"], domain="com.microsoft", alpha=0.3, **attributes)
    parity(on_projections(tmp_path / "m.onnx", node, shapes, constants, 17), PROJECTED, 1e-4)


# onnxruntime has no fractional zeros of 8 bits.
@pytest.mark.parametrize(
    ("bits", "zeros"), [(bits, zeros) for bits in (2, 4, 8) for zeros in ("none", "packed", "floats")][:-1]
)
def test_a_matrix_of_few_bits(bits: int, zeros: str, tmp_path: Path) -> None:
    rows, columns, block = 5, 40, 16
    blocks, random = 3, np.random.default_rng(bits)
    constants = {
        "w": array(6, columns),
        "p": random.integers(0, 256, (rows, blocks, block * bits // 8), np.uint8),
        "s": np.abs(array(rows, blocks)),
    }
    if zeros == "packed":
        constants["z"] = random.integers(0, 256, (rows, -(-blocks * bits // 8)), np.uint8)
    elif zeros == "floats":
        constants["z"] = array(rows, blocks)
    inputs = ["h", "p", "s", *(["z"] if zeros != "none" else [])]
    attributes = {"K": columns, "N": rows, "bits": bits, "block_size": block, "accuracy_level": 1}
    nodes = [
        one("MatMul", ["x", "w"], ["h"]),
        one("MatMulNBits", inputs, domain="com.microsoft", **attributes),
        one("Neg", ["y"], ["f"]),
    ]
    model = parity(save(tmp_path / "m.onnx", nodes, PROJECTED, constants, ["f"]), PROJECTED, 1e-3)
    assert len(model.graph.ops(ops.Linear)) == 2
