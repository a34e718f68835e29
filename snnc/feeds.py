"""What goes into a network: samples by the names of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from snnc.errors import UsageError
from snnc.schedule import Schedule

# Values over time by node, ``[steps, N, ...]``, or ``[1, N, ...]`` where every step is the same.
Signals = dict[str, Tensor]


@final
class Feeds(Mapping[str, Tensor]):
    """Some samples by the names of the inputs that take them: ``[N, ...]``, or frames over time ``[S, N, ...]``.

    ``over_time`` names the inputs that are frames, ``samples`` is N. A network that is not spiking sees the mean of the
    frames or, where they are ``apart``, one after the other, and what it makes of them is averaged. Tensors keep their
    type, and are handed out laid out in memory as operations like them. Raises ValueError where inputs have other
    numbers of samples.
    """

    def __init__(self, tensors: Mapping[str, Tensor], over_time: Iterable[str] = (), *, apart: bool = False) -> None:
        self.over_time = frozenset(over_time)
        self.apart = apart
        self._tensors = dict(tensors)
        # Laid out when it is asked for: a part of what is laid out starts where memory is not aligned, on which the
        # last digit of a sum can depend.
        self._ready: dict[str, Tensor] = {}
        if not self.over_time <= set(self._tensors):
            raise ValueError(f"no input is called {sorted(self.over_time - set(self._tensors))[0]!r}")
        # len() would fix the number of samples where this is traced.
        counts = [tensor.shape[self._axis(name)] for name, tensor in self._tensors.items()]
        self.samples = counts[0] if counts else 0
        if any(count != self.samples for count in counts[1:]):
            raise ValueError(f"inputs of different numbers of samples: {counts}")

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._ready:
            self._ready[name] = _laid_out(self._tensors[name], name in self.over_time)
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {[*tensor.shape]}" for name, tensor in self._tensors.items())
        return f"Feeds({shapes})"

    def part(self, start: int, stop: int) -> Feeds:
        """Return the samples from ``start`` up to ``stop``."""
        return self._each(lambda name, tensor: tensor.narrow(self._axis(name), start, stop - start))

    def taken(self, numbers: Tensor) -> Feeds:
        """Return some of the samples, in the order of ``numbers``."""
        return self._each(lambda name, tensor: tensor.index_select(self._axis(name), numbers))

    def split(self, size: int) -> Iterator[Feeds]:
        """Yield the samples in order, ``size`` at once; the last are what is left."""
        for start in range(0, self.samples, size):
            yield self.part(start, min(start + size, self.samples))

    def to(self, like: torch.device | torch.dtype) -> Feeds:
        """Return the samples on another device, or those that are no integers in another precision."""
        precision = isinstance(like, torch.dtype)
        return self._each(lambda _, tensor: tensor.to(like) if tensor.is_floating_point() or not precision else tensor)

    def signals(self, schedule: Schedule) -> Signals:
        """Return what enters at every step: a sample at all alike, ``[1, N, ...]``; of frames, ``[total, N, ...]``.

        Frame t is shown at step t. Where there are more steps than frames, these are repeated, spread or held, as the
        schedule says; where there are fewer, a step shows the mean of its share of the frames. A rehearsal shows
        frames from the first one on, and asleep nothing is shown. Raises UsageError for frames of which steps are to
        carry shares.
        """
        if self.over_time and schedule.shares:
            hint = "leave out --shares: frames say themselves what comes when"
            raise UsageError("shares of an image, for frames that change", place="shares", hint=hint)
        return {
            name: _shown(tensor, schedule) if name in self.over_time else tensor.unsqueeze(0)
            for name, tensor in self.items()
        }

    def frames(self) -> Iterator[Feeds]:
        """Yield what a network that is not spiking sees: samples that stay as they are, one for each frame or the mean.

        Of inputs with fewer frames than others, the last is held.
        """
        if not self.apart:
            yield Feeds({n: t.mean(0) if n in self.over_time else t for n, t in self._tensors.items()})
            return
        for at in range(max((len(self._tensors[name]) for name in self.over_time), default=1)):
            yield Feeds({n: t[min(at, len(t) - 1)] if n in self.over_time else t for n, t in self._tensors.items()})

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> Feeds:
        changed = {name: change(name, tensor) for name, tensor in self._tensors.items()}
        return Feeds(changed, self.over_time, apart=self.apart)

    def _axis(self, name: str) -> int:
        """Return the axis that counts samples."""
        return 1 if name in self.over_time else 0


def rechunk(batches: Iterable[Feeds], size: int) -> Iterator[Feeds]:
    """Cut a stream of batches into chunks of ``size`` samples; the last one may be smaller."""
    rest: list[Feeds] = []
    held = 0
    for batch in batches:
        rest.append(batch)
        held += batch.samples
        if held >= size:
            joined = _joined(rest)
            whole = held - held % size
            yield from joined.part(0, whole).split(size)
            rest, held = [joined.part(whole, held)] if held > whole else [], held - whole
    if held:
        yield _joined(rest)


def laid_out(tensor: Tensor) -> Tensor:
    """Return a tensor of images or of kernels with the channels innermost, which convolutions on a CPU like."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _laid_out(tensor: Tensor, over_time: bool) -> Tensor:
    return laid_out(tensor.flatten(0, 1)).view(tensor.shape) if over_time else laid_out(tensor)


def _joined(parts: list[Feeds]) -> Feeds:
    if len(parts) == 1:
        return parts[0]
    over_time = parts[0].over_time
    joined = {
        name: torch.cat([part._tensors[name] for part in parts], 1 if name in over_time else 0) for name in parts[0]
    }
    return Feeds(joined, over_time, apart=parts[0].apart)


def _shown(frames: Tensor, schedule: Schedule) -> Tensor:
    """Return frames ``[S, N, ...]`` as they are shown over all steps."""
    shown = [_fitted(frames, steps, schedule.frames) for steps in (schedule.rehearsal, schedule.timesteps) if steps]
    return torch.cat([*shown, torch.zeros_like(frames[:1]).expand(schedule.sleep, *frames.shape[1:])])


def _fitted(frames: Tensor, steps: int, how: str) -> Tensor:
    count = len(frames)
    at = torch.arange(steps)
    if steps < count:
        edges = [step * count // steps for step in range(steps + 1)]
        return torch.stack([frames[low:high].mean(0) for low, high in pairwise(edges)])
    chosen = {"repeat": at % count, "spread": at * count // steps, "hold": at.clamp(max=count - 1)}[how]
    return frames[chosen.to(frames.device)]
