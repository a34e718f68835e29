"""Evaluation with sleep, repeats and the permutation probe, and the recipes of the papers, on the digits example."""

import dataclasses
import statistics
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import snnc
from snnc import ops, recipe
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, MemorySamples
from snnc.errors import PreconditionError, UsageError
from snnc.feeds import Feeds
from snnc.figure import Row
from snnc.ir import Graph, Input, Node
from snnc.measure import evaluation
from snnc.neurons import Neuron, neurons
from snnc.passes.distill import _takes_images
from snnc.recipe import pass_name, shipped
from snnc.report import build
from snnc.report.faces.terminal import lines, rendered
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
SOME, FEW, MORE = Reading(limit=15), Reading(limit=40), Reading(limit=60)

pytestmark = pytest.mark.usefixtures("counted_shortly")


@cache
def converted(name: str = "quick", reading: Reading = FEW, **changes: object) -> Conversion:
    made, _ = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load(name, **changes),  # type: ignore[arg-type]
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=reading,
    )
    return made


def evaluated(made: Conversion, reading: Reading = FEW, **options: object) -> tuple[Row, ...]:
    result = snnc.evaluate(made, data=DIGITS / "test", reading=reading, **options)  # type: ignore[arg-type]
    return result.rows


@pytest.mark.parametrize(
    ("folder", "reading", "message"),
    [
        ("calibration", FEW, "the samples are what"),
        ("calibration", Reading(limit=200, seed=1), "of the 200 samples are what"),
        ("test", FEW, None),
    ],
)
def test_samples_that_were_calibrated_on_are_told(folder: str, reading: Reading, message: str | None) -> None:
    result = snnc.evaluate(converted(), data=DIGITS / folder, reading=reading)
    (*found,) = (finding for finding in result.findings if finding.code == "calibrated-on")
    assert [message in finding.message for finding in found] == ([True] if message else [])


def test_samples_of_another_part_are_not_those_calibrated_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(80, dtype=np.float32).reshape(40, 2), y=np.arange(40) % 4)

    def read(**options: Any) -> Dataset:
        return open_dataset(tmp_path / "d.npz", Preprocessing(), {"x": (2,)}, Reading(**options))

    known = read(part="train", limit=10, seed=3)
    assert read(part="test").among(10, known.digest(), 3) == 0
    assert read(part="train").among(10, known.digest(), 3) == 10
    assert read().among(10, known.digest(), 3) == 10
    assert read().among(10, known.digest(), 4) == 0


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_converts_and_is_as_good_as_the_trained_network(name: str) -> None:
    # On images of 8 by 8 pixels, some of the steps are enough.
    trained = {pass_name(step) for step in recipe.load(name).passes} & {"distill", "reconstruct-units"}
    made = converted(name, overrides=tuple(f"passes.{step}.steps=5" for step in sorted(trained)))
    (row,) = evaluated(made)
    assert made.provenance.recipe["name"] == name
    assert row.agreement is not None
    assert row.agreement >= 85
    assert row.total_steps == latency(made.snn, made.schedule)
    pipelined = "two-phase" in str([type(n).__module__ for n in made.snn.ops(Neuron).values()]).replace("_", "-")
    assert pipelined == (row.total_steps > made.schedule.total)


def test_sleep_brings_consistent_neurons_to_the_quantized_network_and_is_counted() -> None:
    made = converted("casc", timesteps=3)
    quantized = dataclasses.replace(
        made,
        snn=made.snn.with_ops(
            {
                n: neurons["two-phase"].standing_for(op.closed_form(3), Schedule(3))
                for n, op in made.snn.ops(Neuron).items()
            }
        ),
    )
    (wanted,) = evaluated(quantized, SOME)
    rows = {asleep: evaluated(made, SOME, sleep=asleep)[0] for asleep in (0, 1, 32)}
    assert rows[32].accuracy == wanted.accuracy
    assert rows[32].agreement == wanted.agreement
    # It stops when nothing fires any more, long before all is slept.
    used = rows[32].sleep_used
    assert 1 < used < 16
    shorter, enough = (evaluated(made, SOME, sleep=asleep)[0] for asleep in (used - 1, used))
    assert shorter.spikes < enough.spikes == rows[32].spikes
    assert (shorter.sleep_used, enough.sleep_used) == (used - 1, used)
    assert [row.total_steps for row in rows.values()] == [3, 4, 35]
    assert rows[0].sleep_used == 0
    assert (rows[0].spikes, rows[1].spikes) < (rows[1].spikes, rows[32].spikes)


