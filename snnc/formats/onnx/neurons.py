"""What every neuron is written as, in the textual language of ONNX: the recurrence at the head of its own file.

Bodies compute what the neuron's torch code computes, operation by operation, so that both round alike.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.consistent import ConsistentIntegrateAndFire
from snnc.neurons.counting import Counting
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.first_spike import FirstSpike
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.neurons.offset_spikes import MARGIN, OffsetSpikes
from snnc.neurons.radix import DIGITS, Radix
from snnc.neurons.refine import Refine
from snnc.neurons.residual_potential import LEAST, ResidualPotential
from snnc.neurons.tracking import Tracking
from snnc.neurons.two_phase import TwoPhase
from snnc.neurons.two_phase_probabilistic import TwoPhaseProbabilistic
from snnc.rules import Rules


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A causal neuron: ``advance`` computes ``spikes`` and ``next_…`` of every state from ``x`` and the states.

    ``starts`` are the states before the first step, under the names of the states. After a rehearsal the states in
    ``learned`` start from what ``rehearsed`` computes, ``again_…``, out of the states and ``start_…``; the others as
    before the first step. What ``counts`` is called it reads: how many steps since the last start have been ``awake``,
    or have ``passed``, this one included.
    """

    name: str
    about: str
    constants: Mapping[str, Tensor]
    starts: Mapping[str, Tensor]
    advance: str
    counts: Literal["awake", "passed"] | None = None
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

# Whole numbers of units that a current is, as snnc.neurons counts them.
_COUNTED = """
        in_grains = Div({arrived}, {grain})
        half_a_grain = Constant<value_float = 0.5>()
        more_grains = Add(in_grains, half_a_grain)
        grains = Floor(more_grains)
        counted_{arrived} = Mul(grains, {grain})
"""
# What a membrane holds no more is cut off.
_HELD = """
        not_below = Max(full, lowest)
        charged = Min(not_below, highest)
"""
_COUNTED_OVER_TIME = """
        grain_steps = CastLike(timesteps, gathered)
        grain_a_step = Div(grain, grain_steps)
"""


def written(op: Neuron) -> Form:
    """Return what a neuron is written as; raises UnansweredError where that is nothing."""
    form = forms(op)
    if op.unit is None:
        return form
    changed: dict[str, Any] = {"name": f"Whole{form.name}", "constants": {**form.constants, "grain": op.unit}}
    if isinstance(form, Recurrence):
        counted = _COUNTED.format(arrived="x", grain="grain")
        advance = counted + re.sub(r"\bx\b", "counted_x", form.advance)
        bounds = op.bounds() if isinstance(op, CausalNeuron) else None
        if bounds is not None:
            changed["name"] = f"Saturating{form.name}"
            changed["constants"] |= {"lowest": bounds[0], "highest": bounds[1]}
            advance = re.sub(r"\bcharged = (.*)\n", rf"full = \1\n{_HELD}", advance)
        return dataclasses.replace(form, advance=advance, **changed)
    counted = _COUNTED_OVER_TIME + _COUNTED.format(arrived="gathered", grain="grain_a_step")
    for body in ("mean", "train"):
        changed[body] = counted + re.sub(r"\bgathered\b", "counted_gathered", getattr(form, body))
    return dataclasses.replace(form, **changed)


