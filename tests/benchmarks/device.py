"""Measure the files in C: equal spikes, what compilers and sanitizers say, memory, and the speed.

    python tests/benchmarks/device.py [--quick]

cifar10_resnet20, recipe quick, T=4, in real numbers and (``resnet20-8-bits``) with weights of 8 bits, and the digits
network, recipe casc, on 16 images each; of real numbers sums in another order may lie on the other side of a threshold,
of whole ones none does. ``equal-spikes`` is the percentage of spikes that are the same where each engine runs the whole
network from the images on, and ``equal-potentials`` that of membrane potentials that are, within a thousandth of the
threshold. ``bytes`` are those that the export states over those of the object file (gcc -Os), and of digits the ratio
that is farthest from 1.
``seconds`` is how long an image of digits takes dense, as ``--target generic-mcu`` tells from how fast the other
network runs here, over how long it does. ``ratio`` is how many images a second of one processor the file runs, one
after the other, over how many snnc does so: ``dense``, ``event-driven`` at every step, or ``by-rates``, as files are.
Of ``warnings`` and findings there shall be none.

``weight-bits`` are networks of 8-bit and 4-bit weights, recipes quick (neurons if) and nir, T=4, on a few images:
``equal-spikes`` is the percentage of spikes that are the same from the images on in every engine of every format (NIR
for the recipe nir), ``worst`` the least of all layers, networks and formats.
"""

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import PREPROCESSING, SHARED, arguments, event_frames, finish, model_files, say

