"""A spiking network as a module of torch: on any device, in one go or step by step, what ``run`` does."""

import copy
import dataclasses
import io
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.func import functional_call

from snnc import ops
from snnc.artifact import save_conversion
from snnc.conversion import Conversion
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, ModelError, UsageError
from snnc.feeds import Feeds, laid_out
from snnc.ir import Graph, Input, Node
from snnc.ir import operations as operations_by_name
from snnc.measure.probe import permuted
from snnc.module import Answer, NetworkState, NeuronModule, Response, SpikingNetwork, load
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.base import retimed
from snnc.schedule import Schedule
from tests.other_device import ELSEWHERE, MixedDevicesError, here, other_device
from tests.support import (
    IMAGE,
    PROVENANCE,
    Network,
    alternating,
    exact,
    neuron_instances,
    normal,
    operations,
    random_network,
    run,
    sloped,
    spiking,
)

CAUSAL = tuple(name for name, kind in neurons.items() if issubclass(kind, CausalNeuron))
PREPROCESSING = Preprocessing(mean=(0.31,), channels="gray")
# Neurons that rehearse do so, and all sleep.
SCHEDULE = Schedule(3, 2, 2)


def conversion(snn: Graph, schedule: Schedule = SCHEDULE) -> Conversion:
    return Conversion(None, snn, schedule, (), (), (), PREPROCESSING, PROVENANCE)


def network(*kinds: str, seed: int = 1, schedule: Schedule = SCHEDULE) -> SpikingNetwork:
    return SpikingNetwork(conversion(random_network(seed, sloped(*kinds, seed=seed)), schedule))


def only(answer: Answer) -> Tensor:
    assert isinstance(answer, Tensor)
    return answer


def walked(module: SpikingNetwork, images: Tensor) -> list[tuple[NetworkState, Tensor]]:
    """The state after every step, and the output of the step."""
    state, found = module.start(images), []
    for _ in range(state.schedule.total):
        state, output = module.step(state, images)
        found.append((state, only(output)))
    return found


# What it computes.


@pytest.mark.parametrize("kinds", [tuple(neurons), *((kind,) for kind in neurons)], ids="+".join)
def test_a_file_is_read_as_a_module_that_does_what_the_network_does(kinds: tuple[str, ...], tmp_path: Path) -> None:
    snn = random_network(2, sloped(*kinds, seed=2))
    save_conversion(conversion(snn), tmp_path / "model.snn")
    module = load(str(tmp_path / "model.snn"))
    assert module.layers == tuple(name for name, op in snn.nodes.items() if isinstance(op.op, tuple(neurons.values())))
    assert module.schedule == module.conversion.schedule == SCHEDULE
    assert module.preprocessing == Preprocessing(mean=(0.31,), channels="gray")
    assert module.input_shape == (3, 8, 8)
    assert str(SCHEDULE) in repr(module)
    images = normal(4, 3, 8, 8)
    # In double precision, where rounding tips no spike.
    precise = load(tmp_path / "model.snn").double()
    for timesteps in (None, 1, 6):
        schedule = Schedule(timesteps or SCHEDULE.timesteps, SCHEDULE.sleep, SCHEDULE.rehearsal)
        fast = {"x": laid_out(images).unsqueeze(0)}
        timed = retimed(snn.map_tensors(laid_out), SCHEDULE, schedule)
        wanted = run(timed, fast, snn.outputs, schedule)[snn.outputs[0]][0]
        assert torch.equal(module(images, timesteps), wanted)
        response = precise.respond(images.double(), timesteps)
        answer = only(precise(images.double(), timesteps))
        torch.testing.assert_close(response.output, answer)
        train = only(response.signal)
        assert train.shape == (schedule.total, *wanted.shape)
        torch.testing.assert_close(train[schedule.rehearsal :].sum(0) / schedule.timesteps, answer)
        assert tuple(response.spikes) == module.layers
        for name, spikes in response.spikes.items():
            assert spikes.shape == (schedule.total, 4, *snn.shapes[name])
            assert torch.equal(spikes, spikes.round())
    assert any(spikes.any() for spikes in response.spikes.values())


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule(4), Schedule(4, 1)], ids=str)
@pytest.mark.parametrize("kinds", [CAUSAL, *((kind,) for kind in CAUSAL)], ids="+".join)
def test_step_by_step_it_fires_the_same_spikes(kinds: tuple[str, ...], schedule: Schedule) -> None:
    module, images = network(*kinds, schedule=schedule).double(), normal(2, 3, 8, 8).double()
    response = module.respond(images)
    steps = walked(module, images)
    assert steps[-1][0].taken == schedule.total
    for name, spikes in response.spikes.items():
        assert torch.equal(torch.stack([state.spikes[name] for state, _ in steps]), spikes)
        rest = module.conversion.snn.ops(Neuron)[name].rest
        assert torch.equal(steps[-1][0].counts[name], spikes[schedule.rehearsal :].sum(0) + rest)
    train = torch.stack([output for _, output in steps])
    torch.testing.assert_close(train, response.signal)
    torch.testing.assert_close(train[schedule.rehearsal :].sum(0) / schedule.timesteps, module(images))


