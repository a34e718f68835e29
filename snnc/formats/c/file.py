"""A spiking network as one file of C11: constants, static memory, and functions for a step and for a whole run.

What holds still while an image is shown is computed once, when the image is handed over; what moves, at every step.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from snnc.analysis.work import Work, work_of
from snnc.formats.c.functions import MATHEMATICAL, SOURCES
from snnc.formats.c.language import (
    WIDTHS,
    Along,
    Array,
    Names,
    Value,
    along,
    condensed,
    constants,
    declared,
    number,
    text,
)
from snnc.formats.c.memory import Layout, Line, laid_out
from snnc.formats.c.neurons import Kinds, neuron_functions
from snnc.formats.c.numbers import Numbers
from snnc.formats.c.operations import Argument, Calls, FunctionCall, Part, Record, spelled
from snnc.formats.c.program import TAKEN, Checker
from snnc.formats.c.storage import OTHERS, Footprint, Storage
from snnc.ir import Input, Node
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Weighted
from snnc.schedule import Schedule

# Bytes of code for a word of a function that is called from one place, where it is simplified, of others, and of a list
# of calls, and those for the choice between two loops: of gcc -Os for x86-64, mostly within 10 %.
_ONCE, _OFTEN, _CALLS, _CHOICE = 1.1, 2.9, 2.9, 450

# What an event costs, as many times as an input that is gone over without asking: of gcc for x86-64.
EVENT_COST = 4

# In the place of a value where there is none.
_NOTHING = Value("", "float")

# What there is of the time, each made of those before.
_CLOCK = ("rehearsing", "since", "at", "passed", "awake", "lit", "gain", "missing", "elapsed")


@final
@dataclass(frozen=True, eq=False)
class CFile:
    """The file and its header, the layers in the order in which their spikes are seen, and what memory they take.

    ``scratch`` is the memory that all values share, in bytes, and ``code`` about what the functions take. A sample
    takes ``macs`` multiply-accumulates, dense, and as many other ``numbers`` are moved, added or compared. ``loops``
    says of weighted layers behind neurons whether they go event by event: "events", "dense", or "rates", which is
    decided at every step. Functions of math.h are called by the ``mathematical`` nodes.
    """

    source: str
    header: str
    layers: tuple[str, ...]
    memory: Mapping[str, Footprint]
    scratch: int
    code: int
    macs: int
    numbers: int
    loops: Mapping[str, str]
    mathematical: tuple[str, ...]

    @property
    def constants(self) -> int:
        """The bytes of all constants."""
        return sum(part.constants for part in self.memory.values())

    @property
    def state(self) -> int:
        """The bytes of all that is kept from step to step."""
        return sum(part.state for part in self.memory.values())


def c_file(
    numbers: Numbers, schedule: Schedule, prefix: str, network: str, about: Sequence[str], *, event_driven: bool = False
) -> CFile:
    """Write a spiking network in C; names that others see start with ``prefix``.

    ``network`` is what tells it from others, and ``about`` says what it is, line by line. Raises ModelError that names
    the node for what nobody has written in C.
    """
    writer = _Writer(numbers, schedule, prefix, events=event_driven)
    writer.write()
    return writer.finished(network, about)


@final
class _Writer:
    """A file as it comes to be; alive for one export."""

    def __init__(self, numbers: Numbers, schedule: Schedule, prefix: str, *, events: bool) -> None:
        self._numbers, self._graph = numbers, numbers.graph
        self._schedule = schedule
        self._prefix = prefix
        self._events = events
        self._loops: dict[str, str] = {}
        self._mathematical: list[str] = []
        # Whether steps differ in how much of the image and of the biases they carry.
        self._uneven = bool(schedule.sleep or schedule.shares)
        own = (f"{prefix}_{what}" for what in ("start", "step", "run"))
        scratches = (_scratch(kind) for kind in WIDTHS)
        tables = ("taken", "gains", "missings", "elapsed_at", *scratches)
        # Functions of neurons end as those that others see: they are not to start alike.
        names = Names([*SOURCES, *_CLOCK, *TAKEN, prefix, *own, *tables])
        self._storage = Storage(names, numbers.time)
        self._program = Checker(prefix, names)
        # Where the value of every node lies, while it is held, and set in motion.
        self._values: dict[str, Value] = {}
        self._scaled: dict[str, Value] = {}
        self._shown: list[Line] = []
        self._steps: list[Line] = []
        self._resets: list[str] = []
        self._restarts: list[str] = []
        self._moving: set[str] = set()
        for node in self._graph.nodes.values():
            if isinstance(node.op, Neuron | TemporalBias) or self._moving.intersection(node.inputs):
                self._moving.add(node.name)
        read = {value for name in self._moving for value in self._graph.nodes[name].inputs}
        self._lasting = (read | {*self._graph.outputs}) - self._moving
        self._inputs = {
            name: Value(self._storage.names.new(name, "in"), numbers.argument(name, op))
            for name, op in self._graph.ops(Input).items()
        }
        self._outputs = {
            name: Value(self._storage.names.new(name, "answer"), numbers.answers.get(name, "float"))
            for name in dict.fromkeys(self._graph.outputs)
        }

    def write(self) -> None:
        """Write all nodes."""
        for node in self._graph.nodes.values():
            if isinstance(node.op, Input):
                self._enter(node, node.op)
            elif isinstance(node.op, Neuron):
                self._fire(node, node.op)
            elif isinstance(node.op, TemporalBias):
                self._bias(node, node.op)
            elif node.name in self._moving:
                self._move(node)
            else:
                self._hold(node)
        for name, answer in self._outputs.items():
            value = self._moved(name)
            copied = self._storage.call("copy", _at("{0}", value), answer, self._size(name))
            self._add(self._steps, name, [copied], [value])

    def _size(self, name: str) -> int:
        return math.prod(self._graph.shapes[name])

    def _add(
        self,
        lines: list[Line],
        owner: str,
        statements: Sequence[str],
        reads: Sequence[Value],
        writes: Value = _NOTHING,
        *,
        lasting: bool = False,
        in_place: bool = False,
        size: int | None = None,
    ) -> Value:
        """Add statements, in which {0}, {1} are what is read and {y} what is written; ``lasting`` is what is kept."""
        fields = {**{str(index): f"{{{value}}}" for index, value in enumerate(reads)}, "y": f"{{{writes}}}"}
        filled = tuple(re.sub(r"\{(\w+)\}", lambda found: fields[found[1]], line) for line in statements)
        size = 0 if lasting or not writes else self._size(owner) if size is None else size
        self._storage.of(owner).scratch = max(self._storage.of(owner).scratch, WIDTHS[writes.kind] * size)
        lines.append(Line(owner, filled, tuple(reads), writes, size, in_place, writes.kind))
        return writes

    def _enter(self, node: Node, op: Input) -> None:
        argument, kind = self._inputs[node.name], self._numbers.kinds[node.name]
        rounded = op.unit is not None and not self._numbers.whole
        if argument.kind == kind and node.name not in self._lasting and not rounded:
            self._values[node.name] = argument
            return
        size = self._size(node.name)
        statements = [self._storage.call("copy", _at("{0}", argument), Value("{y}", kind), size)]
        if op.unit is not None and rounded:
            statements.append(self._storage.call("round_to", "{y}", number(op.unit), number(op.most), size))
        self._keep(node, statements, [argument])

    def _hold(self, node: Node) -> None:
        kernel = spelled(self._graph, node, kind=self._numbers.kinds[node.name])
        (first, *_) = node.inputs
        if not kernel.calls and (node.name not in self._lasting or first in self._lasting):
            self._values[node.name] = self._values[first]
            return
        reads = [self._values[value] for value in node.inputs]
        self._keep(node, self._calls(node, kernel, reads), reads, in_place=kernel.in_place)

    def _keep(self, node: Node, statements: Sequence[str], reads: Sequence[Value], *, in_place: bool = False) -> None:
        """Compute what holds still, for all steps where what moves reads it."""
        lasting, kind = node.name in self._lasting, self._numbers.kinds[node.name]
        size = self._size(node.name)
        value = self._storage.state(node.name, "held", size, kind) if lasting else self._new(node.name)
        self._values[node.name] = self._add(
            self._shown, node.name, statements, reads, value, lasting=lasting, in_place=in_place
        )

    def _new(self, name: str, *more: str) -> Value:
        """Return what the value of a node, or a part of it, is called."""
        return Value(self._storage.names.new(name, *more), self._numbers.kinds[name])

    def _moved(self, name: str) -> Value:
        """Return a value as it is at a step: what holds still is on with the image, as much of it as there is."""
        if name in self._moving or not self._uneven:
            return self._values[name]
        if name not in self._scaled:
            held, value = self._values[name], self._new(name, "now")
            statement = self._storage.call("multiply", _at("{0}", held), _at("{y}", value), "gain", self._size(name))
            self._scaled[name] = self._add(self._steps, name, [statement], [held], value)
        return self._scaled[name]

    def _move(self, node: Node) -> None:
        reads = [self._moved(value) for value in node.inputs]
        linear, size, storage = node.op.linear, self._size(node.name), self._storage
        sends, kind = self._moving.issuperset(node.inputs) and linear, self._numbers.kinds[node.name]
        kernel = spelled(self._graph, node, sends=sends, kind=kind)
        if isinstance(node.op, Weighted):
            self._loops[node.name] = self._loop(kernel.calls)
        if linear and not kernel.calls:
            self._values[node.name] = reads[0]
            return
        if not linear:
            reads = [self._averaged(node, value, name) for value, name in zip(reads, node.inputs, strict=True)]
        statements, value = self._calls(node, kernel, reads), self._new(node.name)
        if not linear:
            before = storage.state(node.name, "before", size, kind)
            self._forget(before, size)
            statements.append(storage.call("gained", _at("{y}", value), before, self._elapsed, size))
        elif self._uneven:
            statements += self._silenced(node)
        self._values[node.name] = self._add(self._steps, node.name, statements, reads, value, in_place=kernel.in_place)

    def _averaged(self, node: Node, value: Value, name: str) -> Value:
        size, storage, mean = self._size(name), self._storage, self._new(node.name, "mean")
        total = storage.state(node.name, "total", size, mean.kind)
        self._forget(total, size)
        statement = storage.call("mean_so_far", _at("{0}", value), _at("{y}", mean), total, self._elapsed, size)
        return self._add(self._steps, node.name, [statement], [value], mean, in_place=True, size=size)

    @property
    def _elapsed(self) -> str:
        """How many steps a mean is of: whole numbers stay sums."""
        return "1" if self._numbers.whole else "elapsed"

    def _forget(self, state: Value, size: int) -> None:
        line = self._storage.call("fill", state, 0, size)
        self._resets.append(line)
        self._restarts.append(line)

    def _silenced(self, node: Node) -> Iterator[str]:
        """Yield what takes away of a layer's constant part what a step has less of."""
        shapes = (self._graph.shapes[value] for value in node.inputs)
        kind = torch.float64 if self._numbers.whole else torch.float32
        constant = node.op(*(torch.zeros(1, *shape, dtype=kind) for shape in shapes))[0]
        if constant.any():
            found = along([condensed(constant)], self._graph.shapes[node.name])
            name = self._storage.constant(node.name, "constant", self._constants(found.values[0]))
            pattern = self._size(node.name), found.inner, found.count
            value = Value("{y}", self._numbers.kinds[node.name])
            yield self._storage.call("take_away", value, name, "missing", *pattern)

    def _constants(self, array: Array) -> Array:
        return constants(array, "" if self._numbers.whole else "float")

    def _bias(self, node: Node, op: TemporalBias) -> None:
        storage, size, last = self._storage, self._size(node.name), len(op.shift) - 1
        found = along([*op.shift], self._graph.shapes[node.name])
        table = storage.constant(node.name, "shift", self._constants(np.concatenate(found.values)))
        place = Value(f"{table} + (since < {last} ? since : {last}) * {found.count}", table.kind)
        read, value = self._moved(node.inputs[0]), self._new(node.name)
        around = _at("{0}", read), _at("{y}", value)
        shifted = storage.call("add_each", *around, place, size, found.inner, found.count)
        statement = f"if (lit) {shifted} else {storage.call('copy', *around, size)}"
        self._values[node.name] = self._add(self._steps, node.name, [statement], [read], value, in_place=True)

    def _fire(self, node: Node, op: Neuron) -> None:
        made, storage = self._numbers.forms[node.name], self._storage
        assert isinstance(op, CausalNeuron)
        read, value = self._moved(node.inputs[0]), self._new(node.name)
        kinds = replace(self._numbers.types.get(node.name, Kinds()), taken=read.kind, sent=value.kind)
        size, shape = self._size(node.name), self._graph.shapes[node.name]
        functions = neuron_functions(made, kinds, rehearses=bool(self._schedule.rehearsal))
        kind = storage.functions_of(made.name, functions.step, functions.again)
        tensors = {name: tensor for name, tensor in made.constants.items() if name not in functions.tables}
        tensors |= {f"start_{state}": tensor for state, tensor in made.starts.items()}
        pattern = along([*tensors.values()], shape)
        around = size, pattern.inner, pattern.count
        arrays = dict(zip(tensors, map(self._constants, pattern.values), strict=True))

        def constant(part: str) -> Value:
            return storage.constant(node.name, part, arrays[part])

        states = {state: storage.state(node.name, state, size, kinds.of(state)) for state in made.starts}
        fills = {
            state: storage.call("fill_each", place, constant(f"start_{state}"), *around)
            for state, place in states.items()
        }
        self._resets += fills.values()
        if functions.again:
            given = [*(states[state] for state in functions.states), *map(constant, functions.begins), *around]
            self._restarts.append(f"{kind}_again({', '.join(map(str, given))});")
            fills = {state: line for state, line in fills.items() if state not in made.learned}
        self._restarts += fills.values()
        tables = (constants(made.constants[name], "float").ravel() for name in functions.tables)
        given = [
            "{0}",
            "{y}",
            *states.values(),
            *map(constant, functions.constants),
            *(
                part
                for name, table in zip(functions.tables, tables, strict=True)
                for part in (storage.constant(node.name, name, table), number(table.size))
            ),
            *([made.counts] if made.counts else []),
            *around,
        ]
        step = f"{kind}_step({', '.join(map(str, given))});"
        seen = f"{self._prefix.upper()}_SPIKES({self._tell(node, op, states.get('membrane', _NOTHING))}, {{y}});"
        self._values[node.name] = self._add(self._steps, node.name, [step, seen], [read], value, in_place=True)

    def _tell(self, node: Node, op: CausalNeuron, membrane: Value) -> int:
        """Let the program for tests know what a layer sends and holds, and return its number."""
        shape = self._graph.shapes[node.name]
        state = op.initial(torch.zeros(1, *shape))
        # A potential is so many times what the membrane holds and, of whole numbers, half a unit that it holds not.
        factor = condensed(op.membrane(type(state)(torch.ones_like(state[0]), *state[1:]))[0])
        offset = torch.zeros(())
        if self._numbers.whole and op.unit is not None:
            factor, start = op.unit, op.potential * op.threshold / op.unit
            offset = (start - start.floor()) * op.unit
        parts = {"weighs": op.threshold, "factor": factor, "offset": offset}
        parts |= {} if op.slope is None else {"slope": op.slope}
        pattern = along([*parts.values()], shape)
        arrays = {part: constants(array, "float") for part, array in zip(parts, pattern.values, strict=True)}
        kind = self._numbers.kinds[node.name]
        return self._program.see(node.name, self._size(node.name), arrays, pattern, membrane, kind, op.rest)

    def _calls(self, node: Node, kernel: Calls, reads: Sequence[Value]) -> list[str]:
        calls, value = [], Value("{y}", self._numbers.kinds[node.name])
        places: dict[int | None, Value] = {index: _at(f"{{{index}}}", read) for index, read in enumerate(reads)}
        places[None] = value
        if any(call.function in MATHEMATICAL for call in kernel.calls):
            self._mathematical.append(node.name)
        for call in kernel.calls:
            parts = iter(call.parts)
            arguments = [self._argument(node.name, argument, parts, places) for argument in call.arguments]
            loop, own = self._loop([call]), self._storage.call
            if loop == "rates":
                size = self._size(node.inputs[0])
                question = own("sparse", places[0], size, f"{self._prefix.upper()}_EVENT_COST").removesuffix(";")
                calls.append(f"if ({question}) {own(call.by_events, *arguments)}")
                calls.append(f"else {own(call.function, *arguments)}")
            else:
                calls.append(own(call.by_events if self._events and call.by_events else call.function, *arguments))
        return calls or [self._storage.call("copy", places[0], value, self._size(node.name))]

    def _loop(self, calls: Sequence[FunctionCall]) -> str:
        """Return how a layer goes over what comes in."""
        if any(call.by_events for call in calls):
            return "events" if self._events else "rates"
        return "events" if any(call.function == "connect_events" for call in calls) else "dense"

    def _argument(
        self, owner: str, argument: Argument, parts: Iterator[str], places: Mapping[int | None, Value]
    ) -> str:
        if isinstance(argument, Part):
            place = places[argument.of]
            return Value(f"{place} + {argument.start}", place.kind) if argument.start else place
        if argument is None:
            # The constant that is not there has a name all the same.
            next(parts)
            return "NULL"
        if isinstance(argument, Record):
            return self._storage.record(owner, next(parts), argument)
        if isinstance(argument, int | float):
            return number(argument) if isinstance(argument, float) else str(argument)
        return self._storage.constant(owner, next(parts), argument)

    # The whole file.

    def finished(self, network: str, about: Sequence[str]) -> CFile:
        """Put everything into its place."""
        layouts = [laid_out(lines) for lines in (self._shown, self._steps)]
        shared = {kind: max(layout.sizes.get(kind, 0) for layout in layouts) for kind in WIDTHS}
        shown, steps = (
            [_placed(statement, layout) for line in lines for statement in line.statements]
            for lines, layout in zip((self._shown, self._steps), layouts, strict=True)
        )
        storage, schedule = self._storage, self._schedule
        storage.of(OTHERS).state += WIDTHS["int32_t"]
        sizes = {name: self._size(name) for name in self._outputs}
        now = {
            name: storage.state(OTHERS, f"now_{answer}", sizes[name], answer.kind)
            for name, answer in self._outputs.items()
        }
        if schedule.rehearsal:
            steps = [f"if (taken == {schedule.rehearsal}) {{", *(f"    {line}" for line in self._restarts), "}", *steps]
        inputs = ", ".join(f"const {argument.kind} *{argument}" for argument in self._inputs.values())
        outputs = ", ".join(f"{answer.kind} *{answer}" for answer in self._outputs.values())
        signatures = {
            "start": f"void {self._prefix}_start({inputs})",
            "step": f"void {self._prefix}_step({outputs})",
            "run": f"void {self._prefix}_run({inputs}, {outputs})",
        }
        each = [storage.call("add", answer, now[name], answer, sizes[name]) for name, answer in self._outputs.items()]
        run = [
            *(storage.call("fill", answer, 0, sizes[name]) for name, answer in self._outputs.items()),
            f"{self._prefix}_start({', '.join(self._inputs.values())});",
            f"for (int32_t i = 0; i < {schedule.total}; ++i) {{",
            f"    {self._prefix}_step({', '.join(now.values())});",
            f"    if (i < {schedule.rehearsal}) continue;" if schedule.rehearsal else "",
            *(f"    {line}" for line in each),
            "}",
            *(
                storage.call("divide", answer, answer, number(schedule.timesteps), sizes[name])
                for name, answer in self._outputs.items()
                if not self._numbers.whole
            ),
        ]
        clock = [*self._clock(steps)]
        read = {value for line in self._shown for value in line.reads}
        unread = [f"(void){argument};" for argument in self._inputs.values() if argument not in read]
        bodies = {
            "start": [*unread, *self._resets, *shown, "taken = 0;"],
            "step": [*clock, *steps, "taken += taken < INT32_MAX;"],
            "run": [line for line in run if line],
        }
        memory = {name: part for name, part in storage.memory.items() if part != Footprint()}
        kinds = [*storage.functions]
        functions = [_function(signatures[name], body) for name, body in bodies.items()]
        made = CFile(
            "",
            "",
            tuple(self._program.layers),
            memory,
            sum(WIDTHS[kind] * count for kind, count in shared.items()),
            _code(kinds, functions) + (_CHOICE if "rates" in self._loops.values() else 0),
            *self._work(),
            self._loops,
            tuple(self._mathematical),
        )
        comment = _comment([*about, "", *_table(made)])
        header = self._header(comment, network, signatures, made)
        source = "\n\n".join(
            part.strip()
            for part in (
                header,
                "#include <stddef.h>" if self._numbers.whole else "#include <math.h>\n#include <stddef.h>",
                "" if self._numbers.whole else _PRAGMA,
                _COST.replace("PREFIX", self._prefix.upper()) if "rates" in self._loops.values() else "",
                self._program.seen("counts of them" if self._numbers.whole else "spikes times what they weigh"),
                *kinds,
                *storage.constants,
                "\n".join([*storage.states, "static int32_t taken;"]),
                "\n".join(f"static {kind} {_scratch(kind)}[{count}];" for kind, count in shared.items() if count),
                *functions,
                self._tested(),
            )
            if part.strip()
        )
        return replace(made, source=f"{source}\n", header=f"{header.strip()}\n")

    def _work(self) -> tuple[int, int]:
        """Return how much there is to multiply, and else to compute, for one sample."""
        macs = numbers = 0
        for name, node in self._graph.nodes.items():
            found = Work() if isinstance(node.op, Input) else work_of(self._graph, node)
            times = self._schedule.total if name in self._moving else 1
            macs += times * found.macs
            numbers += times * (self._size(name) + found.additions)
        return macs, numbers

    def _clock(self, steps: Sequence[str]) -> Iterator[str]:
        """Yield what the statements of a step ask of the time, and keep the tables that it needs."""
        schedule, time = self._schedule, self._numbers.time
        early = f"rehearsing || since < {schedule.timesteps}" if schedule.rehearsal else f"since < {schedule.timesteps}"
        made = {
            "rehearsing": ("int32_t", f"taken < {schedule.rehearsal}"),
            "since": (
                "int32_t",
                f"rehearsing ? taken : taken - {schedule.rehearsal}" if schedule.rehearsal else "taken",
            ),
            "at": ("int32_t", f"taken < {schedule.total} ? taken : {schedule.total - 1}"),
            "passed": (time, f"({time})(since + 1)"),
            "awake": (time, f"({time})({early} ? since + 1 : {schedule.timesteps})"),
            "lit": ("int32_t", f"taken < {schedule.lit}"),
            "gain": (time, "lit ? gains[at] : 0" if schedule.shares else "lit ? 1 : 0"),
            "missing": (time, "lit ? missings[at] : 1" if schedule.shares else "lit ? 0 : 1"),
            "elapsed": (time, "elapsed_at[at]" if schedule.shares else "awake"),
        }
        asked = {word for line in steps for word in re.findall(r"\w+", line)}
        for name in reversed(_CLOCK):
            asked |= {*re.findall(r"\w+", made[name][1])} if name in asked else set()
        tables = {
            "gains": schedule.gains,
            "missings": tuple(1 - gain for gain in schedule.gains),
            "elapsed_at": schedule.elapsed,
        }
        for name, values in tables.items():
            if name in asked:
                array = np.array(values, np.float32)
                self._storage.constants.append(declared(name, array))
                self._storage.of(OTHERS).constants += array.nbytes
        return (f"const {made[name][0]} {name} = {made[name][1]};" for name in _CLOCK if name in asked)

    def _header(self, comment: str, network: str, signatures: Mapping[str, str], made: CFile) -> str:
        upper, schedule = self._prefix.upper(), self._schedule
        figures = {
            "STEPS": schedule.total,
            "TIMESTEPS": schedule.timesteps,
            "REHEARSAL": schedule.rehearsal,
            "CONSTANT_BYTES": made.constants,
            "STATE_BYTES": made.state,
            "SCRATCH_BYTES": made.scratch,
        }
        told = {
            "start": "Shows an image, and starts again.",
            "step": "Takes one time step, and gives the answer of it.",
            "run": "Shows an image for all steps, and gives the sum of the answers."
            if self._numbers.whole
            else "Shows an image for all steps, and gives the mean answer.",
        }
        lines = [
            comment,
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            "#include <stdint.h>",
            "",
            f"#define {upper}_NETWORK {text(network)}",
            *(f"#define {upper}_{name} {value}" for name, value in figures.items()),
            *self._units(),
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *(line for name, line in signatures.items() for line in (f"/* {told[name]} */", f"{line};", "")),
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
        ]
        return "\n".join(lines)

    def _units(self) -> Iterator[str]:
        """Yield what one of an answer is worth, along its pattern: constants for who asks."""
        for name, answer in self._outputs.items():
            if name in self._numbers.units:
                found = self._pattern(name)
                values = ", ".join(map(number, found.values[0]))
                value = values if found.count == 1 else f"{{{values}}}"
                called = self._storage.names.new(self._prefix.upper(), answer.upper(), "UNIT")
                yield f"#define {called} {value}"

    def _pattern(self, name: str) -> Along:
        """Return what one of the sum of an output is worth in its mean."""
        unit = condensed(self._numbers.units[name].double()) / self._schedule.timesteps
        found = along([unit], self._graph.shapes[name])
        return replace(found, values=tuple(constants(value, "float") for value in found.values))

    def _tested(self) -> str:
        """Write the program for tests."""
        inputs, whole = self._graph.ops(Input), self._numbers.whole
        for name, op in inputs.items():
            called = "input" if len(inputs) == 1 else f"input.{name}"
            unit, most = (op.unit, op.most) if whole else (None, None)
            self._program.take(called, self._inputs[name], self._size(name), unit, most)
        for name, answer in self._outputs.items():
            pattern = self._pattern(name) if whole else Along((), 1, 1)
            self._program.give(name, answer, self._size(name), pattern)
        return self._program.written(f"{self._prefix}_run({self._given});")

    @property
    def _given(self) -> str:
        return ", ".join([*self._inputs.values(), *self._outputs.values()])


