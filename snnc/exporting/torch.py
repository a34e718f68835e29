"""Export a converted network as a program of torch, and see that it fires the same spikes."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path

from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.samples import Progress, silent
from snnc.export.comparison import match
from snnc.export.torch import TorchProgram, check_writable, torch_file
from snnc.exporting.exported import Format, formats
from snnc.exporting.replica import Replica
from snnc.exporting.samples import samples
from snnc.neurons import CausalNeuron, OrderFreeNeuron


def export_torch(
    conversion: Conversion,
    *,
    verify: bool = False,
    data: Path | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Replica:
    """Write a conversion as a program that torch alone runs, for the time steps of the conversion.

    ``verify`` runs it in torch, on 64 images of ``data`` or as many as ``reading`` says, or on noise without data.
    Raises ModelError for neurons that draw at random, and for those that gather their whole input first beside others,
    and DataError for broken data.
    """
    snn, schedule = conversion.snn, conversion.schedule
    trains, means = ({name: name for name in snn.ops(kind)} for kind in (CausalNeuron, OrderFreeNeuron))
    engine = f"torch {metadata.version('torch')}"
    exported = Replica(torch_file(conversion), trains, "torch", "whole trains", engine, means=means)
    if not verify:
        return exported
    found = samples(conversion, data, reading, f"verifying at T={schedule.timesteps}", progress)
    compared = match(TorchProgram(exported.data), snn, schedule, found.batches, found.labels)
    return replace(exported, matches=(compared,), noise=found.noise)


formats.register("torch")(Format(export_torch, check_writable))