def test_other_images_at_every_step_are_other_frames() -> None:
    module = network("cif", schedule=Schedule(3))
    first, second = normal(2, 3, 8, 8), normal(2, 3, 8, 8, seed=1)
    state = module.start(first)
    same, _ = module.step(module.step(state, first)[0], first)
    other, _ = module.step(module.step(state, first)[0], second)
    assert any(not torch.equal(same.spikes[name], other.spikes[name]) for name in module.layers)


@pytest.mark.parametrize("how", ["repeat", "spread", "hold"])
@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("schedule", [Schedule(4), SCHEDULE], ids=str)
def test_frames_one_by_one_fire_what_they_fire_as_whole_trains(schedule: Schedule, count: int, how: str) -> None:
    module = network(*CAUSAL, schedule=dataclasses.replace(schedule, frames=how)).double()  # type: ignore[arg-type]
    feeds = Feeds({"x": normal(count, 2, 3, 8, 8).double()}, ["x"])
    response = module.respond(feeds)
    state, outputs, spikes = module.start(feeds["x"][0]), [], []
    for frame in module.frames(feeds):
        state, output = module.step(state, frame)
        outputs.append(only(output))
        spikes.append(state.spikes)
    assert state.taken == schedule.total
    for name, train in response.spikes.items():
        assert torch.equal(torch.stack([step[name] for step in spikes]), train)
    torch.testing.assert_close(torch.stack(outputs), response.signal)
    torch.testing.assert_close(torch.stack(outputs)[schedule.rehearsal :].sum(0) / schedule.timesteps, module(feeds))
    # A still image is what every step shows.
    image = feeds["x"][0]
    assert all(torch.equal(shown, image) for shown in list(module.frames(image))[: schedule.lit])  # type: ignore[arg-type]


def test_events_sorted_into_steps_are_parts_of_a_picture() -> None:
    module = network("if", schedule=Schedule(4)).double()
    generator = torch.Generator().manual_seed(0)
    events = torch.randint(0, 5, (4, 2, 3, 8, 8), generator=generator).double() / 4

    def stepped(frames: Tensor, **how: bool) -> tuple[NetworkState, Tensor]:
        state, total = module.start(frames[0], **how), torch.zeros(())
        for frame in frames:
            state, output = module.step(state, frame)
            total = total + only(output)
        return state, total / 4

    # In the mean over the steps they are the picture that they add up to.
    state, answer = stepped(events, parts=True)
    whole = module.respond(Feeds({"x": events * 4}, ["x"]))
    assert all(torch.equal(state.counts[name], whole.spikes[name].sum(0)) for name in module.layers)
    torch.testing.assert_close(answer, whole.output)
    # Taken for pictures each, they are a quarter of it.
    state, answer = stepped(events)
    apart = module.respond(Feeds({"x": events}, ["x"]))
    assert all(torch.equal(state.counts[name], apart.spikes[name].sum(0)) for name in module.layers)
    torch.testing.assert_close(answer, apart.output)
    assert not torch.allclose(apart.output, whole.output)  # type: ignore[arg-type]


