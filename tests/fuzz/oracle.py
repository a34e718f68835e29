"""What has to hold of any input: an answer, or one error that says what is wrong, soon, in little memory, silently."""

import contextlib
import io
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from snnc.errors import SnncError, VerificationError
from snnc.process import limited_memory
from snnc.text import harmless, in_one_line

Files = Mapping[str, bytes]

# Processor time and memory that one input of a few kilobytes may take.
SECONDS, MEMORY, GROWTH = 10, 2 << 30, 1 << 20
CODES = {2, 3, 4, 5}


@dataclass(frozen=True)
class Kind:
    """A kind of input: files by name, and what reads them from the folder that they are in."""

    name: str
    files: SearchStrategy[Files]
    examine: Callable[[Path], object]


class FaultError(AssertionError):
    """An input of which something does not hold."""


def judge(kind: Kind, files: Files) -> None:
    """Read files of a kind; raises FaultError where anything but an answer or one error comes of it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        folder = Path(made)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        said, start = io.StringIO(), time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
            limited_memory(_data() + MEMORY),
        ):
            # Those of libraries, which the command line does not show.
            warnings.simplefilter("ignore")
            try:
                kind.examine(folder)
            except SnncError as error:
                _check_error(error)
            except Exception as error:
                raise FaultError("".join(traceback.format_exception(error)[-6:])) from error
        if said.getvalue():
            raise FaultError(f"it said {said.getvalue()[:200]!r}")
        if time.process_time() - start > SECONDS:
            raise FaultError(f"{time.process_time() - start:.0f} s of the processor")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > GROWTH:
            raise FaultError("more than 1 GiB of memory")
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {*files}
        if left:
            raise FaultError(f"it wrote {sorted(left)}")


def _data() -> int:
    """Return how many bytes of data this process has, those of tests before included, where the system says it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))


def _check_error(error: SnncError) -> None:
    if isinstance(error, VerificationError):
        raise FaultError(f"imported as something else: {error}") from error
    if error.exit_code not in CODES or not error.hint:
        raise FaultError(f"exit code {error.exit_code}, hint {error.hint!r}: {error.line}") from error
    if not harmless(in_one_line(error.line)):
        raise FaultError(f"an error that commands: {error}") from error


def search(kind: Kind, count: int, start: int, note: Callable[[Files], None] = lambda files: None) -> None:
    """Judge so many inputs of a kind, drawn from a ``start``; raises FaultError, of the smallest that has it.

    Each is given to ``note`` before: whoever reads it may not come back.
    """

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.files)
    def judged(files: Files) -> None:
        note(files)
        judge(kind, files)

    judged()


def save(files: Files, folder: Path) -> None:
    """Write files into a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
