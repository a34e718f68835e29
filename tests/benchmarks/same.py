"""Compare this tree with an older checkout: every tensor and every figure the same, and no slower.

    python tests/benchmarks/same.py OLD_CHECKOUT [--network NAME ...] [--recipe NAME ...] [--no-speed] [--only-speed]

Both trees are driven through their command lines: 64 calibration images, 200 test images. Tensors of model.snn are
compared bit for bit, by node and field; figures and texts of what the commands print and write by their keys, where
both have the key. Speeds are times of the old tree divided by times of this one, the median over interleaved rounds;
``.../processor`` counts the time on processors instead, which other programs disturb less. Nothing here imports snnc,
so that it survives what changes inside.
"""

import argparse
import itertools
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from torch import Tensor

NEW = Path(__file__).resolve().parents[2]
SHARED = NEW.parent / "shared" / "data"
DIGITS = NEW / "examples" / "digits"
NETWORKS = ("digits", "cifar10_resnet20", "cifar10_nin", "mnist_resnet10_uniform3bit", "nmnist_cnn_nir")
RECIPES = ("quick", "casc", "residual-noise")
# Whose neurons fire before all has come, so that the order of spikes counts.
IN_ORDER = ("casc", "residual-noise", "error-compensation", "synchronous")
CALIBRATION, TEST, SPEED, ROUNDS = 64, 200, 1000, 3

# What a key of the old tree is called in this one: a pattern, and what it becomes. Keys are as in the listing, without
# the network and the recipe.
RENAMED: tuple[tuple[str, str], ...] = ((r"report\.summary\.outputs\.", "report.outputs.pairs."),)

# Differences that are meant: a pattern for the whole of what is listed, and the reason.
EXPECTED: tuple[tuple[str, str], ...] = (
    (r"/provenance\.versions\.", "the version of what made it is no result"),
    (r"\.(format|schema_version)$", "formats have no readers of older versions"),
    (r"/(convert|model)\.report\.provenance\.snn$", "a digest of all fields of the network, of which there are others"),
    (r"\.findings\.(\d+|undecided-gate-)\.message$", "one rounding for one figure"),
    (r"model\.snn\.applied\..*\.plugin$", "a network names the plug-ins that it needs"),
    (r"model\.snn\.schedule\.frames$", "input over time has steps of its own"),
    (r"report\.passes\..*\.plugin$", "one record of an applied pass, in files and reports"),
    (r"model\.snn\.task$|\.fields\.numbers$", "a network says what an answer is, and what its input"),
    (r"report\.layers\.[^.]*\.levels$", "levels are no time steps"),
)


@dataclass(frozen=True)
class Difference:
    """One place where the two trees differ; ``kind`` is tensor, figure, text, gone or new."""

    kind: str
    key: str
    values: str

    @property
    def reason(self) -> str:
        """Why it is expected, or nothing."""
        return next((reason for pattern, reason in EXPECTED if re.search(pattern, self.key)), "")


