"""What every neuron is written as, in the textual language of ONNX: the recurrence at the head of its own file.

Bodies compute what the neuron's torch code computes, operation by operation, so that both round alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.burst import Burst
from snnc.neurons.consistent import ConsistentIntegrateAndFire
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.neurons.offset_spikes import MARGIN, OffsetSpikes
from snnc.neurons.residual_potential import LEAST, ResidualPotential
from snnc.neurons.two_phase import TwoPhase
from snnc.neurons.two_phase_probabilistic import TwoPhaseProbabilistic
from snnc.rules import Rules


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A causal neuron: ``advance`` computes ``spikes`` and ``next_…`` of every state from ``x`` and the states.

    ``starts`` are the states before the first step, under the names of the states. After a rehearsal the states in
    ``learned`` start from what ``rehearsed`` computes, ``again_…``, out of the states and ``start_…``; the others as
    before the first step. A ``counting`` one reads ``awake``, the number of steps awake until now.
    """

    name: str
    about: str
    constants: Mapping[str, Tensor]
    starts: Mapping[str, Tensor]
    advance: str
    counting: bool = False
    rehearsed: str = ""
    learned: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Gathering:
    """A neuron that gathers its whole input first: ``mean`` and ``train`` compute ``spikes`` from ``gathered``.

    ``mean`` is the mean output over time, ``train`` every step awake, ``[timesteps, N, ...]``. A ``random`` one reads
    ``draws`` as well: uniform random numbers in [0, 1), ``[timesteps, N, ...]``.
    """

    name: str
    about: str
    constants: Mapping[str, Tensor]
    mean: str
    train: str
    random: bool = field(default=False)


Form = Recurrence | Gathering

forms = Rules[Neuron, Form]("what recurrence of ONNX writes a neuron")

forms.refuse(
    CausalNeuron,
    OrderFreeNeuron,
    why="nobody has written this neuron for ONNX",
    hint="convert with another neuron, or register its form beside it: snnc.export.onnx.neurons.forms",
)


@forms.register(IntegrateAndFire)
def _integrate_and_fire(op: IntegrateAndFire) -> Recurrence:
    return Recurrence(
        "IF",
        "v <- v + x; s = 1 if v >= threshold; v <- v - threshold * s",
        {"threshold": op.threshold},
        {"membrane": _start(op)},
        """
        charged = Add(membrane, x)
        fires = GreaterOrEqual(charged, threshold)
        fired = CastLike(fires, x)
        spikes = Mul(fired, threshold)
        next_membrane = Sub(charged, spikes)
        """,
    )


@forms.register(IntegrateAndFireToZero)
def _integrate_and_fire_to_zero(op: IntegrateAndFireToZero) -> Recurrence:
    return Recurrence(
        "IFZero",
        "v <- v + x; s = 1 if v >= firing * threshold; v <- 0 where s = 1",
        {"threshold": op.threshold, "firing": op.firing},
        {"membrane": _start(op)},
        """
        charged = Add(membrane, x)
        level = Mul(firing, threshold)
        fires = GreaterOrEqual(charged, level)
        fired = CastLike(fires, x)
        spikes = Mul(fired, threshold)
        zero = Constant<value_float = 0.0>()
        next_membrane = Where(fires, zero, charged)
        """,
    )


@forms.register(ResidualPotential)
def _residual_potential(op: ResidualPotential) -> Recurrence:
    return Recurrence(
        "SRP",
        "as IF, but silent after a rehearsal that leaves it no charge",
        {"threshold": op.threshold},
        {"membrane": _start(op), "mask": torch.ones(())},
        """
        charged = Add(membrane, x)
        fires = GreaterOrEqual(charged, threshold)
        fired = CastLike(fires, x)
        reset = Mul(fired, threshold)
        next_membrane = Sub(charged, reset)
        spikes = Mul(reset, mask)
        next_mask = Identity(mask)
        """,
        rehearsed=f"""
        share = Constant<value_float = {LEAST}>()
        least = Mul(share, threshold)
        residual = Greater(membrane, least)
        again_mask = CastLike(residual, membrane)
        """,
        learned=("mask",),
    )


