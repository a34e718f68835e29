"""Take in architectures that users have, with random weights: what is accepted, at what cost, and how exactly.

    python tests/benchmarks/zoo.py [--quick] [--folder FOLDER] [FAMILY | NAME ...]

All where nothing is named; ``architectures.py`` has them. torchvision, timm, transformers, ultralytics and
segmentation-models-pytorch are no dependencies of snnc: a virtual environment of its own (in ``--folder``, or beside
other temporary files, and kept) gets them by pip, with the torch that runs this in place of another. What cannot be
installed or exported is said and skipped. Each is inspected and converted without data from the command line, with 10
minutes of CPU and 12 GB at most; what the import computes is compared with onnxruntime.
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import environment, finish, parity, say

# With what each needs that is no part of torch's own environment; the others would bring torch or a display.
PACKAGES = (
    ("torchvision==0.28.0", "timm", "transformers", "segmentation-models-pytorch"),
    ("--no-deps", "ultralytics", "ultralytics-thop", "opencv-python-headless", "psutil", "requests", "urllib3"),
    ("--no-deps", "certifi", "charset-normalizer"),
)
SECONDS, GIGABYTES = 600, 12
MAKING = Path(__file__).with_name("architectures.py")
# One of each family, and quick ones.
QUICK = ("resnet18", "wavenet", "dcgan", "vit_torchvision", "unet", "style", "unet3d", "lstm", "recommender")


@dataclass(frozen=True)
class Run:
    """What became of a command."""

    code: int
    seconds: float
    gigabytes: float
    text: str


def run(*command: str | Path, folder: Path, seconds: int = SECONDS) -> Run:
    """Run a command with limits, and measure it and all that it starts."""
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            stdout=told,
            stderr=subprocess.STDOUT,
            preexec_fn=functools.partial(_limit, seconds),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        text = told.read()
    return Run(process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024**2, text)


def _limit(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 1024**3, GIGABYTES * 1024**3))


def made(python: Path, name: str, folder: Path) -> str:
    """Make the file of an architecture where it is not there; returns why it cannot be made, or nothing."""
    if (folder / f"{name}.npz").exists():
        return ""
    done = run(python, MAKING, name, folder / name, folder=folder)
    if done.code == 0:
        return ""
    errors = [line for line in done.text.splitlines() if "Error" in line]
    return (errors or ["it ran out of time or memory"])[-1][:200]


def measured(name: str, folder: Path) -> dict[str, float]:
    """Inspect, convert and compare one architecture."""
    file, key = f"{name}.onnx", f"zoo/{name}"
    inspected = run(sys.executable, "-m", "snnc", "inspect", file, folder=folder)
    figures = {
        f"{key}/accepted": 0.0,
        f"{key}/inspect-seconds": inspected.seconds,
        f"{key}/memory-gb": inspected.gigabytes,
    }
    if inspected.code:
        return figures | _refused(name, "inspect", inspected)
    command = ("convert", file, "-o", "made.snn", "--recipe", "quick")
    converted = run(sys.executable, "-m", "snnc", *command, folder=folder)
    figures[f"{key}/convert-seconds"] = converted.seconds
    figures[f"{key}/memory-gb"] = max(inspected.gigabytes, converted.gigabytes)
    if converted.code:
        return figures | _refused(name, "convert", converted)
    compared = run(sys.executable, __file__, "--compare", file, folder=folder)
    if compared.code:
        return figures | _refused(name, "compare", compared)
    error = float(compared.text.splitlines()[-1])
    say(
        f"{name}: {error:.1e} from onnxruntime, inspect {inspected.seconds:.0f} s, convert {converted.seconds:.0f} s, "
        f"{figures[f'{key}/memory-gb']:.1f} GB"
    )
    return figures | {f"{key}/accepted": 1.0, f"{key}/parity": error}


def _refused(name: str, where: str, done: Run) -> dict[str, float]:
    lines = [line for line in done.text.splitlines() if line.strip()]
    say(f"{name}: {where} exits with {done.code} after {done.seconds:.0f} s\n  " + "\n  ".join(lines[-12:]))
    return {}


def compare(file: Path) -> float:
    """Return the error of what the import computes from the file's own inputs."""
    with np.load(file.with_suffix(".npz")) as arrays:
        return parity(file, {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="*", metavar="FAMILY | NAME")
    parser.add_argument("--quick", action="store_true", help="one of each family, to see that it runs")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "snnc-zoo", help="kept")
    parser.add_argument("--compare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compare:
        print(compare(given.compare))
        return
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder / "environment", *PACKAGES)
    listed = subprocess.run([python, MAKING], capture_output=True, text=True, check=True)
    families: dict[str, list[str]] = json.loads(listed.stdout)
    everything = [name for names in families.values() for name in names]
    wanted = given.wanted or (QUICK if given.quick else everything)
    unknown = {*wanted} - {*families, *everything}
    if unknown:
        parser.error(f"no family or name {sorted(unknown)[0]!r}; there are: {', '.join([*families, *everything])}")
    figures: dict[str, float] = {}
    for name in functools.reduce(lambda found, one: [*found, *families.get(one, [one])], wanted, list[str]()):
        if failure := made(python, name, folder):
            say(f"{name}: cannot be made here: {failure}")
        else:
            figures |= measured(name, folder)
    accepted = [value for key, value in figures.items() if key.endswith("/accepted")]
    parities = [value for key, value in figures.items() if key.endswith("/parity")]
    figures |= {"zoo/tried": float(len(accepted)), "zoo/accepted": sum(accepted)}
    if accepted:
        figures["zoo/accepted-percent"] = 100 * sum(accepted) / len(accepted)
    if parities:
        figures["zoo/parity/worst"] = max(parities)
    finish(figures)


if __name__ == "__main__":
    main()
