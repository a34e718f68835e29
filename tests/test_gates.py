"""Intervals hold their level, and gates say no more than they can."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from snnc import intervals
from snnc.errors import DataError, UsageError
from snnc.figure import LayerError
from snnc.measure import gates
from snnc.measure.figures import DROP, RELATIVE_DROP
from snnc.measure.gates import Gate, Limits, judge, merged, stated_limits
from snnc.measure.remarks import not_proven
from snnc.report.sections.gates import gate_table
from tests.support import energy, row

NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)


def coverage(draw: Callable[[random.Random], tuple[intervals.Interval | None, float]], repeats: int = 600) -> float:
    """The share of simulated samples whose interval holds the truth."""
    generator = random.Random(0)
    held = 0
    for _ in range(repeats):
        interval, truth = draw(generator)
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    return held / repeats


def pairs(generator: random.Random, samples: int = 500) -> tuple[int, int, int]:
    """Both right in 90 %, lost in 3 %, won in 1 %."""
    draws = [generator.random() for _ in range(samples)]
    lost, won = sum(d < 0.03 for d in draws), sum(0.03 <= d < 0.04 for d in draws)
    return sum(0.04 <= d < 0.94 for d in draws), lost, won


def relative(generator: random.Random) -> tuple[intervals.Interval, float]:
    both, lost, won = pairs(generator)
    return intervals.relative(both, lost, won, 500), 100 * (1 - 0.91 / 0.93)


def mean(generator: random.Random) -> tuple[intervals.Interval | None, float]:
    values = [generator.expovariate(1.0) for _ in range(300)]
    return intervals.mean(len(values), math.fsum(values), math.fsum(value**2 for value in values)), 1.0


def root_ratio(generator: random.Random) -> tuple[intervals.Interval | None, float]:
    wholes = [generator.uniform(1, 3) for _ in range(200)]
    parts = [whole * generator.uniform(0, 0.5) for whole in wholes]
    return intervals.root_ratio(parts, wholes), 0.5


@pytest.mark.parametrize("draw", [relative, mean, root_ratio])
def test_intervals_hold_the_truth_in_95_of_100(draw: Callable[[random.Random], tuple[intervals.Interval, float]]):
    assert 0.92 <= coverage(draw) <= 0.98


def test_the_largest_of_many_that_are_nothing_seldom_looks_like_something():
    generator = random.Random(0)
    draws = [max(generator.gauss(0, 1) for _ in range(20)) for _ in range(600)]
    own = [(value, (value - intervals.NORMAL_95, value + intervals.NORMAL_95)) for value in draws]
    assert sum(interval[0] > 0 for _, interval in own) > 200
    assert sum(intervals.largest(value, interval, 20)[0] > 0 for value, interval in own) < 30
    assert intervals.largest(1.0, (0.5, 2.0), 1) == pytest.approx((0.5, 2.0), abs=1e-6)


def test_the_relative_interval_agrees_with_the_paired_one_where_nearly_all_is_right():
    paired, relative = intervals.paired(30, 10, 1000), intervals.relative(960, 30, 10, 1000)
    # The trained network has 99 %: percent of that are nearly points.
    assert relative == pytest.approx([end / 0.99 for end in paired], abs=0.05)


def test_one_sample_says_nothing_of_how_much_samples_vary():
    assert intervals.mean(1, 3.0, 9.0) is None
    assert intervals.root_ratio([1.0], [2.0]) is None
    assert intervals.root_ratio([0.0, 0.0], [0.0, 0.0]) is None
    gate = judge("max-spikes", 5, 3, None, samples=1, timesteps=4)
    assert (gate.verdict, gate.samples_needed) == ("not proven", None)
    assert gate.sentence.endswith("not proven, one sample does not say how much samples vary")
    # Nothing is said of the limit, which is not to blame.
    assert not_proven(gate).hint.startswith("evaluate on two samples or more")
    assert "2 or more" in {cell.text for cell in gate_table([gate]).rows[0]}


@given(NUMBERS, NUMBERS, st.floats(0, 100), st.floats(0, 100), st.sampled_from(["max-drop", "min-agreement"]))
def test_a_gate_fails_as_measured_and_is_proven_by_its_interval(
    limit: float, measured: float, below: float, above: float, name: str
):
    low, high = measured - below, measured + above
    gate = judge(name, limit, measured, (low, high), samples=100, timesteps=4)
    slack = 1e-9
    # On the very edge of the slack, the order of additions decides.
    assume(all(abs(abs(end - limit) - slack) > 1e-12 for end in (low, high)))
    wholly_kept = high <= limit + slack if name == "max-drop" else low >= limit - slack
    broken = measured > limit + slack if name == "max-drop" else measured < limit - slack
    assume(abs(abs(measured - limit) - slack) > 1e-12)
    assert gate.verdict == ("failed" if broken else "passed" if wholly_kept else "not proven")
    assert (gate.samples_needed is None) or gate.verdict == "not proven"
    # Who asks for proof gets no other verdict than passed and failed, and the same words.
    proof = judge(name, limit, measured, (low, high), samples=100, timesteps=4, proven=True)
    assert proof.verdict == ("passed" if gate.verdict == "passed" else "failed")
    assert (proof.proven, proof.samples_needed, proof.sentence) == (gate.proven, gate.samples_needed, gate.sentence)


@given(
    st.integers(2, 400),
    st.floats(0, 1),
    st.floats(0.5, 99.9),
    st.sampled_from(["proportion", "paired", "mean"]),
)
def test_as_many_samples_as_it_says_prove_it_and_one_less_does_not(samples: int, share: float, limit: float, kind: str):
    hits = round(share * samples)

    def interval(times: float) -> intervals.Interval:
        if kind == "proportion":
            return intervals.proportion(hits * times, samples * times)
        if kind == "paired":
            return intervals.paired(hits * times, 0, samples * times)
        low, high = 100 * share - 30, 100 * share + 30
        return 100 * share - 30 / times**0.5 if low else low, 100 * share + 30 / times**0.5 if high else high

    measured = 100 * share if kind == "mean" else 100 * hits / samples
    larger = (lambda times: None) if kind == "mean" else interval
    gate = judge("max-drop", limit, measured, interval(1), samples=samples, timesteps=4, larger=larger)
    if gate.verdict != "not proven":
        assert gate.samples_needed is None
    elif gate.samples_needed is not None:
        assert gate.samples_needed > samples

        def proven(number: int) -> bool:
            return max(interval(number / samples)) <= limit + 1e-9

        assert proven(gate.samples_needed)
        assert not proven(gate.samples_needed - 1)


def test_a_value_at_its_limit_is_proven_by_no_number_of_samples_and_one_beside_it_by_none_within_reason():
    for measured in (1.0, 0.999):
        gate = judge("max-drop", 1.0, measured, (0.5, 1.5), samples=100, timesteps=4, unit=" points")
        assert (gate.verdict, gate.samples_needed) == ("not proven", None)
        assert gate.sentence.endswith("not proven, no number of samples within reason would (100 measured)")
    # Whoever has many can have ten times as many.
    assert judge("max-drop", 1.0, 0.5, (0.0, 2.0), samples=200_000, timesteps=4).samples_needed == 1_800_000
    assert judge("max-drop", 1.0, 1.0, (1.0, 1.0), samples=100, timesteps=4).verdict == "passed"


def judged(limits: Limits, **values: object) -> list[Gate]:
    return list(gates.judged([row(accuracy=91.0, **values)], 1000, limits))


def test_every_limit_has_its_gate():
    measured = {
        "drop": 1.0,
        "drop_interval": (0.5, 1.5),
        "relative_drop": 1.1,
        "relative_drop_interval": (0.6, 1.6),
        "agreement": 95.0,
        "agreement_interval": (94.0, 96.0),
        "spikes": 100.0,
        "spikes_interval": (99.0, 101.0),
        "energy": energy(50.0),
        "energy_ratio_interval": (0.49, 0.51),
        "arithmetic_ratio_interval": (0.49, 0.51),
        "driven_by_spikes": 97.0,
        "layers": (LayerError("a", 0.2, (0.19, 0.21)), LayerError("b", 0.4, (0.39, 0.41))),
    }
    kept = Limits(
        max_drop="2%",
        min_agreement=94,
        max_energy_ratio=0.6,
        max_arithmetic_ratio=0.6,
        max_spikes=102,
        max_layer_error=0.3,
        min_spike_driven=97,
    )
    found = {(gate.name, gate.layer): (gate.verdict, gate.measured) for gate in judged(kept, **measured)}
    assert found == {
        ("max-drop", ""): ("passed", 1.1),
        ("min-agreement", ""): ("passed", 95.0),
        ("max-energy-ratio", ""): ("passed", 0.5),
        ("max-arithmetic-ratio", ""): ("passed", 0.5),
        ("max-spikes", ""): ("passed", 100.0),
        ("min-spike-driven", ""): ("passed", 97.0),
        ("max-layer-error", "a"): ("passed", 0.2),
        ("max-layer-error", "b"): ("failed", 0.4),
    }
    broken = Limits(max_drop=0.4, min_agreement=96.5, max_energy_ratio=0.4, max_spikes=98, min_spike_driven=97.1)
    assert [gate.verdict for gate in judged(broken, **measured)] == ["failed"] * 5
    assert [gate.verdict for gate in judged(Limits(max_drop=1.2, min_agreement=94.5), **measured)] == ["not proven"] * 2
    # What was measured beyond a limit fails, whatever the interval.
    assert [gate.verdict for gate in judged(Limits(max_drop=0.9, min_agreement=95.5), **measured)] == ["failed"] * 2
    assert judged(Limits(), **measured) == []
    # What cannot be judged has not passed.
    for limits in (
        Limits(max_drop="50%"),
        Limits(max_drop=50),
        Limits(min_agreement=90),
        Limits(max_layer_error=1),
    ):
        with pytest.raises(DataError, match="cannot be judged"):
            judged(limits)
    with pytest.raises(DataError, match="it needs a task whose answers can be the same"):
        judged(Limits(min_agreement=90))


def test_a_gate_says_its_numbers_so_that_they_can_be_read_again():
    gate = judge("max-drop", 1.0, -0.126, (-1.68, 1.681), samples=200, timesteps=4, unit=" points")
    assert gate.sentence == (
        "max-drop at T=4: measured -0.13 points [-1.68, 1.68], allowed 1 points; "
        "not proven, 516 samples would (200 measured)"
    )


def test_flags_win_over_the_project_one_by_one():
    project = Limits(max_drop=1.0, min_agreement=98.0)
    assert merged(project, stated_limits(max_drop="2%", max_spikes=None)) == Limits(max_drop="2%", min_agreement=98.0)
    named = Limits(timesteps=4, max_drop=1.0)
    assert merged(named, stated_limits(proven=True)) == Limits(timesteps=4, proven=True, max_drop=1.0)
    assert merged(named, stated_limits(timesteps=8)) == Limits(timesteps=8, max_drop=1.0)
    with pytest.raises(UsageError, match="0 time steps to be judged at @ gates") as caught:
        stated_limits(timesteps=0)
    assert caught.value.hint == "give a whole number from 1"
    relative, absolute = Limits(max_drop="2 %"), Limits(max_drop=2)
    assert [limits.on(figure) for limits in (relative, absolute) for figure in (DROP, RELATIVE_DROP)] == [
        None,
        2.0,
        2.0,
        None,
    ]


@pytest.mark.parametrize("value", ["x", "nan", "inf%", "", "%"])
def test_what_is_no_limit_is_refused(value: str):
    with pytest.raises(UsageError, match="is no limit for max-drop"):
        stated_limits(max_drop=value)