def snnc(tree: Path, folder: Path, *arguments: str) -> Any:
    """Run a command of one tree in ``folder``, and return what it prints as data."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snnc", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree}: snnc {' '.join(arguments)}\n{done.stderr}")
    return json.loads(done.stdout)


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def check_tree(tree: Path) -> None:
    """Make sure that it is this tree that runs, and not one that is installed."""
    command = [sys.executable, "-c", "import snnc; print(snnc.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    # Elsewhere: python looks in the working folder first.
    home = tempfile.gettempdir()
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True)
    found = done.stdout.strip()
    if not Path(found).is_relative_to(tree):
        raise SystemExit(f"{tree} does not run: {found} does")


def with_aligned_tensors(old: Path, folder: Path) -> Path:
    """Return a copy of the old tree that copies what it reads, as this one does.

    Read in place, tensors lie in memory where the length of a file's header puts them, and products of matrices round
    otherwise there. That is no difference between the trees, but between the texts in their headers.
    """
    copy = folder / "tree"
    shutil.copytree(old / "snnc", copy / "snnc", ignore=shutil.ignore_patterns("__pycache__"))
    reader = copy / "snnc" / "artifact.py"
    text = reader.read_text(encoding="utf-8")
    in_place = "file.get_tensor(name) for"
    reader.write_text(text.replace(in_place, "file.get_tensor(name).clone() for"), encoding="utf-8")
    return copy


def event_arrays(folder: Path) -> dict[str, Path]:
    """Write frames of the event recordings, a third of a recording each, as array files."""
    files = {part: folder / f"nmnist_{part}.npz" for part in ("calibration", "test")}
    for part, file in files.items():
        if file.exists():
            continue
        with np.load(SHARED / "nmnist" / f"events_{part}.npz") as recorded:
            events, offsets, labels = recorded["events_xypt"], recorded["offsets"], recorded["labels"]
        frames = np.zeros((len(labels), 3, 2, 34, 34), np.float32)
        for index, (start, stop) in enumerate(itertools.pairwise(offsets)):
            x, y, polarity, moment = events[start:stop].T.astype(np.int64)
            bins = np.minimum((moment - moment.min()) * 3 // max(int(np.ptp(moment)), 1), 2)
            np.add.at(frames[index], (bins, polarity, y, x), 1)
        np.savez(file, x=frames.reshape(-1, 2, 34, 34), y=labels.astype(np.int64).repeat(3))
    return files


def inputs(network: str, folder: Path) -> tuple[Path, Path, Path, list[str]]:
    """Return the trained network, calibration and test data, and flags that say how data is read."""
    if network == "digits":
        return DIGITS / "model.onnx", DIGITS / "calibration", DIGITS / "test", _flags([0.31], [0.38], "gray")
    model = SHARED / "models" / f"{network}.onnx"
    if network == "nmnist_cnn_nir":
        files = event_arrays(folder)
        return model, files["calibration"], files["test"], []
    data = SHARED / network.partition("_")[0]
    stated = json.loads((SHARED / "models" / "manifest.json").read_text())[network]
    channels = "gray" if stated["input"][0] == 1 else "rgb"
    return model, data / "calibration", data / "test", _flags(stated["mean"], stated["std"], channels)


def _flags(mean: Iterable[float], std: Iterable[float], channels: str) -> list[str]:
    return ["--mean", ",".join(map(str, mean)), "--std", ",".join(map(str, std)), "--channels", channels]


def measure(tree: Path, folder: Path, network: str, recipe: str, data: Path) -> None:
    """Convert and evaluate with one tree; leaves model.snn, and what was printed and reported, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "evaluate.json").exists():
        return
    model, calibration, test, flags = inputs(network, data)
    reads = ["--data", str(calibration), "--limit", str(CALIBRATION), *flags]
    said = snnc(tree, folder, "convert", str(model), "-o", "model.snn", "--recipe", recipe, *reads)
    (folder / "convert.json").write_text(json.dumps(said))
    asked = ["--timesteps", "4,8", "--blame", "--blame-images", "8"]
    if recipe in IN_ORDER:
        asked += ["--probe", "permutation"]
    gates = ["--max-drop", "1", "--min-agreement", "90", "--max-energy-ratio", "1", "--max-spikes", "1000", "--no-fail"]
    reads = ["--data", str(test), "--limit", str(TEST)]
    said = snnc(tree, folder, "evaluate", "model.snn", *reads, *asked, *gates, "--max-layer-error", "0.5")
    (folder / "evaluate.json").write_text(json.dumps(said))


def flat(data: Any, key: str = "") -> dict[str, Any]:
    """Return nested data by dotted keys; of a list of things, by what tells them apart."""
    if isinstance(data, Mapping):
        named = {str(name): value for name, value in data.items()}
    elif isinstance(data, list | tuple):
        named = dict(zip(_names(data), data, strict=True))
    else:
        return {key: data}
    found: dict[str, Any] = {}
    for name, value in named.items():
        found |= flat(value, f"{key}.{name}" if key else name)
    return found


def _names(things: list[Any] | tuple[Any, ...]) -> list[str]:
    for fields in (("name",), ("timesteps",), ("code", "node"), ("limit",)):
        if things and all(isinstance(thing, dict) and set(fields) <= set(thing) for thing in things):
            names = ["-".join(str(thing[field]) for field in fields) for thing in things]
            if len(set(names)) == len(names):
                return names
    return [str(index) for index in range(len(things))]