def test_a_state_can_be_gone_on_from_again() -> None:
    module, images = network(*CAUSAL), normal(2, 3, 8, 8)
    steps = walked(module, images)
    for (state, _), (after, output) in pairwise(steps):
        for _ in range(2):
            again, repeated = module.step(state, images)
            assert again.taken == state.taken + 1
            assert torch.equal(only(repeated), output)
            for layer in module.layers:
                assert torch.equal(again.spikes[layer], after.spikes[layer])
                assert torch.equal(again.counts[layer], after.counts[layer])
            # What came out shares no memory with what stays.
            for tensor in (only(repeated), *again.spikes.values(), *again.counts.values()):
                tensor.fill_(-7)
    assert any(count.any() for count in steps[2][0].counts.values())


def test_what_comes_out_shares_no_memory() -> None:
    net = Network((3, 8, 8))
    net.add(neurons["if"](torch.tensor(0.5)), net.conv("x", 4, name="constant"), name="fired")
    net.add(ops.Reshape((256,)), "fired", name="y")
    module, images = SpikingNetwork(conversion(net.graph("y", "constant"), Schedule(1))), normal(2, 3, 8, 8)
    wanted, found = module.respond(images), module.respond(images)
    for train in found.signal:
        train.fill_(-7)
    assert all(map(torch.equal, found.output, wanted.output))
    longer = module.respond(images, 2).signal[1]
    longer[0] = -7
    assert torch.equal(longer[1], wanted.output[1])
    state = module.start(images)
    state.spikes["fired"].fill_(-7)
    assert not state.counts["fired"].any()


def test_several_outputs_are_a_tuple() -> None:
    net = Network((3, 8, 8))
    fired = net.add(neurons["if"](torch.tensor(0.5)), net.conv("x", 4))
    net.add(ops.Mean((2, 3)), fired, name="y")
    module, images = SpikingNetwork(conversion(net.graph("y", fired))), normal(2, 3, 8, 8)
    means, response = module(images), module.respond(images)
    _, output = module.step(module.start(images), images)
    assert isinstance(means, tuple) and isinstance(response.output, tuple) and isinstance(output, tuple)
    for found in (means, response.output, output):
        assert [part.shape for part in found] == [(2, 4, 1, 1), (2, 4, 8, 8)]
    assert [part.shape for part in response.signal] == [(7, 2, 4, 1, 1), (7, 2, 4, 8, 8)]


def test_an_output_that_is_the_same_at_every_step_has_them_all() -> None:
    net = Network((3, 8, 8))
    net.conv("x", 4, name="y")
    module, images = SpikingNetwork(conversion(net.graph())), normal(2, 3, 8, 8)
    train = only(module.respond(images).signal)
    assert torch.equal(train[: SCHEDULE.lit], module(images).expand(SCHEDULE.lit, -1, -1, -1, -1))
    assert train.shape[0] == SCHEDULE.total
    assert not train[SCHEDULE.lit :].any()


def test_what_is_random_is_drawn_from_the_generator() -> None:
    module = SpikingNetwork(conversion(random_network(3, spiking("two-phase-probabilistic")), Schedule(4)))
    images, shared = normal(8, 3, 8, 8), torch.get_rng_state()
    drawn = [module(images, generator=Generator().manual_seed(seed)) for seed in (0, 1, 1)]
    assert torch.equal(drawn[0], module(images))
    assert torch.equal(drawn[1], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), shared)


# What it is.


def test_it_is_a_module_whose_tensors_are_its_own() -> None:
    module, images = network(*neurons), normal(2, 3, 8, 8)
    before = module(images)
    given = [tensor.clone() for node in module.conversion.snn.nodes.values() for tensor in node.op.tensors().values()]
    kept = module.state_dict()
    assert len(kept) == len(set(module.conversion.snn.tensor_names.values())) < len(given)
    assert not list(module.parameters())
    saved = {name: tensor.clone() for name, tensor in kept.items()}
    for tensor in kept.values():
        tensor.mul_(0.5)
    assert not torch.equal(module(images), before), "its buffers are not what is run"
    module.load_state_dict(saved)
    assert torch.equal(module(images), before)
    module.load_state_dict({name: tensor * 0.5 for name, tensor in saved.items()}, assign=True)
    assert not torch.equal(module(images), before), "what was assigned is not run"
    after = [tensor for node in module.conversion.snn.nodes.values() for tensor in node.op.tensors().values()]
    assert all(map(torch.equal, given, after))


