"""Python as people use it: modules, tensors and loaders in, results that notebooks show and scripts go on with."""

import csv
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import snnc
from snnc import progress
from snnc.actions.convert import Converted
from snnc.data.given import gathered
from snnc.errors import DataError, ModelError, SnncError, UsageError

SHAPE = (1, 6, 6)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.drop, self.linear = nn.Conv2d(1, 3, 3), nn.Dropout(), nn.Linear(48, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.drop(torch.relu(self.convolution(images)).flatten(1)))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.relu(self.first(left)) + torch.relu(self.second(right))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network()


@pytest.fixture(scope="module")
def samples(network: Network) -> tuple[Tensor, Tensor]:
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, network.eval()(images).argmax(1)


@pytest.fixture(scope="module")
def made(network: Network, samples: tuple[Tensor, Tensor]) -> Converted:
    return snnc.convert(network, "quick", data=DataLoader(TensorDataset(*samples), batch_size=16), timesteps=4)


def test_a_module_stays_as_it_is_and_the_same_module_gives_the_same_file(
    network: Network, samples: tuple[Tensor, Tensor], made: Converted, tmp_path: Path
) -> None:
    network.train()
    again = snnc.convert(network, "quick", data=DataLoader(TensorDataset(*samples), batch_size=16), timesteps=4)
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    for name, conversion in (("a", made.conversion), ("b", again.conversion)):
        snnc.save(conversion, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert made.conversion.provenance.model.file == "Network"


def forms(images: Tensor, labels: Tensor) -> list[Any]:
    pairs = TensorDataset(images, labels)
    by_name = [{"x": images[at : at + 15], "y": labels[at : at + 15].numpy()} for at in (0, 15, 30)]
    return [
        (images, labels),
        {"x": images.numpy(), "y": labels.tolist()},
        pairs,
        DataLoader(pairs, batch_size=7),
        by_name,
        (batch for batch in by_name),
    ]


@pytest.mark.parametrize("form", range(6))
def test_data_in_every_form_is_the_same_data(form: int, samples: tuple[Tensor, Tensor], made: Converted) -> None:
    measured = snnc.evaluate(made, data=forms(*samples)[form], timesteps=4)
    again = snnc.evaluate(made.conversion, data=samples, timesteps=[4])
    assert measured.sha256 == again.sha256 and measured.labeled and measured.rows == again.rows


def test_what_a_program_holds_is_what_a_file_holds(
    samples: tuple[Tensor, Tensor], made: Converted, tmp_path: Path
) -> None:
    images, labels = samples
    np.savez(tmp_path / "data.npz", x=images.numpy(), y=labels.numpy())
    snnc.save(made.conversion, tmp_path / "model.snn")
    measured = snnc.evaluate(tmp_path / "model.snn", data=tmp_path / "data.npz")
    assert measured.rows == snnc.evaluate(snnc.load(tmp_path / "model.snn"), data=samples).rows


def test_several_inputs_are_given_by_name_or_in_order() -> None:
    torch.manual_seed(0)
    left, right = torch.rand(8, 4), torch.rand(8, 3)
    by_order = snnc.convert(Two(), "quick", data=(left, right), timesteps=2).conversion
    assert by_order.snn.inputs == ("left", "right")
    loader = [{"left": left[:4], "right": right[:4]}, {"left": left[4:], "right": right[4:]}]
    by_name = snnc.convert(Two(), "quick", data=loader, timesteps=2).conversion
    assert by_order.provenance.calibration == by_name.provenance.calibration


def test_a_module_is_read_on_an_example_or_a_shape(network: Network) -> None:
    for asked in ({"example": torch.zeros(5, *SHAPE)}, {"input_shape": SHAPE}):
        assert snnc.convert(network, "quick", **asked).conversion.snn.input_shapes == {"input": SHAPE}
    with pytest.raises(ModelError, match="a module does not say what it takes @ Network\nhint: give example="):
        snnc.convert(network, "quick")
    with pytest.raises(ModelError, match=r"cannot be traced on an example of 2x5: .* @ Network"):
        snnc.convert(network, "quick", example=torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(torch.rand(4, *SHAPE), torch.zeros(4)), (torch.rand(4, 1, 5, 5), torch.zeros(4))], r"@ data\[1\]"),
        ([{"x": torch.rand(4, *SHAPE)}, {"z": torch.rand(4, *SHAPE)}], r"@ data\[1\]"),
        ([], "it yields no sample @ data"),
        (["a word"], r"str where numbers are expected @ data\[0\]"),
        (3, "int is no data @ data"),
        ((torch.rand(4, *SHAPE), torch.zeros(3)), "not as many samples in each"),
        (torch.rand(4, 2, 6, 6), r"x has shape \[4, 2, 6, 6\], but the network takes \[N, 1, 6, 6\] @ data:x"),
        ({"z": torch.rand(4, *SHAPE)}, "no array input, only: z @ data"),
        ((torch.rand(4, *SHAPE),) * 3, "3 arrays, but the network takes input @ data"),
        (DataLoader([torch.rand(2), torch.rand(3)], batch_size=2), r"no batch can be made: .* @ data\[0\]"),  # type: ignore[arg-type]
    ],
)
def test_data_that_does_not_fit_is_told_with_its_place(data: Any, message: str, made: Converted) -> None:
    with pytest.raises(DataError, match=f"{message}(?s:.*)\nhint: .") as caught:
        snnc.evaluate(made, data=data)
    assert "\n" not in caught.value.line


