"""Convert trained networks that ship inside Python packages, on inputs of their own kind.

    python tests/benchmarks/wheels.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: magika, silero-vad (two files), rapidocr (detector, recognizer, classifier), basic-pitch, as they are listed
with --help; all where none is named. pip downloads the wheels into ``--folder``, which is kept. Inputs are bytes of
files that lie around, tones in the shape of speech and of music, and rendered text; half of them calibrate, the other
half is judged at T=16. Parity is that of the import with onnxruntime, relative errors are those of the spiking network
to the trained one.
"""

import math
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from harness import asked, downloaded, finish, parity, say
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image, ImageDraw, ImageFont

import snnc
from snnc import recipe
from snnc.errors import SnncError
from snnc.tasks import tasks

Arrays = dict[str, NDArray[np.generic]]
Shapes = dict[str, tuple[int, ...]]

TIMESTEPS = 16
COUNT = 64
WORDS = (
    *("spiking", "networks", "count", "what", "others", "multiply", "while", "every", "neuron", "waits", "for"),
    *("its", "threshold", "and", "thirteen", "quick", "brown", "foxes", "jump", "over", "2048", "bytes", "in", "1990"),
)


# --- inputs ---------------------------------------------------------------------------------------------------------


def file_bytes(count: int) -> Arrays:
    """Return the beginnings and ends of files of many kinds, as magika reads them."""
    root = Path(sysconfig.get_path("purelib"))
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and 64 < path.stat().st_size < 10**7:
            by_kind.setdefault(path.suffix, []).append(path)
    turns = [paths[turn * len(paths) // 16] for turn in range(16) for paths in by_kind.values() if turn < len(paths)]
    rows = []
    for path in list(dict.fromkeys(turns))[:count]:
        data = path.read_bytes()
        first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
        rows.append([*first, *[256] * (1024 - len(first)), *[256] * (1024 - len(last)), *last])
    return {"bytes": np.array(rows, np.int32)}


def speech(seconds: float, rate: int) -> NDArray[np.float32]:
    """Return something like speech: a voice of changing pitch and vowels, syllables, pauses, and noise."""
    generator = np.random.default_rng(0)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 130 + 40 * np.sin(2 * np.pi * 0.7 * time) + 15 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(time)
    first, second = 500 + 250 * np.sin(2 * np.pi * 1.1 * time), 1500 + 600 * np.sin(2 * np.pi * 1.7 * time + 1)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        shape = sum(1 / (1 + ((frequency - peak) / 120) ** 2) for peak in (first, second, np.full_like(time, 2500)))
        voice += shape * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time), 0, None) * (np.sin(2 * np.pi * 0.45 * time) > -0.3)
    sound = 0.15 * voice * syllables + 0.003 * generator.standard_normal(len(time))
    return sound.astype(np.float32)


def chunks(path: Path, count: int) -> Arrays:
    """Return chunks of speech with the states that the network has then."""
    sound = speech(count * 512 / 16000 + 1, 16000)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rate = {"sr": np.array(16000)} if "sr" in [entry.name for entry in session.get_inputs()] else {}
    state, inputs, states = np.zeros((2, 1, 128), np.float32), [], []
    for index in range(count):
        part = np.concatenate([np.zeros(64, np.float32), sound])[index * 512 : index * 512 + 576]
        inputs.append(part)
        states.append(state)
        _, state = session.run(None, {"input": part[None], "state": state, **rate})
    rates = {name: np.repeat(value, count) for name, value in rate.items()}
    return {"input": np.stack(inputs), "state": np.stack(states), **rates}


def text_images(height: int, width: int, lines: int, turned: bool = False) -> Callable[[Path, int], Arrays]:
    """Return what renders text in several sizes and shades; every other picture stands on its head where ``turned``."""

    def make(_: Path, count: int) -> Arrays:
        generator = np.random.default_rng(0)
        pictures = []
        for index in range(count):
            paper, ink = int(generator.integers(190, 256)), int(generator.integers(0, 90))
            picture = Image.new("RGB", (width, height), (paper, paper, int(generator.integers(170, 256))))
            draw = ImageDraw.Draw(picture)
            for line in range(lines):
                size = int(height / lines * generator.uniform(0.45, 0.7))
                words = " ".join(generator.choice(WORDS, 4))
                place = (int(generator.integers(2, 12)), int((line + 0.12) * height / lines))
                draw.text(place, words, fill=(ink, ink, ink), font=ImageFont.load_default(size))
            if turned and index % 4 >= 2:
                picture = picture.rotate(180)
            noise = generator.normal(0, 4, (height, width, 3))
            values = (np.asarray(picture, np.float32) + noise) / 127.5 - 1
            pictures.append(values.transpose(2, 0, 1).astype(np.float32))
        return {"x": np.stack(pictures)}

    return make


