"""What data are held against: what a trained network says of its training, how sure it is, and what users expect."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snnc import cli, ops, recipe
from snnc.actions.convert import convert
from snnc.conversion import Conversion, Origin
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.measure.expectations import unlike_training
from snnc.passes import passes
from snnc.pipeline import Trained, make, reported
from tests.support import Network, normal

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
RIGHT = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")
QUICK = ("--recipe", "quick", "--timesteps", "2")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main(list(map(str, arguments))), *capsys.readouterr()

    return call


def codes(out: str) -> set[str]:
    data = json.loads(out)
    return {finding["code"] for finding in data.get("report", data)["findings"]}


def test_forgotten_preprocessing_is_told_by_every_command_and_fails_strict(run: Run) -> None:
    model, few = DIGITS / "model.onnx", ("--limit", "64")
    images, test = ("--data", DIGITS / "calibration", *few), ("--data", DIGITS / "test", *few)
    # As it was trained: nothing is told but what is in use.
    for command in (("convert", model, *images, *RIGHT, *QUICK), ("calibrate", *images), ("evaluate", *test)):
        code, out, _ = run(*command)
        assert code == 0 and "\npreprocessing: gray, pixels divided by 255, mean 0.31, std 0.38\n" in out
        assert "not as in training" not in out and "sure on average" not in out
    forgotten = ("convert", model, *images, "--channels", "gray", *QUICK)
    code, out, _ = run(*forgotten, "--json")
    assert code == 0 and "unlike-training" in codes(out)
    code, out, _ = run(*forgotten, "--strict")
    # All figures are to be doubted then, and the first sentence says so.
    assert code == 4 and "\nDoubtful, for inputs are not as in training: " in out
    _, out, _ = run("evaluate", *test)
    assert "\npreprocessing: gray, pixels divided by 255, no mean, no std\n" in out
    assert "\nDoubtful, for inputs are not as in training: " in out
    assert (
        out.count("warning: inputs are not as in training") == 1
        and "now gray, pixels divided by 255, no mean, no std" in out
    )
    assert "% sure on average, and right on " in out
    _, out, _ = run("evaluate", *test, "--json")
    # Read as is usual elsewhere, the network is right far more often, which is told.
    assert {"unlike-training", "unsure", "read-otherwise"} <= codes(out)
    (found,) = (found for found in json.loads(out)["findings"] if found["code"] == "read-otherwise")
    assert found["message"].startswith("read otherwise (gray, pixels divided by 255, mean ")
    assert run("evaluate", *test, "--strict")[0] == 4
    assert run("calibrate", *images, "--strict")[0] == 4


def test_the_trained_network_is_held_to_what_is_expected_before_anything_else(run: Run) -> None:
    Path("snnc.yaml").write_text("expected-accuracy: 98\n")
    few = ("--data", DIGITS / "test", "--limit", "100")
    test = ("evaluate", "model.snn", *few)
    assert run("convert", DIGITS / "model.onnx", *RIGHT, *QUICK)[0] == 0
    assert run(*test, "-q")[0] == 0
    code, out, error = run(*test, "--mean", "0", "--std", "1")
    assert code == 5 and out == "" and error.count("\n") == 2
    assert "the trained network has " in error and " % accuracy on 100 samples, where 98.00 % are expected" in error
    assert "@ snnc.yaml: expected-accuracy" in error and "now gray, pixels divided by 255, mean 0, std 1" in error
    assert "evaluation" not in json.loads(Path("model.report.json").read_text())["evaluation"]["sha256"]
    # Where a network is made of samples with labels, too; those without say nothing.
    for command in (
        ("convert", DIGITS / "model.onnx", *QUICK, "-o", "new.snn"),
        ("calibrate", "-o", "new.snn", "--mean", "0"),
    ):
        code, _, error = run(*command, "--channels", "gray", "--std", "1", *few)
        assert code == 5 and "where 98.00 % are expected" in error and not Path("new.snn").exists()
    unlabeled = ("--data", DIGITS / "calibration", "--limit", "24")
    assert run("convert", DIGITS / "model.onnx", *QUICK, "-o", "new.snn", *unlabeled)[0] == 0
    Path("snnc.yaml").write_text("expected-accuracy: 0\n")
    assert run(*test)[0] == 2


def test_a_pass_that_changes_the_network_says_so_by_its_name_with_what_it_costs(run: Run) -> None:
    nir = ("convert", DIGITS / "model.onnx", *RIGHT, "--recipe", "nir", "--timesteps", "2")
    told = "the pass treat-max-pool changes the network, with an average pool in the place of a max-pool: "
    assert f"{told}what that costs is not known without data" in run(*nir)[1]
    _, out, _ = run(*nir, "--data", DIGITS / "calibration", "--limit", "40")
    assert told in out and "% of the predictions for 40 samples stay the same" in out
    # Known still when the network is evaluated, and forgotten where the pass is.
    assert "altered" in codes(run("report", "--json", "-")[1])
    code, out, _ = run(
        "calibrate", "--data", DIGITS / "test", "--limit", "40", "--set", "passes.treat-max-pool.method=average"
    )
    assert code == 0 and told in out and out.count("changes the network") == 1
    assert "accuracy on 40 samples goes from " in out
    assert "changes the network" not in run("convert", DIGITS / "model.onnx", *RIGHT, *QUICK)[1]


def test_batch_norm_statistics_are_spoken_of_only_where_there_are_any() -> None:
    def told(activation: ops.Op) -> Conversion:
        net = Network((3,))
        net.add(ops.Linear(normal(4, 3, seed=1), None), "x")
        net.add(activation)
        net.add(ops.Linear(normal(2, 4, seed=2), None), name="y")
        trained = Trained(net.graph(), Origin("model.onnx", "0" * 64), ())
        plain = recipe.Recipe("plain", 2, (passes["normalize-activations"](), passes["substitute-neurons"]()))
        made, canonical = make(trained, plain, None, Preprocessing(), Reading())
        return reported(made, canonical, None, Reading())[0]

    quantized = told(ops.QuantizedRelu(torch.tensor(1.0), 2))
    (found,) = (finding for finding in quantized.findings if finding.code == "uncalibrated")
    assert "batch-norm" not in found.message and "thresholds are those of the file" in found.message
    made, _ = convert(DIGITS / "model.onnx", recipe.load("quick", timesteps=2))
    (found,) = (finding for finding in made.findings if finding.code == "uncalibrated")
    assert "batch-norm statistics" in found.message


def test_values_as_large_as_pixels_are_told_where_no_statistics_are_and_untrained_statistics_say_nothing() -> None:
    def found(values: torch.Tensor, *layers: ops.Op) -> list[str]:
        net = Network((3, 4, 4))
        net.add(ops.Conv(normal(4, 3, 3, 3, seed=1), None, (1, 1), (0,) * 4, (1, 1), 1), "x")
        for layer in layers:
            net.add(layer)
        samples = MemorySamples(Feeds({"x": values}))
        return [finding.code for finding in unlike_training(net.graph(), samples, Preprocessing())]

    small, large = normal(8, 3, 4, 4, seed=2), 200 * normal(8, 3, 4, 4, seed=2)
    fresh = ops.BatchNorm(torch.ones(4), torch.zeros(4), torch.zeros(4), torch.ones(4), 1e-5)
    trained = ops.BatchNorm(torch.ones(4), torch.zeros(4), torch.zeros(4), torch.full((4,), 27.0), 1e-5)
    assert found(small) == found(small, fresh) == found(small, trained) == []
    assert found(large) == found(large, fresh) == found(large, trained) == ["unlike-training"]
