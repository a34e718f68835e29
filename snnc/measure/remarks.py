"""What a conversion left alone, approximated or distrusts: told from the networks themselves, not by the passes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from snnc.analysis.integers import widths
from snnc.analysis.reach import Connections, fed_by_image
from snnc.analysis.values import Kind, value_kinds
from snnc.conversion import Conversion, StandIn, Tuning
from snnc.feeds import Feeds
from snnc.findings import Finding
from snnc.ir import Graph, Op
from snnc.measure.gates import Gate
from snnc.measure.layers import Layer
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Input,
    MaxPool,
    Mean,
    Nonlinear,
    QuantizedRelu,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules
from snnc.schedule import Schedule
from snnc.tasks import Task
from snnc.text import counted, written

# Detectors give more boxes than this, and so many times as many as each has numbers; maps of classes are no smaller.
_FEW_BOXES, _MANY, _SMALL_MAP = 256, 16, 16
# The share of samples from which on it matters that the network was calibrated on them.
_SHARED = 0.1
# Below this many images, thresholds and corrections follow the sample more than the data.
_FEW_IMAGES = 64


def find(
    conversion: Conversion, layers: tuple[Layer, ...], connections: dict[str, Connections], sample: Feeds
) -> tuple[Finding, ...]:
    """Return the findings on a conversion, most severe first, each once; ``sample`` is one of those measured."""
    found = [
        *on_frames(conversion.snn, sample),
        *_on_calibration(conversion),
        *_on_passes(conversion),
        *_on_timesteps(conversion),
        *_on_task(conversion),
        *_on_schedule(conversion),
        *_on_operations(conversion.snn, connections, conversion.schedule),
        *_on_widths(conversion),
        *_on_layers(layers),
    ]
    return tuple(sorted(set(found), key=lambda finding: (finding.severity != "warning", finding)))


def other_timesteps(made_for: int, asked: Sequence[int]) -> Finding:
    """Return the finding on running a network at other numbers of steps than its thresholds are for."""
    which = "it" if len(asked) == 1 else "the one that is to be used"
    return Finding(
        "other-timesteps",
        "warning",
        "",
        f"thresholds and corrections were worked out for T={made_for}, evaluated at T={', '.join(map(str, asked))}",
        f"calibrate again for {which}: snnc calibrate --timesteps {asked[-1]} --data FOLDER",
    )


def unsettled(schedule: Schedule) -> Finding:
    """Return the finding on a network that was woken too early."""
    return Finding(
        "unsettled",
        "info",
        "",
        f"at T={schedule.timesteps} something still fired in the last of {counted(schedule.sleep, 'step')} asleep",
        f"more sleep may change the answer: --sleep {2 * schedule.sleep}",
    )


def idle_steps(schedule: Schedule) -> Finding:
    """Return the finding on steps that neurons which gather first make nothing of."""
    idle = counted(schedule.total - schedule.timesteps, "step")
    return Finding(
        "idle-steps",
        "warning",
        "",
        f"{idle} of sleep or rehearsal, in which no neuron here does anything",
        "leave them out, or convert with --latency synchronous: those neurons fire while they gather",
    )


def on_frames(snn: Graph, sample: Feeds) -> Iterator[Finding]:
    """Yield the findings on samples that are frames, if they are: what the trained network sees of them."""
    if not sample.over_time:
        return
    frames = max(len(sample[name]) for name in sample.over_time)
    seen = f"each of {frames} frames, its outputs averaged" if sample.apart else f"the sum of {frames} frames"
    yield Finding("frames", "info", "", f"the trained network saw {seen}", "--reference says which")
    if sample.apart and frames > 1 and any(neuron.takes_back for neuron in snn.ops(Neuron).values()):
        yield Finding(
            "mean-of-frames",
            "warning",
            "",
            "neurons whose counts are those of the mean frame, beside a trained network that saw each frame",
            "convert with --neuron if, or compare with the network on their sum: --reference sum",
        )


def beside_stream(schedule: Schedule) -> Finding:
    """Return the finding on figures of whole samples, beside those of their frames one by one."""
    return Finding(
        "whole-samples",
        "info",
        "",
        f"figures against time steps are of whole samples, whose frames share {counted(schedule.timesteps, 'step')}",
        "those of frames one by one are told as 'From frame to frame'",
    )


def on_recordings(form: str) -> Finding:
    """Return the finding on which copy of data was read."""
    return Finding("recordings", "info", "", f"events were read from {form}", "say so beside figures")


def nothing_random(repeats: int) -> Finding:
    """Return the finding on repeating what comes out the same every time."""
    return Finding(
        "nothing-random",
        "info",
        "",
        f"nothing here is drawn at random: run once, not {repeats} times",
        "leave out --repeats",
    )


def not_varied(kinds: Iterable[str]) -> Finding:
    """Return the finding on images that were trained on as they are."""
    message = f"images were not varied ({', '.join(kinds)}): what is right for one may be wrong for its variations"
    return Finding("not-varied", "info", "", message, "vary images and labels alike, and save both")


def start_kept(task: Task, before: float | None, score: float | None, held_out: int) -> Finding:
    """Return the finding on a training that was undone: no epoch was better than what it started from."""
    known = "" if score is None else f" ({written(score, '%')} % {task.score_name}"
    known += (
        f"; before quantization {written(before, '%')} %)" if known and before is not None else ")" if known else ""
    )
    return Finding(
        "start-kept",
        "warning",
        "",
        f"no epoch was better than the start on {held_out:,} samples held out{known}: the start was kept",
        "take a smaller --learning-rate, more --epochs, or more images",
    )


def replaced(name: str, reason: str) -> Finding:
    """Return the finding on a report that could not be completed."""
    return Finding(
        "report-replaced",
        "info",
        "",
        f"{name} was {reason}; in the new one, layers are not measured",
        "calibrate again to measure them: snnc calibrate --data FOLDER",
    )


def altered_by(name: str, what: str, cost: str) -> Finding:
    """Return the finding on a pass that makes another function of the network."""
    hint = f"leave {name} out, or fine-tune the network with it; what follows loses more"
    return Finding("altered", "warning", "", f"the pass {name} changes the network, with {what}: {cost}", hint)


def not_compared(tuning: Tuning) -> Finding:
    """Return the finding on a fine-tuned network whose original is not there."""
    return Finding(
        "original-missing",
        "warning",
        "",
        f"compared with the fine-tuned network, not with {tuning.told} that it was made from",
        f"name it: --reference {tuning.file}",
    )


def calibrated_on(shared: int, samples: int) -> Finding:
    """Return the finding on samples that are evaluated and were calibrated on; few of many make no difference."""
    hint = "evaluate on others; of a single set, calibrate with --part train and evaluate with --part test"
    return _calibrated_on(shared, samples, "", hint)


def learned_on_calibration(shared: int, samples: int) -> Finding:
    """Return the finding on samples that tell when to stop and were calibrated on: their answers change less."""
    hint = "give others to --exit-data, or leave it out: a fifth of the data is held out then"
    return _calibrated_on(shared, samples, " that tell when to stop", hint)


def _calibrated_on(shared: int, samples: int, which: str, hint: str) -> Finding:
    of = f"{shared:,} of the {samples:,} samples{which} are" if shared < samples else f"the samples{which} are"
    message = f"{of} what thresholds and corrections were worked out on"
    return Finding("calibrated-on", "warning" if shared >= _SHARED * samples else "info", "", message, hint)


def not_proven(gate: Gate) -> Finding:
    """Return the finding on a limit that is kept on these samples, which are too few to say so of others."""
    if gate.interval is None:
        hint = "evaluate on two samples or more: the interval comes from how much they differ"
    elif gate.samples_needed is None:
        hint = "the measured value is close to the limit, or at it: set another limit"
    else:
        hint = f"evaluate on {gate.samples_needed:,} samples or more; --proven and --strict fail until then"
    return Finding("not-proven", "warning", "", gate.sentence, hint)


def _on_calibration(conversion: Conversion) -> Iterator[Finding]:
    calibration = conversion.provenance.calibration
    if calibration is None:
        normalized = conversion.reference is not None and bool(conversion.reference.ops(BatchNorm))
        yield Finding(
            "uncalibrated",
            "warning",
            "",
            f"no images were given: {_worked_out_on(conversion.provenance.stand_in, normalized)}",
            "calibrate on a folder of images, no labels needed: snnc calibrate --data FOLDER",
        )
    elif calibration.images < _FEW_IMAGES:
        seen = counted(calibration.images, "image")
        yield Finding("few-images", "warning", "", f"calibrated on {seen} only", f"give {_FEW_IMAGES} or more")


def _worked_out_on(stand_in: StandIn | None, normalized: bool) -> str:
    if stand_in is None and not normalized:
        return "thresholds are those of the file, nothing was corrected or measured"
    if stand_in is None:
        return "thresholds come from batch-norm statistics, nothing was corrected or measured"
    kinds = ", ".join(dict.fromkeys(stand_in.kinds.values()))
    poor = "; ids drawn at random are a poor stand-in for text" if "ids" in stand_in.kinds.values() else ""
    return (
        f"thresholds and biases come from synthetic input ({stand_in.samples} samples of {kinds}), weights were not "
        f"corrected, nothing was measured{poor}"
    )


def _on_passes(conversion: Conversion) -> Iterator[Finding]:
    if conversion.provenance.calibration is None:
        return
    for applied in conversion.applied:
        if applied.name == "distill" and not applied.changed:
            yield Finding(
                "nothing-learned",
                "info",
                "",
                "training reached nothing better than its start on the images held out, and was undone",
                "give more images or steps; expected where the start is exact",
            )


def _on_task(conversion: Conversion) -> Iterator[Finding]:
    """Remark on outputs that look like those of a task that nobody stated."""
    outputs, inputs = conversion.snn.output_shapes, conversion.snn.input_shapes
    looks = None if conversion.task is not None else _looks_like(outputs, next(iter(inputs.values())))
    if looks is not None:
        what, task = looks
        shapes = " and ".join(str(list(shape)) for shape in outputs)
        message = f"no task is stated; the output{'s' if len(outputs) > 1 else ''} {shapes} may be {what}"
        yield Finding("task-not-stated", "info", "", message, f"state it: --task '{task}', or task: in snnc.yaml")


def _looks_like(outputs: Sequence[tuple[int, ...]], taken: tuple[int, ...]) -> tuple[str, str] | None:
    """Return what outputs may be, in words, and the task that judges it; None where their shapes say nothing."""
    first = outputs[0]
    if len(outputs) == 2 and all(len(shape) == 2 for shape in outputs):
        (many, one), (same, other) = outputs
        if many == same and many > _FEW_BOXES and 4 in (one, other):
            return "boxes and their scores", "detection(layout=ssd)"
    if len(outputs) == 1 and len(first) == 2 and len(taken) == 3:
        rows, columns = first
        if columns > _FEW_BOXES and columns > _MANY * rows and rows > 4:
            return "boxes with scores, a column each", "detection(layout=yolov8)"
        if rows > _FEW_BOXES and rows > _MANY * columns and columns > 5:
            return "boxes with scores, a row each", "detection(layout=yolov5)"
    if len(first) == 3 and len(taken) == 3 and first[0] > 1 and first[0] != taken[0]:
        down = taken[1] // first[1]
        if down in (1, 2, 4, 8) and taken[1:] == (down * first[1], down * first[2]) and min(first[1:]) >= _SMALL_MAP:
            return f"scores of {first[0]} classes for each pixel", "segmentation"
    return None


def _on_timesteps(conversion: Conversion) -> Iterator[Finding]:
    if conversion.reference is None:
        return
    steps, snn = conversion.schedule.timesteps, conversion.snn.ops(Neuron)
    quantized = conversion.reference.ops(QuantizedRelu)
    pairs = {(op.levels, snn[name].levels(steps)): snn[name] for name, op in quantized.items() if name in snn}
    exact = len({op.levels for op in quantized.values()}) == 1 and not conversion.snn.ops(CausalNeuron)
    for (level, found), neuron in sorted(pairs.items(), key=lambda pair: pair[0]):
        if level == found:
            continue
        text = f"T={steps}" if found == steps else f"{found} levels at T={steps}"
        better = neuron.timesteps_within(level)
        if better is None or neuron.levels(better) != level:
            hint = f"take neurons that have {level} levels: --neuron graded --levels {level} --timesteps 1"
        else:
            hint = f"with --timesteps {better} the conversion {'is exact' if exact else 'loses less'}"
        yield Finding(
            "levels-differ", "warning", "", f"the network's activations have {level} levels, converted for {text}", hint
        )


def _on_schedule(conversion: Conversion) -> Iterator[Finding]:
    schedule, causal = conversion.schedule, conversion.snn.ops(CausalNeuron)
    if schedule.total > schedule.timesteps and not causal:
        yield idle_steps(schedule)
    for name, neuron in causal.items():
        if not schedule.rehearsal and type(neuron).rehearsed is not CausalNeuron.rehearsed:
            yield Finding(
                "no-rehearsal",
                "warning",
                name,
                "without rehearsal these neurons are plain integrate and fire",
                "give them some steps: --set rehearsal=4",
            )
        if schedule.timesteps + schedule.sleep <= neuron.coarse_steps:
            yield Finding(
                "never-refined",
                "warning",
                name,
                f"these neurons end with units of {neuron.units[schedule.timesteps + schedule.sleep - 1]} levels",
                f"give them all steps of their units: --sleep {neuron.coarse_steps + 1 - schedule.timesteps}",
            )


def _on_operations(snn: Graph, connections: dict[str, Connections], schedule: Schedule) -> Iterator[Finding]:
    kinds = value_kinds(snn)
    for name, node in snn.nodes.items():
        yield from remarks(node.op, Surroundings(name, snn, connections.get(name), kinds[name], schedule))
    codes = [name for name, neuron in snn.ops(Neuron).items() if neuron.coding]
    if codes:
        count = f"{len(codes)} layers of neurons stand" if len(codes) > 1 else f"the neurons {codes[0]} stand"
        yield Finding(
            "codes",
            "info",
            "",
            f"{count} for values of either sign, not for rectifiers: they emit negative spikes",
            "the target needs signed events; where it has none: --set passes.place-neurons.where=none",
        )
    if not snn.ops(Neuron):
        yield Finding(
            "nothing-spikes",
            "warning",
            "",
            "the network has no activation that could spike: nothing was converted",
            "check that the model is the one you meant",
        )


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Where an operation stands in a spiking network, what drives it, and the kind of what comes out of it."""

    name: str
    snn: Graph
    connections: Connections | None
    kind: Kind
    schedule: Schedule


