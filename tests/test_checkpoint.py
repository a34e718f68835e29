"""A conversion that was stopped goes on to the bytes of one that was not, wherever it was stopped."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import snnc
from snnc import checkpoint, cli, recipe, states
from snnc.budget import Budget
from snnc.checkpoint import Checkpoint, Reached
from snnc.errors import DataError, StoppedError, UsageError
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.choose_shares import ChooseShares
from snnc.passes.distill import Distill
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import apply_recipe
from snnc.recipe import Recipe, pass_name
from snnc.training.optimization import Shuffled
from tests.support import Network, calibration, in_memory, normal, random_network, relu
from tests.test_report import DIGITS

HOW = recipe.load("synchronous", timesteps=2, overrides=("passes.distill.epochs=4",))


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is worth being kept, at once."""
    monkeypatch.setattr(checkpoint, "_WORTH", -1.0)
    monkeypatch.setattr(checkpoint, "_EVERY", -1.0)


def converted(
    path: Path | None = None, *, resume: bool = False, budget: Budget | None = None, how: Recipe = HOW
) -> list[torch.Tensor]:
    net = Network((6,))
    net.linear(relu(net, net.linear(relu(net, net.linear("x", 8)), 8)), 3)
    graph = net.graph()
    kept = Checkpoint(path, resume=resume)
    budget = budget or Budget()
    budget.decided |= kept.decided
    samples = in_memory(graph, normal(24, 6))
    made = apply_recipe(graph, how, samples, budget=budget, checkpoint=kept)
    assert [applied.name for applied in made.applied] == [pass_name(step) for step in made.recipe.passes]
    assert len(made.seconds) == len(how.passes)
    graphs = (made.canonical, made.snn)
    tensors = [tensor for graph in graphs for node in graph.nodes.values() for tensor in node.op.tensors().values()]
    return [torch.tensor(made.recipe.shares), *tensors]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


