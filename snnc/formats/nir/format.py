"""NIR as a format of exports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, final

from torch import Tensor

from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.formats.format import Format, Refusal, Written, formats, grouped, raised
from snnc.formats.match import Manner
from snnc.formats.nir.engines import NirEngine, engines
from snnc.formats.nir.extra import nir_package
from snnc.formats.nir.file import NirFile, nir_file
from snnc.formats.nir.lowering import lowered
from snnc.formats.nir.observed import observed
from snnc.formats.nir.profiles import PROFILES
from snnc.formats.nir.split import SUFFIX, Parts, SplitEngine, split_network
from snnc.formats.onnx import SpikingFile
from snnc.formats.onnx.spiking import properties
from snnc.formats.onnx.step import step_model
from snnc.formats.verification import Engine
from snnc.text import fixed
from snnc.validation import Option


@final
@dataclass(frozen=True, eq=False)
class NirFiles:
    """A NIR file of a network, or of its ``front`` where the network is in ``parts`` and the ``rest`` is in ONNX."""

    front: NirFile
    parts: Parts | None = None
    rest: SpikingFile | None = None


_NOTE = (
    "NIR defines a reset to zero, and this file says that its neurons are reset by their threshold; a reader that does "
    "not heed that gets what stands under reset to zero (snnc calibrate --reset zero converts for it)"
)


@final
@formats.register("nir")
@dataclass(frozen=True)
class NirFormat(Format[NirFiles]):
    """The neuromorphic interchange format."""

    profile: Annotated[
        Literal["portable", "cuba", "if", "unit"],
        Option(
            "What most importers read (the default), neurons as CubaLIF, or as they are; or with thresholds of 1, even "
            "where weights and thresholds are whole numbers."
        ),
    ] = "portable"
    split: Annotated[
        bool,
        Option(
            "Write the largest part that NIR can say, and beside it an ONNX file of the rest, one step, for the host."
        ),
    ] = False

    name = "nir"
    suffix = ".nir"
    about = "the neuromorphic interchange format, for networks that it can say (recipe nir)."
    extra = "nir"
    runs_unasked = True

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        nir_package()
        if self.split:
            return grouped(raised([partial(self.write, conversion)]))
        errors: list[ModelError] = []
        lowered(conversion.snn, conversion.schedule, PROFILES[self.profile], refuse=errors.append)
        # The shapes of kernels are looked at where the nodes of NIR are made.
        return grouped(errors or raised([partial(nir_file, conversion, self.profile)]))

    def write(self, conversion: Conversion) -> Written[NirFiles]:
        parts = rest = None
        write = partial(nir_file, conversion, self.profile)
        if self.split:
            parts, file = split_network(conversion.snn, write)
            about = properties(conversion, "rest")
            rest = step_model(parts.rest, conversion.schedule, about, over_time=[parts.cut])
        else:
            file = write(conversion.snn)
        reset = "zero" if file.zero else "subtract"
        how = "setting them to zero" if file.zero else "their threshold"
        notes = [f"NIR, profile {self.profile}, T={file.timesteps}; neurons are reset by {how}"]
        notes += [] if file.zero else [_NOTE]
        facts: dict[str, Any] = {"profile": self.profile, "reset": reset, "timesteps": file.timesteps}
        beside = {}
        if parts is not None and rest is not None:
            share = 100 * parts.share
            facts |= {"cut": parts.cut, "share": share}
            notes.append(
                f"{fixed(share, 1)} % of the multiply-accumulates are in the NIR file, whose output is what "
                f"{parts.cut} fires; the host feeds that, step by step, to the ONNX file of the other "
                f"{fixed(100 - share, 1)} %"
            )
            beside[SUFFIX] = rest.model.SerializeToString(deterministic=True)
        trains = {**file.layers, **(rest.trains if rest else {})}
        variant = f"profile {self.profile}{', split' if self.split else ''}"
        files = NirFiles(file, parts, rest)
        return Written(self.name, variant, file.data(), files, trains, {}, facts, tuple(notes), beside)

    def observed(self, written: Written[NirFiles], vectors: Mapping[str, Tensor]) -> Mapping[str, bytes]:
        return {".vectors.nir": observed(vectors, written.file.front, answers=written.file.parts is None)}

    def manner(self, engine: Engine) -> Manner:
        return engine.manner if isinstance(engine, NirEngine) else Manner()

    def engines(self, written: Written[NirFiles], conversion: Conversion) -> Iterator[Engine]:
        files = written.file
        if files.parts is None or files.rest is None:
            yield from engines(files.front, conversion.snn)
        else:
            data = written.beside[SUFFIX]
            yield SplitEngine(files.front, files.rest, data, files.parts, conversion.schedule)
