"""The front of the house: lines of the README, code in documents that does not run, the wheel, and the time of --help.

    python tests/benchmarks/front.py [--quick]

Every block of code in the README, the guide, .github and the READMEs of the examples is run, each document in a folder
with little data; what does not run is told on stderr, with its place. ``--quick`` only looks whether somebody runs it,
and builds no wheel.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.documents import DOCUMENTS, EXAMPLES, READMES, ROOT, blocks, can_run, forgotten, furnished, run


def not_run(document: Path, folder: Path) -> int:
    """Run the code of a document in a folder; returns how many blocks do not."""
    failed, names = 0, {"__name__": "__main__"}
    os.chdir(folder)
    with forgotten():
        for block in blocks(document):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    run(block, names)
            except (Exception, SystemExit) as error:
                failed += 1
                harness.say(f"{block.place}: {type(error).__name__}: {error}")
    return failed


def example(readme: Path, folder: Path) -> Path:
    """Return a copy of an example beside one of the digits, where it looks for them."""
    for name in {"digits", readme.parent.name}:
        shutil.copytree(EXAMPLES / name, folder / name)
    return folder / readme.parent.name


def of_the_wheel(folder: Path) -> dict[str, float]:
    """Build the wheel; returns its size in MB, and how many files of the package and of the demo it lacks."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = [path.relative_to(ROOT) for path in (ROOT / "snnc").rglob("*") if path.is_file()]
    wanted = {path.as_posix() for path in package if "__pycache__" not in path.parts}
    wanted |= {f"snnc/digits/{name}" for name in ("model.onnx", "snnc.yaml")}
    return {"front/wheel-megabytes": wheel.stat().st_size / 1e6, "front/wheel-lacks": float(len(wanted - held))}


def of_help() -> dict[str, float]:
    """Return the best of several times of ``snnc --help``, in a process of its own, of compiled files as of a wheel.

    As waited for, and of the processor alone, which others on the machine do not change.
    """
    waited, spent, command = [], [], [sys.executable, "-m", "snnc", "--help"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for _ in range(6):
            start, before = time.perf_counter(), os.times()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
            after = os.times()
            waited.append(time.perf_counter() - start)
            spent.append(sum(after[2:4]) - sum(before[2:4]))
    return {"front/help-seconds": min(waited), "front/help-cpu-seconds": min(spent)}


def main() -> None:
    quick = harness.arguments(__doc__ or "").quick
    figures = {"front/readme-lines": float(len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()))}
    found, failed = 0, 0
    with tempfile.TemporaryDirectory() as made:
        for index, document in enumerate([*DOCUMENTS, *READMES]):
            found += len(blocks(document))
            if not blocks(document):
                continue
            folder = Path(made, str(index))
            if quick:
                failed += sum(not can_run(block) for block in blocks(document))
            else:
                place = example(document, folder) if document in READMES else furnished(folder)
                failed += not_run(document, place)
            harness.say(f"{document.relative_to(ROOT)}: {len(blocks(document))} blocks")
        os.chdir(ROOT)
        figures |= {"front/doc-blocks": float(found), "front/doc-blocks-not-run": float(failed)}
        figures |= of_help()
        if not quick:
            figures |= of_the_wheel(Path(made))
    harness.finish(figures)


if __name__ == "__main__":
    main()
