"""snnc env."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.version import VERSION

if TYPE_CHECKING:
    from snnc.blocks import Block

_PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "safetensors")


@commands.register("env")
def env(terminal: Terminal) -> None:
    """Show versions and the machine, for bug reports."""
    from importlib.metadata import version

    import torch

    facts = {
        "snnc": VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
    }

    def human() -> list[Block]:
        from snnc.blocks import Fact, Facts

        return [Facts(tuple(Fact(name, str(value)) for name, value in facts.items()))]

    terminal.show(facts, human)
