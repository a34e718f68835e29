"""Another device, without one: tensors that say they are elsewhere, and refuse to meet those that are here.

A stand-in for a GPU, stricter than one: operations on tensors of two devices raise, single numbers included, and only
copies go from one to the other. What is computed is computed on the CPU, by the kernels that would compute it there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# A device of torch that is not the CPU and needs no start: that its tensors hold numbers is our doing.
ELSEWHERE = torch.device("meta")
_HERE = torch.device("cpu")
_COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}


class MixedDevicesError(RuntimeError):
    """Tensors of two devices have met."""


class Away(Tensor):
    """A tensor on the other device; ``here`` is what it holds."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Away":
        away = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=ELSEWHERE
        )
        away.here = here
        return away

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


@contextmanager
def other_device() -> Iterator[None]:
    """While it lasts there is a second device: ``tensor.to(ELSEWHERE)`` and ``torch.zeros(2, device=ELSEWHERE)``."""
    with _Constants(), _Operations():
        yield


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        # What reads numbers from Python makes a tensor without them where it is told the device that stands in here.
        if func is torch.tensor and given.get("device") == ELSEWHERE:
            del given["device"]
            return func(*args, **given).to(ELSEWHERE)
        return func(*args, **given)


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given: list[Tensor] = []
    _each(Tensor, lambda tensor: given.append(tensor) or tensor, (args, kwargs))
    devices = {value.device for value in given}
    if len(devices) > 1 and func not in _COPIES:
        raise MixedDevicesError(f"{func} on {' and '.join(sorted(map(str, devices)))}")
    wanted = kwargs.get("device")
    device = torch.device(wanted) if wanted is not None else given[0].device if given else _HERE
    # What was written to, or is a view of nothing but itself, stays the tensor that it was.
    known = {id(value.here): value for value in given if isinstance(value, Away)}
    unwrapped = _each(Away, lambda away: away.here, (args, kwargs))
    if device.type == ELSEWHERE.type and "device" in unwrapped[1]:
        unwrapped[1]["device"] = _HERE
    result = func(*unwrapped[0], **unwrapped[1])
    if device.type != ELSEWHERE.type:
        return result
    return _each(Tensor, lambda here: known[id(here)] if id(here) in known else Away(here), result)


def _each(kind: type[Tensor], change: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with each tensor of a kind in it changed. torch's own walk takes longer than small operations."""
    if isinstance(value, kind):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_each(kind, change, part) for part in value)
    return {key: _each(kind, change, part) for key, part in value.items()} if type(value) is dict else value


def here(tensor: Tensor) -> Tensor:
    """Return what a tensor of the other device holds."""
    assert isinstance(tensor, Away), "it is not on the other device"
    return tensor.here
