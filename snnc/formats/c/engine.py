"""The file in C, compiled and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Generator

from snnc.errors import VerificationError
from snnc.feeds import Feeds
from snnc.formats.c.file import CFile
from snnc.formats.vectors import packed
from snnc.formats.verification import Bounds, Reply, UnreadableError
from snnc.ir import Graph
from snnc.schedule import Schedule
from snnc.text import printable

# What every file has to be compiled with, without a word.
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")

# What every compiler compiles.
_ONE_LINE = "int main(void) { return 0; }\n"

_FAULT = "this is a fault of the export: please report it with the model"


def compilers() -> list[str]:
    """Return the C compilers that are here: what CC says, and others by their names, each once."""
    found: dict[str, str] = {}
    for name in (os.environ.get("CC", ""), "gcc", "clang", "cc"):
        path = shutil.which(name) if name else None
        if path is not None:
            found.setdefault(str(Path(path).resolve()), path)
    return [*found.values()]


@final
class Compiled:
    """A file in C, compiled by one compiler and run sample by sample.

    Raises VerificationError where the compiler refuses the file, or has anything to say about it, and compiles others.
    """

    # Sums in another order round differently, as in other engines.
    tolerance = Bounds(equal=99.99, output_error=1e-4, given="spikes")
    expected, note = None, ""

    def __init__(
        self, file: CFile, prefix: str, snn: Graph, schedule: Schedule, compiler: str, flags: Sequence[str] = FLAGS
    ) -> None:
        self.name = _called(compiler)
        self.layers = frozenset(file.layers)
        self.schedule = schedule
        self._order = file.layers
        self._snn = snn
        self._folder = Path(tempfile.mkdtemp(prefix="snnc-c-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        source, self._program = (self._folder / name for name in ("network.c", "network"))
        source.write_text(file.source, encoding="ascii")
        self._refused = ""
        said = _compiled(compiler, (*flags, f"-D{prefix.upper()}_MAIN"), source, self._program)
        if said is None:
            return
        one_line = self._folder / "one_line.c"
        one_line.write_text(_ONE_LINE, encoding="ascii")
        if _compiled(compiler, flags, one_line, self._program) is not None:
            self._refused = f"it compiles no program of one line either: {said}"
            return
        raise VerificationError(f"{self.name} refuses the exported file: {said}", hint=_FAULT)

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        if self._refused:
            raise UnreadableError(self._refused)
        given, sent = (self._folder / name for name in ("samples", "spikes"))
        names = {name: "input" if len(feeds) == 1 else f"input.{name}" for name in feeds}
        given.write_bytes(packed({names[name]: tensor.contiguous() for name, tensor in feeds.items()}))
        command = [str(self._program), str(given), str(sent)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise UnreadableError(f"programs cannot be run in {self._folder}: {error.strerror}") from error
        if done.returncode:
            reason = printable((done.stderr.strip() or f"it ends with {done.returncode}").splitlines()[0])
            raise VerificationError(f"the exported file does not run: {reason}", hint=_FAULT)
        shapes, samples, steps = self._snn.shapes, feeds.samples, self.schedule.total
        numbers = torch.from_numpy(np.fromfile(sent, np.float32)).reshape(samples, -1)
        sizes = [torch.Size(shapes[name]).numel() for name in self._order]
        outputs = tuple(dict.fromkeys(self._snn.outputs))
        ends = [steps * sum(sizes), *(torch.Size(shapes[name]).numel() for name in outputs)]
        trains, *answers = torch.split(numbers, ends, 1)
        layers = torch.split(trains.reshape(samples, steps, sum(sizes)).transpose(0, 1), sizes, 2)
        spikes = {
            name: layer.reshape(steps, samples, *shapes[name]) for name, layer in zip(self._order, layers, strict=True)
        }
        return {
            name: answer.reshape(samples, *shapes[name]) for name, answer in zip(outputs, answers, strict=True)
        }, spikes


@final
class NoCompiler:
    """What stands in the place of a compiler where there is none."""

    name = "C compiler"
    layers: frozenset[str] = frozenset()
    tolerance, expected, note = None, None, ""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        raise UnreadableError("there is none here, of the names gcc, clang and cc, or what CC says")


def _compiled(compiler: str, flags: Sequence[str], source: Path, program: Path) -> str | None:
    """Compile a file, and return what is said of it; None where that is nothing, and there is a program."""
    command = [compiler, *flags, str(source), "-o", str(program), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    if not done.returncode and not said.strip():
        return None
    line = next((line for line in said.splitlines() if "error" in line or "warning" in line), said)
    return printable(line.strip() or f"it ends with {done.returncode}")


def _called(compiler: str) -> str:
    """Return what a compiler says that it is."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, errors="replace", check=False)
    known = re.search(r"\d+\.\d[\w.]*", done.stdout)
    name = "clang" if "clang" in done.stdout else Path(compiler).name
    return f"{name} {known[0]}" if known else name
