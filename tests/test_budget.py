"""What there is no time for is left out, said and written down; what there is no memory for is kept on disk."""

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import snnc
from snnc import budget, cli, process, recipe
from snnc.artifact import fingerprint
from snnc.budget import Budget
from snnc.calibration import Histogram
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.passes import TrainingPass, passes
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.distill import Distill
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.processes import current
from snnc.schedule import Schedule
from snnc.threads import Threads
from tests.support import Network, calibration, normal, random_network, relu
from tests.test_processes import simulated
from tests.test_report import DIGITS, PREPROCESSING

TRAINING = [name for name, kind in passes.items() if issubclass(kind, TrainingPass)]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that takes 50 ms to look at a sample, and a second for a step of training."""
    monkeypatch.setattr(budget, "_seconds_a_sample", lambda *others: 0.05)
    monkeypatch.setattr(budget, "_seconds_a_step", lambda *others: 1.0)


@pytest.mark.parametrize("name", passes)
def test_passes_say_how_much_they_look_at(name: str) -> None:
    step, schedule = passes[name](), Schedule(4)
    few, many = (step.runs(samples, schedule) for samples in (10, 1000))
    assert few * 100 >= many >= few >= 0
    assert many > 0 or not hasattr(step, "images")


def test_there_are_passes_that_train() -> None:
    assert {"distill", "reconstruct-units"} <= {*TRAINING}


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_takes_the_steps_that_fit(name: str, slow: None) -> None:
    graph = random_network(0, relu)
    given = calibration(graph, normal(40, 3, 8, 8))
    step = passes[name]()
    assert isinstance(step, TrainingPass)
    planned = step.planned(40)
    for minutes, wanted in ((None, planned), (1000, planned), (1, 47), (1e-6, 1)):
        limit = Budget(minutes)
        made = limit.fitting_steps(step, name, graph, given, 0)
        assert isinstance(made, TrainingPass)
        assert made.planned(40) == min(planned, wanted)
        assert made is step or dataclasses.replace(made, steps=step.steps) == step  # type: ignore[call-arg]
        assert bool(limit.findings) == (wanted < planned)
    # Others that follow leave it less, and nothing is trained without samples.
    assert Budget(1).fitting_steps(step, name, graph, given, 1) == dataclasses.replace(step, steps=23)  # type: ignore[call-arg]
    assert Budget(1).fitting_steps(step, name, graph, calibration(graph), 0) is step


@pytest.mark.parametrize("name", TRAINING)
def test_how_long_a_step_takes_is_found_by_a_few(name: str) -> None:
    graph = NormalizeActivations()(random_network(0, relu), calibration(random_network(0, relu)))
    given = calibration(graph, normal(40, 3, 8, 8))
    graph = CalibrateThresholds()(graph, given)
    step = passes[name]()
    assert isinstance(step, TrainingPass)
    assert 1e-6 <= budget._seconds_a_step(step, graph, given) < 60


def test_what_was_decided_is_done_again(slow: None) -> None:
    how, some = recipe.load("default", timesteps=2, overrides=("passes.distill.epochs=10",)), Reading(limit=120)

    def made(how: recipe.Recipe, some: Reading, minutes: float | None) -> snnc.Conversion:
        data = DIGITS / "calibration"
        return snnc.convert(
            DIGITS / "model.onnx", how, data=data, preprocessing=PREPROCESSING, reading=some, minutes=minutes
        ).conversion

    hurried = made(how, some, 0.2)
    (finding,) = [finding for finding in hurried.findings if finding.code == "less-for-time"]
    (steps,) = [step.steps for step in recipe.recorded(hurried).passes if isinstance(step, Distill)]
    assert hurried.provenance.calibration is not None
    images = hurried.provenance.calibration.images
    assert steps < 10 and images < 120
    assert finding.message == f"there was time for {images} of 120 samples and {steps} of 10 steps of distill"
    assert f"--limit {images}" in finding.hint
    again = made(recipe.recorded(hurried), Reading(limit=images), None)
    assert fingerprint(again) == fingerprint(hurried)
    assert again.provenance == hurried.provenance
    # Time that suffices changes nothing.
    assert fingerprint(made(how, Reading(limit=20), 1000)) == fingerprint(made(how, Reading(limit=20), None))


def test_all_processes_decide_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(0, relu)
    given = calibration(graph, normal(400, 3, 8, 8))
    monkeypatch.setattr(budget, "_seconds_a_step", lambda *others: 1.0 + 7 * current().rank)

    def work(rank: int) -> tuple[int, float]:
        limit = Budget(1 + rank)
        step = limit.fitting_steps(Distill(), "distill", graph, given, 0)
        assert isinstance(step, Distill)
        return step.steps, round(limit.left)

    found = simulated(3, work)
    assert found == [found[0]] * 3


def test_a_budget_is_a_flag_and_a_setting(
    slow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGITS / "model.onnx", "model.onnx")
    convert = ["convert", "--data", str(DIGITS / "calibration"), "--limit", "40", "--timesteps", "2", "-q"]
    shorter = ["--set", "passes.distill.epochs=2"]
    Path("snnc.yaml").write_text("model: model.onnx\nminutes: 0.02\nmemory: 4G\n")
    assert cli.main([*convert, *shorter, "--save-recipe", "hurried.yaml"]) == 0
    hurried = snnc.load("model.snn").conversion
    assert "less-for-time" in {finding.code for finding in hurried.findings}
    assert cli.main([*convert, *shorter, "--minutes", "1000", "-o", "whole.snn"]) == 0
    assert "less-for-time" not in {finding.code for finding in snnc.load("whole.snn").conversion.findings}
    Path("snnc.yaml").unlink()
    again = [*convert, "model.onnx", "-o", "again.snn", "--recipe", "hurried.yaml", "--limit"]
    assert hurried.provenance.calibration is not None
    assert cli.main([*again, str(hurried.provenance.calibration.images)]) == 0
    assert fingerprint(snnc.load("again.snn").conversion) == fingerprint(hurried)
    assert cli.main(["calibrate", "whole.snn", *convert[1:], "--minutes", "0.02"]) == 0
    assert "less-for-time" in {finding.code for finding in snnc.load("whole.snn").conversion.findings}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("settings", "flags", "place"),
    [
        ("", ["--minutes", "0"], "invalid value 0 @ --minutes"),
        ("", ["--minutes", "-1"], "invalid value -1 @ --minutes"),
        ("", ["--minutes", "nan"], "invalid value nan @ --minutes"),
        ("", ["--minutes", "soon"], "invalid value for '--minutes'"),
        ("", ["--memory", "8X"], "invalid value '8X' @ --memory"),
        ("minutes: 0", [], "invalid value 0 @ snnc.yaml: minutes"),
        ("memory: much", [], "invalid value 'much' @ snnc.yaml: memory"),
        ("memory: 8", [], "invalid value 8 @ snnc.yaml: memory"),
        ("", ["--memory", "100M"], "too little for any command @ --memory"),
        ("memory: 0.1G", [], "too little for any command @ snnc.yaml: memory"),
    ],
)
def test_a_budget_that_is_none_is_told(
    settings: str,
    flags: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("snnc.yaml").write_text(f"model: model.onnx\n{settings}\n")
    shutil.copy(DIGITS / "model.onnx", "model.onnx")
    assert cli.main(["convert", *flags]) == 2
    told = capsys.readouterr()
    assert place in told.err and len(told.err.splitlines()) == 2 and not told.out
    assert {path.name for path in tmp_path.iterdir()} == {"snnc.yaml", "model.onnx"}


def test_python_is_told_what_no_size_is() -> None:
    for wrong in ("8", "8X", 0, -5, ""):
        with pytest.raises(UsageError, match="invalid value") as caught, process.memory_within(wrong):
            pass
        assert caught.value.place == "memory"
    before = process.memory()
    with process.memory_within("2G"), process.memory_within(None):
        assert process.memory() == 2 << 30
    assert process.memory() == before


@pytest.mark.parametrize("kind", ["mmse", "percentile"])
def test_thresholds_are_the_same_with_counts_on_disk(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    net = Network((3, 8, 8))
    # More channels than are counted at once.
    relu(net, net.conv("x", 600))
    graph = NormalizeActivations()(net.graph(), calibration(net.graph()))
    given = calibration(graph, normal(20, 3, 8, 8))
    kept: list[bool] = []
    made = Histogram.empty

    def empty(channels: int, *, on_disk: bool = False, **others: Any) -> Histogram:
        kept.append(on_disk)
        return made(channels, on_disk=on_disk, **others)

    monkeypatch.setattr(Histogram, "empty", empty)

    def work(rank: int, size: str) -> list[torch.Tensor]:
        with process.memory_within(size):
            after = CalibrateThresholds(kind=kind)(graph, given)
        return [tensor for op in after.ops(snnc.ops.Quantized).values() for tensor in op.tensors().values()]

    wanted = work(0, "64G")
    assert kept == [False]
    for found in (work(0, "100M"), *simulated(2, lambda rank: work(rank, "100M"))):
        assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))
    assert kept == [False, True, True, True]
    assert not list(tmp_path.iterdir())


def test_threads_know_how_much_memory_is_given(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with process.memory_within("2G"), Threads() as threads:
            assert set(threads.map(lambda part: process.memory(), range(4))) == {2 << 30}
            # Work within work has one thread, as if it were all that is done.
            assert list(threads.map(lambda part: _threads_within(), range(2))) == [1, 1]
    finally:
        torch.set_num_threads(before)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    data = open_dataset(tmp_path, Preprocessing(resize=256), {"x": (3, 256, 256)})
    # The thread that reads is told the limit of who asks for samples.
    with process.memory_within("1M"), pytest.raises(DataError, match="is too large"):
        list(data.batches())
    assert len(list(data.batches())) == 1


def _threads_within() -> int:
    with Threads() as threads:
        return len({threading.get_ident(), *threads.map(lambda part: threading.get_ident(), range(8))})
