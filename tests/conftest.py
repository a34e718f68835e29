"""Set the tests up."""

import numpy as np
import pytest

from snnc import process

# As the command line does, and before any test imports torch.
process.prepare()


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """Draw the networks of a test alike, whichever tests ran before it in its process."""
    from tests import frontend_files

    frontend_files.RANDOM = np.random.default_rng(0)
