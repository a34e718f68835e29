"""Set the tests up."""

import numpy as np
import pytest

from snnc import process

# As the command line does, and before any test imports torch.
process.prepare()


def draw_anew() -> None:
    from tests import frontend_files

    frontend_files.RANDOM = np.random.default_rng(0)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Draw what a file of tests draws as it is read alike, whichever files were read before."""
    if isinstance(collector, pytest.Module):
        draw_anew()


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """Draw the networks of a test alike, whichever tests ran before it in its process."""
    draw_anew()