@forms.register(OffsetSpikes)
def _offset_spikes(op: OffsetSpikes) -> Recurrence:
    return Recurrence(
        "COS",
        "as IF, but after a rehearsal it starts from where it fires once less, or once more",
        {"threshold": op.threshold},
        {"membrane": _start(op), "firing": torch.tensor(torch.inf), "silent": torch.tensor(-torch.inf)},
        """
        charged = Add(membrane, x)
        fires = GreaterOrEqual(charged, threshold)
        fired = CastLike(fires, x)
        spikes = Mul(fired, threshold)
        next_membrane = Sub(charged, spikes)
        least = Min(firing, charged)
        next_firing = Where(fires, least, firing)
        greatest = Max(silent, charged)
        next_silent = Where(fires, silent, greatest)
        """,
        rehearsed=f"""
        zero = Constant<value_float = 0.0>()
        share_below = Constant<value_float = {1 - MARGIN}>()
        below = Mul(share_below, threshold)
        share_above = Constant<value_float = {1 + MARGIN}>()
        above = Mul(share_above, threshold)
        excess = Sub(firing, below)
        down = Max(threshold, excess)
        lack = Sub(above, silent)
        up = Max(threshold, lack)
        negative = Less(membrane, zero)
        has_fired = Less(firing, start_firing)
        too_often = And(negative, has_fired)
        lowered = Sub(start_membrane, down)
        mended = Where(too_often, lowered, start_membrane)
        charged = GreaterOrEqual(membrane, threshold)
        was_silent = Greater(silent, start_silent)
        too_seldom = And(charged, was_silent)
        raised = Add(mended, up)
        again_membrane = Where(too_seldom, raised, mended)
        """,
        learned=("membrane",),
    )


@forms.register(Burst)
def _burst(op: Burst) -> Recurrence:
    return Recurrence(
        "Burst",
        "v <- v + x; s = clip(floor(v / threshold), 0, burst); v <- v - threshold * s",
        {"threshold": op.threshold, "burst": torch.tensor(float(op.max_event))},
        {"membrane": _start(op)},
        # What remains is exact, and a difference that is a multiple of the threshold, once divided, but for rounding
        # whole: the quotient itself may round up to the next whole number.
        """
        charged = Add(membrane, x)
        positive = Relu(charged)
        remainder = Mod<fmod = 1>(positive, threshold)
        multiple = Sub(positive, remainder)
        quotient = Div(multiple, threshold)
        whole = Round(quotient)
        count = Min(whole, burst)
        spikes = Mul(count, threshold)
        next_membrane = Sub(charged, spikes)
        """,
    )


# From what potential on a code takes one spike more, and below what one less: halfway to the next level.
_CODING_BOUNDS = """
        unit = Constant<value_float = 1.0>()
        half = Constant<value_float = 0.5>()
        one_more = Add(count, unit)
        one_less = Sub(count, unit)
        sloped_here = PRelu(count, slope)
        sloped_more = PRelu(one_more, slope)
        sloped_less = PRelu(one_less, slope)
        here = Mul(sloped_here, threshold)
        more = Mul(sloped_more, threshold)
        less = Mul(sloped_less, threshold)
        up = Sub(more, here)
        down = Sub(here, less)
        half_up = Mul(half, up)
        part_down = Mul(margin, down)
        upper = Add(rest, half_up)
        lower = Sub(rest, part_down)
"""


def _bounds(op: CausalNeuron, margin: float = 0.0) -> tuple[str, dict[str, Tensor]]:
    """Return what computes the bounds of a code, and the constants that it needs; nothing for any other neuron."""
    if not op.coding:
        return "", {}
    return _CODING_BOUNDS, {"rest": op.threshold / 2, "margin": torch.tensor(0.5 + margin)}


def _start(op: CausalNeuron) -> Tensor:
    return op.potential * op.threshold


