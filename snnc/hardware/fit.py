"""Hold a spiking network against the limits of a chip."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from snnc.analysis.integers import Widths
from snnc.hardware.network import Layer, Network, grouping
from snnc.hardware.target import Ability, Choice, Cores, Limits, Maximum, Source, Target
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.ops import Add, AveragePool, Concat, Conv, ConvTranspose, Linear, MaxPool, Mean
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
    sources: tuple[Source, ...]
    edit: str

    @property
    def excess(self) -> int | None:
        """By how much the limit is exceeded."""
        return self.needed - self.allowed if isinstance(self.needed, int) and isinstance(self.allowed, int) else None


def fit(snn: Graph, schedule: Schedule, target: Target) -> tuple[Misfit, ...]:
    """Return what of a spiking network a chip cannot hold: empty where everything that is known of it is kept."""
    network, limits = Network(snn), target.limits
    checks = (_counts, _memory, _cores, _ports, _fans, _sizes, _windows, _joins, _widths)
    found = [misfit for check in checks for misfit in check(network, limits)]
    return (*found, *_neurons(network, schedule, limits))


def _over(layer: str, limit: str, needed: int, most: Maximum | None, edit: Callable[[int], str]) -> Iterator[Misfit]:
    """Yield a misfit where more is needed than there is; ``edit`` is told the maximum."""
    if most is not None and needed > most.most:
        yield Misfit(layer, limit, needed, most.most, most.unit, most.sources, edit(most.most))


def _not_among(
    layer: str, limit: str, needed: int, choice: Choice | None, edit: Callable[[int], str]
) -> Iterator[Misfit]:
    """Yield a misfit where a number is none of the possible ones; ``edit`` is told the nearest, the smaller of two."""
    if choice is not None and needed not in choice.values:
        nearest = min(choice.values, key=lambda value: (abs(value - needed), value))
        allowed = ", ".join(map(str, choice.values))
        yield Misfit(layer, limit, needed, allowed, choice.unit, choice.sources, edit(nearest))


def _unable(layer: str, limit: str, what: str, ability: Ability | None, edit: str) -> Iterator[Misfit]:
    if ability is not None and not ability.supported:
        yield Misfit(layer, limit, what, "none", "", ability.sources, edit)


def _counts(network: Network, limits: Limits) -> Iterator[Misfit]:
    def fewer(most: int) -> str:
        size = network.smaller_input(lambda resized: sum(Network(resized).neurons.values()) <= most)
        return _resized(size) or _narrower(most / sum(network.neurons.values()))

    yield from _over("", "neurons", sum(network.neurons.values()), limits.neurons, fewer)
    # Weights grow with the square of the channels.
    stored = sum(_stored(layer, limits) for layer in network.layers)
    yield from _over("", "synapses", stored, limits.synapses, lambda most: _narrower(math.sqrt(most / stored)))


def _memory(network: Network, limits: Limits) -> Iterator[Misfit]:
    def held(bits: int | None = None) -> int:
        sizes = (_stored(layer, limits) * (bits or _bits(layer)) for layer in network.layers)
        return math.ceil(sum(sizes) / 8)

    def rounded(most: int) -> str:
        bits = limits.weight_bits.most if limits.weight_bits else 8
        return f"--weight-bits {bits}" if held(bits) <= most else _narrower(math.sqrt(most / held(bits)))

    yield from _over("", "memory", held(), limits.memory, rounded)


def _cores(network: Network, limits: Limits) -> Iterator[Misfit]:
    cores = limits.cores
    if cores is None:
        return
    each = [core for core in cores.cores for _ in range(core.count)]
    layers = network.layers
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
    if not alone and len(layers) <= len(each) and (placed := _placed(fitting)) < len(layers):
        edit = _narrower(0.5) + ": each layer has a core that holds it, but not all at the same time"
        yield Misfit("", "cores", len(layers), placed, cores.unit, cores.sources, edit)


def _alone(network: Network, layer: Layer, cores: Cores) -> Iterator[Misfit]:
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


def _placed(fitting: list[set[int]]) -> int:
    """Return how many layers can have a core of their own: augmenting paths of a bipartite matching."""
    holder: dict[int, int] = {}

    def place(layer: int, tried: set[int]) -> bool:
        for core in fitting[layer] - tried:
            tried.add(core)
            if core not in holder or place(holder[core], tried):
                holder[core] = layer
                return True
        return False

    return sum(place(layer, set()) for layer in range(len(fitting)))


def _ports(network: Network, limits: Limits) -> Iterator[Misfit]:
    snn = network.snn
    (image,) = snn.inputs
    shape = snn.shapes[image]
    yield from _over(image, "inputs", math.prod(shape), limits.inputs, partial(_fewer_pixels, shape))
    outputs = sum(math.prod(snn.shapes[name]) for name in snn.outputs)
    yield from _over("", "outputs", outputs, limits.outputs, lambda most: f"train with {most} classes")
    if len(shape) > 1:
        channels, *sides = shape
        kinds = limits.input_channels
        yield from _not_among(image, "input-channels", channels, kinds, lambda n: f"train on images of {n} channels")
        yield from _over(image, "input-size", max(sides), limits.input_size, partial(_cropped, network, shape))
    first = next(iter(snn.ops(Neuron)), "")
    for layer in network.layers:
        if layer.analog:
            sent = f"run the network up to {first} on the host, and send its spikes"
            edit = sent if layer.first else "train with an activation that spikes before it"
            yield from _unable(layer.name, "analog-input", "values that are no spikes", limits.analog_input, edit)


def _fewer_pixels(shape: tuple[int, ...], most: int) -> str:
    axes = len(shape) - 1
    side = int((most // shape[0]) ** (1 / axes) + 1e-9) if axes else 0
    return f"train on an input of {_text((shape[0], *[side] * axes))}" if side else f"train on at most {most} inputs"


def _fans(network: Network, limits: Limits) -> Iterator[Misfit]:
    for layer in network.layers:
        yield from _over(layer.name, "fan-in", layer.fan_in, limits.fan_in, partial(_fewer_inputs, layer))
        if isinstance(layer.op, Linear):
            taken = math.prod(layer.before)
            yield from _over(layer.name, "dense-inputs", taken, limits.dense_inputs, partial(_fewer_inputs, layer))
    for name, reach in network.fan_out.items():
        fed = [layer for layer in network.layers if name in (network.connections[layer.name].reach or {})]
        yield from _over(name, "fan-out", reach, limits.fan_out, partial(_fewer_targets, fed, reach))
        yield from _over(name, "destinations", len(fed), limits.destinations, _fewer_readers)


def _fewer_inputs(layer: Layer, most: int) -> str:
    count = grouping(layer, lambda groups: layer.fan_in * layer.groups // groups <= most)
    return _split(count) or f"train with at most {most} inputs to {layer.name}"


def _fewer_targets(fed: list[Layer], reach: int, most: int) -> str:
    (layer, *others) = fed
    count = None if others else grouping(layer, lambda groups: reach * layer.groups // groups <= most)
    names = ", ".join(layer.name for layer in fed)
    return f"split {names} into {count} groups" if count else f"{_narrower(most / reach)} in {names}"


def _fewer_readers(most: int) -> str:
    return f"train with at most {most} layers behind it"


def _sizes(network: Network, limits: Limits) -> Iterator[Misfit]:
    for layer in network.layers:
        channels = max(layer.before[0], layer.after[0])
        yield from _over(
            layer.name, "channels", channels, limits.channels, lambda n: f"train with at most {n} channels"
        )
        if not isinstance(layer.op, Linear):
            edit = partial(_smaller_map, network, layer)
            yield from _over(layer.name, "output-size", max(layer.after[1:]), limits.output_size, edit)


def _smaller_map(network: Network, layer: Layer, most: int) -> str:
    size = network.smaller_input(lambda resized: max(resized.shapes[layer.name][1:]) <= most)
    return _resized(size) or f"train with a stride of {-(-max(layer.after[1:]) // most)} more up to {layer.name}"


def _windows(network: Network, limits: Limits) -> Iterator[Misfit]:
    for layer in network.layers:
        yield from _kernels(layer, limits)
    for name, op in _pooling(network.snn).items():
        before = network.snn.shapes[network.snn.nodes[name].inputs[0]]
        window = tuple(before[axis - 1] for axis in op.axes) if isinstance(op, Mean) else op.kernel
        everything = not isinstance(op, MaxPool) and window == before[1:]
        if isinstance(op, MaxPool):
            edit = "--set passes.treat-max-pool.method=average, and snnc finetune"
            yield from _unable(name, "max-pooling", "max-pooling", limits.max_pooling, edit)
        elif not everything:
            edit = "train with a stride in the layer before it"
            yield from _unable(name, "average-pooling", "average pooling", limits.average_pooling, edit)
        if everything and limits.global_pooling is not None:
            yield from _over(name, "global-pooling", max(window), limits.global_pooling, _smaller_maps)
        else:
            edit_window = partial(_pools, max(window), limits.pooling)
            yield from _not_among(name, "pooling", max(window), limits.pooling, edit_window)


def _smaller_maps(most: int) -> str:
    return f"train with maps of at most {most} positions a side"


def _pooling(snn: Graph) -> dict[str, AveragePool | MaxPool | Mean]:
    return {name: node.op for name, node in snn.nodes.items() if isinstance(node.op, AveragePool | MaxPool | Mean)}


def _kernels(layer: Layer, limits: Limits) -> Iterator[Misfit]:
    if not isinstance(layer.op, Conv | ConvTranspose):
        return
    kernel, op = layer.kernel, layer.op
    name = "first-kernel" if layer.first and limits.first_kernel else "kernel"
    sizes = limits.first_kernel if name == "first-kernel" else limits.kernel
    yield from _not_among(
        layer.name, name, max(kernel), sizes, lambda n: f"train with {'x'.join(str(n) for _ in kernel)} kernels"
    )
    square = limits.square_kernels
    if square is not None and square.required and len(set(kernel)) > 1:
        edit = f"train with {_text((max(kernel),) * 2)} kernels, or fill up with zeros"
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


def _joins(network: Network, limits: Limits) -> Iterator[Misfit]:
    for name in network.snn.ops(Add):
        yield from _unable(name, "additions", "a shortcut", limits.additions, "train without shortcuts")
    for name in network.snn.ops(Concat):
        yield from _unable(name, "concatenations", "a concatenation", limits.concatenations, "train without branches")


def _widths(network: Network, limits: Limits) -> Iterator[Misfit]:
    rounded = any(layer.widths is not None for layer in network.layers)
    for layer in network.layers:
        first = layer.first and limits.first_weight_bits is not None
        weights = limits.first_weight_bits if first else limits.weight_bits
        edit = _all_spikes_alike if rounded and layer.widths is None else _fewer_bits
        yield from _over(layer.name, "first-weight-bits" if first else "weight-bits", _bits(layer), weights, edit)
        if layer.widths is not None:
            found = layer.widths
            yield from _over(layer.name, "weight-bits", found.skips, limits.weight_bits, partial(_side_by_side, found))
            yield from _over(layer.name, "bias-bits", found.biases, limits.bias_bits, partial(_option, "bias-bits"))
            thresholds = limits.threshold_bits
            yield from _over(
                layer.name, "threshold-bits", found.thresholds, thresholds, partial(_option, "threshold-bits")
            )


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


def _neurons(network: Network, schedule: Schedule, limits: Limits) -> Iterator[Misfit]:
    kinds = {kind: name for name, kind in neurons.items()}
    for name, op in network.snn.ops(Neuron).items():
        models = limits.neuron_models
        if models is not None and kinds[type(op)] not in models.kinds:
            near = _nearest_model(op, models.kinds)
            why = "they gather all input before they fire: " if isinstance(op, OrderFreeNeuron) else ""
            allowed = ", ".join(models.kinds)
            yield Misfit(name, "neuron-models", kinds[type(op)], allowed, "", models.sources, f"{why}--neuron {near}")
        if op.slope is not None:
            yield from _unable(name, "signed-spikes", "negative spikes", limits.signed_spikes, "train with ReLU")
        elif isinstance(op, CausalNeuron) and op.signed:
            edit = f"--neuron {_nearest_model(op, models.kinds if models else ('if',))}: no negative spikes"
            yield from _unable(name, "signed-spikes", "negative spikes", limits.signed_spikes, edit)
        count = op.closed_form(schedule.timesteps).levels
        yield from _over(name, "levels", count, limits.levels, lambda most: f"--timesteps {most}")


def _nearest_model(op: Neuron, kinds: tuple[str, ...]) -> str:
    """Return the neuron that a chip has and that is most like another one."""
    same = [kind for kind in kinds if issubclass(neurons[kind], OrderFreeNeuron) == isinstance(op, OrderFreeNeuron)]
    return (same or list(kinds))[0]


def _bits(layer: Layer) -> int:
    return _FLOAT if layer.widths is None else layer.widths.weights


def _stored(layer: Layer, limits: Limits) -> int:
    """Return the synapses that a chip keeps: kernels where it shares them, or where nobody says that it does not."""
    shared = limits.shared_kernels is None or limits.shared_kernels.supported
    return layer.weights if shared else layer.connections


def _words(layer: Layer) -> int:
    """Return the words of weights in a core that addresses kernels and output channels by whole bits."""
    channels = layer.before[0] // layer.groups if isinstance(layer.op, Conv) else layer.before[0]
    return channels << (_address(math.prod(layer.kernel)) + _address(layer.after[0]))


def _address(count: int) -> int:
    return (count - 1).bit_length()


def _pools(window: int, choice: Choice | None, nearest: int) -> str:
    """Say how to pool over a window in steps that exist."""
    steps, left = [], window
    for size in sorted(choice.values if choice else (), reverse=True):
        while size > 1 and left % size == 0:
            steps.append(size)
            left //= size
    return f"pool by {', then by '.join(map(str, steps))}" if left == 1 else f"train with pooling by {nearest}"


def _cropped(network: Network, shape: tuple[int, ...], most: int) -> str:
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
