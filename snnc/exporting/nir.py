"""Export a converted network to NIR, and measure how others read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import Tensor

from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.samples import Progress, silent
from snnc.export.nir import NirFile, nir_file
from snnc.export.nir.frameworks import Framework, installed
from snnc.export.nir.interpreter import HARD, SOFT, Interpreter
from snnc.export.nir.verification import OUTPUT_TOLERANCE, TOLERANCE, Match, Network, match
from snnc.exporting.exported import Exported, Format, finite, formats, verification
from snnc.exporting.samples import samples
from snnc.report.data import Verification
from snnc.report.escaping import printable


@final
@dataclass(frozen=True)
class Foreign:
    """How a framework reads a file: against the network, and against the reference that reads neurons as it does.

    ``refusal`` is what it says of a file that it does not read ("" where it does).
    """

    framework: str
    version: str
    refusal: str = ""
    network: Match | None = None
    reference: Match | None = None


@final
@dataclass(frozen=True)
class ExportedNir(Exported):
    """A NIR file, and how others read it.

    ``reference`` runs it with the reset that it states; ``hard_reset`` with a reset to zero, which is what a file costs
    whose neurons are reset by their threshold, where a reader knows no other (None where they are reset to zero).
    """

    profile: str
    reset: str
    timesteps: int
    hard_reset: Match | None = None
    reference: Match | None = None
    foreign: tuple[Foreign, ...] = ()

    def plain(self) -> dict[str, Any]:
        found = finite(asdict(replace(self, data=b"")))
        del found["data"], found["trains"], found["means"]
        tolerance = {"equal_percent": TOLERANCE, "output_error": OUTPUT_TOLERANCE}
        return {**found, "bytes": len(self.data), "tolerance": tolerance, "mismatch": self.mismatch}

    @property
    def mismatch(self) -> str:
        pairs = [("the reference", self.reference), *((f.framework, f.reference) for f in self.foreign)]
        return next((f"{who}: {found.mismatch}" for who, found in pairs if found is not None and found.mismatch), "")

    def verifications(self) -> tuple[Verification, ...]:
        return tuple(self._verifications())

    def _verifications(self) -> Iterator[Verification]:
        if self.reference is None:
            return
        yield self._verification("reference interpreter", self.reference, self.reference.mismatch)
        if self.hard_reset is not None:
            read = self._verification("the same, with a reset to zero", self.hard_reset, "")
            yield replace(read, verdict="noted", remark="as NIR defines it, and not as this file says")
        for found in self.foreign:
            name = f"{found.framework} {found.version}"
            if found.network is None or found.reference is None:
                remark = f"does not read it: {printable(found.refusal)}"
                yield Verification("nir", self._variant, name, self.timesteps, 0, "noted", remark=remark)
                continue
            read = self._verification(name, found.network, found.reference.mismatch)
            if read.verdict == "passed" and found.network.mismatch:
                # It does what it always does, which is not what the file says.
                read = replace(read, verdict="noted", remark="takes neurons otherwise than the file says")
            yield read

    @property
    def _variant(self) -> str:
        return f"profile {self.profile}"

    def _verification(self, engine: str, found: Match, mismatch: str) -> Verification:
        return verification(
            found,
            {layer.name: layer.equal for layer in found.layers},
            format="nir",
            variant=self._variant,
            engine=engine,
            equal=found.equal,
            output_error=found.output_error,
            mismatch=mismatch,
            noise=self.noise,
        )


def export_nir(
    conversion: Conversion,
    *,
    profile: str = "portable",
    verify: bool = False,
    frameworks: Sequence[Framework] | None = None,
    data: Path | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> ExportedNir:
    """Write a conversion as a NIR file, and measure what a reset to zero costs it, where it has another.

    ``verify`` runs it in the reference interpreter and in ``frameworks`` (all that are installed unless given). All of
    it is measured on 64 images of ``data`` or as many as ``reading`` says, or on noise without data. Raises ModelError
    for what NIR cannot say, UsageError for an unknown profile and without the extra ``snnc[nir]``, and DataError for
    broken data.
    """
    file = nir_file(conversion, profile=profile)
    exported = ExportedNir(file.data(), file.layers, profile, "zero" if file.zero else "subtract", file.timesteps)
    found = samples(conversion, data, reading, "running the file", progress)
    batches, labels = found.batches, found.labels
    exported = replace(exported, noise=found.noise)
    here = Network(conversion.snn, file.layers)
    if not file.zero:
        exported = replace(exported, hard_reset=match(file, here, Interpreter(HARD), batches, labels))
    if not verify:
        return exported
    reference = match(file, here, Interpreter(HARD if file.zero else SOFT), batches, labels)
    chosen = [
        framework
        for framework in (installed() if frameworks is None else frameworks)
        if file.profile.neuron in framework.readings
    ]
    foreign = []
    for done, framework in enumerate(chosen):
        progress(framework.name, done, len(chosen))
        foreign.append(read_by(framework, file, here, batches, labels))
    return replace(exported, reference=reference, foreign=tuple(foreign))


def read_by(
    framework: Framework, file: NirFile, here: Network, batches: Sequence[Tensor], labels: Tensor | None
) -> Foreign:
    """Return how a framework reads a file; what it refuses is told, and is no error."""
    alike = Interpreter(framework.readings[file.profile.neuron])
    try:
        network = match(file, here, framework, batches, labels)
        reference = match(file, alike, framework, batches, labels)
    except Exception as refusal:  # Frameworks refuse in as many ways as there are.
        said = (str(refusal).splitlines() or [""])[0]
        return Foreign(framework.name, framework.version, said or type(refusal).__name__)
    return Foreign(framework.name, framework.version, "", network, reference)


formats.register("nir")(Format(export_nir, nir_file))