forms.refuse(
    CausalNeuron,
    OrderFreeNeuron,
    why="nobody has written this neuron for ONNX",
    hint="convert with another neuron, or register its form beside it: snnc.formats.onnx.neurons.forms",
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


_NAMES: dict[type[Neuron], str] = {ConsistentIntegrateAndFire: "CIF"}

# What the count is behind the input, in levels of the side of zero that the input is on.
_BEHIND_AS_CODE = """
        weighed_before = PRelu(count, slope)
        unstarted = Sub(charged, potential)
        arrived = Add(unstarted, weighed_before)
        nothing = Constant<value_float = 0.0>()
        deeper = Div(arrived, slope)
        positive = Greater(arrived, nothing)
        taken = Where(positive, arrived, deeper)
        shifted = Add(taken, potential)
        behind = Sub(shifted, count)
"""
_IN_COARSE_UNITS = """
        fraction = Mul(unit_less_one, potential)
        lifted = Add(behind, fraction)
        due = Div(lifted, unit)
"""


@forms.register(Tracking)
def _graded(op: Tracking) -> Recurrence:
    return _tracking(op, starting=bool(op.rest or op.first_event > op.max_event))


@forms.register(Refine)
def _refine(op: Refine) -> Recurrence:
    return _tracking(op, starting=True, coarse=True)


def _tracking(op: Tracking, *, starting: bool, coarse: bool = False) -> Recurrence:
    """Write a neuron that follows the closed form; ``starting`` and ``coarse`` ones do not treat all steps alike."""
    capped = op.stated_levels is None
    constants = {
        "scale": op.scale,
        "worth": op.worth,
        "least": torch.tensor(float(-op.max_event if op.takes_back else 0)),
        "largest": torch.tensor(float(op.max_event)),
        **({} if op.stated_levels is None else {"top": torch.tensor(float(op.stated_levels))}),
        **({} if op.slope is None else {"slope": op.slope}),
        **({"potential": op.potential} if op.coding or coarse else {}),
    }
    if starting:
        constants |= {"first": torch.tensor(float(op.first_event)), "rest": torch.tensor(float(op.rest))}
    if coarse:
        constants["units"] = torch.tensor([float(unit) for unit in op.units])
    after = "sent = Identity(change)"
    if op.slope is not None:
        after = """
        weighed_after = PRelu(next_count, slope)
        weighed_now = PRelu(count, slope)
        sent = Sub(weighed_after, weighed_now)
        """
    body = f"""
        drive = Mul(x, scale)
        charged = Add(membrane, drive)
        {"most = Mul(largest, awake)" if capped else "most = Identity(top)"}
        {_BEHIND_AS_CODE if op.coding else "behind = Identity(charged)"}
        {_UNIT_OF_STEP if coarse else ""}
        {_IN_COARSE_UNITS if coarse else "due = Identity(behind)"}
        level = Floor(due)
        {_FIRST_STEP if starting else "bound = Identity(largest)"}
        clipped = Clip(level, least, bound)
        room = Sub(most, count)
        {"held = Identity(count)" if op.slope is None else "held = Add(count, most)"}
        {_WHOLE_UNITS if coarse else "above = Identity(room)"}
        {"" if coarse else "below = Neg(held)"}
        lowered = Min(clipped, above)
        event = Max(lowered, below)
        change = {"Mul(event, unit)" if coarse else "Identity(event)"}
        next_count = Add(count, change)
        {after}
        next_membrane = Sub(charged, {"sent" if op.coding else "change"})
        {"whole = Add(sent, resting)" if starting else "whole = Identity(sent)"}
        spikes = Mul(whole, worth)
    """
    kind = "" if op.slope is None else "Coding" if op.coding else "Leaky"
    own = "FromRest" if starting and not coarse else ""
    name = f"{kind}{_NAMES.get(type(op), type(op).__name__)}{own}"
    return Recurrence(
        name,
        "w <- w + x / threshold; m = clip(floor(w), -g, g), within 0 <= n + m <= L; w <- w - m; n <- n + m",
        constants,
        {"membrane": op.potential - op.rest, "count": torch.tensor(float(op.rest))},
        body,
        counts="awake" if capped else "passed" if starting else None,
    )


_FIRST_STEP = """
        step_one = Constant<value_float = 1.0>()
        no_rest = Constant<value_float = 0.0>()
        is_first = LessOrEqual(passed, step_one)
        bound = Where(is_first, first, largest)
        resting = Where(is_first, rest, no_rest)
"""
_UNIT_OF_STEP = """
        step_index = Cast<to = 7>(passed)
        one_step = Constant<value_int = 1>()
        axis = Constant<value_ints = [0]>()
        number = Shape(units)
        numbers = Squeeze(number, axis)
        at_most = Min(step_index, numbers)
        position = Sub(at_most, one_step)
        unit = Gather<axis = 0>(units, position)
        one_unit = Constant<value_float = 1.0>()
        unit_less_one = Sub(unit, one_unit)
"""
_WHOLE_UNITS = """
        units_above = Div(room, unit)
        above = Floor(units_above)
        units_below = Div(held, unit)
        whole_below = Floor(units_below)
        below = Neg(whole_below)
"""


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


def _sloped(op: CausalNeuron, name: str, about: str, firing: str, constants: Mapping[str, Tensor]) -> Recurrence:
    """Write a neuron that counts its spikes, and has a form of its own where those below zero weigh a slope."""
    starts = {"membrane": _start(op), "count": torch.zeros(())}
    if op.slope is None:
        return Recurrence(name, about, constants, starts, f"{firing}{_COUNTED_WITHOUT_SLOPE}")
    constants = {**constants, "slope": op.slope}
    if op.coding:
        about = f"as {name}, but of both signs, and each spike from halfway to the next level"
        return Recurrence(f"Coding{name}", about, constants, starts, f"{firing}{_COUNTED_AS_CODE}")
    return Recurrence(f"Leaky{name}", about, constants, starts, f"{firing}{_COUNTED_WITH_SLOPE}")


# What is below zero, as many levels away as what is above.
_IN_UNITS = """
        deeper = Div(gathered, slope)
        nothing = Constant<value_float = 0.0>()
        positive = Greater(gathered, nothing)
        taken = Where(positive, gathered, deeper)
"""


@forms.register(TwoPhase)
def _two_phase(op: TwoPhase) -> Gathering:
    told = """
        due = Mul(counted, elapsed)
        share = Div(due, steps)
        told = Floor(share)
    """
    about = "clip(floor(T * mean / threshold + potential), 0, T) spikes, spread evenly"
    return _counting(op, "TwoPhase", about, "levels = Identity(steps)", told)


@forms.register(Radix)
def _radix(op: Radix) -> Gathering:
    levels = f"""
        most = Constant<value_float = {float(DIGITS)}>()
        digits = Min(steps, most)
        two = Constant<value_float = 2.0>()
        words = Pow(two, digits)
        single = Constant<value_float = 1.0>()
        levels = Sub(words, single)
    """
    told = """
        left = Sub(steps, elapsed)
        behind = Min(left, most)
        weight = Pow(two, behind)
        whole = Div(counted, weight)
        size = Abs(whole)
        rounded = Floor(size)
        sign = Sign(counted)
        signed = Mul(sign, rounded)
        told = Mul(signed, weight)
    """
    about = "the digits of clip(floor(T * mean / threshold + potential), 0, 2^min(T, 16) - 1), largest first"
    return _counting(op, "Radix", about, levels, told)


@forms.register(FirstSpike)
def _first_spike(op: FirstSpike) -> Gathering:
    told = """
        size = Abs(counted)
        reached = Add(size, elapsed)
        late = Greater(reached, steps)
        nothing_told = Constant<value_float = 0.0>()
        told = Where(late, counted, nothing_told)
    """
    about = "one spike at step T - n + 1 for a count n = clip(floor(T * mean / threshold + potential), 0, T)"
    return _counting(op, "FirstSpike", about, "levels = Identity(steps)", told)


def _counting(op: Counting, name: str, about: str, levels: str, told: str) -> Gathering:
    """Write a neuron that gathers a count, and sends it in a code: ``told`` is what is known of it after each step."""
    signed = op.slope is not None
    count = f"""
        {_IN_UNITS if op.coding else ""}
        steps = CastLike(timesteps, gathered)
        {levels}
        levels_a_step = Div(levels, steps)
        ceiling = Mul(threshold, levels_a_step)
        scale = Div(levels, ceiling)
        scaled = Mul({"taken" if op.coding else "gathered"}, scale)
        charge = Add(scaled, potential)
        level = Floor(charge)
        lowest = {"Neg(levels)" if signed else "Constant<value_float = 0.0>()"}
        count = Clip(level, lowest, levels)
    """
    plain = Gathering(
        name,
        f"gathers its whole input, then sends {about}",
        {"threshold": op.threshold, "potential": op.potential},
        f"{count}{_mean_value(signed)}",
        f"""{count}
        one = Constant<value_int = 1>()
        end = Add(timesteps, one)
        times = Range(one, end, one)
        axis = Constant<value_ints = [0]>()
        counted = Unsqueeze(count, axis)
        elapsed = snnc.AlongTime(times, counted)
        {told}
        {_times("value", "told", "threshold", signed)}
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
