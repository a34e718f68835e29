"""A spiking network as one ONNX file of one time step, for hosts that keep the loop.

Inputs are the images, the number of the step, and all states; outputs what the network answers at this step, and all
states for the next. States, and the number of the step, are zero at first: what they start from is in the file.

A file for streams is run on and on, with the next image once a frame's steps are over. What held still moves by what
changed against the image before, of which it keeps, as a state, what it has shown; biases are on in the first frame.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import final

import numpy as np
from onnx import TensorProto, numpy_helper

from snnc.errors import ModelError
from snnc.figure import ExitRule
from snnc.formats.onnx.file import BATCH, Array, Axis, Function, Operation, Operations, entry, value
from snnc.formats.onnx.lowering import OPSET, Lowering, SpikingFile, aligned
from snnc.formats.onnx.neurons import Form, Gathering, Recurrence
from snnc.formats.onnx.operations import floated
from snnc.formats.onnx.train_functions import floats, step_function
from snnc.ir import Graph, Input, Node
from snnc.neurons.base import kind_of
from snnc.neurons.temporal_bias import TemporalBias
from snnc.schedule import Schedule


def step_model(
    graph: Graph,
    schedule: Schedule,
    properties: Mapping[str, str],
    over_time: Collection[str] = (),
    *,
    exits: ExitRule | None = None,
    stream: bool = False,
) -> SpikingFile:
    """Write one time step of a spiking network; the time steps of the schedule are the default of the file.

    Inputs ``over_time`` are spikes, others at every step. With a rule for that the file says, too, whether the answer
    of each sample is certain. The file of a ``stream`` goes on from frame to frame.

    Raises ModelError that names the node for an operation that nobody has written for ONNX, and for a neuron that
    gathers its whole input before it fires.
    """
    lowering = _Step(graph, schedule, over_time, stream=stream)
    lowering.write()
    if exits is not None:
        lowering.write_certain(exits)
    return lowering.finished(properties)


def check_step(node: Node, form: Form) -> None:
    """Raise ModelError that names a neuron that gathers its whole input before it fires."""
    if isinstance(form, Gathering):
        hint = "convert with a causal neuron (--latency synchronous), or export without --step"
        message = f"{kind_of(node.op)} has no time step: it gathers its whole input first"
        raise ModelError(message, place=node.name, hint=hint)


@final
class _Step(Lowering):
    def __init__(self, graph: Graph, schedule: Schedule, over_time: Collection[str], *, stream: bool) -> None:
        super().__init__(graph, schedule, over_time)
        self._stream = stream
        # Biases are off after the first frame.
        self.uneven |= stream
        self._step = self.file.named("step")
        self._certain = ""

    @property
    def axes(self) -> Sequence[Axis]:
        return [BATCH]

    def finished(self, properties: Mapping[str, str]) -> SpikingFile:
        shapes, states = self.graph.shapes, self.file.states.values()
        outputs = [value(self.moved(name), [BATCH, *shapes[name]]) for name in self.graph.outputs]
        after = self.file.named(f"{self._step}/next")
        self.file.write([self._step], [Operation("Add", {"one": np.array(1, np.int64)})], after)
        inputs = [entry(name, op) for name, op in self.graph.ops(Input).items()]
        outputs += [value(self._certain, [BATCH], TensorProto.BOOL)] if self._certain else []
        clock = [value(name, [], TensorProto.INT64) for name in (self._step, self.timesteps, after)]
        default = np.array(self.schedule.timesteps, np.int64)
        self.file.constants.append(numpy_helper.from_array(default, self.timesteps))
        model = self.file.model(
            [*inputs, *(now for now, _ in states), *clock[:2]],
            [*outputs, *(later for _, later in states), clock[2]],
            opset=OPSET,
            functions=[
                *_time_functions(self.schedule),
                *_certain(self.schedule),
                *(f for found in self.forms() for f in _neuron(found)),
            ],
            about="One time step of a spiking network, written by snnc. States and the number of the step are zero at "
            f"first, and then what the outputs of the same name with /next say. {self._told()}, divided by timesteps, "
            "is what the network answers.",
            properties=properties,
        )
        following = {self._step: after, **{now.name: later.name for now, later in states}}
        return SpikingFile(model, self.timesteps, self.spikes, states=following, certain=self._certain)

    def write_certain(self, rule: ExitRule) -> None:
        """Write whether the answer of a sample, the largest value of the first output, stands before the end."""
        answered = self.moved(self.graph.outputs[0])
        shape = self.graph.shapes[self.graph.outputs[0]]
        kind = "CertainClass" if math.prod(shape) > 1 else "CertainSign"
        limits = np.array([math.inf if limit is None else limit for limit in rule.limits], np.float32)
        self._certain = self.file.named("certain")
        self.file.write([answered], [self._local(kind, {"limits": limits}, {"answered": shape})], self._certain)

    def _told(self) -> str:
        if self._stream:
            return (
                f"A frame is shown for timesteps + {self.schedule.sleep} steps (awake, asleep), and the next follows: "
                "the sum of the outputs of all steps since the first"
            )
        return (
            f"Of {self.schedule.rehearsal} + timesteps + {self.schedule.sleep} steps (rehearsal, awake, asleep) the "
            "sum of the outputs of all but the first"
        )

    def write_neuron(self, node: Node, form: Form) -> None:
        check_step(node, form)
        assert isinstance(form, Recurrence)
        constants = {name: floated(tensor) for name, tensor in form.constants.items()}
        starts = {f"start_{name}": floated(tensor) for name, tensor in form.starts.items()}
        states = dict.fromkeys(form.starts, self.graph.shapes[node.name])
        self.write_moving(node, [self.moved(node.inputs[0])], [self._local(form.name, {**constants, **starts}, states)])
        self.spikes[node.name] = node.name

    def write_held(self, node: Node, operations: Operations) -> None:
        # What is put out is that which moves, and has the name.
        hidden = self.uneven and node.name in self.graph.outputs
        held = self.file.named(f"{node.name}/held") if hidden else node.name
        self.file.write([self.held[value] for value in node.inputs], operations, held, node.name)
        self.held[node.name] = held
        self.shaped(held, node.name)

    def write_moving(self, node: Node, inputs: Sequence[str], operations: Operations) -> None:
        self.file.write(inputs, operations, node.name)
        self.moving[node.name] = node.name
        self.shaped(node.name, node.name)

    def direct_coding(self, shape: Sequence[int]) -> Operations:
        if self._stream:
            return [self._local("Changes", states={"shown": shape})]
        return [self._local("DirectCoding")] if self.uneven else []

    def temporal_bias(self, op: TemporalBias, node: Node) -> Operation:
        return self._local("TemporalBias", {"shift": aligned(op, self.graph.shapes[node.name])})

    def silence(self, bias: Array) -> Operation:
        return self._local("SilenceBias", {"bias": bias})

    def running_mean(self, shape: Sequence[int]) -> Operation:
        return self._local("RunningMean", states={"total": shape})

    def temporal_difference(self, shape: Sequence[int]) -> Operation:
        return self._local("TemporalDifference", states={"before": shape})

    def _local(
        self, name: str, constants: Mapping[str, Array] | None = None, states: Mapping[str, Sequence[int]] | None = None
    ) -> Operation:
        clock = [self._step, self.timesteps]
        return Operation(name, constants or {}, local=True, states=states or {}, clock=clock)


def _time_functions(schedule: Schedule) -> Iterator[Function]:
    yield Function(
        "Clock",
        ["step", "timesteps"],
        ["count", "restart", "lit", "passed"],
        f"""
        rehearsal = Constant<value_int = {schedule.rehearsal}>()
        zero = Constant<value_int = 0>()
        one = Constant<value_int = 1>()
        counting = GreaterOrEqual(step, rehearsal)
        since = Sub(step, rehearsal)
        own = Where(counting, since, step)
        restart = Equal(own, zero)
        passed = Add(own, one)
        awake = Min(passed, timesteps)
        count = Where(counting, awake, passed)
        end = Add(rehearsal, timesteps)
        lit = Less(step, end)
        """,
        "how many steps have been awake with this one, the rehearsal counted by itself; whether everything starts "
        "again; whether the image is on; and how many steps have passed since the start, awake or not",
    )
    yield from _TIME_FUNCTIONS
    yield Function(
        "Changes",
        ["current", "shown", "step", "timesteps"],
        ["signal", "next_shown"],
        f"""
        asleep = Constant<value_int = {schedule.sleep}>()
        one = Constant<value_int = 1>()
        frame = Add(timesteps, asleep)
        within = Mod(step, frame)
        change = Sub(current, shown)
        signal = snnc.DirectCoding(change, within, timesteps)
        passed = Add(within, one)
        over = Equal(passed, frame)
        next_shown = Where(over, current, shown)
        """,
        "what changed against the frame before, as a current that is on as the first frame is",
    )
    yield from _shown(shared=bool(schedule.shares))
    if schedule.shares:
        yield Function(
            "Gain",
            ["step", "like"],
            ["gain", "elapsed"],
            f"""
            end = Constant<value_int = {schedule.total}>()
            index = Min(step, end)
            gains = Constant<value_floats = {floats((*schedule.gains, 0.0))}>()
            at_step = Gather<axis = 0>(gains, index)
            gain = CastLike(at_step, like)
            shown = Constant<value_floats = {floats((*schedule.elapsed, schedule.elapsed[-1]))}>()
            until_step = Gather<axis = 0>(shown, index)
            elapsed = CastLike(until_step, like)
            """,
            "by how much image and biases are stronger at a step than in equal steps, and how much of them, in equal "
            "steps, has been shown until then",
        )


_TIME_FUNCTIONS = (
    Function(
        "TemporalBias",
        ["signal", "shift", "step", "timesteps"],
        ["biased"],
        """
        count, restart, lit, passed = snnc.Clock(step, timesteps)
        axis = Constant<value_ints = [0]>()
        one = Constant<value_int = 1>()
        own = Sub(count, one)
        number = Shape<end = 1>(shift)
        numbers = Squeeze(number, axis)
        last = Sub(numbers, one)
        index = Min(own, last)
        bias = Gather<axis = 0>(shift, index)
        bright = Add(signal, bias)
        biased = Where(lit, bright, signal)
        """,
        "adds a bias of its own at every step with the image on; past the last its bias stays",
    ),
)


def _certain(schedule: Schedule) -> Iterator[Function]:
    margins = {
        "CertainClass": """
        two = Constant<value_ints = [2]>()
        best, places = TopK(flat, two)
        zeroth = Constant<value_int = 0>()
        next = Constant<value_int = 1>()
        first = Gather<axis = 1>(best, zeroth)
        second = Gather<axis = 1>(best, next)
        margin = Sub(first, second)
        """,
        "CertainSign": """
        axis = Constant<value_ints = [1]>()
        number = Squeeze(flat, axis)
        margin = Abs(number)
        """,
    }
    for name, margin in margins.items():
        yield Function(
            name,
            ["signal", "limits", "answered", "step", "timesteps"],
            ["certain", "next_answered"],
            f"""
            mean, next_answered = snnc.RunningMean(signal, answered, step, timesteps)
            flat = Flatten<axis = 1>(mean)
            {margin}
            last_known = Constant<value_int = {schedule.total - 1}>()
            capped = Min(step, last_known)
            limit = Gather<axis = 0>(limits, capped)
            reached = GreaterOrEqual(margin, limit)
            own = Constant<value_int = {schedule.timesteps}>()
            known = Equal(timesteps, own)
            enough = And(reached, known)
            around = Constant<value_int = {schedule.rehearsal + schedule.sleep - 1}>()
            last = Add(timesteps, around)
            over = GreaterOrEqual(step, last)
            certain = Or(enough, over)
            """,
            "whether the margin of the mean output until now is enough for the answer to stand; for other time steps "
            "than the limits were made for it is after the last",
        )


def _shown(*, shared: bool) -> Iterator[Function]:
    """Yield what depends on whether all steps with the image on show as much of it, or each its share."""
    if shared:
        until_now, elapsed = "gain, elapsed = snnc.Gain(step, signal)", "elapsed"
        yield from _SHARED
    else:
        until_now, elapsed = "steps = CastLike(count, signal)", "steps"
        yield from _EQUAL
    yield Function(
        "RunningMean",
        ["signal", "total", "step", "timesteps"],
        ["mean", "next_total"],
        f"""
        count, restart, lit, passed = snnc.Clock(step, timesteps)
        zero = Constant<value_float = 0.0>()
        before = Where(restart, zero, total)
        next_total = Add(before, signal)
        {until_now}
        mean = Div(next_total, {elapsed})
        """,
        "the mean of the steps until now, which is what an operation that is not linear sees",
    )
    yield Function(
        "TemporalDifference",
        ["signal", "before", "step", "timesteps"],
        ["difference", "next_before"],
        f"""
        count, restart, lit, passed = snnc.Clock(step, timesteps)
        zero = Constant<value_float = 0.0>()
        earlier = Where(restart, zero, before)
        {until_now}
        next_before = Mul(signal, {elapsed})
        difference = Sub(next_before, earlier)
        """,
        "what a running mean, times the steps it is of, has gained since the step before",
    )


_EQUAL = (
    Function(
        "DirectCoding",
        ["current", "step", "timesteps"],
        ["signal"],
        """
        count, restart, lit, passed = snnc.Clock(step, timesteps)
        zero = Constant<value_float = 0.0>()
        signal = Where(lit, current, zero)
        """,
        "a current that is the same at every step with the image on, and nothing in sleep",
    ),
    Function(
        "SilenceBias",
        ["signal", "bias", "step", "timesteps"],
        ["silenced"],
        """
        count, restart, lit, passed = snnc.Clock(step, timesteps)
        unbiased = Sub(signal, bias)
        silenced = Where(lit, signal, unbiased)
        """,
        "takes away in sleep what a layer answers to nothing",
    ),
)
_SHARED = (
    Function(
        "DirectCoding",
        ["current", "step", "timesteps"],
        ["signal"],
        """
        gain, elapsed = snnc.Gain(step, current)
        signal = Mul(current, gain)
        """,
        "a current of which every step with the image on has its share, and nothing in sleep",
    ),
    Function(
        "SilenceBias",
        ["signal", "bias", "step", "timesteps"],
        ["silenced"],
        """
        gain, elapsed = snnc.Gain(step, signal)
        one = Constant<value_float = 1.0>()
        missing = Sub(one, gain)
        excess = Mul(bias, missing)
        silenced = Sub(signal, excess)
        """,
        "leaves of what a layer answers to nothing the share of each step",
    ),
)


def _neuron(form: Form) -> Iterator[Function]:
    if not isinstance(form, Recurrence):
        return
    yield step_function(form)
    starts = [f"start_{state}" for state in form.starts]
    lines = ["awake_steps, restart, lit, passed_steps = snnc.Clock(step, timesteps)"]
    if form.counts:
        lines.append(f"{form.counts} = CastLike({form.counts}_steps, signal)")
    if form.learned:
        lines += ["begin = Constant<value_int = 0>()", "first = Equal(step, begin)", form.rehearsed]
        lines += [f"learned_{state} = Where(first, start_{state}, again_{state})" for state in form.learned]
    for state in form.starts:
        start = f"learned_{state}" if state in form.learned else f"start_{state}"
        lines.append(f"now_{state} = Where(restart, {start}, {state})")
    results = ["spikes", *(f"next_{state}" for state in form.starts)]
    arguments = ["signal", *(f"now_{state}" for state in form.starts), *form.constants]
    arguments += [form.counts] if form.counts else []
    lines.append(f"{', '.join(results)} = snnc.{form.name}Step({', '.join(arguments)})")
    inputs = ["signal", *form.constants, *starts, *form.starts, "step", "timesteps"]
    yield Function(form.name, inputs, results, "\n".join(lines), form.about)
