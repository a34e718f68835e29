"""Measure the house: how many files one more of each kind takes, and what the tree still owes to its plan.

    python tests/benchmarks/house.py

One of each kind is written as a plug-in and run from the command line, in every command that it concerns. Where a
plug-in does not work alone, each table of rules that has forgotten it is a file more; a command is written into a copy
of the tree. ``house/isinstance-on-kinds`` counts the tests for a class of operations outside operations, neurons, the
room that runs them, and rules.
"""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from snnc.rules import Rules
from tests.plugin_files import FIGURE, FORMAT, NEURON, OPERATION, PASS, RECIPE, SECTION, SOURCE, TASK, rows, soft
from tests.test_architecture import MODULES, ROOT, upward
from tests.test_tables import TABLES, asked

DIGITS = TREE / "examples" / "digits"
DATA = ("--data", str(DIGITS / "test"), "--limit", "20", "--mean", "0.31", "--std", "0.38", "--channels", "gray")

# A page of options, and what it calls.
COMMAND = {
    "cli/count.py": """\
\"\"\"snnc count.\"\"\"

from snnc.cli.application import commands


@commands.register("count")
def count(number: int = 3) -> None:
    \"\"\"Count.\"\"\"
    from snnc.actions.count import count

    print(count(number))
""",
    "actions/count.py": '''\
"""Counting."""


def count(number: int) -> list[int]:
    """Return the numbers from 1."""
    return [*range(1, number + 1)]
''',
}


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def snnc(folder: Path, *commands: Sequence[str], tree: Path = TREE) -> str:
    """Run command lines in ``folder``, all in one process, and return what they print; ends all where one fails.

    A command line that starts with a number is to end with that exit code. One that is to be refused may as well work.
    """
    code = "import json, sys\nfrom snnc.cli import main\nprint([main(line) for line in json.loads(sys.argv[1])])"
    lines = [line if not (line[0].isdigit() or line[0] == "refused") else line[1:] for line in commands]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, json.dumps(lines)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    *printed, codes = done.stdout.splitlines() or [""]
    for line, found in zip(commands, json.loads(codes or "[]"), strict=True):
        expected = {0, 3} if line[0] == "refused" else {int(line[0])} if line[0].isdigit() else {0}
        if found not in expected:
            raise SystemExit(f"{' '.join(line)}: {found}\n{done.stderr}")
    if "no rule of" in done.stderr:
        raise SystemExit(done.stderr)
    return "\n".join(printed)


def written(folder: Path, *texts: str) -> list[str]:
    """Write plug-ins, each a file, and return the flags that load them."""
    flags = []
    for index, text in enumerate(texts):
        (folder / f"own_{index}.py").write_text(text, encoding="utf-8")
        flags += ["--plugin", f"own_{index}.py"]
    return flags


def recipe(folder: Path, text: str) -> tuple[str, ...]:
    """Write a recipe, and return the flag that names it."""
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return "--recipe", "mine.yaml"


def converted(model: Path = DIGITS / "model.onnx", *flags: str) -> tuple[str, ...]:
    """Return the command line that makes a.snn of a network."""
    return "convert", str(model), "-o", "a.snn", *flags


def everywhere(flags: Sequence[str]) -> list[Sequence[str]]:
    """Return command lines that read a.snn; formats that cannot say what it is made of have to refuse it in words."""
    return [
        ("evaluate", "a.snn", *DATA, *flags),
        ("report", "a.snn", "--html", "a.html", *flags),
        ("inspect", "a.snn", *flags),
        ("export", "a.snn", "--format", "torch", "-o", "a.pt2", *flags),
        ("refused", "export", "a.snn", "--format", "onnx", "-o", "a.onnx", *flags),
        ("refused", "export", "a.snn", "--format", "nir", "-o", "a.nir", *flags),
    ]


def neuron(folder: Path) -> int:
    """Use a neuron of one's own in every command."""
    flags = written(folder, NEURON)
    how = recipe(folder, RECIPE.replace("  - raise-thresholds: {factor: 1.25}\n", ""))
    snnc(folder, converted(DIGITS / "model.onnx", *how, *flags), *everywhere(flags))
    return 1 + len(forgotten(folder, flags[1::2]))


def a_pass(folder: Path) -> int:
    """Use a pass of one's own in every command."""
    flags = written(folder, PASS)
    how = recipe(folder, RECIPE.replace("neuron: mine", "neuron: if"))
    snnc(folder, converted(DIGITS / "model.onnx", *how, *flags), *everywhere(flags))
    return 1


def operation(folder: Path) -> int:
    """Use an operation of one's own in every command, its class and its converter apart."""
    reading = "from snnc.frontend.expression import chain\nfrom snnc.frontend.operators import operators\n"
    kind, decorator, converter = OPERATION.replace(reading, "").partition('@operators.register("ai.onnx.ml.Imputer")')
    flags = written(folder, kind, f"{reading}from snnc_plugins.own_0 import Filled\n\n\n{decorator}{converter}")
    snnc(folder, converted(soft(folder), "--recipe", "quick", *flags), *everywhere(flags))
    return 2 + len(forgotten(folder, flags[1::2]))


def section(folder: Path) -> int:
    """Tell a section of one's own."""
    flags = written(folder, SECTION)
    told = snnc(folder, converted(DIGITS / "model.onnx", *flags), ("report", "a.snn", "--html", "a.html", *flags))
    for text in (told, (folder / "a.html").read_text(encoding="utf-8")):
        assert "The names of all layers have" in text
    return 1


