"""Sums over samples do not depend on how many processes share them, and what fails in one fails in all."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest
import torch

import snnc
from snnc import cli, recipe
from snnc.actions import batch
from snnc.actions.finetune import Tuned
from snnc.artifact import fingerprint
from snnc.data.dataset import Reading
from snnc.data.samples import MemorySamples, Samples
from snnc.errors import DataError, LostError, SnncError, UsageError
from snnc.feeds import Feeds
from snnc.files import writes
from snnc.passes.balance_thresholds import BalanceThresholds
from snnc.passes.base import Pass
from snnc.passes.calibrate_hard_reset import CalibrateHardReset
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_spiking_residual import CorrectSpikingResidual
from snnc.passes.distill import Distill
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.processes import ALONE, Division, Processes, current, working
from snnc.report import to_json
from tests.test_finetune import DIGITS, PREPROCESSING, SHORT, tuned

Value = TypeVar("Value")


class Pipes:
    """Links between simulated processes, which are threads: what they hand over is copied, as it would be."""

    def __init__(self, count: int) -> None:
        self.queues = {(one, other): SimpleQueue[bytes]() for one in range(count) for other in range(count)}

    def of(self, rank: int) -> "Pipe":
        return Pipe(self, rank)


class Pipe:
    def __init__(self, pipes: Pipes, rank: int) -> None:
        self._queues, self._rank = pipes.queues, rank

    def send(self, value: object, to: int) -> None:
        self._queues[self._rank, to].put(pickle.dumps(value))

    def receive(self, of: int) -> Any:
        return pickle.loads(self._queues[of, self._rank].get(timeout=120))


def simulated(count: int, work: Callable[[int], Value]) -> list[Value]:
    """What work returns in each of so many processes that work together."""
    pipes = Pipes(count)

    def run(rank: int) -> Value:
        processes = Processes(rank, count, pipes.of(rank)) if count > 1 else ALONE
        with working(processes):
            try:
                return work(rank)
            except SnncError as error:
                raise processes.failed(error) from error

    with ThreadPoolExecutor(count) as pool:
        return [found.result() for found in [pool.submit(run, rank) for rank in range(count)]]


def drawn(count: int) -> Samples:
    return MemorySamples(Feeds({"x": torch.randn(count, 3, generator=torch.Generator().manual_seed(0))}), 7)


@pytest.mark.parametrize("size", [1, 10, 256])
@pytest.mark.parametrize("count", [1, 5, 33, 100, 700])
def test_sums_have_the_same_bytes_whoever_adds(count: int, size: int) -> None:
    samples = drawn(count)

    def work(feeds: Feeds, first: int) -> dict[str, Any]:
        return {
            "sum": feeds["x"].sinh().sum(0),
            "rows": [*range(first, first + feeds.samples)],
            f"at {first}": feeds.samples,
        }

    (alone,) = simulated(1, lambda rank: samples.added(size, work))
    assert alone["rows"] == [*range(count)]
    whole = torch.cat([feeds["x"] for feeds in samples.batches()]).sinh().sum(0)
    assert torch.allclose(alone["sum"], whole, atol=1e-3)
    for processes in (2, 3, 4, 8, 11):
        for found in simulated(processes, lambda rank: samples.added(size, work)):
            assert torch.equal(found["sum"], alone["sum"])
            assert {**found, "sum": 0} == {**alone, "sum": 0}


@pytest.mark.parametrize("count", [1, 40, 100, 1000, 5000])
def test_each_process_has_a_part(count: int) -> None:
    parts = simulated(4, lambda rank: (Division(count, 64).start, Division(count, 64).stop))
    assert parts[0][0] == 0 and parts[-1][1] == count
    assert all(start < stop for start, stop in parts)
    assert count < 1000 or max(stop - start for start, stop in parts) <= 1.15 * count / 4
    assert (Division(100, 64).start, Division(100, 64).stop, Division(100, 64).whole) == (0, 100, True)


def test_frames_of_a_sample_stay_together() -> None:
    frames = torch.randn(5, 50, 3, generator=torch.Generator().manual_seed(0))
    still = MemorySamples(Feeds({"x": frames}, ["x"], apart=True), 7).still()
    assert len(still) == 250

    def work(feeds: Feeds, first: int) -> list[tuple[int, float]]:
        return [(first + row, float(value.sum())) for row, value in enumerate(feeds["x"])]

    (alone,) = simulated(1, lambda rank: still.added(16, work))
    assert [number for number, _ in alone] == [*range(250)]
    assert all(found == alone for found in simulated(3, lambda rank: still.added(16, work)))


def test_what_fails_in_one_fails_in_all_and_the_first_tells_it() -> None:
    samples = drawn(100)

    def work(rank: int) -> tuple[str, int, bool]:
        def broken(feeds: Feeds, first: int) -> list[int]:
            if first > 50:
                raise DataError("broken", place=f"image {first}", hint="mend it")
            return [first]

        try:
            samples.added(8, broken)
        except DataError as error:
            agreed = current().failed(error)
            return agreed.line, agreed.exit_code, agreed.told
        raise AssertionError

    found = simulated(3, work)
    assert {error for error, _, _ in found} == {"broken @ image 56"}
    assert [code for _, code, _ in found] == [5, 5, 5]
    assert [told for *_, told in found] == [False, True, True]


def test_processes_that_differ_end_alike() -> None:
    def work(rank: int) -> tuple[str, int]:
        try:
            return str(drawn(100 + rank).added(8, lambda feeds, first: [first])), 0
        except UsageError as error:
            return error.line, error.exit_code

    (one, code), *others = simulated(2, work)
    assert one.startswith("processes do not do the same: 100 samples")
    assert code == 2 and others == [(one, code)]


def test_one_that_has_ended_ends_the_others() -> None:
    class Broken:
        def send(self, value: object, to: int) -> None:
            raise RuntimeError("Connection closed by peer")

        def receive(self, of: int) -> None:
            raise RuntimeError("Connection closed by peer")

    with working(Processes(0, 3, Broken())), pytest.raises(LostError, match="process 1 has ended") as caught:
        drawn(100).added(8, lambda feeds, first: [first])
    assert not caught.value.told and caught.value.exit_code == 1
    assert Processes(0, 3).failed(caught.value) is caught.value


@pytest.mark.parametrize(
    ("neuron", "before", "after"),
    [
        ("two-phase-probabilistic", [CalibrateThresholds(), Distill(steps=1)], [QuantizeWeights()]),
        ("if-zero", [BalanceThresholds(rounds=1)], [CalibrateHardReset(), CorrectSpikingResidual(rounds=1)]),
    ],
)
def test_networks_and_figures_have_the_same_bytes(neuron: str, before: list[Pass], after: list[Pass]) -> None:
    how = recipe.load("quick", timesteps=2, overrides=(f"passes.substitute-neurons.neuron={neuron}",))
    steps = [before if isinstance(step, CalibrateThresholds) else [step] for step in how.passes]
    how, some = replace(how, passes=(*chain(*steps), *after)), Reading(limit=40)

    def work(rank: int) -> tuple[str, str]:
        data = DIGITS / "calibration"
        made, report = snnc.convert(DIGITS / "model.onnx", how, data=data, preprocessing=PREPROCESSING, reading=some)
        figures = snnc.evaluate(made, data=DIGITS / "test", repeats=2, blamed=8, reading=some)
        return fingerprint(made), json.dumps([to_json(report), figures.plain()], sort_keys=True)

    (alone,) = simulated(1, work)
    # The last two of three have the same samples.
    assert all(found == alone for found in simulated(3, work))


# From its second epoch on there is noise.
SHARED = replace(SHORT, epochs=2, batch_size=24, activation="noisy-qcfs", distillation=0.3, features=0.5, lookahead=4)
CONVERT = ("convert", str(DIGITS / "model.onnx"), "--recipe", "quick")

# One start for all: to start processes, each of which reads torch, takes longer than what they do.
_TOGETHER = """
import json, runpy, sys
from pathlib import Path
from tests.test_processes import CONVERT, trained

