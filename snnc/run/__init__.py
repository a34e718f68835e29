"""Execution of graphs, trained and spiking alike."""

from snnc.run.device import computing_on
from snnc.run.program import ONCE, Observer, Program

__all__ = ["ONCE", "Observer", "Program", "computing_on"]