_COUNTED_WITHOUT_SLOPE = """
        next_count = Add(count, fired)
        spikes = Mul(fired, threshold)
        next_membrane = Sub(charged, spikes)
"""
# A spike carries what it changes of the value of the count.
_COUNTED_WITH_SLOPE = """
        next_count = Add(count, fired)
        reset = Mul(fired, threshold)
        next_membrane = Sub(charged, reset)
        after = PRelu(next_count, slope)
        worth_after = Mul(after, threshold)
        before = PRelu(count, slope)
        worth_before = Mul(before, threshold)
        spikes = Sub(worth_after, worth_before)
"""
# The membrane loses what the spike carries.
_COUNTED_AS_CODE = """
        next_count = Add(count, fired)
        after = PRelu(next_count, slope)
        worth_after = Mul(after, threshold)
        spikes = Sub(worth_after, here)
        next_membrane = Sub(charged, spikes)
"""


@forms.register(ConsistentIntegrateAndFire)
def _consistent(op: ConsistentIntegrateAndFire) -> Recurrence:
    lowest = "Neg(awake)" if op.slope is not None else "Constant<value_float = 0.0>()"
    bounds, constants = _bounds(op)
    upper, lower = ("upper", "lower") if op.coding else ("threshold", "zero")
    return _sloped(
        op,
        "CIF",
        "v <- v + x; s = +1 if v >= threshold and n < t, -1 if v < 0 and n > 0; v <- v - threshold * s; n <- n + s",
        f"""
        charged = Add(membrane, x)
        {bounds}
        above = GreaterOrEqual(charged, {upper})
        free = Less(count, awake)
        raises = And(above, free)
        zero = Constant<value_float = 0.0>()
        below = Less(charged, {lower})
        lowest = {lowest}
        some = Greater(count, lowest)
        lowers = And(below, some)
        raised = CastLike(raises, x)
        undone = CastLike(lowers, x)
        fired = Sub(raised, undone)
        """,
        {"threshold": op.threshold, **constants},
        counting=True,
    )


@forms.register(DualThreshold)
def _dual_threshold(op: DualThreshold) -> Recurrence:
    undone = "undone = CastLike(below, x)"
    if op.slope is None:
        undone = """
        fallen = CastLike(below, x)
        one = Constant<value_float = 1.0>()
        some = Min(count, one)
        undone = Mul(fallen, some)
        """
    bounds, constants = _bounds(op, op.negative_threshold)
    if not op.coding:
        constants = {"lower": -op.negative_threshold * op.threshold}
    return _sloped(
        op,
        "DualThreshold",
        "v <- v + x; s = +1 if v >= threshold, -1 if v < lower and n >= 1; v <- v - threshold * s; n <- n + s",
        f"""
        charged = Add(membrane, x)
        {bounds}
        below = Less(charged, lower)
        {undone}
        above = GreaterOrEqual(charged, {"upper" if op.coding else "threshold"})
        raised = CastLike(above, x)
        fired = Sub(raised, undone)
        """,
        {"threshold": op.threshold, **constants},
    )


def _sloped(
    op: CausalNeuron, name: str, about: str, firing: str, constants: Mapping[str, Tensor], *, counting: bool = False
) -> Recurrence:
    """Write a neuron that counts its spikes, and has a form of its own where those below zero weigh a slope."""
    starts = {"membrane": _start(op), "count": torch.zeros(())}
    if op.slope is None:
        return Recurrence(name, about, constants, starts, f"{firing}{_COUNTED_WITHOUT_SLOPE}", counting)
    constants = {**constants, "slope": op.slope}
    if op.coding:
        about = f"as {name}, but of both signs, and each spike from halfway to the next level"
        return Recurrence(f"Coding{name}", about, constants, starts, f"{firing}{_COUNTED_AS_CODE}", counting)
    return Recurrence(f"Leaky{name}", about, constants, starts, f"{firing}{_COUNTED_WITH_SLOPE}", counting)


