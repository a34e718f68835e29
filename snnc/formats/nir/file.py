"""A NIR file: a spiking network as a graph of NIR, and the bytes of it in HDF5.

Nodes are numbered, because HDF5 keeps them by the alphabet, and importers build networks in that order. The same
network gives the same bytes with the same versions of nir, h5py and HDF5, which stamp no time into them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import UsageError
from snnc.formats.nir.extra import nir_package
from snnc.formats.nir.links import Flattening, Kernel, Link, Matrix, SumPool, shape_behind, squared
from snnc.formats.nir.lowering import Term, lowered
from snnc.formats.nir.profiles import PROFILES, STEP, Profile
from snnc.ir import Graph, Input
from snnc.registry import suggest
from snnc.version import VERSION

if TYPE_CHECKING:
    from nir import NIRGraph, NIRNode

_Array = NDArray[Any]

NIR_VERSION = 1

# So many steps a membrane would take to leak away: beyond what single precision tells from never.
_LEAKLESS = 2.0**26


@final
@dataclass(frozen=True, eq=False)
class NirFile:
    """A network in NIR, and which node of it is which layer of neurons.

    ``layers`` has the node by the layer's name. ``zero`` says that neurons are reset to zero; others are reset by their
    threshold. The output is to be averaged over ``timesteps``, the image being fed at each of them.
    """

    graph: NIRGraph
    layers: dict[str, str]
    zero: bool
    timesteps: int
    profile: Profile

    def data(self) -> bytes:
        """Return the file."""
        buffer = io.BytesIO()
        nir_package().write(buffer, self.graph)
        return buffer.getvalue()


def nir_file(conversion: Conversion, profile: str = "portable", snn: Graph | None = None) -> NirFile:
    """Write a conversion as a NIR file of one of ``PROFILES``; ``snn`` is the part of its network that is written.

    Raises UsageError for an unknown profile and where the extra ``snnc[nir]`` is not installed, and ModelError that
    names what NIR cannot say.
    """
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}", place="--profile", hint=suggest(profile, PROFILES))
    how = PROFILES[profile]
    snn = snn or conversion.snn
    network = lowered(snn, conversion.schedule, how)
    nodes = _Nodes(snn, how)
    nodes.enter(network.input, nir_package().Input({"input": np.array(network.shape)}))
    for layer in network.layers:
        ends = [nodes.chain(term, layer.name) for term in layer.terms]
        nodes.add(layer.name, _neuron(layer.threshold, how, {"source": layer.place}), ends)
        nodes.sources[layer.name] = nodes.last
    shape = np.array(network.output.shape)
    nodes.add("output", nir_package().Output({"output": shape}), [nodes.chain(network.output, "output")])
    metadata = _metadata(conversion, how, zero=network.zero)
    graph = nir_package().NIRGraph(nodes.nodes, nodes.edges, metadata=metadata)
    layers = {layer.name: nodes.sources[layer.name] for layer in network.layers}
    return NirFile(graph, layers, network.zero, conversion.schedule.timesteps, how)


class _Nodes:
    """Nodes and edges as they come to be; alive for one export."""

    def __init__(self, snn: Graph, profile: Profile) -> None:
        self.nodes: dict[str, NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[str, str] = {}
        self.last = ""
        # By the source and the very links of a chain: chains that begin alike share what they have in common.
        self._written: dict[tuple[str, ...], str] = {}

    def enter(self, source: str, node: NIRNode) -> None:
        self.add("input", node, [])
        self.sources[source] = self.last

    def add(self, name: str, node: NIRNode, inputs: list[str]) -> None:
        self.last = f"n{len(self.nodes):04}_{name}"
        self.nodes[self.last] = node
        self.edges += [(value, self.last) for value in inputs]

    def chain(self, term: Term, reader: str) -> str:
        """Write the links of a chain, as far as they are not yet; returns the node that they end at."""
        value = self.sources[term.source]
        shape = tuple(int(size) for size in self.nodes[value].output_type["output"])
        key: tuple[str, ...] = (term.source,)
        for link in term.links:
            key = (*key, str(id(link)))
            if key not in self._written:
                node = _node(link, shape, reader)
                self.add(f"{reader}_{type(node).__name__.lower()}", node, [value])
                self._written[key] = self.last
            value = self._written[key]
            shape = shape_behind(shape, link)
        return value


def _node(link: Link, shape: tuple[int, ...], place: str) -> NIRNode:
    nir = nir_package()
    if isinstance(link, Matrix):
        return nir.Affine(weight=_single(link.weight), bias=_single(link.bias))
    if isinstance(link, SumPool):
        blank = np.zeros(2, np.int64)
        return nir.SumPool2d(kernel_size=np.array(link.kernel), stride=np.array(link.stride), padding=blank)
    if isinstance(link, Flattening):
        # Importers count the batch or do not: from the end, all agree.
        return nir.Flatten({"input": np.array(link.shape)}, start_dim=-len(link.shape), end_dim=-1)
    assert isinstance(link, Kernel)
    weight, padding = squared(link, shape, place)
    common = {"weight": _single(weight), "bias": _single(link.bias), "groups": 1}
    if len(padding) == 1:
        return nir.Conv1d(input_shape=shape[1], stride=link.stride[0], padding=padding[0], dilation=1, **common)
    return nir.Conv2d(input_shape=shape[1:], stride=link.stride, padding=padding, dilation=(1, 1), **common)


def _neuron(threshold: Tensor, profile: Profile, metadata: dict[str, Any]) -> NIRNode:
    nir = nir_package()
    fires = _single(threshold)
    ones = np.ones(fires.shape)
    if profile.neuron == "IF":
        single = ones.astype(np.float32)
        return nir.IF(r=single, v_threshold=fires, v_reset=np.zeros_like(fires), metadata=metadata)
    # In double precision: rounded, a step over a time constant of one step would not be 1.
    return nir.CubaLIF(
        tau_syn=STEP * ones,
        tau_mem=STEP * _LEAKLESS * ones,
        r=_LEAKLESS * ones,
        v_leak=0 * ones,
        v_threshold=fires.astype(np.float64),
        v_reset=0 * ones,
        w_in=ones,
        metadata=metadata,
    )


def _metadata(conversion: Conversion, profile: Profile, *, zero: bool) -> dict[str, Any]:
    """Return what a file says of itself, beyond what NIR has words for."""
    model, calibration = conversion.provenance.model, conversion.provenance.calibration
    return {
        "generator": f"snnc {VERSION}",
        "snnc_format": NIR_VERSION,
        "profile": profile.name,
        "reset": "zero" if zero else "subtract",
        "reset_meaning": "v <- 0 where a neuron fires" if zero else "v <- v - v_threshold where a neuron fires",
        "fires": "v >= v_threshold, after the current of the step; v(0) = 0",
        "time_step": STEP,
        "timesteps": conversion.schedule.timesteps,
        "input": "the preprocessed sample, the same at every step",
        **_rounded(conversion.snn),
        "output": "the mean over all steps",
        "network_sha256": fingerprint(conversion),
        "model_file": model.file,
        "model_sha256": model.sha256,
        "calibration_sha256": "" if calibration is None else calibration.sha256,
    }


def _rounded(snn: Graph) -> dict[str, Any]:
    """Return what the sample is rounded to before it is fed, where that is said."""
    (op,) = snn.ops(Input).values()
    return {} if op.unit is None else {"input_unit": op.unit, "input_most": op.most * op.unit}


def _single(tensor: Tensor) -> _Array:
    array: _Array = tensor.detach().cpu().float().contiguous().numpy()
    return array
