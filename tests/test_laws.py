"""The laws of spiking neurons and of their execution, over every registered member."""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.ir import Op
from snnc.laws import neurons as neuron_laws
from snnc.laws import operations as operation_laws
from snnc.laws.neurons import TIMESTEPS, off_grid
from snnc.laws.operations import cumulative
from snnc.laws.passes import it_keeps_its_promises
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.burst import Burst
from snnc.neurons.consistent import ConsistentIntegrateAndFire
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.neurons.offset_spikes import OffsetSpikes
from snnc.neurons.residual_potential import ResidualPotential
from snnc.neurons.two_phase_probabilistic import TwoPhaseProbabilistic
from snnc.schedule import Schedule
from tests.support import double, naming, neuron_instances, normal, operations, random_network, run, spiking, uniform

CAUSAL = [name for name, kind in neurons.items() if issubclass(kind, CausalNeuron)]
ORDER_FREE = [name for name, kind in neurons.items() if issubclass(kind, OrderFreeNeuron)]
# Neurons whose count is not the quantized ReLU of a constant input, with the reason.
NO_CLOSED_FORM = {
    "two-phase-probabilistic": "it rounds at random; what is certain is tested below",
    "burst": "beyond its threshold it fires more than once a step; its own closed form is tested below",
    "graded": "it has levels of its own; its closed form is tested in test_graded",
    "refine": "it has levels of its own, and units; what is certain is tested in test_graded",
    "radix": "its levels are not its steps; its closed form is tested in test_two_phase_codes",
    "if-zero": "what a spike leaves above the threshold is lost; what is certain is tested below",
}


def test_registry_is_filled() -> None:
    assert CAUSAL
    assert ORDER_FREE
    known = {"burst", "cif", "cos", "dual-threshold", "graded", "if", "if-zero", "refine", "srp", "two-phase"}
    assert known | {"first-spike", "radix", "two-phase-probabilistic"} <= set(neurons)
    assert set(NO_CLOSED_FORM) <= set(neurons)
    assert any(kind.random for kind in neurons.values())


def closed_form(z: Tensor, threshold: Tensor, timesteps: int) -> Tensor:
    """The spike count that METHODS writes T·φ_T(z)/θ."""
    return torch.floor(timesteps * z / threshold + 0.5).clamp(0, timesteps)


# Every law, over every member.


@pytest.mark.parametrize("name", neuron_instances())
def test_a_neuron_keeps_the_law(name: str) -> None:
    for law in neuron_laws.LAWS:
        with naming(law.__name__):
            law(neuron_instances()[name])


@pytest.mark.parametrize("name", operations())
def test_an_operation_keeps_the_law(name: str) -> None:
    for law in operation_laws.LAWS:
        with naming(law.__name__):
            law(*operations()[name])


@pytest.mark.parametrize("name", [name for name, (op, _) in operations().items() if isinstance(op, ops.Pointwise)])
def test_functions_are_finite_far_beyond_their_domains(name: str) -> None:
    op, shapes = operations()[name]
    for factor in (90.0, 1e4):
        assert op(*(normal(2, *shape, seed=seed) * factor for seed, shape in enumerate(shapes))).isfinite().all()


@pytest.mark.parametrize("kind", sorted({type(op) for op, _ in operations().values()}, key=lambda kind: kind.__name__))
def test_what_is_not_linear_does_not_commute_with_the_mean(kind: type[Op]) -> None:
    cases = [case for case in operations().values() if type(case[0]) is kind]
    assert kind.linear == all(operation_laws.commutes(*case) for case in cases), "the flag `linear` is wrong"


@pytest.mark.parametrize("name", neurons)
def test_a_neuron_states_exactly_the_ceiling_that_it_was_made_for(name: str) -> None:
    wanted = ops.QuantizedRelu(uniform(0.3, 2, 4, 1, 1), 7)
    found = neurons[name].standing_for(wanted, Schedule(7)).closed_form(7)
    if found.levels % 7 == 0:
        assert torch.equal(found.ceiling, wanted.ceiling)
    # A level of other numbers of levels is a quotient that is rounded.
    torch.testing.assert_close(found.ceiling, wanted.ceiling, rtol=2e-7, atol=0)


