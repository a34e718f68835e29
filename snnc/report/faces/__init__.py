"""The faces of a report: the same data for different readers, each a text."""

from collections.abc import Callable

from snnc.registry import Registry
from snnc.report.data import Report

faces: Registry[Callable[[Report], str]] = Registry("face", __name__)