class Stop:
    """Asks to stop at the so-manieth step of training, or before neurons are put in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.seen = 0, 0
        step = torch.optim.Adam.step

        def counted(optimizer: Any, *others: Any) -> Any:
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
            return step(optimizer, *others)

        monkeypatch.setattr(torch.optim.Adam, "step", counted)
        substitute = SubstituteNeurons.__call__

        def substituted(self_: SubstituteNeurons, *others: Any) -> Any:
            if self.at < 0:
                raise KeyboardInterrupt
            return substitute(self_, *others)

        monkeypatch.setattr(SubstituteNeurons, "__call__", substituted)


def test_it_goes_on_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    wanted = converted()
    whole, stop.seen = stop.seen, 0
    assert whole == 8
    # In both trainings, right before the first, and between them.
    for at, place in ((1, "distill"), (3, "distill"), (-1, "substitute-neurons"), (6, "distill")):
        path.unlink(missing_ok=True)
        stop.at, stop.seen = at, 0
        with pytest.raises(StoppedError, match=f"stopped in {place}") as caught:
            converted(path)
        assert caught.value.place == str(path) and "--resume" in caught.value.hint and caught.value.exit_code == 130
        before, stop.at, stop.seen = stop.seen, 0, 0
        assert same(converted(path, resume=True), wanted)
        # Nothing is done again but the step that was stopped.
        assert before + stop.seen == whole + (at > 0)


def test_it_may_be_stopped_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    wanted = converted()
    stop.at = 3
    for stopped in range(3):
        stop.seen = 0
        with pytest.raises(StoppedError):
            converted(path, resume=stopped > 0)
    stop.at = 0
    assert same(converted(path, resume=True), wanted)


def test_shares_of_the_image_are_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []
    monkeypatch.setattr(ChooseShares, "shares", lambda self, *others: chosen.append(self) or (0.75, 0.25))
    neuron = {"substitute-neurons": {"neuron": "graded(levels=3, max-event=1, rest=1)"}}
    passes = ["normalize-activations", "calibrate-thresholds", neuron, "choose-shares", {"distill": {"epochs": 2}}]
    how = recipe.from_plain({"name": "shared", "timesteps": 2, "passes": passes})
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    wanted = converted(how=how)
    assert wanted[0].tolist() == [0.75, 0.25]
    stop.at, stop.seen = 2, 0
    with pytest.raises(StoppedError, match="stopped in distill"):
        converted(path, how=how)
    stop.at = 0
    assert same(converted(path, resume=True, how=how), wanted)
    # In the run that went through, and in the one that was stopped.
    assert len(chosen) == 2


def test_what_was_decided_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    monkeypatch.setattr("snnc.budget._seconds_a_sample", lambda *others: 1e-4)
    monkeypatch.setattr("snnc.budget._seconds_a_step", lambda *others: 800.0)
    stop.at = 2
    with pytest.raises(StoppedError):
        converted(path, budget=Budget(80))
    stop.at = 0
    steps, whole = Checkpoint(path, resume=True).decided["steps of distill"]
    assert 1 <= steps < whole == 4
    # Another machine, or the same one another time.
    monkeypatch.setattr("snnc.budget._seconds_a_step", lambda *others: 1e-4)
    done: list[int] = []
    trained = Distill.__call__
    monkeypatch.setattr(Distill, "__call__", lambda self, *given: (done.append(self.steps), trained(self, *given))[1])
    converted(path, resume=True, budget=Budget(80))
    assert done[0] == steps
    # Each of two trainings has its own number.
    assert done[1] > steps


def test_what_there_was_no_time_for_is_told_by_who_goes_on_without_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    monkeypatch.setattr("snnc.budget._seconds_a_sample", lambda *others: 1e-4)
    monkeypatch.setattr("snnc.budget._seconds_a_step", lambda *others: 1000.0)
    stop.at = -1
    with pytest.raises(StoppedError):
        converted(path, budget=Budget(80))
    stop.at, budget = 0, Budget()
    converted(path, resume=True, budget=budget)
    (finding,) = budget.findings
    assert finding.message == "there was time for 1 of 4 steps of distill"


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_only_tried_is_not_kept(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a step takes is found by a training of its own."""
    graph = random_network(0, relu)
    graph = NormalizeActivations()(graph, calibration(graph))
    given = calibration(graph, normal(40, 3, 8, 8))
    graph = CalibrateThresholds()(graph, given)
    told: list[int] = []
    given = replace(
        given,
        progress=lambda done, total: told.append(done),
        keep=lambda state: told.append(state()["training"]["step"]),
        begun={"begun": "elsewhere"} if kept else None,
    )
    step = Distill(steps=5)
    # What has begun is not tried: it goes on as it is.
    monkeypatch.setattr("snnc.budget._TRAINING", 1e-9)
    made = Budget(1).fitting_steps(step, "distill", graph, given, 0)
    assert not told
    assert (made is step) == kept


def test_what_passes_chose_for_those_to_come_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    fewer = ("passes.allocate-levels.mean-bits=2",)
    how = recipe.load("quick", timesteps=1, neuron="graded(levels=7)", mixed_levels=True, overrides=fewer)
    wanted = converted(how=how)
    assert not same(wanted, converted(how=recipe.load("quick", timesteps=1, neuron="graded(levels=7)")))
    stop.at = -1
    with pytest.raises(StoppedError):
        converted(path, how=how)
    stop.at = 0
    assert same(converted(path, resume=True, how=how), wanted)


@pytest.mark.parametrize("what", ["model", "data", "recipe", "preprocessing", "version"])
def test_it_belongs_to_what_it_was_made_of(what: str, tmp_path: Path) -> None:
    path, graph = tmp_path / "made.snn.checkpoint", random_network(0, relu)
    identity = dict.fromkeys(("model", "data", "recipe", "preprocessing", "version"), "this")
    made = Checkpoint(path)
    made.claim(identity)
    made.keep(Reached(graph, graph, graph, exact=True))
    Checkpoint(path, resume=True).claim(identity)
    with pytest.raises(UsageError, match=f"the checkpoint belongs to another {what}") as caught:
        Checkpoint(path, resume=True).claim(identity | {what: "that"})
    assert caught.value.place == str(path)


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    path = tmp_path / "made.snn.checkpoint"
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        Checkpoint(path, resume=True)
    evil, graph = pickle.dumps({"reached": pytest.fail}), random_network(0, relu)
    reached = Reached(graph, graph, graph, exact=True)
    wrong = []
    for state in (
        {"reached": 1, "decided": {}},
        {"reached": reached, "decided": {"samples": 3}},
        {"reached": replace(reached, graph=3), "decided": {}},  # type: ignore[arg-type]
    ):
        states.save({**state, "identity": {}}, path)
        wrong.append(path.read_bytes())
    states.save({"reached": reached, "decided": {}, "identity": {}}, path)
    good = path.read_bytes()
    assert Checkpoint(path, resume=True).reached is not None
    # Wherever a bit has changed, in numbers too, which torch reads as they are.
    flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), len(good) // 97)]
    signed = hashlib.sha256(evil).digest() + evil
    for content in (b"", b"text", evil, signed, *wrong, wrong[0][:-100], *flipped):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a checkpoint, or a damaged one") as caught:
            Checkpoint(path, resume=True)
        assert caught.value.place == str(path)


