"""What a NIR file says, executed through nirtorch: the reference that all readings are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.formats.nir.extra import nir_package, nirtorch_package
from snnc.formats.nir.profiles import STEP

if TYPE_CHECKING:
    from nir import NIRGraph, NIRNode


@final
@dataclass(frozen=True)
class Dynamics:
    """How neurons are understood, where NIR leaves it open or others differ.

    ``reset`` to the file's value (NIR's definition) or by the threshold; ``strict``, firing above the threshold only
    (NIR's definition), or at it, too; ``multiple`` spikes in one step, one for each threshold in the potential;
    ``waits``, what a spike leaves above the threshold fires again above twice the threshold only;
    ``floor``, thresholds below zero at which the potential is held (None: nowhere); ``leak``, what an IF keeps of its
    potential from one step to the next.
    """

    reset: Literal["subtract", "value"] = "subtract"
    strict: bool = False
    multiple: bool = False
    waits: bool = False
    floor: float | None = None
    leak: float = 1.0

    @property
    def words(self) -> str:
        """What a neuron does with its potential after a spike, and what else is its own."""
        said = ["sets potentials to zero after a spike" if self.reset == "value" else "takes the threshold off"]
        said += ["fires several spikes in a step"] * self.multiple
        said += ["fires what is left above twice the threshold only"] * self.waits
        said += ["lets potentials fade"] * (self.leak != 1.0)
        return " and ".join(said)


# The neurons of the exported network, as its metadata describes them.
SOFT, HARD = Dynamics(), Dynamics(reset="value")
# What NIR defines.
SPECIFIED = Dynamics(reset="value", strict=True)


@final
@dataclass(frozen=True, eq=False)
class Fired:
    """Mean outputs over time ``[N, ...]``, and by node the spikes of neurons ``[T, N, ...]``."""

    output: Tensor
    spikes: Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class Interpreter:
    """The reference: nirtorch, with neurons that are understood in one way."""

    reading: Dynamics = SOFT

    def answer(self, graph: NIRGraph, images: Tensor, timesteps: int) -> Fired:
        """Run images ``[N, ...]`` for so many steps."""
        nir = nir_package()
        network = nirtorch_package().nir_to_torch(
            graph,
            {
                nir.Affine: _Affine,
                nir.Conv1d: _Conv,
                nir.Conv2d: _Conv,
                nir.SumPool2d: _SumPool,
                nir.AvgPool2d: _AveragePool,
                nir.IF: lambda node: _Neuron(node, self.reading),
                nir.CubaLIF: lambda node: _Neuron(node, self.reading),
            },
        )
        return stepped(network, graph, images, timesteps)


def stepped(network: nn.Module, graph: NIRGraph, images: Tensor, timesteps: int) -> Fired:
    """Run a network that takes a step and its state, feeding the images at every step, and watch its neurons."""
    return watched(network, graph, lambda: _loop(network, images, timesteps), timesteps)


def watched(network: nn.Module, graph: NIRGraph, run: Callable[[], Tensor], timesteps: int) -> Fired:
    """Run a network, and gather what its neurons fire; ``run`` returns the mean output."""
    fired: dict[str, list[Tensor]] = {name: [] for name in neuron_nodes(graph)}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, trains=trains: trains.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
        for name, trains in fired.items()
    ]
    try:
        with torch.no_grad():
            output = run()
    finally:
        for hook in hooks:
            hook.remove()
    return Fired(output, {name: torch.stack(train[:timesteps]) for name, train in fired.items()})


def neuron_nodes(graph: NIRGraph) -> list[str]:
    """Return the names of the nodes that spike."""
    nir = nir_package()
    return [name for name, node in graph.nodes.items() if isinstance(node, nir.IF | nir.CubaLIF)]


def _loop(network: nn.Module, images: Tensor, timesteps: int) -> Tensor:
    total: Tensor | None = None
    state: Any = None
    for _ in range(timesteps):
        output, state = network(images, state)
        total = output if total is None else total + output
    assert total is not None
    return total / timesteps


class _Affine(nn.Module):
    def __init__(self, node: NIRNode) -> None:
        super().__init__()
        self.weight = _constant(node.weight)
        self.bias = _constant(node.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _Conv(nn.Module):
    def __init__(self, node: NIRNode) -> None:
        super().__init__()
        self.weight = _constant(node.weight)
        self.bias = _constant(node.bias)
        self._axes = self.weight.ndim - 2
        windows = (node.stride, node.padding, node.dilation)
        self._windows = [_integers(value, self._axes) for value in windows]
        self._groups = int(node.groups)

    def forward(self, x: Tensor) -> Tensor:
        convolve = F.conv1d if self._axes == 1 else F.conv2d
        stride, padding, dilation = self._windows
        y: Tensor = convolve(x, self.weight, self.bias, stride, padding, dilation, self._groups)
        return y


class _AveragePool(nn.Module):
    def __init__(self, node: NIRNode) -> None:
        super().__init__()
        self._windows = [_integers(value, 2) for value in (node.kernel_size, node.stride, node.padding)]

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self._windows
        return F.avg_pool2d(x, kernel, stride, padding)


class _SumPool(_AveragePool):
    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self._windows
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


class _Neuron(nn.Module):
    """An IF, or a CubaLIF in steps of ``STEP``; its state is the current and the potential."""

    def __init__(self, node: NIRNode, reading: Dynamics) -> None:
        super().__init__()
        self._reading = reading
        self.threshold, self.rest = _constant(node.v_threshold), _constant(node.v_reset)
        if isinstance(node, nir_package().IF):
            keeps: tuple[Any, ...] = (0.0, 1.0, reading.leak, node.r)
        else:
            synapse, membrane = STEP / node.tau_syn, STEP / node.tau_mem
            keeps = (1 - synapse, synapse * node.w_in, 1 - membrane, membrane * node.r)
        self.current_kept, self.current_gain, self.kept, self.gain = (_constant(value) for value in keeps)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        current, potential = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
        current = self.current_kept * current + self.current_gain * x
        # Only what waits is compared with more than the threshold.
        needed = self.threshold * (1 + (self._reading.waits & (potential > self.threshold)).to(x))
        potential = self.kept * potential + self.gain * current
        if self._reading.multiple:
            spikes = (potential / self.threshold).floor().clamp(min=0)
        elif self._reading.strict:
            spikes = (potential > needed).to(x)
        else:
            spikes = (potential >= needed).to(x)
        if self._reading.reset == "subtract":
            potential = potential - spikes * self.threshold
        else:
            potential = torch.where(spikes > 0, self.rest, potential)
        if self._reading.floor is not None:
            potential = torch.maximum(potential, -self._reading.floor * self.threshold)
        return spikes, (current, potential)


def _constant(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).float()


def _integers(value: Any, axes: int) -> list[int]:
    found = [int(entry) for entry in torch.as_tensor(value).reshape(-1)]
    return found * axes if len(found) == 1 else found
