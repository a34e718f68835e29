"""Export a converted network to ONNX, and see that onnxruntime fires the same spikes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, final

from snnc.conversion import Conversion
from snnc.export.onnx import Match, match, spiking_file
from snnc.exporting.exported import Exported, exports
from snnc.exporting.samples import samples
from snnc.pipeline import Progress, Reading, silent
from snnc.report.data import Verification
from snnc.schedule import check_steps


@final
@dataclass(frozen=True)
class ExportedOnnx(Exported):
    """An ONNX file, and how it compares with the network, once for each number of time steps asked."""

    step: bool
    matches: tuple[Match, ...] = ()

    def plain(self) -> dict[str, Any]:
        return {"bytes": len(self.data), "verified": [asdict(found) for found in self.matches]}

    @property
    def mismatch(self) -> str:
        return next((f"{m.mismatch} at T={m.timesteps}" for m in self.matches if m.mismatch), "")

    def verifications(self) -> tuple[Verification, ...]:
        return tuple(map(self._verification, self.matches))

    def _verification(self, found: Match) -> Verification:
        worst = min(found.layers, key=lambda layer: layer.alone, default=None)
        return Verification(
            format="onnx",
            variant="one step" if self.step else "whole trains",
            engine=f"onnxruntime {metadata.version('onnxruntime')}",
            timesteps=found.timesteps,
            images=found.images,
            verdict="failed" if found.mismatch else "passed",
            equal=found.alone,
            worst_layer="" if worst is None else worst.name,
            worst_equal=None if worst is None else worst.alone,
            output_error=found.readout_error,
            agreement=found.agreement,
            accuracy=found.accuracy,
            accuracy_there=found.accuracy_there,
            remark=found.mismatch,
        )


@exports.register("onnx")
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
    exported = ExportedOnnx(written, {**file.trains, **file.means}, step)
    if not verify:
        return exported
    matches = []
    for steps in timesteps or (own.timesteps,):
        label = f"verifying at T={steps}"
        batches, labels = samples(conversion, data, reading, label, progress)
        matches.append(match(file, written, snn, replace(own, timesteps=steps), batches, labels))
    return replace(exported, matches=tuple(matches))
