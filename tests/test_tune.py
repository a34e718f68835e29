"""Tuning: the cheapest network that keeps to the limits, judged on images that nothing was calibrated on."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snnc
from snnc import pipeline
from snnc.actions import tune
from snnc.actions.tune import Advice, Candidate, Family, SearchLimits, Trial
from snnc.analysis.integers import widths
from snnc.artifact import save_conversion
from snnc.conversion import Manifest
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import silent
from snnc.errors import DataError, PreconditionError, UsageError
from snnc.ir import Graph
from snnc.measure.layers import Layer
from snnc.neurons import Neuron, neurons
from snnc.ops import QuantizedRelu
from snnc.passes.allocate_levels import AllocateLevels
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.processes import current
from snnc.tasks.classification import Classification
from snnc.text import number
from tests import support
from tests.support import Network, calibration, normal, random_network, relu, row
from tests.test_processes import simulated

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
FEW = Reading(limit=60)
MORE = Reading(limit=180)


def tuned(folder: str = "test", reading: Reading = FEW, **options: Any) -> Advice:
    return tune.tune(
        DIGITS / "model.onnx", data=DIGITS / folder, preprocessing=PREPROCESSING, reading=reading, **options
    )


@pytest.fixture(scope="module", autouse=True)
def made_shortly(trained_shortly: None) -> Iterator[None]:
    """Correct candidates by few trains, too: what is chosen is asked of the figures."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("snnc.passes.correct_residual_noise._STEPS", 1 << 7)
        yield


@pytest.fixture(scope="module")
def loose() -> Advice:
    """Half of the predictions may be wrong; all kinds of networks that answer within 5 steps."""
    return tuned(max_drop=50, max_steps=5)


@pytest.fixture(scope="module")
def fewest() -> Advice:
    """Of what answers within 2 steps, what answers first."""
    return tuned(max_drop=50, max_steps=2, prefer="steps")


@pytest.fixture(scope="module")
def tight() -> Advice:
    """Nothing may be lost; all layers at once."""
    return tuned(reading=MORE, max_drop=0, max_steps=2, latency="synchronous")


# The split.


def opened(tmp_path: Path, count: int) -> Dataset:
    path = tmp_path / f"{count}.npy"
    if not path.exists():
        np.save(path, np.zeros((count, 1, 2, 3), np.float32))
    return open_dataset(path, Preprocessing(channels="gray"), {"x": (1, 2, 3)})


def names(dataset: Dataset) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


@settings(deadline=None, max_examples=40)
@given(count=st.integers(30, 400), seed=st.integers(0, 5))
def test_the_parts_share_no_image_and_are_spread_evenly(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    whole = opened(tmp_path_factory.getbasetemp(), count)
    calibrating, judging = (names(whole.part(part, seed)) for part in ("calibration", "judging"))
    assert sorted(calibrating + judging) == sorted(names(whole))
    assert not set(calibrating) & set(judging)
    assert len(judging) == count // 3
    places = [names(whole).index(name) for name in judging]
    assert max(after - before for before, after in itertools.pairwise([-1, *places, count])) <= 8
    assert names(whole.part("judging", seed)) == judging


def test_another_seed_splits_otherwise_and_too_few_images_not_at_all(tmp_path: Path) -> None:
    whole = opened(tmp_path, 90)
    assert names(whole.part("judging", 1)) != names(whole.part("judging", 2))
    with pytest.raises(DataError, match="29 images are too few") as caught:
        opened(tmp_path, 29).part("judging")
    assert "30 or more" in caught.value.hint


def test_what_judges_did_not_calibrate(loose: Advice) -> None:
    assert (len(loose.calibration), len(loose.judging)) == (40, 20)
    assert not set(names(loose.calibration)) & set(names(loose.judging))
    assert loose.chosen is not None
    provenance = loose.chosen.conversion.provenance.calibration
    assert provenance == Manifest(40, loose.calibration.digest(), 0)


# Ranking.


points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30)