result = trained()
if result.speaks:
    Path("history.json").write_text(json.dumps(result.history))
for data, name in (("data", "two.snn"), ("broken", "three.snn")):
    sys.argv = ["snnc", *CONVERT, "--data", data, "-o", name]
    try:
        runpy.run_module("snnc", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
"""


def trained() -> Tuned:
    return tuned(SHARED, reading=Reading(limit=100))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """Two processes that meet to train, to convert, and to fail at that: the folder where, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    images = sorted((DIGITS / "calibration").iterdir())[:48]
    for name in ("data", "broken"):
        (folder / name).mkdir()
        for image in images:
            shutil.copy(image, folder / name)
    # The second process alone reads this one.
    sorted((folder / "broken").rglob("*.png"))[-1].write_bytes(b"no image")
    (folder / "together.py").write_text(_TOGETHER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "together.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return folder, done


def test_real_processes_write_what_one_does(
    together: tuple[Path, "subprocess.CompletedProcess[str]"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = together
    monkeypatch.chdir(folder)
    assert cli.main([*CONVERT, "--data", "data", "-o", str(tmp_path / "one.snn")]) == 0
    assert done.stdout.count("written: ") == done.stdout.count("written: two.snn") == 1, done.stderr[-3000:]
    for suffix in ("snn", "report.json"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == Path(f"two.{suffix}").read_bytes()


def test_real_processes_fail_alike(together: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, done = together
    assert done.returncode != 0 and "exitcode  : 5" in done.stderr
    assert done.stderr.count("error: ") == 1 and "no image" not in done.stdout
    assert (folder / "two.snn").exists() and not list(folder.glob("*three*"))


def test_real_processes_give_the_losses_of_one(together: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    alone, history = trained().history, json.loads((together[0] / "history.json").read_text())
    assert len(history) == len(alone) == 2
    for one, other in zip(history, alone, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-2)
        assert one["held_out_accuracy"] == pytest.approx(other["held_out_accuracy"], abs=5)
    # In the first epoch rounding has not been amplified by quantization yet.
    assert history[0]["loss"] == pytest.approx(alone[0]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set, but RANK and MASTER_ADDR and MASTER_PORT not @ WORLD_SIZE"),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"},
            "the other processes cannot be reached @ 127.0.0.1:9",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "port"},
            "the other processes cannot be reached @ nowhere.invalid:port",
        ),
    ],
)
def test_processes_that_cannot_meet_say_so(
    told: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("snnc.processes._COMING", 1)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "FATAL")
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["env"]) == 2
    assert capfd.readouterr().err.partition("\nhint:  ")[0] == f"error: {line}"


def test_only_the_first_process_writes() -> None:
    assert writes() and simulated(3, lambda rank: writes()) == [True, False, False]


def test_many_models_at_once_are_for_one_process() -> None:
    def work(rank: int) -> int:
        with pytest.raises(UsageError, match="many models at once") as caught:
            batch.do([], 1)
        return caught.value.exit_code

    assert simulated(2, work) == [2, 2]
