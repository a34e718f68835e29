"""The front door: a trained network's file in, one graph of our operations out."""

from snnc.frontend.annotation import annotate
from snnc.frontend.expression import InputShapes
from snnc.frontend.model import Model, Opened, Survey, open_model, read_model, unsupported
from snnc.frontend.module import Example, example_of, read_module
from snnc.frontend.walk import FOLDED, LEFT_OUT, UNROLLED, Verdict

__all__ = [
    "FOLDED",
    "LEFT_OUT",
    "UNROLLED",
    "Example",
    "InputShapes",
    "Model",
    "Opened",
    "Survey",
    "Verdict",
    "annotate",
    "example_of",
    "open_model",
    "read_model",
    "read_module",
    "unsupported",
]
