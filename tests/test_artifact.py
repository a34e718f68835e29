"""model.snn: what is written is read back, and what is damaged is refused in one line."""

import dataclasses
import json
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from snnc import ops
from snnc.analysis.latency import latency
from snnc.artifact import FORMAT_VERSION, load_conversion, save_conversion, write_atomically
from snnc.conversion import Applied, Conversion, Manifest, Origin, Provenance
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, ModelError, SnncError
from snnc.findings import Finding
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import OrderFreeNeuron, neurons
from snnc.process import limited_memory
from snnc.schedule import Schedule
from snnc.tasks.values import Values
from snnc.text import harmless
from tests.support import Network, naming, neuron_instances, normal, operations, random_network, relu, run, spiking


def conversion(snn: Graph, reference: Graph | None = None, calibrated: Manifest | None = None) -> Conversion:
    return Conversion(
        reference=reference,
        snn=snn,
        schedule=Schedule(5, 3, 2),
        applied=(Applied("fold-batch-norm", {"kind": "mmse", "share": 0.1, "weights": True}, 3),),
        imported=(Finding("unfolded-affine", "info", "conv", "an old file", "export it again"),),
        findings=(Finding("uncalibrated", "warning", "", "no images", "give some"),),
        preprocessing=Preprocessing(mean=(0.5, 0.25), resize=(8, 9), scale=0.5),
        provenance=Provenance(Origin("model.onnx", "ab12"), {"timesteps": 5}, calibrated, {"snnc": "0.1.0"}),
        task=Values(),
    )


def saved(made: Conversion, path: Path) -> Conversion:
    save_conversion(made, path)
    return load_conversion(path)


def assert_same_graph(found: Graph, wanted: Graph) -> None:
    assert list(found.nodes) == list(wanted.nodes)
    assert found.outputs == wanted.outputs
    for name, node in wanted.nodes.items():
        other = found.nodes[name]
        assert (other.name, other.inputs, other.source) == (node.name, node.inputs, node.source)
        assert type(other.op) is type(node.op)
        for field in node.op.__dataclass_fields__:  # type: ignore[attr-defined]
            old, new = getattr(node.op, field), getattr(other.op, field)
            assert type(new) is type(old)
            assert torch.equal(new, old) if isinstance(old, torch.Tensor) else new == old


def every_kind() -> dict[str, tuple[Op, tuple[tuple[int, ...], ...]]]:
    return operations() | {name: (neuron, ((4, 7, 6),)) for name, neuron in neuron_instances().items()}


def test_every_registered_neuron_is_covered() -> None:
    assert neurons
    assert {type(op) for op, _ in every_kind().values()} >= set(neurons.values())


def test_every_operation_is_read_back(tmp_path: Path) -> None:
    for name, (op, shapes) in every_kind().items():
        with naming(name):
            nodes = [Node(f"x{i}", Input(shape), (), (f"input/{i}",)) for i, shape in enumerate(shapes)]
            graph = Graph.of([*nodes, Node("y", op, tuple(n.name for n in nodes), ("/layer.0/y", "/layer.1/y"))], ["y"])
            found = saved(conversion(graph), tmp_path / "model.snn")
            assert found.reference is None
            assert_same_graph(found.snn, graph)


@pytest.mark.parametrize("calibrated", [None, Manifest(3, "ff", 1)])
def test_everything_else_is_read_back(calibrated: Manifest | None, tmp_path: Path) -> None:
    made = conversion(random_network(0, spiking("if")), random_network(0, relu), calibrated)
    found = saved(made, tmp_path / "model.snn")
    assert found.reference is not None
    assert made.reference is not None
    assert_same_graph(found.reference, made.reference)
    for field in ("schedule", "applied", "imported", "findings", "preprocessing", "provenance", "task"):
        assert getattr(found, field) == getattr(made, field)
    assert found.calibrated == (calibrated is not None)


@pytest.mark.parametrize("kind", neurons)
@pytest.mark.parametrize("seed", range(3))
def test_a_loaded_network_simulates_equally(kind: str, seed: int, tmp_path: Path) -> None:
    graph = random_network(seed, spiking(kind))
    found = saved(conversion(graph), tmp_path / "model.snn").snn
    feeds = {"x": normal(1, 3, 3, 8, 8)}
    before, after = (run(g, feeds, g.nodes, Schedule(6), trains=True) for g in (graph, found))
    for name, signal in before.items():
        assert torch.equal(signal, after[name])


