"""Why operations that have no converter cannot become spiking, and what to do instead.

Every operation of ONNX has a converter (``snnc.frontend.operators``) or a reason here, and so have some of onnxruntime.
"""

from collections.abc import Iterator

_LOOPS = "trace the network instead of scripting it, so that loops and branches are unrolled"
_RAW = "export the network up to its raw outputs"
_OUTSIDE = "do it before the network: export the network from where its numbers enter"
_STATIC = "export the network with static shapes, so that this becomes a constant"
_UNQUANTIZED = "export the network unquantized"
_FORWARD = "only feed-forward networks are supported"
_TREES = "train a neural network in its place"

# Operations, why they cannot become spiking, and what to do instead.
_REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "ConvInteger DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul",
        "its scales, zero points or weights are computed",
        _UNQUANTIZED,
    ),
    (
        "FlexAttention LinearAttention",
        "attention multiplies activations",
        "train a network without attention",
    ),
    ("Det", "it multiplies activations", "write it as a matrix product with a constant matrix"),
    ("CausalConvWithState", "a memory of earlier samples", _FORWARD),
    ("TensorScatter", "a memory of earlier samples", _FORWARD),
    ("If", "a branch that data decides", _LOOPS),
    ("Loop Scan SequenceMap", "a loop whose length depends on data, is zero, or is very long", _LOOPS),
    (
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SplitToSequence",
        "a list of tensors whose length or places depend on data",
        _LOOPS,
    ),
    ("NonMaxSuppression", "a part of the post-processing", _RAW),
    ("NonZero Unique", "how many values it gives depends on the data", _RAW),
    ("BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor", "it works on the bits of numbers", _UNQUANTIZED),
    ("CastLike", "it turns values into numbers of another kind", "export the network in single precision"),
    ("CumProd", "it multiplies activations", "add them"),
    ("MaxUnpool", "it puts values where a maximum was found", "upsample by repetition or transposed convolution"),
    ("MaxRoiPool", "it pools over regions that data choose", _RAW),
    ("CenterCropPad", "how much it crops depends on the data", _STATIC),
    ("Shape Size Range ConstantOfShape EyeLike", "it makes values out of the size of its input", _STATIC),
    ("Constant", "a constant that is no plain tensor of numbers", "export its numbers as a float tensor"),
    (
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
        "it draws at random",
        "export the network for inference, behind model.eval()",
    ),
    (
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Gradient Adagrad Adam Momentum",
        "a part of training",
        "export the network for inference, behind model.eval()",
    ),
    (
        "BlackmanWindow HammingWindow HannWindow MelWeightMatrix ImageDecoder",
        "a part of the preprocessing of sound or images",
        _OUTSIDE,
    ),
    (
        "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
        "it works on text",
        _OUTSIDE,
    ),
    (
        "ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder "
        "Normalizer OneHotEncoder ZipMap",
        "a part of the preparation of tables",
        _OUTSIDE,
    ),
    (
        "LinearClassifier LinearRegressor",
        "a linear model of classical machine learning",
        "write it as a matrix product with a constant matrix",
    ),
    ("SVMClassifier SVMRegressor", "a support vector machine", _TREES),
    ("TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor", "decision trees", _TREES),
)

_REASONS = {kind: (why, hint) for kinds, why, hint in _REFUSED for kind in kinds.split()}

# What onnxruntime's optimizer makes of several operations.
_FUSED = (
    "an operation of onnxruntime's own, as its optimizer makes",
    "convert the file as it was before it was optimized, or write it in ONNX's own operations",
)


def foreign(domain: str) -> tuple[str, str]:
    """Return why an operation that is no part of ONNX is unsupported, and a hint."""
    if not domain:
        return "no spiking form of this operation is known", "export the network without it"
    if domain.startswith("com.microsoft"):
        return _FUSED
    hint = "write it in ONNX's own operations, or export the network without it"
    return f"a custom operation of {domain!r}: what it computes is not known", hint


def reason(kind: str, otherwise: tuple[str, str] = foreign("")) -> tuple[str, str]:
    """Return why an operation without a converter is unsupported, and a hint; ``otherwise`` where that is not known."""
    return _REASONS.get(kind, otherwise)


def refused() -> Iterator[tuple[list[str], str, str]]:
    """Yield operations that are refused alike, why, and what to do instead."""
    for names, why, hint in _REFUSED:
        yield names.split(), why, hint
