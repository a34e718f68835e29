"""What turns a trained graph into a spiking one, one pass a file."""

from snnc.passes.base import Pass, passes

__all__ = ["Pass", "passes"]