def test_same_network_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.snn", tmp_path / "two.snn", tmp_path / "three.snn"]
    for path in paths[:2]:
        save_conversion(conversion(random_network(2, spiking("if")), random_network(2, relu)), path)
    save_conversion(load_conversion(paths[0]), paths[2])
    assert paths[0].read_bytes() == paths[1].read_bytes() == paths[2].read_bytes()
    # The library that reads them would write them so, too.
    with safe_open(paths[0], framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        assert save(tensors, file.metadata()) == paths[0].read_bytes()


def test_memory_layout_does_not_reach_the_file(tmp_path: Path) -> None:
    graph = random_network(2, relu)
    strided = graph.map_tensors(
        lambda t: (
            t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t.repeat_interleave(2, -1)[..., ::2]
        )
    )
    save_conversion(conversion(graph), tmp_path / "one.snn")
    save_conversion(conversion(strided), tmp_path / "two.snn")
    assert (tmp_path / "one.snn").read_bytes() == (tmp_path / "two.snn").read_bytes()


@pytest.mark.parametrize("more", range(0, 64, 8))
def test_where_tensors_lie_in_the_file_changes_nothing_in_memory(more: int, tmp_path: Path) -> None:
    """A longer header moves them; products of matrices that lie elsewhere round otherwise in the last bit."""
    made = conversion(random_network(2, spiking("if")))
    origin = dataclasses.replace(made.provenance.model, file="m" * (1 + more))
    moved = dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, model=origin))
    found = saved(moved, tmp_path / "model.snn").snn
    tensors = [tensor for node in found.nodes.values() for tensor in node.op.tensors().values()]
    assert tensors
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    graph = random_network(1, relu)
    copied = graph.map_tensors(torch.clone)
    size = sum(tensor.nbytes for node in graph.nodes.values() for tensor in node.op.tensors().values())
    assert size > 0
    save_conversion(conversion(graph, copied), tmp_path / "model.snn")
    data = (tmp_path / "model.snn").read_bytes()
    header = int.from_bytes(data[:8], "little")
    assert len(data) - 8 - header == size


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    net = Network((4, 5, 5))
    values = normal(4).abs()
    net.add(ops.Affine(values.view(4, 1, 1), None))
    net.add(ops.LeakyRelu(values[:1]))
    net.flat(net.nodes[-1].name)
    net.add(ops.Slice(1, 0, 4))
    net.add(ops.Affine(None, values))
    graph = net.graph()
    assert_same_graph(saved(conversion(graph), tmp_path / "model.snn").snn, graph)


# Damage.