def test_the_conversion_s_own_sleep_is_taken_unless_told_otherwise() -> None:
    made = converted(neuron="cif", timesteps=2, sleep=5)
    assert made.schedule == Schedule(2, 5)
    assert evaluated(made)[0].sleep == 5
    assert evaluated(made, sleep=1)[0].sleep == 1


def drawn_alone(made: Conversion, seeds: range, reading: Reading = FEW, **options: Any) -> list[Row]:
    """What every seed gives by itself on the same images."""
    dataset = open_dataset(DIGITS / "test", PREPROCESSING, made.snn.input_shapes, reading)
    loaded = DatasetSamples(dataset, reading, "")
    return [evaluation.measure(made, loaded, Classification(), seed=seed, **options).rows[0] for seed in seeds]


def test_repeats_draw_anew_and_are_reproducible() -> None:
    made = converted("tpp", timesteps=1)
    first, again = (evaluated(made, repeats=3)[0] for _ in range(2))
    assert first == again
    assert first.repeats == 3
    alone = drawn_alone(made, range(3))
    accuracies = [row.accuracy for row in alone if row.accuracy is not None]
    assert len(set(accuracies)) > 1, "the same was drawn again"
    assert first.accuracy == pytest.approx(statistics.fmean(accuracies))
    assert first.accuracy_deviation == pytest.approx(statistics.stdev(accuracies))
    agreements = [row.agreement for row in alone if row.agreement is not None]
    assert first.agreement_deviation == pytest.approx(statistics.stdev(agreements))
    report = dataclasses.replace(
        build(made), evaluation=snnc.evaluate(made, data=DIGITS / "test", reading=FEW, repeats=3)
    )
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        console.print(rendered(lines(report, evaluated=True)))
    assert f"{first.agreement:.2f} ± {first.agreement_deviation:.2f}" in captured.get()
    assert first.spikes == pytest.approx(statistics.fmean(row.spikes for row in alone))
    assert alone[0].accuracy == evaluated(made)[0].accuracy
    assert evaluated(made)[0].accuracy_deviation is None


def test_what_is_not_random_is_run_once() -> None:
    result = snnc.evaluate(converted(timesteps=2), data=DIGITS / "test", reading=FEW, repeats=4)
    assert result.rows[0].repeats == 1
    assert result.rows[0].accuracy_deviation is None
    assert [finding.code for finding in result.findings] == ["nothing-random"]


def test_steps_that_do_nothing_or_are_missing_are_told() -> None:
    def codes(made: Conversion) -> set[str]:
        return {finding.code for finding in made.findings}

    assert "nothing-learned" in codes(converted("default", timesteps=2, overrides=("passes.distill.steps=1",)))
    assert "idle-steps" in codes(converted(timesteps=2, sleep=3))
    assert "no-rehearsal" in codes(converted(timesteps=2, neuron="srp"))
    rehearsed = converted(timesteps=2, neuron="cos", overrides=("rehearsal=2",))
    assert not codes(rehearsed) & {"idle-steps", "no-rehearsal"}
    assert evaluated(rehearsed)[0].total_steps == 4
    asleep = converted("casc", timesteps=3)
    woken = snnc.evaluate(asleep, data=DIGITS / "test", reading=SOME, sleep=1)
    assert [finding.code for finding in woken.findings] == ["unsettled"]
    assert not snnc.evaluate(asleep, data=DIGITS / "test", reading=SOME).findings
    idle = snnc.evaluate(converted(timesteps=2), data=DIGITS / "test", reading=FEW, sleep=3)
    assert [finding.code for finding in idle.findings] == ["idle-steps"]


def test_the_probe_shuffles_causal_neurons_only_and_says_what_that_changes() -> None:
    made = converted("qcfs", MORE, timesteps=2)
    (plain,) = evaluated(made, MORE)
    (probed,) = evaluated(made, MORE, probe="permutation", repeats=4)
    assert probed.accuracy == plain.accuracy
    assert plain.misalignment is None
    assert probed.misalignment is not None
    assert probed.drop is not None and probed.drop > 0
    assert probed.misalignment_share == pytest.approx(probed.misalignment / probed.drop)
    alone = [row.misalignment for row in drawn_alone(made, range(4), MORE, probe="permutation")]
    assert len(set(alone)) > 1, "the same order was drawn again"
    assert probed.misalignment == pytest.approx(statistics.fmean(gain for gain in alone if gain is not None))
    with pytest.raises(UsageError, match="order of spikes"):
        evaluated(converted(timesteps=2), probe="permutation")


