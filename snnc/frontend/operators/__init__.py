"""One small function per ONNX operation, in terms of ours; one file per family.

They are called as ONNX calls the operation, those of other domains ``DOMAIN.NAME``.
"""

from snnc.frontend.expression import Converter
from snnc.registry import Registry

operators: Registry[Converter] = Registry("ONNX operation", "snnc.frontend.operators")
