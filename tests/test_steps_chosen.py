"""What is chosen for a number of steps from image to answer."""

import json
from pathlib import Path

import pytest

import snnc
from snnc import cli, recipe
from snnc.actions.inspect import hold_against
from snnc.actions.steps import choose_steps
from snnc.analysis.latency import latency
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.hardware import load_target
from snnc.hardware.steps import _rules, ways
from snnc.hardware.target import target_names
from snnc.pipeline import outline, read_trained
from snnc.schedule import Schedule
from tests.support import alternating

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
STEPS = (1, 2, 3, 4, 7, 8, 20, 90)
# Four layers wait for one another, and the read-out.
WAITS = 5


SIZES = [None, 1, 2, 3, 7, 100]


@pytest.mark.parametrize(("name", "largest"), [*((None, size) for size in SIZES), *alternating(target_names(), SIZES)])
def test_every_way_answers_in_its_steps_and_with_events_that_are_allowed(name: str | None, largest: int | None) -> None:
    target = None if name is None else load_target(name)
    limits = None if target is None else target.limits
    seen = []
    for steps in STEPS:
        try:
            found = ways(steps, WAITS, target, largest)
        except UsageError:
            continue
        seen.append(found[0].rank)
        for way in found:
            neuron = way.made
            assert way.steps <= steps
            assert neuron.largest_event <= (15 if largest is None else largest)
            assert way.steps == (way.schedule.total if way.recipe != "default" else WAITS * way.schedule.timesteps)
            if limits is not None and limits.event_size is not None:
                assert neuron.largest_event <= limits.event_size.most
            if limits is not None and limits.levels is not None:
                assert way.levels <= limits.levels.most
            if limits is not None and limits.neuron_models is not None:
                assert way.neuron.partition("(")[0] in limits.neuron_models.kinds
            if limits is not None and limits.signed_spikes is not None and not limits.signed_spikes.supported:
                assert not neuron.negative_over(way.schedule)
    assert seen
    # With more steps nothing is worse.
    assert [rank[0] for rank in seen] == sorted((rank[0] for rank in seen), reverse=True)


def test_every_rule_has_a_way_that_a_network_takes() -> None:
    trained = read_trained(DIGITS / "model.onnx")
    waits = latency(outline(trained.graph, recipe.load("quick", timesteps=1)), Schedule(1))
    assert waits == WAITS
    for rule in _rules:
        found = [way for steps in STEPS for largest in (1, 3, 15) if (way := rule(steps, largest, waits)) is not None]
        assert found
        for way in {(way.neuron, way.schedule): way for way in found}.values():
            schedule = way.schedule
            made = recipe.load(
                way.recipe,
                timesteps=schedule.timesteps,
                sleep=schedule.sleep,
                shares=schedule.shares,
                neuron=way.neuron,
            )
            assert latency(outline(trained.graph, made), made.schedule) == way.steps


@pytest.mark.parametrize("name", ["akida", "speck", "xylo"])
def test_what_is_chosen_for_a_chip_is_made_of_its_neurons_and_events(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    way = choose_steps(DIGITS / "model.onnx", 6, target=target).way
    schedule = way.schedule
    made, _ = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", timesteps=schedule.timesteps, sleep=schedule.sleep, neuron=way.neuron),
        preprocessing=PREPROCESSING,
    )
    assert latency(made.snn, made.schedule) == way.steps <= 6
    about = {"neuron-models", "signed-spikes", "levels", "event-size"}
    assert not [misfit for misfit in hold_against(made, target).misfits if misfit.limit in about]


def test_steps_that_nothing_can_do_are_refused_with_what_would_do() -> None:
    speck = load_target("speck")
    with pytest.raises(UsageError, match="within 1 step on speck") as raised:
        ways(1, WAITS, speck)
    assert "give 2 steps" in raised.value.hint
    assert ways(2, WAITS, speck)
    for steps in (0, -1, 70_000):
        with pytest.raises(UsageError, match="steps from image to answer"):
            ways(steps, WAITS)
    with pytest.raises(UsageError, match="events of up to 0"):
        ways(2, WAITS, largest=0)


def test_with_data_what_agrees_most_on_samples_held_out_is_chosen() -> None:
    chosen = choose_steps(
        DIGITS / "model.onnx",
        2,
        max_event=1,
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=Reading(limit=80),
    )
    shares = [float(part.split()[-1]) for part in chosen.told.split(" %")[:-1] if part.split()[-1][0].isdigit()]
    assert len(shares) == 3
    assert shares[0] == max(shares)
    assert chosen.way in ways(2, WAITS, largest=1)


def test_the_command_chooses_and_says_what_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["convert", str(DIGITS / "model.onnx"), "--recipe", "quick"]
    assert cli.main([*model, "--steps", "2", "--max-event", "3", "--target", "loihi2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["chosen"].startswith("chosen for at most 2 steps on loihi2: refine(levels=15, max-event=3")
    assert told["report"]["resources"]["target"] == "loihi2"
    assert told["report"]["summary"]["total_steps"] == 2
    (tmp_path / "snnc.yaml").write_text("steps: 3\ntarget: akida\n", encoding="utf-8")
    assert cli.main([*model, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("chosen for at most 3 steps on akida: graded(levels=15), T=1: 1 step")
    # A flag that says the steps itself wins over the project.
    assert cli.main([*model, "--timesteps", "4", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule"]["timesteps"] == 4
    files = {path.name for path in tmp_path.iterdir()}
    beside = [("--timesteps", "2"), ("--sleep", "1"), ("--neuron", "if"), ("--levels", "3"), ("--spike-bits", "2")]
    wrong = [
        *(["--steps", "2", *pair] for pair in (*beside, ("--latency", "one-step"), ("--shares", "1"))),
        ["--steps", "0"],
        ["--steps", "2", "--max-event", "0"],
        ["--steps", "1", "--target", "speck"],
        ["--steps", "2", "--target", "nobody"],
        ["--timesteps", "2", "--target", "akida"],
    ]
    for arguments in wrong:
        assert cli.main([*model, *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert said.count("\n") == 2
        assert "hint: " in said
    (tmp_path / "snnc.yaml").write_text("steps: 3\nneuron: if\n", encoding="utf-8")
    assert cli.main(model) == 2
    assert "snnc.yaml: neuron" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == files