def written(tmp_path: Path) -> tuple[Path, dict[str, Any], dict[str, torch.Tensor]]:
    """A good file, its header and its tensors."""
    path = tmp_path / "model.snn"
    net = Network((3, 6, 6), seed=1)
    net.add(neurons["if"](torch.full((4, 1, 1), 0.5)), net.conv("x", 4), name="spikes")
    net.linear(net.flat(net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))), 3)
    save_conversion(conversion(net.graph(), net.graph()), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["snnc"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    return path, header, tensors


def rewrite(path: Path, header: object, tensors: dict[str, torch.Tensor]) -> None:
    path.write_bytes(save(tensors, {"snnc": json.dumps(header)}))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_conversion(path)
    message = caught.value.line
    assert caught.value.hint
    assert caught.value.place == str(path)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "not a complete .snn file")


@pytest.mark.parametrize("content", [b"PK\x03\x04 no", b"{}", bytes(100), b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_artifact_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.snn"
    path.write_bytes(content)
    refused(path, "not a complete .snn file")


def test_a_file_of_another_name_is_not_to_be_fetched_again(tmp_path: Path) -> None:
    for name, hint in (("model.snn", "fetch the file again"), ("model.onnx", "give a .snn file")):
        (tmp_path / name).write_bytes(bytes(100))
        with pytest.raises(ModelError, match=re.escape(hint)):
            load_conversion(tmp_path / name)


def test_a_missing_file_is_a_problem_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_conversion(tmp_path / "model.snn")
    with pytest.raises(DataError, match="no such file"):
        load_conversion(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"snn"', "{}"])
def test_a_broken_header_is_refused(text: str, tmp_path: Path) -> None:
    path, _, tensors = written(tmp_path)
    path.write_bytes(save(tensors, {"snnc": text}))
    refused(path)


Damage = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]


def node(header: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in header["snn"]["nodes"] if entry["name"] == name)


def newer(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["format"] += 1


def lost(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors["snn.conv_1.weight"]


def added(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["stray"] = torch.zeros(2)


def halved(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.conv_1.weight"] = tensors["snn.conv_1.weight"].half()


def not_a_number(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.conv_1.weight"][0, 0, 0, 0] = torch.nan


def misshaped(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.conv_1.weight"] = tensors["snn.conv_1.weight"][:, :2].contiguous()


def unknown_op(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "spikes")["op"] = "Perceptron"


def abstract_op(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "spikes")["op"] = "Weighted"


def unknown_field(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "spikes")["fields"]["leak"] = 0.5


def no_field(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del node(header, "conv_1")["fields"]["stride"]


def wrong_field(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "conv_1")["fields"]["stride"] = "wide"


def number_for_tensor(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "conv_1")["fields"]["weight"] = 3


def none_for_tensor(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "conv_1")["fields"]["weight"] = None


def dangling(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "spikes")["inputs"] = ["nowhere"]


def twice(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["snn"]["nodes"].append(header["snn"]["nodes"][0])


def obeyed_by_terminals(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["snn"]["nodes"][0]["name"] = "\x1b[2J"


def no_output(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["snn"]["outputs"] = []


def forbidden_slope(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "spikes")["fields"]["slope"] = node(header, "spikes")["fields"]["threshold"]


def no_steps(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["schedule"]["timesteps"] = 0


def other_output(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["reference"]["outputs"] = ["spikes"]


def no_source(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del header["provenance"]["model"]


def negative_std(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["preprocessing"]["std"] = [-1]


def unknown_crop(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["preprocessing"]["side"] = 8


def no_preprocessing(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["preprocessing"] = None


def number_for_seed(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["provenance"]["calibration"] = {"images": 3, "sha256": "ff", "seed": "x"}


def unknown_task(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["task"] = {"divination": {}}


def unknown_option(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["task"] = {"classification": {"classes": 3}}


def infinite(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.conv_1.weight"][0, 0, 0, 0] = torch.inf


def negative_images(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["provenance"]["calibration"] = {"images": -1, "sha256": "ff", "seed": 0}


def set_to(name: str, field: str, value: object) -> Damage:
    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        node(header, name)["fields"][field] = value

    change.__name__ = f"{field} {str(value)[:20]}"
    return change


def with_samples(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.spikes.threshold"] = torch.full((2, 4, 1, 1), 0.5)


def with_one_sample(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["snn.spikes.threshold"] = torch.full((1, 4, 1, 1), 0.5)


def read_by_nobody(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    for graph in ("snn", "reference"):
        header[graph]["outputs"] = ["spikes"]


def other_input(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["reference"]["nodes"][0]["fields"]["shape"] = [3, 7, 7]


def other_numbers(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["reference"]["nodes"][0]["fields"]["numbers"] = "pixel"


def read_twice(name: str) -> Damage:
    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        node(header, name)["inputs"] *= 2

    change.__name__ = f"read_twice_{name}"
    return change


def unit_of(*values: float) -> Damage:
    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors["unit"] = torch.tensor(values)
        node(header, "conv_1")["fields"]["unit"] = {"tensor": "unit"}

    change.__name__ = f"unit_of_{len(values)}"
    return change


def enlarged(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    for graph in ("snn", "reference"):
        header[graph] = {
            "nodes": [{"name": "x", "op": "Input", "inputs": [], "source": [], "fields": {}}],
            "outputs": ["x"],
        }
        header[graph]["nodes"][0]["fields"] = {"shape": [1 << 16, 1 << 16], "numbers": "real", "below": 0}
        header[graph]["nodes"][0]["fields"] |= {"unit": None, "most": 0}
    tensors.clear()


def nested(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    found: list[Any] = []
    for _ in range(60):
        found = [found]
    header["applied"][0]["options"]["deep"] = found


def not_finite(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["preprocessing"]["mean"] = [float("nan")]


def at(value: object, *place: str) -> Damage:
    """Put a value in some place of the header."""

    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        parent: Any = header
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value

    change.__name__ = f"{'.'.join(place)} {value!r}"
    return change


def unknown_in_a_node(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "conv_1")["leak"] = 1


def unknown_beside_a_tensor(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    node(header, "conv_1")["fields"]["weight"]["scale"] = 2


def named_at_length(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    header["snn"]["nodes"][-1]["name"] = "a" * 100_000


DAMAGES: dict[Damage, tuple[str, ...]] = {
    **{at(value, "schedule", "timesteps"): ("field 'schedule.timesteps'",) for value in ("4", True, 4.5)},
    **{at(value, "preprocessing", "scale"): ("field 'preprocessing.scale'",) for value in ("4", True)},
    **{at(value, "provenance", "versions"): ("field 'provenance.versions",) for value in ([], {"snnc": 1})},
    at(1, "schedule", "steps"): ("field 'schedule.steps': unknown field",),
    at(1, "snn", "depth"): ("field 'snn.depth': unknown field",),
    at(1, "leak"): ("field 'leak': unknown field",),
    unknown_in_a_node: ("field 'snn.nodes.1.leak': unknown field",),
    unknown_beside_a_tensor: ("'conv_1'", "field 'weight.scale"),
    named_at_length: ("is no name of a node",),
    newer: (f"format version {FORMAT_VERSION + 1}", f"reads version {FORMAT_VERSION}"),
    lost: ("'conv_1'", "'snn.conv_1.weight' is missing"),
    added: ("'stray' belongs to nothing",),
    halved: ("'conv_1'", "'snn.conv_1.weight' is torch.float16"),
    not_a_number: ("'snn.conv_1.weight' holds NaN",),
    misshaped: ("'conv_1' does not fit its inputs",),
    unknown_op: ("'spikes'", "unknown operation 'Perceptron'"),
    abstract_op: ("'spikes'", "unknown operation 'Weighted'"),
    unknown_field: ("'spikes'", "unknown field 'leak'"),
    no_field: ("'conv_1'", "no field 'stride'"),
    wrong_field: ("'conv_1'", "field 'stride'"),
    number_for_tensor: ("'conv_1'",),
    none_for_tensor: ("'conv_1'",),
    dangling: ("'spikes' uses 'nowhere'",),
    twice: ("two nodes are called 'x'",),
    obeyed_by_terminals: ("is no name of a node",),
    no_output: ("needs an output",),
    forbidden_slope: ("'spikes'", "IntegrateAndFire has no negative spikes"),
    no_steps: ("field 'schedule'", "2 + 0 + 3 time steps"),
    no_source: ("field 'provenance.model'",),
    negative_std: ("field 'preprocessing'", "std must be positive"),
    unknown_crop: ("field 'preprocessing'", "unknown option 'side'"),
    unknown_task: ("unknown task 'divination'",),
    unknown_option: ("field 'task.classification'", "unknown option 'classes'"),
    no_preprocessing: ("field 'preprocessing'",),
    number_for_seed: ("field 'provenance.calibration.seed'",),
    other_output: ("outputs of different shapes",),
    infinite: ("'snn.conv_1.weight' holds infinities",),
    negative_images: ("field 'provenance.calibration'", "-1 images"),
    with_samples: ("a threshold of shape [2, 4, 1, 1]",),
    with_one_sample: ("a threshold of shape [1, 4, 1, 1]",),
    read_by_nobody: ("no output needs node 'linear_5'",),
    other_input: ("take other inputs",),
    other_numbers: ("take other inputs",),
    **{read_twice(name): (f"'{name}'",) for name in ("conv_1", "spikes", "maxpool_3", "linear_5")},
    unit_of(0.5, 0.5, 0.5): ("units of shape [3] for 4 channels",),
    unit_of(0.5, 0.5, 0.5, -0.5): ("units must be positive",),
    enlarged: ("more than memory allows",),
    nested: ("nested more than 48 deep",),
    not_finite: ("is no number",),
    **{
        set_to(name, field, value): (f"'{name}'",)
        for name, field, values in (
            ("conv_1", "padding", ([1], [0] * 9, [-1] * 4, [1 << 40] * 4)),
            ("conv_1", "stride", ([1], [0, 1], [1, 1, 1], [True, 1], ["1", 1])),
            ("conv_1", "dilation", ([], [1 << 62, 1])),
            ("conv_1", "groups", (0, 3, -1, 7, "1", True, 1.0)),
            ("maxpool_3", "kernel", ([], [2] * 4, [0, 2])),
            ("x", "shape", ([-1, 6, 6], [1 << 62] * 3)),
            ("x", "below", (-1,)),
        )
        for value in values
    },
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_refused_with_its_place(damage: Damage, tmp_path: Path) -> None:
    path, header, tensors = written(tmp_path)
    rewrite(path, header, tensors)
    load_conversion(path)
    damage(header, tensors)
    rewrite(path, header, tensors)
    refused(path, *DAMAGES[damage])


@pytest.mark.parametrize("change", [newer, unknown_field, no_field], ids=lambda change: change.__name__)
def test_a_file_that_is_laid_out_otherwise_is_of_another_version(change: Damage, tmp_path: Path) -> None:
    path, header, tensors = written(tmp_path)
    change(header, tensors)
    rewrite(path, header, tensors)
    with pytest.raises(ModelError) as error:
        load_conversion(path)
    assert error.value.message.startswith("written by another version of snnc: ")
    assert (error.value.place, error.value.hint) == (str(path), "convert the model again")


def leaves(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place, *(found for key, value in children for found in leaves(value, (*place, key)))]


STRANGE = [None, True, -1, 0, 3, 1e300, 10**30, float("nan"), "", "x", [], [0], [1, 2, 3], {}, {"tensor": "x"}, [[]]]


@pytest.mark.parametrize("value", STRANGE, ids=repr)
def test_a_header_with_any_value_replaced_is_read_or_refused(value: object, tmp_path: Path) -> None:
    """Never another error than the one that names the file."""
    path, header, tensors = written(tmp_path)
    text = json.dumps(header)
    places = [place for place in leaves(header) if place]
    for place in random.Random(repr(value)).sample(places, 24):
        changed = json.loads(text)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        rewrite(path, changed, tensors)
        try:
            load_conversion(path)
        except ModelError as error:
            assert error.place == str(path)
        except Exception as error:
            pytest.fail(f"{place} = {value!r}: {type(error).__name__}: {error}")


# Writing.


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = conversion(random_network(0, relu))
    with pytest.raises(DataError, match="cannot write"):
        save_conversion(made, tmp_path / "missing" / "model.snn")
    assert not list(tmp_path.iterdir())
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        save_conversion(made, tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
    kept = tmp_path / "model.snn"
    kept.write_bytes(b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left") as caught:
        write_atomically(kept, b"after")
    assert isinstance(caught.value, SnncError)
    assert kept.read_bytes() == b"before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.snn", "taken"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.snn"
    path.write_bytes(b"before")
    write_atomically(path, b"after")
    assert path.read_bytes() == b"after"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.snn"]


# The conversion itself.


@pytest.mark.parametrize("name", neurons)
def test_latency_counts_the_neurons_that_wait(name: str) -> None:
    net = Network((3, 6, 6))
    first = spiking(name)(net, net.conv("x", 4))
    left, right = spiking(name)(net, net.conv(first, 4)), net.conv(first, 4)
    net.linear(net.flat(spiking(name)(net, net.add(ops.Add(), left, right))), 3)
    waits = 3 if issubclass(neurons[name], OrderFreeNeuron) else 0
    assert latency(net.graph(), Schedule(8)) == (waits + 1) * 8


# Values that no length, axis or place is, in the stead of every whole number of every operation.
ODD = [-1, -7, 1 << 31, 1 << 40, 1 << 62, 1 << 70]


def test_whole_numbers_out_of_reason_are_refused_or_fit(tmp_path: Path) -> None:
    for name, (op, shapes) in every_kind().items():
        with naming(name):
            nodes = [Node(f"x{i}", Input(shape), ()) for i, shape in enumerate(shapes)]
            path = tmp_path / "model.snn"
            save_conversion(conversion(Graph.of([*nodes, Node("y", op, tuple(n.name for n in nodes))], ["y"])), path)
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["snnc"])
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            fields = node(header, "y")["fields"]
            for place in leaves(fields):
                parent = fields
                for key in place[:-1]:
                    parent = parent[key]
                before = parent[place[-1]] if place else None
                if type(before) is not int:
                    continue
                for odd in ODD:
                    parent[place[-1]] = odd
                    rewrite(path, header, tensors)
                    start = time.process_time()
                    with limited_memory(2 << 30):
                        try:
                            assert load_conversion(path).snn.shapes
                        except ModelError as error:
                            assert error.place == str(path)
                    assert time.process_time() - start < 2, (place, odd)
                parent[place[-1]] = before


def test_texts_of_a_file_command_nobody(tmp_path: Path) -> None:
    path, header, tensors = written(tmp_path)
    evil = "##[error]\x1b[2J\u202e" + "a" * 9000
    header["provenance"]["model"]["file"] = evil
    header["findings"][0]["message"] = header["findings"][0]["node"] = evil
    node(header, "conv_1")["source"] = [evil]
    rewrite(path, header, tensors)
    found = load_conversion(path)
    texts = [found.provenance.model.file, found.findings[0].message, found.findings[0].node]
    for text in (*texts, *found.snn.nodes["conv_1"].source):
        assert harmless(text) and len(text) <= 600


def test_what_is_no_file_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "zero.snn").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.snn")
    for name in ("zero.snn", "pipe.snn"):
        with pytest.raises(DataError, match="not a file but"):
            load_conversion(tmp_path / name)
