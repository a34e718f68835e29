"""Files that are no network say what they are; networks are read from however their files lie."""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from snnc import ops
from snnc.errors import DataError, ModelError
from snnc.frontend import open_model, read_model
from tests.frontend_files import array, integers, one, parity, run, save

LINEAR = [one("MatMul", ["x", "w"], ["m"]), one("Relu", ["m"], ["y"])]


def archive(**members: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in members.items():
                packed.writestr(name, data)

    return write


def of_bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12\n"

STRANGERS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "lfs": ("m.onnx", of_bytes(POINTER), "Git LFS", "git lfs pull"),
    "page": ("m.onnx", of_bytes(b"\n\n<!DOCTYPE html>\n<html lang=en>"), "an HTML page", "raw"),
    "error": ("m.onnx", of_bytes(b'{"error": "Access to model is restricted"}'), "a JSON file", "download"),
    "openvino": ("m.xml", of_bytes(b'<?xml version="1.0"?><net name="m" version="11">'), "OpenVINO", "ONNX file"),
    "keras-old": ("m.h5", of_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5.*Keras", "tf2onnx.convert --keras m.h5"),
    "keras-new": ("m.keras", archive(**{"config.json": b"{}", "model.weights.h5": b""}), "a Keras model", "tf2onnx"),
    "tflite": ("m.tflite", of_bytes(b"\x1c\0\0\0TFL3" + bytes(64)), "TensorFlow Lite", "--tflite m.tflite"),
    "graph": ("m.pb", of_bytes(b"\x0a\x10" + bytes(20)), "a TensorFlow graph", "--graphdef m.pb"),
    "ort": ("m.ort", of_bytes(b"\x18\0\0\0ORTM" + bytes(64)), "onnxruntime's own format", "ONNX file"),
    "program": ("m.pt2", archive(**{"m/models/model.json": b"{}"}), "torch.export", r"torch.export.load\('m.pt2'\)"),
    "old-program": ("m.pt2", archive(**{"serialized_exported_program.json": b"{}"}), "an exported program", "ONNX"),
    "pickle": ("m.pth", lambda path: path.write_bytes(pickle.dumps({"w": 1})), "a pickle", "torch.onnx.export"),
    "old-weights": (
        "m.pth",
        lambda path: torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False),
        "a pickle .torch.save",
        "torch.onnx.export",
    ),
    "weights": ("m.pth", lambda path: torch.save({"w": torch.ones(1)}, path), "weights or a pickled", "torch.onnx"),
    "tensors": ("m.safetensors", of_bytes((2).to_bytes(8, "little") + b"{}" + bytes(9)), "safetensors", "ONNX"),
    "arrays": ("m.npz", lambda path: np.savez(path, x=np.ones(2)), "arrays of numpy", "--data"),
    "packed": ("m.zip", archive(**{"models/net.onnx": b""}), "a zip archive", "unpack"),
    "packed-twice": ("m.onnx.gz", of_bytes(b"\x1f\x8b\x08" + bytes(30)), "a gzip archive", "unpack"),
    "empty": ("m.onnx", of_bytes(b""), "an empty file", "again"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_file_that_is_no_network_says_what_it_is(kind: str, tmp_path: Path) -> None:
    name, write, what, way = STRANGERS[kind]
    path = tmp_path / name
    write(path)
    with pytest.raises(ModelError, match=what) as caught:
        read_model(path)
    assert caught.value.place == str(path)
    assert re.search(way, caught.value.hint)


@pytest.mark.parametrize(("name", "what"), [("saved_model.pb", "SavedModel"), ("Manifest.json", "Core ML")])
def test_a_folder_that_is_a_model_of_others_says_so(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=what):
        read_model(tmp_path)


def outside(path: Path, where: str, tensors: list[onnx.TensorProto]) -> None:
    """Write the numbers of tensors into one file beside the model, without saying how many bytes each has."""
    data = b""
    for tensor in tensors:
        raw = numpy_helper.to_array(tensor).tobytes()
        onnx.external_data_helper.set_external_data(tensor, where, offset=len(data))
        tensor.ClearField("raw_data")
        data += raw
    file = path.parent / where.replace("\\", "/")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)


def as_constant_node(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    weight = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    return model


@pytest.mark.parametrize("where", ["w.bin", "parts\\w.bin", "parts/w.bin"])
def test_external_data_of_a_node_and_of_a_branch(where: str, tmp_path: Path) -> None:
    path = save(tmp_path / "plain.onnx", LINEAR, (4,), {"w": array(4, 3)})
    model = as_constant_node(path)
    bias = numpy_helper.from_array(array(3), "b")
    result = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Add", ["m", "b"], ["r"])], "branch", [], result, [bias])
    branches = {"then_branch": branch, "else_branch": branch}
    model.graph.node.insert(2, helper.make_node("If", ["yes"], ["sum"], name="If", **branches))
    model.graph.node[-1].input[0] = "sum"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    node = model.graph.node[0].attribute[0].t
    whole = tmp_path / "whole.onnx"
    onnx.save(model, whole)
    parts = [graph.g.initializer[0] for graph in model.graph.node[2].attribute]
    outside(path, where, [node, *parts])
    path.write_bytes(model.SerializeToString())
    opened = open_model(path)
    assert [file.name for file in opened.files] == ["plain.onnx", "w.bin"]
    x = torch.randn(2, 4)
    assert torch.equal(run(opened.model().graph, x)[0], run(read_model(whole).graph, x)[0])


def hub(folder: Path) -> Path:
    """Write a model as a hub's cache has it: links to files that are called after their contents."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    plain = save(folder / "m.onnx", LINEAR, (4,), {"w": array(4, 3)})
    model = onnx.load(plain)
    outside(plain, "m.onnx.data", [model.graph.initializer[0]])
    plain.write_bytes(model.SerializeToString())
    for name, blob in (("m.onnx", "1f"), ("m.onnx.data", "2e")):
        (folder / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    return snapshot / "m.onnx"


@pytest.mark.parametrize("as_text", [False, True])
def test_a_hubs_cache_is_read(as_text: bool, tmp_path: Path) -> None:
    path = hub(tmp_path)
    for link in path.parent.iterdir() if as_text else ():
        target = link.readlink()
        link.unlink()
        link.write_text(str(target))
    opened = open_model(path)
    assert opened.model().graph.nodes
    assert len(opened.files) == 2


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = hub(tmp_path / "cache")
    data = path.with_name("m.onnx.data")
    (tmp_path / "secret").write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="lies elsewhere"):
        read_model(path)


@pytest.mark.parametrize("how", ["initializer", "node"])
@pytest.mark.parametrize("places", [[1, 6, 11], [[0, 1], [2, 0], [3, 2]]])
def test_sparse_weights(how: str, places: list[int], tmp_path: Path) -> None:
    dense = np.zeros((4, 3), np.float32)
    dense[0, 1], dense[2, 0], dense[3, 2] = 1.5, -2.0, 3.0
    path = save(tmp_path / "m.onnx", LINEAR, (4,), {"w": dense})
    model = onnx.load(path)
    model.graph.initializer.pop()
    values = numpy_helper.from_array(np.array([1.5, -2.0, 3.0], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(places, np.int64), "at"), [4, 3])
    if how == "initializer":
        model.graph.sparse_initializer.append(sparse)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    onnx.save(model, path)
    (linear,) = read_model(path).graph.ops(ops.Linear).values()
    assert torch.equal(linear.weight, torch.tensor(dense.T))


def test_a_sparse_weight_at_a_place_that_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", LINEAR, (4,), {})
    model = onnx.load(path)
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(integers(99), "at"), [4, 3])
    )
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="sparse constant"):
        read_model(path)


def test_nodes_may_stand_in_any_order(tmp_path: Path) -> None:
    behind = [one("Softmax", ["y0"], ["y"], axis=1), one("MatMul", ["r", "v"], ["y0"])]
    nodes = [*behind, one("Relu", ["m"], ["r"]), one("MatMul", ["x", "w"], ["m"])]
    path = save(tmp_path / "m.onnx", nodes, (4,), {"w": array(4, 3), "v": array(3, 2)})
    model = read_model(path)
    assert [finding.code for finding in model.findings] == ["output-softmax-removed"]
    assert len(model.graph.nodes) == 4


@pytest.mark.parametrize("ir", [3, 8])
def test_what_is_computed_from_constants_that_are_inputs(ir: int, tmp_path: Path) -> None:
    nodes = [
        one("Transpose", ["w"], ["t"], perm=[1, 0]),
        one("Mul", ["t", "s"], ["scaled"]),
        one("MatMul", ["x", "scaled"], ["m"]),
        one("Unsqueeze", ["b", "axes"], ["row"]),
        one("Add", ["m", "row"], ["sum"]),
        one("Relu", ["sum"]),
    ]
    constants = {"w": array(3, 4), "s": array(1), "b": array(3), "axes": integers(0)}
    path = save(tmp_path / "m.onnx", nodes, (4,), constants, initializers_as_inputs=True)
    model = onnx.load(path)
    model.ir_version = ir
    path.write_bytes(model.SerializeToString())
    assert len(parity(path, (4,)).graph.nodes) == 3


@pytest.mark.parametrize(("what", "opset", "version"), [("opset", 99, 8), ("IR version", 17, 99)])
def test_versions_to_come_are_refused_as_that(what: str, opset: int, version: int, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], (4,), {}, opset=opset)
    model = onnx.load(path)
    model.ir_version = version
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"the file is of {what} 99, which is newer than onnxruntime") as caught:
        read_model(path)
    assert "older opset" in caught.value.hint


def test_an_old_opset_is_refused_as_that(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], (4,), {}, opset=6)
    with pytest.raises(ModelError, match="of opset 6, and onnxruntime reads those from 7 on") as caught:
        read_model(path)
    assert "export it again with a newer opset" in caught.value.hint


@pytest.mark.parametrize("how", ["initializer", "node", "branch"])
def test_dropout_in_training_mode(how: str, tmp_path: Path) -> None:
    constants = {"ratio": np.float32(0.5), "on": np.array(True)}
    nodes = [one("Dropout", ["x", "ratio", "on"])]
    if how == "node":
        on = numpy_helper.from_array(constants.pop("on"))
        nodes.insert(0, helper.make_node("Constant", [], ["on"], value=on))
    if how == "branch":
        out = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
        on = helper.make_node("Constant", [], ["there"], value=numpy_helper.from_array(np.array(True)))
        body = helper.make_graph([on, one("Dropout", ["x", "ratio", "there"], ["r"])], "b", [], out)
        nodes = [helper.make_node("If", ["on"], ["y"], then_branch=body, else_branch=body)]
    path = save(tmp_path / "m.onnx", nodes, (4,), constants)
    with pytest.raises(ModelError, match=r"training mode \(\d Dropout\)") as caught:
        open_model(path)
    assert "model.eval()" in caught.value.hint


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 17])
def test_batch_norm_in_training_mode(opset: int, tmp_path: Path) -> None:
    after = ["mean", "variance"] if opset >= 14 else ["mean", "variance", "saved_mean", "saved_variance"]
    mode = {"training_mode": 1} if opset >= 14 else {}
    node = one("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", *after], **mode)
    path = save(tmp_path / "m.onnx", [node], (3, 4, 5), {"s": np.ones(3, np.float32)}, opset=opset)
    with pytest.raises(ModelError, match=r"training mode \(1 BatchNormalization\)"):
        open_model(path)


@pytest.mark.parametrize("rows", [1, 2])
def test_weights_that_are_standardized_by_a_batch_normalization(rows: int, tmp_path: Path) -> None:
    nodes = [
        one("Reshape", ["k", "flat"], ["f"]),
        one("BatchNormalization", ["f", "s", "b", "b", "s"], ["n", "mean", "variance"], training_mode=1, epsilon=1e-3),
        one("Reshape", ["n", "back"], ["w"]),
        one("Conv", ["x", "w"]),
    ]
    constants = {"flat": np.array([rows, 3, -1]), "back": np.array([3, 4, 2, 2]), "k": array(3, 4, 2, 2)}
    constants |= {"s": np.array([1.0, 2.0, 0.5], np.float32), "b": array(3)}
    path = save(tmp_path / "m.onnx", nodes, (4, 5, 5), constants)
    if rows > 1:
        with pytest.raises(ModelError, match="training mode"):
            read_model(path)
        return
    read = read_model(path)
    (convolution,) = read.graph.ops(ops.Conv).values()
    normal = constants["k"].reshape(3, -1)
    normal = (normal - normal.mean(1, keepdims=True)) / np.sqrt(normal.var(1, keepdims=True) + 1e-3)
    wanted = normal * constants["s"][:, None] + constants["b"][:, None]
    np.testing.assert_allclose(convolution.weight.reshape(3, -1).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_half_precision_in_a_function(tmp_path: Path) -> None:
    inside = [
        helper.make_node("Cast", ["a"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(array(4).astype(np.float16))),
        helper.make_node("Mul", ["h", "c"], ["p"]),
        helper.make_node("Mul", ["p", "w"], ["q"]),
        helper.make_node("Cast", ["q"], ["b"], to=TensorProto.FLOAT),
    ]
    block = helper.make_function("own", "Block", ["a", "w"], ["b"], inside, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Block", ["x", "w"], ["z"], name="block", domain="own"), one("Relu", ["z"])]
    path = save(tmp_path / "m.onnx", nodes, (4,), {"w": array(4).astype(np.float16)})
    model = onnx.load(path)
    model.functions.append(block)
    onnx.save(model, path)
    parity(path, (4,), tolerance=5e-3)


def test_what_is_in_a_function_is_called_after_who_calls_it(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = [helper.make_node("Relu", ["a"], ["b"], "act")]
    outer = [helper.make_node("MatMul", ["a", "w"], ["h"]), helper.make_node("Inner", ["h"], ["b"], "in", domain="own")]
    calls = [("x", "z", "block1"), ("z", "q", "block2")]
    nodes = [helper.make_node("Outer", [a, "w"], [b], name, domain="own") for a, b, name in calls]
    path = save(tmp_path / "m.onnx", [*nodes, one("Neg", ["q"])], (4,), {"w": array(4, 4)})
    model = onnx.load(path)
    model.functions.append(helper.make_function("own", "Outer", ["a", "w"], ["b"], outer, imports))
    model.functions.append(helper.make_function("own", "Inner", ["a"], ["b"], inner, imports))
    onnx.save(model, path)
    found = [verdict.name for verdict in open_model(path).survey.verdicts]
    assert found == ["block1/h", "block1/in/act", "block2/h", "block2/in/act", "the/Neg/y"]


def test_what_a_call_leaves_out_is_as_the_function_says(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    act = helper.make_node("LeakyRelu", ["a"], ["b"])
    act.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    slope = [helper.make_attribute("slope", 0.4)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [act], imports, [], slope)
    calls = [helper.make_node("Inner", ["a"], ["h"], domain="own"), helper.make_node("Neg", ["h"], ["n"])]
    calls.append(helper.make_node("Inner", ["n"], ["b"], domain="own", slope=0.2))
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, imports)
    node = helper.make_node("Outer", ["x"], ["z"], "out", domain="own")
    path = save(tmp_path / "m.onnx", [node, one("Neg", ["z"])], (4,), {})
    model = onnx.load(path)
    model.functions.extend([inner, outer])
    onnx.save(model, path)
    parity(path, (4,))


@pytest.mark.parametrize("said", [{}, {"s": 0.1}], ids=["left out", "said"])
def test_what_is_handed_on_and_left_out_is_as_the_function_inside_says(said: dict[str, float], tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for name, kind, domain, own, handed, defaults in (
        ("Inner", "LeakyRelu", "", "slope", "alpha", [helper.make_attribute("slope", 0.4)]),
        ("Outer", "Inner", "own", "s", "slope", []),
        ("Outermost", "Outer", "own", "t", "s", []),
    ):
        call = helper.make_node(kind, ["a"], ["b"], domain=domain)
        call.attribute.append(onnx.AttributeProto(name=handed, ref_attr_name=own, type=onnx.AttributeProto.FLOAT))
        stated = [] if defaults else [own]
        functions.append(helper.make_function("own", name, ["a"], ["b"], [call], imports, stated, defaults))
    # Called with and without it: each is another function.
    outer = helper.make_node("Outer", ["x"], ["z"], "out", domain="own", **said)
    nodes = [outer, helper.make_node("Neg", ["z"], ["n"]), helper.make_node("Outer", ["n"], ["p"], domain="own", s=0.7)]
    path = save(tmp_path / "m.onnx", [*nodes, helper.make_node("Outermost", ["p"], ["y"], domain="own")], (4,), {})
    model = onnx.load(path)
    model.functions.extend(functions)
    onnx.save(model, path)
    parity(path, (4,))


def test_a_scaler_of_tables(tmp_path: Path) -> None:
    domain, _, kind = "ai.onnx.ml.Scaler".rpartition(".")
    columns = {"offset": [1.0, -2.0, 0.5], "scale": [2.0, 0.5, 1.0]}
    scaler = helper.make_node(kind, ["x"], ["z"], "scaler", domain=domain, **columns)
    parity(save(tmp_path / "m.onnx", [scaler, one("Relu", ["z"])], (3,), {}), (3,))


UNREAD = {
    "text": helper.make_tensor_value_info("more", TensorProto.STRING, ["N"]),
    "open": helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", "length"]),
    "flag": helper.make_tensor_value_info("more", TensorProto.BOOL, []),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", UNREAD)
def test_an_input_that_no_node_reads_is_left_out(kind: str, first: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", LINEAR, (4,), {"w": array(4, 3)})
    model = onnx.load(path)
    model.graph.input.insert(0 if first else 1, UNREAD[kind])
    onnx.save(model, path)
    read = read_model(path)
    assert [(finding.code, finding.node) for finding in read.findings] == [("input-not-read", "more")]
    assert read.graph.inputs == ("x",)


def test_a_branch_that_nothing_reads_is_left_out_whatever_it_does(tmp_path: Path) -> None:
    head = [one("Softmax", ["m"], ["p"], axis=1), helper.make_node("Own", ["p"], ["q"], "own", domain="my.ops")]
    path = save(tmp_path / "m.onnx", [LINEAR[0], *head, LINEAR[1]], (4,), {"w": array(4, 3)})
    opened = open_model(path)
    assert len(opened.model().graph.nodes) == 3
    assert {verdict.name: verdict.text for verdict in opened.survey.verdicts}["own"] == "left out"


def test_a_list_at_the_end_is_its_members(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [*LINEAR, one("SequenceConstruct", ["m", "y"], ["both"])], (4,), {"w": array(4, 3)}
    )
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None))
    onnx.save(model, path)
    graph = read_model(path).graph
    x = torch.randn(2, 4)
    linear, rectified = run(graph, x)
    assert torch.equal(linear.relu(), rectified)


def test_an_input_may_be_an_output_too(tmp_path: Path) -> None:
    for outputs, more in ((["y", "x"], []), (["z", "y"], [one("Identity", ["x"], ["z"])])):
        parity(save(tmp_path / "m.onnx", [*LINEAR, *more], (4,), {"w": array(4, 3)}, outputs), (4,))
