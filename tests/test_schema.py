"""The schemas of what users write accept what is read, and refuse what is not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from snnc import cli, project, recipe
from snnc.actions.schema import SCHEMAS, schema_of
from snnc.measure.figures import limits
from snnc.passes import passes
from snnc.validation import keys
from tests.documents import DOCUMENTS, EXAMPLES, ROOT, blocks

RECIPES = sorted((ROOT / "snnc" / "recipes").glob("*.yaml"))
PROJECTS = sorted(EXAMPLES.rglob("snnc.yaml"))
WRITTEN = [block for document in DOCUMENTS for block in blocks(document) if block.file.endswith(".yaml")]


def validator(kind: str) -> Draft202012Validator:
    found = schema_of(kind)
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


CONFIG, RECIPE = validator("config"), validator("recipe")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_as_shipped_and_spelled_out(path: Path) -> None:
    RECIPE.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    # Lists and texts as JSON has them.
    RECIPE.validate(json.loads(json.dumps(recipe.load(path.stem).plain())))


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_project_files_of_examples_are_valid(path: Path) -> None:
    CONFIG.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", WRITTEN, ids=lambda block: block.place)
def test_documents_of_the_guide_are_valid(block: Any) -> None:
    data = yaml.safe_load(block.text)
    for job in data.get("jobs", [data]):
        if "passes" in job:
            RECIPE.validate(job)
        else:
            CONFIG.validate({key: value for key, value in job.items() if key not in {"name", "options"}})


def test_the_template_is_valid_with_all_that_it_comments_out() -> None:
    lines = [line.removeprefix("# ") for line in project.template("model.onnx").splitlines()]
    settings = yaml.safe_load("\n".join(line for line in lines if re.match(r" *[a-z][a-z.-]*:( |$)", line)))
    assert {"gates", "preprocessing", "set", "export"} <= set(settings)
    CONFIG.validate(settings)


def test_all_keys_are_described() -> None:
    config, passed = schema_of("config")["properties"], schema_of("recipe")["properties"]
    assert set(config) == set(keys(project.Project)) and set(passed) == set(keys(recipe.Recipe))
    assert set(config["gates"]["properties"]) == {*limits(), "timesteps", "proven"}
    named = passed["passes"]["items"]["anyOf"][1]["properties"]
    assert set(named) == set(passes)
    assert all(set(each["anyOf"][0]["properties"]) == set(keys(passes[name])) for name, each in named.items())


@pytest.mark.parametrize(
    "data",
    [
        {"modle": "a.onnx"},
        {"preprocessing": {"mean": "dark"}},
        {"preprocessing": {"resiz": 3}},
        {"gates": {"max-dorp": 1}},
        {"recipe": "quik"},
        {"task": {"detection": {"layout": "yolov9"}}},
        {"export": {"nir": {"profile": "portible"}}},
        {"calibration": {"folder": "a"}},
    ],
    ids=str,
)
def test_what_is_not_read_is_not_valid(data: dict[str, Any], tmp_path: Path) -> None:
    assert not CONFIG.is_valid(data)


@pytest.mark.parametrize(
    "data",
    [
        {"passes": []},
        {"passes": ["fold-batchnorm"]},
        {"passes": [{"distill": {"epoch": 1}}]},
        {"passes": ["distill"], "steps": 4},
        {"passes": ["distill"], "training": {"optimizer": "adam"}},
    ],
    ids=str,
)
def test_what_is_no_recipe_is_not_valid(data: dict[str, Any]) -> None:
    assert not RECIPE.is_valid(data)


def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in SCHEMAS:
        assert cli.main(["schema", kind]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema_of(kind)))
    assert cli.main(["schema", "recipes"]) == 2
    assert "did you mean 'recipe'?" in capsys.readouterr().err