def dominates(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@given(points)
def test_the_frontier_is_what_nothing_dominates(listed: list[tuple[int, ...]]) -> None:
    marks = tune.on_frontier(listed)
    front = [point for point, mark in zip(listed, marks, strict=True) if mark]
    assert front
    for point, mark in zip(listed, marks, strict=True):
        assert mark != any(dominates(other, point) for other in front)
    assert tune.on_frontier(listed[::-1]) == marks[::-1]


def layers(*errors: float | None) -> list[Layer]:
    return [Layer(f"relu_{i}", "", "If", 1, 1, 1.0, 1.0, 8, isolated_error=error) for i, error in enumerate(errors)]


def test_the_worst_quarter_is_named_in_the_order_of_the_network() -> None:
    assert tune.worst_layers(layers(0.1, 0.4, 0.2, 0.3, 0.1, 0.5, 0.1, 0.1)) == ("relu_1", "relu_5")
    assert tune.worst_layers(layers(0.1, 0.2, 0.2)) == ("relu_1",)
    assert tune.worst_layers(layers(None, 0.0, 0.2, 0.1, 0.0)) == ("relu_2", "relu_3")
    assert tune.worst_layers(layers(None, 0.0)) == ()
    assert tune.worst_layers([]) == ()


def trial(drop: float, steps: int, energy: float, limits: SearchLimits, title: str = "") -> Trial:
    measured = row(steps, total_steps=steps, energy=support.energy(energy))
    candidate = Candidate(Family("quick", "if", title), steps)
    certain = drop, drop
    gate = limits.judged(measured, drop, certain, 100)
    return Trial(candidate, measured, drop, certain, 0.0, limits.excess(drop, tune.energy_ratio(measured)), gate)


def test_cheapest_first_then_what_misses_the_limits_by_least() -> None:
    limits = SearchLimits(max_drop=2, max_energy=0.5)
    listed = [
        trial(2.0, 8, 40, limits, "cheap in steps"),
        trial(0.0, 9, 30, limits, "cheap in energy"),
        trial(2.1, 1, 1, limits, "lossy"),
        trial(9.0, 1, 1, limits, "lost"),
        trial(0.0, 9, 80, limits, "dear"),
        trial(0.0, 9, 30, limits, "tie"),
    ]
    by_energy = [found.candidate.family.title for found in tune.ranked(listed, "energy")]
    assert by_energy == ["cheap in energy", "tie", "cheap in steps", "lossy", "dear", "lost"]
    by_steps = [found.candidate.family.title for found in tune.ranked(listed, "steps")]
    assert by_steps == ["cheap in steps", "cheap in energy", "tie", "lossy", "dear", "lost"]
    assert [found.kept for found in listed] == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"max_drop": -0.1}, "--max-drop"),
        ({"max_drop": math.nan}, "--max-drop"),
        ({"max_drop": math.inf}, "--max-drop"),
        ({"max_steps": 0}, "--max-steps"),
        ({"max_energy": 0.0}, "--max-energy"),
        ({"max_energy": math.nan}, "--max-energy"),
        ({"minutes": 0.0}, "--minutes"),
        ({"minutes": math.inf}, "--minutes"),
        ({"weight_bits": (8, 4)}, "--weight-bits"),
        ({"weight_bits": (1,)}, "--weight-bits"),
        ({"weight_bits": (4, 6, 8)}, "--weight-bits"),
    ],
)
def test_limits_that_exclude_everything_are_refused_before_anything_is_read(options: Any, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        tune.tune(Path("no such file"), data=Path("no such folder"), **options)
    assert caught.value.place == place
    assert caught.value.hint


def test_steps_that_no_network_answers_in_are_refused() -> None:
    with pytest.raises(UsageError, match="no network answers within 4 steps") as caught:
        tuned(max_steps=4, latency="pipelined")
    assert caught.value.hint == "give 5 or more, or leave out --latency"


# Widths of weights.


@pytest.fixture
def one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "families", lambda latency: [Family("quick", "if", "quick, if")])
    monkeypatch.setattr(tune, "training_families", lambda latency: [])
    monkeypatch.setattr(tune, "_TIMESTEPS", (8,))
    monkeypatch.setattr(tune, "_NUMBERS", {"timesteps": (8,)})


