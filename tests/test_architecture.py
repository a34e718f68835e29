"""Who may import whom: strictly downward, siblings never."""

import ast
from functools import cache
from pathlib import Path

import pytest

import snnc

ROOT = Path(snnc.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# From the bottom to the top; those on one line do not import one another.
LAYERS = [
    {"errors", "version"},
    {"files", "process", "intervals", "text", "threads", "plugins"},
    {"documents", "states"},
    {"registry", "rules", "findings", "schedule", "figure", "blocks", "processes"},
    {"validation", "display"},
    {"ir"},
    {"ops", "feeds"},
    {"neurons", "data"},
    {"run", "analysis", "progress"},
    {"tasks", "calibration"},
    {"conversion"},
    {"artifact", "training"},
    {"frontend", "passes", "formats", "measure", "hardware", "module"},
    {"report"},
    {"recipe", "project", "budget", "checkpoint"},
    {"pipeline"},
    {"trials"},
    {"actions", "laws"},
    {"guide"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}

# Who may import what is large or belongs to one task; paths below the package, folders with a slash.
RESERVED = {
    "onnx": ("frontend/", "formats/"),
    "onnxruntime": ("frontend/", "formats/", "tasks/decoding.py"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/console.py", "report/faces/prose.py", "report/faces/terminal.py"),
    "markdown_it": ("guide/site.py",),
    "PIL": ("data/",),
    "kornia": ("training/variation.py",),
    "jinja2": ("report/faces/page.py", "guide/site.py"),
    "matplotlib": ("report/faces/plots.py",),
    "nir": ("formats/nir/",),
    "nirtorch": ("formats/nir/",),
    "safetensors": ("artifact.py", "formats/vectors.py"),
    "pydantic": ("validation.py", "actions/schema.py", "artifact.py", "report/data.py"),
    "yaml": ("documents.py",),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(path: Path) -> str:
    """The module or the package right below ``snnc`` that a file belongs to; "" for ``snnc`` itself."""
    first = Path(name(path)).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path, *, run: bool = False) -> list[tuple[int, str]]:
    """The full names of what a file imports, wherever in the file, with line numbers; ``run``: not for types alone."""
    found = []
    for node in walked(path.read_text("utf-8"), run):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


# Several laws ask each file.
@cache
def walked(text: str, run: bool) -> list[ast.Import | ast.ImportFrom | ast.Attribute]:
    """The imports and the attributes of a file."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if run and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute)]


def upward(path: Path) -> list[str]:
    """The imports of a file that go up or to a sibling."""
    own = part(path)
    wrong = []
    # The package itself hands on what stands anywhere in it, and imports it when it is asked for.
    for line, target in imports(path, run=own == ""):
        package, _, rest = target.partition(".")
        if package != "snnc":
            continue
        below = rest.split(".")[0]
        if below == own:
            continue
        # The package hands on everything, so whoever imports it imports what is above.
        down = below == "version" if own == "" else HEIGHT.get(below, len(LAYERS)) < HEIGHT[own]
        if not down:
            wrong.append(f"{name(path)}:{line} imports {target}")
    return wrong


def test_every_part_has_its_place() -> None:
    assert len(MODULES) > 30
    unknown = {part(path) for path in MODULES} - set(HEIGHT) - {""}
    assert not unknown, f"give {unknown} a place in LAYERS"


def test_imports_go_down() -> None:
    assert not [line for path in MODULES for line in upward(path)]


def test_data_knows_nothing_of_networks_but_what_their_inputs_take() -> None:
    allowed = {
        "errors",
        "files",
        "processes",
        "documents",
        "process",
        "validation",
        "findings",
        "registry",
        "feeds",
        "text",
        "data",
    }
    for path in (ROOT / "data").rglob("*.py"):
        for line, target in imports(path):
            package, *rest = target.split(".")
            assert package != "snnc" or rest[0] in allowed or rest == ["ir", "Input"], f"{name(path)}:{line}"


def test_libraries_stay_where_they_belong() -> None:
    for path in MODULES:
        for line, target in imports(path):
            places = RESERVED.get(target.split(".")[0])
            allowed = places is None or any(
                name(path).startswith(place) if place.endswith("/") else name(path) == place for place in places
            )
            assert allowed, f"{name(path)}:{line} imports {target}"


# Who reads or writes a file as a whole by itself: one of its own, of the package or of the system, which have an end.
WHOLE = ("files.py", "formats/c/engine.py", "frontend/", "guide/", "process.py", "recipe.py", "report/")


def test_what_others_wrote_is_read_where_it_is_a_file() -> None:
    for path in MODULES:
        used = (node for node in walked(path.read_text("utf-8"), False) if isinstance(node, ast.Attribute))
        lines = [node.lineno for node in used if node.attr in ("read_text", "read_bytes", "write_text", "write_bytes")]
        assert not lines or name(path).startswith(WHOLE), f"{name(path)}:{lines}: a pipe has no end; see snnc.files"


def test_the_oldest_violations_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "passes").mkdir()
    for file, text, count in (
        ("ir.py", "def f():\n    from snnc.ops import Add\n", 1),
        ("ops.py", "from snnc import ir, neurons\n", 1),
        ("passes/a.py", "import snnc.frontend.walk\nfrom snnc.passes.base import Pass\nimport snnc.ir\n", 1),
        ("errors.py", "import torch\n", 0),
        ("errors.py", "import snnc\n", 1),
        ("__init__.py", "from snnc.version import VERSION\n", 0),
        ("__init__.py", "from snnc.ir import Graph\n", 1),
        ("__init__.py", "if TYPE_CHECKING:\n    from snnc.ir import Graph\nelse:\n    import snnc.ir\n", 1),
        ("ops.py", "if TYPE_CHECKING:\n    from snnc.neurons import Neuron\n", 1),
    ):
        (tmp_path / file).write_text(text)
        assert len(upward(tmp_path / file)) == count, file


def test_nothing_is_called_a_utility() -> None:
    parts = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not {"util", "utils", "helpers", "misc", "common"} & parts