def test_the_buffers_are_what_is_run_wherever_they_come_from() -> None:
    module, images = network(*neurons), normal(2, 3, 8, 8)
    halves = {name: tensor * 0.5 for name, tensor in module.state_dict().items()}
    before = module(images)
    other = copy.deepcopy(module)
    other.load_state_dict(halves)
    wanted = only(other(images))
    assert not torch.equal(wanted, before)

    assert torch.equal(functional_call(module, halves, (images,)), wanted)
    assert torch.equal(module(images), before)

    replica = module._replicate_for_data_parallel()
    replica._buffers.update(halves)
    assert torch.equal(replica(images), wanted)
    assert torch.equal(module(images), before)

    for name, tensor in halves.items():
        setattr(module, name, tensor)
    assert torch.equal(module(images), wanted)
    graph = module._graph
    module(images)
    assert module._graph is graph, "built anew without need"
    with torch.inference_mode():
        module.double()
        single = module.float()(images)
    torch.testing.assert_close(single, wanted)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda module: module.half(),
        lambda module: module.to("meta"),
        lambda module: module.load_state_dict({n: -tensor for n, tensor in module.state_dict().items()}),
        lambda module: module.get_buffer("layer:threshold").neg_(),
        lambda module: setattr(module, "layer:threshold", torch.tensor(torch.nan)),
        lambda module: delattr(module, "layer:threshold"),
        lambda module: setattr(module, "layer:threshold", torch.ones(7)),
    ],
    ids=["half", "meta", "load_state_dict", "in place", "setattr", "delattr", "shape"],
)
def test_what_cannot_be_run_is_refused_by_name_until_it_is_mended(spoil: Callable[[SpikingNetwork], object]) -> None:
    net = Network((3, 8, 8))
    net.add(neurons["if"](torch.tensor(1e-9)), net.add(ops.Affine(torch.tensor(1e-9), None)), name="layer")
    module, images = SpikingNetwork(conversion(net.graph("layer"))), normal(2, 3, 8, 8)
    before, state = module(images), module.start(images)
    saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    spoil(module)
    for use in (module, module.respond, module.start, lambda images: module.step(state, images)):
        with pytest.raises(ModelError, match=r"cannot run with these tensors: .*:threshold\n") as caught:
            use(images)
        assert "load good values" in caught.value.hint
    module.register_buffer("layer:threshold", torch.tensor(1.0))
    module.load_state_dict(saved, assign=True)
    assert torch.equal(module(images), before)


def test_it_can_be_copied_and_sent() -> None:
    module, images = network(*neurons), normal(2, 3, 8, 8)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(other(images), module(images))
        for tensor in other.state_dict().values():
            tensor.mul_(0.5)
        assert not torch.equal(other(images), module(images))


def test_it_takes_another_precision() -> None:
    module, images = network(*CAUSAL), normal(2, 3, 8, 8)
    single = module(images)
    assert module.double() is module
    assert module(images.double()).dtype == torch.float64
    torch.testing.assert_close(module.float()(images), single, rtol=0, atol=0)
    nested = torch.nn.Sequential(module, torch.nn.Flatten()).double()
    assert nested(images.double()).dtype == torch.float64


def test_there_are_no_gradients() -> None:
    module, images = network(*CAUSAL), normal(2, 3, 8, 8).requires_grad_()
    assert not module(images).requires_grad
    assert not only(module.respond(images).output).requires_grad
    state, output = module.step(module.start(images), images)
    assert not only(output).requires_grad
    assert not any(spikes.requires_grad for spikes in state.spikes.values())


# What hooks see.


def hooked(module: SpikingNetwork) -> dict[str, list[tuple[tuple[Tensor, ...], Tensor]]]:
    """What every child is called with and returns, from now on."""
    calls: dict[str, list[tuple[tuple[Tensor, ...], Tensor]]] = {}
    for name, child in module.named_children():
        calls[name] = []
        child.register_forward_hook(lambda _, inputs, output, name=name: calls[name].append((inputs, output)))
    return calls