def music(_: Path, count: int) -> Arrays:
    """Return two seconds each of notes that overlap, with overtones that fade."""
    generator = np.random.default_rng(0)
    time = np.arange(43844) / 22050
    samples = []
    for _ in range(count):
        sound = 0.002 * generator.standard_normal(len(time))
        for _ in range(6):
            start, frequency = generator.uniform(0, 1.7), 440 * 2 ** (generator.integers(-24, 20) / 12)
            since = np.clip(time - start, 0, None)
            envelope = np.minimum(since * 60, 1) * np.exp(-2.5 * since)
            sound += 0.1 * sum(envelope * np.sin(2 * np.pi * h * frequency * since) / h for h in range(1, 6))
        samples.append(sound[:, None].astype(np.float32))
    return {"serving_default_input_2:0": np.stack(samples)}


# --- networks -------------------------------------------------------------------------------------------------------


def at_one_rate(path: Path) -> Path:
    """Write a file whose rate, an input that decides between two networks, is 16 kHz."""
    model = onnx.load(path)
    rate = next(entry for entry in model.graph.input if entry.name == "sr")
    model.graph.input.remove(rate)
    model.graph.initializer.append(numpy_helper.from_array(np.array(16000), "sr"))
    changed = path.with_name(f"{path.stem}_at_16k.onnx")
    onnx.save(model, changed)
    return changed


_VOICE: Shapes = {"input": (576,), "state": (2, 128)}

# The package, the file in it, what is done to the file, the shapes of inputs that it leaves open, what makes inputs.
NETWORKS: dict[str, tuple[str, str, Callable[[Path], Path] | None, Shapes, Callable[[Path, int], Arrays]]] = {
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx", None, {}, lambda _, count: file_bytes(count)),
    "silero-vad-16k": ("silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx", None, _VOICE, chunks),
    "silero-vad-ifless": (
        *("silero-vad", "silero_vad/data/silero_vad_op18_ifless.onnx"),
        *(at_one_rate, _VOICE, chunks),
    ),
    "rapidocr-detector": (
        *("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx"),
        *(None, {"x": (3, 160, 160)}, text_images(160, 160, 4)),
    ),
    "rapidocr-recognizer": (
        *("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx"),
        *(None, {"x": (3, 48, 160)}, text_images(48, 160, 1)),
    ),
    "rapidocr-classifier": (
        *("rapidocr", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
        *(None, {"x": (3, 48, 192)}, text_images(48, 192, 1, turned=True)),
    ),
    "basic-pitch": ("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx", None, {}, music),
}
# Whose outputs are classes.
CLASSIFIERS = {"magika", "rapidocr-classifier"}
# Two seconds of sound are as much work as hundreds of pictures.
FEWER = {"basic-pitch": 4}


def halves(arrays: Arrays) -> Iterator[Arrays]:
    """Yield every other sample, and the others."""
    for start in range(2):
        yield {name: values[start::2] for name, values in arrays.items()}


def measured(name: str, folder: Path, count: int) -> dict[str, float]:
    """Read, compare and convert one network."""
    package, inside, change, shapes, draw = NETWORKS[name]
    found = downloaded(package, folder)
    if found is None:
        return {}
    path = found / inside
    if not path.exists():
        say(f"{name}: {package} has no file {inside} any more")
        return {}
    path = path if change is None else change(path)
    key = f"wheels/{name}"
    refused = {f"{key}/accepted": 0.0}
    seen, judged = halves(draw(path, max(4, count // FEWER.get(name, 1))))
    shape = next(iter(shapes.values())) if len(shapes) == 1 else shapes or None
    try:
        error = parity(path, {entry: torch.from_numpy(values[:8]) for entry, values in judged.items()}, shape)
    except SnncError as failure:
        say("\n  ".join([f"{name}: {failure}", *failure.details[:12]]))
        return refused
    say(f"{name}: {error:.1e} from onnxruntime")
    figures = {f"{key}/accepted": 1.0, f"{key}/parity": error}
    # The only array of a file is x: as a name, what a file calls its input may do or not.
    seen, judged = (dict(zip(["x"] if len(part) == 1 else part, part.values(), strict=True)) for part in (seen, judged))
    np.savez(folder / "seen.npz", **seen)
    np.savez(folder / "judged.npz", **judged)
    how = recipe.load("quick", timesteps=TIMESTEPS)
    conversion, _ = snnc.convert(path, how, data=folder / "seen.npz", input_shape=shape)
    for task in ("values", *(["classification"] if name in CLASSIFIERS else [])):
        (row,) = snnc.evaluate(conversion, data=folder / "judged.npz", task=tasks[task]()).rows
        if task == "values":
            figures[f"{key}/relative-error"] = row.scores["relative-error"].value
            figures[f"{key}/cosine"] = row.scores["cosine"].value
            figures[f"{key}/energy-ratio"] = row.energy.ratio or math.nan
        else:
            figures[f"{key}/agreement"] = row.agreement or 0.0
    say(f"{name}: relative error {figures[f'{key}/relative-error']:.3f} at T={TIMESTEPS}")
    return figures


def main() -> None:
    given = asked(__doc__ or "", NETWORKS, "snnc-wheels")
    figures: dict[str, float] = {}
    for name in given.sections:
        figures |= measured(name, given.folder, 8 if given.quick else 2 * COUNT)
    accepted = [value for key, value in figures.items() if key.endswith("/accepted")]
    finish(figures | {"wheels/accepted": sum(accepted), "wheels/tried": float(len(accepted))})


if __name__ == "__main__":
    main()
