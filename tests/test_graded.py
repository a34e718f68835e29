"""Graded events: neurons that follow the closed form of the input so far (METHODS 2.8, laws 12 to 19)."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.reach import connected
from snnc.errors import UsageError
from snnc.feeds import Feeds
from snnc.figure import Events
from snnc.formats.onnx.spiking import OnnxFormat
from snnc.formats.torch import TorchFormat
from snnc.formats.verification import verify
from snnc.ir import Graph, Input, Node
from snnc.measure.energy import carried, energy
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.base import mean_signal, stretched
from snnc.neurons.graded import Graded
from snnc.neurons.refine import Refine
from snnc.neurons.tracking import Tracking
from snnc.report.sentence import sent
from snnc.run import steps
from snnc.schedule import Schedule
from tests.support import double, exact, in_memory, normal, random_network, run, spiking, uniform
from tests.test_export_spiking_onnx import conversion

SCHEDULES = (Schedule(1), Schedule(1, 3), Schedule(2), Schedule(3, 2), Schedule(5, 4, 2))
# Powers of two: sums and levels are exact, on the grid of levels too.
THETA = torch.tensor([0.5, 1.0, 2.0, 4.0]).view(4, 1).double()


def members() -> Iterator[Tracking]:
    """Yield neurons of all options, with and without a slope, that start at various potentials."""
    slopes = (None, torch.tensor([0.25]).double())
    for slope, potential in itertools.product(slopes, (0.5, 0.0)):
        start = torch.tensor(potential).double()
        for options in (
            {"top": 1},
            {"top": 7},
            {"top": 6, "event": 1},
            {"top": 6, "event": 2},
            {"top": 7, "event": 9},
            {"top": 6, "event": 2, "first": 3},
            {"top": 4, "event": 2, "rest": 2},
            {"top": 5, "event": 3, "first": 6, "rest": 1},
        ):
            yield Graded(THETA, slope, start, **options)
        yield neurons["cif"](THETA, slope, start)  # type: ignore[misc]
    yield Graded(THETA, top=5, event=2, takes_back=False)
    yield neurons["burst"](THETA, max_event=3)  # type: ignore[misc, call-arg]


def refining() -> Iterator[Refine]:
    for slope in (None, torch.tensor([0.25]).double()):
        for options in (
            {"top": 9, "event": 3, "units": (2, 1), "rest": 0},
            {"top": 15, "event": 3, "units": (2, 1), "rest": 6},
            {"top": 15, "event": 3, "units": (2, 1), "rest": 0, "first": 6},
            {"top": 12, "event": 2, "units": (4, 2, 1, 1), "rest": 0},
            {"top": 4, "event": 1, "units": (2, 1, 1, 1), "rest": 2},
        ):
            yield Refine(THETA, slope, **options)


def currents(schedule: Schedule, levels: int, seed: int = 0) -> Tensor:
    """Uneven currents ``[total, N, 4, 6]``, on and off the grid, from far below zero to far above the ceiling."""
    drift = uniform(-1.5, 2.5, 64, 4, 6, seed=seed) * levels / schedule.total
    found = (normal(schedule.total, 64, 4, 6, seed=seed) * 0.5 * levels + drift) * THETA
    return (found.double() * 8).round() / 8


def counts(neuron: Tracking, given: Tensor, schedule: Schedule) -> Tensor:
    """Return the count after every step, from the response."""
    response = neuron.respond(given, schedule)
    found = neuron.fired(response, schedule)
    parts = [found[: schedule.rehearsal], found[schedule.rehearsal :]]
    return torch.cat([part.cumsum(0) for part in parts]) + neuron.rest


def closed(neuron: Tracking, given: Tensor, awake: int) -> Tensor:
    """The closed form of the input so far, in levels."""
    most = neuron.stated_levels or neuron.max_event * awake
    form = torch.floor(given.sum(0) / THETA + neuron.potential)
    return form.clamp(0 if neuron.slope is None else -most, most)


def brute(neuron: Tracking, given: Tensor, timesteps: int) -> Tensor:
    """The tracking law, in units where there are some, by a loop over all steps."""
    count = torch.full_like(given[0], neuron.rest)
    found = []
    for t in range(len(given)):
        unit = neuron.units[min(t, len(neuron.units) - 1)]
        most = neuron.stated_levels or neuron.max_event * min(t + 1, timesteps)
        lowest = 0 if neuron.slope is None else -most
        if unit == 1:
            away = closed(neuron, given[: t + 1], min(t + 1, timesteps)) - count
        else:
            away = torch.floor((given[: t + 1].sum(0) / THETA - count) / unit + 0.5)
        largest = neuron.first_event if t == 0 else neuron.max_event
        away = away.clamp(-neuron.max_event if neuron.takes_back else 0, largest)
        if unit > 1:
            away = away.clamp(-torch.floor((count - lowest) / unit), torch.floor((most - count) / unit))
        count = count + unit * away
        found.append(count)
    return torch.stack(found)


@pytest.mark.parametrize("neuron", [*members(), *refining()], ids=lambda neuron: type(neuron).__name__)
def test_it_follows_the_closed_form_as_the_tracking_law_says(neuron: Tracking) -> None:
    """Laws 12, 13 and 15."""
    for schedule in SCHEDULES:
        given = currents(schedule, neuron.levels(schedule.timesteps), schedule.total)
        found = counts(neuron, given, schedule)
        parts = given[: schedule.rehearsal], given[schedule.rehearsal :]
        wanted = torch.cat([brute(neuron, part, schedule.timesteps) for part in parts if len(part)])
        assert torch.equal(found, wanted)
        most = neuron.levels(schedule.timesteps)
        assert found.max() <= most
        assert found.min() >= (0 if neuron.slope is None else -most)
        response = neuron.respond(given, schedule)
        changes = neuron.fired(response, schedule)
        later = [t for t in range(schedule.total) if t not in (0, schedule.rehearsal)]
        unit = neuron.units[min(1, neuron.coarse_steps)]
        assert changes[later].abs().sum(0).max() > 0 or schedule.total == 1
        assert not later or changes[later].abs().max() <= neuron.max_event * unit
        assert changes[0].max() <= neuron.first_event * neuron.units[0]
        assert changes[0].min() >= -neuron.max_event * neuron.units[0]
        weighed = torch.where(found[-1] > 0, found[-1], found[-1] * (1 if neuron.slope is None else neuron.slope))
        torch.testing.assert_close(response[schedule.rehearsal :].sum(0), weighed * THETA)
        assert torch.equal(neuron.spikes(response, schedule), (changes != 0).double().sum(0))


def test_at_one_step_it_is_the_quantized_rectifier_bit_for_bit() -> None:
    """Law 14: layer and network, signed or not."""
    for top, takes_back, sloped in ((15, True, False), (7, False, False), (255, True, True), (11, True, False)):
        slope = uniform(0.05, 0.4, 6, 1, 1) if sloped else None
        wanted = ops.QuantizedRelu(uniform(0.2, 3, 6, 1, 1, seed=top), top, slope)
        neuron = Graded.standing_for(wanted, Schedule(1), top=top, takes_back=takes_back)
        z = normal(32, 6, 9, 9, seed=top) * 3
        found = neuron.respond(z.unsqueeze(0), Schedule(1))[0]
        assert torch.equal(found, neuron.closed_form(1)(z))
        torch.testing.assert_close(neuron.closed_form(1).ceiling, wanted.ceiling)
    for seed in range(4):
        drawn = random_network(seed, spiking("cif", seed=seed))
        layers = {name: Graded(op.threshold / 15, top=15) for name, op in drawn.ops(Neuron).items()}
        snn, feeds = drawn.with_ops(layers), {"x": normal(1, 8, 3, 8, 8, seed=seed)}
        quantized = snn.with_ops({name: op.closed_form(1) for name, op in layers.items()})
        want = [*layers, *snn.outputs]
        found, formed = run(snn, feeds, want, Schedule(1)), run(quantized, feeds, want)
        assert all(torch.equal(found[name], formed[name]) for name in want)


@pytest.mark.parametrize("sloped", [False, True])
def test_with_events_of_all_levels_the_order_of_what_comes_is_nothing(sloped: bool) -> None:
    """Law 16: no sleep needed; with smaller events, or without a sign, the test notices."""
    slope = torch.tensor([0.25]).double() if sloped else None
    schedule = Schedule(4)
    given = currents(schedule, 6)

    def orders(neuron: Tracking) -> list[Tensor]:
        return [counts(neuron, given[list(order)], schedule)[-1] for order in itertools.permutations(range(4))]

    free = orders(Graded(THETA, slope, top=6, event=6 if slope is None else 12))
    assert all(torch.equal(found, free[0]) for found in free)
    assert torch.equal(free[0], closed(Graded(THETA, slope, top=6), given, 4))
    for bound in ([Graded(THETA, slope, top=6, event=2)], [Graded(THETA, top=6, takes_back=False)][: not sloped]):
        assert all(not all(torch.equal(found, free[0]) for found in orders(neuron)) for neuron in bound)


@pytest.mark.parametrize(("top", "event"), [(6, 6), (6, 4), (6, 2), (7, 3), (3, 1)])
def test_a_network_is_exact_after_so_many_steps_asleep(top: int, event: int) -> None:
    """Law 17: N·(ceil(L/g) − 1) steps for N layers."""
    noticed = False
    for seed in range(3):
        drawn = double(random_network(seed, spiking("cif", seed=seed)))
        timesteps = 2
        layers = {
            name: Graded(op.threshold * timesteps / top, top=top, event=event) for name, op in drawn.ops(Neuron).items()
        }
        snn = drawn.with_ops(layers)
        quantized = snn.with_ops({name: op.closed_form(timesteps) for name, op in layers.items()})
        feeds, want = {"x": normal(1, 4, 3, 8, 8, seed=seed).double() * 2}, [*layers, *snn.outputs]
        enough = len(layers) * (math.ceil(top / event) - 1)
        wanted = run(quantized, feeds, want)
        found = run(snn, feeds, want, Schedule(timesteps, enough))
        for name in want:
            torch.testing.assert_close(found[name], wanted[name])
        early = run(snn, feeds, want, Schedule(timesteps))
        noticed |= any(not torch.allclose(early[name], wanted[name]) for name in want)
    assert noticed == (event < top), "without sleep it is exact, too"


@pytest.mark.parametrize(("top", "event"), [(6, 4), (6, 2), (7, 3), (5, 1)])
def test_so_much_sleep_is_needed_where_all_comes_at_once(top: int, event: int) -> None:
    neuron, needed = Graded(THETA, top=top, event=event), math.ceil(top / event) - 1
    for sleep in (needed, needed - 1):
        given = torch.zeros(1 + sleep, 1, 4, 6).double()
        given[0] = top * THETA
        assert bool((counts(neuron, given, Schedule(1, sleep))[-1] == top).all()) == (sleep == needed)


def test_counts_that_rest_and_first_events_of_twice_the_size_are_equal() -> None:
    """Law 18."""
    for event, top in ((1, 2), (2, 4), (3, 9)):
        for schedule in SCHEDULES:
            given = currents(schedule, top)
            at_rest = counts(Graded(THETA, top=top, event=event, rest=event), given, schedule)
            at_zero = counts(Graded(THETA, top=top, event=event, first=2 * event), given, schedule)
            assert torch.equal(at_rest, at_zero)
    # Single signed spikes are two levels in one step.
    given = currents(Schedule(1), 2)
    once = Graded(THETA, top=2, event=1, rest=1)
    assert torch.equal(counts(once, given, Schedule(1))[-1], closed(once, given, 1))


def test_in_units_of_one_level_the_refining_neuron_is_the_graded_one() -> None:
    """Law 19; and its events are whole units."""
    for options in ({"top": 6, "event": 2, "rest": 0}, {"top": 4, "event": 2, "rest": 2, "first": 4}):
        for schedule in SCHEDULES:
            given = currents(schedule, options["top"])
            responses = [
                kind(THETA, **options, **units).respond(given, schedule)
                for kind, units in ((Graded, {}), (Refine, {"units": (1,)}))
            ]
            assert torch.equal(*responses)
    for neuron in refining():
        given = currents(Schedule(1, 4), neuron.top)
        changes = neuron.fired(neuron.respond(given, Schedule(1, 4)), Schedule(1, 4))
        for t, change in enumerate(changes):
            unit = neuron.units[min(t, neuron.coarse_steps)]
            assert torch.equal(change % unit, torch.zeros_like(change))
            assert (change / unit).abs().max() <= (neuron.first_event if t == 0 else neuron.max_event)


def test_a_guess_that_is_refined_is_better_than_either_alone() -> None:
    z = uniform(0, 1, 4, 4000).double() * 15 * THETA
    given = torch.stack([z, torch.zeros_like(z)])
    exact = Graded(THETA, top=15)
    wanted = exact.respond(z.unsqueeze(0), Schedule(1)).sum(0)

    def error(neuron: CausalNeuron) -> float:
        return float((neuron.respond(given, Schedule(1, 1)).sum(0) - wanted).abs().max() / THETA.max())

    assert error(Refine(THETA)) == 0
    assert error(Refine(THETA, top=9, units=(2, 1), rest=0)) > 0
    assert error(Graded(THETA, top=15, event=3, rest=3)) > 0


@pytest.mark.parametrize("slope", [None, 0.25])
@pytest.mark.parametrize("coding", [False, True])
def test_consistent_integrate_and_fire_is_a_graded_neuron_event_for_event(slope: float | None, coding: bool) -> None:
    if coding and slope is None:
        return
    below = None if slope is None else torch.tensor([slope]).double()
    for schedule in (Schedule(4), Schedule(4, 20), Schedule(1, 3)):
        given = currents(schedule, schedule.timesteps)
        cif = neurons["cif"](THETA, below, coding=coding)
        graded = Graded(THETA, below, coding=coding, top=schedule.timesteps, event=1)
        assert torch.equal(cif.respond(given, schedule), graded.respond(given, schedule))
    # As it was defined: with a cap that grows with the steps awake.
    if not coding:
        membrane, count = (THETA / 2).expand_as(given[0]), torch.zeros_like(given[0])
        for t, x in enumerate(given):
            membrane, most = membrane + x, min(t + 1, schedule.timesteps)
            up = (membrane >= THETA) & (count < most)
            down = (membrane < 0) & (count > (0 if slope is None else -most))
            fired = up.double() - down.double()
            membrane, count = membrane - THETA * fired, count + fired
        assert torch.equal(counts(cif, given, schedule)[-1], count)


@pytest.mark.parametrize("event", [12, 3])
def test_as_a_code_it_has_levels_on_both_sides(event: int) -> None:
    above, below, timesteps, top = torch.tensor(0.7).double(), torch.tensor(1.9).double(), 4, 6
    coding = ops.Coding(above, top, below / above)
    neuron = Graded.standing_for(coding, Schedule(timesteps), top=top, event=event)
    schedule = Schedule(timesteps, 8)
    z = torch.linspace(-2.5, 2.5, 401).double()
    uneven = torch.stack([3 * z, -2 * z, 2 * z, z, *torch.zeros(8, 401).double()]).unsqueeze(1)
    found = mean_signal(neuron.respond(uneven, schedule), schedule)[0, 0]
    off_the_steps = ((top * z / torch.where(z >= 0, above, below)) % 1 - 0.5).abs() > 1e-6
    torch.testing.assert_close(found[off_the_steps], coding(z)[off_the_steps])
    assert found.min() < -1.8 and found.max() > 0.69


def test_other_time_steps_keep_the_ceiling() -> None:
    wanted = ops.QuantizedRelu(uniform(0.3, 2, 4, 1, 1), 15)
    made = Graded.standing_for(wanted, Schedule(1), top=15)
    again = made.retimed(1, 4)
    torch.testing.assert_close(again.closed_form(4).ceiling, wanted.ceiling)
    z = normal(1, 8, 4, 5, 5)
    torch.testing.assert_close(
        mean_signal(again.respond(z, Schedule(4)), Schedule(4)), made.respond(z, Schedule(1)), rtol=1e-3, atol=1e-3
    )
    cif = neurons["cif"](wanted.ceiling)
    assert cif.retimed(1, 4) is cif
    assert dataclasses.replace(made, event=3).levels(8) == 15


# Shares of the image over the steps.

SHARED = (
    Schedule(2, shares=(0.75, 0.25)),
    Schedule(4, 2, shares=(0.5, 0.3, 0.2, 0.0)),
    Schedule(1, 1, 1, shares=(1.0,)),
)


def test_shares_of_the_image_are_what_each_step_carries() -> None:
    schedule = Schedule(2, 1, 1, shares=(0.75, 0.25))
    assert schedule.gains == (1.0, 1.5, 0.5, 0.0)
    assert schedule.elapsed == (1.0, 1.5, 2.0, 2.0)
    assert schedule.over(2) == schedule and schedule.over(3).shares == () and schedule.over(2, 0).sleep == 0
    z = torch.tensor([[2.0]])
    assert stretched(z.unsqueeze(0), schedule).flatten().tolist() == [2.0, 3.0, 1.0, 0.0]
    for shares, words in (
        ((0.5,), "1 share of the image for 2 time steps"),
        ((0.9, 0.2), "add up to 1.1, not 1"),
        ((1.5, -0.5), "below 0"),
        ((0.0, 1.0), "first of 0"),
        ((math.nan, 1.0), "below 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Schedule(2, shares=shares)
    with pytest.raises(UsageError, match="frames"):
        Feeds({"x": torch.zeros(2, 1, 3)}, ["x"]).signals(schedule)


@pytest.mark.parametrize("schedule", SHARED, ids=str)
def test_with_shares_of_the_image_the_laws_hold_as_they_stand(schedule: Schedule) -> None:
    """Whole networks with biases, pools and what is no rectifier: exact for signed events of all levels."""
    for seed in range(4):
        drawn = double(random_network(seed, spiking("cif", seed=seed)))
        layers = {name: Graded(op.threshold * schedule.timesteps / 6, top=6) for name, op in drawn.ops(Neuron).items()}
        snn, x = drawn.with_ops(layers), normal(4, 3, 8, 8, seed=seed).double() * 2
        quantized = snn.with_ops({name: op.closed_form(schedule.timesteps) for name, op in layers.items()})
        want = [*layers, *snn.outputs]
        found = run(snn, {"x": x.unsqueeze(0)}, want, schedule)
        wanted = run(quantized, {"x": x.unsqueeze(0)}, want)
        for name in want:
            torch.testing.assert_close(found[name], wanted[name])
        # One step at a time it fires the same.
        feeds = Feeds({"x": x})
        state = steps.start(snn, feeds)
        total = torch.zeros_like(wanted[snn.outputs[0]][0])
        for t in range(schedule.total):
            state, signals = steps.step(snn, schedule, state, feeds)
            total = total + (signals[snn.outputs[0]] if t >= schedule.rehearsal else 0)
        torch.testing.assert_close(total / schedule.timesteps, wanted[snn.outputs[0]][0])


def test_with_other_shares_single_events_come_nearer() -> None:
    """METHODS 2.8 C: two steps, three levels."""
    z = uniform(0, 1, 1, 4, 4000).double() * 4 * THETA
    neuron = Graded(THETA, top=3, event=1, rest=1)
    wanted = neuron.closed_form(2)(z[0])

    def wrong(schedule: Schedule) -> float:
        return float((mean_signal(neuron.respond(z, schedule), schedule)[0] != wanted).double().mean())

    assert wrong(Schedule(2, shares=(0.75, 0.25))) == 0
    assert wrong(Schedule(2)) > 0.05


@pytest.mark.parametrize("schedule", SHARED, ids=str)
def test_exports_carry_the_shares(schedule: Schedule) -> None:
    snn = random_network(5, spiking("graded"))
    made = conversion(snn, schedule)
    # Of programs that write out each step, a short one of a small network.
    small = conversion(exact(neurons["graded"](torch.tensor([0.7]))), schedule)
    programs = ((TorchFormat(), small),) if schedule.total == 2 else ()
    for chosen, exported in ((OnnxFormat(), made), (OnnxFormat(step=True), made), *programs):
        written = chosen.write(exported)
        graph = exported.snn
        samples = in_memory(graph, normal(4, *graph.shapes[graph.inputs[0]]))
        for engine in chosen.engines(written, exported):
            found = verify(exported, written, engine, samples)
            assert found.mismatch == ""
            assert found.equal == 100
    with pytest.raises(UsageError, match=r"the levels of neurons are those of T=.* @ --timesteps"):
        OnnxFormat(timesteps=(7,)).write(made)
    with pytest.raises(UsageError, match="the shares of the image are those of T="):
        OnnxFormat(timesteps=(7,)).write(conversion(random_network(5, spiking("cif")), schedule))


# What events carry.


def test_an_event_that_carries_units_multiplies_unless_it_shifts() -> None:
    weight = torch.ones(4, 3)
    graph = Graph.of(
        [
            Node("x", Input((3,)), ()),
            Node("s", Graded(torch.tensor(1.0), top=7), ("x",)),
            Node("y", ops.Linear(weight, None), ("s",)),
        ],
        ["y"],
    )
    schedule = Schedule(1)
    response = torch.tensor([[[0.0, 2.0, 5.0], [7.0, 1.0, 3.0]]])
    neuron = graph.op("s")
    assert isinstance(neuron, Graded)
    carry = carried(neuron, response, schedule)
    assert carry is not None and carry.tolist() == [[7, 3, 8], [1, 0, 2]]
    assert (neuron.event_bits(schedule), neuron.event_bits(Schedule(2))) == (3, 4)
    spikes = {"s": neuron.spikes(response, schedule)}
    found = energy(graph, connected(graph), spikes, schedule, payloads={"s": carry})
    # Five events reach four targets each, and three of them carry no power of two.
    assert found.event_multiplications == pytest.approx(3 * 4 * 3.7 * 3 / 32 * 1e-6)
    assert found.accumulations == pytest.approx(5 * 4 * 0.9e-6 + found.event_multiplications)
    assert found.spike_memory == pytest.approx((3 * 5 * 4 + 5 * 3 / 32) * 5e-6)
    assert found.events == Events(levels=7, largest=7, bits=3, signed=False, units=18 / 5)
    told = "7 levels an activation, events of 3 bits (at most 7, 3.600 units each), 1 step from image to answer."
    assert sent(found.events, 1) == told


@pytest.mark.parametrize(
    ("neuron", "schedule", "bits", "signed"),
    [
        (neurons["if"](THETA), Schedule(8), 1, False),
        (neurons["two-phase"](THETA), Schedule(8), 1, False),
        (neurons["cif"](THETA), Schedule(8), 2, True),
        (neurons["cif"](THETA), Schedule(1), 1, False),
        (Graded(THETA, top=15), Schedule(1), 4, False),
        (Graded(THETA, top=15), Schedule(2), 5, True),
        (Graded(THETA, top=15, takes_back=False), Schedule(2), 4, False),
        (Graded(THETA, top=9, event=3, first=6), Schedule(2), 3, True),
        (Graded(THETA, top=2, event=1, rest=1), Schedule(1), 2, True),
        (Refine(THETA), Schedule(1, 1), 3, True),
    ],
)
def test_the_bits_of_an_event_tell_its_words_apart(neuron: Neuron, schedule: Schedule, bits: int, signed: bool) -> None:
    assert neuron.event_bits(schedule) == bits
    assert neuron.negative_over(schedule) == signed


def test_what_an_event_carries_is_in_units_of_its_step() -> None:
    neuron, schedule = Refine(torch.tensor(1.0)), Schedule(1, 1, 1)
    response = torch.tensor([[[10.0]], [[4.0]], [[-1.0]]])
    assert neuron.payloads(response, schedule).flatten().tolist() == [2, -1, -1]


@pytest.mark.parametrize("units", [(1,), (2, 1), (4, 2, 1)])
def test_units_past_the_last_that_is_coarse_make_no_other_neuron(units: tuple[int, ...]) -> None:
    stated, longer = (Refine(torch.ones(1), top=3, event=3, units=each, rest=0) for each in (units, (*units, 1, 1)))
    assert (longer.coarse_steps, longer.exact) == (stated.coarse_steps, stated.exact) == (len(units) - 1, units == (1,))
    for schedule in SCHEDULES:
        x = normal(schedule.total, 3, 4, 5)
        assert torch.equal(longer.respond(x, schedule), stated.respond(x, schedule))