@pytest.mark.parametrize(("neuron", "follows"), [("if", False), ("two-phase", True), ("cif", True)])
def test_of_frames_the_trained_network_sees_each_or_their_sum(neuron: str, follows: bool) -> None:
    made = converted(neuron=neuron)
    assert made.reference is not None
    (name,) = made.snn.inputs
    frames = torch.rand(3, 20, *made.snn.shapes[name], generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    program = Program(made.reference)
    each = torch.stack([program(Feeds({name: frame}))[made.reference.outputs[0]][0] for frame in frames])
    answers = {True: each.mean(0).argmax(1), False: program(Feeds({name: frames.mean(0)})).popitem()[1][0].argmax(1)}
    assert not torch.equal(answers[True], answers[False])
    for apart, wanted in answers.items():
        feeds = Feeds({name: frames}, [name], apart=apart)
        result = evaluation.measure(made, MemorySamples(feeds, 7), Classification())
        spiking = Program(made.snn, made.schedule)(feeds).popitem()[1][0].argmax(1)
        assert result.rows[0].agreement == pytest.approx(100 * float((spiking == wanted).double().mean()))
        told = {finding.code: finding.message for finding in result.findings}
        assert ("each of 3 frames" if apart else "the sum of 3 frames") in told["frames"]
        assert ("mean-of-frames" in told) == (apart and follows)


def test_numbers_that_cannot_be_run_are_refused() -> None:
    made = converted(timesteps=2)
    for options, place in (({"repeats": 0}, "--repeats"), ({"sleep": -1}, "--sleep")):
        with pytest.raises(UsageError) as raised:
            evaluated(made, **options)
        assert raised.value.place == place


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("distill", "first"),
        ("reconstruct-units", "first"),
        ("correct-residual-noise", "first"),
        ("correct-spiking-residual", "first"),
        ("balance-thresholds", "last"),
        ("reconstruct-units", "last"),
    ],
)
def test_a_pass_in_the_wrong_place_is_refused(name: str, place: str) -> None:
    steps: list[object] = ["fold-batch-norm", "treat-max-pool", "normalize-activations"]
    rest = ["calibrate-thresholds", "substitute-neurons"]
    steps += [name, *rest] if place == "first" else [*rest, name]
    how = recipe.from_plain({"name": "mine", "timesteps": 2, "passes": steps})
    with pytest.raises(PreconditionError, match="what this pass works on") as raised:
        snnc.convert(DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=PREPROCESSING)
    assert "recipe" in raised.value.hint


def test_a_network_that_takes_its_channels_last_is_not_turned_around() -> None:
    weight = torch.randn(4, 3, 3, 3)
    conv = ops.Conv(weight, None, (1, 1), (1, 1, 1, 1), (1, 1))
    last = Graph.of(
        [Node("x", Input((8, 8, 3)), ()), Node("t", ops.Transpose((0, 3, 1, 2)), ("x",)), Node("c", conv, ("t",))], "c"
    )
    first = Graph.of(
        [
            Node("x", Input((3, 8, 8)), ()),
            Node("s", ops.Affine(torch.tensor(2.0), None), ("x",)),
            Node("c", conv, ("s",)),
        ],
        "c",
    )
    assert not _takes_images(last)
    assert _takes_images(first)


def test_what_is_shown_of_several_numbers_of_steps_is_that_of_the_networks_own() -> None:
    made = converted(timesteps=4)
    own = made.schedule
    several = [dataclasses.replace(own, timesteps=steps, sleep=own.sleep + 3) for steps in (1, own.timesteps, 32)]
    assert evaluation.headline(several, made) == several[1]
    assert evaluation.headline(several[::2], made) == several[0]


def test_neurons_with_levels_of_their_own_keep_their_ceiling_over_other_steps() -> None:
    made = converted(timesteps=1, neuron="graded(levels=15)")
    once, over_time = evaluated(made, timesteps=(1, 4))
    assert (once.total_steps, over_time.total_steps) == (1, 4)
    assert once.agreement is not None and over_time.agreement is not None
    assert over_time.agreement >= once.agreement - 5 > 80
