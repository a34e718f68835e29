"""A spiking network as a ``torch.nn.Module``: whole trains, or one time step at a time, on any device."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Generator, Tensor

from snnc.artifact import load_conversion
from snnc.conversion import Conversion
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, ModelError, UsageError
from snnc.feeds import Feeds, Signals, laid_out
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import kind_of, mean_signal, retimed, stretched
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Linear,
    MaxPool,
    Mean,
    Nonlinear,
    Relu,
    Resample,
    Routing,
    Sigmoid,
)
from snnc.rules import Rules
from snnc.run import Program, steps
from snnc.run.frames import Between, Followed, follow
from snnc.schedule import Schedule, check_steps

# One tensor, or one for each output of a network that has several.
Answer = Tensor | tuple[Tensor, ...]
# One tensor, or one for each input of a network that has several, by name.
Samples = Tensor | Mapping[str, Tensor]

_EACH = Between()


def load(path: str | Path) -> "SpikingNetwork":
    """Read ``model.snn`` as a module, on the CPU.

    Raises DataError where there is no such file, ModelError that names what is wrong with it.
    """
    return SpikingNetwork(load_conversion(path))


@final
@dataclass(frozen=True, eq=False)
class Response:
    """What a network does over time for images ``[N, ...]``.

    ``output`` is the mean of the output over time, ``[N, ...]``, which is the network's answer; ``signal`` is the
    output at every step, ``[steps, N, ...]``; both are tuples where there are several outputs. ``spikes`` holds, by
    the name of the layer, the signed number of spikes of every neuron at every step, ``[steps, N, ...]``, as far as
    its output tells (not with a slope of 0 or -1: see ``snnc.neurons.Neuron.fired``). Steps are those of rehearsal,
    then those awake, then those asleep; the first do not count in the mean. Where neurons gather their input first,
    the steps of a layer begin when the layer before has ended.
    """

    output: Answer
    signal: Answer
    spikes: Mapping[str, Tensor]


@final
@dataclass(frozen=True, eq=False)
class NetworkState:
    """A run of some samples that has come to some step. No step writes to it: the next one makes another.

    ``spikes`` holds, by the name of the layer, the signed number of spikes of every neuron at the last step,
    ``[N, ...]``, as far as its output tells (see ``Response``), and ``counts`` the sums of these and of what neurons
    rest at (a rehearsal is not counted in, once it has ended). ``graph`` is what the run was begun with, and goes on
    with; what it is shown counts ``weight`` times.
    """

    graph: Graph
    schedule: Schedule
    samples: int
    memory: steps.State
    spikes: Mapping[str, Tensor]
    counts: Mapping[str, Tensor]
    weight: int = 1

    @property
    def taken(self) -> int:
        """How many steps have been taken, of ``schedule.total``."""
        return self.memory.taken


class NodeModule(torch.nn.Module):
    """One node of a network, for hooks to see: it is called with what the node takes in, and returns what it puts out.

    That is values ``[N, ...]`` in ``SpikingNetwork.step``, else signals ``[steps, N, ...]``, or ``[1, N, ...]`` where
    every step is the same or, in a call, only the mean is asked for. The fields of its operation are its attributes,
    as they were when it was last run; called by itself it computes the operation.
    """

    def __init__(self, op: Op) -> None:
        torch.nn.Module.__init__(self)
        self.op = op
        self.bind(op)

    def bind(self, op: Op) -> None:
        """Take the operation that is being run."""
        self.op = op
        for name, value in _fields(op).items():
            setattr(self, name, value)

    def forward(self, *inputs: Tensor, compute: Callable[..., Tensor] | None = None) -> Tensor:
        """Return what the node puts out, which ``compute`` works out in a run."""
        return (compute or self.op)(*inputs)

    def extra_repr(self) -> str:
        """Return what ``print`` says of the node: the fields of its operation, and the shapes of its tensors."""
        said = {name: [*v.shape] if isinstance(v, Tensor) else v for name, v in _fields(self.op).items()}
        return ", ".join([type(self.op).__name__, *(f"{name}={value}" for name, value in said.items())])


def _fields(op: Op) -> dict[str, Any]:
    return {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}  # type: ignore[arg-type]


@final
class NeuronModule(NodeModule):
    """A layer of neurons: currents in, spikes times their values out."""


@final
class _LinearModule(NodeModule, torch.nn.Linear):
    """What looks for layers of torch finds them."""

    def __init__(self, op: Linear) -> None:
        NodeModule.__init__(self, op)
        self.out_features, self.in_features = op.weight.shape


class _ConvModule(NodeModule):
    def __init__(self, op: Conv) -> None:
        NodeModule.__init__(self, op)
        self.out_channels, within, *window = op.weight.shape
        self.in_channels, self.kernel_size = within * op.groups, tuple(window)


@final
class _Conv1dModule(_ConvModule, torch.nn.Conv1d):
    pass


@final
class _Conv2dModule(_ConvModule, torch.nn.Conv2d):
    pass


@final
class _Conv3dModule(_ConvModule, torch.nn.Conv3d):
    pass


@final
class _ReluModule(NodeModule, torch.nn.ReLU):
    pass


@final
class _SigmoidModule(NodeModule, torch.nn.Sigmoid):
    pass


# rule(op): the module that shows a node to hooks.
shown = Rules[Op, NodeModule]("what module shows it to hooks")

shown.register(Linear)(_LinearModule)
shown.register(Neuron)(NeuronModule)
shown.register(Relu)(_ReluModule)
shown.register(Sigmoid)(_SigmoidModule)
shown.register(
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    ConvTranspose,
    Input,
    MaxPool,
    Mean,
    Nonlinear,
    Resample,
    Routing,
    TemporalBias,
)(NodeModule)


@shown.register(Conv)
def _convolution(op: Conv) -> NodeModule:
    return (_Conv1dModule, _Conv2dModule, _Conv3dModule)[op.weight.ndim - 3](op)


@final
class SpikingNetwork(torch.nn.Module):
    """A spiking network that was converted from a trained one; ``snnc.load`` reads one from its file.

        network = snnc.load("model.snn").to("cuda")
        answer = network(images)

    Images are float tensors ``[N, *input_shape]``, preprocessed as ``preprocessing`` says (``snnc.open_dataset`` does
    that), of the precision and on the device of the network. All of them run at once: memory is the limit. A GPU was
    not measured; that it fires the spikes of the CPU takes ``torch.backends.cudnn.allow_tf32 = False``, because
    torch rounds the inputs of convolutions there unless told otherwise.

    ``layers`` are the names of the layers of neurons, ``schedule`` says how many steps the network was made for,
    and ``conversion`` is what it came from: graphs, findings, provenance. The tensors of the graph are buffers,
    copies of those in ``conversion``, named ``NODE:FIELD`` (one that several nodes share, after the first), so that
    ``to``, ``double`` and ``state_dict`` work; what they are changed to does not reach ``conversion``. Where they
    hold what no network can run with (thresholds that half precision rounds to 0), every use raises ModelError
    until they hold something better.

    Every node but the inputs is a child, called as the node is (with underscores behind where a module has something
    of that name), so that forward hooks see layers: ``NodeModule`` says what. Linear layers and convolutions are those
    of torch, layers of neurons are ``NeuronModule``. Children hold no tensors of their own.

    There are no parameters and no gradients: to train, see ``snnc finetune``. To send a network, send ``model.snn``:
    what ``torch.save`` makes of the module holds the whole conversion, and is read with ``weights_only=False`` only.
    """

    def __init__(self, conversion: Conversion) -> None:
        super().__init__()
        snn = conversion.snn
        self.conversion = conversion
        self.schedule: Schedule = conversion.schedule
        self.preprocessing: Preprocessing = conversion.preprocessing
        self.layers = tuple(snn.ops(Neuron))
        self.input_shapes = snn.input_shapes
        self._whole = frozenset(name for name, op in snn.ops(Input).items() if op.numbers != "real")
        for (name, field), kept in snn.tensor_names.items():
            if kept == f"{name}:{field}":
                self.register_buffer(kept, laid_out(snn.op(name).tensors()[field]).clone())
        # What a node's child is called.
        self._children: dict[str, str] = {}
        for name, node in snn.nodes.items():
            if not isinstance(node.op, Input):
                self._children[name] = self._free(name)
                self.add_module(self._children[name], shown(node.op))
        self._built: tuple[dict[str, Tensor], dict[str, int], Graph] = ({}, {}, snn)

    @torch.no_grad()
    def forward(self, images: Samples, timesteps: int | None = None, generator: Generator | None = None) -> Answer:
        """Return the mean of the output over time, ``[N, ...]``; a tuple where the network has several outputs.

        ``timesteps`` are the schedule's unless given. What neurons draw at random is drawn from ``generator``, on the
        CPU; without one every call draws the same. Raises DataError where the images do not fit the network,
        UsageError for steps that cannot be run.
        """
        schedule = self._schedule(timesteps)
        graph = retimed(self._graph, self.schedule, schedule)
        program = Program(graph, schedule)
        found = program(self._feeds(images), generator=_checked(generator), through=self._through)
        return _answer([found[name][0] for name in graph.outputs])

    @torch.no_grad()
    def respond(self, images: Samples, timesteps: int | None = None, generator: Generator | None = None) -> Response:
        """Return the output and the spikes of every neuron at every step; arguments and errors are those of a call.

        The mean output is that of a call up to rounding, which can tip a spike (in double precision, hardly ever).
        """
        schedule = self._schedule(timesteps)
        graph = retimed(self._graph, self.schedule, schedule)
        neurons = graph.ops(Neuron)
        spikes: dict[str, Tensor] = {}

        def observe(name: str, response: Tensor) -> None:
            spikes[name] = neurons[name].fired(response, schedule)

        program = Program(graph, schedule, trains=True)
        found = program(self._feeds(images), observe=observe, generator=_checked(generator), through=self._through)
        trains = [found[name] for name in graph.outputs]
        means = [mean_signal(train, schedule)[0] for train in trains]
        # A constant signal is one step that is shown many times, and the mean of one step is that step.
        return Response(_answer(means), _answer([stretched(train, schedule).clone() for train in trains]), spikes)

    def frames(self, images: Samples, timesteps: int | None = None) -> Iterator[Samples]:
        """Yield what a call with these samples shows at every step: still images, or one frame of each after another.

            state = network.start(first)
            for frame in network.frames(feeds):
                state, output = network.step(state, frame)

        Of frames over time, ``snnc.feeds.Feeds({"x": frames}, ["x"])`` with frames ``[S, N, ...]``, frame t is shown at
        step t; more steps repeat, spread or hold them, as the schedule says, and fewer show means of them. So a run of
        single steps fires what a call fires. Errors are those of a call.
        """
        schedule, feeds = self._schedule(timesteps), self._feeds(images)
        signals = feeds.signals(schedule)
        for at in range(schedule.total):
            step = {name: signal[at if len(signal) > 1 else 0] for name, signal in signals.items()}
            yield step if isinstance(images, Mapping) else next(iter(step.values()))

    @torch.no_grad()
    def start(self, images: Samples, timesteps: int | None = None, *, parts: bool = False) -> NetworkState:
        """Return the state before the first step, for as many images.

        What is shown at a step is a picture, such as the trained network could be shown: where frames hold counts of
        events, it has as many as a frame that the network was trained on. Events that were only sorted into steps are
        ``parts`` of one picture instead, which they add up to over ``timesteps``: each counts so many times then, and
        the mean over the steps is the picture. Raises UsageError for parts where steps carry shares of the image.

        Raises ModelError where a neuron gathers its whole input before it fires (recipes that are not synchronous),
        otherwise the errors of a call.
        """
        graph, schedule = self._graph, self._schedule(timesteps)
        if parts and schedule.shares:
            hint = "leave out parts: of these steps, each carries a share of what it is shown"
            raise UsageError("parts of a picture, for steps that carry shares of it", place="parts", hint=hint)
        feeds = self._frame(images)
        memory = steps.start(graph, feeds)
        like = next(iter(feeds.values()))
        shapes = {name: (feeds.samples, *graph.shapes[name]) for name in self.layers}
        spikes, counts = ({name: like.new_zeros(shape) for name, shape in shapes.items()} for _ in range(2))
        return NetworkState(graph, schedule, feeds.samples, memory, spikes, counts, schedule.timesteps if parts else 1)

    @torch.no_grad()
    def step(self, state: NetworkState, images: Samples) -> tuple[NetworkState, Answer]:
        """Take one time step: (state, images) to (next state, output of this step, ``[N, ...]``).

        The images may be others at every step (frames of events, one each: see ``start`` for what they hold); asleep,
        they are off. From the end of the rehearsal on, the outputs add up to ``schedule.timesteps`` times the answer,
        up to rounding as in ``respond``. Raises UsageError when all steps have been taken, DataError where the images
        do not fit the network or the state, or the state is of another network or from before this one was changed (to
        another precision, say).
        """
        graph, schedule = state.graph, state.schedule
        if graph is not self._graph:
            hint = "start again: state = network.start(images)"
            raise DataError("the state is of another network, or from before this one was changed", hint=hint)
        if state.taken == schedule.total:
            hint = "start again, for more steps with start(images, timesteps=...)"
            raise UsageError(f"all {schedule.total} time steps have been taken", hint=hint)
        feeds = self._frame(images)
        if state.weight > 1:
            feeds = Feeds({name: tensor * state.weight for name, tensor in feeds.items()})
        if feeds.samples != state.samples:
            hint = "start again for another number of images"
            raise DataError(f"{feeds.samples} images for a run of {state.samples}", hint=hint)
        graph = retimed(graph, self.schedule, schedule)
        memory, signals = steps.step(graph, schedule, state.memory, feeds, self._through)
        spikes: Signals = {}
        counts: Signals = {}
        for name, neuron in graph.ops(Neuron).items():
            before, fired = state.counts[name], signals[name]
            if state.taken in (0, schedule.rehearsal):
                fired, before = neuron.begun(fired)
            spikes[name] = neuron.fired_next(before, fired)
            counts[name] = before + spikes[name]
        output = _answer([signals[name] for name in graph.outputs])
        return replace(state, memory=memory, spikes=spikes, counts=counts), output

    @torch.no_grad()
    def follow(
        self, images: Samples, before: Followed | None = None, between: Between = _EACH
    ) -> tuple[Followed, Answer]:
        """Show the next frame of a stream: (images, state) to (next state, answer to this frame).

            state, answer = network.follow(frame)
            state, answer = network.follow(next_frame, state)

        The network goes on from ``before``, shown what changed, and what it fires is for that alone
        (``state.events``): see ``snnc.run.frames``. ``between`` says what it sees of the frames, and when it starts
        anew. Raises UsageError where a neuron cannot take back what it fired, DataError where the state is of another
        network or from before this one was changed, otherwise the errors of a call.
        """
        state = follow(self._graph, self.schedule, between, before, self._feeds(images), self._through)
        return state, _answer([state.answers[name] for name in self._graph.outputs])

    def extra_repr(self) -> str:
        """Return what ``print`` says of the network."""
        neurons = sum(torch.Size(self.conversion.snn.shapes[name]).numel() for name in self.layers)
        kinds = sorted({kind_of(neuron) for neuron in self.conversion.snn.ops(Neuron).values()})
        shapes = self.input_shapes
        taken = f"input_shape={self.input_shape}" if len(shapes) == 1 else f"input_shapes={dict(shapes)}"
        return f"{taken}, {neurons} neurons ({', '.join(kinds)}), {self.schedule}"

    @property
    def _graph(self) -> Graph:
        """The network with the buffers as they are now; built anew where one was replaced or written to."""
        buffers = dict(self.named_buffers(remove_duplicate=False))
        # Tensors made in inference mode keep no version: what is written to them is seen, but not checked.
        versions = {name: 0 if buffer.is_inference() else buffer._version for name, buffer in buffers.items()}
        bound, then, graph = self._built
        if versions != then or any(buffer is not bound[name] for name, buffer in buffers.items()):
            graph = _with_buffers(self.conversion.snn, buffers)
            self._built = buffers, versions, graph
        return graph

    def _free(self, name: str) -> str:
        """Return a name for a child that is nothing else's."""
        while hasattr(self, name):
            name += "_"
        return name

    def _through(self, node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Compute the signal of a node by its child."""
        child = self.get_submodule(self._children[node.name])
        assert isinstance(child, NodeModule)
        if child.op is not node.op:
            child.bind(node.op)
        signal: Tensor = child(*inputs, compute=compute)
        return signal

    def _schedule(self, timesteps: int | None) -> Schedule:
        if timesteps is None:
            return self.schedule
        check_steps(timesteps, self.schedule.sleep, self.schedule.rehearsal)
        return self.schedule.over(timesteps)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample; raises ValueError where the network has several inputs (see ``input_shapes``)."""
        (shape,) = self.input_shapes.values()
        return shape

    def _feeds(self, images: Samples) -> Feeds:
        """Return the samples by input, or raise DataError where they are not such as the network takes."""
        if not isinstance(images, Mapping) and len(self.input_shapes) > 1:
            hint = f"give a tensor for each of: {', '.join(self.input_shapes)}"
            raise DataError(f"one tensor for a network of {len(self.input_shapes)} inputs", hint=hint)
        given = dict(images) if isinstance(images, Mapping) else dict.fromkeys(self.input_shapes, images)
        over_time = images.over_time if isinstance(images, Feeds) else frozenset[str]()
        if set(given) != set(self.input_shapes):
            hint = f"give a tensor for each of: {', '.join(self.input_shapes)}"
            raise DataError(f"tensors for the inputs {', '.join(given) or 'none'}", hint=hint)
        for name, tensor in given.items():
            if name in self._whole and isinstance(tensor, Tensor) and not tensor.is_floating_point():
                # Whole numbers are numbers like others inside.
                given[name] = tensor.to(next(self.buffers(), torch.empty(0)).dtype)
            self._check_fits(name, given[name], name in over_time)
        try:
            return Feeds(given, over_time)
        except ValueError as error:
            raise DataError(str(error), hint="give as many samples to every input") from None

    def _frame(self, images: Samples) -> Feeds:
        """Return the samples of one step by input."""
        feeds = self._feeds(images)
        if feeds.over_time:
            hint = "give the frames one by one, or all of them in a call: network(feeds)"
            raise DataError("frames over time for a single step", hint=hint)
        return feeds

    def _check_fits(self, name: str, images: Tensor, over_time: bool) -> None:
        """Raise DataError where the images are not such as an input takes."""
        shape = self.input_shapes[name]
        if not isinstance(images, Tensor):
            hint = "make a tensor of an array: torch.from_numpy(images)"
            raise DataError(f"the images are a {type(images).__name__}, not a tensor", hint=hint)
        leading = 1 + over_time
        if tuple(images.shape[leading:]) != shape or images.ndim < leading:
            wanted = ", ".join([*("SN" if over_time else "N"), *map(str, shape)])
            hint = "read them with snnc.open_dataset(path, network.preprocessing, network.input_shapes)"
            if tuple(images.shape) == shape:
                hint = "of one image make a batch: image.unsqueeze(0)"
            raise DataError(f"images {[*images.shape]} for a network that takes [{wanted}]", hint=hint)
        like = next(self.buffers(), torch.empty(0))
        if (images.dtype, images.device) != (like.dtype, like.device):
            found, own = (f"{x.dtype} on {x.device}" for x in (images, like))
            hint = f'images.to("{like.device}", {like.dtype}), once they are preprocessed'
            raise DataError(f"the images are {found}, the network is {own}", hint=hint)


def _with_buffers(snn: Graph, buffers: Mapping[str, Tensor]) -> Graph:
    """Return the network with other tensors; raises ModelError that names the first it cannot run with."""
    ops = {}
    for name, node in snn.nodes.items():
        op = node.op
        for field, own in op.tensors().items():
            place = snn.tensor_names[name, field]
            try:
                if buffers[place].shape != own.shape:
                    raise ValueError(f"{[*buffers[place].shape]} in the place of {[*own.shape]}")
                op = op.with_tensors({field: buffers[place]})
            except (ValueError, RuntimeError, KeyError) as error:
                reason = "the buffer is gone" if isinstance(error, KeyError) else str(error).splitlines()[0]
                hint = "load good values (load_state_dict), in a precision that holds them"
                raise ModelError(f"cannot run with these tensors: {reason}", place=place, hint=hint) from error
        ops[name] = op
    return snn.with_ops(ops)


def _checked(generator: Generator | None) -> Generator | None:
    if generator is not None and generator.device.type != "cpu":
        hint = "give torch.Generator(): what is drawn is then the same on every device"
        raise UsageError(f"a generator on {generator.device}", place="generator", hint=hint)
    return generator


def _answer(outputs: list[Tensor]) -> Answer:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)