def widths_of(found: Advice) -> list[int]:
    assert found.chosen is not None
    return [width.weights for width in widths(found.chosen.conversion.snn).values() if width is not None]


@pytest.mark.usefixtures("one_family")
def test_as_few_bits_as_keep_the_drop_are_chosen_layer_by_layer() -> None:
    wide = tuned(max_drop=60, weight_bits=(3, 8))
    assert max(widths_of(wide)) == 3 and wide.trials[0].candidate.family.weight_bits == 3
    mixed = tuned(max_drop=0, weight_bits=(2, 8))
    tried = [trial.candidate.family.title for trial in mixed.trials]
    assert any("weights of 2 bits" in title for title in tried) and any("8 in" in title for title in tried)
    if mixed.chosen is None:
        assert "bits" in mixed.shortfall
    else:
        assert {*widths_of(mixed)} <= set(range(2, 9)) and mixed.chosen.trial is mixed.trials[0]
        assert "--weight-bits" in mixed.chosen.trial.candidate.flags
    # Each time more layers have more bits.
    steps = [trial.candidate.recipe.passes[-1] for trial in mixed.trials if trial.candidate.family.weight_bits == 2]
    assert sorted(len(step.layers) for step in steps) == [0, 2, 3, 4][: len(steps)]
    assert all("classifier_Gemm" in step.layers for step in steps if step.layers)


def test_layers_are_listed_by_what_rounding_adds_to_their_error() -> None:
    assert tune.sensitive(layers(0.1, 0.4, 0.2), layers(0.2, 0.45, 0.9)) == ["relu_2", "relu_0", "relu_1"]
    assert tune.sensitive(layers(None), layers(0.2)) == ["relu_0"]


# Candidates.


def test_families_are_those_of_the_latency_asked_for() -> None:
    both = tune.families(None)
    assert len({family.title for family in both}) == len(both) == 8
    for latency in ("synchronous", "pipelined"):
        some = [*tune.families(latency), *tune.training_families(latency)]
        assert {family.latency for family in some} == {latency}
    for family in [*both, *tune.training_families(None)]:
        recipe = family.at(3).recipe
        assert (recipe.timesteps, recipe.sleep) == (3, family.sleep)
        (step,) = (step for step in recipe.passes if isinstance(step, SubstituteNeurons))
        assert step.neuron == family.neuron


def test_answers_within_a_step_are_told_apart_by_their_levels() -> None:
    (quick,), (training,) = tune.families("one-step"), tune.training_families("one-step")
    (mixed,) = tune.more_for(quick, [], random_network(0, relu))
    for family in (quick, training, mixed):
        candidate = family.at(7)
        assert family.latency == "one-step" and candidate.title == f"{family.title}, L=7"
        assert (candidate.recipe.timesteps, candidate.recipe.sleep) == (1, 0)
        (step,) = (step for step in candidate.recipe.passes if isinstance(step, SubstituteNeurons))
        assert step.neuron == "graded(levels=7)"
        assert any(isinstance(step, AllocateLevels) for step in candidate.recipe.passes) == family.mixed
        assert ("--mixed-levels" in candidate.flags) == family.mixed
        assert candidate.flags[-1] == "passes.substitute-neurons.neuron=graded(levels=7)"
    assert {family.latency for family in tune.families(None)} == {"synchronous", "pipelined"}


