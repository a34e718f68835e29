"""Set the tests up."""

import contextlib
import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from snnc import process

# As the command line does, and before any test imports torch.
process.prepare()


def pytest_configure() -> None:
    """Let the processes that tests start keep bytecode: a hundred of them would compile the package anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


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


@pytest.fixture
def torchscript_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export TorchScript in this process: one of its own takes seconds, and test_frontend_torchscript is about it."""
    from snnc.frontend import torchscript

    def answered(asked: bytes, seconds: float) -> tuple[int, str]:
        # The limits are those of a process that ends with its answer.
        with monkeypatch.context() as unlimited:
            unlimited.setattr(torchscript.resource, "setrlimit", lambda *limits: None)
            unlimited.setattr(torchscript, "limited_memory", lambda allowed: contextlib.nullcontext())
            torchscript.answer(json.loads(asked))
        return 0, ""

    monkeypatch.setattr(torchscript, "_run", answered)


@pytest.fixture(scope="module")
def trained_shortly() -> Iterator[None]:
    """Train in passes for at most five steps: for what asks how a network is made and told, not how good it becomes."""
    from snnc.passes.distill import Distill

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Distill, "_within", lambda self, training: min(5, self.steps))
        yield


@pytest.fixture(scope="module")
def counted_shortly() -> Iterator[None]:
    """Count operations step by step on two samples: of more it takes longer than to convert, and other tests ask it."""
    from snnc.measure import neurobench

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(neurobench, "_MOST", 2)
        yield
