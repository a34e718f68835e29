"""Where programs compute."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from snnc.errors import UsageError

CPU = torch.device("cpu")
_CURRENT = ContextVar("device", default=CPU)


def current_device() -> torch.device:
    """Return where programs that are made now compute: on the CPU, unless another device was chosen."""
    return _CURRENT.get()


@contextmanager
def computing_on(device: torch.device | str) -> Iterator[None]:
    """Let networks that are run as long as this lasts be run on a device, or that of a name: auto, cpu or cuda.

    Single precision is what it says. What is solved for or trained stays on the CPU. Raises UsageError where there is
    no such device.
    """
    device = device_of(device) if isinstance(device, str) else device
    before, rounds = _CURRENT.set(device), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = rounds and device == CPU
    try:
        yield
    finally:
        _CURRENT.reset(before)
        torch.backends.cudnn.allow_tf32 = rounds


def device_of(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU where there is one, of several processes each its own.

    Raises UsageError where there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("torch sees no GPU here", place="--device", hint="use --device cpu")
        index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if index >= count:
            hint = f"start at most {count} processes here, or use --device cpu"
            raise UsageError(f"more processes than GPUs ({count})", place="--device", hint=hint)
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    if name != "cpu":
        raise UsageError(f"unknown device {name!r}", place="--device", hint="give auto, cpu or cuda")
    return CPU