@pytest.mark.parametrize("kinds", [CAUSAL, *((kind,) for kind in neurons)], ids="+".join)
def test_hooks_see_every_node_and_change_nothing(kinds: tuple[str, ...]) -> None:
    module, images = network(*kinds), normal(2, 3, 8, 8)
    plain, other = network(*kinds), module.conversion.snn
    calls = hooked(module)
    assert list(calls) == [name for name in other.nodes if name not in other.inputs]
    assert torch.equal(module(images), plain(images))
    assert {name: len(seen) for name, seen in calls.items()} == dict.fromkeys(calls, 1)
    found, wanted = module.respond(images), plain.respond(images)
    for name, ((inputs, _), (trains, signal)) in calls.items():
        node = module._graph.nodes[name]
        assert len(inputs) == len(trains) == len(node.inputs)
        for value, train in zip(node.inputs, trains, strict=True):
            assert train.shape[1:] == (2, *other.shapes[value])
            assert train.shape[0] in (1, SCHEDULE.total)
            assert value in other.inputs or torch.equal(train, calls[value][1][1])
        if name in module.layers:
            neuron = other.op(name)
            assert isinstance(neuron, tuple(neurons.values()))
            assert torch.equal(neuron.fired(signal, SCHEDULE), wanted.spikes[name])
            assert isinstance(module.get_submodule(name), NeuronModule)
    assert torch.equal(only(found.signal), only(wanted.signal))


def test_hooks_see_one_step_at_a_time() -> None:
    module, images = network(*CAUSAL).double(), normal(2, 3, 8, 8).double()
    response = module.respond(images)
    calls = hooked(module)
    walked(module, images)
    for name, seen in calls.items():
        assert len(seen) == SCHEDULE.total
        assert all(output.shape == (2, *module.conversion.snn.shapes[name]) for _, output in seen)
    train = torch.stack([output for _, output in calls[module.conversion.snn.outputs[0]]])
    torch.testing.assert_close(train, response.signal)


def test_children_are_what_they_are_in_torch() -> None:
    net = Network((3, 8, 8))
    fired = net.add(neurons["if"](torch.tensor(0.5)), net.conv("x", 4, name="forward"), name="layers")
    flat = net.add(ops.Reshape((256,)), net.add(ops.Relu(), fired, name="relu"), name="training")
    net.add(ops.Linear(normal(5, 256), None), flat, name="y")
    module, images = SpikingNetwork(conversion(net.graph("y"), Schedule(2))), normal(2, 3, 8, 8)
    children = dict(module.named_children())
    assert [*children] == ["forward_", "layers_", "relu", "training_", "y"]
    convolution, linear = children["forward_"], children["y"]
    assert isinstance(convolution, torch.nn.Conv2d)
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (3, 4, (3, 3))
    assert isinstance(linear, torch.nn.Linear)
    assert (linear.in_features, linear.out_features, linear.bias) == (256, 5, None)
    assert isinstance(children["relu"], torch.nn.ReLU)
    assert "weight=[5, 256]" in repr(module)
    state = module.start(images)
    calls = hooked(module)
    module.step(state, images)
    # Called by itself, on what it was called with, it does the same.
    for name, child in children.items():
        (inputs, output), *_ = calls[name]
        assert name == "layers_" or torch.equal(child(*inputs), output)
    halved = {name: tensor * 0.5 for name, tensor in module.state_dict().items()}
    module.load_state_dict(halved)
    module(images)
    assert torch.equal(linear.weight, halved["y:weight"])
    assert len(module.state_dict()) == len(halved)


def test_no_field_of_an_operation_hides_what_a_module_has() -> None:
    fields = {field.name for kind in operations_by_name.values() for field in dataclasses.fields(kind)}
    assert "weight" in fields
    assert not fields & {*dir(torch.nn.Module()), "op", "bind"}


# What does not fit.


