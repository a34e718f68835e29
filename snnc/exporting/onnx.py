"""Export a converted network to ONNX, and see that onnxruntime fires the same spikes."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.samples import Progress, silent
from snnc.export.comparison import match
from snnc.export.onnx import Onnxruntime, spiking_file
from snnc.exporting.exported import Format, formats
from snnc.exporting.replica import Replica
from snnc.exporting.samples import samples
from snnc.schedule import check_steps


def export_onnx(
    conversion: Conversion,
    *,
    step: bool = False,
    verify: bool = False,
    data: Path | None = None,
    timesteps: Sequence[int] = (),
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Replica:
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
    engine = f"onnxruntime {metadata.version('onnxruntime')}"
    exported = Replica(written, file.trains, "onnx", "one step" if step else "whole trains", engine, means=file.means)
    if not verify:
        return exported
    matches = []
    for steps in timesteps or (own.timesteps,):
        label = f"verifying at T={steps}"
        found = samples(conversion, data, reading, label, progress)
        schedule = replace(own, timesteps=steps)
        matches.append(match(Onnxruntime(file, written, snn, schedule), snn, schedule, found.batches, found.labels))
    return replace(exported, matches=tuple(matches), noise=found.noise)


formats.register("onnx")(Format(export_onnx, spiking_file))
