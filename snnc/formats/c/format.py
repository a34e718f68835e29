"""C as a format of exports."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, final

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError, UsageError
from snnc.formats.c.engine import Compiled, NoCompiler, compilers
from snnc.formats.c.file import EVENT_COST, CFile, c_file
from snnc.formats.c.numbers import Numbers, check_finite, check_neuron, numbers_of
from snnc.formats.c.operations import spelled
from snnc.formats.format import Format, Refusal, Written, formats, grouped, raised
from snnc.formats.verification import Engine
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.text import counted, identifier
from snnc.validation import Option
from snnc.version import VERSION

_WHOLE = "whole numbers: nothing floats, images and answers neither; the header says what one of them is worth"
_REAL = (
    "real numbers, in single precision: where there is no floating-point unit each operation is a call; "
    "a network of --weight-bits 8 needs none"
)
# A note names so many layers, and counts the others.
_NAMED = 5
_COUNTED = "All is counted, answers too: times the UNIT below, the sum of all steps is the mean answer."


@final
@formats.register("c")
@dataclass(frozen=True)
class CFormat(Format[CFile]):
    """One file of C11 and its header, for the time steps of the conversion."""

    prefix: Annotated[str, Option("What the names that others see start with. Default: snn.", "NAME")] = "snn"
    event_driven: Annotated[
        bool, Option("Go event by event behind neurons, however many fire. Default: at steps where few do.")
    ] = False
    flash: Annotated[int | None, Option("Refuse a network whose constants and code take more bytes.", "BYTES")] = None
    ram: Annotated[int | None, Option("Refuse a network whose memory takes more bytes.", "BYTES")] = None

    name = "c"
    suffix = ".c"
    about = "one file of C11 and its header, without allocation, for the time steps it was converted for."

    def __post_init__(self) -> None:
        if min(self.flash or 0, self.ram or 0) < 0:
            raise ValueError("flash and ram are numbers of bytes")

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        graph = conversion.snn.without_dead()
        found = grouped(raised(partial(_check, graph, node) for node in graph.nodes.values()))
        limited = self.flash is not None or self.ram is not None
        return found or (grouped(self._too_large(self._limited(conversion))) if limited else ())

    def write(self, conversion: Conversion) -> Written[CFile]:
        numbers = numbers_of(conversion.snn, conversion.schedule)
        file = self._file(conversion, numbers)
        for error in self._too_large(file):
            raise error
        memory = {name: asdict(part) for name, part in file.memory.items()}
        total = {"constants": file.constants, "code": file.code, "state": file.state, "scratch": file.scratch}
        notes = (
            f"flash: {file.constants:,} bytes of constants, and about {file.code:,} of code",
            f"RAM: {file.state + file.scratch:,} bytes, {file.state:,} of them kept from step to step; no allocation",
            *([f"functions of math.h (link with -lm): {_names(file.mathematical)}"] if file.mathematical else []),
            *_loops(file.loops, f"{self.prefix.upper()}_EVENT_COST"),
            _WHOLE if numbers.whole else f"{_REAL}{numbers.reason and f' ({numbers.reason})'}",
        )
        return Written(
            self.name,
            f"{'whole numbers, ' if numbers.whole else ''}{'event-driven' if self.event_driven else 'by rates'}",
            file.source.encode("ascii"),
            file,
            {name: name for name in file.layers},
            facts={"memory": total, "memory_by_layer": memory, "loops": dict(file.loops)},
            notes=notes,
            beside={".h": file.header.encode("ascii")},
        )

    def _limited(self, conversion: Conversion) -> CFile:
        return self._file(conversion, numbers_of(conversion.snn, conversion.schedule))

    def _file(self, conversion: Conversion, numbers: Numbers) -> CFile:
        if self.prefix != identifier(self.prefix) or self.prefix.startswith("_"):
            hint = "give letters, digits and underscores, a letter first"
            raise UsageError(f"no name in C starts with {self.prefix!r}", place="--prefix", hint=hint)
        network, schedule = fingerprint(conversion), conversion.schedule
        shapes = conversion.snn.shapes
        about = [
            f"A spiking network, written by snnc {VERSION}; its fingerprint starts with {network[:16]}.",
            f"T={schedule.timesteps}, {counted(schedule.total, 'step')} from image to answer.",
            *(f"In goes {name} {[*shapes[name]]}, preprocessed so:" for name in conversion.snn.inputs),
            json.dumps(conversion.preprocessing.plain(), sort_keys=True),
            *(_rounded(name, op) for name, op in conversion.snn.ops(Input).items() if numbers.whole and op.unit),
            *(f"Out comes {name} {[*shapes[name]]}." for name in dict.fromkeys(conversion.snn.outputs)),
            *([_COUNTED] if numbers.whole else []),
        ]
        return c_file(numbers, schedule, self.prefix, network, about, event_driven=self.event_driven)

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


def _loops(loops: Mapping[str, str], cost: str) -> Iterator[str]:
    """Tell which layers behind neurons go event by event."""
    told = {
        "events": "event by event, at every step: {}",
        "rates": "event by event at steps where fewer than "
        f"1 in {EVENT_COST} inputs ({cost}) send something, else dense: {{}}",
        "dense": "dense, at every step: {}",
    }
    for loop, words in told.items():
        names = [name for name, known in loops.items() if known == loop]
        if names:
            yield words.format(_names(names))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _rounded(name: str, op: Input) -> str:
    return (
        f"{name} is handed over in whole numbers of {op.unit:.9g}: the floor of {name} / {op.unit:.9g} + 0.5, "
        f"from -{op.most} to {op.most}."
    )


def _check(graph: Graph, node: Node) -> None:
    check_finite(node)
    if isinstance(node.op, Neuron):
        check_neuron(node)
    elif not isinstance(node.op, Input | TemporalBias):
        spelled(graph, node)
