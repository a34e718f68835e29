"""Execution of graphs, trained and spiking alike."""

from snnc.run.simulation import Signals, chunk_size, predicted, run, stream

__all__ = ["Signals", "chunk_size", "predicted", "run", "stream"]
