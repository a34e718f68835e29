"""Break it: inputs made at random, kills at any moment, disks that are full, and runs that must give the same bytes.

    python tests/benchmarks/robustness.py [--quick] [--only fuzz kill disk bytes cases] [--inputs N] [--kills N]

Every command is a process of its own, on the digits of the examples. ``fuzz`` reads inputs of every kind (see
``tests.fuzz``). ``kill`` ends commands by KILL, TERM and INT at random moments: the old results or the new ones have to
be there whole, and the next run has to remove what was left. ``disk`` lets files grow no further at every size of the
result, and writes to places that cannot be written. ``bytes`` runs a conversion over threads, batch sizes, workers,
hash seeds, locales, and temporary folders. ``cases`` runs the small inputs that lie beside the repository.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

DIGITS = TREE / "examples" / "digits"
CASES = TREE.parent / "shared" / "cases"
SNNC = [sys.executable, "-m", "snnc"]
PIXELS = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")
DATA = ("--data", str(DIGITS / "calibration"), "--limit", "40")
LABELED = ("--data", str(DIGITS / "test"), "--limit", "40")

# What writes, and what it writes; what it reads is there whole.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "convert": (
        ("convert", "model.onnx", "-o", "m.snn", "--recipe", "quick", *PIXELS, *DATA),
        ("m.snn", "m.report.json"),
    ),
    "calibrate": (("calibrate", "m.snn", "--recipe", "quick", *DATA), ("m.snn", "m.report.json")),
    "evaluate": (("evaluate", "m.snn", "--timesteps", "2,4", *DATA, "--html", "r.html"), ("m.report.json", "r.html")),
    "tune": (
        (
            "tune",
            "model.onnx",
            "-o",
            "m.snn",
            "--max-drop",
            "50",
            "--max-steps",
            "20",
            "--minutes",
            "0.1",
            *PIXELS,
            *DATA,
        ),
        ("m.snn", "m.report.json"),
    ),
    "finetune": (("finetune", "model.onnx", "-o", "t.onnx", "--epochs", "1", *PIXELS, *LABELED), ("t.onnx",)),
    "export": (("export", "m.snn", "--format", "onnx", "-o", "e.onnx"), ("e.onnx",)),
}


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def workplace(folder: Path) -> None:
    """Put a trained network and a converted one into a folder."""
    shutil.copy(DIGITS / "model.onnx", folder)
    done = run(COMMANDS["convert"][0], folder)
    assert done.returncode == 0, done.stderr
    done = run(COMMANDS["evaluate"][0], folder)
    assert done.returncode == 0, done.stderr


def environment(**others: str) -> dict[str, str]:
    """Return the environment of a command."""
    return {**os.environ, "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1", **others}


def run(command: Sequence[str], folder: Path, **others: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    given = {"cwd": folder, "env": environment(**others), "capture_output": True, "text": True, "errors": "replace"}
    return subprocess.run([*SNNC, *command, "-q"], check=False, **given)  # type: ignore[call-overload, no-any-return]


def whole(folder: Path) -> str:
    """Return what is wrong with the results in a folder, nothing where all of them can be read."""
    import onnx

    from snnc.artifact import load_conversion
    from snnc.report import stored

    try:
        if (folder / "m.snn").exists():
            stored(load_conversion(folder / "m.snn"), folder / "m.report.json")
        for name in ("t.onnx", "e.onnx"):
            if (folder / name).exists():
                onnx.checker.check_model(onnx.load(folder / name))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def left(folder: Path) -> list[str]:
    """Return the temporary files in a folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith((".snnc-", "snnc-"))]


