"""NIR: how frameworks read the exported networks, and how they read the network as the NIR project converted it.

For digits and nmnist_cnn_nir, with the reset that the network has (soft) and calibrated for a reset to zero (hard), for
each profile and each framework that is installed: spikes equal to those of the reference that reads neurons as the
framework does (as_it_reads), spikes equal to snnc's, and the accuracy there. Beside them the same frames in the NIR
project's own conversion of nmnist_cnn_nir: the trained weights, neurons with thresholds of 1, nothing calibrated.
nir/frameworks is the least number, over networks and resets, of other frameworks (packages, not settings of one) that
read a file to the last step as the reference does.
"""

import importlib
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from harness import arguments, event_frames, event_rasters, finish, model_files, say

import snnc
from snnc import pipeline, recipe
from snnc.conversion import Conversion, Provenance
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Samples
from snnc.formats.match import Match
from snnc.formats.nir import NirFormat, nir_file
from snnc.formats.nir.engines import NirEngine, foreign
from snnc.formats.nir.frameworks import FRAMEWORKS, installed
from snnc.formats.nir.interpreter import HARD, SOFT, SPECIFIED, Interpreter
from snnc.formats.verification import verify
from snnc.ir import Graph
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.ops import Relu
from snnc.schedule import Schedule

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
GRAY = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
COUNTS = Preprocessing(scale=1.0)
NMNIST = "nmnist_cnn_nir"
PROFILES = ("portable", "cuba")
# Time steps of digits and of nmnist_cnn_nir.
TIMESTEPS = {"digits": 16, NMNIST: 32}

# Into how many steps the NIR project cuts a recording.
_BINS = 20

Figures = dict[str, float]


def converted(name: str, folder: Path, *, zero: bool, limit: int | None) -> tuple[Conversion, Path]:
    """Convert and calibrate a network; returns it and the images that it is judged on."""
    how = recipe.load("nir", timesteps=TIMESTEPS[name])
    how = recipe.reset_to_zero(how) if zero else how
    model, data, judged, preprocessing = (
        (DIGITS / "model.onnx", DIGITS / "calibration", DIGITS / "test", GRAY)
        if name == "digits"
        else (model_files(NMNIST)[0], folder / "calibration.npz", folder / "test.npz", COUNTS)
    )
    reading = Reading(limit=limit)
    made, _ = snnc.convert(model, how, data=data, preprocessing=preprocessing, reading=reading)
    return made, judged


def images(made: Conversion, judged: Path, limit: int | None) -> Samples:
    """Return the images that a network is judged on, and their labels."""
    reading = Reading(limit=limit)
    return DatasetSamples(open_dataset(judged, made.preprocessing, made.snn.input_shapes, reading), reading, "")


def told(key: str, found: Match) -> Figures:
    """Return what was compared as figures: nothing of a file that is not read."""
    if found.equal is None or found.together_error is None:
        say(f"{key}: {found.remark}")
        return {f"{key}/reads": 0.0}
    figures = {
        f"{key}/equal_spikes": found.equal,
        f"{key}/least_equal_layer": min((layer.together for layer in found.layers), default=100.0),
        f"{key}/output_error": found.together_error,
        f"{key}/agreement": found.agreement or 0.0,
    }
    if found.accuracy_there is not None:
        figures[f"{key}/top1"] = found.accuracy_there
    if found.expected is not None:
        figures |= {f"{key}/reads": 1.0, f"{key}/as_it_reads/equal_spikes": found.expected}
    say(f"{key}: " + ", ".join(f"{k.removeprefix(f'{key}/')} {v:.4g}" for k, v in figures.items()))
    return figures