_PRAGMA = """
/* Numbers are rounded as in snnc: in single precision, no product fused with a sum (GCC: -std=c11, or
   -ffp-contract=off). */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
"""


_COST = f"""
/* What an event costs, as many times as an input that is gone over without asking: {EVENT_COST}, of gcc for x86-64.
   Define it as what it is on the device, or as INT32_MAX to go over all inputs at every step. */
#ifndef PREFIX_EVENT_COST
#define PREFIX_EVENT_COST {EVENT_COST}
#endif
"""


def _code(kinds: Sequence[str], functions: Sequence[str]) -> int:
    """Return about how many bytes of code functions take, and the functions of kinds of operations that they call."""
    called = Counter(re.findall(r"(\w+)\(", "\n".join([*kinds, *functions])))
    size = _CALLS * _words(functions)
    for kind in kinds:
        named = re.search(r"^static \w+ (\w+)\(", kind, re.MULTILINE)
        # Declared in one place, and called in another.
        size += (0 if named is None else _ONCE if called[named[1]] == 2 else _OFTEN) * _words([kind])
    return round(size)


def _words(functions: Sequence[str]) -> int:
    """Return how many names and numbers functions are made of."""
    return len(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", "\n".join(functions), flags=re.DOTALL)))


def _scratch(kind: str) -> str:
    """Return what the memory of a kind is called that all values of that kind share."""
    return "scratch" if kind == "float" else f"scratch_{kind.removesuffix('_t')}"


def _at(place: str, value: Value) -> Value:
    """Return what stands in a statement for a value, of the same type."""
    return Value(place, value.kind)


def _placed(statement: str, layout: Layout) -> str:
    """Return a statement with the places of values in it."""

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name not in layout.starts:
            return name
        memory, start = _scratch(layout.kinds[name]), layout.starts[name]
        return f"{memory} + {start}" if start else memory

    return re.sub(r"\{(\w+)\}", place, statement)


def _function(signature: str, body: Sequence[str]) -> str:
    lines = "\n".join(f"    {line}" for line in body)
    return f"{signature} {{\n{lines}\n}}"


def _comment(lines: Sequence[str]) -> str:
    # Others gave the names in it.
    shown = (re.sub(r"[^ -~]|[?\\]|[*]/|/[*]", "_", line) for line in lines)
    return "/* " + "\n".join(f"   {line}".rstrip() for line in shown).strip() + " */"


def _table(made: CFile) -> Iterator[str]:
    """Tell what memory the layers take."""
    yield f"Memory in bytes: {made.constants:,} of constants, {made.state:,} that are kept from step to step, and"
    yield f"{made.scratch:,} that all values share."
    yield ""
    yield f"{'constants':>12} {'kept':>12} {'value':>12}  layer"
    for name, part in made.memory.items():
        yield f"{part.constants:>12,} {part.state:>12,} {part.scratch:>12,}  {name}"
