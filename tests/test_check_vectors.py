"""A device's spikes against the network's: what is equal is so, and the first that is not is named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor

from snnc import cli
from snnc.actions.check_vectors import check_vectors
from snnc.actions.export import export
from snnc.artifact import save_conversion
from snnc.conversion import Conversion
from snnc.data.samples import MemorySamples
from snnc.errors import DataError, VerificationError
from snnc.feeds import Feeds
from snnc.formats.divergence import divergence
from snnc.formats.vectors import METADATA, conformance_vectors
from snnc.ir import Graph, Input, Node
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.base import stretched
from snnc.run import Program
from snnc.schedule import Schedule
from tests.support import Network, exact, neuron_instances, normal
from tests.test_export_spiking_onnx import conversion, fed


def two_layers(threshold: float = 0.7) -> Conversion:
    net = Network((2, 5, 5))
    net.add(neurons["if"](torch.tensor(threshold)), net.conv("x", 4), name="first")
    net.add(neurons["cif"](torch.tensor(0.6)), net.conv("first", 3), name="second")
    net.linear(net.flat("second"), 4)
    return conversion(net.graph(), Schedule(4, 1, 1))


def vectors(made: Conversion, samples: int = 3, *, potentials: bool = False) -> dict[str, Tensor]:
    x = normal(samples, *made.snn.shapes[made.snn.inputs[0]])
    return load(conformance_vectors(made, fed(made.snn, x), potentials=potentials))


@pytest.mark.parametrize("name", neuron_instances())
def test_what_the_network_fires_is_equal(name: str) -> None:
    one = neuron_instances()[name]
    made = conversion(exact(one, order_asked=True), Schedule(3, 1, 1 if isinstance(one, CausalNeuron) else 0))
    theirs = vectors(made, potentials=True)
    found = divergence(made, theirs, theirs, place="theirs")
    assert found.equal and (found.samples, found.steps) == (3, made.schedule.total) and not found.missing
    assert [(layer.name, layer.equal) for layer in found.layers] == [(n, 100) for n in made.snn.ops(Neuron)]
    for layer, op in made.snn.ops(Neuron).items():
        spikes = theirs[f"spikes.{layer}"]
        assert torch.equal(theirs[f"counts.{layer}"], spikes.abs().flatten(2).sum(2).int())
        assert (f"potential.{layer}" in theirs) == isinstance(op, CausalNeuron)
        assert theirs.get(f"potential.{layer}", spikes).shape == spikes.shape


@pytest.mark.parametrize("kind", ["if", "srp", "dual-threshold", "cif", "graded", "burst"])
def test_the_potential_is_what_came_in_and_was_not_fired(kind: str) -> None:
    schedule = Schedule(5, 1)
    made = conversion(exact(neurons[kind](torch.tensor([0.7]))), schedule)
    x = normal(3, *made.snn.shapes[made.snn.inputs[0]])
    found = load(conformance_vectors(made, fed(made.snn, x), potentials=True))
    (source,) = made.snn.nodes["asked"].inputs
    feeds = Feeds({made.snn.inputs[0]: x})
    signals = Program(made.snn, schedule, want=[source, "asked"], trains=True)(feeds)
    arrived, fired = (stretched(signals[name], schedule).cumsum(0) for name in (source, "asked"))
    torch.testing.assert_close(found["potential.asked"], 0.35 + arrived - fired, rtol=1e-5, atol=1e-5)


def test_the_first_spike_that_differs_is_at_the_earliest_step_of_the_first_layer() -> None:
    made = two_layers()
    ours = vectors(made, potentials=True)
    theirs = {name: tensor.clone() for name, tensor in ours.items()}
    theirs["spikes.second"][3, 1, 2, 4, 0] += 1
    theirs["spikes.second"][5, 0, 0, 0, 0] += 1
    found = divergence(made, theirs, theirs, place="theirs")
    assert found.first is not None and found.layers[0].first is None
    assert (found.first.layer, found.first.step, found.first.sample, found.first.neuron) == ("second", 3, 1, (2, 4, 0))
    assert found.first.there == found.first.here + 1 and found.first.threshold == pytest.approx(0.6)
    assert found.first.potential == pytest.approx(float(ours["potential.second"][3, 1, 2, 4, 0]), abs=1e-5)
    assert found.first.potential_there == pytest.approx(found.first.potential, abs=1e-5)
    assert found.layers[1].equal == pytest.approx(100 * (1 - 2 / theirs["spikes.second"].numel()))
    # At the same step, those behind follow.
    theirs["spikes.first"][3, 2, 0, 0, 1] -= 1
    found = divergence(made, theirs, theirs, place="theirs")
    assert found.first is not None and (found.first.layer, found.first.sample) == ("first", 2)


def test_samples_beyond_the_first_chunk_have_their_own_numbers() -> None:
    net = Network((4,))
    net.add(neurons["if"](torch.tensor(0.7)), net.linear("x", 3), name="fired")
    made = conversion(net.graph(), Schedule(2))
    theirs = vectors(made, 300)
    assert divergence(made, theirs, theirs, place="theirs").equal
    theirs["spikes.fired"][1, 290, 2] += 1
    first = divergence(made, theirs, theirs, place="theirs").first
    assert first is not None and (first.sample, first.step, first.neuron) == (290, 1, (2,))


def test_several_inputs_are_taken_by_their_names() -> None:
    fire = neurons["if"](torch.tensor(0.7))
    nodes = [
        Node("left", Input((3,)), ()),
        Node("right", Input((3,), "pixel"), ()),
        Node("a", fire, ("left",)),
    ]
    made = conversion(Graph.of(nodes, ["a"]), Schedule(2))
    feeds = Feeds({"left": normal(2, 3), "right": torch.zeros(2, 3, dtype=torch.uint8)})
    theirs = load(conformance_vectors(made, MemorySamples(feeds)))
    assert divergence(made, theirs, theirs, place="theirs").equal
    del theirs["input.right"]
    with pytest.raises(DataError, match=r"no array input\.right"):
        divergence(made, theirs, theirs, place="theirs")


# Files.


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Conversion, dict[str, Tensor]]:
    monkeypatch.chdir(tmp_path)
    made = two_layers()
    save_conversion(made, "m.snn")
    ours = vectors(made)
    x = ours["input"]
    Path("ours.safetensors").write_bytes(conformance_vectors(made, fed(made.snn, x)))
    return made, ours


def written(name: str, tensors: dict[str, Tensor]) -> Path:
    np.savez(name, **{key: tensor.numpy() for key, tensor in tensors.items()})
    return Path(name)


def test_either_kind_of_file_is_read(given: tuple[Conversion, dict[str, Tensor]]) -> None:
    made, ours = given
    assert check_vectors(made, Path("ours.safetensors")).found.equal
    assert check_vectors(made, written("a.npz", ours)).found.equal
    # Numbers may be of any kind and order of bytes.
    save_file({"input": ours["input"]}, "input.safetensors")
    spikes = {name: tensor for name, tensor in ours.items() if name.startswith("spikes.")}
    np.savez("b.npz", **{name: tensor.numpy().astype(">f8") for name, tensor in spikes.items()})
    assert check_vectors(made, Path("b.npz"), vectors=Path("input.safetensors")).found.equal
    np.savez("long.npz", **{name: tensor.numpy().astype(np.longdouble) for name, tensor in spikes.items()})
    assert check_vectors(made, Path("long.npz"), vectors=Path("input.safetensors")).found.equal
    del ours["spikes.first"]
    found = check_vectors(made, written("c.npz", ours), partial=True).found
    assert found.equal and found.missing == ("first",)


def test_neurons_that_draw_draw_what_the_vectors_say(tmp_path: Path) -> None:
    made = conversion(exact(neuron_instances()["two-phase-probabilistic per layer"], order_asked=True), Schedule(3))
    x = normal(3, *made.snn.shapes[made.snn.inputs[0]])
    file = tmp_path / "drawn.safetensors"
    file.write_bytes(conformance_vectors(made, fed(made.snn, x), seed=5))
    assert check_vectors(made, file).found.equal
    spikes = {name: tensor for name, tensor in load(file.read_bytes()).items() if name.startswith("spikes.")}
    device = written(str(tmp_path / "device.npz"), spikes)
    assert check_vectors(made, device, vectors=file).found.equal
    save_file(spikes, file, {METADATA: '{"seed": -1}'})
    with pytest.raises(DataError, match="damaged"):
        check_vectors(made, file)


def test_what_differs_is_an_error_that_names_it(
    given: tuple[Conversion, dict[str, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, ours = given
    assert cli.main(["check-vectors", "m.snn", "ours.safetensors"]) == 0
    assert "all spikes are the same" in capsys.readouterr().out
    ours["spikes.first"][4, 1, 3, 0, 2] += 1
    written("a.npz", ours)
    assert cli.main(["check-vectors", "m.snn", "a.npz"]) == VerificationError.exit_code
    out, err = capsys.readouterr()
    assert "layer 'first', neuron [3, 0, 2], sample 1, step 4 of 6: " in err and err.count("\n") == 2
    assert "potential after the step" in out and "threshold 0.7" in out
    assert cli.main(["check-vectors", "m.snn", "a.npz", "--json"]) == VerificationError.exit_code
    plain = json.loads(capsys.readouterr().out)
    assert plain["first"]["neuron"] == [3, 0, 2] and plain["equal"] is False and len(plain["layers"]) == 2
    del ours["spikes.second"]
    written("b.npz", ours)
    assert cli.main(["check-vectors", "m.snn", "b.npz", "--partial"]) == VerificationError.exit_code
    assert "not compared: second" in capsys.readouterr().out


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("input"), "no array input"),
        (lambda t: t.pop("spikes.second"), "no spikes.second"),
        (lambda t: [t.pop(name) for name in [*t] if name.startswith("spikes.")], "no spikes.first and 1 more"),
        (lambda t: t.update({"spikes.first": t["spikes.first"][:4]}), "spikes.first are of [4, 3, 4, 5, 5]"),
        (lambda t: t.update({"spikes.first": t["spikes.first"][:, :2]}), "spikes.first are of [6, 2, 4, 5, 5]"),
        (lambda t: t.update(input=t["input"][:, :1]), "input is of [3, 1, 5, 5]"),
        (lambda t: t.update(input=t["input"][:0]), "input is of [0, 2, 5, 5]"),
        (lambda t: t.update(input=t["input"].reshape(-1)[0]), "input is of []"),
        (lambda t: t.update(input=t["input"] * torch.nan), "input holds what is not finite"),
        (lambda t: t.update({"spikes.first": t["spikes.first"] * torch.nan}), "spikes.first holds what is not finite"),
        (lambda t: t.update({"potential.first": torch.tensor(torch.inf)}), "potential.first holds what is not finite"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(
    given: tuple[Conversion, dict[str, Tensor]], change: Change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ours = given
    change(ours)
    written("a.npz", ours)
    assert cli.main(["check-vectors", "m.snn", "a.npz"]) == DataError.exit_code
    out, err = capsys.readouterr()
    assert out == "" and f"{message} @ a.npz" in err and err.count("\n") == 2


def test_files_that_are_none_are_refused(
    given: tuple[Conversion, dict[str, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, ours = given
    np.savez("pickled.npz", **{"spikes.first": np.array([{}], dtype=object)})
    np.savez("words.npz", **{"spikes.first": np.array(["a"])})
    Path("text.npz").write_text("no archive")
    Path("text.safetensors").write_text("no tensors")
    Path("cut.safetensors").write_bytes(Path("ours.safetensors").read_bytes()[:-5])
    other = two_layers(0.9)
    Path("other.safetensors").write_bytes(conformance_vectors(other, fed(other.snn, ours["input"])))
    save_file(ours, "deep.safetensors", {METADATA: "[" * 100_000})
    Path("folder.npz").mkdir()
    for name, message in (
        ("pickled.npz", "no .npz file of plain numbers"),
        ("words.npz", "no .npz file of plain numbers"),
        ("text.npz", "no .npz file"),
        ("text.safetensors", "damaged"),
        ("cut.safetensors", "damaged"),
        ("deep.safetensors", "damaged"),
        ("other.safetensors", "the vectors of another network"),
        ("folder.npz", "not a file but a folder"),
        ("nothing.npz", "no such file"),
    ):
        assert cli.main(["check-vectors", "m.snn", name]) == DataError.exit_code, name
        out, err = capsys.readouterr()
        assert out == "" and message in err and f"@ {name}" in err and err.count("\n") == 2, err
        assert cli.main(["check-vectors", "m.snn", "ours.safetensors", "--vectors", name]) == DataError.exit_code
        assert f"@ {name}" in capsys.readouterr().err
    save_file({"output": torch.zeros(2)}, "no-input.safetensors")
    assert cli.main(["check-vectors", "m.snn", "ours.safetensors", "--vectors", "no-input.safetensors"]) == 5
    assert "no array input @ no-input.safetensors" in capsys.readouterr().err


def test_potentials_are_those_of_vectors(
    given: tuple[Conversion, dict[str, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "m.snn", "-o", "m.onnx", "--potentials"]) == 2
    assert "--potentials without --vectors" in capsys.readouterr().err
    assert cli.main(["export", "m.snn", "-o", "m.onnx", "--potentials", "--vectors", "2"]) == 0
    found = load(Path("m.onnx.vectors.safetensors").read_bytes())
    assert found["potential.first"].shape == (6, 2, 4, 5, 5)


@pytest.fixture
def nir_observed(tmp_path: Path) -> tuple[Conversion, Path]:
    """A network and what NIR says of it."""
    pytest.importorskip("nir")
    net = Network((2, 5, 5))
    neuron = neurons["if"](torch.tensor(0.7), potential=torch.tensor(0.0))
    net.add(neuron, net.conv("x", 4), name="first")
    net.add(neuron, net.conv("first", 3), name="second")
    net.linear(net.flat("second"), 4)
    made = conversion(net.graph(), Schedule(4))
    written = export(made, "nir", vectors=3, potentials=True).save(tmp_path / "net.nir")
    assert [path.name for path in written] == ["net.nir", "net.nir.vectors.safetensors", "net.vectors.nir"]
    return made, written[-1]


def test_nir_says_what_is_observed_at_its_nodes(nir_observed: tuple[Conversion, Path]) -> None:
    import nir

    made, path = nir_observed
    data, graph = nir.read_data(path), nir.read(path.with_name("net.nir"))
    ours = load(path.with_name("net.nir.vectors.safetensors").read_bytes())
    assert {*data.nodes} <= {*graph.nodes}
    (first,) = (node for node in data.nodes if node.endswith("_first"))
    spikes, voltages = (data.nodes[first].observables[name] for name in ("spikes", "voltages"))
    assert spikes.data.dtype == bool and spikes.shape == voltages.shape == (3, 4, 100)
    assert np.array_equal(spikes.data[1, 2].reshape(4, 5, 5), ours["spikes.first"][2, 1].numpy())
    assert np.array_equal(voltages.data[0, 3].reshape(4, 5, 5), ours["potential.first"][3, 0].numpy())
    (answer,) = (node.observables["output"] for node in data.nodes.values() if "output" in node.observables)
    assert np.array_equal(answer.data[:, 0], next(t for n, t in ours.items() if n.startswith("output.")).numpy())
    assert answer.dt == 4 * spikes.dt
    assert check_vectors(made, path).found.equal
    # Events at times say the same.
    for node in data.nodes.values():
        if "spikes" in node.observables:
            node.observables["spikes"] = node.observables["spikes"].to_event(400)
    nir.write_data(path, data)
    assert check_vectors(made, path).found.equal


def test_what_a_device_says_in_nir_is_held_against_the_network(nir_observed: tuple[Conversion, Path]) -> None:
    import nir

    made, path = nir_observed
    data = nir.read_data(path)
    (second,) = (node for node in data.nodes if node.endswith("_second"))
    data.nodes[second].observables["spikes"].data[2, 1, 7] ^= True
    nir.write_data(path, data)
    first = check_vectors(made, path).found.first
    assert first is not None
    assert (first.layer, first.sample, first.step, first.neuron) == ("second", 2, 1, (0, 1, 2))
    del data.nodes[second]
    nir.write_data(path, data)
    with pytest.raises(DataError, match=r"no spikes\.second"):
        check_vectors(made, path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no observations of NIR"):
        check_vectors(made, path)


def test_of_several_events_in_a_step_none_is_lost(nir_observed: tuple[Conversion, Path]) -> None:
    import nir

    made, path = nir_observed
    data = nir.read_data(path)
    (second,) = (node for node in data.nodes if node.endswith("_second"))
    data.nodes[second].observables["spikes"] = spikes = data.nodes[second].observables["spikes"].to_event(400)
    assert spikes.idx[0, 0] >= 0 > spikes.idx[0, -1]
    spikes.idx[0, -1], spikes.time[0, -1] = spikes.idx[0, 0], spikes.time[0, 0]
    nir.write_data(path, data)
    first = check_vectors(made, path).found.first
    assert first is not None and (first.layer, first.sample) == ("second", 0)
    spikes.time[0, -1] = -spikes.t_max / 4
    nir.write_data(path, data)
    with pytest.raises(DataError, match="no observations of NIR"):
        check_vectors(made, path)
