"""See whether spikes that a device fired are those of a converted network, and where they first are not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import DataError, VerificationError
from snnc.formats.divergence import Divergence, divergence
from snnc.formats.vectors import read_vectors
from snnc.neurons import Neuron


@final
@dataclass(frozen=True)
class CheckedVectors:
    """What was found, of the vectors of a file."""

    file: Path
    found: Divergence

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        first = self.found.first
        if first is None:
            return "all spikes are the same"
        place = f"neuron {[*first.neuron]}, sample {first.sample}, step {first.step} of {self.found.steps}"
        return f"layer {first.layer!r}, {place}: {first.there:g} there, {first.here} here"

    def plain(self) -> dict[str, Any]:
        """Return what was found, as plain data."""
        first = self.found.first
        return {"equal": self.found.equal, "first": first and asdict(first), **asdict(self.found)}

    def check(self) -> None:
        """Raise VerificationError where a spike is another there."""
        if not self.found.equal:
            hint = "look at what drives this neuron: all layers before it are equal until there"
            if self.found.missing:
                hint = "look at what drives this neuron, and at layers before it of which the file says nothing"
            raise VerificationError(f"the first spike that differs: {self.sentence}", place=str(self.file), hint=hint)


def check_vectors(
    conversion: Conversion, theirs: Path, *, vectors: Path | None = None, partial: bool = False
) -> CheckedVectors:
    """Compare the spikes in a file, ``spikes.LAYER`` for each layer, with those of a network for the same samples.

    Samples are what the file has as ``input``, or what ``vectors`` has, a file of ``snnc export --vectors``. Where one
    of them says that membranes saturate, they do here. With ``partial``, layers may be missing. Raises DataError where
    a file cannot be read, is one of another network, or lacks something.
    """
    files = [read_vectors(path) for path in (theirs, *([] if vectors is None else [vectors]))]
    for file in files:
        conversion = _saturating(conversion, file.membrane_bits)
    for file, path in zip(files, (theirs, vectors), strict=False):
        if file.network not in ("", fingerprint(conversion)):
            hint = "export them from this network, or name the one that they are of"
            raise DataError("the vectors of another network", place=str(path), hint=hint)
    places = {"place": str(theirs), "samples_place": str(vectors or theirs)}
    found = divergence(conversion, files[0].tensors, files[-1].tensors, **places, partial=partial, seed=files[-1].seed)
    return CheckedVectors(theirs, found)


def _saturating(conversion: Conversion, bits: Mapping[str, int]) -> Conversion:
    """Return the network with membranes of so many bits by layer; as it is where it has no such."""
    neurons = conversion.snn.ops(Neuron)
    try:
        ops = {name: replace(neurons[name], membrane_bits=held) for name, held in bits.items()}
    except (KeyError, TypeError, ValueError):
        return conversion
    return replace(conversion, snn=conversion.snn.with_ops(ops)) if ops else conversion
