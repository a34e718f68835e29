"""What a network computes with in C: real numbers in single precision or, where all are counted in units, whole ones.

Whole numbers are a network of their own: events that are counted and currents in units of the membrane that they arrive
at. Every value is of the smallest type that holds whatever comes, told from the weights and the largest events alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, final

import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.integers import widths
from snnc.analysis.units import drives
from snnc.errors import ModelError
from snnc.formats.c.language import WIDTHS, constants, integer_type, type_of
from snnc.formats.c.neurons import Kinds, neuron_functions
from snnc.formats.integers.lowering import Counted, Step
from snnc.formats.onnx.lowering import form
from snnc.formats.onnx.neurons import Gathering, Recurrence
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import kind_of
from snnc.neurons.temporal_bias import TemporalBias
from snnc.rules import RefusedError, UnansweredError
from snnc.schedule import Schedule

# What one type holds of the potential and of what arrives at once is computed with in that type.
_BITS = 30

_KINDS = {"real": "float", "pixel": "uint8_t", "integer": "int32_t"}


@final
@dataclass(frozen=True, eq=False)
class Numbers:
    """A network as it is written: the types of the values of its nodes, and its neurons with theirs.

    Of whole numbers ``units`` are what one of an output is worth, shaped like one sample, and ``answers`` the types of
    sums of it over all steps; ``reason`` says why they are not whole, where weights are quantized.
    """

    graph: Graph
    kinds: Mapping[str, str]
    forms: Mapping[str, Recurrence]
    types: Mapping[str, Kinds] = field(default_factory=dict)
    units: Mapping[str, Tensor] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    reason: str = ""

    @property
    def time(self) -> str:
        """The type of what there is of the time."""
        return "int32_t" if self.whole else "float"

    def argument(self, name: str, op: Input) -> str:
        """Return of which type an input is handed over."""
        return self.kinds[name] if self.whole else _KINDS[op.numbers]


def check_neuron(node: Node) -> Recurrence:
    """Return the recurrence of a neuron; raises ModelError that names it where it has none, or none in C."""
    found = form(node)
    if isinstance(found, Gathering):
        hint = "convert with --latency synchronous or a causal neuron (--neuron graded), or export with --format onnx"
        raise ModelError(
            f"{kind_of(node.op)} has no time step: it gathers its whole input first", place=node.name, hint=hint
        )
    try:
        neuron_functions(found, Kinds(), rehearses=True)
    except ModelError as error:
        raise ModelError(error.message, place=node.name, hint=error.hint) from None
    return found


def check_finite(node: Node) -> None:
    """Raise ModelError that names a node where it holds what model.snn files do not: NaN, or infinities."""
    for name in (entry.name for entry in fields(node.op)):  # type: ignore[arg-type]
        value = getattr(node.op, name)
        if not isinstance(value, float | Tensor):
            continue
        held = torch.as_tensor(value)
        if held.isnan().any() or not (name in node.op.unbounded or held.isfinite().all()):
            hint = "convert again from a network whose weights are finite numbers"
            raise ModelError(f"its {name} holds NaN or infinities", place=node.name, hint=hint)


def numbers_of(graph: Graph, schedule: Schedule) -> Numbers:
    """Return what a network is written as: in whole numbers where it is of such.

    Raises ModelError for the first node that nobody has written in C, or that holds NaN or infinities.
    """
    graph = graph.without_dead()
    for node in graph.nodes.values():
        check_finite(node)
    reason = ""
    if any(op.unit is not None for op in graph.ops(ops.Weighted).values()):
        try:
            return _Whole(graph.map_tensors(lambda tensor: tensor.detach().cpu().double()), schedule).numbers()
        except ModelError as error:
            reason = f"{error.message} @ {error.place}" if error.place else error.message
    graph = graph.map_tensors(lambda tensor: tensor.detach().cpu().float())
    forms = {name: check_neuron(graph.nodes[name]) for name in graph.ops(Neuron)}
    return Numbers(graph, dict.fromkeys(graph.nodes, "float"), forms, reason=reason)


@final
class _Whole:
    """A network in whole numbers as it comes to be; raises ModelError for the first node that has none."""

    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        self._counted, self._schedule = Counted(graph, schedule), schedule
        if self._counted.errors:
            raise self._counted.errors[0]
        self._widths = widths(self._counted.graph, schedule)
        self._nodes: dict[str, Node] = {}
        # The least and the most of every value, [1, ...], 0 among them.
        self._bounds: dict[str, tuple[Tensor, Tensor]] = {}
        self._kinds: dict[str, str] = {}
        self._forms: dict[str, Recurrence] = {}
        self._types: dict[str, Kinds] = {}

    def numbers(self) -> Numbers:
        """Write all nodes."""
        for node in self._counted.graph.nodes.values():
            try:
                self._write(node)
            except UnansweredError as refusal:
                raise refusal.at(node.place) from None
        graph = Graph(self._nodes, self._counted.graph.outputs)
        answers = {name: self._kind(name, self._schedule.total) for name in graph.outputs}
        units = {name: self._counted.units[name] for name in graph.outputs}
        return Numbers(graph, self._kinds, self._forms, self._types, units, answers, whole=True)

    def _write(self, node: Node) -> None:
        op: Op = node.op
        if isinstance(op, ops.Routing | ops.Mean | ops.AveragePool | ops.MaxPool):
            # What they move, add up or choose from is whole.
            pass
        elif isinstance(op, Neuron):
            (step,) = self._counted.steps(node)
            self._fire(node, op, step)
        else:
            op = _in_whole(op, self._counted.steps(node))
        inputs = tuple(
            value if count is None else self._scaled(value, behind, count)
            for value, behind, count in self._counted.inputs(node)
        )
        self._add(replace(node, op=op, inputs=inputs))

    def _scaled(self, value: str, behind: str, count: Tensor) -> str:
        name = f"{value}/into {behind}"
        if name not in self._nodes:
            self._add(Node(name, ops.Affine(count, None), (value,)))
        return name

    def _add(self, node: Node) -> None:
        self._nodes[node.name] = node
        low, high = self._bounds_of(node)
        self._bounds[node.name] = low.clamp(max=0), high.clamp(min=0)
        # Who asks for means so far keeps sums of all steps.
        steps = 1 if node.op.linear or isinstance(node.op, Input | Neuron) else self._schedule.total
        read = [self._kind(value, steps) for value in node.inputs] if steps > 1 else []
        self._kinds[node.name] = max([self._kind(node.name, steps), *read], key=WIDTHS.__getitem__)
        if isinstance(node.op, Input) and node.op.numbers != "real":
            self._kinds[node.name] = _KINDS[node.op.numbers]

    def _kind(self, name: str, steps: int = 1) -> str:
        low, high = self._bounds[name]
        return integer_type(steps * float(low.min()), steps * float(high.max()))

    def _bounds_of(self, node: Node) -> tuple[Tensor, Tensor]:
        """Return the least and the most of what comes out of a node."""
        op = node.op
        lows, highs = ([self._bounds[value][side] for value in node.inputs] for side in (0, 1))
        if isinstance(op, Input):
            most = torch.full((1, *op.shape), float(op.most or (op.below or 256) - 1), dtype=torch.float64)
            return (-most if op.unit else 0 * most), most
        if isinstance(op, Neuron):
            like = torch.ones_like(lows[0])
            return op.largest_event * (-like if op.takes_back else 0 * like), (op.largest_event + op.rest) * like
        if isinstance(op, ops.Weighted):
            kernel, bias = op.kernel(), torch.zeros(1) if op.bias is None else op.bias
            bias = bias.double().expand(kernel.shape[0] * kernel.shape[1])
            up, down = (op.with_kernel(part, None) for part in (kernel.clamp(min=0), kernel.clamp(max=0)))
            shift = [op.with_kernel(0 * kernel, part)(lows[0]) for part in (bias.clamp(max=0), bias.clamp(min=0))]
            return up(lows[0]) + down(highs[0]) + shift[0], up(highs[0]) + down(lows[0]) + shift[1]
        if isinstance(op, TemporalBias):
            return lows[0] + op.shift.amin(0).clamp(max=0), highs[0] + op.shift.amax(0).clamp(min=0)
        if isinstance(op, ops.Affine) and op.shift is not None:
            return lows[0] + op.shift.clamp(max=0), highs[0] + op.shift.clamp(min=0)
        if isinstance(op, ops.MaxPool):
            # What a step sends is what the largest sum so far has changed by: it falls as far as any of them.
            return -op(-lows[0]), op(highs[0])
        parts = drives(op, tuple(lows[0].shape[1:])).parts
        return op(*lows) * parts, op(*highs) * parts

    def _fire(self, node: Node, op: Neuron, step: Step) -> None:
        """Write a layer of neurons, and find the types of what it holds."""
        made = _counting(op, step)
        known = self._widths[node.name]
        assert known is not None
        wide = max(known.membranes, known.sums)
        own = "int32_t" if wide <= _BITS else "int64_t"
        held = {name: type_of(constants(tensor)) for name, tensor in made.constants.items()}
        held["membrane"] = integer_type(-(1 << known.membranes - 1), (1 << known.membranes - 1) - 1)
        most = op.levels(max(self._schedule.timesteps, self._schedule.rehearsal))
        held["count"] = integer_type(-most, most)
        self._forms[node.name] = made
        self._types[node.name] = Kinds(own, others=held)


def _in_whole(op: Op, steps: Sequence[Step]) -> Op:
    """Return an operation on whole numbers: the weights, and what is constant, in units of the membrane."""
    layers = {step.kind: step for step in steps}
    bias = layers["bias"].arrays["bias"] if "bias" in layers else None
    if isinstance(op, ops.Weighted):
        (layer, *_) = steps
        weight = layer.arrays["weight"] * 2 ** layer.says["shift"]
        return replace(op, weight=weight, bias=None if bias is None else bias.flatten(), unit=None)
    if isinstance(op, ops.Affine | TemporalBias):
        if bias is None:
            return ops.Add()
        return ops.Affine(None, bias[0]) if len(bias) == 1 else TemporalBias(bias)
    return op


_HELD = """
    summed = Add(membrane, x)
    lowest = Constant<value_float = {}>()
    highest = Constant<value_float = {}>()
    charged = Clip(summed, lowest, highest)
