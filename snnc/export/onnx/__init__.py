"""Networks as ONNX files, with neurons and without."""

from snnc.export.onnx.engine import Onnxruntime
from snnc.export.onnx.file import BATCH
from snnc.export.onnx.lowering import SpikingFile
from snnc.export.onnx.network import OPSETS, onnx_model
from snnc.export.onnx.operations import writers
from snnc.export.onnx.spiking import OnnxFormat, spiking_file

__all__ = ["BATCH", "OPSETS", "OnnxFormat", "Onnxruntime", "SpikingFile", "onnx_model", "spiking_file", "writers"]
