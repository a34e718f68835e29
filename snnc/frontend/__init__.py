"""The front door: a trained network's file in, one graph of our operations out."""

from snnc.frontend.model import Model, Survey, read_model, survey
from snnc.frontend.walk import Verdict

__all__ = ["Model", "Survey", "Verdict", "read_model", "survey"]
