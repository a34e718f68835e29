"""Plug-ins: what a file or a package adds works from the command line, and what is wrong with one is said in a line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snnc import cli, plugins, project
from snnc.artifact import load_conversion, plugins_needed
from snnc.errors import ModelError, UsageError
from snnc.laws import __main__ as laws
from snnc.neurons import neurons
from tests.documents import forgotten
from tests.plugin_files import FIGURE, FORMAT, NEURON, OPERATION, PASS, RECIPE, SECTION, SOURCE, TASK, rows, soft

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
PIXELS = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; what is registered meanwhile is forgotten again."""
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield tmp_path


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def evaluated(model: str, capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    data = ("--data", str(DIGITS / "test"), "--limit", "40")
    assert cli.main(["evaluate", model, *data, "--json", *flags]) == 0
    return said(capsys)["rows"][0]


def test_a_neuron_and_a_pass_work_in_every_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ("--plugin", write(folder, "mine.py", NEURON + PASS))
    write(folder, "mine.yaml", RECIPE)
    model = str(DIGITS / "model.onnx")
    how = ("--recipe", "mine.yaml", "--data", str(DIGITS / "calibration"), "--limit", "24", *PIXELS)
    assert cli.main(["convert", model, "-o", "mine.snn", *how, *mine, "--json"]) == 0
    report = said(capsys)["report"]
    assert {layer["neuron"] for layer in report["layers"]} == {"mine"}
    assert {"name": "raise-thresholds", "options": {"factor": 1.25}}.items() <= report["passes"][4].items()
    row = evaluated("mine.snn", capsys, *mine)

    # The same with our own members, and thresholds as large.
    ours = RECIPE.replace("neuron: mine", "neuron: if").replace("  - raise-thresholds: {factor: 1.25}\n", "")
    write(folder, "ours.yaml", ours)
    assert cli.main(["convert", model, "-o", "ours.snn", *how, "--recipe", "ours.yaml", "-q"]) == 0
    assert evaluated("ours.snn", capsys)["spikes"] > row["spikes"] > 0
    write(folder, "other.yaml", RECIPE.replace("1.25", "1.0"))
    assert cli.main(["convert", model, "-o", "same.snn", *how, "--recipe", "other.yaml", *mine, "-q"]) == 0
    assert evaluated("same.snn", capsys, *mine) == evaluated("ours.snn", capsys)

    assert cli.main(["inspect", "mine.snn", *mine, "-q"]) == 0
    assert cli.main(["report", "mine.snn", "--markdown", "mine.md", *mine, "-q"]) == 0
    assert "raise-thresholds" in (folder / "mine.md").read_text(encoding="utf-8")
    calibration = ("--data", str(DIGITS / "calibration"), "--limit", "32")
    assert cli.main(["calibrate", "mine.snn", *calibration, *mine, "-q"]) == 0
    assert cli.main(["export", "mine.snn", "--format", "torch", "-o", "mine.pt2", *mine, "-q"]) == 0
    for form in ("onnx", "nir"):
        assert cli.main(["export", "mine.snn", "--format", form, "-o", f"mine.{form}", *mine]) == ModelError.exit_code
        error = capsys.readouterr().err
        assert error.startswith("error: nobody has ")
        assert "Relu" in error


def test_an_operation_works_in_every_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", OPERATION))
    model = str(soft(folder))
    how = ("--recipe", "quick", "--data", str(DIGITS / "calibration"), "--limit", "64", *PIXELS)
    assert cli.main(["convert", model, *how]) == ModelError.exit_code
    assert "soft (Imputer): a part of the preparation of tables" in capsys.readouterr().err
    assert cli.main(["convert", model, *how, *own, "-q"]) == 0
    assert evaluated("soft.snn", capsys, *own)["agreement"] > 80
    assert cli.main(["export", "soft.snn", "--format", "torch", "-o", "soft.pt2", *own, "-q"]) == 0
    for form in ("onnx", "nir"):
        assert cli.main(["export", "soft.snn", "--format", form, "-o", f"soft.{form}", *own]) == ModelError.exit_code
        assert capsys.readouterr().err.startswith("error: ")


def test_a_section_is_in_every_form_of_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", SECTION))
    told = "The names of all layers have 28 letters."
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", "a.snn", *own]) == 0
    assert told in capsys.readouterr().out
    assert cli.main(["report", "a.snn", *own, "--html", "a.html", "--markdown", "a.md", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["length"] == {"letters": 28}
    assert told in (folder / "a.html").read_text(encoding="utf-8")
    assert told in (folder / "a.md").read_text(encoding="utf-8")


def test_a_task_is_stated_by_flag_or_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", TASK))
    model = str(DIGITS / "model.onnx")
    assert cli.main(["convert", model, "-o", "a.snn", *PIXELS, *own, "--task", "remainder", "-q"]) == 0
    assert plugins_needed(load_conversion("a.snn")) == ["own"]
    # It is kept with the network.
    scores = evaluated("a.snn", capsys, *own)["scores"]
    assert scores["right-remainder"]["value"] > 80
    assert scores["same-remainder"]["value"] > 80
    assert evaluated("a.snn", capsys, *own, "--task", "classification")["accuracy"] is not None
    write(folder, "snnc.yaml", "plugins: [own.py]\ntask: {remainder: {modulus: 1}}\n")
    assert evaluated("a.snn", capsys)["scores"]["right-remainder"]["value"] == 100
    write(folder, "snnc.yaml", "plugins: [own.py]\ntask: {remainder: {moduls: 1}}\n")
    assert cli.main(["evaluate", "a.snn", "--data", str(DIGITS / "test")]) == 2
    assert "unknown option 'moduls'" in capsys.readouterr().err


def test_a_format_has_flags_and_keys_and_is_verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", FORMAT))
    convert = ["convert", str(DIGITS / "model.onnx"), "-o", "a.snn", "--recipe", "quick", "-q"]
    assert cli.main([*convert, *own, "--export", "thresholds"]) == 0
    written = json.loads((folder / "a.thresholds.json").read_text(encoding="utf-8"))
    assert len(written) == 4 and all(value == round(value, 3) for value in written.values())
    export = ["export", "a.snn", "--format", "thresholds", "-o", "b.json"]
    assert cli.main([*export, *own, "--digits", "1", "--verify", "--data", str(DIGITS / "test"), "--json"]) == 0
    (found,) = said(capsys)["verified"]
    assert (found["variant"], found["verdict"], found["equal"]) == ("1 digits", "passed", 100)
    write(folder, "snnc.yaml", "plugins: [own.py]\nexport: {thresholds: {digits: 2}}\n")
    assert cli.main([*export, "-q"]) == 0
    assert all(
        value == round(value, 2) for value in json.loads((folder / "b.json").read_text(encoding="utf-8")).values()
    )
    assert cli.main(["export", "--help"]) == 0
    assert "Of thresholds: How many digits a threshold has." in " ".join(capsys.readouterr().out.split())


def test_a_figure_is_a_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", FIGURE))
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", "a.snn", "-q"]) == 0
    data = ("a.snn", "--data", str(DIGITS / "test"), "--limit", "40", *PIXELS)
    assert cli.main(["evaluate", *data, *own, "--max-additions", "1e9", "-q"]) == 0
    assert cli.main(["evaluate", *data, *own, "--max-additions", "1", "-q"]) == 4
    assert "max-additions" in capsys.readouterr().err
    write(folder, "snnc.yaml", "plugins: [own.py]\ngates: {max-additions: 1}\n")
    assert cli.main(["evaluate", *data, "-q"]) == 4


def test_a_source_is_read_by_every_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--plugin", write(folder, "own.py", SOURCE))
    model, data = str(DIGITS / "model.onnx"), str(rows(folder / "digits.rows", 4))
    assert cli.main(["convert", model, "-o", "a.snn", "--recipe", "quick", "--data", data, *PIXELS, *own, "-q"]) == 0
    assert cli.main(["evaluate", "a.snn", "--data", data, *own, "--json"]) == 0
    evaluation = said(capsys)
    assert evaluation["samples"] == 40
    assert evaluation["reference"]["accuracy"] > 90
    # The network can be read without it.
    assert plugins_needed(load_conversion("a.snn")) == []


@pytest.mark.parametrize("text", [NEURON + PASS, OPERATION], ids=["neuron", "operation"])
def test_a_network_names_the_plug_ins_it_needs(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "mine.py", text)
    write(folder, "mine.yaml", RECIPE)
    model, recipe = (soft(folder), "quick") if text is OPERATION else (DIGITS / "model.onnx", "mine.yaml")
    assert cli.main(["convert", str(model), "-o", "a.snn", "--recipe", recipe, "--plugin", "mine.py", "-q"]) == 0
    del sys.modules["snnc_plugins.mine"]
    for command in (["evaluate", "a.snn", "--data", str(DIGITS / "test")], ["inspect", "a.snn"], ["report", "a.snn"]):
        assert cli.main(command) == ModelError.exit_code == 3
        error = capsys.readouterr().err
        assert "needs the plug-in 'mine', not loaded here @ a.snn" in error
        assert "--plugin mine.py" in error
        assert "damaged" not in error
    write(folder, "snnc.yaml", "plugins: [mine.py]\n")
    assert cli.main(["inspect", "a.snn", "-q"]) == 0


def test_a_pass_alone_is_needed_to_calibrate_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ("--plugin", write(folder, "mine.py", PASS))
    write(folder, "mine.yaml", RECIPE.replace("neuron: mine", "neuron: if"))
    how = ("-o", "a.snn", "--recipe", "mine.yaml", "-q")
    assert cli.main(["convert", str(DIGITS / "model.onnx"), *how, *mine]) == 0
    del sys.modules["snnc_plugins.mine"]
    assert cli.main(["calibrate", "a.snn", "--data", str(DIGITS / "calibration")]) == ModelError.exit_code
    assert "needs the plug-in 'mine'" in capsys.readouterr().err


def test_what_is_snncs_own_needs_no_plug_in(folder: Path) -> None:
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", "a.snn", "-q"]) == 0
    assert plugins_needed(load_conversion("a.snn")) == []
    assert {plugins.origin(kind) for kind in neurons.values()} == {""}


BROKEN = {
    "syntax.py": ("x = (", "SyntaxError: '(' was never closed @ syntax.py:1"),
    "raises.py": ("\n1 / 0", "ZeroDivisionError: division by zero @ raises.py:2"),
    "exits.py": ("import sys\nsys.exit(3)", "SystemExit: 3 @ exits.py:2"),
    "unknown.py": ("from snnc import nothing", "ImportError: cannot import name 'nothing'"),
    "taken.py": (NEURON.replace('"mine"', '"if"'), "another neuron is called 'if'"),
    "overwrites.py": (SECTION.replace('"length"', '"summary"'), "a section with data cannot be called 'summary'"),
    "bytes.py": (b"\x00\xff", "SyntaxError"),
    "odd.py": ("class Odd(BaseException): ...\nraise Odd('x')", "Odd: x @ odd.py:2"),
    "abstract.py": (NEURON.replace("def advance", "def other"), "'Mine' is no operation: it lacks advance"),
    **{
        f"{registry}_of_nothing.py": (
            f"from {module} import {registry}\n@{registry}.register('nothing')\nclass Nothing: ...",
            f"it is no class with the base {base} @ {registry}_of_nothing.py:2",
        )
        for module, registry, base in (
            ("snnc.neurons", "neurons", "Op"),
            ("snnc.passes", "passes", "Pass"),
            ("snnc.tasks", "tasks", "Task"),
            ("snnc.formats.format", "formats", "Format"),
            ("snnc.report.sections", "sections", "Section"),
            ("snnc.data.source", "sources", "Source"),
            ("snnc.data.recordings.recording", "recordings", "Recording"),
        )
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_is_one_line_with_a_hint(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = BROKEN[name]
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for _ in range(2):
        assert cli.main(["env", "--plugin", name]) == UsageError.exit_code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: cannot load the plug-in: ")
        assert message in error
        assert "hint:  mend it" in error
        assert error.count("\n") == 2


_WEIGHTS = """\
from snnc.ops import Linear
        return graph.with_ops({{{{n: op.map_tensors(lambda t: {}) for n, op in graph.ops(Linear).items()}}}})"""


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("1 / 0", 2, "the plug-in failed: ZeroDivisionError: division by zero @ fails.py:{line}"),
        ("raise SystemExit(0)", 2, "the plug-in failed: SystemExit: 0 @ fails.py:{line}"),
        (
            "graph.with_ops({{'nowhere': 3}})",
            2,
            "the plug-in failed: ValueError: no node is called 'nowhere' @ fails.py",
        ),
        ("return None", 6, "raise-thresholds returned no graph"),
        (
            "return graph.map_tensors(lambda t: t.double())",
            6,
            "raise-thresholds made what is no finite number of single ",
        ),
        (_WEIGHTS.format("t / 0"), 6, "raise-thresholds made what is no finite number of single "),
        (_WEIGHTS.format("t[:1]"), 6, "raise-thresholds "),
    ],
)
def test_a_pass_that_fails_is_told_at_its_line(
    folder: Path, body: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "layers = graph.ops(QuantizedRelu).items()"
    line = PASS[: PASS.index(first)].count("\n") + 1
    write(folder, "fails.py", PASS.replace(first, f"{body.format()}\n        {first}"))
    write(folder, "recipe.yaml", RECIPE.replace("neuron: mine", "neuron: if"))
    flags = ("--plugin", "fails.py", "--recipe", "recipe.yaml")
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", "x.snn", *flags]) == code
    error = capsys.readouterr().err
    assert error[error.index("error: ") :].startswith(f"error: {message.format(line=line)}") and "\nhint:  " in error
    assert not (folder / "x.snn").exists()


@pytest.mark.parametrize("name", ["nowhere.py", "recipe.yaml", "."])
def test_what_is_no_plug_in_is_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "recipe.yaml", RECIPE)
    assert cli.main(["explain", "--plugin", name]) == 2
    error = capsys.readouterr().err
    assert ("no such file" if name == "nowhere.py" else "not a Python file") in error
    assert "hint:  name a file" in error


def test_two_plug_ins_of_one_name_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "mine.py", PASS)
    (folder / "other").mkdir()
    write(folder, "other/mine.py", NEURON)
    assert cli.main(["env", "--plugin", "mine.py", "--plugin", "other/mine.py"]) == 2
    assert "two plug-ins are called 'mine'" in capsys.readouterr().err
    # The same one twice is one.
    write(folder, "snnc.yaml", "plugins: [mine.py]\n")
    assert cli.main(["env", "--plugin", str(folder / "mine.py"), "--plugin", "./mine.py", "-q"]) == 0


def test_every_command_takes_plug_ins() -> None:
    from snnc.cli.application import application

    root = application()
    for name in root.commands:
        _, command, _ = root.resolve_command(root.make_context("snnc", []), [name])
        assert any("--plugin" in option.opts for option in command.params), name


def test_a_project_names_its_plug_ins(tmp_path: Path) -> None:
    assert project.named_plugins(tmp_path) == ()
    (tmp_path / "snnc.yaml").write_text("plugins: [mine.py, sub/other.py]\n")
    wanted = (tmp_path / "mine.py", tmp_path / "sub/other.py")
    assert project.named_plugins(tmp_path) == project.read(tmp_path).plugins == wanted
    # Whatever is wrong is said by those who read all of it.
    for text in ("plugins: 3", "plugins: [", "- a", "timesteps: many"):
        (tmp_path / "snnc.yaml").write_text(text)
        assert project.named_plugins(tmp_path) == ()
        with pytest.raises(UsageError):
            project.read(tmp_path)


ENTRY = "[snnc.plugins]\nsomething = package_of_mine.plugin\n"


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def installed(folder: Path) -> Path:
    """A folder with a package whose metadata name a plug-in; python looks there when it runs in it."""
    (folder / "package_of_mine").mkdir()
    write(folder, "package_of_mine/__init__.py", "")
    write(folder, "package_of_mine/plugin.py", NEURON)
    (folder / "package_of_mine-1.0.dist-info").mkdir()
    write(
        folder, "package_of_mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: package-of-mine\nVersion: 1\n"
    )
    write(folder, "package_of_mine-1.0.dist-info/entry_points.txt", ENTRY)
    return folder


# Each is a process that has not asked for plug-ins yet, and torch is read once for both.
_QUESTIONS = """
import os
from pathlib import Path
from snnc import plugins
from snnc.errors import UsageError
from snnc.neurons import neurons
if not os.fork():
    print("mine" in neurons, plugins.origin(neurons["mine"]), plugins.is_loaded("package_of_mine"), flush=True)
    os._exit(0)
os.wait()
Path("package_of_mine/plugin.py").write_text("raise RuntimeError('broken')")
for _ in range(2):
    try:
        len(neurons)
    except UsageError as error:
        print(error.line, "|", error.hint)
"""


def test_an_installed_package_adds_members_and_a_broken_one_fails_every_question(installed: Path) -> None:
    done = run(installed, _QUESTIONS)
    line = "cannot load the plug-in: RuntimeError: broken @ package_of_mine.plugin | mend or uninstall package-of-mine"
    assert done.stdout.splitlines() == ["True package_of_mine True", line, line], done.stderr


def test_help_loads_no_plug_in(installed: Path) -> None:
    code = (
        "import sys; from snnc import cli; cli.main(['convert', '--help']); "
        "print('loaded:', 'torch' in sys.modules, 'package_of_mine' in sys.modules)"
    )
    done = run(installed, code)
    assert "loaded: False False" in done.stdout, done.stderr


LAWLESS = """
import dataclasses

from snnc.ir import Op, operation
from snnc.ops import Weighted
from snnc.passes import Pass, passes


@operation
@dataclasses.dataclass(frozen=True, eq=False)
class Square(Op):
    def __call__(self, *inputs):
        return inputs[0].square_()


@operation
@dataclasses.dataclass(frozen=True, eq=False)
class Raised(Op):
    power: float

    def __call__(self, *inputs):
        return inputs[0] ** self.power


@passes.register("overwrite")
@dataclasses.dataclass(frozen=True)
class Overwrite(Pass):
    def __call__(self, graph, calibration):
        for op in graph.ops(Weighted).values():
            op.weight.mul_(2)
        return graph
"""
LEAKY = NEURON.replace("state.membrane.add_(x)", "state.membrane.mul_(0.9).add_(x)")


@pytest.mark.parametrize(
    "text",
    [NEURON + PASS, OPERATION, SECTION, SOURCE, FORMAT, TASK],
    ids=["neuron", "op", "section", "source", "format", "task"],
)
def test_a_good_plug_in_keeps_the_laws(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert laws.main([write(folder, "mine.py", text), "-v"]) == 0
    said = capsys.readouterr().out
    assert " 0 broken" in said
    assert "A member is final" in said
    assert ("A step changes neither" in said) == (text.count("neurons.register") == 1)


def test_a_broken_law_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert laws.main([write(folder, "lawless.py", LAWLESS), write(folder, "leaky.py", LEAKY)]) == 4
    said = capsys.readouterr().out.splitlines()
    for member, law, fault in (
        ("operation 'Square'", "A member is final", "write @final above it"),
        ("operation 'Square'", "Every table of rules", "how much work is one evaluation; "),
        ("operation 'Square'", "may be computed step by step", "the flag `linear` is wrong"),
        ("operation 'Square'", "neither they nor its own tensors", ""),
        ("operation 'Raised'", "It can be tried", "missing 1 required positional argument: 'power'"),
        ("pass 'overwrite' (trained network 0)", "keeps what it need not touch", "was changed in place"),
        ("neuron 'mine' (per layer)", "is the closed form that the neuron states", "not close"),
    ):
        assert any(line.startswith(f"{member}: broken: ") and law in line and fault in line for line in said), law
    assert said[-1].startswith("leaky.py: 1 member, ")


def test_an_operation_is_tried_on_its_examples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{LAWLESS}\nEXAMPLES = [(Raised(3.0), (4,)), (Raised(2.0), (2, 3))]\n"
    assert laws.main([write(folder, "examples.py", text)]) == 4
    said = capsys.readouterr().out
    assert "It can be tried" not in said
    assert "operation 'Raised' (example 2): broken" in said


def test_laws_of_nothing_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert laws.main([write(folder, "nothing.py", "x = 1")]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: the plug-in registers no member @ nothing.py"
    assert hint.startswith("hint:  register a member")
    assert laws.main(["nowhere.py"]) == 2
    with pytest.raises(SystemExit) as caught:
        laws.main([])
    assert caught.value.code == 2
