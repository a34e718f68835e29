"""What goes into a network, and what frames show over time."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from snnc import recipe
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph, Input, Node
from snnc.laws.networks import random_network, relu
from snnc.neurons import CausalNeuron, neurons
from snnc.ops import Add, Conv, Linear, Relu, Reshape
from snnc.pipeline import apply_recipe
from snnc.run import Program
from snnc.schedule import Schedule
from tests.support import alternating, normal

SCHEDULES = (Schedule(4), Schedule(4, sleep=2), Schedule(4, rehearsal=3), Schedule(6, 1, 2))


def two_inputs(kind: str | None) -> Graph:
    """A network of an image and a vector, added behind weights."""
    weight = normal(3, 2, 3, 3, seed=1), normal(3, 5, seed=2)
    nodes = [
        Node("image", Input((2, 1, 1)), ()),
        Node("vector", Input((5,)), ()),
        Node("conv", Conv(weight[0], None, (1, 1), (1, 1, 1, 1), (1, 1)), ("image",)),
        Node("linear", Linear(weight[1], None), ("vector",)),
        Node("flat", Reshape((3,)), ("conv",)),
        Node("sum", Add(), ("flat", "linear")),
        Node("neuron", Relu() if kind is None else neurons[kind](torch.tensor(1.5)), ("sum",)),
        Node("out", Linear(normal(4, 3, seed=3), normal(4, seed=4)), ("neuron",)),
    ]
    return Graph.of(nodes, ["out"])


def samples(count: int = 4) -> dict[str, Tensor]:
    return {"image": normal(count, 2, 1, 1, seed=5), "vector": normal(count, 5, seed=6)}


@pytest.mark.parametrize("kind", [None, *neurons])
def test_networks_of_several_inputs_run(kind: str | None) -> None:
    graph, fed = two_inputs(kind), samples()
    schedule = Schedule(1 if kind is None else 5)
    found = Program(graph, schedule)(Feeds(fed))["out"][0]
    merged = graph.op("conv")(fed["image"]).flatten(1) + graph.op("linear")(fed["vector"])
    alone = Graph.of(
        [
            Node("x", Input((3,)), ()),
            Node("neuron", graph.op("neuron"), ("x",)),
            Node("out", graph.op("out"), ("neuron",)),
        ],
        ["out"],
    )
    torch.testing.assert_close(found, Program(alone, schedule)(Feeds({"x": merged}))["out"][0])
    streamed = Program(graph, schedule).stream(Feeds(fed).split(3))
    torch.testing.assert_close(torch.cat([part["out"][0] for part in streamed]), found)


def test_an_input_that_is_not_fed_is_named() -> None:
    with pytest.raises(ValueError, match="'vector'"):
        Program(two_inputs(None))(Feeds({"image": samples()["image"]}))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", neurons)
def test_frames_that_do_not_change_are_a_still_input(kind: str, schedule: Schedule) -> None:
    graph, still = two_inputs(kind), samples()
    if not issubclass(neurons[kind], CausalNeuron):
        schedule = Schedule(schedule.timesteps)
    frames = Feeds({name: tensor.expand(4, *tensor.shape) for name, tensor in still.items()}, still)
    mixed = Feeds({"image": still["image"], "vector": frames["vector"]}, ["vector"])
    results = [
        Program(graph, schedule, trains=trains)(feeds)["out"]
        for trains in (False, True)
        for feeds in (Feeds(still), frames, mixed)
    ]
    for one, other in ((0, 1), (0, 2), (3, 4), (3, 5)):
        torch.testing.assert_close(*torch.broadcast_tensors(results[one], results[other]))


def test_frame_t_is_the_current_at_step_t() -> None:
    frames = torch.arange(3.0).view(3, 1, 1)
    feeds = Feeds({"x": frames}, ["x"])

    def shown(**options: object) -> list[float]:
        (signal,) = feeds.signals(Schedule(**options)).values()  # type: ignore[arg-type]
        return signal.flatten().tolist()

    assert shown(timesteps=3) == [0, 1, 2]
    assert shown(timesteps=7) == [0, 1, 2, 0, 1, 2, 0]
    assert shown(timesteps=7, frames="spread") == [0, 0, 0, 1, 1, 2, 2]
    assert shown(timesteps=7, frames="hold") == [0, 1, 2, 2, 2, 2, 2]
    assert shown(timesteps=3, sleep=2, rehearsal=2) == [0, 1.5, 0, 1, 2, 0, 0]
    # Fewer steps than frames lose none of them.
    assert shown(timesteps=1) == [1]
    assert shown(timesteps=2) == [0, 1.5]


def test_the_order_of_frames_matters_to_neurons_that_fire_while_they_gather_only() -> None:
    frames = normal(4, 3, 2, 1, 1, seed=7) * 3
    vector = samples(3)["vector"]
    schedule = Schedule(4)
    for kind in ("if", "two-phase"):
        program = Program(two_inputs(kind), schedule, trains=True)
        forward, backward = (
            program(Feeds({"image": order, "vector": vector}, ["image"]))["out"] for order in (frames, frames.flip(0))
        )
        assert torch.allclose(forward, backward, atol=1e-5) == (kind == "two-phase")


def over_time(*, apart: bool) -> Feeds:
    return Feeds({"image": normal(4, 3, 2, 1, 1, seed=7) * 3, "vector": samples(3)["vector"]}, ["image"], apart=apart)


def test_a_trained_network_sees_each_frame_or_their_mean() -> None:
    graph = two_inputs(None)
    program, trains = Program(graph), Program(graph, trains=True)
    image, vector = over_time(apart=True).values()
    each = torch.stack([program(Feeds({"image": frame, "vector": vector}))["out"] for frame in image]).mean(0)
    mean = program(Feeds({"image": image.mean(0), "vector": vector}))["out"]
    assert not torch.allclose(each, mean, atol=0.1)
    for made in (program, trains):
        torch.testing.assert_close(made(over_time(apart=True))["out"], each)
        torch.testing.assert_close(made(over_time(apart=False))["out"], mean)
    chunks = rechunk(over_time(apart=True).split(2), 1)
    torch.testing.assert_close(torch.cat([program(chunk)["out"] for chunk in chunks], 1), each)


@pytest.mark.parametrize("kind", neurons)
def test_a_spiking_network_sees_frame_after_frame_whatever_the_trained_one_does(kind: str) -> None:
    program = Program(two_inputs(kind), Schedule(4))
    assert torch.equal(*(program(over_time(apart=apart))["out"] for apart in (True, False)))


def test_before_there_are_neurons_samples_are_still() -> None:
    image, vector = over_time(apart=True).values()
    for apart, frames in ((True, image.transpose(0, 1).flatten(0, 1)), (False, image.mean(0))):
        for size in (1, 2, 3):
            still = MemorySamples(over_time(apart=apart), size).still()
            batches = list(still.batches())
            assert not any(feeds.over_time for feeds in batches)
            assert torch.equal(torch.cat([feeds["image"] for feeds in batches]), frames)
            repeated = vector.repeat_interleave(len(frames) // 3, 0)
            assert torch.equal(torch.cat([feeds["vector"] for feeds in batches]), repeated)
            assert len(still) == len(frames) and still.still() is still
    few = MemorySamples(over_time(apart=True)).still().thinned(9)
    assert len(few) == 8 == sum(feeds.samples for feeds in few.batches())
    plain = MemorySamples(Feeds(samples()))
    assert plain.still() is plain


# In turns: all passes see frames one by one or summed as still images, whose calibration is the same below.
@pytest.mark.parametrize(("name", "apart"), alternating(recipe.shipped(), [True, False]))
def test_every_recipe_calibrates_on_frames(name: str, apart: bool) -> None:
    """As on what the trained network sees of them, up to the first pass that runs neurons."""
    graph = random_network(1, relu)
    steps = recipe.load(name, timesteps=3)
    short = {"distill": {"steps": 2}, "reconstruct-units": {"steps": 2}}
    plain = [
        {step: {**options, **short.get(step, {})}}
        for entry in steps.plain()["passes"]
        for step, options in entry.items()
    ]
    frames = MemorySamples(Feeds({"x": normal(4, 12, 3, 8, 8)}, ["x"], apart=apart), 5)
    spiking = next(index for index, entry in enumerate(plain) if "substitute-neurons" in entry)
    for passes in (plain, plain[: spiking + 1]):
        made = recipe.from_plain({**steps.plain(), "passes": passes})
        found = apply_recipe(graph, made, frames).snn
        assert all(tensor.isfinite().all() for node in found.nodes.values() for tensor in node.op.tensors().values())
    alike = apply_recipe(graph, made, frames.still()).snn
    for name, node in found.nodes.items():
        for field, tensor in node.op.tensors().items():
            assert torch.equal(tensor, alike.op(name).tensors()[field]), (name, field)


def test_integers_stay_integers() -> None:
    feeds = Feeds({"ids": torch.tensor([[3, 1]])})
    assert feeds["ids"].dtype == torch.int64
    assert feeds.to(torch.float64)["ids"].dtype == torch.int64
    assert Feeds({"x": torch.ones(1, 2)}).to(torch.float64)["x"].dtype == torch.float64


def test_inputs_have_the_same_number_of_samples() -> None:
    with pytest.raises(ValueError, match="different numbers of samples"):
        Feeds({"a": torch.ones(2, 3), "b": torch.ones(3, 3)})
    with pytest.raises(ValueError, match="no input is called 'c'"):
        Feeds({"a": torch.ones(2, 3)}, ["c"])
    assert Feeds({"a": torch.ones(2, 3), "b": torch.ones(5, 2, 3)}, ["b"]).samples == 2


def test_rechunking_cuts_all_inputs_alike() -> None:
    whole = Feeds({"still": torch.arange(7.0).view(7, 1), "frames": torch.arange(14.0).view(2, 7, 1)}, ["frames"])
    for sizes in ((7,), (2, 5), (1, 0, 6), (3, 3, 1)):
        edges = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
        parts = (whole.part(low, high) for low, high in pairwise(edges))
        chunks = list(rechunk(parts, 3))
        assert [chunk.samples for chunk in chunks] == [3, 3, 1]
        assert torch.equal(torch.cat([chunk["still"] for chunk in chunks]), whole["still"])
        assert torch.equal(torch.cat([chunk["frames"] for chunk in chunks], 1), whole["frames"])
        assert all(chunk.over_time == {"frames"} for chunk in chunks)
