"""NIR as a format of exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, final

from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.export.format import Format, Refusal, Written, formats, grouped, raised
from snnc.export.nir.engines import NirEngine, engines
from snnc.export.nir.extra import nir_package
from snnc.export.nir.file import NirFile, nir_file
from snnc.export.nir.lowering import lowered
from snnc.export.nir.profiles import PROFILES
from snnc.validation import Option

_NOTE = (
    "NIR defines a reset to zero, and this file says that its neurons are reset by their threshold; a reader that does "
    "not heed that gets what stands under reset to zero (snnc calibrate --reset zero converts for it)"
)


@final
@formats.register("nir")
@dataclass(frozen=True)
class NirFormat(Format[NirFile]):
    """The neuromorphic interchange format."""

    profile: Annotated[
        Literal["portable", "cuba", "if"],
        Option("What most importers read (the default), neurons as CubaLIF, or as they are."),
    ] = "portable"

    name = "nir"
    suffix = ".nir"
    about = "the neuromorphic interchange format, for networks that it can say (recipe nir)."
    extra = "nir"
    runs_unasked = True

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        nir_package()
        errors: list[ModelError] = []
        unit_thresholds = PROFILES[self.profile].unit_thresholds
        lowered(conversion.snn, conversion.schedule, unit_thresholds=unit_thresholds, refuse=errors.append)
        # The shapes of kernels are looked at where the nodes of NIR are made.
        return grouped(errors or raised([partial(nir_file, conversion, profile=self.profile)]))

    def write(self, conversion: Conversion) -> Written[NirFile]:
        file = nir_file(conversion, profile=self.profile)
        reset = "zero" if file.zero else "subtract"
        how = "setting them to zero" if file.zero else "their threshold"
        about = f"NIR, profile {self.profile}, T={file.timesteps}; neurons are reset by {how}"
        return Written(
            self.name,
            f"profile {self.profile}",
            file.data(),
            file,
            file.layers,
            facts={"profile": self.profile, "reset": reset, "timesteps": file.timesteps},
            notes=(about,) if file.zero else (about, _NOTE),
        )

    def engines(self, written: Written[NirFile], conversion: Conversion) -> Iterator[NirEngine]:
        return engines(written.file, conversion.snn)
