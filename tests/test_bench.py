"""How fast a network runs here: what is timed, and what is refused."""

import json
from pathlib import Path

import pytest

import snnc
from snnc import cli
from snnc.actions.bench import bench
from snnc.errors import UsageError
from snnc.figure import Speed

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "m.snn"
    made, _ = snnc.convert(DIGITS / "model.onnx", recipe="quick", timesteps=2)
    snnc.save(made, path)
    return path


def test_the_simulator_the_trained_network_and_an_exported_file_are_timed(network: Path) -> None:
    found = bench(network, batches=(1, 3), seconds=0.01)
    names = [speed.name for speed in found.speeds]
    assert names[::2] == names[1::2] and [speed.batch for speed in found.speeds] == [1, 3] * 3
    assert names[0] == "simulator" and names[2] == "trained network, simulated" and names[4].startswith("onnx, onnxr")
    for speed in found.speeds:
        assert 0 < speed.fastest <= speed.milliseconds and speed.runs >= 3
        assert speed.per_second == pytest.approx(1000 * speed.batch / speed.milliseconds)
    assert found.schedule.timesteps == 2 and "simulator (3): " in repr(found)
    assert found.plain()["speeds"][0]["images_per_second"] == found.speeds[0].per_second


def test_images_a_second_are_those_of_the_median() -> None:
    assert Speed("x", 32, 8.0, 4.0, 5).per_second == 4000


def test_the_command_tells_a_line_for_each(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(network), "--simulator", "--batch", "2", "--seconds", "0.01"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["run", "by", "batch", "ms", "fastest", "images/s", "runs"]
    assert told[1].startswith("simulator ") and told[2].startswith("trained network, simulated ")
    assert "T=2, " in told[-1] and len(told) == 5
    assert cli.main(["bench", str(network), "--simulator", "--batch", "1", "--seconds", "0.01", "--json", "-q"]) == 0
    speeds = json.loads(capsys.readouterr().out)["speeds"]
    assert [speed["name"] for speed in speeds] == ["simulator", "trained network, simulated"]


def test_what_cannot_be_timed_is_refused(network: Path) -> None:
    for asked, message in (
        ({"batches": (0,)}, "0 images at once @ --batch"),
        ({"seconds": 0.0}, "0 seconds @ --seconds"),
        ({"exported": ("onx",)}, "unknown format 'onx' @ --format\nhint: did you mean 'onnx'"),
    ):
        with pytest.raises(UsageError, match=message):
            bench(network, **asked)  # type: ignore[arg-type]
    assert cli.main(["bench", str(network.parent / "none.snn"), "-q"]) == 5
    assert cli.main(["bench", str(network), "--simulator", "--format", "onnx", "-q"]) == 2


def test_what_nothing_here_runs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = snnc.convert(DIGITS / "model.onnx", recipe="quick", timesteps=1, neuron="if")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"c, C compiler cannot be timed: there is none here.* @ --format"):
        bench(made, exported=("c",), batches=(1,), seconds=0.01)
