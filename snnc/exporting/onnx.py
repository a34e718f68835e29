"""Export a converted network to ONNX, and see that onnxruntime fires the same spikes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from snnc.conversion import Conversion
from snnc.export.onnx import Match, match, spiking_file
from snnc.exporting.samples import samples
from snnc.pipeline import Progress, Reading, silent
from snnc.schedule import check_steps


@dataclass(frozen=True)
class ExportedOnnx:
    """A file as it is to be written, and how it compares with the network, once for each number of time steps asked."""

    data: bytes
    matches: tuple[Match, ...]

    def plain(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {"bytes": len(self.data), "verified": [asdict(found) for found in self.matches]}

    @property
    def mismatch(self) -> str:
        """What is beyond tolerance; "" where nothing is, or nothing was compared."""
        return next((f"{m.mismatch} at T={m.timesteps}" for m in self.matches if m.mismatch), "")


def export_onnx(
    conversion: Conversion,
    *,
    step: bool = False,
    verify: bool = False,
    data: Path | None = None,
    timesteps: Sequence[int] = (),
    reading: Reading | None = None,
    progress: Progress = silent,
) -> ExportedOnnx:
    """Write a conversion as an ONNX file of standard operations, for whole trains or one time ``step``.

    ``verify`` runs it in onnxruntime at every number of ``timesteps`` (the conversion's own unless given), on 64 images
    of ``data`` or as many as ``reading`` says, or on noise without data. Raises ModelError for what ONNX cannot hold,
    UsageError for a number of steps that cannot be run, and VerificationError where onnxruntime refuses the file.
    """
    own, snn = conversion.schedule, conversion.snn
    for steps in timesteps:
        check_steps(steps, own.sleep, own.rehearsal, prefix="--")
    file = spiking_file(conversion, step=step)
    written = file.model.SerializeToString(deterministic=True)
    if not verify:
        return ExportedOnnx(written, ())
    matches = []
    for steps in timesteps or (own.timesteps,):
        label = f"verifying at T={steps}"
        batches, labels = samples(conversion, data, reading, label, progress)
        matches.append(match(file, written, snn, replace(own, timesteps=steps), batches, labels))
    return ExportedOnnx(written, tuple(matches))
