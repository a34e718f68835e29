"""Blame: who is charged with what."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import snnc
from snnc import pipeline, recipe
from snnc.data.dataset import Reading, open_dataset
from snnc.data.samples import MemorySamples
from snnc.errors import ModelError, PreconditionError
from snnc.feeds import Feeds, Signals
from snnc.ir import Graph
from snnc.measure import blame as blaming
from snnc.measure.blame import blame, check_alike, hybrid, layers_of
from snnc.neurons import Neuron
from snnc.run import ONCE, Program
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification
from tests.support import feeding, run
from tests.test_report import DIGITS, PREPROCESSING

TASK = Classification()

pytestmark = pytest.mark.usefixtures("counted_shortly")


@cache
def converted(name: str = "quick", timesteps: int = 4, *overrides: str) -> tuple[Graph, Graph, Schedule]:
    how = recipe.load(name, timesteps=timesteps, overrides=overrides)
    reading = Reading(limit=32)
    made, _ = snnc.convert(
        DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=PREPROCESSING, reading=reading
    )
    return pipeline.canonical_reference(made), made.snn, made.schedule


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    dataset = open_dataset(DIGITS / "test", PREPROCESSING, {"x": (1, 8, 8)}, Reading(limit=30))
    return torch.cat([feeds["x"] for feeds in dataset.batches()]), dataset.labels("classes").answers


def outputs(graph: Graph, images: Tensor, schedule: Schedule) -> Tensor:
    return run(graph, {graph.inputs[0]: images.unsqueeze(0)}, graph.outputs, schedule)[graph.outputs[0]][0]


RECIPES = [
    ("quick", ()),
    ("quick", ("passes.substitute-neurons.neuron=if",)),
    ("quick", ("passes.treat-max-pool.method=lateral-inhibition", "passes.substitute-neurons.neuron=dual-threshold")),
    ("quick", ("passes.substitute-neurons.neuron=cos", "rehearsal=2")),
    ("tpp", ()),
    ("casc", ("sleep=4",)),
    ("residual-noise", ("passes.correct-spiking-residual.temporal=true",)),
]


@pytest.mark.parametrize(("name", "overrides"), RECIPES)
def test_every_node_belongs_to_one_layer_and_the_extremes_are_the_two_networks(name, overrides, digits):
    canonical, snn, schedule = converted(name, 2, *overrides)
    layers = layers_of(snn)
    assert sorted(node for members in layers.values() for node in members) == sorted(snn.nodes)
    assert set(snn.ops(Neuron)) <= set(layers)
    images = digits[0][:20]
    assert torch.equal(
        outputs(hybrid(canonical, snn, layers, layers), images, schedule), outputs(snn, images, schedule)
    )
    plain = outputs(hybrid(canonical, snn, layers, ()), images, schedule)
    assert torch.allclose(plain, outputs(canonical, images, ONCE), atol=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(("name", "overrides"), [(name, options) for name, options in RECIPES if name != "tpp"])
def test_the_charges_add_up_to_the_whole_loss(name, overrides, labeled, digits):
    canonical, snn, schedule = converted(name, 2, *overrides)
    images, labels = digits
    trained, spiking = (
        TASK.answers([outputs(graph, images, steps)]) for graph, steps in ((canonical, ONCE), (snn, schedule))
    )
    truth = labels if labeled else trained
    lost = 100 * float(((trained == truth).double() - (spiking == truth).double()).mean())
    charged = blame(
        canonical, snn, MemorySamples(feeding(snn, images), 7), labels if labeled else None, schedule, Classification()
    )
    assert math.fsum(charge.points for charge in charged) == pytest.approx(lost, abs=1e-9)
    assert sum(charge.samples for charge in charged) == round(lost * len(images) / 100)
    again = blame(
        canonical,
        snn,
        MemorySamples(feeding(snn, images), 40),
        labels if labeled else None,
        schedule,
        Classification(),
    )
    assert again == charged


@pytest.mark.parametrize("culprit", [0, 1, -1])
def test_who_did_it_is_found(culprit: int, digits):
    canonical, snn, schedule = converted(timesteps=8)
    name = list(snn.ops(Neuron))[culprit]
    neuron = snn.ops(Neuron)[name]
    broken = snn.with_ops({name: type(neuron)(neuron.threshold * 1000)})
    images, labels = digits
    found = blame(canonical, broken, MemorySamples(feeding(broken, images)), labels, schedule, TASK)
    charged = {charge.name: charge for charge in found}
    worst = max(charged.values(), key=lambda charge: charge.points)
    assert worst.name == name
    assert worst.interval is not None and worst.interval[0] > 30
    assert all(other.name == name or abs(other.points) < worst.points / 3 for other in charged.values())


def test_it_takes_as_many_runs_as_layers_not_as_subsets(digits, monkeypatch: pytest.MonkeyPatch):
    canonical, snn, schedule = converted(timesteps=2)
    images, labels = digits
    seen = 0

    class Counting(Program):  # type: ignore[misc]
        def __call__(self, feeds: Feeds, *, given: Signals, **options: Any) -> Signals:
            nonlocal seen
            seen += next(iter(given.values())).shape[1]
            return super().__call__(feeds, given=given, **options)

    monkeypatch.setattr(blaming, "Program", Counting)
    blame(canonical, snn, MemorySamples(feeding(snn, images)), labels, schedule, TASK)
    assert seen == len(images) * (len(layers_of(snn)) + 1)


# Neurons that count, neurons that fire while they gather, and neurons that draw.
@pytest.mark.parametrize(("name", "overrides"), [RECIPES[0], RECIPES[1], RECIPES[4]])
def test_what_lies_before_a_layer_is_not_computed_again_where_its_mean_says_all(
    name, overrides, digits, monkeypatch: pytest.MonkeyPatch
):
    canonical, snn, schedule = converted(name, 2, *overrides)
    images, labels = digits[0][:48], digits[1][:48]
    computed = 0

    class Counting(Program):  # type: ignore[misc]
        def __call__(self, feeds: Feeds, *, given: Signals, **options: Any) -> Signals:
            nonlocal computed
            computed += len(self.graph.ancestors(self.want, stop=given) - set(given))
            return super().__call__(feeds, given=given, **options)

    monkeypatch.setattr(blaming, "Program", Counting)
    charged = blame(canonical, snn, MemorySamples(feeding(snn, images)), labels, schedule, TASK)
    once, computed = computed, 0
    monkeypatch.setattr(blaming, "_can_be_kept", lambda _: False)
    assert blame(canonical, snn, MemorySamples(feeding(snn, images)), labels, schedule, TASK) == charged
    counts = (name, overrides) == ("quick", ())
    assert (once < 0.7 * computed) if counts else (once == computed)


def test_two_images_are_too_few_for_an_interval_but_not_for_blame(digits):
    canonical, snn, schedule = converted(timesteps=1)
    charged = blame(canonical, snn, MemorySamples(feeding(snn, digits[0][:1])), None, schedule, TASK)
    assert all(charge.interval is None for charge in charged)


def test_blame_needs_the_trained_network():
    made, _ = snnc.convert(DIGITS / "model.onnx", recipe.load("quick"), preprocessing=PREPROCESSING)
    with pytest.raises(ModelError, match="no trained network"):
        snnc.evaluate(replace(made, reference=None), data=DIGITS / "test", blamed=10)


def test_other_passes_than_those_of_the_recipe_are_a_damaged_file():
    made, _ = snnc.convert(DIGITS / "model.onnx", recipe.load("quick"), preprocessing=PREPROCESSING)
    for applied in ((), made.applied[1:], made.applied[::-1]):
        with pytest.raises(ModelError, match="the passes that were applied are not those of the recipe"):
            pipeline.canonical_reference(replace(made, applied=applied))


def test_another_form_of_the_network_is_refused():
    made, _ = snnc.convert(DIGITS / "model.onnx", recipe.load("quick"), preprocessing=PREPROCESSING)
    canonical = pipeline.canonical_reference(made)
    check_alike(canonical, made.snn)
    # Batch normalization that is folded only after thresholds were worked out: the canonical form still has it.
    assert made.reference is not None
    with pytest.raises(PreconditionError, match="another form"):
        check_alike(made.reference, made.snn)
