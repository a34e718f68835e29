"""One small function per ONNX operation, in terms of ours; one file per family."""

from snnc.frontend.expression import Converter
from snnc.registry import Registry

operators: Registry[Converter] = Registry("ONNX operation", "snnc.frontend.operators")