def exported(key: str, made: Conversion, samples: Samples) -> tuple[Figures, set[str]]:
    """Measure the files of one network; returns with the figures the packages that read one as the reference does."""
    figures: Figures = {}
    readers: set[str] = set()
    for profile in PROFILES:
        written = NirFormat(profile).write(made)
        file = written.file.front
        own, other = (HARD, SOFT) if file.zero else (SOFT, HARD)
        for name, reading in {"reference": own, "other_reset": other, "as_specified": SPECIFIED}.items():
            engine = NirEngine(name, Interpreter(reading), file, made.snn)
            figures |= told(f"{key}/{profile}/{name}", verify(made, written, engine, samples))
        figures[f"{key}/{profile}/bytes"] = float(len(written.data))
        for framework in installed():
            if file.profile.neuron not in framework.readings:
                continue
            found = verify(made, written, foreign(framework, file, made.snn), samples)
            figures |= told(f"{key}/{profile}/{framework.name}", found)
            if found.expected is not None and not found.mismatch:
                readers.add(framework.package)
    return figures, readers


def original(samples: Samples, limit: int | None) -> Figures:
    """Read the network as the NIR project converted it: as trained, with spikes at a threshold of 1 for rectifiers."""
    trained = pipeline.read_trained(model_files(NMNIST)[0])
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    snn: Graph = trained.graph.with_ops(
        {name: IntegrateAndFire(one, potential=zero) for name in trained.graph.ops(Relu)}
    )
    provenance = Provenance(trained.file, {}, None, {})
    timesteps = TIMESTEPS[NMNIST]
    made = Conversion(None, snn, Schedule(timesteps), (), (), (), Preprocessing(), provenance)
    figures, _ = exported(f"{NMNIST}/original", made, samples)
    if FRAMEWORKS["sinabs"].version:
        figures[f"{NMNIST}/original/rasters/sinabs/top1"] = rastered(made, limit)
    return figures


def rastered(made: Conversion, limit: int | None) -> float:
    """Read that network as the project does: in sinabs, recordings in 20 bins of time, a step for each; in percent."""
    rasters, labels = (found[:limit] for found in event_rasters("test", _BINS))
    importer = importlib.import_module("sinabs.nir")
    graph = nir_file(made).graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = importer.from_nir(graph, batch_size=len(rasters), num_timesteps=_BINS)
        with torch.no_grad():
            output = network(rasters.flatten(0, 1))
    output = output[0] if isinstance(output, tuple) else output
    hits = output.reshape(len(rasters), _BINS, -1).sum(1).argmax(1) == labels
    say(f"{NMNIST}/original in {_BINS} bins, sinabs: {100 * hits.double().mean():.2f} %")
    return 100 * float(hits.double().mean())


def frames(folder: Path) -> None:
    """Write the event recordings as arrays."""
    for part in ("calibration", "test"):
        counts, labels = event_frames(part)
        np.savez(folder / f"{part}.npz", x=counts.numpy(), y=labels.numpy())


def main() -> None:
    quick = arguments(__doc__ or "").quick
    calibrated, judged = (64, 30) if quick else (None, None)
    figures: Figures = {}
    readers: list[set[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if model_files(NMNIST):
            frames(folder)
        for network in ["digits", *([NMNIST] if model_files(NMNIST) else [])]:
            for zero in (False, True):
                made, data = converted(network, folder, zero=zero, limit=calibrated)
                samples = images(made, data, judged)
                key = f"{network}/{'hard' if zero else 'soft'}"
                result = snnc.evaluate(made, data=data, reading=Reading(limit=judged))
                (row,) = result.rows
                figures[f"{network}/trained/top1"] = result.reference["accuracy"]
                figures |= {f"{key}/top1": row.accuracy or 0.0, f"{key}/timesteps": float(row.timesteps)}
                figures[f"{key}/images"] = float(result.samples)
                say(f"{key}: {row.accuracy:.2f} % (trained {result.reference['accuracy']:.2f})")
                found, who = exported(key, made, samples)
                figures |= found
                readers.append(who)
            if network == NMNIST:
                figures |= original(samples, judged)
    figures["nir/frameworks"] = float(min(len(who) for who in readers))
    figures["nir/frameworks_installed"] = float(len({framework.package for framework in installed()}))
    finish(figures)


if __name__ == "__main__":
    main()