def test_every_law_says_what_holds() -> None:
    for law in (*neuron_laws.LAWS, *operation_laws.LAWS, it_keeps_its_promises):
        assert (law.__doc__ or "").split("\n")[0].endswith("."), law


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("name", sorted(set(neurons) - set(NO_CLOSED_FORM)))
def test_constant_input_gives_the_closed_form(name: str, per: str, timesteps: int) -> None:
    threshold = uniform(0.2, 3.0, *((1,) if per == "layer" else (6, 1, 1)), seed=timesteps).double()
    z = uniform(-1.0, 4.0, 32, 6, 5, 5, seed=timesteps + 100).double()
    assert (z < 0).any()
    assert ((z > 0) & (z < threshold)).any()
    assert (z > threshold).any()
    train = neurons[name](threshold).respond(z.unsqueeze(0), Schedule(timesteps))
    assert train.shape == (timesteps, *z.shape)
    count = train.sum(0) / threshold
    clear = off_grid(z, threshold, timesteps)
    assert clear.float().mean() > 0.999
    torch.testing.assert_close(count[clear], closed_form(z, threshold, timesteps)[clear])


@pytest.mark.parametrize("name", ORDER_FREE)
def test_order_of_the_input_does_not_matter_to_order_free_neurons(name: str) -> None:
    timesteps = 8
    # Sums of these are exact, in any order.
    currents = (normal(timesteps, 16, 6, 5, 5).double() * 8).round() / 8
    threshold = uniform(0.5, 3.0, 6, 1, 1).double()
    neuron = neurons[name](threshold)
    wanted = closed_form(currents.mean(0), threshold, timesteps)
    noticed = False
    for seed in range(4):
        order = torch.rand(currents.shape, generator=torch.Generator().manual_seed(seed)).argsort(0)
        shuffled = currents.gather(0, order)
        train = neuron.respond(shuffled, Schedule(timesteps))
        assert torch.equal(train, neuron.respond(currents, Schedule(timesteps)))
        if name not in NO_CLOSED_FORM:
            clear = off_grid(currents.mean(0), threshold, timesteps)
            torch.testing.assert_close((train.sum(0) / threshold)[clear], wanted[clear])
        fired = IntegrateAndFire(threshold).respond(shuffled, Schedule(timesteps)).sum(0) / threshold
        noticed |= bool((fired.round() != wanted).any())
    assert noticed, "a neuron that does depend on the order passes this test"


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("sloped", [False, True])
def test_quantized_relu_is_what_the_two_phase_neuron_answers(timesteps: int, sloped: bool) -> None:
    z, threshold = normal(64, 6, 5, 5) * 2, uniform(0.2, 2.0, 6, 1, 1)
    slope = uniform(0.01, 0.5, 6, 1, 1) if sloped else None
    quantized = ops.QuantizedRelu(threshold, timesteps, slope)(z)
    train = neurons["two-phase"](threshold, slope).respond(z.unsqueeze(0), Schedule(timesteps))
    torch.testing.assert_close(train.mean(0), quantized)


def test_integrate_and_fire_conserves_charge() -> None:
    currents, threshold = trains(12, seed=5)
    neuron = IntegrateAndFire(threshold)
    state = neuron.initial(currents[0])
    emitted = torch.zeros_like(currents[0])
    for t, x in enumerate(currents, 1):
        state, value = neuron.step(state, x)
        emitted = emitted + value
        torch.testing.assert_close(state.membrane + emitted, currents[:t].sum(0) + threshold / 2)
    assert (state.membrane < 0).any()