@pytest.mark.parametrize(
    ("images", "message", "hint"),
    [
        (normal(2, 3, 8, 9), r"images \[2, 3, 8, 9\] for a network that takes \[N, 3, 8, 8\]", "open_dataset"),
        (normal(3, 8, 8), r"images \[3, 8, 8\] for", "unsqueeze"),
        (torch.tensor(1.0), r"images \[\] for", "open_dataset"),
        (normal(2, 3, 8, 8).double(), "the images are torch.float64 on cpu, the network is torch.float32", ".to("),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "the images are torch.uint8", "preprocessed"),
        (np.zeros((2, 3, 8, 8), np.float32), "the images are a ndarray, not a tensor", "torch.from_numpy"),
        ([0.0], "the images are a list, not a tensor", "torch.from_numpy"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Tensor, message: str, hint: str) -> None:
    module = network("if")
    state = module.start(normal(2, 3, 8, 8))
    for use in (module, module.respond, module.start, lambda images: module.step(state, images)):
        with pytest.raises(DataError, match=message) as caught:
            use(images)
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda module: network("if"),
        lambda module: copy.deepcopy(module),
        lambda module: module.double(),
        lambda module: module.half(),
        lambda module: module.load_state_dict(module.state_dict()) and module,
    ],
    ids=["another", "copy", "double", "half", "load_state_dict"],
)
def test_a_state_of_another_network_is_refused(change: Callable[[SpikingNetwork], SpikingNetwork]) -> None:
    module, images = network("if"), normal(2, 3, 8, 8)
    state = module.start(images)
    assert module.float() is module
    state, _ = module.step(state, images)
    changed = change(module)
    images = images.to(next(changed.buffers()))
    with pytest.raises(DataError, match="the state is of another network, or from before") as caught:
        changed.step(state, images)
    assert "start again" in caught.value.hint
    changed.step(changed.start(images), images)


def test_steps_that_cannot_be_taken_are_refused() -> None:
    module, images = network("if", schedule=Schedule(2)), normal(2, 3, 8, 8)
    for use in (module, module.respond, module.start):
        with pytest.raises(UsageError, match="0 time steps @ timesteps"):
            use(images, 0)
        with pytest.raises(UsageError, match=r"invalid value 2\.5 @ timesteps"):
            use(images, 2.5)
    state = module.start(images, timesteps=1)
    with pytest.raises(DataError, match="1 images for a run of 2"):
        module.step(state, images[:1])
    state, _ = module.step(state, images)
    with pytest.raises(UsageError, match="all 1 time steps have been taken") as caught:
        module.step(state, images)
    assert "timesteps" in caught.value.hint


@pytest.mark.parametrize("name", [name for name, kind in neurons.items() if issubclass(kind, OrderFreeNeuron)])
def test_a_network_that_gathers_first_runs_whole_trains_only(name: str) -> None:
    module, images = SpikingNetwork(conversion(exact(neurons[name](torch.tensor(0.7))))), normal(2, *IMAGE)
    assert len(module.respond(images).spikes) == 2
    with pytest.raises(ModelError, match="asked") as caught:
        module.start(images)
    assert "whole trains" in caught.value.hint


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "model.snn")
    (tmp_path / "model.snn").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a complete"):
        load(str(tmp_path / "model.snn"))


# On another device.


def there(value: object) -> object:
    """What came out on the other device, brought here."""
    if isinstance(value, Response):
        return [here(only(value.output)), here(only(value.signal)), *map(here, value.spikes.values())]
    if isinstance(value, NetworkState):
        return [here(part) for found in (value.spikes, value.counts) for part in found.values()]
    return here(only(value))  # type: ignore[arg-type]


def assert_the_same_elsewhere(snn: Graph, images: Tensor) -> None:
    """Equal, number for number, because it is the CPU that computes on the other device as well."""
    # One step at least of each sort: all that is looked up on the way there takes its time.
    module = SpikingNetwork(conversion(snn, Schedule(1, 1, 1)))
    causal = all(isinstance(op, CausalNeuron) for op in snn.ops(tuple(neurons.values())).values())
    wanted = module(images), module.respond(images)
    steps = walked(module, images) if causal else []
    with other_device():
        away = images.to(ELSEWHERE)
        with pytest.raises(DataError, match=r"on meta, the network is torch\.float32 on cpu"):
            module(away)
        assert module.to(ELSEWHERE) is module
        with pytest.raises(DataError, match=r"on cpu, the network is torch\.float32 on meta"):
            module(images)
        assert torch.equal(there(module(away)), wanted[0])
        found = there(module.respond(away))
        assert all(map(torch.equal, found, [wanted[1].output, wanted[1].signal, *wanted[1].spikes.values()]))
        for (state, output), (kept, right) in zip(walked(module, away) if causal else [], steps, strict=True):
            assert torch.equal(there(output), right)
            assert all(map(torch.equal, there(state), [*kept.spikes.values(), *kept.counts.values()]))
        assert torch.equal(module.to("cpu")(images), wanted[0])
    assert any(spikes.any() for spikes in wanted[1].spikes.values())


