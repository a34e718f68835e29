"""Measure what large networks and many samples cost: memory and time of import, inspect, convert and reading.

    python tests/benchmarks/scale.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: import, quick, densenet, inspect, convert, vgg16, sources, processes, peak, decode; all of them where none is
named. Times are those of the processor, on one thread, but for ``processes``, which waits, and needs two cores for
itself. ``densenet``, ``inspect``, ``convert`` and ``vgg16`` take networks with random weights, made in ``--folder``
where they are not there, and images of random squares; ``vgg16`` takes 1,024 of them, and hours. ``sources`` and
``peak`` read the same images from folders, arrays, tar shards and, with pyarrow, Parquet; ``decode`` needs simplejpeg
to measure against it.
"""

import importlib
import importlib.util
import io
import itertools
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx
import torch
from harness import PREPROCESSING, SHARED, asked, finish, model_files, read, say
from large import file_of
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from zoo import Run, run

import snnc
from snnc import pipeline, process, recipe
from snnc.actions.plan import plan
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.decoding import decode
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.frontend import read_model
from snnc.ir import Input
from snnc.run import Program

RESNET = "cifar10_resnet20"
ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """Return the processor's time for some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def row_of(kinds: tuple[str, ...], count: int, path: Path) -> Path:
    """Write a network of so many nodes in a row, one kind after the other; what takes weights has its own."""
    nodes, weights = [], []
    for number, kind in zip(range(count), itertools.cycle(kinds), strict=False):
        inputs = [f"v{number}"]
        if kind == "MatMul":
            weights.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), f"w{number}"))
            inputs.append(f"w{number}")
        nodes.append(helper.make_node(kind, inputs, [f"v{number + 1}"], name=f"node {number}"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("v0", f"v{count}")]
    graph = helper.make_graph(nodes, "row", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def imported(folder: Path, quick: bool) -> dict[str, float]:
    """Read rows of nodes: the time of a node among many over that of one among few, the worst of all rows."""
    counts = (100, 300) if quick else (300, 3000)
    growths = {}
    for kinds in (("Identity",), ("Relu",), ("MatMul", "Relu")):
        each = []
        for count in counts:
            path = row_of(kinds, count, folder / "row.onnx")
            read_model(path)
            each.append(min(seconds(lambda path=path: read_model(path)) for _ in range(ROUNDS)) / count)
        growths["+".join(kinds)] = each[1] / each[0]
        say(f"{' and '.join(kinds)}: {1e3 * each[0]:.2f} ms a node of {counts[0]}, {1e3 * each[1]:.2f} of {counts[1]}")
    return {"scale/import/growth": max(growths.values())}


def corrected(folder: Path, quick: bool) -> dict[str, float]:
    """Run the recipe quick on a residual network."""
    return {"scale/quick/passes-over-forward": passes(model_files(RESNET)[0], 64 if quick else 1024, quick)}


def corrected_dense(folder: Path, quick: bool) -> dict[str, float]:
    """Run it on DenseNet-BC-100 (Huang et al., CVPR 2017) with random weights."""
    path = file_of("densenet-bc-100", folder)
    return {"scale/quick/densenet/passes-over-forward": passes(path, 16 if quick else 256, quick)}


def passes(path: Path, images: int, quick: bool) -> float:
    """Return how many passes of the trained network the recipe quick takes the time of, on images of CIFAR-10."""
    graph = read(path, (3, 32, 32))
    reading = Reading(limit=images)
    dataset = open_dataset(SHARED / "cifar10/calibration", PREPROCESSING[RESNET], graph.ops(Input), reading)
    samples = MemorySamples(Feeds({n: torch.cat([feeds[n] for feeds in dataset.batches()]) for n in graph.inputs}))
    steps = recipe.load("quick")
    program = Program(graph)

    def forward() -> None:
        for _ in program.stream(samples.batches()):
            pass

    forward()
    ratios = []
    for _ in range(1 if quick or images < 1024 else ROUNDS):
        before = seconds(forward)
        spent = seconds(lambda: pipeline.apply_recipe(graph, steps, samples))
        ratios.append(2 * spent / (before + seconds(forward)))
        say(f"recipe quick: {spent:.1f} s, {ratios[-1]:.2f} passes of the trained network")
    return sorted(ratios)[len(ratios) // 2]


def inspected(folder: Path, quick: bool) -> dict[str, float]:
    """Say what the default recipe makes of DenseNet-121, over the time in which the file is read."""
    path = file_of("densenet121", folder)
    steps = recipe.load("default")
    plan(path, steps)
    read_in = min(seconds(lambda: read_model(path)) for _ in range(ROUNDS))
    told_in = min(seconds(lambda: plan(path, steps)) for _ in range(ROUNDS))
    say(f"DenseNet-121: {read_in:.2f} s to read, {told_in:.2f} s to inspect")
    return {"scale/inspect/densenet121/cpu-over-import": told_in / read_in}


def converted(folder: Path, quick: bool) -> dict[str, float]:
    """Convert large networks by the recipe quick, from the command line, without data and with 64 random images.

    The figure is the most memory beyond 400 MB, over the size of the model file.
    """
    names = ("alexnet",) if quick else ("resnet50", "alexnet", "vgg16")
    figures = {}
    for name, images in itertools.product(names, (0, 4 if quick else 64)):
        path = file_of(name, folder)
        done = convert(path, images)
        key = f"scale/convert/{name}{'/images' if images else ''}/peak-over-file"
        figures[key] = (1024**3 * done.gigabytes - 400e6) / path.stat().st_size
        say(f"{name} on {images} images: {done.gigabytes:.2f} GB, {figures[key]:.2f} files; {done.seconds:.0f} s")
    return figures | {"scale/convert/peak-over-file": max(figures.values())}


def converted_on_many(folder: Path, quick: bool) -> dict[str, float]:
    """Convert VGG-16 on as many images as are usual."""
    done = convert(file_of("vgg16", folder), 4 if quick else 1024)
    say(f"VGG-16: {done.seconds:.0f} s, {done.gigabytes:.2f} GB")
    return {"scale/vgg16/convert/gigabytes": done.gigabytes, "scale/vgg16/convert/cpu-seconds": done.seconds}


def convert(path: Path, images: int) -> Run:
    """Convert a network of images of 224 x 224 pixels on so many random ones."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["convert", path, "-o", "made.snn", "--recipe", "quick"]
        if images:
            coarse = np.random.default_rng(0).integers(0, 256, (images, 14, 14, 3), np.uint8)
            np.savez(Path(scratch, "images.npz"), x=coarse.repeat(16, 1).repeat(16, 2))
            command += ["--data", "images.npz"]
        done = run(sys.executable, "-m", "snnc", *command, folder=Path(scratch), seconds=4 * 3600)
    if done.code:
        raise SystemExit(f"{path.name} on {images} images exits with {done.code}:\n{done.text[-1000:]}")
    return done


