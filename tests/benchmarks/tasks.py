"""Measure tasks and data of other kinds than images of one class: real networks on real data.

    python tests/benchmarks/tasks.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: nmnist, events; all of them where none is named. Nothing is chosen on what is measured on. ``--folder`` keeps
what is made on the way.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import snnc
from snnc import process

process.prepare()

import numpy as np
from harness import SHARED, finish, say

from snnc import recipe
from snnc.data.dataset import Reading
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import Preprocessing

Figures = dict[str, float]

QUICK = False
FOLDER = Path(tempfile.gettempdir()) / "snnc-tasks"


# --- event cameras --------------------------------------------------------------------------------------------------

NMNIST = SHARED / "models/nmnist_cnn_nir.onnx"
# Neurons by recipe; consistent ones sleep until nothing fires.
NEURONS = {
    "two-phase": "quick",
    "two-phase-probabilistic": "tpp",
    "if": "quick",
    "cif": "casc",
}


def nmnist() -> Figures:
    """Convert a classifier of event recordings; frame t of as many as there are steps is the current at step t.

    The trained network beside it sees each frame, and its outputs are averaged: recordings are of a camera that moves,
    and their sum is a blur. ``of-sum`` is beside a network that sees the blur, which is what neurons that gather before
    they fire see. ``misalignment`` is what shuffling the spikes over time gains, in points.
    """
    figures: Figures = {}
    for frames in (3, 8, 16, 32):
        for name in NEURONS:
            figures |= seen(name, frames, "frames", f"nmnist/{name}/frames={frames}")
        figures[f"nmnist/ann/frames={frames}/top1"] = figures.pop("trained")
        found = [value for key, value in figures.items() if key.endswith(f"frames={frames}/agreement")]
        figures[f"nmnist/best/frames={frames}/agreement"] = max(found)
    for name in ("two-phase", "two-phase-probabilistic"):
        figures |= seen(name, 8, "sum", f"nmnist/of-sum/{name}/frames=8")
    figures["nmnist/of-sum/ann/frames=8/top1"] = figures.pop("trained")
    return figures | {"nmnist/ann/top1": figures["nmnist/ann/frames=3/top1"]}


def seen(neuron: str, frames: int, reference: Literal["frames", "sum"], key: str) -> Figures:
    """Return what a neuron makes of so many frames, and the accuracy of the trained network."""
    how = Preprocessing(events=EventFrames(frames=frames), reference=reference)
    steps = recipe.load(NEURONS[neuron], timesteps=frames, neuron=neuron)
    made, _ = snnc.convert(NMNIST, steps, data=SHARED / "nmnist/events_calibration.npz", preprocessing=how)
    result = snnc.evaluate(
        made,
        data=SHARED / "nmnist/events_test.npz",
        repeats=3 if neuron == "two-phase-probabilistic" and not QUICK else 1,
        probe=None if neuron.startswith("two-phase") else "permutation",
        reading=Reading(limit=20 if QUICK else None),
    )
    (row,) = result.rows
    trained = result.reference["accuracy"]
    assert row.accuracy is not None and row.agreement is not None
    say(f"{key}: {row.accuracy:.1f} %, agreement {row.agreement:.1f}, trained {trained:.1f}")
    shuffled = {} if row.misalignment is None else {f"{key}/misalignment": row.misalignment}
    return {f"{key}/top1": row.accuracy, f"{key}/agreement": row.agreement, **shuffled, "trained": trained}


def events() -> Figures:
    """Compare the peak memory of evaluations of many recordings and of few: those that there are, repeated."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / "nmnist.snn"
    command = ["convert", str(NMNIST), "--neuron", "if", "--recipe", "quick", "-o", str(model)]
    command += ["--data", str(SHARED / "nmnist/events_calibration.npz")]
    subprocess.run([sys.executable, "-m", "snnc", *command], cwd=FOLDER, stdout=subprocess.DEVNULL, check=True)
    peaks: dict[int, float] = {}
    for count in (50, 100) if QUICK else (250, 1000):
        peaks[count] = peak(model, repeated(count), count)
        say(f"{count} recordings: {peaks[count]:.0f} MB")
    few, many = sorted(peaks)
    return {"events/peak-ratio": peaks[many] / peaks[few], "events/peak-megabytes": peaks[many]}


def repeated(count: int) -> Path:
    """Return a file of as many recordings, those for testing again and again."""
    path = FOLDER / f"recordings_{count}.npz"
    with np.load(SHARED / "nmnist/events_test.npz") as file:
        rows, offsets, labels = file["events_xypt"], file["offsets"], file["labels"]
    parts = [rows[start:stop] for start, stop in itertools.pairwise(offsets)]
    chosen = [index % len(parts) for index in range(count)]
    np.savez_compressed(
        path,
        events_xypt=np.concatenate([parts[index] for index in chosen]),
        offsets=np.cumsum([0, *(len(parts[index]) for index in chosen)]),
        labels=labels[chosen],
    )
    return path


def peak(model: Path, data: Path, count: int) -> float:
    """Return the peak memory of an evaluation from the shell, in MB."""
    command = ["evaluate", str(model), "--data", str(data), "--report", str(FOLDER / f"{count}.report.json")]
    running = subprocess.Popen([sys.executable, "-m", "snnc", *command], cwd=FOLDER, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"snnc {' '.join(command)} failed")
    return usage.ru_maxrss / 1024


SECTIONS: dict[str, Callable[[], Figures]] = {
    "nmnist": nmnist,
    "events": events,
}


def main() -> None:
    global QUICK, FOLDER
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="kept")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {sorted(unknown)[0]!r}; there are: {', '.join(SECTIONS)}")
    QUICK, FOLDER = given.quick, given.folder.resolve()
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    for name in given.sections or SECTIONS:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