def test_the_worst_layers_get_thresholds_per_channel_or_bursts() -> None:
    net = Network((3, 4, 4))
    inner = relu(net, net.conv("x", 4))
    graph = NormalizeActivations()(net.graph(relu(net, net.conv(inner, 4))), calibration(net.graph()))
    first, second = (name for name, node in graph.nodes.items() if node.op.__class__.__name__ == "ClippedRelu")
    errors = [dataclasses.replace(layers(0.1)[0], name=first), dataclasses.replace(layers(0.3)[0], name=second)]
    for family in tune.families(None):
        more = tune.more_for(family, errors, graph)
        if family.title.endswith("per layer"):
            (helped,) = more
            (step,) = (step for step in helped.at(2).recipe.passes if isinstance(step, CalibrateThresholds))
            assert (step.per, step.channel_wise) == ("layer", (second,))
            assert helped.title == f"{family.title}, 1 layer per channel"
        elif family.latency == "pipelined":
            assert more == []
        else:
            (helped,) = more
            (last,) = (step for step in helped.at(2).recipe.passes if isinstance(step, SubstituteNeurons))
            assert (last.neuron, last.layers) == (family.neuron, {second: "burst"})
        assert tune.more_for(family, [], graph) == []


def test_recipes_that_begin_alike_share_the_work() -> None:
    trained, memory = pipeline.read_trained(DIGITS / "model.onnx"), pipeline.Memory()

    def made(name: str, timesteps: int) -> Graph:
        recipe = Family("quick", name, "", (f"passes.substitute-neurons.neuron={name}",)).at(timesteps).recipe
        return pipeline.make(trained, recipe, None, PREPROCESSING, FEW, memory=memory)[0].snn

    first, again, other, longer = made("if", 2), made("if", 2), made("dual-threshold", 2), made("if", 3)
    assert again is first
    for layer, neuron in first.ops(Neuron).items():
        assert other.op(layer).tensors()["threshold"] is neuron.threshold
        assert not torch.equal(longer.op(layer).tensors()["threshold"], neuron.threshold)


# The options that give some layers more.


def two_layers() -> Any:
    net = Network((3, 6, 6))
    relu(net, net.conv(relu(net, net.conv("x", 4)), 4))
    graph = net.graph()
    return NormalizeActivations()(graph, calibration(graph))


def test_some_layers_have_thresholds_per_channel() -> None:
    graph = two_layers()
    look = calibration(graph, normal(16, 3, 6, 6))
    first, second = CalibrateThresholds()(graph, look).ops(QuantizedRelu)
    per_layer = CalibrateThresholds(per="layer")(graph, look).ops(QuantizedRelu)
    per_channel = CalibrateThresholds()(graph, look).ops(QuantizedRelu)
    mixed = CalibrateThresholds(per="layer", channel_wise=(second,))(graph, look).ops(QuantizedRelu)
    assert torch.equal(mixed[first].ceiling, per_layer[first].ceiling)
    assert torch.equal(mixed[second].ceiling, per_channel[second].ceiling)
    assert (mixed[first].ceiling.numel(), mixed[second].ceiling.numel()) == (1, 4)
    with pytest.raises(PreconditionError, match="unknown layer 'clipped'") as caught:
        CalibrateThresholds(per="layer", channel_wise=(first, "clipped")).requires(graph)
    assert caught.value.place == "passes.calibrate-thresholds.channel-wise"
    with pytest.raises(ValueError, match="exceptions from per: layer"):
        CalibrateThresholds(channel_wise=(first,))


def test_some_layers_have_other_neurons() -> None:
    graph = CalibrateThresholds()(two_layers(), calibration(two_layers(), normal(8, 3, 6, 6)))
    first, second = graph.ops(QuantizedRelu)
    step = SubstituteNeurons("if", layers={second: "burst"})
    step.requires(graph)
    spiking = step(graph, calibration(graph))
    assert isinstance(spiking.op(first), neurons["if"])
    assert isinstance(spiking.op(second), neurons["burst"])
    with pytest.raises(PreconditionError) as caught:
        SubstituteNeurons(layers={f"{first}x": "if"}).requires(graph)
    assert caught.value.hint == f"did you mean {first!r}?"
    assert caught.value.place == "passes.substitute-neurons.layers"
    with pytest.raises(PreconditionError, match="unknown layer 'a'") as caught:
        SubstituteNeurons(layers={"a": "if"}).requires(Network((1, 2, 2)).graph("x"))
    assert caught.value.hint
    with pytest.raises(UsageError, match=f"unknown neuron 'bursts' @ layers.{first}"):
        SubstituteNeurons(layers={first: "bursts"})