def kills(rounds: int) -> dict[str, int]:
    """Kill commands at random moments; return how often, and how often something was broken."""
    draw, broken = random.Random(0), 0
    with tempfile.TemporaryDirectory() as made:
        good = Path(made, "good")
        good.mkdir()
        workplace(good)
        lasts = {}
        for name, (command, _) in COMMANDS.items():
            folder = Path(made, f"timed-{name}")
            shutil.copytree(good, folder)
            start = time.monotonic()
            run(command, folder)
            lasts[name] = time.monotonic() - start
        for number in range(rounds):
            name = draw.choice(sorted(COMMANDS))
            command, _ = COMMANDS[name]
            folder, temporary = Path(made, "work"), Path(made, "temporary")
            shutil.copytree(good, folder)
            temporary.mkdir()
            given = {"cwd": folder, "env": environment(TMPDIR=str(temporary)), "stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen([*SNNC, *command, "-q"], **given)  # type: ignore[call-overload]
            time.sleep(draw.uniform(0, 1.1 * lasts[name]))
            how = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            process.send_signal(how)
            _, said = process.communicate()
            allowed = {0, 130, -how}
            wrong = [] if process.returncode in allowed else [f"exit {process.returncode}: {said[:200]}"]
            wrong += [problem] if (problem := whole(folder)) else []
            # Whoever writes there next tidies up.
            run(COMMANDS["convert"][0], folder, TMPDIR=str(temporary))
            wrong += [f"left {name}" for name in (*left(folder), *left(temporary))]
            if wrong:
                broken += 1
                say(f"{name} {how.name}: {'; '.join(wrong)}")
            shutil.rmtree(folder)
            shutil.rmtree(temporary)
            if number % 20 == 19:
                say(f"{number + 1} kills")
    return {"kill/rounds": rounds, "kill/broken": broken}


def disks(sizes: Sequence[int], chosen: Sequence[str]) -> dict[str, int]:
    """Let files of some commands grow to sizes only, and write where nobody can; return how often that broke some."""
    broken = 0
    with tempfile.TemporaryDirectory() as made:
        good = Path(made, "good")
        good.mkdir()
        workplace(good)

        def judged(name: str, prefix: str, command: Sequence[str], codes: set[int], **others: str) -> None:
            nonlocal broken
            folder = Path(made, "work")
            shutil.copytree(good, folder)
            words = " ".join(f"'{word}'" for word in [*SNNC, *command, "-q"])
            given = {"cwd": folder, "env": environment(**others), "capture_output": True, "text": True}
            done = subprocess.run(["bash", "-c", f"{prefix} {words}"], check=False, **given)  # type: ignore[call-overload]
            wrong = [] if done.returncode in codes else [f"exit {done.returncode}: {done.stderr[:200]}"]
            wrong += ["no error" for _ in range(1) if done.returncode == 5 and not done.stderr.startswith("error: ")]
            wrong += [problem] if (problem := whole(folder)) else []
            wrong += [f"left {name}" for name in left(folder)]
            if wrong:
                broken += 1
                say(f"{name}: {'; '.join(wrong)}")
            subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
            shutil.rmtree(folder)

        for name in chosen:
            command, _ = COMMANDS[name]
            for size in sizes:
                judged(f"{name}, {size} KiB", f"ulimit -f {size};", command, {0, 5})
        command = COMMANDS["convert"][0]
        also = " ".join(f"'{word}'" for word in [*SNNC, *command, "-q"])
        judged("a device", "", [word.replace("m.snn", "/dev/full") for word in command], {5})
        judged("no TMPDIR", "", command, {0, 5}, TMPDIR="/nowhere")
        judged("no HOME", "unset HOME;", command, {0})
        judged("C locale", "", command, {0}, LC_ALL="C")
        judged("two writers", f"{also} &", command, {0})
        judged("stdout closed", "exec >&-;", COMMANDS["convert"][0], {0})
        judged("stdout full", "exec > /dev/full;", ("inspect", "m.snn", "--json"), {0, 5})
        judged("the working folder is gone", "mkdir x; cd x; rmdir ../x;", ("inspect", "m.snn"), {2, 5})
    return {"disk-full/broken": broken}


def same_bytes() -> dict[str, int]:
    """Convert and evaluate in different surroundings; return how many, and how many gave other bytes."""
    variants: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
        "as it is": ({}, ()),
        "two threads": ({"OMP_NUM_THREADS": "2"}, ()),
        "batches of 7": ({}, ("--batch-size", "7")),
        "one worker": ({}, ("--workers", "1")),
        "three workers": ({}, ("--workers", "3")),
        "hash seed 1": ({"PYTHONHASHSEED": "1"}, ()),
        "hash seed 2": ({"PYTHONHASHSEED": "2"}, ()),
        "C locale": ({"LC_ALL": "C"}, ()),
        "another TMPDIR": ({"TMPDIR": "other"}, ()),
    }
    digests: dict[str, set[str]] = {}
    for name, (others, flags) in variants.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "other").mkdir()
            shutil.copy(DIGITS / "model.onnx", folder)
            if "TMPDIR" in others:
                others = {"TMPDIR": str(folder / "other")}
            for command in ("convert", "evaluate"):
                words = [word for word in COMMANDS[command][0] if word not in ("--html", "r.html")]
                # Trained, too: gradients are sums.
                words = ["default" if word == "quick" else word for word in words]
                words += ["--weight-bits", "6"] if command == "convert" else []
                done = run([*words, *flags], folder, **others)
                assert done.returncode == 0, done.stderr
            for file in ("m.snn", "m.report.json"):
                digests.setdefault(file, set()).add(hashlib.sha256((folder / file).read_bytes()).hexdigest())
        say(f"{name}: {[len(found) for found in digests.values()]} different so far")
    return {"bytes/variants": len(variants), "bytes/different": sum(len(found) - 1 for found in digests.values())}


