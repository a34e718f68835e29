"""What every command has: help in groups, completion, another project file, and ~ where a path is meant."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from snnc import cli, project
from snnc.blocks import Column, Listing, Table
from snnc.cli.application import commands
from snnc.errors import UsageError
from snnc.files import at_home
from snnc.report.faces.terminal import rendered


@pytest.mark.parametrize("asked", [["help"], ["-h"]], ids=str)
def test_help_lists_all_commands(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(asked) == 0
    told = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", told.split("Commands:")[1], re.MULTILINE)
    assert listed == sorted(commands)
    # Each with its whole sentence, within the width of a terminal.
    assert "..." not in told.split("Commands:")[1] and max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize("name", ["export", "sweep"])
def test_help_of_a_command_is_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", name]) == 0
    told = capsys.readouterr().out
    assert cli.main([name, "--help"]) == 0
    assert capsys.readouterr().out == told and told.startswith(f"Usage: snnc {name} ")
    # Of every flag once, whatever its group.
    flags = re.findall(r"^  (?:-\w, )?(--[a-z][\w-]*)", told, re.MULTILINE)
    assert len(flags) == len(set(flags)) and {"--config", "--plugin", "--memory", "--help"} <= set(flags)
    assert all(len(line) <= 80 for line in told.splitlines())


def test_options_stand_in_groups_with_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "convert"]) == 0
    told = capsys.readouterr().out
    groups = {block.partition(":\n")[0]: block for block in re.split(r"\n\n(?=\S)", told)}
    assert "--mean" in groups["What is done to images"] and "--recipe" in groups["How to convert"]
    assert "--mean" not in groups["Options"] and "one-step|synchronous|pipelined" in groups["How to convert"]


def test_a_command_that_there_is_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "konvert"]) == 2
    assert capsys.readouterr().err.startswith("error: no such command 'konvert'")


def test_shells_complete_commands_and_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_SNNC_COMPLETE", "complete_bash")
    for typed, place, wanted in (("snnc sp", "1", ["spikes"]), ("snnc convert --lat", "2", ["--latency"])):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", place)
        with pytest.raises(SystemExit):
            cli.main([])
        assert capsys.readouterr().out.split() == wanted


def test_another_project_file_is_read_from_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "mine.yaml").write_text("model: net.onnx\ncalibration: {data: images}\nplugins: [extra.py]\n")
    monkeypatch.chdir(here)
    named = Path("..", "there", "mine.yaml")
    with project.named(named):
        settings = project.read(Path())
        assert project.named_plugins(Path()) == (Path("..", "there", "extra.py"),)
    assert settings.model == named.with_name("net.onnx") and settings.calibration.data == named.with_name("images")
    assert project.read(Path()) == project.Project()
    (there / "mine.yaml").write_text("recipes: quick\n")
    assert cli.main(["convert", "net.onnx", f"--config={named}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: unknown option 'recipes' @ {named}")
    assert cli.main(["convert", "net.onnx", "--config", "none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: no such project file @ none.yaml")
    with pytest.raises(UsageError), project.named(there):
        pass


def test_home_is_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert at_home(Path("~/a")) == tmp_path / "a" and at_home(Path("a~/~")) == Path("a~/~")
    assert at_home(Path("~nobody-of-this-name/a")) == Path("~nobody-of-this-name/a")
    (tmp_path / "snnc.yaml").write_text("model: ~/net.onnx\nevaluation: {data: ~/test}\n")
    settings = project.read(Path())
    assert settings.model == tmp_path / "net.onnx" and settings.evaluation.data == tmp_path / "test"
    (tmp_path / "net.onnx").write_bytes(b"")
    assert cli.main(["convert", "~/net.onnx", "--data=~/none", "-o", "~/out/x.snn"]) == 5
    assert f"@ {tmp_path}/out/x.snn" in capsys.readouterr().err


def test_tables_that_do_not_fit_fold_and_what_is_copied_stays_on_one_line() -> None:
    names = [f"figure {number}" for number in range(10)]
    columns = [(Column(name), lambda row, name=name: f"{row} [{name[-1]}.00]") for name in names]
    table = Table.of("", [*columns, (Column("unknown"), lambda row: "-")], [1, 2])
    command = f"snnc convert {'x' * 120}"
    shown = {}
    for width in (80, 200):
        console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
        console.print(rendered([table, Listing((command,))]), crop=False)
        shown[width] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert shown[80][-1] == shown[200][-1] == command
    assert len(shown[200]) == 1 + 2 + 1 and shown[200][0].split()[:2] == ["figure", "0"]
    folded = shown[80][:-1]
    assert all(len(line) <= 80 for line in folded) and "unknown" not in " ".join(folded)
    # No word is broken: every cell stands below its title, and the first of its row stands in every part.
    heads = [place for place, line in enumerate(folded) if line.startswith("figure 0")]
    assert len(heads) > 1 and heads == [place * 4 for place in range(len(heads))]
    for name in names[1:]:
        (place,) = (place for place in heads if name in folded[place])
        end = folded[place].index(name) + len(name)
        assert [folded[place + row][:end].split("  ")[-1].strip() for row in (1, 2)] == [
            f"{row} [{name[-1]}.00]" for row in (1, 2)
        ]