# rule(op, around): what a user should know of an operation in a spiking network.
remarks = Rules[Op, Iterable[Finding]]("what is remarked on an operation")


@remarks.register(Input, Add, Routing, Mean, AveragePool, Nonlinear, Resample)
def _nothing(op: Op, around: Surroundings) -> Iterable[Finding]:
    """Spikes pass, and are added."""
    return ()


@remarks.register(Activation)
def _on_activation(op: Activation, around: Surroundings) -> Iterator[Finding]:
    yield Finding(
        "analog-activation",
        "info",
        around.name,
        "an activation does not spike: it works on mean values",
        "set passes.normalize-activations.beside-quantized=spike to make it spike, at some loss",
    )


@remarks.register(Affine, BatchNorm)
def _on_affine(op: Op, around: Surroundings) -> Iterator[Finding]:
    # What scales numbers is part of the analog work, of which is told elsewhere.
    if around.kind in (Kind.SPIKES, Kind.CURRENT):
        yield Finding(
            "unfolded-affine",
            "info",
            around.name,
            "a per-channel scale and shift could not be folded into weights before it",
            "no loss; the target has to add a constant current here",
        )


@remarks.register(TemporalBias)
def _on_temporal_bias(op: TemporalBias, around: Surroundings) -> Iterator[Finding]:
    yield Finding(
        "temporal-bias",
        "info",
        around.name,
        "a bias that changes from step to step is added here",
        "no loss; the target has to add another constant current at every step",
    )