# Time.


class Watch:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(tune.time, "monotonic", lambda: self.now)


def test_what_cannot_be_done_in_time_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, told = Watch(monkeypatch), []
    clock = tune._Clock(1.0)
    tell = clock.guarding(lambda *told_: told.append(told_))
    tell("read", 0, 100)
    watch.now = 10.0
    tell("read", 90, 100)
    tell("read", 0, 100)
    watch.now = 14.0
    # 1 % in 4 seconds says nothing yet; 5 % in 6 seconds says that it takes 2 minutes.
    tell("read", 1, 100)
    watch.now = 16.0
    with pytest.raises(tune._OutOfTimeError):
        tell("read", 5, 100)
    assert told[-1] == ("read", 5, 100)
    watch.now = 61.0
    assert clock.left == -1.0
    with pytest.raises(tune._OutOfTimeError):
        tell("another", 0, 3)
    tune._Clock(None).guarding(silent)("endless", 1, 10**9)


def test_without_time_there_is_still_one_candidate() -> None:
    advice = tuned(minutes=1e-6, max_drop=50)
    assert len(advice.trials) == 1
    assert advice.chosen is not None
    assert "budget-spent" in {finding.code for finding in advice.findings}
    whole = tuned(minutes=1e-6, max_drop=50, weight_bits=(8,))
    assert whole.chosen is None and whole.trials[0].kept
    assert whole.shortfall.startswith(
        f"{whole.trials[0].candidate.title} keeps to the limits, and none in whole numbers "
    )


# The search, over networks whose drop and energy are known.


class FakeBench:
    """Networks of two layers in a row; every candidate takes a second."""

    seed = 0
    calibration = None
    task = Classification()

    def __init__(self, watch: Watch, drop: Callable[[Candidate], float], energy: Callable[[Candidate], float]) -> None:
        self._watch = watch
        self._drop = drop
        self._energy = energy
        self.made: list[Candidate] = []
        self.judging = SimpleNamespace(labels=lambda kind: torch.zeros(100))

    def fewest_steps(self, family: Family) -> int:
        return 3 if family.latency == "pipelined" else 1 + family.sleep

    def most_timesteps(self, family: Family, steps: int) -> int:
        return steps // 3 if family.latency == "pipelined" else steps - family.sleep

    def make(self, candidate: Candidate, progress: Any) -> Any:
        self.made.append(candidate)
        self._watch.now += 1
        return candidate, None

    def judge(self, candidate: Candidate, progress: Any) -> Any:
        drop, sleep = self._drop(candidate), candidate.family.sleep
        steps = 3 * candidate.timesteps if candidate.family.latency == "pipelined" else candidate.timesteps + sleep
        energy = self._energy(candidate)
        measured = row(
            candidate.timesteps,
            sleep=sleep,
            total_steps=steps,
            accuracy=90.0,
            drop=drop,
            drop_interval=(drop, drop),
            energy=support.energy(energy),
        )
        return SimpleNamespace(rows=(measured,), reference={"accuracy": 90.0}, samples=100)

    def report(self, conversion: Any, canonical: Any, progress: Any) -> Any:
        return conversion, SimpleNamespace(layers=layers(0.1, 0.3, 0.2, 0.1))


def searched(
    monkeypatch: pytest.MonkeyPatch,
    drop: Callable[[Candidate], float],
    energy: Callable[[Candidate], float] = lambda candidate: candidate.timesteps,
    **options: Any,
) -> tuple[Any, list[Candidate]]:
    bench = FakeBench(Watch(monkeypatch), drop, energy)
    search = tune._Search(bench, SearchLimits(**options), "energy", tune._Clock(options.get("minutes")), silent)
    monkeypatch.setattr(tune, "more_for", more_without_a_graph)
    search.run()
    best = search._best
    return best and best.trial.candidate, bench.made


