"""Measure what the commands cost from the shell: seconds and peak memory of convert and calibrate.

python tests/benchmarks/resources.py [--quick]
"""

import os
import subprocess
import sys
import tempfile
import time

from harness import SHARED, arguments, finish, model_files, say

FLAGS = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]


def measured(command: list[str], folder: str) -> tuple[float, float]:
    """Run ``snnc`` and return its seconds and its peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "snnc", *command], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"snnc {' '.join(command)} failed")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    quick = arguments(__doc__ or "").quick
    figures: dict[str, float] = {}
    model = str(model_files("cifar10_resnet20")[0])
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            seconds, _ = measured(["convert", model, "-o", "model.snn", *FLAGS], folder)
            say(f"convert without data: {seconds:.1f} s{' (not counted)' if not turn else ''}")
        figures["convert/seconds"] = seconds
        data = str(SHARED / "cifar10/calibration")
        for images in (32, 64) if quick else (256, 1024):
            command = [
                "calibrate",
                "model.snn",
                "-o",
                "out.snn",
                "--data",
                data,
                "--limit",
                str(images),
                "--recipe",
                "quick",
            ]
            seconds, memory = measured(command, folder)
            figures |= {f"calibrate/{images}/seconds": seconds, f"calibrate/{images}/peak_megabytes": memory}
            say(f"calibrate on {images} images: {seconds:.1f} s, {memory:.0f} MB")
        peaks = [value for key, value in figures.items() if key.endswith("peak_megabytes")]
        figures["calibrate/peak_ratio"] = peaks[-1] / peaks[0]
    finish(figures)


if __name__ == "__main__":
    main()