def gate(folder: Path) -> int:
    """Pass and fail at a limit of one's own."""
    evaluation = ("evaluate", "a.snn", *DATA, *written(folder, FIGURE))
    snnc(folder, converted(), (*evaluation, "--max-additions", "1e9"), ("4", *evaluation, "--max-additions", "1"))
    return 1


def task(folder: Path) -> int:
    """Judge answers by a task of one's own."""
    flags = written(folder, TASK)
    convert = converted(DIGITS / "model.onnx", "--task", "remainder", *DATA[4:], *flags)
    read = snnc(folder, convert, ("evaluate", "a.snn", *DATA, *flags, "--json"))
    assert "right-remainder" in read
    return 1


def source(folder: Path) -> int:
    """Calibrate and evaluate on data of one's own."""
    flags, data = written(folder, SOURCE), ("--data", str(rows(folder / "digits.rows", 2)), *DATA[4:])
    read = snnc(folder, converted(DIGITS / "model.onnx", *data, *flags), ("evaluate", "a.snn", *data, *flags))
    assert "20 samples" in read
    return 1


def export_format(folder: Path) -> int:
    """Write and verify a format of one's own, with its option."""
    flags = written(folder, FORMAT)
    export = ("export", "a.snn", "--format", "thresholds", "-o", "a.json", "--digits", "1", "--verify", *DATA[:4])
    beside = ("--export", "thresholds", *flags)
    assert "itself" in snnc(folder, converted(DIGITS / "model.onnx", *beside), (*export, *flags))
    return 1


def command(folder: Path) -> int:
    """Run a command of one's own, in a copy of the tree."""
    if not (ROOT / "actions").is_dir():
        raise LookupError("there are no actions yet")
    shutil.copytree(ROOT, folder / "snnc", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in COMMAND.items():
        (folder / "snnc" / name).write_text(text, encoding="utf-8")
    assert snnc(folder, ("count", "--number", "2"), tree=folder) == "[1, 2]"
    return len(COMMAND)


def forgotten(folder: Path, files: Sequence[str]) -> list[str]:
    """Return the questions that have no rule for an operation or a neuron of a plug-in."""
    code = f"""
import sys
from pathlib import Path
from snnc import plugins
from snnc.ir import operations
from snnc.laws.tables import forgotten

plugins.load(map(Path, {list(files)!r}))
for kind in list(operations.values()):
    if plugins.origin(kind):
        print("\\n".join(forgotten(kind)))
"""
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line]


MEMBERS: dict[str, Callable[[Path], int]] = {
    "neuron": neuron,
    "pass": a_pass,
    "operation": operation,
    "section": section,
    "gate": gate,
    "task": task,
    "source": source,
    "format": export_format,
    "command": command,
}


def classes() -> set[str]:
    """Return the names of the classes of operations and neurons."""
    bases: dict[str, set[str]] = {}
    for path in MODULES:
        if part(path) in {"ir", "ops", "neurons"}:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    found = {"Op"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def part(path: Path) -> str:
    """Return the room of a file."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def isinstances() -> dict[str, int]:
    """Return how often each file asks whether something is of a class of operations or neurons."""
    kinds = classes()
    found: dict[str, int] = {}
    for path in MODULES:
        if part(path) in {"ir", "ops", "neurons", "run", "__main__"}:
            continue
        name = path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", ".")
        module = importlib.import_module(name.removesuffix(".__init__"))
        rules = {name for name, value in vars(module).items() if issubclass(type(value), Rules)}
        for node in _outside_rules(ast.parse(path.read_text(encoding="utf-8")), rules):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                named = {ast.unparse(one).rpartition(".")[2] for one in ast.walk(node.args[1])}
                if named & kinds:
                    name = path.relative_to(ROOT).as_posix()
                    found[name] = found.get(name, 0) + 1
    return found


def _outside_rules(node: ast.AST, rules: set[str]) -> Iterator[ast.AST]:
    """Yield all nodes but for those of functions that are registered in a table of rules."""
    yield node
    for child in ast.iter_child_nodes(node):
        decorators = [ast.unparse(one) for one in getattr(child, "decorator_list", [])]
        if not any(decorator.startswith(f"{table}.register(") for decorator in decorators for table in rules):
            yield from _outside_rules(child, rules)


def public_names() -> dict[str, list[str]]:
    """Return the public names that several modules define, and which."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        names: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
        for name in names:
            if not name.startswith("_"):
                places.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return {name: files for name, files in places.items() if len(files) > 1}


def main() -> None:
    figures: dict[str, float] = {}
    for kind, measure in MEMBERS.items():
        with tempfile.TemporaryDirectory() as made:
            try:
                figures[f"house/{kind}/files"] = measure(Path(made))
            except LookupError as error:
                say(f"{kind}: {error}")
    climbing = [line for path in MODULES for line in upward(path)]
    asking = isinstances()
    twice = public_names()
    for line in climbing:
        say(f"upward: {line}")
    for name, count in sorted(asking.items(), key=lambda item: -item[1]):
        say(f"isinstance on kinds: {count} in {name}")
    for name, files in sorted(twice.items(), key=lambda item: -len(item[1])):
        say(f"public twice: {name} in {', '.join(files)}")
    lines = [path.read_text(encoding="utf-8").count("\n") for path in MODULES]
    figures |= {
        "house/upward-imports": len(climbing),
        "house/rules/tables": len(TABLES),
        "house/rules/missing": sum(len(table.missing(asked(table))) for table in TABLES.values()),
        "house/isinstance-on-kinds": sum(asking.values()),
        "house/public-names-twice": len(twice),
        "house/lines": sum(lines),
    }
    print(json.dumps({name: float(value) for name, value in figures.items()}, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