"""
_FREE = "charged = Add(membrane, x)\n"
_FIRED = """
    fires = GreaterOrEqual(charged, threshold)
    spikes = Identity(fires)
    taken = Mul(fires, threshold)
    next_membrane = Sub(charged, taken)
"""
# Of events of one level the quotient needs no division.
_ONE_LEVEL = """
    zero = Constant<value_float = 0>()
    over = GreaterOrEqual(charged, threshold)
    under = Less(charged, zero)
    behind = Sub(over, under)
"""
_COUNTED = """
    least = Constant<value_float = {least}>()
    bound = {bound}
    clipped = Clip(behind, least, bound)
    most = {most}
    room = Sub(most, count)
    none = Neg(count)
    raised = Max(clipped, none)
    event = Min(raised, room)
    next_count = Add(count, event)
    taken = Mul(event, threshold)
    next_membrane = Sub(charged, taken)
    spikes = {spikes}
"""
_FIRST = """
    one = Constant<value_float = 1>()
    zero_events = Constant<value_float = 0>()
    is_first = LessOrEqual(passed, one)
    first = Constant<value_float = {first}>()
    rest = Constant<value_float = {rest}>()
    resting = Where(is_first, rest, zero_events)
"""


def _counting(op: Neuron, step: Step) -> Recurrence:
    """Return the recurrence of a neuron that counts: of whole numbers, in C alone."""
    says, constants_of = step.says, {"threshold": step.arrays["threshold"]}
    body = _HELD.format(*says["holds"]) if op.membrane_bits else _FREE
    starts = {"membrane": step.arrays["start"]}
    name = f"Whole{type(op).__name__}"
    if not says["counts"]:
        about = "v <- v + x; m = 1 if v >= threshold; v <- v - threshold * m"
        return Recurrence(name, about, constants_of, starts, f"{body}{_FIRED}")
    largest, highest, starting = says["largest"], says["highest"], says["rest"] or says["first"] > says["largest"]
    if highest is None and starting:
        raise RefusedError("a first event larger than others, without a highest count", hint="convert with --neuron if")
    one_level = max(says["first"], -says["least"]) == 1
    body += f"    largest = Constant<value_float = {largest}>()\n"
    body += _FIRST.format(**says) if starting else ""
    body += _ONE_LEVEL if one_level else "    behind = Div(charged, threshold)\n"
    body += _COUNTED.format(
        least=says["least"],
        bound="Where(is_first, first, largest)" if starting else "Identity(largest)",
        most="Mul(largest, awake)" if highest is None else f"Constant<value_float = {highest}>()",
        spikes="Add(event, resting)" if starting else "Identity(event)",
    )
    about = "v <- v + x; m = clip(floor(v / threshold), -g, g), within 0 <= n + m <= L; v <- v - threshold * m"
    counts: Literal["awake", "passed"] | None = "awake" if highest is None else "passed" if starting else None
    starts["count"] = torch.tensor(float(says["rest"]), dtype=torch.float64)
    return Recurrence(name, about, constants_of, starts, body, counts=counts)
