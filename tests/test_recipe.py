"""Recipes: read strictly, written in full, read back equal."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from snnc.errors import DataError, SnncError, UsageError
from snnc.passes import passes
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_residual_noise import CorrectResidualNoise
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.recipe import Recipe, from_plain, load, options, pass_name, shipped
from snnc.registry import suggest
from snnc.schedule import Schedule

FULL: dict[str, Any] = {"name": "mine", "timesteps": 4, "passes": ["calibrate-thresholds", "substitute-neurons"]}


def of(recipe: Recipe, kind: type) -> Any:
    return next(step for step in recipe.passes if isinstance(step, kind))


# Reading back.


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_are_read_back(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert from_plain(yaml.safe_load(recipe.to_yaml())) == recipe
    path = tmp_path / "written.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load(str(path)) == recipe


def test_the_default_is_shipped() -> None:
    assert "default" in shipped()
    assert pass_name(load("default").passes[-1]) == "substitute-neurons"


@pytest.mark.parametrize("name", passes)
def test_every_option_of_every_pass_is_written_and_read(name: str) -> None:
    step = passes[name]()
    recipe = Recipe("one", 3, (step,))
    (written,) = yaml.safe_load(recipe.to_yaml())["passes"]
    assert list(written) == [name]
    assert set(written[name]) == {field.name.replace("_", "-") for field in dataclasses.fields(step)}
    assert written[name] == options(step)
    assert from_plain({"timesteps": 3, "name": "one", "passes": [written]}) == recipe
    assert from_plain({"timesteps": 3, "name": "one", "passes": [name]}) == recipe
    assert from_plain({"timesteps": 3, "name": "one", "passes": [{name: None}]}) == recipe
    assert pass_name(step) == name


def test_options_that_are_not_the_default_are_read_back() -> None:
    steps = (
        CalibrateThresholds("percentile", "layer", "gaussian", 99.0),
        CorrectResidualNoise(False, True, (1e-5, 1.0)),
        SubstituteNeurons("if", "two-phase"),
    )
    recipe = Recipe("other", 1, steps)
    assert from_plain(yaml.safe_load(recipe.to_yaml())) == recipe


# Refusals.


def refused(data: object, place: str, *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_plain(data)
    assert caught.value.place == place
    assert caught.value.hint
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("data", [None, [], "default", 3])
def test_a_recipe_is_a_mapping(data: object) -> None:
    refused(data, "recipe", "mapping", "timesteps")


@pytest.mark.parametrize("given", [None, [], {}, "default", 3, {"fold-batch-norm": {}}])
def test_passes_are_a_list(given: object) -> None:
    refused({"passes": given}, "passes", "needs passes", "fold-batch-norm")


@pytest.mark.parametrize("timesteps", [0, -1, "4", 2.0, True, None, [4]])
def test_time_steps_are_a_whole_number_from_one(timesteps: object) -> None:
    refused({**FULL, "timesteps": timesteps}, "timesteps", repr(timesteps), "whole number")


@pytest.mark.parametrize("steps", [-1, "4", 2.0, True, None, [4], 70000])
@pytest.mark.parametrize("name", ["sleep", "rehearsal"])
def test_other_steps_are_a_whole_number_from_zero(name: str, steps: object) -> None:
    with pytest.raises(UsageError) as caught:
        from_plain({**FULL, name: steps})
    assert repr(steps) in caught.value.message
    assert caught.value.hint
    assert from_plain({**FULL, name: 0}) == from_plain(FULL)


def test_a_recipe_says_how_long_the_network_runs() -> None:
    recipe = from_plain({**FULL, "sleep": 16, "rehearsal": 8})
    assert recipe.schedule == Schedule(4, 16, 8)
    assert yaml.safe_load(recipe.to_yaml())["sleep"] == 16
    assert from_plain(yaml.safe_load(recipe.to_yaml())) == recipe
    assert load("default", sleep=5, overrides=["sleep=9", "rehearsal=3"]).schedule == Schedule(8, 5, 3)
    with pytest.raises(UsageError, match="70000 time steps in all"):
        from_plain({**FULL, "timesteps": 35000, "sleep": 35000})


@pytest.mark.parametrize(
    ("entry", "place", "words"),
    [
        ("fold-batchnorm", "passes[1]", ("unknown pass 'fold-batchnorm'", "did you mean 'fold-batch-norm'?")),
        (7, "passes[1]", ("expected one pass, found 7",)),
        ([], "passes[1]", ("expected one pass",)),
        ({}, "passes[1]", ("expected one pass",)),
        ({"a": {}, "b": {}}, "passes[1]", ("expected one pass",)),
        ({5: {}}, "passes[1]", ("unknown pass 5",)),
        ({"calibrate-thresholds": "mmse"}, "passes[1].calibrate-thresholds", ("expected a mapping", "kind")),
        ({"calibrate-thresholds": ["mmse"]}, "passes[1].calibrate-thresholds", ("expected a mapping", "kind")),
        (
            {"calibrate-thresholds": {"percentil": 9}},
            "passes[1].calibrate-thresholds",
            ("unknown option 'percentil'", "did you mean 'percentile'?"),
        ),
        ({"calibrate-thresholds": {"kind": "best"}}, "passes[1].calibrate-thresholds.kind", ("'best'", "mmse")),
        ({"calibrate-thresholds": {"percentile": "x"}}, "passes[1].calibrate-thresholds.percentile", ("'x'",)),
        ({"calibrate-thresholds": {"percentile": 0}}, "passes[1].calibrate-thresholds", ("above 0",)),
        ({"correct-residual-noise": {"weights": 3}}, "passes[1].correct-residual-noise.weights", ("3",)),
        ({"correct-residual-noise": {"damping": [None]}}, "passes[1].correct-residual-noise.damping[0]", ("None",)),
        (
            {"substitute-neurons": {"neuron": "iff"}},
            "passes[1].substitute-neurons.neuron",
            ("unknown neuron 'iff'", "if"),
        ),
        (
            {"substitute-neurons": {"signed-neuron": 2}},
            "passes[1].substitute-neurons.signed-neuron",
            ("2",),
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_pass_is_said_with_its_path(entry: object, place: str, words: tuple[str, ...]) -> None:
    refused({**FULL, "passes": ["fold-batch-norm", entry]}, place, *words)


def test_unknown_keys_are_refused() -> None:
    refused({**FULL, "timestep": 3}, "recipe", "unknown option 'timestep'", "did you mean 'timesteps'?")


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("passes: [fold]", encoding="utf-8")
    with pytest.raises(UsageError, match="unknown pass 'fold'") as caught:
        load(str(path))
    assert caught.value.place == f"{path}: passes[0]"
    path.write_text("passes: [", encoding="utf-8")
    with pytest.raises(UsageError, match="not valid YAML"):
        load(str(path))
    with pytest.raises(DataError, match="no such file"):
        load(str(tmp_path / "missing.yaml"))
    with pytest.raises(UsageError, match="unknown recipe 'defualt'") as caught:
        load("defualt")
    assert "did you mean 'default'?" in caught.value.hint


# What is set on top.


def test_options_set_on_top_win() -> None:
    recipe = load(
        "default",
        timesteps=3,
        neuron="if",
        overrides=[
            "passes.calibrate-thresholds.kind=max",
            "passes.correct-residual-noise.weights=false",
            "timesteps=9",
        ],
    )
    assert recipe.timesteps == 3
    assert of(recipe, SubstituteNeurons).neuron == "if"
    assert of(recipe, CalibrateThresholds).kind == "max"
    assert of(recipe, CorrectResidualNoise).weights is False
    assert load("default", overrides=["timesteps=9"]).timesteps == 9
    assert [type(step) for step in recipe.passes] == [type(step) for step in load("default").passes]


def test_setting_one_option_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("passes: [{calibrate-thresholds: {per: layer, percentile: 98}}]", encoding="utf-8")
    step = of(load(str(path), overrides=["passes.calibrate-thresholds.percentile=97"]), CalibrateThresholds)
    assert (step.per, step.percentile) == ("layer", 97)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("passes.calibrate-thresholds.kind", "expected KEY=VALUE"),
        ("kind=max", "unknown option 'kind'"),
        ("passes.kind=max", "unknown option 'passes.kind'"),
        ("name=x", "unknown option 'name'"),
        ("passes.calibrate.kind=max", "no pass 'calibrate'"),
        ("passes.calibrate-thresholds.kinds=max", "unknown option 'kinds'"),
        ("passes.calibrate-thresholds.kind=best", "invalid value 'best'"),
        ("passes.calibrate-thresholds.kind=[", "no YAML value"),
        ("timesteps=0", "0 time steps"),
        ("timesteps=70000", "70000 time steps"),
        ("timesteps=many", "invalid value 'many'"),
        ("=", "unknown option ''"),
        ("", "expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused(override: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load("default", overrides=[override])
    assert words in str(caught.value)
    assert caught.value.hint
    assert caught.value.place


@pytest.mark.parametrize(
    "text", ["passes: 3", "passes: [[a]]", "passes: [{substitute-neurons: if}]", "passes: {a: b}", "passes: x", "{}"]
)
def test_a_broken_recipe_is_refused_with_options_on_top(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    for given in ({"neuron": "if"}, {"overrides": ["passes.substitute-neurons.neuron=if"]}, {}):
        with pytest.raises(UsageError) as caught:
            load(str(path), **given)
        assert caught.value.hint


def test_a_recipe_needs_a_time_step() -> None:
    with pytest.raises(UsageError, match="0 time steps @ timesteps"):
        Recipe("none", 0, ())


@pytest.mark.parametrize("steps", [2.5, 2.0, True, "4"])
@pytest.mark.parametrize("name", ["timesteps", "sleep", "rehearsal"])
def test_a_recipe_is_made_of_whole_steps(name: str, steps: object) -> None:
    with pytest.raises(UsageError, match=f"invalid value {steps!r} @ {name}"):
        Recipe("odd", **{"timesteps": 2, "passes": (), name: steps})


@pytest.mark.parametrize("step", [..., "fold-batch-norm", CalibrateThresholds], ids=str)
def test_a_recipe_is_made_of_passes(step: object) -> None:
    with pytest.raises(UsageError, match=r"expected a pass, found .* @ passes\[1\]") as caught:
        Recipe("odd", 2, (CalibrateThresholds(), step))
    assert "make one" in caught.value.hint


# Registries and errors.


def test_a_registry_finds_its_members_and_says_what_was_meant() -> None:
    assert list(passes) == sorted(passes)
    assert len(passes) == len(list(passes)) > 0
    assert "fold-batch-norm" in passes
    assert "nothing" not in passes
    with pytest.raises(UsageError, match="unknown pass 'fold-batch'") as caught:
        passes["fold-batch"]
    assert caught.value.hint == "did you mean 'fold-batch-norm'?"
    with pytest.raises(ValueError, match="another pass is called 'fold-batch-norm'"):
        passes.register("fold-batch-norm")(CalibrateThresholds)
    assert suggest("zzz", ["b", "a"]) == "known: a, b"


def test_every_error_has_its_own_exit_code() -> None:
    kinds = SnncError.__subclasses__()
    assert len(kinds) >= 5
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert UsageError("no", place="here", hint="try").line == "no @ here"
    assert UsageError("no", hint="try").line == "no"
