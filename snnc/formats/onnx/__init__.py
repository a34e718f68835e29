"""Networks as ONNX files, with neurons and without."""

from snnc.formats.onnx.engine import Onnxruntime
from snnc.formats.onnx.file import BATCH
from snnc.formats.onnx.lowering import SpikingFile
from snnc.formats.onnx.network import OPSETS, onnx_model
from snnc.formats.onnx.operations import writers
from snnc.formats.onnx.spiking import OnnxFormat, spiking_file

__all__ = ["BATCH", "OPSETS", "OnnxFormat", "Onnxruntime", "SpikingFile", "onnx_model", "spiking_file", "writers"]