@remarks.register(MaxPool)
def _on_max_pool(op: MaxPool, around: Surroundings) -> Iterator[Finding]:
    if around.snn.ops(CausalNeuron):
        yield Finding(
            "lateral-inhibition-pool",
            "info",
            around.name,
            "max-pooling works on accumulated currents, by lateral inhibition between the steps",
            "no loss; use two-phase neurons or average pooling where the target cannot do that",
        )


@remarks.register(Neuron)
def _on_neuron(op: Neuron, around: Surroundings) -> Iterator[Finding]:
    takes_back = isinstance(op, CausalNeuron) and op.negative_over(around.schedule)
    # Codes are told of together.
    if not op.coding and (op.slope is not None or takes_back):
        yield Finding(
            "signed-spikes",
            "info",
            around.name,
            "these neurons also emit negative spikes",
            "the target needs signed events; where it has none, use ReLU networks and --neuron if or two-phase",
        )


@remarks.register(Weighted)
def _on_weights(op: Weighted, around: Surroundings) -> Iterator[Finding]:
    found = around.connections
    analog = found is not None and found.reach is None and found.kind is not Kind.CONSTANT
    if found is not None and analog and not fed_by_image(around.snn, around.name):
        yield Finding(
            "analog-layer",
            "info",
            around.name,
            "this layer is fed by analog values, not by spikes: it multiplies "
            + ("at every step" if found.in_order else "once for each image"),
            "place-neurons in the recipe has spikes drive it, where it is not told to keep it",
        )


