"""C as a format of exports."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, final

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError, UsageError
from snnc.formats.c.engine import Compiled, NoCompiler, compilers
from snnc.formats.c.file import CFile, c_file, check_neuron
from snnc.formats.c.operations import spelled
from snnc.formats.format import Format, Refusal, Written, formats, grouped, raised
from snnc.formats.verification import Engine
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Weighted
from snnc.text import counted, identifier
from snnc.validation import Option
from snnc.version import VERSION

_WHOLE = "whole numbers, in single precision: no sum is rounded"
_REAL = (
    "real numbers, in single precision: where there is no floating-point unit each operation is a call; "
    "--weight-bits with --format integers needs none"
)


@final
@formats.register("c")
@dataclass(frozen=True)
class CFormat(Format[CFile]):
    """One file of C11 and its header, for the time steps of the conversion."""

    prefix: Annotated[str, Option("What the names that others see start with. Default: snn.", "NAME")] = "snn"
    event_driven: Annotated[
        bool, Option("Pass over what is silent behind neurons: the same sums, in time that grows with the spikes.")
    ] = False
    flash: Annotated[int | None, Option("Refuse a network whose constants and code take more bytes.", "BYTES")] = None
    ram: Annotated[int | None, Option("Refuse a network whose memory takes more bytes.", "BYTES")] = None

    name = "c"
    suffix = ".c"
    about = "one file of C11 and its header, without allocation or libraries, for the time steps it was converted for."

    def __post_init__(self) -> None:
        if min(self.flash or 0, self.ram or 0) < 0:
            raise ValueError("flash and ram are numbers of bytes")

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        graph = conversion.snn.without_dead()
        found = grouped(raised(partial(_check, graph, node) for node in graph.nodes.values()))
        limited = self.flash is not None or self.ram is not None
        return found or (grouped(self._too_large(self._file(conversion))) if limited else ())

    def write(self, conversion: Conversion) -> Written[CFile]:
        file = self._file(conversion)
        for error in self._too_large(file):
            raise error
        memory = {name: asdict(part) for name, part in file.memory.items()}
        total = {"constants": file.constants, "code": file.code, "state": file.state, "scratch": file.scratch}
        notes = (
            f"flash: {file.constants:,} bytes of constants, and about {file.code:,} of code",
            f"RAM: {file.state + file.scratch:,} bytes, {file.state:,} of them kept from step to step; no allocation",
            _WHOLE if all(op.unit is not None for op in conversion.snn.ops(Weighted).values()) else _REAL,
        )
        return Written(
            self.name,
            "event-driven" if self.event_driven else "dense",
            file.source.encode("ascii"),
            file,
            {name: name for name in file.layers},
            facts={"memory": total, "memory_by_layer": memory},
            notes=notes,
            beside={".h": file.header.encode("ascii")},
        )

    def _file(self, conversion: Conversion) -> CFile:
        if self.prefix != identifier(self.prefix) or self.prefix.startswith("_"):
            hint = "give letters, digits and underscores, a letter first"
            raise UsageError(f"no name in C starts with {self.prefix!r}", place="--prefix", hint=hint)
        network = fingerprint(conversion)
        shapes = conversion.snn.shapes
        about = [
            f"A spiking network, written by snnc {VERSION}; its fingerprint starts with {network[:16]}.",
            f"T={conversion.schedule.timesteps}, {counted(conversion.schedule.total, 'step')} from image to answer.",
            *(f"In goes {name} {[*shapes[name]]}, preprocessed so:" for name in conversion.snn.inputs),
            json.dumps(conversion.preprocessing.plain(), sort_keys=True),
            *(f"Out comes {name} {[*shapes[name]]}." for name in dict.fromkeys(conversion.snn.outputs)),
        ]
        return c_file(conversion.snn, conversion.schedule, self.prefix, network, about, event_driven=self.event_driven)

    def _too_large(self, file: CFile) -> Iterator[ModelError]:
        """Yield what the network takes more of than there is, at the layer that takes most."""
        flash = {name: part.constants for name, part in file.memory.items()}
        ram = {name: part.state + part.scratch for name, part in file.memory.items()}
        for what, limit, taken, parts in (
            ("flash", self.flash, file.constants + file.code, flash),
            ("RAM", self.ram, file.state + file.scratch, ram),
        ):
            if limit is not None and taken > limit:
                largest = max(parts, key=parts.__getitem__)
                hint = f"this layer takes most, {parts[largest]:,}; convert a smaller network"
                message = f"{taken:,} bytes of {what} are more than {limit:,}"
                yield ModelError(message, place=largest, hint=hint)

    def engines(self, written: Written[CFile], conversion: Conversion) -> Iterator[Engine]:
        found = compilers()
        for compiler in found:
            yield Compiled(written.file, self.prefix, conversion.snn, conversion.schedule, compiler)
        if not found:
            yield NoCompiler(conversion.schedule)


def _check(graph: Graph, node: Node) -> None:
    if isinstance(node.op, Neuron):
        check_neuron(node)
    elif not isinstance(node.op, Input | TemporalBias):
        spelled(graph, node)
