"""The public API: every name is there, says what it is, and is what the commands use."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import snnc
from snnc import cli
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.recipe import load

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits"


def test_what_is_public_is_listed_and_nothing_else_is_there() -> None:
    assert set(snnc.__all__) <= set(dir(snnc))
    with pytest.raises(AttributeError, match="module 'snnc' has no attribute 'converted'"):
        snnc.converted  # noqa: B018 - asking is the test


@pytest.mark.parametrize("name", snnc.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    found = getattr(snnc, name)
    text = found.__doc__ or ""
    # A dataclass without a docstring gets its signature.
    assert text.split("\n\n")[0].strip().endswith(".") and not text.startswith(f"{name}(")
    # What it refers to is there after `import snnc` alone.
    for path in re.findall(r"``snnc\.(?!yaml)([\w.]+)", text):
        first, *rest = path.split(".")
        assert first in snnc.__all__, f"snnc.{path}"
        reached = getattr(snnc, first)
        for part in rest:
            reached = getattr(reached, part)


def test_names_mean_the_same_to_types_and_at_run_time() -> None:
    tree = ast.parse((ROOT / "snnc" / "__init__.py").read_text(encoding="utf-8"))
    typed: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("snnc"):
            if node.module == "snnc.version":
                continue
            for alias in node.names:
                if node.module == "snnc":
                    typed[alias.name] = import_module(f"snnc.{alias.name}")
                else:
                    typed[alias.asname or alias.name] = getattr(import_module(node.module), alias.name)
    assert sorted(typed) == snnc.__all__
    assert all(getattr(snnc, name) is value for name, value in typed.items())


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, snnc; dir(snnc); print([m for m in sys.modules if m == 'torch' or m.startswith('snnc.')])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['snnc.version']"


def test_reading_a_file_loads_no_importer_and_no_compiler(converted: Path) -> None:
    loaded = "{'onnx', 'onnxruntime', 'typer', 'torch._dynamo'} & {*sys.modules}"
    code = f"import sys, snnc; snnc.load({str(converted)!r}); print({loaded})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("public") / "model.snn"
    conversion, _ = snnc.convert(str(DIGITS / "model.onnx"), load("quick", timesteps=2))
    snnc.save(conversion, str(path))
    return path


MODEL, DATA = str(DIGITS / "model.onnx"), ("--data", str(DIGITS / "calibration"))


@pytest.mark.parametrize(
    ("name", "module", "attribute", "arguments"),
    [
        ("convert", "actions.convert", "convert", ("convert", MODEL)),
        ("calibrate", "actions.calibrate", "calibrate", ("calibrate", "model.snn", *DATA)),
        ("evaluate", "actions.evaluate", "evaluate", ("evaluate", "model.snn", *DATA)),
        ("save", "artifact", "save_conversion", ("convert", MODEL, "--recipe", "quick", "-o", "other.snn")),
    ],
)
def test_commands_call_the_public_functions(
    name: str,
    module: str,
    attribute: str,
    arguments: tuple[str, ...],
    converted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What is loaded only meanwhile would keep what stands in for the function.
    for path in (ROOT / "snnc" / "actions").glob("[a-z]*.py"):
        import_module(f"snnc.actions.{path.stem}")
    place = import_module(f"snnc.{module}")
    assert getattr(snnc, name) is getattr(place, attribute)

    def called(*_: object, **__: object) -> None:
        raise UsageError(f"{name} was called", hint="")

    monkeypatch.setattr(place, attribute, called)
    monkeypatch.chdir(converted.parent)
    assert cli.main([*arguments, "-q"]) == UsageError.exit_code
    assert f"{name} was called" in capsys.readouterr().err


def test_recipe_and_preprocessing_have_defaults(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: Any) -> Any:
        raise InterruptedError(given)

    for action in ("convert", "calibrate"):
        monkeypatch.setattr(f"snnc.actions.{action}.converted", stop)
    # The snnc.yaml that lies here is for the commands.
    monkeypatch.chdir(DIGITS)
    with pytest.raises(InterruptedError) as caught:
        snnc.convert(DIGITS / "model.onnx", data="images")
    _, recipe, data, preprocessing, *_ = caught.value.args[0]
    assert (recipe, data, preprocessing) == (load("default"), Path("images"), Preprocessing())
    with pytest.raises(InterruptedError) as caught:
        snnc.calibrate(snnc.load(converted).conversion, data="images")
    _, recipe, data, preprocessing, *_ = caught.value.args[0]
    assert (recipe, data, preprocessing) == (load("quick", timesteps=2), Path("images"), Preprocessing())


def test_a_recipe_may_be_given_by_name_or_file(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any) -> Any:
        raise InterruptedError(given)

    for action in ("convert", "calibrate"):
        monkeypatch.setattr(f"snnc.actions.{action}.converted", stop)
    mine = tmp_path / "mine.yaml"
    mine.write_text(load("casc", timesteps=3).to_yaml(), encoding="utf-8")
    conversion = snnc.load(converted).conversion
    for given, wanted in (("casc", load("casc")), (str(mine), load("casc", timesteps=3)), (load("tpp"), load("tpp"))):
        for use in (
            lambda given: snnc.convert(DIGITS / "model.onnx", given),
            lambda given: snnc.calibrate(conversion, given, data="images"),
        ):
            with pytest.raises(InterruptedError) as caught:
                use(given)
            assert caught.value.args[0][1] == wanted
    for wrong in ("cask", ""):
        with pytest.raises(UsageError, match="unknown recipe"):
            snnc.convert(DIGITS / "model.onnx", wrong)


@pytest.mark.parametrize("package", [snnc, snnc.passes, snnc.neurons], ids=lambda package: package.__name__)
def test_the_examples_of_packages_run(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"\n\n((?:    .*\n|\n)+)", package.__doc__)
    monkeypatch.chdir(shutil.copytree(DIGITS, tmp_path / "digits"))
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), package.__name__, "exec"), names)
    shown = {
        snnc: lambda: names["answer"].shape == (64, 10) and names["network"].layers,
        snnc.passes: lambda: (
            snnc.recipe.options(names["steps"][2])["kind"] == "percentile" and names["conversion"].applied[2].changed
        ),
        snnc.neurons: lambda: names["response"].shape == (5, 2, 3) and names["numbers"].any(),
    }
    assert shown[package]()
