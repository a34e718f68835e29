"""Why operations that have no converter cannot become spiking, and what to do instead."""

_SMOOTH = "train with ReLU in its place; it is what a spiking neuron approximates"
_NORM = "normalize with BatchNorm, which folds into the weights"
_STEPS = "outside a quantized rectifier, c/L * round(L * clip(x/c, 0, 1)), it has no spiking form"
_LOOPS = "trace the network instead of scripting it, so that loops and branches are unrolled"

_REASONS: dict[str, tuple[str, str]] = {
    "Softmax": ("a softmax inside the network compares all values", "only a softmax at the very end can be left out"),
    "LogSoftmax": ("a softmax inside the network compares all values", "only one at the very end can be left out"),
    "Sigmoid": ("a smooth activation", _SMOOTH),
    "Tanh": ("a smooth activation", _SMOOTH),
    "Erf": ("a smooth activation, part of GELU", _SMOOTH),
    "Gelu": ("a smooth activation", _SMOOTH),
    "FastGelu": ("a smooth activation", _SMOOTH),
    "BiasGelu": ("a smooth activation", _SMOOTH),
    "QuickGelu": ("a smooth activation", _SMOOTH),
    "Swish": ("a smooth activation", _SMOOTH),
    "HardSwish": ("an activation that multiplies its input by itself", _SMOOTH),
    "Mish": ("a smooth activation", _SMOOTH),
    "Elu": ("a smooth activation", _SMOOTH),
    "Celu": ("a smooth activation", _SMOOTH),
    "Selu": ("a smooth activation", _SMOOTH),
    "Softplus": ("a smooth activation", _SMOOTH),
    "Softsign": ("a smooth activation", _SMOOTH),
    "ThresholdedRelu": ("a rectifier with a jump", _SMOOTH),
    "Exp": ("an exponential", _SMOOTH),
    "Pow": ("a power of an activation", "often a part of LayerNorm or GELU: use BatchNorm and ReLU"),
    "Sqrt": ("a root of an activation", _NORM),
    "Reciprocal": ("it divides by an activation", _NORM),
    "LayerNormalization": ("statistics of the sample at hand divide it", _NORM),
    "SimplifiedLayerNormalization": ("statistics of the sample at hand divide it", _NORM),
    "SkipLayerNormalization": ("statistics of the sample at hand divide it", _NORM),
    "GroupNormalization": ("statistics of the sample at hand divide it", _NORM),
    "InstanceNormalization": ("statistics of the sample at hand divide it", _NORM),
    "LpNormalization": ("statistics of the sample at hand divide it", _NORM),
    "RMSNormalization": ("statistics of the sample at hand divide it", _NORM),
    "LRN": ("statistics of the sample at hand divide it", _NORM),
    "Round": ("it rounds activations", _STEPS),
    "Floor": ("it rounds activations", _STEPS),
    "Ceil": ("it rounds activations", _STEPS),
    "QuantizeLinear": ("it quantizes values that are not the output of a rectifier", "export the network unquantized"),
    "DequantizeLinear": ("it continues a quantization that is not supported", "export the network unquantized"),
    "Attention": ("attention multiplies activations", "train a network without attention"),
    "MultiHeadAttention": ("attention multiplies activations", "train a network without attention"),
    "Einsum": ("a contraction of general tensors", "write it as a matrix product with a constant matrix"),
    "LSTM": ("a recurrent layer", "only feed-forward networks are supported"),
    "GRU": ("a recurrent layer", "only feed-forward networks are supported"),
    "RNN": ("a recurrent layer", "only feed-forward networks are supported"),
    "If": ("a branch that data decides", _LOOPS),
    "Loop": ("a loop", _LOOPS),
    "Scan": ("a loop", _LOOPS),
    "NonMaxSuppression": ("a part of the post-processing", "export the network up to its raw outputs"),
    "TopK": ("a part of the post-processing", "export the network up to its raw outputs"),
    "ArgMax": ("a choice inside the network", "export the network up to its raw outputs"),
}


_UNKNOWN = ("no spiking form of this operation is known", "replace it by a supported one and retrain")


def reason(kind: str, otherwise: tuple[str, str] = _UNKNOWN) -> tuple[str, str]:
    """Return why an operation without a converter is unsupported, and a hint; ``otherwise`` where that is not known."""
    return _REASONS.get(kind, otherwise)
