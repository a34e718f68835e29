"""The blocks of code in Markdown, and a shell and a Python that run them, in a folder with little data.

The word behind a block's language is the file that a reader would save it as. Of a shell, ``snnc`` and ``python -m
snnc.laws`` run in this process, as does what stands behind ``torchrun``: what several processes share is tested in
test_processes. What installs, and what runs these very tests, is only held against the project's metadata and .ci/run.
"""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markdown_it import MarkdownIt

from snnc import cli, plugins, project, recipe
from snnc.actions.jobs import read_jobs
from snnc.laws.__main__ import main as ask_laws
from snnc.laws.tables import registries, tables
from snnc.measure import figures

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "snnc" / "guide"
EXAMPLES = ROOT / "examples"

# Where a reader finds code: all of it is to be run.
DOCUMENTS = (ROOT / "README.md", *sorted(GUIDE.glob("*.md")), *sorted((ROOT / ".github").glob("*.md")))
# What each of these says is run in a copy of its folder, beside one of the digits.
READMES = tuple(sorted(EXAMPLES.glob("*/README.md")))

# So many images of each digit are enough to see that something runs, and to be split in three.
_IMAGES = 3
_SETTINGS = {
    "recipe": "quick",
    "preprocessing": {"mean": [0.31], "std": [0.38], "channels": "gray"},
    "calibration": {"data": "calibration"},
    "evaluation": {"data": "test"},
}
_PROGRAMS = ("cc",)
_EXIT = re.compile(r"exits with (\d)")


@dataclass(frozen=True)
class Block:
    """Code in a document: ``file`` is what it would be saved as, "" where it is typed."""

    document: Path
    line: int
    language: str
    file: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return all code of a document; what is only indented has no language."""
    tokens = MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8"))
    found = []
    for token in tokens:
        if token.type in {"fence", "code_block"}:
            language, _, file = token.info.partition(" ")
            found.append(Block(document, (token.map or [0])[0] + 1, language, file.strip(), token.content))
    return found


@contextmanager
def forgotten() -> Iterator[None]:
    """Forget what is registered meanwhile."""
    holders: list[tuple[object, str]] = [
        *((registry, "_members") for registry in registries().values()),
        *((table, "_rules") for table in tables().values()),
        (figures, "_figures"),
    ]
    held = [(holder, field, dict(getattr(holder, field))) for holder, field in holders]
    try:
        yield
    finally:
        for holder, field, members in held:
            setattr(holder, field, members)
        for name in [name for name in sys.modules if name.startswith("snnc_plugins.")]:
            del sys.modules[name]


def furnished(folder: Path) -> Path:
    """Fill a folder with what readers are taken to have: a model, images, and settings that make it quick."""
    digits = EXAMPLES / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(digits / "model.onnx", folder / "model.onnx")
    for name in ("folder", "test"):
        for digit in sorted((digits / "test").iterdir()):
            (folder / name / digit.name).mkdir(parents=True)
            for image in sorted(digit.iterdir())[:_IMAGES]:
                shutil.copy(image, folder / name / digit.name / image.name)
    (folder / "calibration").mkdir()
    for image in sorted((digits / "calibration").iterdir())[: 8 * _IMAGES]:
        shutil.copy(image, folder / "calibration" / image.name)
    np.save(folder / "frames.npy", np.random.default_rng(0).random((2, 3, 1, 8, 8), np.float32))
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    """Write the settings of a folder anew."""
    (folder / project.FILE).write_text(yaml.safe_dump(_SETTINGS), encoding="utf-8")


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run what is typed, with the names of what was typed before."""
    exec(compile(block.text, block.place, "exec"), names)


def run_shell(block: Block) -> None:
    """Run every line of a block; a line that says so exits with another code than 0."""
    for line in block.text.replace("\\\n", " ").splitlines():
        typed, _, remark = line.partition("  #")
        if not typed.strip() or typed.lstrip().startswith("#"):
            continue
        wanted = int(found[1]) if (found := _EXIT.search(remark)) else 0
        for command in typed.split("&&"):
            code = _run(shlex.split(command))
            assert code == wanted, f"{block.place}: {command.strip()}: {code}, not {wanted}"


def read_file(block: Block) -> None:
    """Save a block as its file, and read it as snnc would where that is known."""
    path = Path(block.file)
    path.write_text(block.text, encoding="utf-8")
    if path.name == project.FILE:
        project.read(Path())
        # Commands go on with the settings that are quick.
        settle(Path())
    elif path.suffix == ".py":
        plugins.load([path])
    elif path.name == "jobs.yaml":
        assert read_jobs(path, Path("out"))
    elif path.suffix == ".yaml":
        recipe.load(block.file)


def can_run(block: Block) -> bool:
    """Return whether ``run`` knows what to do with a block."""
    return bool(block.file) or block.language in {"sh", "python", "bibtex"}


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the working folder, in a document in which these names are known."""
    assert can_run(block), f"{block.place}: nobody runs code of {block.language or 'no language'}"
    if block.file:
        read_file(block)
    elif block.language == "sh":
        run_shell(block)
    elif block.language == "python":
        run_python(block, names)
    else:
        assert re.fullmatch(r"@\w+\{\w+,\n(  \w+ = \{.*\},\n)+\}\n", block.text), block.place


def _run(words: list[str]) -> int:
    if words[0] == "torchrun":
        words = ["snnc", *words[words.index("snnc") + 1 :]]
    if words[0] == "snnc":
        return cli.main([*words[1:]])
    if words[:3] == ["python", "-m", "snnc.laws"]:
        return ask_laws(words[3:])
    if words[0] == "cd":
        # Where the data lies, on a small scale.
        assert (ROOT / words[1]).is_dir(), words
        return 0
    if words[:3] == ["python", "-m", "pytest"]:
        assert shlex.join(words) in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        return 0
    if words[0] == "python" and len(words) == 2:
        runpy.run_path(words[1], run_name="__main__")
        return 0
    if words[0] in _PROGRAMS or words[0].startswith("./"):
        return subprocess.run(words, check=False).returncode
    assert words[:2] == ["pip", "install"], f"nobody runs {shlex.join(words)}"
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in words[2:]:
        found = re.fullmatch(r"(?:\.|snnc)(?:\[(\w+)\])?", name)
        assert found and (found[1] is None or found[1] in metadata["optional-dependencies"]), name
    return 0