def _on_widths(conversion: Conversion) -> Iterator[Finding]:
    if not any(applied.name == "quantize-weights" for applied in conversion.applied):
        return
    found = widths(conversion.snn, conversion.schedule)
    for name, width in found.items():
        if width is None:
            yield Finding(
                "real-weights",
                "warning",
                name,
                "what drives this could not be made whole numbers",
                "no loss here; a target that only counts cannot hold it",
            )
    whole = {name: width for name, width in found.items() if width is not None}
    if whole:
        worst = max(whole, key=lambda name: whole[name].rounding)
        parts = "weights", "biases", "thresholds", "sums", "membranes"
        bits = {part: max(getattr(w, part) for w in whole.values()) for part in parts}
        fewest = min(width.weights for width in whole.values())
        weights = f"{bits['weights']}" if fewest == bits["weights"] else f"{fewest} to {bits['weights']}"
        saturates = any(op.membrane_bits is not None for op in conversion.snn.ops(Neuron).values())
        membranes = f"{bits['membranes']} bits"
        held = f"potentials saturate at {membranes}" if saturates else f"{membranes} all potentials"
        yield Finding(
            "quantized-weights",
            "info",
            "",
            f"weights of {weights} bits, biases of {bits['biases']}, thresholds of {bits['thresholds']}: "
            f"rounding adds about {100 * whole[worst].rounding:.1f} % to the weights of {worst}, and less elsewhere; "
            f"whatever comes in, {bits['sums']} bits hold the sums of a step, and {held}",
            "evaluate with and without --weight-bits to see what that costs",
        )


def _on_layers(layers: tuple[Layer, ...]) -> Iterator[Finding]:
    for layer in layers:
        if layer.dead_channels:
            yield Finding(
                "dead-channels",
                "info",
                layer.name,
                f"{layer.dead_channels} of {layer.channels} channels never fired on the images measured",
                "harmless if they are dead in the trained network too; else give more, or more varied, images",
            )
        if layer.saturated_channels:
            yield Finding(
                "saturated-channels",
                "warning",
                layer.name,
                f"{layer.saturated_channels} of {layer.channels} channels are at their threshold half of the time",
                "raise thresholds: passes.calibrate-thresholds.kind=max, or more time steps",
            )