# The neuron that is reset to zero.


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_a_hard_reset_fires_whenever_a_whole_threshold_has_gathered(timesteps: int) -> None:
    threshold, firing = uniform(0.3, 2, 6, 1).double(), uniform(0.4, 1.5, 6, 1, seed=1).double()
    z = uniform(-1, 4, 32, 6, 5, seed=2).double()
    train = IntegrateAndFireToZero(threshold, firing=firing).respond(z.unsqueeze(0), Schedule(timesteps))
    # A constant current needs so many steps, every time anew.
    steps = torch.where(z > 0, (firing * threshold / z).ceil(), torch.inf)
    torch.testing.assert_close(train.sum(0) / threshold, torch.floor(timesteps / steps))


def test_a_hard_reset_forgets_and_a_soft_one_does_not() -> None:
    currents = torch.tensor([1.5, 0.5, 0.25, 0.75]).reshape(4, 1, 1)
    one = torch.tensor(1.0)
    hard = IntegrateAndFireToZero(one).respond(currents, Schedule(4)).flatten()
    soft = IntegrateAndFire(one, potential=torch.tensor(0.0)).respond(currents, Schedule(4)).flatten()
    assert hard.tolist() == [1, 0, 0, 1]
    assert soft.tolist() == [1, 1, 0, 1]


# The dual-threshold neuron.