def more_without_a_graph(family: Family, listed: Any, canonical: Any) -> list[Family]:
    if family.count == "levels":
        return [dataclasses.replace(family, title=f"{family.title}, mixed levels", mixed=True)]
    return [] if family.latency == "pipelined" else [family.changed("1 layer burst", "")]


def enough_from(timesteps: dict[str, int]) -> Callable[[Candidate], float]:
    """Nothing is lost from so many time steps on, by the start of the title; else some points."""

    def drop(candidate: Candidate) -> float:
        found = max((key for key in timesteps if candidate.title.startswith(key)), key=len, default="")
        return 0.0 if candidate.timesteps >= timesteps.get(found, 1000) else 10.0 / candidate.timesteps

    return drop


def tried(made: list[Candidate], title: str) -> list[int]:
    return [candidate.number for candidate in made if candidate.family.title == title]


def test_from_the_middle_down_while_it_is_enough_and_up_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = enough_from({"quick, two-phase": 2, "quick, if": 16, "quick": 1000})
    best, made = searched(monkeypatch, needed, lambda candidate: 1 + candidate.timesteps / 100, max_drop=0)
    assert best == next(candidate for candidate in made if candidate.title == "quick, two-phase, T=2")
    assert len(set(made)) == len(made)
    assert tried(made, "quick, two-phase") == [8, 4, 2, 1]
    # What costs more than one that is enough, and still falls short, is not raised.
    assert tried(made, "quick, dual-threshold") == [8, 16, 4, 2, 1]
    # What decides comes before what completes the picture.
    assert made.index(best) < made.index(next(c for c in made if c.title == "quick, if, T=4"))


def test_up_to_the_last_where_nothing_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    best, made = searched(monkeypatch, lambda candidate: 5.0)
    assert best is None
    assert tried(made, "quick, if") == [8, 16, 32, 4, 2, 1]
    assert tried(made, "quick, if, 1 layer burst") == [32]
    assert tried(made, "default") == tried(made, "synchronous") == [32]


def test_training_is_for_fewer_time_steps_than_were_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = enough_from({"quick": 16, "default": 4, "synchronous": 16})
    best, made = searched(monkeypatch, needed)
    assert tried(made, "default")[:3] == [8, 4, 2]
    # At 4 time steps it would cost as much as that.
    assert tried(made, "synchronous") == [2]
    # Between 2, too few, and 4, enough, there is one more.
    assert tried(made, "default") == [8, 4, 2, 3]
    assert best.title == "default, T=4"


def test_training_what_would_be_dearer_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def energy(candidate: Candidate) -> float:
        return candidate.timesteps * (1 if candidate.family.latency == "synchronous" else 20)

    _, made = searched(monkeypatch, enough_from({"quick": 16, "default": 1, "synchronous": 1000}), energy)
    # At 8 time steps, two-phase neurons need 160; those that fire at once need 16 when they are enough.
    assert tried(made, "default") == []
    assert tried(made, "synchronous") == [8]


def test_the_gap_below_the_cheapest_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    best, made = searched(monkeypatch, enough_from({"quick, if": 21}), max_drop=0, latency="synchronous")
    assert [timesteps for timesteps in tried(made, "quick, if") if timesteps > 16] == [32, 24, 20, 22, 21]
    assert best.title == "quick, if, T=21"