# What is below zero, as many levels away as what is above.
_IN_UNITS = """
        deeper = Div(gathered, slope)
        nothing = Constant<value_float = 0.0>()
        positive = Greater(gathered, nothing)
        taken = Where(positive, gathered, deeper)
"""


@forms.register(TwoPhase)
def _two_phase(op: TwoPhase) -> Gathering:
    signed = op.slope is not None
    count = f"""
        {_IN_UNITS if op.coding else ""}
        steps = CastLike(timesteps, gathered)
        scale = Div(steps, threshold)
        scaled = Mul({"taken" if op.coding else "gathered"}, scale)
        charge = Add(scaled, potential)
        level = Floor(charge)
        lowest = {"Neg(steps)" if signed else "Constant<value_float = 0.0>()"}
        count = Clip(level, lowest, steps)
    """
    plain = Gathering(
        "TwoPhase",
        "gathers its whole input, then spreads clip(floor(T * mean / threshold + potential), 0, T) spikes evenly",
        {"threshold": op.threshold, "potential": op.potential},
        f"{count}{_mean_value(signed)}",
        f"""{count}
        one = Constant<value_int = 1>()
        end = Add(timesteps, one)
        times = Range(one, end, one)
        axis = Constant<value_ints = [0]>()
        counted = Unsqueeze(count, axis)
        elapsed = snnc.AlongTime(times, counted)
        due = Mul(counted, elapsed)
        share = Div(due, steps)
        so_far = Floor(share)
        {_times("value", "so_far", "threshold", signed)}
        spikes = snnc.Differences(value)
        """,
    )
    return _leaky(plain, op)


@forms.register(TwoPhaseProbabilistic)
def _two_phase_probabilistic(op: TwoPhaseProbabilistic) -> Gathering:
    signed = op.slope is not None
    fired = f"""
        {_IN_UNITS if op.coding else ""}
        steps = CastLike(timesteps, gathered)
        scale = Div(steps, threshold)
        scaled = Mul({"taken" if op.coding else "gathered"}, scale)
        signed_charge = Add(scaled, potential)
        zero = Constant<value_float = 0.0>()
        {"sign = Sign(signed_charge)" if signed else "sign = Constant<value_float = 1.0>()"}
        charge = Mul(signed_charge, sign)
        one = Constant<value_float = 1.0>()
        last = Neg(one)
        left = Range(steps, zero, last)
        rest, drawn = Scan<num_scan_inputs = 2, body = fire (float[] v, float[] draw, float[] steps_left)
        => (float[] v_next, float[] s) {{
            probability = Div(v, steps_left)
            hit = Less(draw, probability)
            s = CastLike(hit, v)
            v_next = Sub(v, s)
        }}>(charge, draws, left)
        units = Mul(drawn, sign)
    """
    plain = Gathering(
        "TwoPhaseProbabilistic",
        "gathers its whole input, then fires with probability v / (threshold * steps left); v <- v - threshold * s",
        {"threshold": op.threshold, "potential": op.potential},
        f"""{fired}
        first = Constant<value_ints = [0]>()
        count = ReduceSum<keepdims = 0>(units, first)
        {_mean_value(signed)}
        """,
        f"""{fired}
        {_times("spikes", "units", "threshold", signed)}
        """,
        random=True,
    )
    return _leaky(plain, op)


def _leaky(plain: Gathering, op: OrderFreeNeuron) -> Gathering:
    if op.slope is None:
        return plain
    kind = "Coding" if op.coding else "Leaky"
    return dataclasses.replace(plain, name=f"{kind}{plain.name}", constants={**plain.constants, "slope": op.slope})


def _mean_value(signed: bool) -> str:
    return f"""
        worth = Div(threshold, steps)
        {_times("spikes", "count", "worth", signed)}
    """


def _times(result: str, count: str, worth: str, signed: bool) -> str:
    """Write the value of a count; what is below zero weighs the slope."""
    if not signed:
        return f"{result} = Mul({count}, {worth})"
    return f"""
        weighted = PRelu({count}, slope)
        {result} = Mul(weighted, {worth})
    """
