"""The levels that neurons have, the passes that ask for them, and neurons with options as recipes name them."""

import dataclasses
import json
from typing import Any

import pytest
import torch

from snnc import ops
from snnc.errors import UsageError
from snnc.neurons import Neuron, neurons
from snnc.neurons.burst import Burst
from snnc.neurons.choice import chosen
from snnc.neurons.dual_threshold import DualThreshold
from snnc.passes import distill
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import Memory, apply_recipe, levels_to_be
from snnc.recipe import Recipe, from_plain, load
from snnc.schedule import Schedule
from snnc.training.settings import Training
from tests.support import Network, in_memory, normal, random_network, relu


@pytest.mark.parametrize("name", neurons)
def test_every_neuron_can_be_chosen_and_says_its_levels(name: str) -> None:
    choice = chosen(name)
    assert choice.kind is neurons[name]
    neuron = choice.standing_for(ops.QuantizedRelu(torch.tensor(2.0), 5), Schedule(5))
    assert choice.levels(5) == neuron.levels(5) == neuron.closed_form(5).levels
    if neuron.levels(1) < neuron.levels(5):
        assert neuron.timesteps_within(neuron.levels(5)) == 5
    assert neuron.timesteps_within(neuron.levels(1) - 1) is None
    assert chosen(f" {name}() ").options == choice.options


@pytest.mark.parametrize("name", neurons)
def test_every_option_of_a_neuron_can_be_written(name: str) -> None:
    choice = chosen(name)
    shared = {field.name for field in dataclasses.fields(Neuron)}
    own = [field for field in dataclasses.fields(neurons[name]) if field.name not in shared]
    called = {field.name: field.metadata.get("option", field.name.replace("_", "-")) for field in own}
    written = ", ".join(f"{called[field]}={json.dumps(value)}" for field, value in choice.options.items())
    assert chosen(f"{name}({written})") == choice
    added = {field.name: field.default for field in own}
    assert choice.options == {field: value for field, value in added.items() if not isinstance(value, torch.Tensor)}


def test_some_neurons_have_options() -> None:
    assert chosen("burst(max-event=3)").levels(4) == 12
    assert chosen("graded(levels=7, max-event=2, signed=true)").options["top"] == 7
    assert chosen("refine(levels=13, max-event=3, units=[3, 1], rest=3)").options["units"] == (3, 1)
    assert chosen("dual-threshold(negative-threshold = 0.01)").options == {"negative_threshold": 0.01}


@pytest.mark.parametrize(
    ("neuron", "place", "words"),
    [
        ("burts", "neuron", ("unknown neuron 'burts'", "did you mean 'burst'?")),
        ("burst(max-evnt=3)", "neuron", ("unknown option 'max-evnt'", "did you mean 'max-event'?")),
        ("burst(max-event=many)", "neuron.max-event", ("invalid value 'many'", "integer")),
        ("burst(max-event=0)", "neuron", ("from 1 to", "options: max-event")),
        ("dual-threshold(negative-threshold=2)", "neuron", ("(0, 1]", "options: negative-threshold")),
        ("graded(levels=0)", "neuron", ("from 1 to 65536 levels", "options: levels, max-event, signed")),
        ("graded(levels=many)", "neuron.levels", ("invalid value 'many'", "integer")),
        ("graded(max-event=0)", "neuron", ("the largest event is from 1 to",)),
        ("graded(max-event=2, first-event=5)", "neuron", ("from 2 to 4, once or twice any other",)),
        ("graded(max-event=2, rest=3)", "neuron", ("rest is from 0 to", "2 at most")),
        ("graded(signed=false, rest=1)", "neuron", ("0 at most",)),
        ("refine(units=[1, 2])", "neuron", ("units never rise, and end with 1",)),
        ("refine(levels=20)", "neuron", ("reach 15 of 20 levels",)),
        ("if(max-event=3)", "neuron", ("'if' neurons have no options", "write if")),
        ("if-zero(firing=2)", "neuron", ("have no options",)),
        ("burst(threshold=2)", "neuron", ("unknown option 'threshold'", "max-event")),
        ("burst(max-event=[)", "neuron", ("no list of options", "burst(option=value)")),
        ("burst(3)", "neuron", ("unknown option '3'", "max-event")),
        ("burst(max-event=3", "neuron", ("unknown neuron 'burst(max-event=3'",)),
        ("", "neuron", ("unknown neuron ''",)),
    ],
)
def test_what_is_wrong_with_a_choice_is_said_with_its_place(neuron: str, place: str, words: tuple[str, ...]) -> None:
    data = {"passes": ["calibrate-thresholds", {"substitute-neurons": {"neuron": neuron}}]}
    with pytest.raises(UsageError) as caught:
        from_plain(data)
    assert caught.value.place == f"passes[1].substitute-neurons.{place}"
    text = f"{caught.value.message} {caught.value.hint}"
    assert [word for word in words if word not in text] == []


