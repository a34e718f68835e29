"""How an exported file, run elsewhere, compares with the network: plain data, in the report too."""

from dataclasses import dataclass
from typing import Literal

from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.text import brackets, typable, written


@dataclass(frozen=True)
class Manner:
    """What a reader of a file does with a neuron after a spike, in words, and the ``code`` that loads FILE in it."""

    reset: str = ""
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerMatch:
    """The spikes of a layer, at every step and of every sample, that are the same in both engines, in percent.

    ``alone`` compares what both fire when the layers before fire the spikes of the other engine; ``together``, what
    they fire when each engine feeds all of its own layers, so that one spike that comes a step later moves others
    behind it. Of neurons that gather their input first the file may hold the mean, which says all: their steps are
    equal or not together.
    """

    name: str
    neuron: str
    alone: float
    together: float


@dataclass(frozen=True)
class Match:
    """How an exported file, run by another engine, compares with the network: what ``snnc export --verify`` finds.

    ``variant`` is what of the format was written; ``noise`` says that there were no images. ``equal`` are the spikes
    that are the same, in percent, and ``worst_equal`` those of the layer with the fewest; ``output_error`` is the
    relative distance (L2) of the outputs. Of ONNX and torch these are from the same spikes in the layers before, of NIR
    from the images on. ``agreement`` is the percentage of answers that are the same, each engine running the whole
    network, and accuracies are in percent. What was not compared, or is no number, is None. ``verdict`` is "noted"
    where the file is not to blame: a reader that takes neurons otherwise than the file says, or does not read it, as
    ``remark`` tells. ``together`` and ``together_error`` are equal spikes and the error of the outputs from the
    images on, whatever the format; where it failed by ``rounding``, this network fires as many other spikes itself in
    double precision, for its sums lie at thresholds; ``expected`` are spikes that are what the engine is known to
    fire, in percent, where that is not what the network fires. ``lost`` are points of accuracy that this network has
    and the reader does not, with their paired interval; ``manner`` is how the reader takes the file.
    """

    format: str
    variant: str
    engine: str
    timesteps: int
    images: int
    verdict: Literal["passed", "failed", "noted"]
    noise: bool = False
    equal: float | None = None
    worst_layer: str = ""
    worst_equal: float | None = None
    output_error: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    accuracy_there: float | None = None
    remark: str = ""
    together: float | None = None
    together_error: float | None = None
    expected: float | None = None
    layers: tuple[LayerMatch, ...] = ()
    lost: float | None = None
    lost_interval: Interval | None = None
    manner: Manner = Manner()
    rounding: bool = False

    @property
    def finding(self) -> Finding | None:
        """What is to be told of a reader that is wrong more often than this network, beyond chance."""
        if self.lost is None or self.lost_interval is None or self.lost_interval[0] <= 0:
            return None
        how = f", which {self.manner.reset}," if self.manner.reset else ""
        told = f"{written(self.lost, 'points')} points {brackets(self.lost_interval, 'points')}"
        message = f"{self.engine}{how} loses {told} against this network on {self.images:,} images"
        to_zero = "convert for such a reset: snnc calibrate --reset zero"
        hint = to_zero if "zero" in self.manner.reset else "use another reader"
        return Finding("reader-loses", "warning", "", typable(message), hint)

    @property
    def mismatch(self) -> str:
        """What is beyond tolerance and the fault of the file; "" where nothing is."""
        return self.remark if self.verdict == "failed" else ""