# With the order of its spikes asked for and without, in turns: of every kind there are several.
@pytest.mark.parametrize(("name", "asked"), alternating(neuron_instances(), [True, False]))
def test_every_neuron_does_the_same_on_another_device(name: str, asked: bool) -> None:
    assert_the_same_elsewhere(exact(neuron_instances()[name], order_asked=asked), normal(3, *IMAGE))


@pytest.mark.parametrize("name", operations())
def test_every_operation_does_the_same_on_another_device(name: str) -> None:
    op, shapes = operations()[name]
    net = Network(shapes[0])
    net.add(neurons["cif"](torch.tensor(0.5)), "x", name="fired")
    net.add(ops.Reshape((math.prod(shapes[0]),)), "fired", name="flat")
    for number, shape in enumerate(shapes):
        net.add(ops.Slice(1, 0, math.prod(shape)), "flat", name=f"row_{number}")
        net.add(ops.Reshape(shape), f"row_{number}", name=f"part_{number}")
    net.add(op, *(f"part_{number}" for number in range(len(shapes))), name="asked")
    net.add(neurons["if"](torch.tensor(0.5)), "asked")
    net.add(ops.Affine(torch.tensor(2.0), torch.tensor(0.1)))
    assert_the_same_elsewhere(net.graph(), normal(3, *shapes[0]) + 0.3)


@pytest.mark.parametrize("kinds", [tuple(neurons), CAUSAL], ids="+".join)
def test_random_networks_do_the_same_on_another_device(kinds: tuple[str, ...]) -> None:
    for seed in range(2):
        assert_the_same_elsewhere(random_network(seed, sloped(*kinds, seed=seed), norms=True), normal(2, 3, 8, 8))


def test_the_permutation_probe_does_the_same_on_another_device() -> None:
    snn = permuted(random_network(4, spiking(*CAUSAL, seed=4)))
    x = normal(2, 3, 8, 8).unsqueeze(0)
    wanted = run(snn, {"x": x}, snn.outputs, SCHEDULE)[snn.outputs[0]]
    with other_device():
        away = snn.map_tensors(lambda tensor: tensor.to(ELSEWHERE))
        assert torch.equal(here(run(away, {"x": x.to(ELSEWHERE)}, snn.outputs, SCHEDULE)[snn.outputs[0]]), wanted)


def test_another_device_is_one() -> None:
    """That the laws above can fail: tensors of two devices do not mix, wherever they meet."""
    near = torch.ones(2, 3)
    with other_device():
        far = near.to(ELSEWHERE)
        assert far.device == ELSEWHERE
        assert torch.zeros(2, device=far.device).device == ELSEWHERE
        for mixed in (
            lambda: far + near,
            lambda: far * torch.tensor(2.0),
            lambda: torch.lt(near, far, out=torch.empty_like(far)),
            lambda: far[torch.tensor([0])],
            lambda: far.gather(0, torch.zeros(1, 3, dtype=torch.int64)),
            lambda: torch.cat([near, far]),
        ):
            with pytest.raises(MixedDevicesError):
                mixed()
        far[0].add_(2)
        assert torch.equal(far.to("cpu"), torch.tensor([[3.0] * 3, [1.0] * 3]))
        module = SpikingNetwork(conversion(exact(neurons["if"](torch.tensor(0.7)))))
        with pytest.raises(UsageError, match="a generator on"):
            module(normal(1, *IMAGE), generator=_ElsewhereGenerator())


class _ElsewhereGenerator(Generator):
    device = ELSEWHERE


def test_a_network_of_two_inputs_is_given_a_tensor_for_each() -> None:
    nodes = [Node("x", Input((3,)), ()), Node("z", Input((3,)), ()), Node("y", ops.Add(), ("x", "z"))]
    module = SpikingNetwork(conversion(Graph.of(nodes, ["y"])))
    one, other = normal(2, 3), normal(2, 3, seed=1)
    torch.testing.assert_close(module({"z": other, "x": one}), one + other)
    with pytest.raises(DataError, match="one tensor for a network of 2 inputs") as caught:
        module(one)
    assert caught.value.hint == "give a tensor for each of: x, z"
    assert "input_shapes={'x': (3,), 'z': (3,)}" in repr(module)