def trains(timesteps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uneven currents, first with more and then with less than their mean, and thresholds."""
    threshold = uniform(0.5, 2.0, 6, 1, 1, seed=seed).double()
    drift = torch.linspace(1.0, -0.9, timesteps).double().view(-1, 1, 1, 1, 1)
    return normal(timesteps, 16, 6, 5, 5, seed=seed).double() * 0.5 + drift, threshold


@pytest.mark.parametrize("negative", [1e-3, 0.3, 1.0])
def test_dual_threshold_conserves_charge_and_counts_above_zero(negative: float) -> None:
    currents, threshold = trains(12, seed=3)
    neuron = DualThreshold(threshold, negative_threshold=negative)
    state = neuron.initial(currents[0])
    total = torch.zeros_like(currents[0])
    for x in currents:
        state, value = neuron.step(state, x)
        total = total + x
        assert (state.spikes >= 0).all()
        assert (value / threshold).abs().max() <= 1
        torch.testing.assert_close(state.membrane + threshold * state.spikes, total + threshold / 2)


def test_dual_threshold_takes_back_what_fired_too_often() -> None:
    timesteps, rest = 12, 24
    currents, threshold = trains(timesteps, seed=4)
    padded = torch.cat([currents, torch.zeros(rest, *currents.shape[1:]).double()])
    total = currents.sum(0)
    wanted = torch.floor(total / threshold + 0.5).clamp(min=0)
    # Within θ_neg of a grid point either answer is right.
    level = total / threshold + 0.5
    clear = (level - level.round()).abs() > 2e-3
    dual = DualThreshold(threshold).respond(padded, Schedule(timesteps + rest)).sum(0) / threshold
    torch.testing.assert_close(dual[clear], wanted[clear])
    plain = IntegrateAndFire(threshold).respond(padded, Schedule(timesteps + rest)).sum(0) / threshold
    assert (plain[clear].round() > wanted[clear]).float().mean() > 0.05, "these trains do not fire too often"


@pytest.mark.parametrize("timesteps", [1, 5, 16])
def test_dual_threshold_with_a_slope_follows_negative_input(timesteps: int) -> None:
    threshold, slope = uniform(0.5, 2.0, 6, 1, 1).double(), uniform(0.01, 0.5, 6, 1, 1).double()
    z = -threshold * uniform(0.0, 1.0, 16, 6, 5, 5).double()
    value = DualThreshold(threshold, slope).respond(z.unsqueeze(0), Schedule(timesteps)).sum(0)
    assert ((value - slope * z * timesteps).abs() <= 0.502 * slope * threshold).all()
    assert (value < 0).any()


@pytest.mark.parametrize("name", CAUSAL)
def test_cumulative_output_is_the_value_of_the_count(name: str) -> None:
    if not neurons[name].signed:
        pytest.skip("its value is its count times the threshold, tested above")
    threshold, slope = uniform(0.5, 2.0, 6, 1, 1).double(), uniform(0.01, 0.5, 6, 1, 1).double()
    neuron = neurons[name](threshold, slope)
    assert isinstance(neuron, CausalNeuron)
    currents = normal(20, 8, 6, 5, 5).double()
    state = neuron.initial(currents[0])
    total = torch.zeros_like(currents[0])
    for x in currents:
        state, value = neuron.step(state, x)
        total = total + value
        torch.testing.assert_close(total, neuron.value(state.spikes))
    assert (state.spikes < 0).any()
    assert (state.spikes > 0).any()


# The consistent neuron.


class Counted(NamedTuple):
    membrane: Tensor
    spikes: Tensor
    awake: int


@dataclass(frozen=True, eq=False)
class Careless(CausalNeuron):
    """Consistent integrate and fire that may do without the cap n < t, or without the negative spike."""

    cap: bool = True
    undo: bool = True

    def initial(self, x: Tensor) -> Counted:
        return Counted(self.start(x), torch.zeros_like(x), 0)

    def advance(self, state: Counted, x: Tensor, awake: bool, value: Tensor) -> Counted:
        membrane, count = state.membrane + x, state.awake + awake
        most = count if self.cap else math.inf
        least = 0 if self.slope is None else -most
        up = (membrane >= self.threshold) & (state.spikes < most)
        down = (membrane < 0) & (state.spikes > (least if self.undo else math.inf))
        fired = up.double() - down.double()
        spikes = state.spikes + fired
        value.copy_(self.value(spikes) - self.value(state.spikes))
        return Counted(membrane - fired * self.threshold, spikes, count)


CONSISTENT = {
    "cif": (ConsistentIntegrateAndFire, {}),
    "as defined": (Careless, {}),
    "without the cap": (Careless, {"cap": False}),
    "without the negative spike": (Careless, {"undo": False}),
}


def agrees_in_any_order(neuron: CausalNeuron, timesteps: int) -> bool:
    """Whether it settles on its closed form, whatever the order of its currents, some of which arrive in its sleep."""
    # All numbers are multiples of powers of two: sums and levels are exact, on the grid of levels too.
    shape = (32, 6, 5, 5)
    drift = uniform(-1.5, 2.0, *shape, seed=timesteps) * timesteps
    currents = torch.cat([normal(2 * timesteps - 1, *shape, seed=timesteps), drift.unsqueeze(0)])
    currents = (currents.double() * 8).round() / 8
    form = neuron.closed_form(timesteps)
    mean = currents.sum(0) / timesteps
    wanted = form(mean)
    grid = (mean * timesteps / neuron.threshold + neuron.potential) % 1 == 0
    assert (grid & (mean > 0) & (mean < neuron.threshold)).any() or timesteps == 1
    assert (mean < 0).any()
    assert (mean > 2 * neuron.threshold).any()
    rest = torch.zeros(4 * timesteps + 1, *shape).double()
    for seed in range(4):
        order = torch.rand(currents.shape, generator=torch.Generator().manual_seed(seed)).argsort(0)
        train = neuron.respond(torch.cat([currents.gather(0, order), rest]), Schedule(timesteps, 5 * timesteps + 1))
        if train[-1].any() or not torch.equal(train.sum(0) / timesteps, wanted):
            return False
    return True


# Any two of these together.
@pytest.mark.parametrize(
    ("potential", "per", "sloped"),
    [(0.5, "layer", False), (0.5, "channel", True), (0.0, "layer", True), (0.0, "channel", False)],
)
@pytest.mark.parametrize("timesteps", [1, 4, 16])
@pytest.mark.parametrize("name", CONSISTENT)
def test_asleep_a_consistent_neuron_becomes_the_quantized_relu(
    name: str, timesteps: int, potential: float, per: str, sloped: bool
) -> None:
    kind, options = CONSISTENT[name]
    threshold = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.5, 2.0]).view(6, 1, 1) if per == "channel" else torch.tensor([1.0])
    slope = torch.tensor([0.25]).double() if sloped else None
    neuron = kind(threshold.double(), slope, torch.tensor(potential).double(), **options)
    assert agrees_in_any_order(neuron, timesteps) == (not options)


def differing_counts(name: str, potential: float, sloped: bool, seed: int) -> int:
    """How many neurons of a random network count otherwise than in the quantized network, layer for layer."""
    kind, options = CONSISTENT[name]
    timesteps, sleep = 4, 96
    drawn = double(random_network(seed, spiking("cif", seed=seed)))
    slope = torch.tensor([0.25]).double() if sloped else None
    start = torch.tensor(potential).double()
    snn = drawn.with_ops({n: kind(op.threshold, slope, start, **options) for n, op in drawn.ops(Neuron).items()})
    layers = snn.ops(Neuron)
    quantized = snn.with_ops({n: op.closed_form(timesteps) for n, op in layers.items()})
    feeds = {"x": normal(1, 4, 3, 8, 8, seed=seed).double() * 2}
    late = dict.fromkeys(layers, False)

    def observe(layer: str, train: Tensor) -> None:
        assert not train[-1].any() or options, f"{layer} needs more sleep"
        late[layer] = bool(train[timesteps:].any())

    want = [*layers, *snn.outputs]
    found = run(snn, feeds, want, Schedule(timesteps, sleep), observe=observe)
    wanted = run(quantized, feeds, want)
    assert sum(bool(wanted[layer].any()) for layer in layers) > len(layers) // 2
    assert any(late.values()), "it needs no sleep"
    if not options:
        torch.testing.assert_close(found[snn.outputs[0]], wanted[snn.outputs[0]])
    unit = {layer: op.threshold / timesteps * 1e-6 for layer, op in layers.items()}
    return sum(int(((found[layer] - wanted[layer]).abs() > unit[layer]).sum()) for layer in layers)


@pytest.mark.parametrize("sloped", [False, True])
@pytest.mark.parametrize("potential", [0.5, 0.0])
@pytest.mark.parametrize("name", CONSISTENT)
def test_asleep_a_network_of_consistent_neurons_becomes_the_quantized_network(
    name: str, potential: float, sloped: bool
) -> None:
    differing = sum(differing_counts(name, potential, sloped, seed) for seed in range(8))
    if CONSISTENT[name][1]:
        assert differing > 0, "a neuron that is not consistent passes this test"
    else:
        assert differing == 0


# The two-phase probabilistic neuron.

RANDOM = [name for name, neuron in neuron_instances().items() if type(neuron).random]


def currents_of(charge: Tensor, timesteps: int, seed: int = 0) -> Tensor:
    """Uneven currents that add up to the charge exactly."""
    currents = (normal(timesteps, *charge.shape, seed=seed).double() * 4).round()
    currents[-1] += charge - currents.sum(0)
    assert torch.equal(currents.sum(0), charge)
    return currents


@pytest.mark.parametrize("timesteps", [1, 4, 16])
@pytest.mark.parametrize("sloped", [False, True])
def test_a_whole_charge_fires_exactly_so_many_spikes(sloped: bool, timesteps: int) -> None:
    threshold = torch.tensor([0.5, 1.0, 2.0, 4.0]).view(4, 1, 1).double()
    neuron = TwoPhaseProbabilistic(threshold, torch.tensor([0.25]).double() if sloped else None)
    draw = torch.Generator().manual_seed(timesteps)
    whole = torch.randint(-timesteps - 3, timesteps + 4, (64, 4, 6, 6), generator=draw).double()
    least = -timesteps if sloped else 0
    wanted = neuron.value(whole.clamp(least, timesteps))
    for seed in range(4):
        train = neuron.respond(currents_of(whole * threshold, timesteps, seed), Schedule(timesteps), draw)
        assert torch.equal(train.sum(0), wanted)
        spikes = neuron.spikes(train, Schedule(timesteps))
        assert torch.equal(spikes, whole.clamp(least, timesteps).abs())
        # All of one sign.
        assert torch.equal(train.abs().sum(0), train.sum(0).abs())


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_any_other_charge_fires_a_spike_more_or_less(timesteps: int) -> None:
    charge = uniform(-2.0, timesteps + 2.0, 4000).double()
    neuron = TwoPhaseProbabilistic(torch.tensor([1.0]).double())
    count = neuron.respond((charge / timesteps).unsqueeze(0), Schedule(timesteps)).sum(0)
    low, high = charge.floor().clamp(0, timesteps), charge.ceil().clamp(0, timesteps)
    assert ((count == low) | (count == high)).all()
    inside = low < high
    assert 0.2 < (count == low)[inside].double().mean() < 0.8


# Five standard deviations of a share: of the hundred or so shares below, one in ten thousand sets of draws has one
# beyond, and the draws are always the same.
def deviations(share: float, samples: int) -> float:
    return 5 * math.sqrt(share * (1 - share) / samples)


@pytest.mark.parametrize("name", RANDOM)
def test_the_mean_train_is_flat(name: str) -> None:
    timesteps, samples = 8, 20_000
    kind = type(neuron_instances()[name])
    neuron = kind(torch.tensor([1.0]).double())
    counts = torch.arange(timesteps + 1).double()
    train = neuron.respond((counts / timesteps).expand(1, samples, -1), Schedule(timesteps))
    for count in range(timesteps + 1):
        share = count / timesteps
        shares = train[:, :, count].mean(1)
        assert ((shares - share).abs() <= deviations(share, samples)).all(), (count, shares)


@pytest.mark.parametrize("count", range(5))
def test_every_order_of_the_spikes_is_as_likely(count: int) -> None:
    timesteps, samples = 4, 40_000
    neuron = TwoPhaseProbabilistic(torch.tensor([1.0]).double())
    train = neuron.respond(torch.full((1, samples), count / timesteps).double(), Schedule(timesteps))
    share = 1 / math.comb(timesteps, count)
    for places in itertools.combinations(range(timesteps), count):
        order = torch.zeros(timesteps, 1).double()
        order[list(places)] = 1
        found = float((train == order).all(0).double().mean())
        assert abs(found - share) <= deviations(share, samples), (places, found)


# Neurons that rehearse.


class Rehearsal(NamedTuple):
    """Integrate and fire over some steps, by hand: its potential after them, before firing at each, and its spikes."""

    membrane: Tensor
    before: Tensor
    fired: Tensor


def integrate(currents: Tensor, start: Tensor, threshold: Tensor) -> Rehearsal:
    membrane = start.expand_as(currents[0])
    before, fired = [], []
    for x in currents:
        membrane = membrane + x
        before.append(membrane)
        fired.append(membrane >= threshold)
        membrane = torch.where(fired[-1], membrane - threshold, membrane)
    return Rehearsal(membrane, torch.stack(before), torch.stack(fired))


@pytest.mark.parametrize("kind", [ResidualPotential, OffsetSpikes, Burst], ids=lambda kind: kind.__name__)
def test_without_rehearsal_or_bursts_neurons_integrate_and_fire(kind: type[CausalNeuron]) -> None:
    currents, threshold = trains(12, seed=6)
    neuron = Burst(threshold, max_event=1) if kind is Burst else kind(threshold)
    plain = IntegrateAndFire(threshold)
    constant = uniform(-1.0, 3.0, 1, 16, 6, 5, 5).double()
    asleep = ((currents, Schedule(8, 4)), (constant, Schedule(7, 3))) if kind is not Burst else ()
    for given, schedule in ((currents, Schedule(12)), *asleep):
        assert torch.equal(neuron.respond(given, schedule), plain.respond(given, schedule))


def test_srp_silences_neurons_that_a_rehearsal_leaves_without_charge() -> None:
    currents, threshold = trains(12, seed=7)
    schedule = Schedule(6, 2, 4)
    first = integrate(currents[:4], threshold / 2, threshold)
    second = integrate(currents[4:], threshold / 2, threshold)
    allowed = first.membrane > 1e-3 * threshold
    train = ResidualPotential(threshold).respond(currents, schedule)
    assert torch.equal(train[:4], first.fired * threshold)
    assert torch.equal(train[4:], second.fired * allowed * threshold)
    silenced = second.fired.any(0) & ~allowed
    assert silenced.float().mean() > 0.01, "nobody is silenced"
    assert (train[4:].any(0) & allowed).any()


def test_cos_starts_again_from_a_shifted_potential() -> None:
    currents, threshold = trains(12, seed=8)
    # Samples that fire at every step, or at none; much at first and little then, and the other way round.
    currents[:4, 0] += 3
    currents[:4, 1] -= 3
    currents[4:, 1] += 3
    currents[:4, 2] += torch.tensor([6.0, -1, -2, -3]).view(-1, 1, 1, 1)
    currents[:4, 3] += torch.tensor([-3.0, -1, 3, 6]).view(-1, 1, 1, 1)
    schedule = Schedule(6, 2, 4)
    start = threshold / 2
    first = integrate(currents[:4], start, threshold)
    lowest = torch.where(first.fired, first.before, math.inf).amin(0)
    highest = torch.where(first.fired, -math.inf, first.before).amax(0)
    often = (first.membrane < 0) & first.fired.any(0)
    seldom = (first.membrane >= threshold) & ~first.fired.all(0)
    assert often.any()
    assert seldom.any()
    assert (first.fired.all(0) & (first.membrane >= threshold)).any(), "none fires at every step"
    assert ((first.membrane < 0) & ~first.fired.any(0)).any(), "none is far below zero and never fired"
    assert (lowest > 2 * threshold)[often].any()
    assert (highest < 0)[seldom].any()
    shifted = start.expand_as(first.membrane).clone()
    shifted[often] -= torch.maximum(threshold, lowest - 0.999 * threshold)[often]
    shifted[seldom] += torch.maximum(threshold, 1.001 * threshold - highest)[seldom]
    second = integrate(currents[4:], shifted, threshold)
    neuron = OffsetSpikes(threshold)
    state = neuron.initial(currents[0])
    for x in currents[:4]:
        state, _ = neuron.step(state, x)
    torch.testing.assert_close(neuron.rehearsed(state, currents[0]).membrane, shifted)
    train = neuron.respond(currents, schedule)
    torch.testing.assert_close(train, torch.cat([first.fired, second.fired]) * threshold)


@pytest.mark.parametrize("same_order", [True, False])
def test_cos_mends_the_count_of_who_fires_once_too_often_or_too_seldom(same_order: bool) -> None:
    """Rehearsed on a train like that which comes, in the same order or another."""
    timesteps = 8
    threshold = uniform(0.5, 2.0, 6, 1, 1).double()
    currents = threshold * (uniform(-0.4, 1.2, 256, 6, 5, 5).double() + normal(timesteps, 256, 6, 5, 5).double())
    order = torch.rand(currents.shape, generator=torch.Generator().manual_seed(1)).argsort(0)
    again = currents if same_order else currents.gather(0, order)
    wanted = closed_form(currents.mean(0), threshold, timesteps)

    def off(neuron: CausalNeuron, given: Tensor, schedule: Schedule) -> Tensor:
        train = neuron.respond(given, schedule)[schedule.rehearsal :]
        return ((train.sum(0) / threshold).round() - wanted).abs()

    rehearsed = off(IntegrateAndFire(threshold), currents, Schedule(timesteps))
    plain = off(IntegrateAndFire(threshold), again, Schedule(timesteps))
    shifted = off(OffsetSpikes(threshold), torch.cat([currents, again]), Schedule(timesteps, 0, timesteps))
    once = rehearsed == 1
    assert once.float().mean() > 0.1
    right, before = ((error[once] == 0).double().mean() for error in (shifted, plain))
    if same_order:
        assert before == 0
        assert right > 0.7
    # Of ten thousand neurons: chance is a matter of one hundredth at most.
    assert once.sum() > 10_000
    assert right > before + 0.01
    assert shifted.mean() < plain.mean()


# The burst neuron.


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("burst", [1, 2, 5])
@pytest.mark.parametrize("per", ["layer", "channel"])
def test_a_burst_answers_beyond_its_threshold(per: str, burst: int, timesteps: int) -> None:
    threshold = uniform(0.2, 1.0, *((1,) if per == "layer" else (6, 1, 1)), seed=timesteps).double()
    z = uniform(-1.0, 6.0, 32, 6, 5, 5, seed=timesteps + 100).double()
    assert ((z > threshold) & (z < burst * threshold)).any() or burst == 1
    assert (z > burst * threshold).any()
    neuron, schedule = Burst(threshold, max_event=burst), Schedule(timesteps)
    train = neuron.respond(z.unsqueeze(0), schedule)
    wanted = torch.floor(timesteps * z / threshold + 0.5).clamp(0, burst * timesteps)
    clear = off_grid(z, threshold, timesteps)
    torch.testing.assert_close((train.sum(0) / threshold)[clear], wanted[clear])
    # A burst is one event, and its levels are told apart.
    assert torch.equal(neuron.fired(train, schedule).sum(0)[clear], wanted[clear])
    assert torch.equal(neuron.spikes(train, schedule), (train != 0).sum(0).double())


@pytest.mark.parametrize("burst", [0, -1, 10**30])
def test_a_burst_has_a_spike(burst: int) -> None:
    with pytest.raises(ValueError, match="from 1 to"):
        Burst(torch.tensor([1.0]), max_event=burst)


# What a response says about spikes.


@pytest.mark.parametrize("slope", [None, (0.3, 0.01, 2.0, -0.5), (1.0, -0.99, -1.01, -3.0)], ids=str)
@pytest.mark.parametrize("name", [name for name in CAUSAL if neurons[name].signed])
def test_signed_numbers_of_spikes_are_those_that_a_neuron_counts(name: str, slope: tuple[float, ...] | None) -> None:
    neuron = neurons[name](uniform(0.3, 2, 4, 1, 1), None if slope is None else torch.tensor(slope).view(4, 1, 1))
    assert isinstance(neuron, CausalNeuron)
    if neuron.largest_change(1) > 1 and slope is not None:
        neuron = dataclasses.replace(neuron, slope=neuron.slope.abs())
    currents, state = normal(60, 16, 4, 7, 6) + 0.1, neuron.initial(normal(16, 4, 7, 6))
    response = neuron.respond(currents, Schedule(60))
    numbers = neuron.fired(response, Schedule(60))
    for t, x in enumerate(currents, 1):
        state, _ = neuron.step(state, x)
        assert torch.equal(numbers[:t].sum(0) + neuron.rest, state.spikes)
    assert state.spikes.max() > 10
    assert state.spikes.min() < -5 or slope is None


def test_a_single_step_of_bursts_is_a_step() -> None:
    # A third of three thresholds is not always the threshold, to the last digit.
    for largest in (1, 2, 3, 5):
        neuron_laws.a_single_step_is_a_step(Burst(torch.tensor([0.7]), max_event=largest))


# Stateless operations over time.


POOLS = {
    "overlapping": ops.MaxPool((3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    "padded": ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    "uneven": ops.MaxPool((2, 3), (2, 1), (1, 0, 0, 2), (1, 1)),
    "dilated": ops.MaxPool((2, 2), (1, 2), (0, 0, 0, 0), (2, 3)),
    "line": ops.MaxPool((3,), (2,), (1, 1), (1,)),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_lateral_inhibition(name: str) -> None:
    pool = POOLS[name]
    shape = (4, 8) if name == "line" else (4, 8, 9)
    spikes = (normal(10, 3, *shape).double() * 0.8).round()
    assert (spikes < 0).any()
    for t, total in enumerate(cumulative(pool, [spikes]), 1):
        torch.testing.assert_close(total, pool(spikes[:t].sum(0)))
    stepwise = torch.stack([pool(step) for step in spikes]).sum(0)
    assert not torch.allclose(stepwise, pool(spikes.sum(0))), "pooling step by step passes this test"
