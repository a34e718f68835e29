"""Look for inputs that are read as something else, end in an internal error, or take too long or too much.

    python -m tests.fuzz --minutes 30 [--kind onnx] [--seed 0] [--save FOLDER]

Each round is a process of its own, which may crash: the input that it read then is a fault, too. What is found is made
small, and saved as files. Prints how many inputs were read of each kind, and exits with 1 where any has a fault.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.kinds import KINDS
from tests.fuzz.oracle import Files, save, search

# Inputs to a round.
ROUND = 250


def _round(kind: str, seed: int, place: str, counted: Any) -> None:
    def note(files: Files) -> None:
        counted.value += 1
        save(files, Path(place))

    try:
        search(KINDS[kind], ROUND, seed, note)
    except Exception as fault:
        parts = getattr(fault, "exceptions", (fault,))
        text = "\n".join("".join(traceback.format_exception(part)[-12:]) for part in parts)
        Path(place).mkdir(exist_ok=True)
        Path(place, "fault.txt").write_text(text, encoding="utf-8", errors="replace")
        sys.exit(1)


def hunt(minutes: float, kinds: list[str], seed: int, folder: Path, least: int = 0) -> tuple[Counter[str], list[str]]:
    """Read inputs for some minutes, and at least so many; return how many of each kind, and where the faults are."""
    runs: Counter[str] = Counter()
    faults: list[str] = []
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until or runs.total() < least:
        for kind in kinds:
            counted = multiprocessing.get_context("fork").Value("q", 0)
            with tempfile.TemporaryDirectory() as temporary:
                place = str(Path(temporary, "case"))
                process = multiprocessing.get_context("fork").Process(target=_round, args=(kind, seed, place, counted))
                process.start()
                process.join()
                runs[kind] += counted.value
                if process.exitcode:
                    kept = folder / f"{kind}-{seed}"
                    files = (path for path in Path(place).rglob("*") if path.is_file())
                    found = {str(path.relative_to(place)): path.read_bytes() for path in files}
                    save({"fault.txt": f"exit {process.exitcode}\n".encode(), **found}, kept)
                    faults.append(str(kept))
                    print(f"{kept}: {(kept / 'fault.txt').read_text()[:2000]}", flush=True)
        seed += 1
    return runs, faults


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=Path("fuzz-found"))
    given = parser.parse_args()
    runs, faults = hunt(given.minutes, given.kind or list(KINDS), given.seed, given.save)
    print(f"{runs.total()} inputs, {len(faults)} faults: {dict(runs)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
