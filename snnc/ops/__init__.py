"""The stateless operations of trained networks. The first axis of every tensor is the batch.

Shapes in fields are those of one sample. Spatial tuples run from the first spatial axis to the last; paddings are
all the beginnings, then all the ends, as ONNX has them.
"""

from snnc.ir import Input, Op
from snnc.ops.activation import (
    HALF,
    Activation,
    Clipped,
    ClippedCoding,
    ClippedRelu,
    Coding,
    LeakyRelu,
    Quantized,
    QuantizedRelu,
    Relu,
    level_count,
)
from snnc.ops.arithmetic import Add, Affine, BatchNorm
from snnc.ops.contraction import MatMul
from snnc.ops.embedding import Embedding
from snnc.ops.nonlinear import Nonlinear
from snnc.ops.normalization import LocalResponseNorm, LogSoftmax, Normalization, RootMeanSquareNorm, Softmax
from snnc.ops.pointwise import Pointwise, Product, Sigmoid, Tanh
from snnc.ops.pool import AveragePool, MaxPool, Pool
from snnc.ops.reduction import EuclideanNorm, LogSumExp, Mean, Reduction, TotalProduct
from snnc.ops.resampling import GridSample, Resample
from snnc.ops.routing import Concat, Pad, Reshape, Routing, Slice, Take, Transpose
from snnc.ops.weighted import Conv, ConvTranspose, Linear, Weighted

__all__ = [
    "HALF",
    "Activation",
    "Add",
    "Affine",
    "AveragePool",
    "BatchNorm",
    "Clipped",
    "ClippedCoding",
    "ClippedRelu",
    "Coding",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Embedding",
    "EuclideanNorm",
    "GridSample",
    "Input",
    "LeakyRelu",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "LogSumExp",
    "MatMul",
    "MaxPool",
    "Mean",
    "Nonlinear",
    "Normalization",
    "Op",
    "Pad",
    "Pointwise",
    "Pool",
    "Product",
    "Quantized",
    "QuantizedRelu",
    "Reduction",
    "Relu",
    "Resample",
    "Reshape",
    "RootMeanSquareNorm",
    "Routing",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Take",
    "Tanh",
    "TotalProduct",
    "Transpose",
    "Weighted",
    "level_count",
]