import snnc
from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.errors import VerificationError
from snnc.feeds import Feeds
from snnc.formats.c import CFile, CFormat, Compiled, compilers
from snnc.formats.c.engine import FLAGS
from snnc.formats.format import formats
from snnc.formats.vectors import conformance_vectors
from snnc.formats.verification import verify
from snnc.hardware import Room
from snnc.ir import Input
from snnc.recipe import Recipe
from snnc.run import Program

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
NAME = "cifar10_resnet20"
STRICTER = ("-Wshadow", "-Wconversion", "-Wdouble-promotion", "-Wstrict-prototypes")
# How a file goes over what is silent: how it is written, and compiled.
LOOPS = {
    "dense": (CFormat(), ("-DSNN_EVENT_COST=INT32_MAX",)),
    "by-rates": (CFormat(), ()),
    "event-driven": (CFormat(event_driven=True), ()),
}
SANITIZED = ("-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def converted(model: Path, how: Recipe, data: Path, preprocessing: Preprocessing) -> Conversion:
    """Convert a network on 64 images."""
    made, _ = snnc.convert(model, how, data=data, preprocessing=preprocessing, reading=Reading(limit=64))
    return made


def images(made: Conversion, data: Path, count: int) -> Feeds:
    """Return images as a network takes them."""
    dataset = open_dataset(data, made.preprocessing, made.snn.ops(Input), Reading(limit=count))
    (name,) = made.snn.inputs
    return Feeds({name: torch.cat([feeds[name] for feeds in dataset.batches()])})


def complaints(source: str, *flags: str) -> int:
    """Return how many warnings all compilers here have about a file."""
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.c").write_text(source)
        for compiler in compilers():
            command = [compiler, *flags, "-c", "network.c", "-o", "network.o"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            found += done.stderr.count("warning:") + done.stderr.count("error:")
    return found


def sizes(file: CFile) -> tuple[int, int]:
    """Return the bytes of flash and of RAM that a file takes, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.c").write_text(file.source)
        subprocess.run([compilers()[0], "-std=c11", "-Os", "-c", "network.c"], cwd=folder, check=True)
        shown = subprocess.run(["size", "network.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, shown.splitlines()[1].split()[:3])
    return text + data, data + bss


def seconds(made: Conversion, engine: Compiled, feeds: Feeds) -> tuple[float, float]:
    """Return the seconds of a processor that an image takes in the file, and in snnc by itself, whatever else runs."""
    program = Program(made.snn, made.schedule)
    program(next(feeds.split(1)))
    before, started = os.times(), time.process_time()
    for image in feeds.split(1):
        program(image)
    here = time.process_time() - started
    times = -(-64 // feeds.samples)
    many = Feeds({name: torch.cat([samples] * times) for name, samples in feeds.items()})
    engine.answer(many, torch.Generator())
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent / many.samples, here / feeds.samples


def watched(made: Conversion, form: CFormat, feeds: Feeds) -> int:
    """Return whether sanitizers find anything in a run."""
    engine = Compiled(form.write(made).file, form.prefix, made.snn, made.schedule, compilers()[0], SANITIZED)
    try:
        engine.answer(feeds, torch.Generator())
    except VerificationError as error:
        say(str(error))
        return 1
    return 0


def compared(made: Conversion, file: CFile, feeds: Feeds) -> tuple[float, float]:
    """Return how many spikes, and how many potentials, the program in a file finds equal in vectors, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.c").write_text(file.source)
        (Path(folder) / "vectors").write_bytes(conformance_vectors(made, MemorySamples(feeds), potentials=True))
        command = [compilers()[0], *FLAGS, "-DSNN_MAIN", "network.c", "-o", "network"]
        subprocess.run(command, cwd=folder, check=True)
        program = [str(Path(folder) / "network"), "vectors"]
        said = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False).stdout
    spikes, potentials = re.findall(r"(\d+) of (\d+)", said)
    return 100 * int(spikes[0]) / int(spikes[1]), 100 * int(potentials[0]) / int(potentials[1])


def frames(folder: Path, part: str) -> Path:
    """Write frames of event recordings as an array of samples."""
    path = folder / f"{part}.npy"
    np.save(path, event_frames(part)[0][:64].numpy())
    return path


def weight_bits(count: int) -> dict[str, float]:
    """Return how many spikes are the same in networks of quantized weights, whoever runs them."""
    figures: dict[str, float] = {}
    small = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
    with tempfile.TemporaryDirectory() as temporary:
        parts = [frames(Path(temporary), part) for part in ("calibration", "test")]
        networks = {
            "digits": (DIGITS / "model.onnx", DIGITS / "calibration", DIGITS / "test", small),
            "nmnist_cnn_nir": (model_files("nmnist_cnn_nir")[0], *parts, Preprocessing()),
            **{
                name: (model_files(name)[0], SHARED / "cifar10/calibration", SHARED / "cifar10/test", how)
                for name, how in PREPROCESSING.items()
                if name.startswith("cifar10")
            },
        }
        for name, (model, calibration, test, preprocessing) in networks.items():
            for label, neuron, bits in itertools.product(("quick", "nir"), ("if",), (8, 4)):
                how = recipe.load(label, timesteps=4, neuron=neuron, weight_bits=bits)
                made = converted(model, how, calibration, preprocessing)
                feeds = images(made, test, count)
                for kind in ("onnx", "torch", "integers", "c", *(["nir"] if label == "nir" else [])):
                    form = formats[kind]()
                    refused = form.refusals(made)
                    if refused:
                        say(f"{name}, {label}, {bits} bits: {kind} refuses {refused[0].place}: {refused[0].message}")
                        figures[f"weight-bits/{name}/{label}/{bits}/{kind}/equal-spikes"] = 0.0
                        continue
                    written = form.write(made)
                    for engine in form.engines(written, made):
                        if engine.tolerance is None or engine.expected is not None:
                            continue
                        found = verify(made, written, engine, MemorySamples(feeds))
                        worst = min([100.0, *(min(layer.alone, layer.together) for layer in found.layers)])
                        key = f"weight-bits/{name}/{label}/{bits}/{kind}/equal-spikes"
                        figures[key] = min(worst, figures.get(key, 100.0))
                        say(f"{key}: {worst} ({engine.name}, outputs differ by {found.together_error:.0e})")
    return {**figures, "weight-bits/worst-equal-spikes": min(figures.values())}


def main() -> None:
    quick = arguments(__doc__ or "").quick
    torch.set_num_threads(1)
    count = 2 if quick else 16
    data = SHARED / "cifar10"
    how = recipe.load("quick", timesteps=4, neuron="if")
    residual = converted(model_files(NAME)[0], how, data / "calibration", PREPROCESSING[NAME])
    how = recipe.load("quick", timesteps=4, neuron="if", weight_bits=8)
    whole = converted(model_files(NAME)[0], how, data / "calibration", PREPROCESSING[NAME])
    small = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
    digits = converted(DIGITS / "model.onnx", recipe.load("casc"), DIGITS / "calibration", small)
    rates: dict[str, float] = {}
    figures: dict[str, float] = {"images": float(count), **weight_bits(2 if quick else 4)}
    networks = {
        "resnet20": (residual, data / "test"),
        "resnet20-8-bits": (whole, data / "test"),
        "digits": (digits, DIGITS / "test"),
    }
    for label, (made, folder) in networks.items():
        feeds = images(made, folder, count)
        for loop, (form, defined) in LOOPS.items():
            written = form.write(made)
            say(f"{label}, {loop}")
            engine = Compiled(written.file, form.prefix, made.snn, made.schedule, compilers()[0], (*FLAGS, *defined))
            found = verify(made, written, engine, MemorySamples(feeds))
            assert found.together is not None and found.worst_equal is not None
            spikes, potentials = compared(made, written.file, feeds)
            there, here = seconds(made, engine, feeds)
            figures |= {
                f"c/{label}/{loop}/equal-spikes": min(spikes, found.together),
                f"c/{label}/{loop}/equal-potentials": potentials,
                f"c/{label}/{loop}/worst-alone": found.worst_equal,
                f"c/{label}/{loop}/images-per-second-ratio": here / there,
                f"c/{label}/{loop}/milliseconds": 1000 * there,
            }
            said = {
                "warnings": complaints(written.file.source, *FLAGS),
                "stricter-warnings": complaints(written.file.source, *FLAGS[:4], *STRICTER),
                "sanitizer-findings": watched(made, form, next(feeds.split(2))),
            }
            figures |= {f"c/{what}": figures.get(f"c/{what}", 0.0) + number for what, number in said.items()}
            if shutil.which("size"):
                flash, ram = sizes(written.file)
                stated = written.file.constants + written.file.code, written.file.state + written.file.scratch
                figures[f"c/{label}/{loop}/bytes/flash"] = stated[0] / flash
                figures[f"c/{label}/{loop}/bytes/ram"] = stated[1] / ram
            if loop == "dense":
                work = Room(macs=1.0).seconds(written.file.macs, written.file.numbers)
                assert work is not None
                rates[label] = work / there
        for what in ("equal-spikes", "equal-potentials"):
            figures[f"c/{label}/{what}"] = min(figures[f"c/{label}/{loop}/{what}"] for loop in LOOPS)
    figures["c/digits/seconds"] = rates["digits"] / rates["resnet20"]
    ratios = [value for key, value in figures.items() if key.startswith("c/digits/") and "/bytes/" in key]
    figures |= {"c/digits/bytes": max(ratios, key=lambda ratio: abs(ratio - 1))} if ratios else {}
    finish(figures)


if __name__ == "__main__":
    main()
