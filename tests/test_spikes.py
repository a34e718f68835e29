"""snnc spikes: who fires when, and the membranes, while one image is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import snnc
from snnc import cli
from snnc.errors import DataError, UsageError

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
IMAGE = next(iter(sorted((DIGITS / "test" / "7").iterdir())))
GRAY = snnc.Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spikes") / "digits.snn"
    conversion, _ = snnc.convert(DIGITS / "model.onnx", "quick", timesteps=5, neuron="if", preprocessing=GRAY)
    snnc.save(conversion, path)
    return path


def test_spikes_are_those_of_the_network(network: Path) -> None:
    found = snnc.spikes(network, IMAGE, neurons=10_000)
    module = snnc.load(network)
    dataset = snnc.open_dataset(IMAGE.parent, GRAY, module.input_shapes)
    response = module.respond(next(dataset.chosen([0]).batches()))
    assert found.sample == IMAGE.name and [layer.name for layer in found.layers] == list(module.layers)
    for layer in found.layers:
        train = response.spikes[layer.name][:, 0].flatten(1)
        shown = torch.tensor(layer.spikes)
        assert torch.equal(shown, train.T[list(layer.numbers)].int())
        assert layer.fired == int(train.abs().sum()) and len(layer.potentials) == layer.neurons
        # IF: what was gathered in all is what was fired and what is left, and fires no more.
        last = torch.tensor(layer.potentials)[:, -1]
        counts = shown.abs().sum(1)
        assert counts.tolist() == sorted(counts.tolist(), reverse=True) and bool((last[counts == 0] < 1).all())


def test_some_neurons_of_some_layers_are_shown(network: Path) -> None:
    found = snnc.spikes(network, DIGITS / "test", index=3, layers=["Relu_1"], neurons=4, timesteps=3)
    (layer,) = found.layers
    assert (layer.name, len(layer.numbers), found.schedule.timesteps) == ("Relu_1", 4, 3)
    assert [len(row) for row in layer.spikes] == [3] * 4 and len(found.rows) == 12
    assert len(repr(found)) < 120 and found._repr_html_().count("<svg") == 2


def test_data_of_a_program_is_shown_too(network: Path) -> None:
    images = torch.rand(2, 1, 8, 8)
    one = snnc.spikes(snnc.load(network), images[1:])
    assert one.layers == snnc.spikes(network, images, index=1).layers


def test_neurons_that_gather_first_have_no_membranes() -> None:
    conversion, _ = snnc.convert(DIGITS / "model.onnx", "quick", timesteps=2, preprocessing=GRAY)
    found = snnc.spikes(conversion, IMAGE, layers=["Relu"])
    assert found.layers[0].potentials == () and len(found.plots()) == 1
    assert found.png().startswith(b"\x89PNG") and "potential" not in found.rows[0]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"layers": ["Rel"]}, UsageError, "no spiking layer is called 'Rel' @ --layer\nhint: did you mean 'Relu'"),
        ({"neurons": 0}, UsageError, "0 neurons @ --neurons"),
        ({"timesteps": 0}, UsageError, "timesteps"),
        ({"index": 400}, DataError, "no sample 400 @ "),
    ],
)
def test_what_there_is_not_is_told(network: Path, asked: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        snnc.spikes(network, DIGITS / "test", **asked)


def test_the_command_draws_in_the_terminal_and_writes_files(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--layer", "Relu", "--html", "s.html", "--png", "s.png"]
    assert cli.main(["spikes", str(network), str(IMAGE), *flags]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{IMAGE.name} is answered with ")
    rows = [line.split() for line in told[3:11]]
    assert all(set(raster) <= set("·|") and len(raster) == len(membrane) == 5 for _, raster, membrane in rows)
    assert told[-1] == "written: s.html, s.png"
    page = Path("s.html").read_text()
    assert page.count("<svg") == 2 and "<script" not in page and Path("s.png").read_bytes()[:4] == b"\x89PNG"
    assert "the 8 most active neurons" in told[-2]
    assert cli.main(["spikes", str(network), str(IMAGE), "--neurons", "3"]) == 0
    assert "the 3 most active neurons" in capsys.readouterr().out
    assert cli.main(["spikes", str(network), str(IMAGE), "--json", "--layer", "Relu"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["name"] == "Relu"
    assert cli.main(["spikes", str(network), "none.png"]) == 5
    (tmp_path / "text.txt").write_text("no image")
    assert cli.main(["spikes", str(network), "text.txt"]) == 5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4 and "no such file" in told[0] and "neither a folder nor an array file" in told[2]
