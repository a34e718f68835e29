"""What every neuron obeys, as functions that raise AssertionError; the first line says what holds."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from snnc.feeds import laid_out
from snnc.laws.samples import normal, uniform
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import NeuronState, mean_signal
from snnc.ops import QuantizedRelu
from snnc.schedule import Schedule

TIMESTEPS = (1, 2, 3, 4, 7, 32)
_SCHEDULES = (Schedule(1), Schedule(7), Schedule(5, 3), Schedule(4, 3, 2))


def instances(kind: type[Neuron]) -> dict[str, Neuron]:
    """Return neurons of a kind, with thresholds per layer and per channel of [4, 7, 6], and a slope where it has one.

    One of them starts at another potential than usual, and some have the options that their kind says to try.
    """
    found = {
        "per layer": kind(torch.tensor([0.7])),
        "per channel": kind(uniform(0.3, 2, 4, 1, 1)),
        "potential": kind(torch.tensor([0.7]), potential=uniform(0, 0.9, 4, 1, 1)),
    }
    if kind.signed:
        found["slope"] = kind(uniform(0.3, 2, 4, 1, 1), uniform(0.05, 0.4, 4, 1, 1))
        found["coding"] = kind(uniform(0.3, 2, 4, 1, 1), uniform(0.4, 2.5, 4, 1, 1, seed=1), coding=True)
    for options in kind.tried:
        named = ", ".join(f"{option}={value}" for option, value in options.items())
        found[named] = kind(uniform(0.3, 2, 4, 1, 1), **options)
    return found


def off_grid(z: Tensor, threshold: Tensor, timesteps: int, potential: float | Tensor = 0.5) -> Tensor:
    """Return where T·z/θ + v(0)/θ is far enough from a whole number for rounding not to matter."""
    level = timesteps * z / threshold + potential
    return (level - level.round()).abs() > 1e-6


def constant_input_gives_the_closed_form(neuron: Neuron) -> None:
    """The mean output for a constant current is the closed form that the neuron states."""
    if not neuron.exact:
        return
    neuron = _double(neuron)
    for timesteps in TIMESTEPS:
        form = neuron.closed_form(timesteps)
        z = uniform(-4.0, 8.0, 16, 4, 7, 6, seed=timesteps).double() * _strength(neuron, timesteps)
        assert (z > form.ceiling).any(), "its ceiling is above all that is tried"
        clear = off_grid(z, neuron.threshold, timesteps, form.potential)
        mean = neuron.respond(z.unsqueeze(0), Schedule(timesteps)).mean(0)
        torch.testing.assert_close(mean[clear], form(z)[clear])


def reaching_the_threshold_is_enough(neuron: Neuron) -> None:
    """On the grid of levels, where all numbers are exact, a potential that just reaches the threshold fires."""
    if not neuron.exact or neuron.slope is not None:
        return
    threshold = torch.tensor([0.5, 1.0, 2.0]).view(3, 1).double()
    for potential in (0.5, 0.0, 0.25):
        neuron = dataclasses.replace(neuron, threshold=threshold, potential=torch.tensor(potential).double())
        for timesteps in (1, 4, 16):
            z = threshold * torch.arange(-4, 8 * timesteps).double() / (4 * timesteps)
            mean = neuron.respond(z.expand(1, 2, -1, -1), Schedule(timesteps)).mean(0)
            assert torch.equal(mean, neuron.closed_form(timesteps)(z).expand(2, -1, -1))


def it_stands_for_what_it_was_made_for(neuron: Neuron) -> None:
    """Made to stand for a quantized activation, its closed form is that activation, on its own number of levels."""
    slope = uniform(0.05, 0.4, 4, 1, 1) if neuron.takes_back else None
    shared = {field.name for field in dataclasses.fields(Neuron)}
    own = {field.name: getattr(neuron, field.name) for field in dataclasses.fields(neuron) if field.name not in shared}
    own = {name: value for name, value in own.items() if not isinstance(value, Tensor)}
    for potential in (0.5, 0.0):
        wanted = QuantizedRelu(uniform(0.3, 2, 4, 1, 1), 7, slope, torch.tensor(potential))
        made = type(neuron).standing_for(wanted, Schedule(7), **own)
        found = made.closed_form(7)
        torch.testing.assert_close(found.ceiling, wanted.ceiling)
        assert found.levels == made.levels(7) == neuron.levels(7)
        torch.testing.assert_close(made.retimed(7, 3).closed_form(3).ceiling, wanted.ceiling)
        assert found.slope is slope
        assert torch.equal(found.potential, wanted.potential)


def spikes_are_whole_multiples_of_the_threshold(neuron: Neuron) -> None:
    """Spikes are whole multiples of the threshold, up to the largest event, and never more taken back than fired."""
    if neuron.slope is not None:
        return
    neuron = _double(neuron)
    response = neuron.respond(normal(9, 16, 4, 7, 6).double() * 4 * _strength(neuron, 9), Schedule(9))
    count = response / neuron.threshold
    torch.testing.assert_close(count, count.round())
    changes = neuron.fired(response, Schedule(9))
    assert changes.abs().max() == neuron.largest_change(9), "its largest event is another"
    assert (count.cumsum(0).round() >= 0).all(), "more is taken back than was fired"
    assert torch.equal(changes.cumsum(0) + neuron.rest, count.cumsum(0).round())


def no_samples_are_answered_with_none(neuron: Neuron) -> None:
    """A batch without samples is answered with one without samples."""
    schedule = Schedule(2, 0 if isinstance(neuron, OrderFreeNeuron) else 3)
    response = neuron.respond(torch.zeros(schedule.total, 0, 4, 7, 6), schedule)
    assert response.shape == (schedule.total, 0, 4, 7, 6)
    assert neuron.spikes(response, schedule).shape == (0, 4, 7, 6)


def signed_numbers_of_spikes_tell_the_response(neuron: Neuron) -> None:
    """The numbers of spikes that are read off a response lose none, make none up, and add up to its mean."""
    for one in (neuron, *_slopes(neuron)):
        for precision in (torch.float32, torch.float64):
            for schedule in _SCHEDULES:
                _numbers_tell(one.map_tensors(lambda tensor, to=precision: tensor.to(to)), schedule)  # type: ignore[misc]


def _numbers_tell(neuron: Neuron, schedule: Schedule) -> None:
    strength = _strength(neuron, schedule.timesteps)
    currents = ((normal(schedule.total, 16, 4, 7, 6) * 1.5 + 0.2) * strength).to(neuron.threshold.dtype)
    response = neuron.respond(currents, schedule)
    numbers = neuron.fired(response, schedule)
    assert torch.equal(numbers, numbers.round())
    assert numbers.abs().max() == neuron.largest_change(schedule.timesteps), "its largest event is another"
    sent = neuron.sent(response, schedule)
    assert torch.equal(numbers != 0, sent != 0), "a spike is lost or made up"
    assert torch.equal((numbers != 0).sum(0).to(response.dtype), neuron.spikes(response, schedule))
    if neuron.slope is not None and not neuron.coding:
        # Which spikes are fired does not depend on what they weigh, and with a slope of 1 all weigh the same.
        plain = dataclasses.replace(neuron, slope=torch.ones_like(neuron.slope))
        signed = plain.fired(plain.respond(currents, schedule), schedule)
        told = ((neuron.slope != 0) & (neuron.slope != -1)).expand_as(numbers)
        assert torch.equal(numbers[told], signed[told])
        assert (signed < 0).any() or schedule.total == 1, "none is negative"
    count = numbers[schedule.rehearsal :].sum(0) + neuron.rest
    torch.testing.assert_close(neuron.value(count, schedule.timesteps), mean_signal(response, schedule)[0])
    if neuron.slope is None:
        torch.testing.assert_close(numbers * neuron.threshold, sent)


def _slopes(neuron: Neuron) -> list[Neuron]:
    """Return the neuron with slopes of all kinds in its channels: none, gentle, steep, falling and mirroring.

    What events of several levels took back is told only where the value rises with the count.
    """
    if not neuron.takes_back or neuron.coding:
        return []
    kinds = [torch.tensor([0.1, 0.3, 2.0, 0.5]).view(4, 1, 1)]
    if neuron.largest_change(1) == 1:
        kinds = [torch.tensor([0.0, 0.3, 2.0, -0.5]).view(4, 1, 1), torch.tensor([-1.0])]
    return [dataclasses.replace(neuron, slope=slope) for slope in kinds]


def a_step_changes_neither_state_nor_input(neuron: Neuron) -> None:
    """A step changes neither the state that it starts from nor its current, and steps make up the response."""
    if not isinstance(neuron, CausalNeuron):
        return
    schedule = Schedule(3, 2, 2)
    currents = normal(schedule.total, 3, 4, 7, 6)
    history: list[tuple[NeuronState, NeuronState]] = []
    given = currents.clone(), {field: tensor.clone() for field, tensor in neuron.tensors().items()}

    def remember(state: NeuronState) -> None:
        history.append((state, tuple(part.clone() if isinstance(part, Tensor) else part for part in state)))

    state = neuron.initial(currents[0])
    assert torch.equal(state[0], neuron.start(currents[0])), "a state does not begin with the membrane potential"
    train = []
    for t, x in enumerate(currents):
        remember(state)
        if t == schedule.rehearsal:
            state = neuron.rehearsed(state, x)
            remember(state)
        awake = t < schedule.lit
        after, spikes = neuron.step(state, x, awake)
        kept = spikes.clone()
        again, repeated = neuron.step(state, x, awake)
        assert torch.equal(spikes, repeated), "taken again, a step fires otherwise"
        assert torch.equal(spikes, kept), "spikes are overwritten"
        assert all(map(_same, after, again)), "taken again, a step ends otherwise"
        state = after
        train.append(spikes)
    for now, before in history:
        assert all(map(_same, now, before)), "a state is overwritten"
    assert torch.equal(currents, given[0]), "currents are overwritten"
    assert all(torch.equal(tensor, given[1][field]) for field, tensor in neuron.tensors().items())
    assert torch.equal(torch.stack(train), neuron.respond(currents, schedule))


def a_response_changes_nothing_and_repeats(neuron: Neuron) -> None:
    """A response changes no input, is the same again, and draws nothing from what the whole process shares."""
    currents = normal(6, 3, 4, 7, 6)
    kept = currents.clone()
    tensors = {field: tensor.clone() for field, tensor in neuron.tensors().items()}
    shared = torch.get_rng_state()
    for schedule in (Schedule(6), Schedule(2, 3, 1)):
        first = neuron.respond(currents, schedule)
        assert torch.equal(first, neuron.respond(currents, schedule))
        if isinstance(neuron, OrderFreeNeuron):
            mean = mean_signal(currents, schedule)[0]
            assert torch.equal(neuron.mean_response(mean, schedule), neuron.mean_response(mean, schedule))
    assert torch.equal(currents, kept)
    assert all(torch.equal(tensor, tensors[field]) for field, tensor in neuron.tensors().items())
    assert torch.equal(torch.get_rng_state(), shared), "draws from what the whole process shares"


def memory_layout_changes_no_spike(neuron: Neuron) -> None:
    """The layout of currents in memory changes no spike, and the response keeps it."""
    current = normal(3, 4, 7, 6)
    schedule = Schedule(3, 1, 2)
    plain = neuron.respond(current.unsqueeze(0), schedule)
    fast = neuron.respond(laid_out(current).unsqueeze(0), schedule)
    assert torch.equal(plain, fast)
    # What works on two layouts at once is many times slower.
    assert fast[0].is_contiguous(memory_format=torch.channels_last)
    if isinstance(neuron, CausalNeuron):
        state = neuron.initial(laid_out(current))
        for part in (*state, *neuron.rehearsed(state, laid_out(current))):
            assert not isinstance(part, Tensor) or part.is_contiguous(memory_format=torch.channels_last)


def a_constant_current_may_be_given_once(neuron: Neuron) -> None:
    """A current that is given once is one that is the same at every step with the image on."""
    current, neuron = normal(1, 3, 4, 7, 6).double(), _double(neuron)
    for schedule in (Schedule(5), Schedule(5, 3), Schedule(5, 0, 2), Schedule(5, 3, 2)):
        on = current.expand(schedule.lit, -1, -1, -1, -1)
        everywhere = torch.cat([on, torch.zeros(schedule.sleep, *current.shape[1:]).double()])
        torch.testing.assert_close(neuron.respond(current, schedule), neuron.respond(everywhere, schedule))


def a_single_step_is_a_step(neuron: Neuron) -> None:
    """The response to a single step is, to the last digit, what a step fires from the start."""
    if not isinstance(neuron, CausalNeuron):
        return
    # Roundings agree at some thresholds by chance.
    various = dataclasses.replace(neuron, threshold=uniform(0.3, 2, 4, 7, 6))
    for one in (neuron, various, *_slopes(neuron)):
        assert isinstance(one, CausalNeuron)
        current = 3 * normal(8, 4, 7, 6)
        _, fired = one.step(one.initial(current), current)
        assert torch.equal(fired, one.respond(current.unsqueeze(0), Schedule(1))[0])


def who_is_silent_in_sleep_stays_silent(neuron: Neuron) -> None:
    """Asleep, without current and past coarse steps, who is silent at one step is silent at all that follow."""
    if not isinstance(neuron, CausalNeuron):
        return
    schedule = Schedule(6, 40)
    currents = torch.cat([normal(6, 3, 4, 7, 6) * 2, torch.zeros(40, 3, 4, 7, 6)])
    state, silent = neuron.initial(currents[0]), torch.zeros(3, 4, 7, 6, dtype=torch.bool)
    for t, x in enumerate(currents):
        awake = t < schedule.lit
        state, spikes = neuron.step(state, x, awake)
        if t > max(6, neuron.coarse_steps):
            assert not (spikes[silent] != 0).any()
        if t >= max(6, neuron.coarse_steps):
            silent |= spikes == 0
    assert silent.any(), "nobody falls silent"


def who_follows_counts_what_a_start_would(neuron: Neuron) -> None:
    """Shown what changes from frame to frame it comes to count what a start would, and a frame again fires nothing."""
    if not isinstance(neuron, CausalNeuron) or not neuron.follows:
        return
    neuron = neuron.map_tensors(lambda tensor: tensor.double())
    schedule, frames = Schedule(3, 2), normal(5, 3, 4, 7, 6).double() * 2
    state, before, total = neuron.initial(frames[0]), torch.zeros_like(frames[0]), torch.zeros_like(frames[0])
    for number, frame in enumerate(frames * _strength(neuron, 3)):
        for t in range(schedule.total):
            awake = t < schedule.timesteps
            state, value = neuron.step(state, (frame - before) * awake, awake and number == 0)
            total = total + value
        if not neuron.follows_at_once(3):
            state, value = _caught_up(neuron, state)
            total = total + value
        wanted = neuron.respond(frame.unsqueeze(0), Schedule(3, 99)).sum(0)
        torch.testing.assert_close(total, wanted, rtol=1e-9, atol=1e-9)
        assert not neuron.step(state, torch.zeros_like(frame), False)[1].any(), "a frame that repeats fires"
        before = frame


def _caught_up(neuron: CausalNeuron, state: NeuronState) -> tuple[NeuronState, Tensor]:
    """Return the state once nothing fires any more, with nothing more to come, and the sum of what was fired."""
    total = torch.zeros_like(state[0])
    for _ in range(99):
        state, value = neuron.step(state, torch.zeros_like(total), False)
        total = total + value
    return state, total


def samples_do_not_see_each_other(neuron: Neuron) -> None:
    """A sample fires alone what it fires beside others; of random neurons as many spikes of a whole charge."""
    if neuron.random:
        _share_nothing_but_draws(_double(neuron))
        return
    currents, schedule = normal(6, 3, 4, 7, 6), Schedule(3, 1, 2)
    alone = torch.cat([neuron.respond(currents[:, [n]], schedule) for n in range(3)], 1)
    assert torch.equal(alone, neuron.respond(currents, schedule))


def _share_nothing_but_draws(neuron: Neuron) -> None:
    """When spikes come depends on the draws, which all samples take from one source; how many does not."""
    timesteps = 8
    whole = torch.randint(-9, 10, (3, 4, 7, 6), generator=Generator().manual_seed(0)).double()
    # Half a millionth of a spike above what is whole, lest rounding come out below.
    count = whole - neuron.potential + 5e-7
    if neuron.coding and neuron.slope is not None:
        count = torch.where(count < 0, count * neuron.slope, count)
    current = (count * neuron.threshold / timesteps).unsqueeze(0)
    together = neuron.respond(current, Schedule(timesteps))
    alone = torch.cat([neuron.respond(current[:, [n]], Schedule(timesteps)) for n in range(3)], 1)
    torch.testing.assert_close(alone.sum(0), together.sum(0))
    assert not torch.equal(alone, together), "it is not random"
    twins = neuron.respond(current[:, [0, 0]], Schedule(timesteps))
    assert not torch.equal(twins[:, 0], twins[:, 1]), "a sample is the echo of the one before"


def the_same_seed_draws_the_same_spikes(neuron: Neuron) -> None:
    """A random neuron draws from its generator alone: the same seed fires the same spikes, another one others."""
    if not neuron.random:
        return
    schedule, current = Schedule(6), uniform(0.0, 1.0, 1, 64, 4, 7, 6)

    def drawn(seed: int) -> Tensor:
        return neuron.respond(current, schedule, Generator().manual_seed(seed))

    draws = Generator().manual_seed(1)
    first = neuron.respond(current, schedule, draws)
    assert not torch.equal(first, neuron.respond(current, schedule, draws)), "draws the same again"
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))
    unseeded = neuron.respond(current, schedule)
    assert torch.equal(unseeded, drawn(0))
    precise = _double(neuron).respond(current.double(), schedule)
    assert ((precise - unseeded).abs() > 1e-4).float().mean() < 1e-4, "draws other numbers in another precision"


def order_does_not_matter_to_order_free_neurons(neuron: Neuron) -> None:
    """To a neuron that gathers its whole input first, the order of its currents does not matter."""
    if not isinstance(neuron, OrderFreeNeuron):
        return
    # Sums of these are exact, in any order.
    currents = (normal(8, 16, 4, 7, 6).double() * 8).round() / 8
    neuron = _double(neuron)
    wanted = neuron.respond(currents, Schedule(8))
    for seed in range(4):
        order = torch.rand(currents.shape, generator=Generator().manual_seed(seed)).argsort(0)
        assert torch.equal(neuron.respond(currents.gather(0, order), Schedule(8)), wanted)


def the_mean_response_is_the_mean_of_the_response(neuron: Neuron) -> None:
    """What an order-free neuron answers to a mean is the mean of its response."""
    if not isinstance(neuron, OrderFreeNeuron):
        return
    neuron, z = neuron.map_tensors(lambda tensor: tensor.double()), normal(16, 4, 7, 6).double()
    for timesteps in TIMESTEPS:
        train = neuron.respond(z.unsqueeze(0), Schedule(timesteps))
        torch.testing.assert_close(neuron.mean_response(z, Schedule(timesteps)), train.mean(0))


LAWS: tuple[Callable[[Neuron], None], ...] = (
    constant_input_gives_the_closed_form,
    reaching_the_threshold_is_enough,
    it_stands_for_what_it_was_made_for,
    spikes_are_whole_multiples_of_the_threshold,
    no_samples_are_answered_with_none,
    signed_numbers_of_spikes_tell_the_response,
    a_step_changes_neither_state_nor_input,
    a_response_changes_nothing_and_repeats,
    memory_layout_changes_no_spike,
    a_constant_current_may_be_given_once,
    a_single_step_is_a_step,
    who_is_silent_in_sleep_stays_silent,
    who_follows_counts_what_a_start_would,
    samples_do_not_see_each_other,
    the_same_seed_draws_the_same_spikes,
    order_does_not_matter_to_order_free_neurons,
    the_mean_response_is_the_mean_of_the_response,
)


def _strength(neuron: Neuron, timesteps: int) -> float:
    """Return what currents have to be like to reach all levels, at once or over all time steps."""
    return max(neuron.levels(1), neuron.levels(timesteps) / timesteps)


def _double(neuron: Neuron) -> Neuron:
    return neuron.map_tensors(lambda tensor: tensor.double())


def _same(left: object, right: object) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left, right)
    return left == right