def kept(folder: Path, images: np.ndarray, labels: np.ndarray, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Keep images ``[N, height, width, 3]``, sorted by their labels, in a folder and what else there is."""
    files = [png(image) for image in images]
    for kind in kinds:
        place = folder / kind
        place.mkdir(parents=True)
        if kind == "folder":
            for number, (file, label) in enumerate(zip(files, labels, strict=True)):
                (place / f"{label}").mkdir(exist_ok=True)
                (place / f"{label}" / f"{number:06d}.png").write_bytes(file)
            yield kind, place
        if kind == "arrays":
            np.savez(place / "images.npz", x=images, y=labels)
            yield kind, place / "images.npz"
        if kind == "shards":
            for shard in range(4):
                with tarfile.open(place / f"{shard}.tar", "w") as archive:
                    for number in range(shard * len(files) // 4, (shard + 1) * len(files) // 4):
                        for suffix, content in ((".png", files[number]), (".cls", f"{labels[number]}".encode())):
                            member = tarfile.TarInfo(f"{number:06d}{suffix}")
                            member.size = len(content)
                            archive.addfile(member, io.BytesIO(content))
            yield kind, place / "{0..3}.tar"
        if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
            say("Parquet is not measured: pyarrow is not installed")
        elif kind == "parquet":
            arrow = importlib.import_module("pyarrow")
            columns = {"image": [{"bytes": file, "path": None} for file in files], "label": labels}
            writing = importlib.import_module("pyarrow.parquet").write_table
            writing(arrow.table(columns), place / "0.parquet", row_group_size=100)
            yield kind, place


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png", compress_level=1)
    return stream.getvalue()


def compared(folder: Path, quick: bool) -> dict[str, float]:
    """Calibrate and evaluate a residual network on the same images, kept in several ways."""
    with np.load(SHARED / "cifar10/train.npz") as file:
        order = np.argsort(file["y"][: 64 if quick else 256], kind="stable")
        images, labels = file["x"][order], file["y"][order]
    found: dict[str, tuple[bytes, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind, path in kept(Path(scratch), images, labels, ("folder", "arrays", "shards", "parquet")):
            made, _ = snnc.convert(model_files(RESNET)[0], "quick", data=path, preprocessing=PREPROCESSING[RESNET])
            figures = snnc.evaluate(made, data=path).plain()
            # Samples are called by their files, and the digest is of their names.
            told = {key: value for key, value in figures.items() if key in ("samples", "reference", "rows")}
            found[kind] = nameless(made, Path(scratch)), json.dumps(told, sort_keys=True)
            say(f"{kind}: {len(found[kind][0]):,} bytes, accuracy {figures['rows'][0]['accuracy']:.2f} %")
    return {"scale/same-bytes": float(len(set(found.values())) == 1)}


def nameless(made: Conversion, folder: Path) -> bytes:
    """Return the bytes of a network's file without the digest of the samples that it was calibrated on."""
    assert made.provenance.calibration is not None
    calibration = replace(made.provenance.calibration, sha256="")
    snnc.save(replace(made, provenance=replace(made.provenance, calibration=calibration)), folder / "made.snn")
    return (folder / "made.snn").read_bytes()


def shared(folder: Path, quick: bool) -> dict[str, float]:
    """Calibrate and evaluate a residual network in 1, 2 and 4 processes: what they write, and how long two take."""
    data = {name: SHARED / "cifar10" / name for name in ("calibration", "test")}
    limit = ("--limit", "64" if quick else "2000")
    steps = ("--timesteps", "1,2" if quick else "8,16,32")
    calibrate = ("calibrate", "made.snn", "--data", data["calibration"], "--limit", "64" if quick else "512")
    evaluate = ("evaluate", "made.snn", "--data", data["test"], *limit, *steps, "--no-fail")
    written, ratios = set(), []
    with tempfile.TemporaryDirectory() as scratch:
        places = {count: Path(scratch, f"{count}") for count in (1, 2, 4)}
        for count, place in places.items():
            place.mkdir()
            begun = ("convert", model_files(RESNET)[0], "-o", "made.snn", "--recipe", "quick", "--neuron", "if")
            how = {name: [*getattr(PREPROCESSING[RESNET], name)] for name in ("mean", "std")}
            (place / "snnc.yaml").write_text(json.dumps({"preprocessing": how}))
            waited(1, place, *begun)
            waited(count, place, *calibrate)
            waited(count, place, *evaluate)
            written.add(tuple((place / name).read_bytes() for name in ("made.snn", "made.report.json")))
        for _ in range(1 if quick else ROUNDS):
            one, two = (waited(count, places[count], *evaluate) for count in (1, 2))
            ratios.append(one / two)
            say(f"evaluate: {one:.1f} s in one process, {two:.1f} in two")
    return {
        "scale/same-bytes": float(len(written) == 1),
        "scale/processes=2/speed-ratio": sorted(ratios)[len(ratios) // 2],
    }


def waited(processes: int, folder: Path, *command: str | Path) -> float:
    """Return the seconds that a command takes in so many processes, with one thread each, their start included."""
    many = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    started = time.monotonic()
    done = run(sys.executable, *(many if processes > 1 else ()), "-m", "snnc", *command, folder=folder)
    if done.code:
        raise SystemExit(f"{command[0]} in {processes} processes exits with {done.code}:\n{done.text[-2000:]}")
    return time.monotonic() - started


def bounded(folder: Path, quick: bool) -> dict[str, float]:
    """Convert and evaluate a small network on few and on many small images: the memory of many over that of few."""
    counts = (100, 400) if quick else (1_000, 20_000)
    draw = np.random.default_rng(0)
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = small(Path(scratch, "small.onnx"))
        for count in counts:
            images = draw.integers(0, 256, (count, 8, 8, 3), np.uint8)
            labels = np.sort(draw.integers(0, 10, count))
            for kind, path in kept(Path(scratch, f"{count}"), images, labels, ("folder", "shards", "parquet")):
                for command in (("convert", model, "--recipe", "quick"), ("evaluate", "small.snn", "--fresh")):
                    done = run(sys.executable, "-m", "snnc", *command, "--data", path, folder=Path(scratch))
                    if done.code:
                        say(f"{command[0]} on {kind} exits with {done.code}:\n{done.text[-1000:]}")
                        return {"scale/peak-ratio": float("nan")}
                    peaks.setdefault(f"{kind}/{command[0]}", []).append(done.gigabytes)
                    say(f"{kind}, {command[0]}: {count:,} images, {1024 * done.gigabytes:.0f} MB")
    ratios = {name: few_and_many[1] / few_and_many[0] for name, few_and_many in peaks.items()}
    return {"scale/peak-ratio": max(ratios.values())}


def small(path: Path) -> Path:
    """Write a network of two layers for images of 8 x 8 pixels, as a file."""
    draw = np.random.default_rng(0)
    weights = {"w": draw.normal(0, 0.3, (8, 3, 3, 3)), "v": draw.normal(0, 0.1, (512, 10))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    ends = (("x", ["N", 3, 8, 8]), ("y", ["N", 10]))
    first, last = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "small", [first], [last], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def decoded(folder: Path, quick: bool) -> dict[str, float]:
    """Decode photographs, as JPEG, on one thread: images per second, and that over what the fastest decoder does."""
    files = [*(SHARED / "imagenet_sample/images").iterdir(), *(SHARED / "coco/images").iterdir()]
    contents = [path.read_bytes() for path in sorted(files)[: 20 if quick else None]]
    ways: dict[str, Callable[[bytes], object]] = {
        "snnc": lambda content: decode(io.BytesIO(content), gray=False, place="image"),
        "Pillow": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
    }
    if importlib.util.find_spec("simplejpeg") is not None:
        ways["simplejpeg"] = importlib.import_module("simplejpeg").decode_jpeg
    best = dict.fromkeys(ways, 0.0)
    with process.limited_memory(process.default_memory()):
        for name in list(ways) * (1 if quick else ROUNDS):
            best[name] = max(best[name], len(contents) / seconds(lambda name=name: [*map(ways[name], contents)]))
    for name, way in ways.items():
        same = sum(np.array_equal(way(content), ways["snnc"](content)) for content in contents)
        say(f"{name}: {best[name]:.0f} images a second, {same} of {len(contents)} with the pixels of snnc")
    others = max(speed for name, speed in best.items() if name != "snnc")
    return {"scale/decode/images-per-second": best["snnc"], "scale/decode/ratio": best["snnc"] / others}


SECTIONS: Mapping[str, Callable[[Path, bool], dict[str, float]]] = {
    "import": imported,
    "quick": corrected,
    "densenet": corrected_dense,
    "inspect": inspected,
    "convert": converted,
    "vgg16": converted_on_many,
    "sources": compared,
    "processes": shared,
    "peak": bounded,
    "decode": decoded,
}


def main() -> None:
    given = asked(__doc__ or "", SECTIONS, "snnc-zoo")
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for name in given.sections:
        for figure, value in SECTIONS[name](given.folder, given.quick).items():
            # Two sections say of the same figure whether it holds.
            figures[figure] = min(value, figures.get(figure, value))
    finish(figures)


if __name__ == "__main__":
    main()
