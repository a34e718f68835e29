"""Levels layer by layer: the same bits, given out where they take most of the error away."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnc import cli, ops, recipe
from snnc.artifact import load_conversion
from snnc.calibration import Histogram
from snnc.errors import PreconditionError, UsageError
from snnc.ir import Graph
from snnc.laws.networks import Network, in_memory, random_network, relu
from snnc.neurons import Neuron
from snnc.passes.allocate_levels import AllocateLevels, allocated
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import Passed, apply_recipe
from snnc.recipe import Recipe, recorded
from tests.support import normal, outputs

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"

curves = st.lists(st.floats(0, 100, width=32), min_size=4, max_size=4)
layers = st.lists(st.tuples(curves, st.integers(1, 50)), min_size=1, max_size=4)


@given(layers, st.floats(1, 4))
def test_bits_are_within_the_mean_and_leave_no_more_than_the_same_for_all(
    drawn: list[tuple[list[float], int]], mean: float
) -> None:
    # More levels lose no more.
    errors = {str(index): sorted(curve, reverse=True) for index, (curve, _) in enumerate(drawn)}
    sizes = {str(index): size for index, (_, size) in enumerate(drawn)}
    bits = allocated(errors, sizes, mean)

    def spent(each: dict[str, int]) -> int:
        return sum(sizes[name] * each[name] for name in sizes)

    def left(each: dict[str, int]) -> float:
        return sum(errors[name][each[name] - 1] for name in sizes)

    most = mean * sum(sizes.values())
    assert spent(bits) <= most + 1e-6 and set(bits.values()) <= {1, 2, 3, 4}
    assert left(bits) <= left(dict.fromkeys(sizes, 1))
    # No layer alone could have been given more for what was left over.
    for name, size in sizes.items():
        for more in range(bits[name] + 1, 5):
            fits = spent(bits) + size * (more - bits[name]) <= most - 1e-6
            assert not fits or errors[name][more - 1] >= errors[name][bits[name] - 1]


def test_what_pays_only_in_one_go_is_bought_in_one_go() -> None:
    # The first step of the one takes nothing away, both together more for each neuron than what the other has to offer.
    errors = {"late": [10.0, 10.0, 0.0, 0.0], "early": [4.0, 1.0, 1.0, 1.0]}
    assert allocated(errors, {"late": 1, "early": 1}, 2) == {"late": 3, "early": 1}
    assert allocated(errors, {"late": 1, "early": 1}, 2.5) == {"late": 3, "early": 2}
    best = min(
        (pair for pair in itertools.product(range(1, 5), repeat=2) if sum(pair) <= 5),
        key=lambda pair: errors["late"][pair[0] - 1] + errors["early"][pair[1] - 1],
    )
    assert best == (3, 2)


def test_bits_are_counted_whole() -> None:
    assert allocated({"one": [1.0, 0.0], "other": [1.0, 0.5]}, {"one": 15, "other": 85}, 1.15) == {"one": 2, "other": 1}


@pytest.mark.parametrize("slope", [None, 0.25])
@pytest.mark.parametrize("levels", [1, 3, 15])
def test_the_error_of_a_histogram_is_that_of_its_values(levels: int, slope: float | None) -> None:
    values = normal(4000, 3)
    counts = Histogram.of(values, 1)
    ceiling, slopes = torch.tensor([1.5, torch.inf, 0.7]), None if slope is None else torch.full((3,), slope)
    thresholds = counts.mmse(levels, ceiling, slopes)
    level = torch.floor(values.abs().minimum(ceiling) / thresholds * levels + 0.5).clamp(max=levels)
    lost = (level * thresholds / levels - values.abs().minimum(ceiling)).square()
    lost = torch.where(values > 0, lost, lost * (slope or 0.0) ** 2).sum(0)
    assert torch.allclose(counts.error(thresholds, levels, ceiling, slopes), lost, rtol=0.05)
    # More levels lose less.
    assert bool(
        (counts.error(counts.mmse(2 * levels + 1, ceiling, slopes), 2 * levels + 1, ceiling, slopes) < lost).all()
    )


def applied(seed: int, how: Recipe) -> Passed:
    graph = random_network(seed, relu)
    return apply_recipe(graph, how, in_memory(graph, normal(48, 3, 8, 8)))


def mixed(*changes: str, neuron: str = "graded(levels=7)") -> Recipe:
    return recipe.load("quick", timesteps=1, neuron=neuron, mixed_levels=True, overrides=changes)


@pytest.mark.parametrize("seed", [1, 2])
def test_layers_have_the_levels_that_the_recipe_then_names(seed: int) -> None:
    made = applied(seed, mixed())
    neurons = made.snn.ops(Neuron)
    (step,) = (step for step in made.recipe.passes if isinstance(step, SubstituteNeurons))
    assert set(step.layers) == set(neurons) and step.neuron == "graded(levels=7)"
    sizes = {name: math.prod(made.snn.shapes[name]) for name in neurons}
    bits = {name: neuron.levels(1).bit_length() for name, neuron in neurons.items()}
    assert sum(sizes[name] * bits[name] for name in neurons) <= 3 * sum(sizes.values())
    assert len(set(bits.values())) > 1, "drawn so that it has something to choose"
    # What is written down makes the same network, whether it is chosen again or not.
    chosen = tuple(other for other in made.recipe.passes if not isinstance(other, AllocateLevels))
    for again in (made.recipe, replace(made.recipe, passes=chosen)):
        assert same(applied(seed, again).snn, made.snn)
    without = tuple(each for each in made.recipe.passes if not isinstance(each, AllocateLevels))
    assert same(applied(seed, replace(made.recipe, passes=without)).snn, made.snn)


def same(one: Graph, other: Graph) -> bool:
    tensors = [[*node.op.tensors().values()] for graph in (one, other) for node in graph.nodes.values()]
    half = len(tensors) // 2
    return all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(tensors[:half], tensors[half:], strict=True)
    )


def test_what_is_named_keeps_its_neuron_and_its_options() -> None:
    names = [*applied(1, mixed()).snn.ops(Neuron)]
    given = f"passes.substitute-neurons.layers={{{names[0]}: graded(levels=200)}}"
    made = applied(1, mixed(given, "passes.allocate-levels.mean-bits=2", neuron="graded(levels=7, signed=true)"))
    (step,) = (step for step in made.recipe.passes if isinstance(step, SubstituteNeurons))
    assert made.snn.ops(Neuron)[names[0]].levels(1) == 200
    assert all(step.layers[name].endswith(", signed=true)") for name in names[1:])
    bits = {name: made.snn.ops(Neuron)[name].levels(1).bit_length() for name in names[1:]}
    sizes = {name: math.prod(made.snn.shapes[name]) for name in bits}
    assert sum(sizes[name] * bits[name] for name in bits) <= 2 * sum(sizes.values())


def test_the_same_bits_lose_less_where_they_matter() -> None:
    """A layer of which the outputs see a hundredth, and one that they see whole."""
    net = Network((4, 8, 8))
    for name, scale in (("small", 0.01), ("large", 1.0)):
        net.add(ops.Conv(normal(4, 4, 3, 3, seed=3), None, (1, 1), (1,) * 4, (1, 1)), "x", name=f"{name}_in")
        net.add(ops.Relu(), f"{name}_in", name=name)
        net.add(ops.Conv(normal(2, 4, 1, 1, seed=4) * scale, None, (1, 1), (0,) * 4, (1, 1)), name, name=f"{name}_out")
    net.add(ops.Add(), "small_out", "large_out")
    graph = net.graph()
    samples = in_memory(graph, normal(40, 4, 8, 8))
    lost = []
    for how in (recipe.load("quick", timesteps=1, neuron="graded(levels=7)"), mixed()):
        made = apply_recipe(graph, how, samples)
        x = normal(20, 4, 8, 8, seed=9)
        lost.append(float((outputs(made.snn, x)[0] - outputs(graph, x)[0]).square().mean()))
    found = {name: neuron.levels(1) for name, neuron in made.snn.ops(Neuron).items()}
    assert found["large"] > 7 > found["small"]
    assert lost[1] < 0.5 * lost[0]


def test_neurons_without_levels_of_their_own_are_refused() -> None:
    with pytest.raises(PreconditionError, match="two-phase neurons have as many levels as time steps") as caught:
        applied(0, mixed(neuron="two-phase"))
    assert "--neuron graded" in caught.value.hint
    graph = random_network(0, relu, norms=True)
    with pytest.raises(PreconditionError, match="on samples only"):
        apply_recipe(graph, mixed(), None)
    for change, reason in (
        ("mean-bits=0.5", "from 1 to 8"),
        ("mean-bits=9", "from 1 to 8"),
        ("samples=0", "start at 1"),
    ):
        with pytest.raises(UsageError, match=reason):
            mixed(f"passes.allocate-levels.{change}")
    bare = replace(recipe.load("quick"), passes=recipe.load("quick").passes[:3])
    with pytest.raises(UsageError, match="chooses no thresholds"):
        recipe.override(bare, mixed_levels=True)
    twice = mixed()
    assert recipe.override(twice, mixed_levels=True) == twice


def test_it_is_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = ["--mean", "0.31", "--std", "0.38", "--channels", "gray", "--recipe", "quick", "--timesteps", "1", "-q"]
    data = ["--data", str(DIGITS / "calibration"), "--limit", "64", "--spike-bits", "2"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), *data, *how, "--mixed-levels", "-o", "m.snn"]) == 0
    made = load_conversion(tmp_path / "m.snn")
    levels = {neuron.levels(1) for neuron in made.snn.ops(Neuron).values()}
    assert len(levels) > 1 and levels <= {2**bits - 1 for bits in range(1, 9)}
    names = [recipe.pass_name(step) for step in recorded(made).passes]
    assert names.index("allocate-levels") == names.index("calibrate-thresholds") - 1
    # What was chosen stays when thresholds are chosen on other data.
    assert cli.main(["calibrate", "m.snn", "--data", str(DIGITS / "test"), "--limit", "40", "-q"]) == 0
