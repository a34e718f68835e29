"""Hold a spiking network against the limits of a chip."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from snnc.analysis.integers import Widths
from snnc.hardware.network import CountedNetwork, WeightedLayer, grouping
from snnc.hardware.target import Ability, Capacities, Citation, Cores, Maximum, Permitted, Target
from snnc.ir import Graph, Input, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MaxPool,
    Mean,
    Nonlinear,
    Pad,
    Resample,
    Routing,
)
from snnc.rules import MissingRuleError, RefusedError, Rules
from snnc.schedule import Schedule

# The width of a number that was not made whole.
_FLOAT = 32


@dataclass(frozen=True)
class Misfit:
    """One limit that is not kept, in one ``layer`` or ("") in the whole network.

    ``needed`` and ``allowed`` are numbers of ``unit`` or, where it is no matter of numbers, words; ``excess`` is how
    much too much it is, None for words. ``edit`` is the nearest change with which it would be kept.
    """

    layer: str
    limit: str
    needed: int | str
    allowed: int | str
    unit: str
    sources: tuple[Citation, ...]
    edit: str

    @property
    def excess(self) -> int | None:
        """By how much the limit is exceeded."""
        return self.needed - self.allowed if isinstance(self.needed, int) and isinstance(self.allowed, int) else None


@dataclass(frozen=True)
class Use:
    """What is taken of a limit that is a maximum, by one ``layer`` or ("") by the whole network.

    ``most`` is None where nobody says how much there is.
    """

    layer: str
    limit: str
    taken: int
    most: int | None
    unit: str

    @property
    def share(self) -> float | None:
        """The part of all that is taken."""
        return None if self.most is None else self.taken / max(self.most, 1)


@dataclass(frozen=True)
class CoreUse:
    """A core, counted from 1, the layer in it ("" where there is none), and how full that makes it.

    A layer that is in none stands beside the largest, core 0.
    """

    core: int
    layer: str
    weights: int
    most_weights: int
    neurons: int
    most_neurons: int


# What a check finds: what does not fit, what is taken of limits, and what cores hold.
Held = Misfit | Use | CoreUse

# What in a network a chip has no name for.
OPERATIONS = "operations"

# The axes of the maps that chips know.
_PLANE = 2


@dataclass(frozen=True, eq=False)
class Situation:
    """Where an operation is, and what it is held against."""

    name: str
    network: CountedNetwork
    schedule: Schedule
    limits: Capacities


# rule(op, place): what of an operation a chip cannot hold.
holds = Rules[Op, Iterable[Held]]("does a chip hold it")

holds.refuse(
    Activation,
    why="an activation that does not spike",
    hint="set passes.normalize-activations.beside-quantized=spike to make it spike, at some loss",
)
holds.refuse(
    Nonlinear,
    why="a function of values that are no spikes",
    hint="compute it on the host, or train with what rectifiers can say in its place",
)
holds.refuse(
    Resample,
    why="weighted sums between positions",
    hint="train with nearest resizing in its place",
)
holds.refuse(
    BatchNorm,
    why="a normalization that was not folded into weights",
    hint="put the pass fold-batch-norm into the recipe",
)
holds.refuse(
    TemporalBias,
    why="a bias that changes from step to step",
    hint="calibrate again with --set passes.PASS.temporal=false, of correct-spiking-residual or distill",
)


@dataclass(frozen=True)
class Fit:
    """A network on a chip: what does not fit, what is taken of every maximum where most is, and what each core holds.

    All are sorted by the limits.
    """

    misfits: tuple[Misfit, ...] = ()
    uses: tuple[Use, ...] = ()
    cores: tuple[CoreUse, ...] = ()


def fit(snn: Graph, schedule: Schedule, target: Target) -> Fit:
    """Hold a spiking network against a chip: without misfits, everything that is known of it is kept.

    An operation that no rule of ``holds`` allows does not fit.
    """
    network, limits = CountedNetwork(snn), target.limits
    found = [part for check in (_counts, _memory, _cores, _outputs) for part in check(network, limits)]
    for name, node in snn.nodes.items():
        # What is done to the input before the first layer is done before the chip.
        if name not in network.preprocessing:
            found += _held(node.op, Situation(name, network, schedule, limits))
    order = {name: index for index, name in enumerate((*Capacities().unknown, OPERATIONS))}
    misfits = [part for part in found if isinstance(part, Misfit)]
    most: dict[str, Use] = {}
    for use in (part for part in found if isinstance(part, Use)):
        known = most.setdefault(use.limit, use)
        most[use.limit] = max(known, use, key=lambda use: use.share or 0.0)
    return Fit(
        tuple(sorted(misfits, key=lambda misfit: order[misfit.limit.removeprefix("first-")])),
        tuple(sorted(most.values(), key=lambda use: order[use.limit.removeprefix("first-")])),
        tuple(part for part in found if isinstance(part, CoreUse)),
    )


def _held(op: Op, place: Situation) -> Iterable[Held]:
    try:
        return [*holds(op, place)]
    except (RefusedError, MissingRuleError) as refusal:
        return [Misfit(place.name, OPERATIONS, refusal.message, "none", "", (), refusal.hint)]


def _over(layer: str, limit: str, needed: int, most: Maximum | None, edit: Callable[[int], str]) -> Iterator[Held]:
    """Yield what is taken, and a misfit where that is more than there is; ``edit`` is told the maximum."""
    if most is None:
        return
    yield Use(layer, limit, needed, most.most, most.unit)
    if needed > most.most:
        yield Misfit(layer, limit, needed, most.most, most.unit, most.sources, edit(most.most))


def _not_among(
    layer: str, limit: str, needed: int, choice: Permitted | None, edit: Callable[[int], str]
) -> Iterator[Held]:
    """Yield a misfit where a number is none of the possible ones; ``edit`` is told the nearest, the smaller of two."""
    if choice is not None and needed not in choice.values:
        nearest = min(choice.values, key=lambda value: (abs(value - needed), value))
        allowed = ", ".join(map(str, choice.values))
        yield Misfit(layer, limit, needed, allowed, choice.unit, choice.sources, edit(nearest))


def _unable(layer: str, limit: str, what: str, ability: Ability | None, edit: str) -> Iterator[Held]:
    if ability is not None and not ability.supported:
        yield Misfit(layer, limit, what, "none", "", ability.sources, edit)


def _counts(network: CountedNetwork, limits: Capacities) -> Iterator[Held]:
    def fewer(most: int) -> str:
        size = network.smaller_input(lambda resized: sum(CountedNetwork(resized).neurons.values()) <= most)
        return _resized(size) or _narrower(most / sum(network.neurons.values()))

    yield from _over("", "neurons", sum(network.neurons.values()), limits.neurons, fewer)
    # Weights grow with the square of the channels.
    stored = sum(_stored(layer, limits) for layer in network.layers.values())
    yield from _over("", "synapses", stored, limits.synapses, lambda most: _narrower(math.sqrt(most / stored)))


def _memory(network: CountedNetwork, limits: Capacities) -> Iterator[Held]:
    def held(bits: int | None = None) -> int:
        sizes = (_stored(layer, limits) * (bits or _bits(layer)) for layer in network.layers.values())
        return math.ceil(sum(sizes) / 8)

    def rounded(most: int) -> str:
        bits = limits.weight_bits.most if limits.weight_bits else 8
        return f"--weight-bits {bits}" if held(bits) <= most else _narrower(math.sqrt(most / held(bits)))

    yield from _over("", "memory", held(), limits.memory, rounded)


def _cores(network: CountedNetwork, limits: Capacities) -> Iterator[Held]:
    cores = limits.cores
    if cores is None:
        return
    each = [core for core in cores.cores for _ in range(core.count)]
    layers = [*network.layers.values()]
    if len(layers) > len(each):
        edit = f"train with {len(each)} weighted layers; shortcuts with weights count"
        yield Misfit("", "cores", len(layers), len(each), cores.unit, cores.sources, edit)
    fitting = [
        {index for index, core in enumerate(each) if _words(x) <= core.weights and x.neurons <= core.neurons}
        for x in layers
    ]
    alone = [layer for layer, possible in zip(layers, fitting, strict=True) if not possible]
    for layer in alone:
        yield from _alone(network, layer, cores)
    placed = _placed(fitting)
    if not alone and len(placed) < len(layers) <= len(each):
        edit = _narrower(0.5) + ": each layer has a core that holds it, but not all at the same time"
        yield Misfit("", "cores", len(layers), len(placed), cores.unit, cores.sources, edit)
    for index, core in enumerate(each):
        held = layers[placed[index]] if index in placed else None
        words, neurons = (0, 0) if held is None else (_words(held), held.neurons)
        yield CoreUse(index + 1, "" if held is None else held.name, words, core.weights, neurons, core.neurons)
    most = max(core.weights for core in each), max(core.neurons for core in each)
    for index in sorted({*range(len(layers))} - {*placed.values()}):
        yield CoreUse(0, layers[index].name, _words(layers[index]), most[0], layers[index].neurons, most[1])


def _alone(network: CountedNetwork, layer: WeightedLayer, cores: Cores) -> Iterator[Held]:
    """Yield what keeps a layer from every core."""
    words, most = _words(layer), max(core.weights for core in cores.cores)
    if words > most:
        count = grouping(layer, lambda groups: words * layer.groups // groups <= most)
        edit = _split(count) or _narrower(math.sqrt(most / words))
        yield Misfit(layer.name, "cores", words, most, "words of weights", cores.sources, edit)
    room = max((core.neurons for core in cores.cores if core.weights >= words), default=0)
    room = room or max(core.neurons for core in cores.cores)
    if layer.neurons > room:
        size = network.smaller_input(lambda resized: math.prod(resized.shapes[layer.name]) <= room)
        edit = _resized(size) or _narrower(room / layer.neurons)
        yield Misfit(layer.name, "cores", layer.neurons, room, "neurons", cores.sources, edit)


def _placed(fitting: list[set[int]]) -> dict[int, int]:
    """Return by core the layer in it, where most layers have one: augmenting paths of a bipartite matching."""
    holder: dict[int, int] = {}

    def place(layer: int, tried: set[int]) -> bool:
        for core in fitting[layer] - tried:
            tried.add(core)
            if core not in holder or place(holder[core], tried):
                holder[core] = layer
                return True
        return False

    for layer in range(len(fitting)):
        place(layer, set())
    return holder


def _outputs(network: CountedNetwork, limits: Capacities) -> Iterator[Held]:
    outputs = sum(math.prod(network.snn.shapes[name]) for name in network.snn.outputs)
    yield from _over("", "outputs", outputs, limits.outputs, lambda most: f"train with {most} classes")


@holds.register(Input)
def _input(op: Input, place: Situation) -> Iterator[Held]:
    shape, limits = op.shape, place.limits
    yield from _over(place.name, "inputs", math.prod(shape), limits.inputs, partial(_fewer_pixels, shape))
    if len(shape) > 1:
        channels, *sides = shape
        kinds = limits.input_channels
        yield from _not_among(
            place.name, "input-channels", channels, kinds, lambda n: f"train on images of {n} channels"
        )
        edit = partial(_cropped, place.network, shape)
        yield from _over(place.name, "input-size", max(sides), limits.input_size, edit)


def _fewer_pixels(shape: tuple[int, ...], most: int) -> str:
    axes = len(shape) - 1
    side = int((most // shape[0]) ** (1 / axes) + 1e-9) if axes else 0
    return f"train on an input of {_text((shape[0], *[side] * axes))}" if side else f"train on at most {most} inputs"


@holds.register(Conv, ConvTranspose)
def _convolution(op: Conv | ConvTranspose, place: Situation) -> Iterator[Held]:
    layer, limits = place.network.layers[place.name], place.limits
    yield from _weighted(layer, place)
    edit = partial(_smaller_map, place.network, layer)
    yield from _over(layer.name, "output-size", max(layer.after[1:]), limits.output_size, edit)
    yield from _kernels(layer, op, limits)
    yield from _in_planes(place, len(layer.kernel), "convolution")


@holds.register(Linear)
def _linear(op: Linear, place: Situation) -> Iterator[Held]:
    layer = place.network.layers[place.name]
    yield from _weighted(layer, place)
    taken = math.prod(layer.before)
    yield from _over(layer.name, "dense-inputs", taken, place.limits.dense_inputs, partial(_fewer_inputs, layer))


def _weighted(layer: WeightedLayer, place: Situation) -> Iterator[Held]:
    network, limits = place.network, place.limits
    if layer.analog:
        neuron = next(iter(network.snn.ops(Neuron)), "")
        sent = f"run the network up to {neuron} on the host, and send its spikes"
        edit = sent if layer.first else "train with an activation that spikes before it"
        yield from _unable(layer.name, "analog-input", "values that are no spikes", limits.analog_input, edit)
    yield from _over(layer.name, "fan-in", layer.fan_in, limits.fan_in, partial(_fewer_inputs, layer))
    channels = max(layer.before[0], layer.after[0])
    yield from _over(layer.name, "channels", channels, limits.channels, lambda n: f"train with at most {n} channels")
    yield from _widths(layer, network, limits)


def _fewer_inputs(layer: WeightedLayer, most: int) -> str:
    count = grouping(layer, lambda groups: layer.fan_in * layer.groups // groups <= most)
    return _split(count) or f"train with at most {most} inputs to {layer.name}"


def _fewer_targets(fed: list[WeightedLayer], reach: int, most: int) -> str:
    (layer, *others) = fed
    count = None if others else grouping(layer, lambda groups: reach * layer.groups // groups <= most)
    names = ", ".join(layer.name for layer in fed)
    return f"split {names} into {count} groups" if count else f"{_narrower(most / reach)} in {names}"


def _fewer_readers(most: int) -> str:
    return f"train with at most {most} layers behind it"


def _smaller_map(network: CountedNetwork, layer: WeightedLayer, most: int) -> str:
    size = network.smaller_input(lambda resized: max(resized.shapes[layer.name][1 - len(layer.after) :]) <= most)
    return _resized(size) or f"train with a stride of {-(-max(layer.after[1:]) // most)} more up to {layer.name}"


def _smaller_maps(most: int) -> str:
    return f"train with maps of at most {most} positions a side"


def _kernels(layer: WeightedLayer, op: Conv | ConvTranspose, limits: Capacities) -> Iterator[Held]:
    kernel = layer.kernel
    name = "first-kernel" if layer.first and limits.first_kernel else "kernel"
    sizes = limits.first_kernel if name == "first-kernel" else limits.kernel
    yield from _not_among(
        layer.name, name, max(kernel), sizes, lambda n: f"train with {'x'.join(str(n) for _ in kernel)} kernels"
    )
    square = limits.square_kernels
    if square is not None and square.required and len(set(kernel)) > 1:
        edit = f"train with {_text((max(kernel),) * len(kernel))} kernels, or fill up with zeros"
        yield Misfit(layer.name, "square-kernels", _text(kernel), "square", "", square.sources, edit)
    name = "first-stride" if layer.first and limits.first_stride else "stride"
    strides = limits.first_stride if name == "first-stride" else limits.stride
    yield from _not_among(layer.name, name, max(op.stride), strides, lambda n: f"train with a stride of {n}")
    if max(op.dilation) > 1:
        sides = tuple(1 + (side - 1) * step for side, step in zip(kernel, op.dilation, strict=True))
        edit = f"write it as {_text(sides)} kernels with zeros between"
        yield from _unable(layer.name, "dilation", f"dilation {max(op.dilation)}", limits.dilation, edit)
    depthwise = layer.groups == layer.before[0] == layer.after[0]
    if layer.groups > 1 and not depthwise:
        edit = "train with one group, or as many as there are channels"
        yield from _unable(layer.name, "groups", f"{layer.groups} groups", limits.groups, edit)


def _widths(layer: WeightedLayer, network: CountedNetwork, limits: Capacities) -> Iterator[Held]:
    rounded = any(other.widths is not None for other in network.layers.values())
    first = layer.first and limits.first_weight_bits is not None
    weights = limits.first_weight_bits if first else limits.weight_bits
    edit = _all_spikes_alike if rounded and layer.widths is None else _fewer_bits
    yield from _over(layer.name, "first-weight-bits" if first else "weight-bits", _bits(layer), weights, edit)
    if layer.widths is not None:
        found, thresholds = layer.widths, limits.threshold_bits
        yield from _over(layer.name, "weight-bits", found.skips, limits.weight_bits, partial(_side_by_side, found))
        yield from _over(layer.name, "bias-bits", found.biases, limits.bias_bits, partial(_option, "bias-bits"))
        edit = partial(_option, "threshold-bits")
        yield from _over(layer.name, "threshold-bits", found.thresholds, thresholds, edit)


def _fewer_bits(most: int) -> str:
    return f"--weight-bits {most}"


def _all_spikes_alike(most: int) -> str:
    return "train with ReLU, and with an activation between an addition and the next layer"


def _side_by_side(found: Widths, most: int) -> str:
    count = math.ceil(_largest(found.skips) / _largest(most))
    return f"{count} synapses side by side for a spike that skips a layer, or {_option('skip-bits', most)}"


def _largest(bits: int) -> int:
    return (1 << bits - 1) - 1


def _option(name: str, most: int) -> str:
    return f"--set passes.quantize-weights.{name}={most}"


@holds.register(Neuron)
def _neuron(op: Neuron, place: Situation) -> Iterator[Held]:
    network, limits = place.network, place.limits
    reach, models = network.fan_out.get(place.name), limits.neuron_models
    if reach is not None:
        fed = [x for x in network.layers.values() if place.name in (network.connections[x.name].reach or {})]
        yield from _over(place.name, "fan-out", reach, limits.fan_out, partial(_fewer_targets, fed, reach))
        yield from _over(place.name, "destinations", len(fed), limits.destinations, _fewer_readers)
    kind = next(name for name, known in neurons.items() if known is type(op))
    if models is not None and kind not in models.kinds:
        near = _nearest_model(op, models.kinds)
        why = "they gather all input before they fire: " if isinstance(op, OrderFreeNeuron) else ""
        allowed = ", ".join(models.kinds)
        yield Misfit(place.name, "neuron-models", kind, allowed, "", models.sources, f"{why}--neuron {near}")
    if op.slope is not None:
        edit = "--set passes.place-neurons.where=none" if op.coding else "train with ReLU"
        yield from _unable(place.name, "signed-spikes", "negative spikes", limits.signed_spikes, edit)
    elif isinstance(op, CausalNeuron) and op.negative_over(place.schedule):
        edit = f"--neuron {_nearest_model(op, models.kinds if models else ('if',))}: no negative spikes"
        if op.levels(1) == op.levels(2):
            edit = "--timesteps 1, no sleep and no rest: in one step no event is negative"
        yield from _unable(place.name, "signed-spikes", "negative spikes", limits.signed_spikes, edit)
    count = op.levels(place.schedule.timesteps)
    yield from _over(place.name, "levels", count, limits.levels, partial(_fewer_levels, op))
    yield from _over(place.name, "event-size", op.largest_event, limits.event_size, _smaller_events)


def _fewer_levels(op: Neuron, most: int) -> str:
    if op.levels(1) == op.levels(2):
        return f"--levels {most}"
    steps = op.timesteps_within(most)
    return f"--timesteps {steps}" if steps else "take neurons with fewer levels in one step"


def _smaller_events(most: int) -> str:
    return f"--levels {most} --max-event {most}" if most > 1 else "--neuron if: spikes that carry no number"


@holds.register(MaxPool)
def _max_pool(op: MaxPool, place: Situation) -> Iterator[Held]:
    edit = "--set passes.treat-max-pool.method=average, and snnc finetune"
    yield from _unable(place.name, "max-pooling", "max-pooling", place.limits.max_pooling, edit)
    yield from _pooled(op.kernel, place)
    yield from _in_planes(place, len(op.kernel), "max-pooling")


@holds.register(AveragePool)
def _average_pool(op: AveragePool, place: Situation) -> Iterator[Held]:
    yield from _averaged(op.kernel, place)
    yield from _in_planes(place, len(op.kernel), "average pooling")


@holds.register(Mean)
def _mean(op: Mean, place: Situation) -> Iterator[Held]:
    before = place.network.before(place.name)
    yield from _averaged(tuple(before[axis - 1] for axis in op.axes), place)


def _in_planes(place: Situation, axes: int, what: str) -> Iterator[Held]:
    """Yield a misfit for windows over more axes than a plane has, unless every connection is a synapse of its own."""
    if axes > _PLANE and _shares(place.limits):
        hint = "train on planes: let the third axis be channels"
        yield Misfit(
            place.name, OPERATIONS, f"{what} over {axes} axes, of which nothing is known", "none", "", (), hint
        )


def _averaged(window: tuple[int, ...], place: Situation) -> Iterator[Held]:
    whole = window == place.network.before(place.name)[1:]
    if whole and place.limits.global_pooling is not None:
        yield from _over(place.name, "global-pooling", max(window), place.limits.global_pooling, _smaller_maps)
        return
    if not whole:
        edit = "train with a stride in the layer before it"
        yield from _unable(place.name, "average-pooling", "average pooling", place.limits.average_pooling, edit)
    yield from _pooled(window, place)


def _pooled(window: tuple[int, ...], place: Situation) -> Iterator[Held]:
    choice = place.limits.pooling
    yield from _not_among(place.name, "pooling", max(window), choice, partial(_pools, max(window), choice))


@holds.register(Add)
def _add(op: Add, place: Situation) -> Iterator[Held]:
    yield from _unable(place.name, "additions", "a shortcut", place.limits.additions, "train without shortcuts")


@holds.register(Concat)
def _concat(op: Concat, place: Situation) -> Iterator[Held]:
    edit = "train without branches"
    yield from _unable(place.name, "concatenations", "a concatenation", place.limits.concatenations, edit)


@holds.register(Routing)
def _moved(op: Routing, place: Situation) -> Iterable[Held]:
    """Nothing is computed: who sends to whom is what chips are told."""
    return ()


@holds.register(Pad)
def _border(op: Pad, place: Situation) -> Iterable[Held]:
    if op.value and any(op.padding):
        raise RefusedError(f"a border of {op.value:g}, which no spike stands for", hint="pad with zeros")
    return ()


@holds.register(Affine)
def _affine(op: Affine, place: Situation) -> Iterable[Held]:
    """What scales spikes is part of the weights behind; what shifts currents, of the biases before."""
    if place.network.spike_values[place.name] is None and place.name not in place.network.constants:
        raise RefusedError(
            "a scale or shift that no weights and no biases can take up",
            hint="train with normalization right behind weights, before additions and concatenations",
        )
    return ()


def _nearest_model(op: Neuron, kinds: tuple[str, ...]) -> str:
    """Return the neuron that a chip has and that is most like another one."""
    same = [kind for kind in kinds if issubclass(neurons[kind], OrderFreeNeuron) == isinstance(op, OrderFreeNeuron)]
    return (same or list(kinds))[0]


def _bits(layer: WeightedLayer) -> int:
    return _FLOAT if layer.widths is None else layer.widths.weights


def _stored(layer: WeightedLayer, limits: Capacities) -> int:
    """Return the synapses that a chip keeps: kernels where it shares them, or where nobody says that it does not."""
    return layer.weights if _shares(limits) else layer.connections


def _shares(limits: Capacities) -> bool:
    return limits.shared_kernels is None or limits.shared_kernels.supported


def _words(layer: WeightedLayer) -> int:
    """Return the words of weights in a core that addresses kernels and output channels by whole bits."""
    channels = layer.before[0] // layer.groups
    return channels << (_address(math.prod(layer.kernel)) + _address(layer.after[0]))


def _address(count: int) -> int:
    return (count - 1).bit_length()


def _pools(window: int, choice: Permitted | None, nearest: int) -> str:
    """Say how to pool over a window in steps that exist."""
    steps, left = [], window
    for size in sorted(choice.values if choice else (), reverse=True):
        while size > 1 and left % size == 0:
            steps.append(size)
            left //= size
    return f"pool by {', then by '.join(map(str, steps))}" if left == 1 else f"train with pooling by {nearest}"


def _cropped(network: CountedNetwork, shape: tuple[int, ...], most: int) -> str:
    size = network.smaller_input(lambda resized: max(resized.shapes[resized.inputs[0]][1:]) <= most)
    return _resized(size) or f"train on an input of {_text((shape[0], *(min(side, most) for side in shape[1:])))}"


def _resized(size: tuple[int, ...] | None) -> str:
    return "" if size is None else f"an input of {_text(size)} would fit"


def _split(count: int | None) -> str:
    return "" if count is None else f"split the layer into {count} groups"


def _narrower(share: float) -> str:
    return f"train with {max(1, math.floor(100 * share))} % of the channels"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
