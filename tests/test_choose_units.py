"""The units of refining neurons, chosen by what the outputs lose."""

import dataclasses

import pytest

from snnc import recipe
from snnc.errors import PreconditionError
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.laws.networks import calibration, in_memory, random_network, relu
from snnc.neurons.refine import Refine
from snnc.passes.choose_units import ChooseUnits
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import Passed, apply_recipe
from snnc.recipe import Recipe
from snnc.run import Program
from snnc.schedule import Schedule
from tests.support import normal

# In units that suit them badly.
NEURONS = [
    ("refine(levels=15, max-event=3, units=[4, 1], rest=0)", 1),
    ("refine(levels=4, max-event=1, units=[8, 4, 2, 1], rest=0)", 3),
    # Of more steps than there are.
    ("refine(levels=15, max-event=3, units=[8, 4, 1], rest=0)", 1),
]
GRAPH = random_network(2, relu)


def choosing(neuron: str, sleep: int, *step: ChooseUnits) -> Recipe:
    """The recipe quick, without what corrects by the same trains behind neurons, that may choose units before."""
    how = recipe.load("quick", timesteps=1, sleep=sleep, neuron=neuron)
    return dataclasses.replace(how, passes=(*how.passes[:-2], *step, how.passes[-2]))


def made(how: Recipe) -> Passed:
    return apply_recipe(GRAPH, how, in_memory(GRAPH, normal(60, 3, 8, 8)))


def lost(passed: Passed) -> float:
    x = Feeds({"x": normal(200, 3, 8, 8, seed=5)})
    (wanted,), (found,) = Program(GRAPH)(x).values(), Program(passed.snn, passed.recipe.schedule)(x).values()
    return float((found - wanted).square().mean() / wanted.square().mean())


def units(snn: Graph) -> set[tuple[tuple[int, ...], int]]:
    return {(neuron.units, neuron.rest) for neuron in snn.ops(Refine).values()}


@pytest.mark.parametrize(("neuron", "sleep"), NEURONS)
def test_units_are_chosen_that_lose_less(neuron: str, sleep: int) -> None:
    stated, chosen = made(choosing(neuron, sleep)), made(choosing(neuron, sleep, ChooseUnits(images=30)))
    assert lost(chosen) < 0.8 * lost(stated)
    assert len(units(chosen.snn)) == 1 and units(chosen.snn) != units(stated.snn)
    for name, one in stated.snn.ops(Refine).items():
        other = chosen.snn.ops(Refine)[name]
        assert other.top == one.top and other.threshold.equal(one.threshold)
    # The recipe has what was chosen, and what is best already stays.
    again = made(chosen.recipe)
    assert again.recipe == chosen.recipe and units(again.snn) == units(chosen.snn)


def test_layers_have_the_same_units_whatever_their_levels() -> None:
    how = choosing(NEURONS[0][0], 1, ChooseUnits())
    layers = {"relu_2": "refine(levels=7, units=[4, 1], rest=0)", "relu_9": "cif"}
    assert layers.keys() <= GRAPH.nodes.keys()
    passes = (dataclasses.replace(step, layers=layers) for step in how.passes if isinstance(step, SubstituteNeurons))
    snn = made(dataclasses.replace(how, passes=(*how.passes[:-1], *passes))).snn
    tops = {neuron.top for neuron in snn.ops(Refine).values()}
    assert tops == {7, 15} and len({one for one, _ in units(snn)}) == 1


def test_what_cannot_be_chosen_stays_or_is_refused() -> None:
    how = choosing(*NEURONS[0], ChooseUnits())
    with pytest.raises(PreconditionError, match="cif neurons have no units"):
        made(choosing("cif", 1, ChooseUnits()))
    with pytest.raises(ValueError, match="start at 1"):
        ChooseUnits(images=0)
    with pytest.raises(PreconditionError, match="does not come next"):
        made(dataclasses.replace(how, passes=(*how.passes[:-3], ChooseUnits(), how.passes[-3])))
    step, look = ChooseUnits(), calibration(GRAPH, normal(9, 3, 8, 8), 1)
    blind = dataclasses.replace(look.without_samples(), schedule=Schedule(1, 1))
    last = how.passes[-1:]
    assert step.settled(GRAPH, look, last) == step.settled(GRAPH, blind, last) == last
    assert step.runs(60, Schedule(1)) == 0 < step.runs(5, Schedule(1, 1)) < step.runs(60, Schedule(1, 1))
