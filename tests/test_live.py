"""snnc run and snnc evaluate --stream: each answer as it comes, of a network that starts anew or goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import snnc
from snnc import cli, recipe
from snnc.actions.run import run
from snnc.artifact import save_conversion
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError
from snnc.feeds import Feeds
from snnc.formats.onnx import onnx_model
from snnc.report.data import read
from snnc.run import Program
from snnc.run.frames import Between
from snnc.tasks import tasks
from tests.recording_files import HEIGHT, WIDTH, events, nmnist
from tests.support import Network, normal, relu

FRAMES = Preprocessing(events=EventFrames(frames=2, sensor=(HEIGHT, WIDTH)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of frames, a spiking one, and a recording that it can be shown."""
    place = tmp_path_factory.mktemp("live")
    net = Network((2, HEIGHT, WIDTH))
    hidden = relu(net, net.conv("x", 4, stride=4))
    net.linear(net.flat(hidden), 3, name="last")
    (place / "model.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    made, _ = snnc.convert(place / "model.onnx", recipe.load("quick", timesteps=4), preprocessing=FRAMES)
    save_conversion(made, place / "model.snn")
    steps = recipe.load("quick", timesteps=1, neuron="graded(levels=7)")
    made, _ = snnc.convert(place / "model.onnx", steps, preprocessing=FRAMES)
    save_conversion(made, place / "graded.snn")
    nmnist(place / "a.bin", events(400, last=95_000))
    return place


@pytest.fixture
def made(folder: Path) -> Conversion:
    from snnc.artifact import load_conversion

    return load_conversion(folder / "model.snn")


def test_every_window_is_what_the_network_sees_of_it_alone(folder: Path, made: Conversion, tmp_path: Path) -> None:
    rows = events(400, last=95_000)
    found = list(run(made, data=folder / "a.bin", every=20_000))
    start = rows[0, 3]
    assert [decision.at for decision in found] == [20_000 * n for n in range(1, len(found) + 1)]
    assert len(found) == (rows[-1, 3] - start) // 20_000 + 1
    for index, decision in enumerate(found):
        part = rows[(rows[:, 3] >= start + 20_000 * index) & (rows[:, 3] < start + 20_000 * (index + 1))]
        frames = np.zeros((2, 1, 2, HEIGHT, WIDTH), np.float32)
        for x, y, p, t in part:
            frames[(t - start - 20_000 * index) * 2 // 20_000, 0, p, y, x] += 1
        program = Program(made.snn, made.schedule)
        (outputs,) = program(Feeds({made.snn.inputs[0]: torch.from_numpy(frames)}, made.snn.inputs)).values()
        assert decision.values == int(outputs[0].argmax()) and decision.answer == str(decision.values)
        assert decision.spikes >= 0 and decision.steps == found[0].steps


def test_a_window_without_events_is_blank(folder: Path, made: Conversion, tmp_path: Path) -> None:
    rows = events(50, last=5000)
    late = rows + np.array([0, 0, 0, 60_000])
    nmnist(tmp_path / "b.bin", np.concatenate([rows, late]))
    found = list(run(made, data=tmp_path / "b.bin", every=10_000))
    blank = Program(made.snn, made.schedule)(Feeds({made.snn.inputs[0]: torch.zeros(1, 2, HEIGHT, WIDTH)}))
    (outputs,) = blank.values()
    assert len(found) == 7 and {decision.values for decision in found[1:6]} == {int(outputs[0].argmax())}


def test_frames_and_samples_are_decided_one_by_one(folder: Path, made: Conversion, tmp_path: Path) -> None:
    frames = list(run(made, data=folder / "a.bin"))
    assert [decision.at for decision in frames] == [1, 2]
    np.savez(tmp_path / "x.npz", x=normal(5, 2, HEIGHT, WIDTH, seed=1).numpy())
    samples = list(run(made, data=tmp_path / "x.npz"))
    assert [decision.at for decision in samples] == [None] * 5
    dataset = open_dataset(tmp_path / "x.npz", FRAMES, {"x": (2, HEIGHT, WIDTH)}, Reading())
    result = snnc.evaluate(made, data=tmp_path / "x.npz")
    assert len(dataset) == 5
    assert sum(decision.spikes for decision in samples) == pytest.approx(5 * result.rows[0].spikes)


def test_answers_are_told_as_they_come(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", f"{folder}/model.snn", "--events", f"{folder}/a.bin", "--every", "20ms"]
    assert cli.main(command) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "a.bin" and lines[0].split("  ")[-1].endswith("ms)")
    assert "20.0 ms" in lines[0] and "each from a restart" in last and f"{len(lines)} decisions at T=4" in last
    assert cli.main([*command, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(lines) and set(found[0]) >= {"at", "answer", "spikes", "steps", "milliseconds"}
    assert cli.main([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_what_programs_read_is_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "x.npz", x=normal(1, 2, HEIGHT, WIDTH, seed=1).numpy())
    command = ["run", f"{folder}/model.snn", "--data", f"{tmp_path}/x.npz", "--task", "values", "--json"]
    low = torch.tensor([[-1.5, torch.nan, torch.inf]])
    monkeypatch.setattr(tasks["values"], "answers", lambda task, outputs: low)
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["values"] == [-1.5, None, None] and found["answer"].startswith("-1.5")


def test_a_name_cannot_write_lines_of_its_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "a.bin", tmp_path / "a\n\x1b[1mb.bin")
    assert cli.main(["run", f"{folder}/model.snn", "--data", f"{tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a  [1mb.bin" and len(lines) == 4


@pytest.mark.parametrize(
    ("every", "code", "message"),
    [
        ("10", 2, "invalid value '10'"),
        ("0ms", 2, "invalid value '0ms'"),
        ("fast", 2, "give a number and us, ms or s"),
        ("9" * 400 + "s", 2, "invalid value '999"),
    ],
)
def test_a_time_that_is_none_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], every: str, code: int, message: str
) -> None:
    command = ["run", f"{folder}/model.snn", "--events", f"{folder}/a.bin", "--every", every]
    assert cli.main(command) == code
    assert message in capsys.readouterr().err


def test_what_has_no_times_is_named(folder: Path, made: Conversion, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=normal(5, 2, HEIGHT, WIDTH, seed=1).numpy())
    with pytest.raises(DataError, match="no recording with times"):
        list(run(made, data=tmp_path / "x.npz", every=1000))
    counted = Preprocessing(events=EventFrames(frames=2, bins="count", sensor=(HEIGHT, WIDTH)))
    with pytest.raises(DataError, match="have no time that divides them"):
        list(run(made, data=folder / "a.bin", every=1000, preprocessing=counted))


@pytest.fixture
def graded(folder: Path) -> Conversion:
    from snnc.artifact import load_conversion

    return load_conversion(folder / "graded.snn")


def test_a_stream_is_answered_as_from_restarts_and_costs_what_changes(folder: Path, graded: Conversion) -> None:
    how = Preprocessing(events=EventFrames(frames=8, sensor=(HEIGHT, WIDTH)))
    ways = (None, Between(), Between(refresh=1))
    anew, kept, refreshed = ([*run(graded, data=folder / "a.bin", preprocessing=how, stream=way)] for way in ways)
    assert [one.answer for one in anew] == [one.answer for one in kept] == [one.answer for one in refreshed]
    assert [one.spikes for one in refreshed] == [one.spikes for one in anew]
    assert anew[0].spikes == kept[0].spikes and [one.spikes for one in anew] != [one.spikes for one in kept]
    still = [*run(graded, data=folder / "a.bin", every=5_000, preprocessing=how, stream=Between(leak=1e-6))]
    assert sum(one.spikes for one in still[1:]) == 0, "what hardly changes fires"


def test_every_sample_is_a_stream_of_its_own(folder: Path, graded: Conversion, tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        shutil.copy(folder / "a.bin", tmp_path / name)
    first, again = ([one.spikes for one in run(graded, data=tmp_path, stream=Between())][at : at + 2] for at in (0, 2))
    assert first == again


def test_events_per_frame_stand_beside_a_restarts(
    folder: Path, graded: Conversion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [events(400, last=95_000, seed=seed) for seed in range(3)]
    labeled = {"labels": np.array([0, 1, 2]), "offsets": np.array([0, 400, 800, 1200])}
    np.savez(tmp_path / "e.npz", events_xypt=np.concatenate(rows), **labeled)
    measured = snnc.evaluate(graded, data=tmp_path / "e.npz", stream=Between())
    assert "whole-samples" in {finding.code for finding in measured.findings}
    found = measured.stream
    assert found is not None and found.at_once and (found.streams, found.frames) == (3, 6)
    assert found.agreement == 100 and found.scored == found.restart_scored and found.error < 1e-5
    # The trained network is shown the same frames, one by one.
    dataset = open_dataset(tmp_path / "e.npz", FRAMES, {"x": (2, HEIGHT, WIDTH)}, Reading())
    assert graded.reference is not None
    frames = (feeds for index in range(3) for _, feeds in dataset.shown(index))
    trained = [int(next(iter(Program(graded.reference)(feeds).values()))[0].argmax()) for feeds in frames]
    followed = [one.values for one in run(graded, data=tmp_path / "e.npz", stream=Between())]
    same = sum(one == other for one, other in zip(followed, trained, strict=True))
    assert found.trained_agreement == pytest.approx(100 * same / 6)
    ways = (Between(), None)
    kept, anew = (sum(one.spikes for one in run(graded, data=tmp_path / "e.npz", stream=way)) for way in ways)
    assert found.events == pytest.approx(kept / 6) and found.restart_events == pytest.approx(anew / 6)
    assert found.ratio == pytest.approx(kept / anew)
    assert sum(layer.events for layer in found.layers) == pytest.approx(found.events)
    command = ["evaluate", f"{folder}/graded.snn", "--data", f"{tmp_path}/e.npz", "--report", f"{tmp_path}/r.json"]
    assert cli.main([*command, "--stream", "--html", f"{tmp_path}/p.html", "--markdown", f"{tmp_path}/p.md"]) == 0
    said = capsys.readouterr().out
    for told in (said, (tmp_path / "p.html").read_text(), (tmp_path / "p.md").read_text()):
        assert "agreement with a restart" in told and "6 frames of 3 streams" in told
    # What is measured again without going on does not forget it.
    assert cli.main([*command, "--quiet"]) == 0
    evaluation = read(tmp_path / "r.json").evaluation
    assert evaluation is not None and evaluation.stream is not None and evaluation.stream.agreement == 100


@pytest.mark.parametrize(
    ("network", "data", "flags", "message"),
    [
        ("model.snn", "a.bin", ["--stream"], "cannot take back what they fired"),
        ("graded.snn", "x.npz", ["--stream"], "no frames of a stream"),
        ("graded.snn", "a.bin", ["--window", "2"], "--window\nhint:  add --stream"),
        ("graded.snn", "a.bin", ["--stream", "--window", "0"], "invalid value 0 @ --window"),
        ("graded.snn", "a.bin", ["--stream", "--leak", "2"], "invalid value 2 @ --leak"),
        ("graded.snn", "a.bin", ["--stream", "--refresh", "-1"], "invalid value -1 @ --refresh"),
    ],
)
@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_what_cannot_go_on_is_said_in_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    network: str,
    data: str,
    flags: list[str],
    message: str,
) -> None:
    np.savez(folder / "x.npz", x=normal(5, 2, HEIGHT, WIDTH, seed=1).numpy())
    report = ["--report", f"{tmp_path}/r.json"] if command == "evaluate" else []
    assert cli.main([command, f"{folder}/{network}", "--data", f"{folder}/{data}", *flags, *report]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 2 and not told.out
    assert not (tmp_path / "r.json").exists()
