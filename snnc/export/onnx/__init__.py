"""Networks as ONNX files, with neurons and without."""

from snnc.export.onnx.file import BATCH
from snnc.export.onnx.lowering import SpikingFile
from snnc.export.onnx.network import OPSETS, onnx_model
from snnc.export.onnx.operations import writers
from snnc.export.onnx.spiking import spiking_file
from snnc.export.onnx.verification import Onnxruntime

__all__ = ["BATCH", "OPSETS", "Onnxruntime", "SpikingFile", "onnx_model", "spiking_file", "writers"]