def test_bursts_are_tried_where_a_family_just_fell_short(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = enough_from({"quick, if": 16, "quick, if, 1 layer burst": 4, "quick, if, per layer": 1000})
    best, made = searched(monkeypatch, needed, max_drop=0, latency="synchronous")
    assert tried(made, "quick, if, 1 layer burst")[:3] == [8, 4, 2]
    assert best.title == "quick, if, 1 layer burst, T=4"


def test_levels_are_narrowed_down_as_time_steps_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(candidate: Candidate) -> float:
        return 0.0 if candidate.number >= 12 else 1.0 + 10.0 / candidate.number

    def energy(candidate: Candidate) -> float:
        return candidate.number + 0.5 * candidate.family.mixed

    best, made = searched(monkeypatch, drop, energy, max_drop=0, latency="one-step", max_steps=1)
    quick = [
        candidate.number for candidate in made if candidate.family.recipe == "quick" and not candidate.family.mixed
    ]
    assert quick == [15, 7, 11, 13, 12, 3, 1]
    assert best.title == "quick, graded, L=12"
    # As many bits in the mean are tried where the same for all fell short.
    assert [candidate.number for candidate in made if candidate.family.mixed] == [7]
    assert {candidate.timesteps for candidate in made} == {1}


def test_the_most_steps_that_are_allowed_are_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = searched(monkeypatch, lambda candidate: 5.0, max_steps=7)
    assert sorted(tried(made, "quick, if")) == [1, 2, 4, 7]
    assert sorted(tried(made, "quick, cif")) == [1, 2, 4, 6]
    assert sorted(tried(made, "quick, two-phase")) == [1, 2]


def test_what_breaks_the_energy_limit_is_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    best, made = searched(monkeypatch, lambda candidate: 5.0, max_energy=0.05, latency="synchronous")
    assert best is None
    assert max(tried(made, "quick, if")) == 8


def test_when_the_time_is_over_nothing_more_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = searched(monkeypatch, lambda candidate: 5.0, minutes=10 / 60)
    # Eight at 8 time steps take 8 of 10 seconds. At 16 the next would take all that is left: not so what helps a layer,
    # and of training nothing is known beforehand.
    assert [candidate.timesteps for candidate in made[:8]] == [8] * 8
    assert [candidate.title for candidate in made[8:]] == ["quick, dual-threshold, 1 layer burst, T=8", "default, T=32"]


# On the digits.


def test_what_is_chosen_keeps_to_the_limit_on_the_drop(loose: Advice, tight: Advice) -> None:
    assert loose.chosen is not None
    assert tight.chosen is not None
    assert loose.chosen.trial.drop <= 50
    assert tight.chosen.trial.drop <= 0


def test_nothing_tried_is_cheaper_than_what_was_chosen(loose: Advice, tight: Advice) -> None:
    for advice in (loose, tight):
        assert advice.chosen is not None
        kept = [trial for trial in advice.trials if trial.kept]
        assert advice.chosen.trial is advice.trials[0]
        assert min(trial.energy for trial in kept) == advice.chosen.trial.energy
        assert advice.shortfall == ""


def test_the_frontier_holds_nothing_dominated_and_all_that_is_not(loose: Advice, tight: Advice) -> None:
    for advice in (loose, tight):
        figures = [(trial.drop, trial.steps, trial.energy) for trial in advice.trials]
        for trial, own in zip(advice.trials, figures, strict=True):
            assert trial.frontier != any(dominates(other, own) for other in figures)


def test_steps_and_latency_are_kept_to(loose: Advice, tight: Advice) -> None:
    assert max(trial.steps for trial in loose.trials) <= 5
    assert {trial.candidate.family.latency for trial in loose.trials} == {"synchronous", "pipelined"}
    assert max(trial.steps for trial in tight.trials) <= 2
    assert {trial.candidate.family.latency for trial in tight.trials} == {"synchronous"}
    # The most steps that are allowed are tried, though no power of two.
    assert 5 in {trial.steps for trial in loose.trials}


def test_what_fell_short_got_more_for_its_worst_layers_and_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "families", lambda latency: [Family("quick", "if", "quick, if")])
    # So few images prove nothing.
    unproven = tuned(max_drop=0, max_steps=2, latency="synchronous", proven=True)
    assert unproven.chosen is None and "not proven" in unproven.shortfall
    titles = {trial.candidate.family.title for trial in unproven.trials}
    assert any("burst" in title or "1 layer per channel" in title for title in titles)
    assert "synchronous" in titles


