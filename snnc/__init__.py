"""A compiler from trained neural networks to spiking ones."""

__version__ = "0.1.0"
