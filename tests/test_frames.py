"""Streams: a network that goes on from frame to frame answers what it would from a start (METHODS 2.10, law 21)."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.errors import DataError, UsageError
from snnc.feeds import Feeds, Signals
from snnc.formats.onnx.spiking import OnnxFormat
from snnc.formats.verification import verify
from snnc.ir import Graph
from snnc.laws.neurons import who_follows_counts_what_a_start_would
from snnc.module import SpikingNetwork
from snnc.neurons import Neuron, neurons
from snnc.neurons.graded import Graded
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.temporal_bias import TemporalBias
from snnc.run import Program
from snnc.run.frames import Between, Followed, follow
from snnc.schedule import Schedule
from tests.support import (
    Network,
    alternating,
    double,
    in_memory,
    neuron_instances,
    normal,
    random_network,
    sloped,
    spiking,
    uniform,
)
from tests.test_export_spiking_onnx import conversion

# Of one step, of several, of some asleep, and of unequal ones.
SCHEDULES = (Schedule(1), Schedule(3), Schedule(2, 1), Schedule(2, shares=(0.75, 0.25)))
FRAMES = 6
EACH = Between()


def stream(frames: int = FRAMES, samples: int = 2) -> Tensor:
    """Frames ``[F, N, 3, 8, 8]`` of which one repeats the one before, and one is blank."""
    shown = normal(frames, samples, 3, 8, 8).double() * 2
    shown[2], shown[4] = shown[1], 0
    return shown


def followed(snn: Graph, schedule: Schedule, frames: Tensor, between: Between = EACH) -> list[Followed]:
    found: list[Followed] = []
    for frame in frames:
        before = found[-1] if found else None
        found.append(follow(snn, schedule, between, before, Feeds({snn.inputs[0]: frame})))
    return found


def restarted(snn: Graph, schedule: Schedule, frame: Tensor) -> tuple[Signals, Signals]:
    """What a network answers that starts anew, and how many events each neuron sends."""
    events: Signals = {}

    def count(name: str, response: Tensor) -> None:
        events[name] = snn.ops(Neuron)[name].spikes(response, schedule)

    signals = Program(snn, schedule)(Feeds({snn.inputs[0]: frame}), observe=count)
    return {name: signal[0] for name, signal in signals.items()}, events


def at_once(schedule: Schedule) -> list[str]:
    instances = neuron_instances()
    found = {name.split()[0] for name, one in instances.items() if one.follows_at_once(schedule.timesteps)}
    return sorted(found)


def agree(found: Followed, snn: Graph, schedule: Schedule, frame: Tensor) -> bool:
    wanted, _ = restarted(snn, schedule, frame)
    return all(torch.allclose(found.answers[n], wanted[n], rtol=1e-9, atol=1e-9) for n in snn.outputs)


@pytest.mark.parametrize("activation", [spiking, sloped])
@pytest.mark.parametrize(("seed", "schedule"), alternating(range(3), SCHEDULES), ids=str)
def test_every_frame_is_answered_as_from_a_start(activation, seed: int, schedule: Schedule) -> None:
    snn = double(random_network(seed, activation(*at_once(schedule), seed=seed)))
    # A jump from the lowest level to the highest is twice as far where there is a slope.
    snn = snn.with_ops(
        {n: dataclasses.replace(op, event=2 * op.top) for n, op in snn.ops(Graded).items() if op.slope is not None}
    )
    if not all(neuron.follows_at_once(schedule.timesteps) for neuron in snn.ops(Neuron).values()):
        snn = snn.with_ops({n: Graded(op.threshold, op.slope, event=30) for n, op in snn.ops(Neuron).items()})
    frames = stream()
    for found, frame in zip(followed(snn, schedule, frames), frames, strict=True):
        assert agree(found, snn, schedule, frame)
    found = followed(snn, schedule, frames)
    assert sum(float(sent.sum()) for sent in found[1].events.values()) > 0
    assert not any(sent.any() for sent in found[2].events.values()), "a frame that repeats costs events"
    _, events = restarted(snn, schedule, frames[0])
    assert all(torch.equal(found[0].events[name], sent) for name, sent in events.items())


def test_the_law_can_fail() -> None:
    schedule, frames = Schedule(1), stream()
    whole = double(random_network(1, spiking("graded", seed=1)))
    small = whole.with_ops({n: dataclasses.replace(op, event=2) for n, op in whole.ops(Graded).items()})
    late = [agree(f, small, schedule, x) for f, x in zip(followed(small, schedule, frames), frames, strict=True)]
    assert not all(late), "events that are too small follow all the same"
    for stuck in (Graded(torch.tensor([0.7]), takes_back=False), IntegrateAndFire(torch.tensor([0.7]))):
        claims = type("Claims", (type(stuck),), {"follows": property(lambda neuron: True)})
        with pytest.raises(AssertionError):
            who_follows_counts_what_a_start_would(
                claims(**{f.name: getattr(stuck, f.name) for f in dataclasses.fields(stuck)})
            )


@pytest.mark.parametrize("name", [name for name, one in neuron_instances().items() if one.follows])
def test_who_is_behind_catches_up_while_a_frame_stays(name: str) -> None:
    schedule = Schedule(1, 2)
    net = Network((4, 7, 6))
    net.add(neuron_instances()[name], "x")
    net.add(ops.Affine(normal(4, 1, 1, seed=5), normal(4, 1, 1, seed=6)), name="y")
    snn = double(net.graph())
    frames = normal(2, 3, 4, 7, 6).double() * neuron_instances()[name].levels(1)
    found = followed(snn, schedule, frames.repeat_interleave(20, 0).view(40, 3, 4, 7, 6))
    wanted, _ = restarted(snn, Schedule(1, 60), frames[1])
    torch.testing.assert_close(found[-1].answers["y"], wanted["y"], rtol=1e-9, atol=1e-9)
    assert not any(sent.any() for sent in found[-1].events.values())


@pytest.mark.parametrize("between", [Between(window=3), Between(leak=0.25), Between(window=2, leak=0.5)], ids=str)
def test_windows_and_leaks_are_of_the_input_alone(between: Between) -> None:
    schedule, frames = Schedule(1), stream()
    snn = double(random_network(2, spiking("graded", seed=2)))
    mean = frames[0]
    for number, found in enumerate(followed(snn, schedule, frames, between)):
        window = frames[max(0, number + 1 - between.window) : number + 1].mean(0)
        mean = window if number == 0 else mean + between.leak * (window - mean)
        torch.testing.assert_close(found.seen["x"][0], mean)
        assert agree(found, snn, schedule, mean)


def test_a_refresh_is_a_start() -> None:
    schedule, frames = Schedule(1), stream()
    snn = double(random_network(2, spiking("graded", seed=2)))
    found = followed(snn, schedule, frames, Between(refresh=2))
    for number in (0, 2, 4):
        _, events = restarted(snn, schedule, frames[number])
        assert all(torch.equal(found[number].events[name], sent) for name, sent in events.items())
    assert any(found[2].events[name].any() for name in snn.ops(Neuron)), "the repeated frame is no start"


def test_what_was_followed_stays_as_it_was() -> None:
    schedule, frames = Schedule(2, 1), stream()
    snn = double(random_network(3, spiking("graded", seed=3)))
    first = followed(snn, schedule, frames[:1])[0]
    feeds = Feeds({"x": frames[1]})
    once, again = (follow(snn, schedule, EACH, first, feeds) for _ in range(2))
    assert all(torch.equal(once.answers[name], again.answers[name]) for name in snn.outputs)
    assert all(torch.equal(once.events[name], again.events[name]) for name in once.events)


@pytest.mark.parametrize("name", [name for name, kind in neurons.items() if not kind(torch.tensor([0.7])).follows])
def test_who_cannot_take_back_is_refused(name: str) -> None:
    snn = random_network(1, spiking(name))
    with pytest.raises(UsageError, match="cannot take back") as caught:
        follow(snn, Schedule(2), EACH, None, Feeds({"x": normal(1, 3, 8, 8)}))
    assert "graded" in str(caught.value.hint)


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"leak": 0.0}, {"leak": 1.5}, {"leak": float("nan")}, {"refresh": -1}]
)
def test_what_cannot_be_between_frames_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        Between(**wrong)  # type: ignore[arg-type]
    assert caught.value.place == f"--{next(iter(wrong))}"


def test_a_state_is_of_one_network_and_of_its_streams() -> None:
    snn = random_network(1, spiking("graded"))
    first = follow(snn, Schedule(1), EACH, None, Feeds({"x": normal(2, 3, 8, 8)}))
    with pytest.raises(DataError, match="another number of streams"):
        follow(snn, Schedule(1), EACH, first, Feeds({"x": normal(1, 3, 8, 8)}))
    network = SpikingNetwork(conversion(snn, Schedule(1)))
    state, _ = network.follow(normal(2, 3, 8, 8))
    with pytest.raises(DataError, match="another network, or from before this one was changed"):
        network.double().follow(normal(2, 3, 8, 8).double(), state)


def number_by_number(schedule: Schedule) -> Graph:
    """A network without sums in an order of their own, in which what was not linear is lifted, and biases change."""
    net = Network((4, 7, 6))
    event = 14 if schedule.timesteps > 1 else None
    net.add(ops.Affine(normal(4, 1, 1, seed=2) * 2, normal(4, 1, 1, seed=3) * 0.3), "x")
    net.add(Graded(uniform(0.3, 1, 4, 1, 1, seed=1), top=7), name="first")
    net.add(ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), "first")
    net.add(TemporalBias(normal(3, 4, 1, 1, seed=4) * 0.2))
    net.add(Graded(torch.tensor([0.4]), torch.tensor([0.25]), top=7, event=event), name="second")
    net.add(ops.Affine(normal(4, 1, 1, seed=5), normal(4, 1, 1, seed=6)), name="y")
    return net.graph()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_step_of_onnx_goes_on_from_frame_to_frame(schedule: Schedule) -> None:
    snn = number_by_number(schedule)
    made = conversion(snn, schedule)
    file = OnnxFormat(stream=True).write(made)
    model = onnx.load_from_string(file.data)
    onnx.checker.check_model(model, full_check=True)
    frames = normal(4, 3, 4, 7, 6) * 3
    frames[2] = frames[1]
    session = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    states = [entry for entry in session.get_inputs() if entry.name not in ("x", file.file.timesteps)]
    fed = {one.name: np.zeros([3 if side == "batch" else side for side in one.shape], np.float32) for one in states}
    fed["step"] = np.zeros([], np.int64)
    total: Tensor | float = 0.0
    for frame, wanted in zip(frames, followed(snn, schedule, frames), strict=True):
        for _ in range(schedule.total):
            names = [entry.name for entry in session.get_outputs()]
            found = dict(zip(names, session.run(names, {"x": frame.numpy(), **fed}), strict=True))
            fed = {name: found[f"{name}/next"] for name in fed}
            total = total + torch.from_numpy(found["y"])
        torch.testing.assert_close(total / schedule.timesteps, wanted.answers["y"], rtol=1e-4, atol=1e-4)
    # Verified as any step: the first frame of a stream is a run as any other.
    (engine,) = OnnxFormat(stream=True).engines(file, made)
    match = verify(made, file, engine, in_memory(snn, frames[0]))
    assert match.mismatch == "" and match.variant == "one step of a stream"


def test_onnx_refuses_a_stream_that_cannot_go_on() -> None:
    snn = random_network(1, spiking("if"))
    (refusal,) = OnnxFormat(stream=True).refusals(conversion(snn, Schedule(2)))
    assert "cannot take back" in refusal.message and "graded" in refusal.hint
    graded = random_network(1, spiking("graded"))
    with pytest.raises(UsageError, match="does not stop early"):
        OnnxFormat(step=True, stream=True, exit_early=True).write(conversion(graded, Schedule(1)))
    with pytest.raises(UsageError, match="no rehearsal"):
        OnnxFormat(stream=True).write(conversion(graded, Schedule(1, 0, 2)))


def test_a_module_goes_on_from_frame_to_frame() -> None:
    snn, frames = random_network(2, spiking("graded", seed=2)), stream().float()
    network = SpikingNetwork(conversion(snn, Schedule(1)))
    state = None
    for frame, wanted in zip(frames, followed(snn, Schedule(1), frames, Between(window=2)), strict=True):
        state, answer = network.follow(frame, state, Between(window=2))
        found = answer if isinstance(answer, tuple) else (answer,)
        assert all(torch.equal(one, wanted.answers[name]) for one, name in zip(found, snn.outputs, strict=True))
        assert all(torch.equal(state.events[name], sent) for name, sent in wanted.events.items())
