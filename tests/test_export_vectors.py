"""Conformance vectors: whoever feeds what is in them to the exported file gets out what is in them."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open

from snnc import cli
from snnc.actions.export import export
from snnc.artifact import load_conversion
from snnc.formats.onnx import OnnxFormat, spiking_file
from snnc.formats.vectors import METADATA, conformance_vectors
from snnc.neurons import Neuron, neurons
from snnc.neurons.base import kind_of
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification
from tests.support import IMAGE, alternating, exact, neuron_instances, normal, random_network, spiking
from tests.test_export_spiking_onnx import Host, conversion, fed

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def opened(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[METADATA])  # noqa: SIM118


@pytest.mark.parametrize(
    ("name", "schedule"), alternating(neuron_instances(), [Schedule(3), Schedule(3, 2, 2)]), ids=str
)
def test_onnxruntime_fires_what_the_vectors_say(name: str, schedule: Schedule, tmp_path: Path) -> None:
    snn = exact(neuron_instances()[name], order_asked=True)
    file = spiking_file(conversion(snn, schedule))
    x = normal(4, *IMAGE)
    data = conformance_vectors(conversion(snn, schedule), fed(snn, x), trains=file.trains)
    assert data == conformance_vectors(conversion(snn, schedule), fed(snn, x), trains=file.trains)
    path = tmp_path / "v.safetensors"
    path.write_bytes(data)
    tensors, about = opened(path)
    assert torch.equal(tensors["input"], x)
    (answer,), responses = Host(file).train(snn, tensors["input"], schedule.timesteps)
    torch.testing.assert_close(answer, tensors[f"output.{snn.outputs[0]}"], rtol=1e-5, atol=1e-5)
    assert [layer["name"] for layer in about["layers"]] == list(snn.ops(Neuron))
    assert about["schedule"]["sleep"] == schedule.sleep
    for layer in about["layers"]:
        spikes, neuron = tensors[f"spikes.{layer['name']}"], snn.op(layer["name"])
        assert isinstance(neuron, Neuron) and layer["neuron"] == kind_of(neuron)
        assert (layer["train"], layer["mean"]) == (file.trains[layer["name"]], "")
        assert torch.equal(tensors[f"threshold.{layer['name']}"], neuron.threshold)
        assert (f"slope.{layer['name']}" in tensors) == (neuron.slope is not None)
        assert spikes.shape == (schedule.total, 4, *snn.shapes[layer["name"]])
        assert torch.equal(spikes, neuron.fired(responses[layer["name"]], schedule).to(torch.int8))
        assert (f"draws.{layer['name']}" in tensors) == neuron.random
    assert tensors["spikes.asked"].any()


def test_layers_of_which_the_file_has_the_mean_only_say_so(tmp_path: Path) -> None:
    made = conversion(random_network(1, spiking("two-phase", seed=3)), Schedule(3))
    path = tmp_path / "v.safetensors"
    path.write_bytes(export(made, OnnxFormat(), vectors=2).vectors)
    tensors, about = opened(path)
    assert any(layer["mean"] for layer in about["layers"])
    for layer in about["layers"]:
        assert bool(layer["train"]) != bool(layer["mean"])
        assert len(tensors[f"spikes.{layer['name']}"]) == 3


def test_more_spikes_in_a_step_than_a_byte_holds_are_kept(tmp_path: Path) -> None:
    snn = exact(neurons["burst"](torch.tensor([0.001]), max_event=300))
    path = tmp_path / "v.safetensors"
    path.write_bytes(conformance_vectors(conversion(snn, Schedule(3)), fed(snn, normal(4, *IMAGE))))
    tensors, _ = opened(path)
    assert int(tensors["spikes.asked"].max()) == 300 and int(tensors["spikes.asked"].min()) == 0
    assert tensors["spikes.before"].dtype == torch.int8


def test_vectors_do_not_depend_on_how_images_are_batched() -> None:
    made = conversion(exact(neurons["two-phase-probabilistic"](torch.tensor([0.7]))), Schedule(3))
    x = normal(5, *IMAGE)
    assert conformance_vectors(made, fed(made.snn, x)) == conformance_vectors(made, fed(made.snn, x, 2))


def test_the_command_writes_vectors_beside_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = ["--mean", "0.31", "--std", "0.38", "--channels", "gray", "--limit", "64", "-q"]
    how = ["--recipe", "quick", "--neuron", "if", "--timesteps", "4"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "--data", str(DIGITS / "calibration"), *how, *images]) == 0
    export = ["export", "model.snn", "-o", "m.onnx", "--data", str(DIGITS / "test")]
    capsys.readouterr()
    assert cli.main([*export, "--vectors", "20"]) == 0
    assert "written: m.onnx, m.onnx.vectors.safetensors" in capsys.readouterr().out
    tensors, about = opened(Path("m.onnx.vectors.safetensors"))
    assert len(tensors["labels"]) == len(tensors["input"]) == 20
    (output,) = about["outputs"]
    right = Classification().answers([tensors[f"output.{output}"]]) == tensors["labels"]
    assert float(right.double().mean()) > 0.8
    assert set(tensors) == {"input", "labels", f"output.{output}"} | {
        f"{what}.{name}"
        for name in load_conversion(Path("model.snn")).snn.ops(Neuron)
        for what in ("spikes", "counts", "threshold")
    }
    values = {entry.name for entry in onnx.load("m.onnx").graph.value_info}
    assert about["layers"] and all(layer["train"] in values and not layer["mean"] for layer in about["layers"])
    Path("m.onnx").unlink()
    assert cli.main([*export, "--vectors", "0"]) == 2
    assert "--vectors" in capsys.readouterr().err
    assert cli.main([*export, "--vectors", "401"]) == 5
    assert "400 images" in capsys.readouterr().err
    assert not Path("m.onnx").exists()
    Path("m.onnx.vectors.safetensors").unlink()
    Path("m.onnx.vectors.safetensors").mkdir()
    assert cli.main([*export, "--vectors", "2"]) == 5
    assert not Path("m.onnx").exists()
