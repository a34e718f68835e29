"""How a network is fine-tuned, as recipes write it down under ``training:``."""

import math
from dataclasses import dataclass
from typing import Literal

from snnc.neurons.choice import chosen

# The largest number of single precision.
_LARGEST = 3.4e38

Augmentation = Literal["crop", "translate", "flip", "cutout", "autoaugment"]
Initialization = Literal["whitened", "identity"]


@dataclass(frozen=True)
class Training:
    """The settings of a fine-tuning; thresholds are per channel or per layer as the recipe calibrates them."""

    activation: Literal["relu", "clip", "qcfs", "noisy-qcfs", "cqrelu"] = "qcfs"
    """What stands in for ReLU: itself, a clip whose ceiling learns, QCFS, QCFS with noise as strong as the residual of
    the spiking layers, or CQReLU, whose thresholds stay as they were calibrated."""

    from_scratch: bool = False
    """Whether weights are drawn anew (He et al., ICCV 2015), and batch normalization begins without any statistics: of
    the network that is given only its layers count."""

    initialization: tuple[Initialization, ...] = ()
    """What weights drawn anew begin with beside chance, so that fewer epochs do (Jordan, 2024): whitened (the first
    convolutions begin with the principal directions of what they see, each of both signs, brought to one variance;
    those that have all directions stay like that), identity (the first channels of convolutions pass on what comes
    in)."""

    levels: int | None = None
    """Levels of the quantized activations. Default: those of the neurons that the recipe puts in."""

    epochs: int = 30
    """How often the training images are shown, but for those that fill no whole step, others in every epoch."""

    batch_size: int = 64
    """Images to a step, all processes taken together."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    """SGD with Nesterov's momentum of 0.9, or AdamW."""

    learning_rate: float = 1e-3
    """The highest learning rate, reached after ``warm_up``; half a cosine from there to zero."""

    lookahead: int = 0
    """Every how many steps the network goes back to a running mean of itself, which follows it less and less and in the
    last step no more (Zhang et al., NeurIPS 2019; the schedule is Jordan's, 2024). 0 and all steps: never."""

    threshold_rate: float = 1.0
    """The learning rate of the logarithms of thresholds, as a multiple of that of weights."""

    shift_rate: float = 1.0
    """The learning rate of the shifts of batch normalization, as a multiple of that of weights."""

    weight_decay: float = 5e-4
    """Of weights only: biases, thresholds and batch normalization do not decay."""

    warm_up: float = 0.05
    """The share of the steps in which the learning rate rises."""

    augment: tuple[Augmentation, ...] = ("crop", "flip")
    """How images are varied, in this order: crop (padded by an eighth), translate (by a sixteenth at most, the border
    mirrored), flip, autoaugment (the policy for CIFAR-10 of Cubuk et al., CVPR 2019), cutout (a square of half the
    side)."""

    label_smoothing: float = 0.0
    """The share of a label that is spread evenly over all classes (Szegedy et al., CVPR 2016); labels that are no
    classes stay what they are."""

    distillation: float = 0.0
    """The share of the loss that compares with the trained network; the rest is cross-entropy with the labels."""

    temperature: float = 4.0
    """The temperature at which outputs are compared with those of the trained network."""

    features: float = 0.0
    """The weight of a further term: how far, relatively, the outputs of the units (residual blocks, or single layers)
    are from those of the trained network."""

    batch_norm: Literal["trainable", "shifts", "frozen"] = "trainable"
    """Batch normalization goes on learning, only its statistics and shifts do, or it is taken as it is."""

    fold: bool = True
    """Whether batch normalization is folded into weights once the training is over, as a conversion would. Folding
    rounds, and what is quantized behind it then differs for an image now and then: folded before, the tuned network and
    its spiking one hold the same numbers. Without, the tuned network can be trained on with it."""

    noise_steps: int = 4
    """Time steps at which the residual of spiking layers is measured for noisy-qcfs."""

    noise_neuron: str = "if"
    """The neuron whose residual that is: best the one that the tuned network is converted to. Two-phase neurons leave
    none over as many steps as there are levels, and the noise is then nothing."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The precision of convolutions; auto is bfloat16 on a GPU that has it, else float32."""

    held_out: float = 0.1
    """The share of the samples (of every class, of which one at least) that is not trained on, but tells which epoch is
    the best."""

    seed: int = 0
    """Of the samples held out, weights that are drawn, the order of images, augmentation and noise."""

    def __post_init__(self) -> None:
        counts = {
            "levels": 1 if self.levels is None else self.levels,
            "epochs": self.epochs,
            "batch-size": self.batch_size,
        }
        for name, number in {**counts, "noise-steps": self.noise_steps}.items():
            if number < 1:
                raise ValueError(f"{name} starts at 1")
        if self.lookahead < 0:
            raise ValueError("lookahead starts at 0")
        chosen(self.noise_neuron, place="noise-neuron")
        for name, value in (("learning-rate", self.learning_rate), ("temperature", self.temperature)):
            if not 0 < value < _LARGEST:
                raise ValueError(f"{name} must be positive and finite")
        for name, value in (
            ("weight-decay", self.weight_decay),
            ("threshold-rate", self.threshold_rate),
            ("shift-rate", self.shift_rate),
            ("features", self.features),
        ):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite, and not negative")
        for name, value in (("warm-up", self.warm_up), ("distillation", self.distillation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a share between 0 and 1")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label-smoothing is a share from 0 to below 1")
        if not 0 < self.held_out < 1:
            raise ValueError("held-out is a share between 0 and 1")
        if self.from_scratch and (self.distillation or self.features):
            raise ValueError("from scratch there is no trained network to learn from: distillation and features are 0")
        if self.initialization and not self.from_scratch:
            raise ValueError("only weights that are drawn anew have an initialization: set from-scratch=true")
