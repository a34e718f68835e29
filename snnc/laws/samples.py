"""Numbers that laws are tried on: drawn, and the same at every run."""

import torch
from torch import Generator, Tensor


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Tensor:
    """Return numbers between two others."""
    return low + (high - low) * torch.rand(*shape, generator=Generator().manual_seed(seed))