def network_file(path: Path) -> dict[str, Any]:
    """Return what model.snn holds, tensors at the node and field that they belong to."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["snnc"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping

    def put_in(data: Any) -> Any:
        if isinstance(data, dict):
            return tensors[data["tensor"]] if set(data) == {"tensor"} else {k: put_in(v) for k, v in data.items()}
        return [put_in(value) for value in data] if isinstance(data, list) else data

    return flat(put_in(header), "model.snn")


def results(folder: Path) -> dict[str, Any]:
    """Return everything that ``measure`` left."""
    found = network_file(folder / "model.snn")
    for name in ("convert.json", "evaluate.json", "model.report.json"):
        found |= flat(json.loads((folder / name).read_text()), name.removesuffix(".json"))
    return found


def compare(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> list[Difference]:
    """Return every difference."""
    renamed = {}
    for key, value in old.items():
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    found = []
    for key, value in renamed.items():
        if key in new and not _equal(value, new[key]):
            found.append(Difference(_kind(value), f"{place}/{key}", f"{_shown(value)} -> {_shown(new[key])}"))
    for kind, some, others in (("gone", renamed, new), ("new", new, renamed)):
        # The entries of a list are one line.
        alike: dict[str, list[Any]] = {}
        for key, value in some.items():
            if key not in others:
                alike.setdefault(re.sub(r"\.\d+(?=\.|$)", ".*", key), []).append(value)
        for key, values in alike.items():
            more = f" and {len(values) - 1} more" if len(values) > 1 else ""
            found.append(Difference(kind, f"{place}/{key}", _shown(values[0]) + more))
    return found


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        alike = old.dtype == new.dtype and old.shape == new.shape
        return alike and old.contiguous().numpy().tobytes() == new.contiguous().numpy().tobytes()
    return type(old) is type(new) and not isinstance(old, Tensor) and bool(old == new)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    return "text" if isinstance(value, str) else "figure"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}, sum {float(value.double().sum()):.12g}"
    return repr(value)


def sameness(old: Path, networks: Iterable[str], recipes: Iterable[str], folder: Path, kept: Path) -> dict[str, float]:
    """Compare all that was asked for, list every difference, and count them."""
    figures = dict.fromkeys(("tensors", "figures", "texts"), 0)
    counts = dict.fromkeys(("tensor", "figure", "text", "gone", "new", "expected"), 0)
    for network in networks:
        for recipe in recipes:
            place = f"{network}/{recipe}"
            trees = {old: kept / network / recipe, NEW: folder / "new" / network / recipe}
            with ThreadPoolExecutor(2) as pool:
                running = [pool.submit(measure, *job, network, recipe, folder) for job in trees.items()]
            for job in running:
                job.result()
            found = {tree: results(made) for tree, made in trees.items()}
            for value in found[NEW].values():
                figures[f"{_kind(value)}s"] += 1
            different = compare(found[old], found[NEW], place)
            for difference in different:
                counts["expected" if difference.reason else difference.kind] += 1
                note = f"  (expected: {difference.reason})" if difference.reason else ""
                say(f"{difference.kind}: {difference.key}: {difference.values}{note}")
            say(f"{place}: {sum(not difference.reason for difference in different)} unexpected differences")
    return {
        **{f"same/{kind}": float(count) for kind, count in figures.items()},
        **{f"same/{kind}s-different": float(counts[kind]) for kind in ("tensor", "figure", "text")},
        "same/keys-gone": float(counts["gone"]),
        "same/keys-new": float(counts["new"]),
        "same/expected": float(counts["expected"]),
    }


def speeds(old: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Time convert and evaluate of both trees in turn."""
    network = "cifar10_resnet20"
    model, calibration, test, flags = inputs(network, folder)
    reads = ["--data", str(calibration), "--limit", "1024", "--recipe", "quick", *flags]
    works = {
        "convert": ["convert", str(model), "-o", "model.snn", *reads],
        "evaluate": ["evaluate", "model.snn", "--data", str(test), "--limit", str(SPEED)],
    }
    seconds: dict[tuple[str, Path], list[tuple[float, float]]] = {}
    for turn in range(rounds):
        for work, command in works.items():
            # In turns, so that neither tree is always the one that finds the disk cold.
            for tree in (old, NEW) if turn % 2 else (NEW, old):
                place = folder / "speed" / ("new" if tree == NEW else "old")
                place.mkdir(parents=True, exist_ok=True)
                used, started = _processor(), time.perf_counter()
                snnc(tree, place, *command)
                taken = time.perf_counter() - started, _processor() - used
                seconds.setdefault((work, tree), []).append(taken)
        say(f"round {turn + 1} of {rounds}")
    figures = {"same/rounds": float(rounds)}
    for work in works:
        pairs = list(zip(seconds[work, old], seconds[work, NEW], strict=True))
        for index, ending in enumerate(("", "/processor")):
            figures[f"same/{work}-speed{ending}"] = statistics.median(one[index] / two[index] for one, two in pairs)
        figures[f"same/{work}-seconds"] = statistics.median(two[0] for _, two in pairs)
    return figures


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT", help="a checkout of the commit to compare with")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this; can be repeated")
    parser.add_argument("--recipe", action="append", help=f"this instead of {', '.join(RECIPES)}; can be repeated")
    parser.add_argument("--no-speed", action="store_true", help="compare results only")
    parser.add_argument("--only-speed", action="store_true", help="compare speeds only")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of timing, default {ROUNDS}")
    parser.add_argument("--kept", type=Path, help="a folder for results of the old tree: those that are there are used")
    given = parser.parse_args()
    old = given.old.resolve()
    for tree in (old, NEW):
        check_tree(tree)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        old = with_aligned_tensors(old, folder)
        if not given.only_speed:
            kept = given.kept.resolve() if given.kept else folder / "old"
            figures |= sameness(old, given.network or NETWORKS, given.recipe or RECIPES, folder, kept)
        if not given.no_speed:
            figures |= speeds(old, folder, given.rounds)
    print(json.dumps(figures, indent=1, sort_keys=True))
    if any(figures.get(f"same/{kind}s-different") for kind in ("tensor", "figure", "text")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