def test_batches_are_read_once() -> None:
    read = []

    def batches() -> Any:
        for number in range(3):
            read.append(number)
            yield torch.full((2, 3), float(number))

    held = gathered(batches())
    assert gathered(held) is held and read == [0, 1, 2]


def test_the_end_of_a_cell_is_short(made: Converted, samples: tuple[Tensor, Tensor]) -> None:
    measured = snnc.evaluate(made, data=samples, timesteps=[1, 4])
    tuned = snnc.tune(snnc_module(), data=samples, minutes=1e-9)
    results = [made, *made, measured, made.conversion.snn, snnc.inspect(made), snnc.diff(made.report, made.report)]
    for found in (*results, tuned):
        assert len(repr(found)) < 300 and "\n" not in repr(found)
    assert repr(measured).startswith("<Evaluation on 40 samples: accuracy T=1: ")
    for shown in (made, made.report, measured):
        page = shown._repr_html_()
        assert "<table>" in page and "<script" not in page and len(page) < 40_000
    assert measured._repr_html_().count("<svg") == 2


def snnc_module() -> nn.Module:
    torch.manual_seed(0)
    return Network()


def test_figures_are_rows_and_curves(made: Converted, samples: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    measured = snnc.evaluate(made, data=samples, timesteps=[1, 2, 4])
    text = measured.to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["timesteps"] for row in rows] == ["1", "2", "4"]
    assert [float(row["accuracy"]) for row in rows] == [row.accuracy for row in measured.rows]
    first, _ = measured.plot().axes
    assert first.lines[0].get_xdata().tolist() == [row.total_steps for row in measured.rows] == [2, 4, 8]
    (layer,) = csv.DictReader(io.StringIO(made.report.to_csv()))
    assert layer["name"] == made.report.layers[0].name
    with pytest.raises(DataError, match="cannot write"):
        measured.to_csv(tmp_path / "none" / "rows.csv")


def test_export_is_called_by_the_name_of_a_format_and_saved(made: Converted, tmp_path: Path) -> None:
    exported = snnc.export(made, "onnx", verify=True, vectors=2)
    assert not exported.mismatch
    names = [path.name for path in exported.save(tmp_path / "spiking.onnx")]
    assert names == ["spiking.onnx", "spiking.onnx.vectors.safetensors"]
    with pytest.raises(UsageError, match="unknown format"):
        snnc.export(made, "onyx")


def test_finetuning_starts_from_a_module_and_is_saved(samples: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    recipe = snnc.recipe.load("default", timesteps=4, overrides=["training.epochs=1", "training.augment=[]"])
    tuned = snnc.finetune(snnc_module(), recipe, data=(samples[0], torch.arange(40) % 3))
    assert tuned.origin.file == "Network" and len(repr(tuned)) < 200
    tuned.save(tmp_path / "tuned.onnx")
    assert snnc.convert(tmp_path / "tuned.onnx", recipe).conversion.provenance.tuned_from == tuned.origin


def test_errors_say_all_there_is_to_say() -> None:
    error = SnncError("too much", hint="give less", place="here", details=("this", "that"))
    assert str(error) == "too much @ here\n    this\n    that\nhint: give less"
    assert str(SnncError("too much", hint="")) == "too much"


def test_logs_have_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tell = progress.told()
    for second in range(25):
        now[0] = second
        tell("reading", second, 1_000)
    for second in range(25, 40):
        now[0] = second
        tell("training", second - 25, 20)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 10 of 1,000, 16 min left",
        "reading: 20 of 1,000, 16 min left",
        "training: 5 of 20, 15 s left",
    ]


def test_notebooks_have_bars_where_tqdm_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    drawn: list[str] = []

    class Bar:
        def __init__(self, desc: str, total: int, leave: bool) -> None:
            self.total, self.n = total, 0
            drawn.append(f"{desc} of {total}")

        def update(self, more: int) -> None:
            self.n += more

        def close(self) -> None:
            drawn.append(f"closed at {self.n}")

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    tell = progress.told()
    for label, done, total in (("a", 0, 2), ("a", 1, 2), ("b", 0, 3), ("b", 3, 3)):
        tell(label, done, total)
    assert drawn == ["a of 2", "closed at 1", "b of 3", "closed at 3"]
