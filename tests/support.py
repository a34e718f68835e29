"""Small networks, one instance of every operation, and images to calibrate on."""

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from snnc import ops
from snnc.conversion import Origin, Provenance
from snnc.feeds import Feeds, Signals
from snnc.figure import Energy, Row
from snnc.ir import Graph, Input, Op
from snnc.ir import operations as registered
from snnc.laws.networks import Network, calibration, feeding, in_memory, random_network, relu
from snnc.laws.neurons import instances
from snnc.laws.samples import normal, uniform
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.base import Timed
from snnc.neurons.temporal_bias import TemporalBias
from snnc.run import ONCE, Observer, Program
from snnc.schedule import Schedule

# What laws are tried on, for all tests.
__all__ = ["Network", "calibration", "feeding", "in_memory", "normal", "random_network", "relu", "uniform"]

First, Second = TypeVar("First"), TypeVar("Second")

# On networks this small, threads that wait for one another cost more than they bring.
torch.set_num_threads(1)


def run(
    graph: Graph,
    given: Mapping[str, Tensor],
    want: Iterable[str] = (),
    schedule: Schedule = ONCE,
    *,
    trains: bool = False,
    observe: Observer | None = None,
    generator: torch.Generator | None = None,
) -> Signals:
    """Signals of some nodes, given those of others."""
    still = Feeds({name: given[name][0] for name in graph.inputs if name in given and len(given[name]) == 1})
    others = {name: signal for name, signal in given.items() if name not in still}
    program = Program(graph, schedule, want=want, given=others, trains=trains)
    return program(still, given=others, observe=observe, generator=generator)


def stream(
    graph: Graph, batches: Iterable[Tensor], want: Iterable[str] = (), schedule: Schedule = ONCE, **options: Any
) -> Iterator[Signals]:
    """Signals of some nodes for batches of images."""
    return Program(graph, schedule, want=want).stream(fed(graph, batches), **options)


def fed(graph: Graph, batches: Iterable[Tensor]) -> Iterator[Feeds]:
    """Batches of images for the one input of a network."""
    return (feeding(graph, batch) for batch in batches)


PROVENANCE = Provenance(Origin("model.onnx", "0" * 64), {}, None, {})


def spiking(*kinds: str, seed: int = 0) -> Callable[[Network, str], str]:
    """An activation for ``random_network``: neurons of these kinds in turn, thresholds per channel or per layer."""
    choose = random.Random(seed)

    def add(net: Network, value: str) -> str:
        shape = net.shapes[value]
        threshold = 0.3 + net.random(*(shape[0], *(1 for _ in shape[1:]))).abs()
        if choose.random() < 0.3:
            threshold = threshold.mean()
        return net.add(neurons[choose.choice(kinds)](threshold), value)

    return add


IMAGE = (4, 7, 6)
POOL = ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))


def exact(neuron: Neuron, *, order_asked: bool = False) -> Graph:
    """A network in which all is done number by number, so that no sum is made in an order of its own.

    The neuron reads spikes that come unevenly; where the order of its own is asked for, others read them.
    """
    net = Network(IMAGE)
    first = net.add(neurons["if"](uniform(0.3, 1, 4, 1, 1, seed=1)), "x", name="before")
    scaled = net.add(ops.Affine(normal(4, 1, 1, seed=2) * 2, normal(4, 1, 1, seed=3) * 0.3), first)
    biased = net.add(TemporalBias(normal(3, 4, 1, 1, seed=4) * 0.2), scaled)
    net.add(neuron, biased, name="asked")
    net.add(POOL, "asked")
    if order_asked:
        net.add(neurons["if"](torch.tensor(0.8)), name="after")
    net.add(ops.Affine(normal(4, 1, 1, seed=5), normal(4, 1, 1, seed=6)), name="y")
    return net.graph()


