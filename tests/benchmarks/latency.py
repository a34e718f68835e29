"""Answer in few steps: graded events, refined guesses and single signed spikes; codes of two-phase neurons; plain IF.

    python tests/benchmarks/latency.py [--quick] [--folder FOLDER] [PART ...]

Calibrated on 1,024 unlabeled images, judged on all test images; steps are all from image to answer. Beside each stands
a network of quantized activations of as many levels, with the same weights and ceilings. Nothing is trained, but for
the parts "trained" and "own": without labels there, too. The part "own" converts the network that own_network.py keeps
in ``--folder``, by the recipe of every paper and by ours. The part "stream" shows recordings of an event camera frame
by frame. The part "spikingjelly" judges what SpikingJelly makes of the same network at the same numbers of steps, as
peers.py installs it.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import modern
import numpy as np
import own_network
import peers
import torch
from harness import PREPROCESSING, SHARED, asked, finish, model_files, say

import snnc
from snnc import recipe
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples
from snnc.ir import Input
from snnc.measure.ledger import Course
from snnc.neurons import Neuron
from snnc.neurons.counting import Counting
from snnc.neurons.first_spike import FirstSpike
from snnc.neurons.two_phase import TwoPhase
from snnc.run import ONCE, Program
from snnc.run.frames import Between
from snnc.tasks.classification import Classification

NAME = "cifar10_resnet20"
# Where what is trained or installed once is kept.
FOLDER = own_network.FOLDER


@dataclass(frozen=True)
class Setting:
    """What to convert for: the key that the figures have, the neuron, what the image is on for, and the recipe.

    The recipe's own neuron and sleep where they are None. Where levels are ``mixed``, the neuron's are so many bits in
    the mean. ``calibration`` is what it is calibrated on, at most ``limit`` images.
    """

    key: str
    neuron: str | None
    timesteps: int = 1
    sleep: int | None = 0
    shares: tuple[float, ...] = ()
    recipe: str = "quick"
    mixed: bool = False
    network: str = "resnet20"
    calibration: str = "cifar10/calibration"
    limit: int | None = None

    def figures(self, reading: Reading) -> dict[str, float]:
        if self.file is None:
            say(f"{self.network} is not there: run own_network.py first")
            return {}
        return judged(self, converted(self, reading), reading)

    @property
    def file(self) -> Path | None:
        if self.network == "resnet20":
            return model_files(NAME)[0]
        path = FOLDER / own_network.NETWORK
        return path if path.exists() else None

    @property
    def preprocessing(self) -> Preprocessing:
        return PREPROCESSING[NAME] if self.network == "resnet20" else own_network.HOW


@dataclass(frozen=True)
class Stream:
    """Frames of recordings, each a stream: how many of each, and the mean of how many the network sees.

    The network was trained on counts of a third of a recording. Of shorter frames, windows hold as much.
    """

    key: str
    frames: int = 3
    window: int = 1

    def figures(self, reading: Reading) -> dict[str, float]:
        return followed(self, reading)


@dataclass(frozen=True)
class Stopped:
    """A network whose samples stop when their answer is certain."""

    setting: Setting

    def figures(self, reading: Reading) -> dict[str, float]:
        return stopped(converted(self.setting, reading), reading)


@dataclass(frozen=True)
class Imagenet:
    """Events of so many bits, in the mean, in one step of a network of many thin layers.

    Calibrated on 200 images and judged on 200 others, by agreement: so few cannot tell points of accuracy.
    """

    network: str
    bits: int
    mixed: bool = True

    def figures(self, reading: Reading) -> dict[str, float]:
        return agreed(self, reading)


@dataclass(frozen=True)
class SpikingJelly:
    """What SpikingJelly makes of the network, with percentiles for each channel."""

    steps: tuple[int, ...]

    def figures(self, reading: Reading) -> dict[str, float]:
        if not peers.installed(FOLDER / "peers"):
            return {}
        count = reading.limit or 1024
        network = peers.theirs(peers.pixels("calibration", count), "rate")
        images, truth = peers.pixels("test", None), peers.truth("test", None)
        found = {}
        for steps in self.steps:
            right = (peers.simulated(network, images, steps).argmax(1) == truth).float().mean()
            found[f"resnet20/spikingjelly/steps={steps}/top1"] = round(100 * float(right), 2)
            say(str(found))
        return found


# Numbers of steps awake; all steps from image to answer stand beside them. Graded events need one step, whatever their
# levels: as many as two-phase neurons have in these steps.
OWN = "cifar10_own"
AWAKE = (2, 4, 8)
# Single signed spikes that answer in two steps.
SIGNED = "graded(levels=3, max-event=1, rest=1)", 2, 0, (0.75, 0.25)

PARTS: dict[str, list[Setting | Stream | Stopped | Imagenet | SpikingJelly]] = {
    "graded": [
        Setting("graded/quick/levels=15/steps=1", "graded(levels=15)"),
        Setting("graded/quick/levels=7/steps=1", "graded(levels=7)"),
        Setting("graded/quick/mean-bits=4/steps=1", "graded(levels=15)", mixed=True),
        Setting("graded/quick/mean-bits=3/steps=1", "graded(levels=7)", mixed=True),
    ],
    "refine": [
        Setting("refine/quick/max-event=3/steps=2", "refine(levels=15, max-event=3, units=[2, 1], rest=6)", 1, sleep=1)
    ],
    "signed": [
        Setting("signed/quick/steps=1", "graded(levels=2, max-event=1, rest=1)"),
        Setting("signed/quick/steps=2", "graded(levels=3, max-event=1, rest=1)", 2, shares=(0.75, 0.25)),
    ],
    "codes": [
        Setting("radix/quick/T=2", "radix", 2),
        Setting("radix/quick/T=4", "radix", 4),
        Setting("first-spike/T=8", "first-spike", 8),
    ],
    "if": [Setting("if/quick/steps=32", "if", 32)],
    "exit": [Stopped(Setting("exit", "refine(levels=15, max-event=3, units=[2, 1], rest=6)", 1, sleep=5))],
    "trained": [
        Setting("signed/steps=1", "graded(levels=2, max-event=1, rest=1)", recipe="one-step"),
        Setting(
            "signed/steps=2", "graded(levels=3, max-event=1, rest=1)", 2, shares=(0.75, 0.25), recipe="synchronous"
        ),
        Setting("signed/steps=4", "graded(levels=4, max-event=1, rest=1)", 3, sleep=1, recipe="synchronous"),
        Setting("signed/steps=8", "graded(levels=7, max-event=1, rest=1)", 7, sleep=1, recipe="synchronous"),
        Setting("graded/levels=3/steps=1", "graded(levels=3)", recipe="one-step"),
        Setting("graded/mean-bits=2/steps=1", "graded(levels=3)", recipe="one-step", mixed=True),
        Setting(
            "refine/max-event=3/steps=2", "refine(levels=15, max-event=3, units=[2, 1], rest=6)", 1, 1, (), "one-step"
        ),
        Setting("radix/T=2", "radix", 2, recipe="default"),
    ],
    "imagenet": [
        Imagenet(network, bits, mixed)
        for network in ("mobilenetv2", "efficientnet_lite0")
        for bits in (4, 6)
        for mixed in (True, False)
    ],
    "own": [
        *(
            Setting(f"{name}/T={timesteps}", None, timesteps, None, (), name, network=OWN)
            for name in ("casc", "tpp", "error-compensation", "residual-noise", "synchronous", "quick", "default")
            for timesteps in AWAKE
        ),
        *(Setting(f"graded/quick/T={levels}", f"graded(levels={levels})", network=OWN) for levels in AWAKE),
        *(Setting(f"synchronous/quick/T={timesteps}", "cif", timesteps, 1, network=OWN) for timesteps in AWAKE),
        Setting("signed/quick/steps=2", *SIGNED, network=OWN),
        *(
            Setting(f"graded/T={levels}", f"graded(levels={levels})", recipe="one-step", network=OWN)
            for levels in AWAKE
        ),
        Setting("signed/steps=1", "graded(levels=2, max-event=1, rest=1)", recipe="one-step", network=OWN),
        Setting("signed/steps=2", *SIGNED, "synchronous", network=OWN),
        Setting("signed/images=8192/steps=2", *SIGNED, "synchronous", False, OWN, "cifar10/train.npz", 8192),
    ],
    "spikingjelly": [SpikingJelly((1, 2, 4, 8, 32))],
    "stream": [
        Stream("stream"),
        Stream("stream/window=8/frames=24", 24, 8),
        Stream("stream/window=32/frames=96", 96, 32),
    ],
}


def converted(setting: Setting, reading: Reading) -> Conversion:
    assert setting.file is not None
    made, _ = snnc.convert(
        setting.file,
        recipe.load(
            setting.recipe,
            timesteps=setting.timesteps,
            sleep=setting.sleep,
            shares=setting.shares,
            neuron=setting.neuron,
            mixed_levels=setting.mixed,
        ),
        data=SHARED / setting.calibration,
        preprocessing=setting.preprocessing,
        reading=Reading(limit=reading.limit or setting.limit),
    )
    return made


# Samples stop when their answer is certain. How certain is chosen without labels: the least confidence of these with
# which, by limits from one half of so many images, no more answers on the other change than this, in percent.
CONFIDENCES = (0.998, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.93, 0.9)
CHANGED = 0.3
UNSEEN = 4096


def unseen() -> Path:
    """Return a file of images that calibrated nothing: of those that did, fewer answers change than of others."""
    path = FOLDER / "unseen.npz"
    if not path.exists():
        np.savez(path, x=np.load(SHARED / "cifar10/train.npz")["x"][:UNSEEN])
    return path


def chosen_confidence(made: Conversion, reading: Reading) -> float:
    course = Course(made.snn, made.schedule, Classification(), exits=True)
    program = Program(made.snn, made.schedule, stepwise=made.snn.outputs)
    dataset = open_dataset(unseen(), made.preprocessing, made.snn.ops(Input), reading)
    samples = DatasetSamples(dataset, reading, "")
    course.reached(
        samples.added(
            program.chunk,
            lambda feeds, first: course.see([*program(feeds).values()], None, None)[1],
        )
    )
    answers, margins = course.answers, course.margins
    order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(0))
    halves = order[::2], order[1::2]
    chosen = CONFIDENCES[0]
    for confidence in CONFIDENCES:
        changed, steps = [], []
        for made_on, judged_on in (halves, halves[::-1]):
            limits = course.rule(confidence, "half of the images", made_on).limits
            least = torch.tensor([math.inf if limit is None else limit for limit in limits[:-1]] + [-math.inf])
            at = (margins[judged_on] >= least).double().argmax(1, keepdim=True)
            changed.append(answers[judged_on].gather(1, at)[:, 0] != answers[judged_on, -1])
            steps.append(1 + at.double())
        share = 100 * float(torch.cat(changed).double().mean())
        say(f"confidence {confidence}: {float(torch.cat(steps).mean()):.3f} steps, {share:.2f} % of answers changed")
        if share > CHANGED:
            break
        chosen = confidence
    return chosen


def stopped(made: Conversion, reading: Reading) -> dict[str, float]:
    confidence = chosen_confidence(made, reading)
    (row,) = snnc.evaluate(
        made,
        data=SHARED / "cifar10/test",
        reading=reading,
        exit_confidence=confidence,
        exit_data=unseen(),
    ).rows
    assert row.exit is not None
    assert row.ledger is not None
    figures = {
        "exit/mean-steps": row.exit.mean_steps,
        "exit/top1": row.exit.merit,
        "exit/full/top1": row.exit.merit_whole,
        "exit/full/steps": row.total_steps,
        "exit/agreement": row.exit.settled,
        "exit/events-ratio": row.exit.spikes / row.exit.spikes_whole,
        "exit/within-1-point": row.ledger.within_end,
    }
    say(str(figures))
    rounded = {name: round(value, 2) for name, value in figures.items() if value is not None}
    return {**rounded, "exit/confidence": confidence}


def judged(setting: Setting, made: Conversion, reading: Reading) -> dict[str, float]:
    timesteps = made.schedule.timesteps
    forms = {name: neuron.closed_form(timesteps) for name, neuron in made.snn.ops(Neuron).items()}
    quantized = replace(made, snn=made.snn.with_ops(forms), schedule=ONCE)
    (row,), (peer,) = (
        snnc.evaluate(one, data=SHARED / "cifar10/test", reading=reading).rows for one in (made, quantized)
    )
    steps = latency(made.snn, made.schedule)
    assert "/steps=" not in setting.key or f"/steps={steps}" in setting.key
    key = f"{setting.network}/{setting.key}"
    neurons = sum(math.prod(made.snn.shapes[name]) for name in made.snn.ops(Neuron))
    figures = {
        f"{key}/steps": steps,
        f"{key}/top1": row.accuracy,
        f"{key}/agreement": row.agreement,
        f"{key}/events": row.spikes,
        f"{key}/spikes-per-neuron": row.spikes / neurons,
        f"{key}/quantized/top1": peer.accuracy,
        f"{setting.network}/ann/top1": row.accuracy + row.drop,
    }
    if made.snn.ops(FirstSpike):
        alike = [
            snnc.evaluate(replace(one, reference=quantized.snn), data=SHARED / "cifar10/test", reading=reading).rows[0]
            for one in (made, even(made))
        ]
        figures |= {f"{key}/answers-of-the-even-code": min(one.agreement for one in alike)}
        figures |= {f"{key}/even/spikes-per-neuron": alike[1].spikes / neurons}
    say(str(figures))
    return {name: round(value, 2) for name, value in figures.items()}


def followed(setting: Stream, reading: Reading) -> dict[str, float]:
    """Convert to events of all levels in one step, and go on from frame to frame beside a restart at every frame."""
    made, _ = snnc.convert(
        SHARED / "models/nmnist_cnn_nir.onnx",
        recipe.load("quick", timesteps=1, neuron="graded(levels=15)"),
        data=SHARED / "nmnist/events_calibration.npz",
        preprocessing=Preprocessing(events=EventFrames(frames=3)),
        reading=reading,
    )
    shown = Preprocessing(events=EventFrames(frames=setting.frames, scale=setting.window))
    data, between = SHARED / "nmnist/events_test.npz", Between(window=setting.window)
    found = snnc.evaluate(made, data=data, preprocessing=shown, reading=reading, stream=between).stream
    assert found is not None and found.at_once
    key = f"nmnist/{setting.key}"
    figures = {
        f"{key}/restart-agreement": found.agreement,
        f"{key}/events-ratio": found.ratio,
        f"{key}/operations-ratio": found.operations / found.restart_operations,
        f"{key}/events": found.events,
        f"{key}/top1": found.scored,
        f"{key}/restart/top1": found.restart_scored,
    }
    say(f"{figures}, error {found.error:.2g}")
    return {name: round(value, 4) for name, value in figures.items()}


def agreed(setting: Imagenet, reading: Reading) -> dict[str, float]:
    """Convert to one step, and count the answers that are the trained network's."""
    modern.FOLDER.mkdir(parents=True, exist_ok=True)
    seen, judged = modern.every_other()
    if setting.network == "mobilenetv2":
        name = "imagenet_mobilenetv2_100_224"
        path, how = model_files(name)[0], PREPROCESSING[name]
    else:
        found = modern.efficientnet_file()
        if found is None:
            return {}
        path, how = found
    levels = f"graded(levels={2**setting.bits - 1})"
    steps = recipe.load("quick", timesteps=1, neuron=levels, mixed_levels=setting.mixed)
    made, _ = snnc.convert(path, steps, data=seen, preprocessing=how, reading=reading)
    (row,) = snnc.evaluate(made, data=judged, reading=reading).rows
    assert row.agreement is not None
    same = "" if setting.mixed else "/same-levels"
    key = f"{setting.network}/graded{same}/bits={setting.bits}/steps=1"
    neurons = made.snn.ops(Neuron)
    sizes = {name: math.prod(made.snn.shapes[name]) for name in neurons}
    bits = sum(sizes[name] * neuron.levels(1).bit_length() for name, neuron in neurons.items()) / sum(sizes.values())
    say(f"{key}: agreement {row.agreement:.1f} %, {bits:.2f} bits in the mean")
    return {f"{key}/agreement": row.agreement, f"{key}/mean-bits": bits}


def even(made: Conversion) -> Conversion:
    """Return the network with every count told one spike a level."""
    kept = [field.name for field in fields(TwoPhase)]
    codes = made.snn.ops(Counting).items()
    plain = {name: TwoPhase(**{one: getattr(neuron, one) for one in kept}) for name, neuron in codes}
    return replace(made, snn=made.snn.with_ops(plain))


def best(figures: dict[str, float]) -> dict[str, float]:
    """Return the least that single spikes, with a sign or without, lose with the answer there after two steps."""
    two = {key for key, steps in figures.items() if key.startswith(OWN) and key.endswith("/steps") and steps == 2}
    unit = [figures[f"{key.removesuffix('/steps')}/top1"] for key in two]
    return {f"{OWN}/best/steps=2/drop": round(figures[f"{OWN}/ann/top1"] - max(unit), 2)} if unit else {}


def main() -> None:
    global FOLDER
    given = asked(__doc__ or "", PARTS, FOLDER.name)
    FOLDER = given.folder
    reading = Reading(limit=100 if given.quick else None)
    figures: dict[str, float] = {}
    for part in given.sections:
        for setting in PARTS[part]:
            figures |= setting.figures(reading)
    finish(figures | best(figures))


if __name__ == "__main__":
    main()