def test_the_chosen_one_is_made_again_to_the_same_bytes(loose: Advice, tight: Advice, tmp_path: Path) -> None:
    for advice, reading in ((loose, FEW), (tight, MORE)):
        assert advice.chosen is not None
        save_conversion(advice.chosen.conversion, tmp_path / "a.snn")
        made, report = snnc.convert(
            DIGITS / "model.onnx",
            advice.chosen.trial.candidate.recipe,
            data=DIGITS / "test",
            preprocessing=PREPROCESSING,
            reading=dataclasses.replace(reading, part="calibration"),
        )
        save_conversion(made, tmp_path / "b.snn")
        assert (tmp_path / "a.snn").read_bytes() == (tmp_path / "b.snn").read_bytes()
        assert report == advice.chosen.report
        judging = dataclasses.replace(reading, part="judging")
        (row,) = snnc.evaluate(made, data=DIGITS / "test", reading=judging).rows
        assert row == advice.chosen.trial.row


def test_processes_make_whole_candidates_and_choose_the_same_in_the_same_order(
    fewest: Advice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Candidate, int]] = []
    make = tune.Bench.make

    def noted(bench: tune.Bench, candidate: Candidate, progress: Any) -> Any:
        made.append((candidate, current().count))
        return make(bench, candidate, progress)

    monkeypatch.setattr(tune.Bench, "make", noted)
    found = simulated(2, lambda rank: tuned(max_drop=50, max_steps=2, prefer="steps"))
    whole = [candidate for candidate, count in made if count == 1]
    assert len(whole) == len({*whole}) > len(fewest.trials) / 2
    for index, advice in enumerate((fewest, *found)):
        assert advice.chosen is not None and fewest.chosen is not None
        save_conversion(advice.chosen.conversion, tmp_path / f"{index}.snn")
        assert (tmp_path / f"{index}.snn").read_bytes() == (tmp_path / "0.snn").read_bytes()
        assert advice.chosen.report == fewest.chosen.report
        assert [timeless(trial) for trial in advice.trials] == [timeless(trial) for trial in fewest.trials]


def timeless(trial: Trial) -> Trial:
    return dataclasses.replace(trial, seconds=0.0)


def test_without_labels_predictions_are_compared() -> None:
    advice = tuned("calibration", max_drop=40, max_steps=1)
    assert advice.loss.measures == "agreement"
    assert advice.reference == {}
    assert advice.plain()["drop_measures"] == "agreement"
    (finding,) = (finding for finding in advice.findings if finding.code == "no-labels")
    assert finding.message == "the data has no classes as labels: the drop is the percent of predictions that changed"
    assert "drop in accuracy" in finding.hint
    for found in advice.trials:
        assert found.row.agreement is not None
        assert found.drop == pytest.approx(100 - found.row.agreement)
        assert found.drop_interval[0] <= found.drop <= found.drop_interval[1]


def test_a_drop_that_may_be_larger_on_other_images_is_chosen_and_said_to_be_not_proven(tight: Advice) -> None:
    assert tight.chosen is not None and tight.chosen.trial.gate.verdict == "not proven"
    (found,) = (finding for finding in tight.findings if finding.code == "not-proven")
    assert "not proven" in found.message and "would (60 measured)" in found.message


def test_where_nothing_keeps_to_the_limits_the_closest_is_named() -> None:
    advice = tuned(max_drop=50, max_energy=1e-3, max_steps=1)
    assert advice.chosen is None
    assert not any(found.kept for found in advice.trials)
    closest = advice.trials[0]
    assert advice.shortfall.startswith(f"nothing keeps to the limits; closest is {closest.candidate.title} with ")
    assert advice.shortfall.endswith(f"{number(closest.energy_ratio)} times the energy, allowed 0.001")
    assert advice.plain()["chosen"] is None


def test_prefer_steps_chooses_the_fewest(fewest: Advice) -> None:
    assert fewest.chosen is not None
    assert fewest.chosen.trial.steps == min(found.steps for found in fewest.trials if found.kept) == 1