def cases() -> dict[str, int]:
    """Run the small inputs beside the repository; return how many do not do as they should."""
    found = {}
    with tempfile.TemporaryDirectory() as made:
        for name, words in (("snnc", "-m snnc "), ("python", "")):
            # A link to the interpreter of a virtual environment would not find what is installed there.
            program = Path(made, name)
            program.write_text(f'#!/bin/sh\nPYTHONPATH={TREE} exec {sys.executable} {words}"$@"\n')
            program.chmod(0o755)
        for folder in ("bugs", "hostile"):
            names = [case["name"] for case in yaml.safe_load((CASES / folder / "cases.yaml").read_text())]
            command = [sys.executable, str(CASES / "run.py"), str(CASES / folder), str(Path(made, "snnc"))]
            wrong: dict[str, list[str]] = {}
            # A case that cannot be run ends the run: it is tried again alone, and so are those behind it.
            for asked in ([], *([name] for name in names)):
                if not asked or asked[0] not in wrong:
                    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
                    results = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
                    wrong |= {result["name"]: result["wrong"] for result in results}
            wrong = {name: wrong.get(name, ["it could not be run"]) for name in names}
            found[f"cases/{folder}/failing"] = sum(map(bool, wrong.values()))
            for name, reasons in wrong.items():
                if reasons:
                    say(f"{folder}/{name}: {'; '.join(reasons)}")
    return found


def fuzz(inputs: int) -> dict[str, int]:
    """Read inputs made at random; return how many, and how many have a fault."""
    from tests.fuzz.__main__ import hunt
    from tests.fuzz.kinds import KINDS

    with tempfile.TemporaryDirectory() as made:
        runs, faults = hunt(0, list(KINDS), 0, Path(made), inputs)
    return {"fuzz/runs": runs.total(), "fuzz/faults": len(faults)}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("fuzz", "kill", "disk", "bytes", "cases")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true", help="few of each, to see that it runs")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, int]]] = {
        "fuzz": lambda: fuzz(500 if given.quick else given.inputs),
        "kill": lambda: kills(5 if given.quick else given.kills),
        "disk": lambda: disks([0, 16], ["convert"]) if given.quick else disks([0, 4, 16, 64, 256], sorted(COMMANDS)),
        "bytes": same_bytes,
        "cases": cases,
    }
    figures: dict[str, int] = {}
    for part in given.only:
        figures |= measures[part]()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