def test_wherever_a_neuron_is_named_it_may_have_options() -> None:
    recipe = load("quick", timesteps=4, neuron="dual-threshold(negative-threshold=0.25)")
    assert from_plain(recipe.plain()) == recipe
    step = SubstituteNeurons("if", "dual-threshold(negative-threshold=0.5)", {"a": "burst(max-event=3)"})
    net = Network((3, 6, 6))
    for name, slope in (("a", None), ("b", torch.tensor(0.1)), ("c", None)):
        net.add(ops.QuantizedRelu(torch.tensor(1.5), 4, slope), net.conv(net.nodes[-1].name, 4), name=name)
    graph = net.graph()
    after = apply_recipe(graph, dataclasses.replace(recipe, passes=(step,)), None).snn.ops(Neuron)
    a, b, c = after["a"], after["b"], after["c"]
    assert isinstance(a, Burst) and a.max_event == 3 and float(a.threshold) == 0.5
    assert isinstance(b, DualThreshold) and b.negative_threshold == 0.5
    assert type(c) is neurons["if"]
    assert step.levels(graph, Schedule(4)) == {"a": 12, "b": 4, "c": 4}
    assert Training(noise_neuron="burst(max-event=3)").noise_neuron
    with pytest.raises(UsageError, match=r"unknown option 'max-evnt' @ layers\.a"):
        SubstituteNeurons(layers={"a": "burst(max-evnt=3)"})
    with pytest.raises(UsageError, match=r"@ training\.noise-neuron"):
        from_plain({"passes": ["fold-batch-norm"], "training": {"noise-neuron": "burst(max-evnt=3)"}})


# Of those whose levels are their steps, some will do to be balanced: that is done before there are neurons.
@pytest.mark.parametrize(
    ("neuron", "calibrate"),
    [
        *((neuron, "calibrate-thresholds") for neuron in (*neurons, "burst(max-event=3)")),
        *((neuron, "balance-thresholds") for neuron in ("cif", "burst(max-event=3)", "graded", "refine", "radix")),
    ],
)
def test_thresholds_are_chosen_for_the_levels_of_the_neurons(neuron: str, calibrate: str) -> None:
    """What makes as many levels in fewer steps has the same closed form as one level a step in more."""
    graph, timesteps = random_network(3, relu), 4
    quick = load("quick").plain()
    # But for what corrects thresholds behind neurons.
    listed = [{calibrate: {}} if "calibrate-thresholds" in entry else entry for entry in quick["passes"][:-1]]
    images = in_memory(graph, normal(32, 3, 8, 8))

    def forms(named: str, steps: int) -> list[ops.QuantizedRelu]:
        recipe = with_neuron({**quick, "passes": listed, "timesteps": steps}, named)
        snn = apply_recipe(graph, recipe, images).snn
        return [op.closed_form(steps) for op in snn.ops(Neuron).values()]

    levels = chosen(neuron).levels(timesteps)
    found, wanted = forms(neuron, timesteps), forms("two-phase", levels)
    assert found
    for one, other in zip(found, wanted, strict=True):
        assert one.levels == other.levels == levels
        torch.testing.assert_close(one.ceiling, other.ceiling)


@pytest.mark.parametrize(
    ("neuron", "timesteps"), [("graded(levels=12)", 1), ("two-phase", 12), ("graded(levels=12)", 3)]
)
def test_the_finer_the_levels_the_less_distillation_changes_at_once(
    neuron: str, timesteps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    monkeypatch.setattr(distill, "minimize", lambda *_, learning_rate, **__: not rates.append(learning_rate))
    graph = random_network(3, relu)
    recipe = load("default", timesteps=timesteps, neuron=neuron)
    apply_recipe(graph, recipe, in_memory(graph, normal(32, 3, 8, 8)))
    assert rates == [distill.Distill().learning_rate / 12]


@pytest.mark.parametrize(
    "neuron", ["graded(levels=15)", "graded(levels=7, max-event=2)", "refine", "burst(max-event=3)"]
)
def test_without_images_thresholds_are_in_closed_form_for_any_number_of_levels(neuron: str) -> None:
    """From what batch normalization states, by the fixed point over Gaussian moments."""
    graph, timesteps = random_network(0, relu, norms=True), 2

    def forms(named: str, steps: int) -> list[ops.QuantizedRelu]:
        snn = apply_recipe(graph, load("quick", timesteps=steps, neuron=named), None).snn
        return [op.closed_form(steps) for op in snn.ops(Neuron).values()]

    levels = chosen(neuron).levels(timesteps)
    found, wanted, others = forms(neuron, timesteps), forms("two-phase", levels), forms("two-phase", timesteps)
    assert found
    for one, other, narrow in zip(found, wanted, others, strict=True):
        assert one.levels == levels
        torch.testing.assert_close(one.ceiling, other.ceiling)
        assert (one.ceiling > narrow.ceiling * 1.05).all()


def with_neuron(data: dict[str, Any], neuron: str) -> Recipe:
    listed = [{"substitute-neurons": {"neuron": neuron}} if "substitute-neurons" in e else e for e in data["passes"]]
    return from_plain({**data, "passes": listed})


def test_what_one_recipe_calibrated_is_not_taken_for_neurons_of_other_levels() -> None:
    graph, memory = random_network(3, relu), Memory()
    images = in_memory(graph, normal(32, 3, 8, 8))
    for neuron in ("if", "burst", "burst(max-event=3)", "if"):
        recipe = load("quick", timesteps=4, neuron=neuron)
        remembered = apply_recipe(graph, recipe, images, memory=memory).snn.ops(Neuron)
        for name, op in apply_recipe(graph, recipe, images).snn.ops(Neuron).items():
            assert torch.equal(op.threshold, remembered[name].threshold)
            assert type(op) is type(remembered[name])


def test_without_neurons_to_come_there_is_a_level_a_step() -> None:
    net = Network((3, 6, 6))
    net.add(ops.ClippedRelu(torch.tensor(1.5)), net.conv("x", 4), name="a")
    net.add(Burst(torch.tensor(1.0), max_event=3), net.conv("a", 4), name="b")
    recipe = load("quick", timesteps=4, neuron="burst")
    assert levels_to_be(net.graph(), recipe) == {"a": 8, "b": 12}
    last = len(recipe.passes)
    assert levels_to_be(net.graph(), recipe, last) == {"a": 4, "b": 12}
