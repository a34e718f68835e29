"""How other frameworks read NIR, and the network that they make of it, where they are installed.

Their importers take the structure alike and the neurons differently: each has, for IF and for CubaLIF, the ``Dynamics``
that its source has, so that what it fires can be compared with the reference read in the same way. ``faithful`` is the
same framework told to reset by the threshold, where its public settings allow that.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.formats.nir.interpreter import Dynamics, Fired, neuron_nodes, stepped, watched
from snnc.formats.nir.profiles import STEP
from snnc.registry import suggest

if TYPE_CHECKING:
    from nir import NIRGraph

Run = Callable[["NIRGraph", Tensor, int], Fired]


@final
@dataclass(frozen=True, eq=False)
class Framework:
    """A framework: its package, and for each neuron of NIR how it reads it (no entry: not at all).

    ``lines`` load the file as ``run`` does, {dt} being the length of a step.
    """

    name: str
    package: str
    readings: Mapping[str, Dynamics]
    run: Run
    lines: tuple[str, ...] = ()

    def code(self, neuron: str) -> tuple[str, ...]:
        """Return the lines of Python that load FILE, whose neurons are of this kind, as a network."""
        return tuple(line.replace("{dt}", "1.0" if neuron == "IF" else f"{STEP:g}") for line in self.lines)

    @property
    def version(self) -> str:
        """The installed version; "" where there is none."""
        if importlib.util.find_spec(self.package) is None:
            return ""
        return metadata.version(self.package)

    def answer(self, graph: NIRGraph, images: Tensor, timesteps: int) -> Fired:
        """Run images ``[N, ...]`` for so many steps; raises UsageError where the framework is not installed."""
        if not self.version:
            raise UsageError(f"{self.name} is not installed", hint=f"pip install {self.package}")
        # What they print, and warn of, is not about the network.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _logging_off():
            warnings.simplefilter("ignore")
            return self.run(graph, images, timesteps)


def installed() -> list[Framework]:
    """Return the frameworks that are installed."""
    return [framework for framework in FRAMEWORKS.values() if framework.version]


def framework(name: str) -> Framework:
    """Return a framework by its name; raises UsageError for one that is not known."""
    if name not in FRAMEWORKS:
        raise UsageError(f"unknown framework {name!r}", hint=suggest(name, FRAMEWORKS))
    return FRAMEWORKS[name]


@contextlib.contextmanager
def _logging_off() -> Iterator[None]:
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _in_order(network: Any) -> Any:
    """Return a network of nirtorch's older executor with its nodes in the order of their numbers.

    Its own order goes down one branch to the end before it looks at the next: a sum would come before what it adds.
    """
    network.execution_order.sort(key=lambda node: node.name)
    return network


def _norse(graph: NIRGraph, images: Tensor, timesteps: int, *, subtract: bool = False) -> Fired:
    norse = importlib.import_module("norse.torch")
    reset = importlib.import_module("norse.torch.functional.reset")
    method = reset.reset_subtract if subtract else reset.reset_value
    network = _in_order(norse.from_nir(graph, ignore_warnings=True, reset_method=method, dt=STEP))
    return stepped(network, graph, images, timesteps)


def _snntorch(graph: NIRGraph, images: Tensor, timesteps: int) -> Fired:
    importer = importlib.import_module("snntorch.import_nir")
    network = importer.import_from_nir(graph)
    # Its neurons keep their state themselves.
    for name in neuron_nodes(graph):
        network.get_submodule(name).init_hidden = True
    return watched(network, graph, lambda: _keeping_state(network, images, timesteps), timesteps)


def _keeping_state(network: nn.Module, images: Tensor, timesteps: int) -> Tensor:
    outputs = (network(images) for _ in range(timesteps))
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outputs]).mean(0)


def _sinabs(graph: NIRGraph, images: Tensor, timesteps: int, *, single: bool = False) -> Fired:
    importer = importlib.import_module("sinabs.nir")
    network = _in_order(importer.from_nir(graph, batch_size=len(images), num_timesteps=timesteps))
    if single:
        activation = importlib.import_module("sinabs.activation")
        for name in neuron_nodes(graph):
            neuron = network.get_submodule(name)
            neuron.spike_fn, neuron.min_v_mem = activation.SingleSpike, None
    # All steps of a sample in a row, in the place of the batch.
    feed = images.repeat_interleave(timesteps, 0)

    def run() -> Tensor:
        output = network(feed)
        output = output[0] if isinstance(output, tuple) else output
        mean: Tensor = output.reshape(len(images), timesteps, *output.shape[1:]).mean(1)
        return mean

    answer = watched(network, graph, run, 1)
    trains = {
        name: train[0].reshape(len(images), timesteps, *train.shape[2:]).transpose(0, 1)
        for name, train in answer.spikes.items()
    }
    return Fired(answer.output, trains)


def _spikingjelly(graph: NIRGraph, images: Tensor, timesteps: int, *, subtract: bool = False) -> Fired:
    exchange = importlib.import_module("spikingjelly.activation_based.nir_exchange.from_nir")
    nir: Any = importlib.import_module("nir")
    # Of an IF it wants the resistance to be one over the step.
    plain = any(isinstance(node, nir.IF) for node in graph.nodes.values())
    network = exchange.import_from_nir(graph, dt=1.0 if plain else STEP)
    if subtract:
        for name in neuron_nodes(graph):
            network.get_submodule(name).module.v_reset = None
    return stepped(network, graph, images, timesteps)


_SOFT = Dynamics()
_HARD = Dynamics(reset="value")
_HARD_STRICT = Dynamics(reset="value", strict=True)
_FADING = Dynamics(strict=True, waits=True, leak=0.9)

_NODES_IN_ORDER = "network.execution_order.sort(key=lambda node: node.name)"
_NORSE = (
    "import nir, norse.torch as norse, norse.torch.functional.reset as reset",
    'network = norse.from_nir(nir.read("FILE"), ignore_warnings=True, reset_method=reset.reset_value, dt=0.0001)',
    _NODES_IN_ORDER,
)
_SNNTORCH = (
    "import nir; from snntorch.import_nir import import_from_nir",
    'network = import_from_nir(nir.read("FILE"))',
    # Its neurons would hand their state on to layers that take none.
    '[setattr(module, "init_hidden", True) for module in network.modules() if hasattr(module, "init_hidden")]',
)
_SINABS = (
    "import nir; from sinabs.nir import from_nir",
    'network = from_nir(nir.read("FILE"), batch_size=1, num_timesteps=TIMESTEPS)',
    _NODES_IN_ORDER,
)
_SPIKINGJELLY = (
    "import nir",
    "from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir",
    'network = import_from_nir(nir.read("FILE"), dt={dt})',
)

FRAMEWORKS: Mapping[str, Framework] = {
    framework.name: framework
    for framework in (
        Framework("norse", "norse", {"IF": _HARD_STRICT, "CubaLIF": _HARD_STRICT}, _norse, _NORSE),
        # It reads an IF as a leaky neuron whose potential fades by a tenth a step.
        Framework("snntorch", "snntorch", {"IF": _FADING, "CubaLIF": _HARD_STRICT}, _snntorch, _SNNTORCH),
        Framework("sinabs", "sinabs", {"IF": Dynamics(multiple=True, floor=1.0)}, _sinabs, _SINABS),
        Framework("spikingjelly", "spikingjelly", {"IF": _HARD, "CubaLIF": _HARD}, _spikingjelly, _SPIKINGJELLY),
        Framework(
            "norse-subtract",
            "norse",
            {"CubaLIF": Dynamics(strict=True)},
            partial(_norse, subtract=True),
            tuple(line.replace("reset_value", "reset_subtract") for line in _NORSE),
        ),
        Framework(
            "sinabs-single",
            "sinabs",
            {"IF": _SOFT},
            partial(_sinabs, single=True),
            (
                *_SINABS,
                "from sinabs.activation import SingleSpike",
                "for layer in network.modules():",
                '    if hasattr(layer, "spike_fn"): layer.spike_fn, layer.min_v_mem = SingleSpike, None',
            ),
        ),
        Framework(
            "spikingjelly-subtract",
            "spikingjelly",
            {"IF": _SOFT, "CubaLIF": _SOFT},
            partial(_spikingjelly, subtract=True),
            (
                *_SPIKINGJELLY,
                "for layer in network.modules():",
                '    if hasattr(layer, "v_reset"): layer.v_reset = None',
            ),
        ),
    )
}