def sloped(*kinds: str, seed: int) -> Callable[[Network, str], str]:
    """Neurons in the place of LeakyReLUs, each behind a bias that changes from step to step."""
    plain = spiking(*kinds, seed=seed)

    def add(net: Network, value: str) -> str:
        shape = (net.shapes[value][0], *(1 for _ in net.shapes[value][1:]))
        value = net.add(TemporalBias(net.random(3, *shape) * 0.1), value)
        name = plain(net, value)
        neuron = net.nodes[-1].op
        assert isinstance(neuron, Neuron)
        slope = uniform(0.05, 0.4, *shape) if neuron.signed else None
        net.nodes[-1] = dataclasses.replace(net.nodes[-1], op=dataclasses.replace(neuron, slope=slope))
        return name

    return add


def stepped(neuron: CausalNeuron, currents: Tensor, schedule: Schedule) -> Tensor:
    """The response, by ``step`` alone, to a current for every step of the schedule."""
    state = neuron.initial(currents[0])
    train = []
    for t, x in enumerate(currents):
        if t == schedule.rehearsal > 0:
            state = neuron.rehearsed(state, x)
        state, value = neuron.step(state, x, t < schedule.lit)
        train.append(value)
    assert len(train) == schedule.total
    return torch.stack(train)


@contextmanager
def naming(member: object) -> Iterator[None]:
    """Say which of many a law was asked of where it is broken: a test for each takes longer than to ask."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"asked of {member}")
        raise


def alternating(rows: Iterable[First], columns: Iterable[Second]) -> list[tuple[First, Second]]:
    """Every second pair, as on a chessboard: each row has some of the columns, and each column some of the rows."""
    listed = list(columns)
    pairs = ((row, column, i + j) for i, row in enumerate(rows) for j, column in enumerate(listed))
    return [(row, column) for row, column, color in pairs if color % 2 == 0]


def double(graph: Graph) -> Graph:
    return graph.map_tensors(lambda tensor: tensor.double())


def outputs(graph: Graph, x: Tensor, timesteps: int = 1) -> list[Tensor]:
    """The mean outputs for images."""
    found = run(graph, {graph.inputs[0]: x.unsqueeze(0)}, graph.outputs, Schedule(timesteps))
    return [found[name].mean(0) for name in graph.outputs]


# Both are asked for by every case of hundreds of laws, and take longer to make than most laws to be tried.
@cache
def operations() -> Mapping[str, tuple[Op, tuple[tuple[int, ...], ...]]]:
    """One instance of every stateless operation that takes inputs, with the shapes of one sample of its inputs."""
    image, line, volume = IMAGE, (4, 9), (2, 5, 4, 6)
    kernel = normal(6, 2, 3, 2, seed=1)
    slope = uniform(0.05, 0.4, 4, 1, 1)
    table: dict[str, tuple[Op, tuple[tuple[int, ...], ...]]] = {
        "Conv": (ops.Conv(kernel, normal(6), (2, 1), (1, 0, 0, 1), (1, 2), 2), (image,)),
        "Conv 1d": (ops.Conv(normal(3, 4, 3), None, (1,), (1, 1), (1,)), (line,)),
        "ConvTranspose": (
            ops.ConvTranspose(normal(4, 3, 3, 3), normal(6), (2, 2), (1, 0, 0, 1), (1, 1), (1, 1), 2),
            (image,),
        ),
        "Conv 3d": (ops.Conv(normal(3, 2, 2, 3, 2), normal(3), (1, 2, 1), (1, 0, 0, 0, 1, 1), (1, 1, 2)), (volume,)),
        "Conv windows": (ops.Conv(kernel, normal(6), (2, 1), (1, 0, 0, 1), (1, 2), 2), ((3, *image),)),
        "ConvTranspose 3d": (
            ops.ConvTranspose(normal(2, 3, 2, 3, 2), normal(3), (1, 2, 1), (1, 0, 0, 0, 1, 1), (0, 1, 0), (1, 1, 1)),
            (volume,),
        ),
        "ConvTranspose windows": (ops.ConvTranspose(normal(4, 3, 2), None, (2,), (1, 0), (1,), (2,), 2), ((3, *line),)),
        "Linear": (ops.Linear(normal(5, 6), normal(5)), (image,)),
        "BatchNorm": (
            ops.BatchNorm(normal(4), normal(4, seed=1), normal(4, seed=2), uniform(0.5, 2, 4), 1e-5),
            (image,),
        ),
        "BatchNorm windows": (
            ops.BatchNorm(normal(4), normal(4, seed=1), normal(4, seed=2), uniform(0.5, 2, 4), 1e-5, 2),
            ((3, *image),),
        ),
        "Affine": (ops.Affine(normal(4, 1, 1), normal(6)), (image,)),
        "Affine scale": (ops.Affine(normal(1), None), (line,)),
        "Add": (ops.Add(), (image, image, image)),
        "Concat": (ops.Concat(1), (image, (2, 7, 6))),
        "Slice": (ops.Slice(2, 1, 6, 2), (image,)),
        "Take": (ops.Take(1, (3, 0, 0, 2)), (image,)),
        "Pad": (ops.Pad((0, 1, 0, 0, 0, 2), 0.25), (image,)),
        "Reshape": (ops.Reshape((8, 21)), (image,)),
        "Transpose": (ops.Transpose((0, 3, 1, 2)), (image,)),
        "Mean": (ops.Mean((2, 3), keep=False), (image,)),
        "AveragePool": (ops.AveragePool((3, 2), (2, 2), (1, 0, 0, 1), (0, 0, 1, 0)), (image,)),
        "AveragePool 3d": (ops.AveragePool((2, 2, 2), (1, 2, 1), (0,) * 6, (0, 1, 0, 0, 0, 1)), (volume,)),
        "AveragePool windows": (ops.AveragePool((3, 2), (2, 2), (1, 0, 0, 1), (0,) * 4), ((3, *image),)),
        "MaxPool": (ops.MaxPool((3, 3), (2, 1), (1, 0, 1, 2), (1, 1)), (image,)),
        "MaxPool 1d": (ops.MaxPool((3,), (1,), (1, 1), (2,)), (line,)),
        "MaxPool 3d": (ops.MaxPool((2, 2, 1), (1, 2, 1), (0, 1, 0, 1, 0, 0), (2, 1, 1)), (volume,)),
        "MaxPool windows": (ops.MaxPool((3, 3), (2, 1), (1, 0, 1, 2), (1, 1)), ((3, *image),)),
        "Relu": (ops.Relu(), (image,)),
        "LeakyRelu": (ops.LeakyRelu(slope), (image,)),
        "ClippedRelu": (ops.ClippedRelu(uniform(0.3, 1, 4, 1, 1)), (image,)),
        "ClippedRelu infinite": (ops.ClippedRelu(torch.tensor(torch.inf)), (image,)),
        "ClippedRelu slope": (ops.ClippedRelu(torch.tensor(0.8), slope), (image,)),
        "QuantizedRelu": (ops.QuantizedRelu(uniform(0.3, 2, 4, 1, 1), 5), (image,)),
        **_functions(),
        "ClippedCoding": (ops.ClippedCoding(uniform(0.3, 1, 4, 1, 1), uniform(0.3, 3, 4, 1, 1, seed=1)), (image,)),
        "ClippedCoding infinite": (ops.ClippedCoding(torch.tensor(torch.inf)), (image,)),
        "Coding": (ops.Coding(uniform(0.3, 2, 4, 1, 1), 3, uniform(0.3, 3, 4, 1, 1, seed=1)), (image,)),
        "QuantizedRelu slope": (ops.QuantizedRelu(uniform(0.3, 2, 4, 1, 1), 3, slope), (image,)),
    }
    covered = {type(op) for op, _ in table.values()} | {Input}
    stateless = {kind for kind in registered.values() if not issubclass(kind, Timed)}
    assert covered == stateless, f"the table lacks {stateless - covered}"
    return MappingProxyType(table)


def _functions() -> dict[str, tuple[Op, tuple[tuple[int, ...], ...]]]:
    """One instance of everything that is neither affine nor a place for neurons, and of weighted sums of constants."""
    image = IMAGE
    return {
        "Embedding": (ops.Embedding(normal(40, 3)), ((5,),)),
        "ArgMax": (ops.ArgMax((2,), keep=False), (image,)),
        "Gathered": (ops.Gathered(2), (image, (4, 3, 6))),
        "Ranked": (ops.Ranked(2, 3), (image,)),
        "RankedPlaces": (ops.RankedPlaces(2, 3), (image,)),
        "EuclideanNorm": (ops.EuclideanNorm((1, 3), keep=False), (image,)),
        "LocalResponseNorm": (ops.LocalResponseNorm(3, 0.5, 0.75, 2.0), (image,)),
        "LogSoftmax": (ops.LogSoftmax(2), (image,)),
        "LogSumExp": (ops.LogSumExp((2,)), (image,)),
        "MatMul": (ops.MatMul(), ((2, 5, 5), (2, 5, 5))),
        "Product": (ops.Product(), (image, (4, 1, 6))),
        "RootMeanSquareNorm": (ops.RootMeanSquareNorm((3,), 1e-2), (image,)),
        "RootMeanSquareNorm floor": (ops.RootMeanSquareNorm((2, 3), 0.0, 0.5), (image,)),
        "RootMeanSquareNorm plain": (ops.RootMeanSquareNorm((1,), 0.0), (image,)),
        "TotalProduct": (ops.TotalProduct((2, 3)), (image,)),
        "GridSample": (ops.GridSample("linear", "border", corners=False), (image, (5, 3, 2))),
        "GridSample cubic": (ops.GridSample("cubic", "reflection", corners=True), (image, (5, 3, 2))),
        "GridSample windows": (ops.GridSample("linear", "zeros", corners=True), ((3, *image), (3, 5, 3, 2))),
        "Resample": (ops.Resample(2, torch.tensor([[0.0, 1.0], [6.0, 2.0], [3.0, 4.0]]), normal(3, 2)), (image,)),
        "Resample many": (
            ops.Resample(2, torch.arange(60).remainder(20).view(3, 20).float(), normal(3, 20)),
            ((4, 20),),
        ),
        **{kind.__name__: (kind(), (image,)) for kind in registered.values() if issubclass(kind, ops.Function)},
        "Silu": (ops.Silu(), (image,)),
        "Silu steep": (ops.Silu(1.702), (image,)),
        "Gelu": (ops.Gelu(), (image,)),
        "Gelu approximate": (ops.Gelu(approximate=True), (image,)),
        "Elu": (ops.Elu(0.7), (image,)),
        "Shrink": (ops.Shrink(0.4, 0.1), (image,)),
        "ThresholdedRelu": (ops.ThresholdedRelu(0.4), (image,)),
        "Power": (ops.Power(torch.tensor(3.0)), (image,)),
        "Power root": (ops.Power(uniform(-1, 2, 4, 1, 1)), (image,)),
        "Remainder": (ops.Remainder(uniform(0.3, 1, 4, 1, 1), floored=False), (image,)),
        "Remainder floored": (ops.Remainder(torch.tensor(0.8), floored=True), (image,)),
        "Truncate": (ops.Truncate(), (image,)),
        "Quotient": (ops.Quotient(), (image, (4, 1, 6))),
        "Exponentiation": (ops.Exponentiation(), (image, (4, 1, 6))),
        "Greater": (ops.Greater(), (image, (4, 1, 6))),
        "Where": (ops.Where(), (image, (4, 1, 6), image)),
        "Softmax": (ops.Softmax(2), (image,)),
    }


@cache
def neuron_instances() -> Mapping[str, Neuron]:
    """Every registered neuron, with thresholds per layer and per channel of [4, 7, 6], and a slope where it has one.

    One of each starts at another potential than usual.
    """
    assert neurons
    return MappingProxyType(
        {f"{name} {case}": one for name, kind in neurons.items() for case, one in instances(kind).items()}
    )


def energy(spent: float = 0.0, reference: float = 100.0) -> Energy:
    """The energy of one inference of which only the arithmetic is looked at."""
    ratio = spent / reference
    return Energy(accumulations=spent, reference=reference, ratio=ratio, arithmetic_ratio=ratio)


def row(timesteps: int = 4, **values: object) -> Row:
    """One line of an evaluation of which only ``values`` are looked at."""
    blank = {**dict.fromkeys(field.name for field in dataclasses.fields(Row)), "scores": {}}
    return Row(**{**blank, "timesteps": timesteps, "spikes": 0.0, "energy": energy(), **values})  # type: ignore[arg-type]