def test_only_what_takes_long_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stop = tmp_path / "made.snn.checkpoint", Stop(monkeypatch)
    monkeypatch.setattr(checkpoint, "_WORTH", 1000.0)
    monkeypatch.setattr(checkpoint, "_EVERY", 1000.0)
    stop.at = -1
    with pytest.raises(KeyboardInterrupt):
        converted(path)
    assert not path.exists()
    with pytest.raises(UsageError, match="without data"):
        snnc.convert(DIGITS / "model.onnx", "quick", checkpoint=path, resume=True)


def test_batches_go_on_in_their_order() -> None:
    def batches(begun: Any = None) -> Shuffled:
        return Shuffled(torch.arange(10), 4, torch.Generator().manual_seed(0), begun)

    whole = batches()
    drawn = [next(whole) for _ in range(9)]
    for stopped in range(9):
        first = batches()
        before = [next(first) for _ in range(stopped)]
        rest = batches(first.state())
        found = [*before, *(next(rest) for _ in range(9 - stopped))]
        assert all(map(torch.equal, found, drawn))
    assert len({int(number) for number in torch.cat(drawn[:2])}) == 8


def test_commands_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    stop, given = Stop(monkeypatch), ["--data", str(DIGITS / "calibration"), "--limit", "24", "-q"]
    short = ["--timesteps", "2", "--set", "passes.distill.epochs=3"]
    convert = ["convert", str(DIGITS / "model.onnx"), *given, *short, "-o"]
    assert cli.main([*convert, "whole.snn"]) == 0
    assert cli.main([*convert, "other.snn", "--resume"]) == 2
    assert "there is no checkpoint to go on from @ other.snn.checkpoint" in capsys.readouterr().err
    Path("taken.snn.checkpoint").mkdir()
    assert cli.main([*convert, "taken.snn"]) == 5
    assert "cannot write: it is a folder @ taken.snn.checkpoint" in capsys.readouterr().err
    Path("taken.snn.checkpoint").rmdir()
    stop.at, stop.seen = 2, 0
    assert cli.main([*convert, "made.snn"]) == 130
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "error: stopped in distill @ made.snn.checkpoint",
        "hint:  go on with --resume, and all else as it was",
    ]
    assert not Path("made.snn").exists()
    stop.at = 0
    assert cli.main([*convert, "made.snn", "--resume"]) == 0
    assert not Path("made.snn.checkpoint").exists()
    assert Path("made.snn").read_bytes() == Path("whole.snn").read_bytes()
    # In its place, too.
    assert cli.main(["calibrate", "whole.snn", *given, "-o", "wanted.snn", "--seed", "1"]) == 0
    stop.at, stop.seen = 3, 0
    assert cli.main(["calibrate", "made.snn", *given, "--seed", "1"]) == 130
    assert Path("made.snn").read_bytes() == Path("whole.snn").read_bytes()
    stop.at = 0
    assert cli.main(["calibrate", "made.snn", *given, "--seed", "1", "--resume"]) == 0
    for suffix in ("snn", "report.json"):
        assert Path(f"made.{suffix}").read_bytes() == Path(f"wanted.{suffix}").read_bytes()
    assert not list(tmp_path.glob("*.checkpoint"))
    capsys.readouterr()
