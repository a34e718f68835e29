"""snnc demo: three commands on the digits that travel with the package, and the page at the end."""

import tomllib
from pathlib import Path

import pytest

from snnc import cli
from snnc.cli import demo

ROOT = Path(__file__).parent.parent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the demo look at few images."""
    monkeypatch.chdir(tmp_path)
    few = [(*command, *([] if command[0] == "convert" else ["--limit", "30"])) for command in demo._COMMANDS]
    again = tuple("2,8" if part == "1,2,4,8" else part for part in few[2])
    monkeypatch.setattr(demo, "_COMMANDS", (few[0], (*few[1], "--recipe", "quick"), again))
    return tmp_path


def test_the_demo_tells_what_it_types_and_leaves_a_page(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    told = capsys.readouterr().out
    typed = [line.removeprefix("$ ") for line in told.splitlines() if line.startswith("$ ")]
    assert [line.split()[1] for line in typed] == ["convert", "calibrate", "evaluate"]
    assert told.endswith("all of it lies in snnc-demo; the page for a browser: snnc-demo/page.html\n")
    assert "<!DOCTYPE html>" in (quick / "snnc-demo" / "page.html").read_text()
    assert Path.cwd() == quick
    assert cli.main(["demo"]) == 5
    assert capsys.readouterr().err.startswith("error: it exists already @ snnc-demo")


def test_the_demo_fails_as_its_commands_do(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_COMMANDS", (("convert", "none.onnx"), ("calibrate", "model.snn")))
    assert cli.main(["demo", "-q"]) == 5
    assert sorted(path.name for path in (quick / "snnc-demo").iterdir()) == sorted(demo._FILES)


def test_the_digits_travel_in_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {f"examples/digits/{name}": f"snnc/digits/{name}" for name in demo._FILES}
    assert all((ROOT / place).exists() for place in wheel["force-include"])


def test_a_package_without_the_digits_says_so(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_PLACES", (quick / "none",))
    assert cli.main(["demo"]) == 5 and not (quick / "snnc-demo").exists()
    assert "install snnc again" in capsys.readouterr().err


def test_the_demo_gives_its_figures_as_json(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str] = []
    run = cli.main

    def instead(arguments: list[str]) -> int:
        if arguments[0] == "demo":
            return run(arguments)
        typed.append(" ".join((arguments[0], *arguments[-1:])))
        return 0

    monkeypatch.setattr(cli, "main", instead)
    assert cli.main(["demo", "--json", "-o", "there"]) == 0
    assert typed == ["convert -q", "calibrate -q", "evaluate --json"]
