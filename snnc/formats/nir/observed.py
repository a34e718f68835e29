"""Conformance vectors as NIR has them (``nir.data_ir``): by node, what is observed there at every step."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from snnc.errors import DataError
from snnc.files import check_file
from snnc.formats.nir.extra import nir_package
from snnc.formats.nir.profiles import STEP

if TYPE_CHECKING:
    from nir import NIRGraphData

    from snnc.formats.nir.file import NirFile

# What vectors call what is observed, and what NIR does.
_OBSERVED = {"spikes": "spikes", "potential": "voltages"}

# By so much of a step may times be off.
_OFF = 1e-3

# Nodes are numbered in front of the names of layers.
_NUMBERED = re.compile(r"n\d{4}_")


def observed(tensors: Mapping[str, Tensor], file: NirFile, *, answers: bool) -> bytes:
    """Return a file of what is observed at the neurons, the input and, with ``answers``, the output of a NIR file.

    Spikes are truth values where no event is negative or of several levels. Samples and answers are of one step that is
    as long as all.
    """
    nir, nodes = nir_package(), dict[str, Any]()
    layers = {node: layer for layer, node in file.layers.items()}
    steps = file.timesteps
    for node, op in file.graph.nodes.items():
        if node in layers:
            found = {name: f"{key}.{layers[node]}" for key, name in _OBSERVED.items()}
            nodes[node] = {name: _gridded(tensors[key]) for name, key in found.items() if key in tensors}
        elif isinstance(op, nir.Input):
            nodes[node] = {"input": _once(tensors["input"], steps)}
        elif isinstance(op, nir.Output) and answers:
            (answer,) = (tensor for name, tensor in tensors.items() if name.startswith("output."))
            nodes[node] = {"output": _once(answer, steps)}
    buffer = io.BytesIO()
    nir.write_data(buffer, nir.NIRGraphData({node: nir.NIRNodeData(found) for node, found in nodes.items()}))
    return buffer.getvalue()


def read_observed(path: Path) -> dict[str, Tensor]:
    """Read such a file under the names of vectors, every neuron of a layer in one row, ``[steps, N, neurons]``.

    Raises DataError where it is none, and UsageError without the extra ``snnc[nir]``.
    """
    check_file(path, hint="write one with: snnc export --format nir --vectors 16")
    nir = nir_package()
    try:
        data: NIRGraphData = nir.read_data(path)
        found: dict[str, Tensor] = {}
        for node, observed in data.nodes.items():
            layer = _NUMBERED.sub("", node, count=1)
            for key, name in _OBSERVED.items():
                if name in observed.observables:
                    found[f"{key}.{layer}"] = _train(observed.observables[name])
            if "input" in observed.observables:
                found["input"] = torch.from_numpy(np.asarray(observed.observables["input"].data[:, 0]))
        return found
    except (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        hint = "write one with nir.write_data: spikes at the nodes of every layer, and input at that of the input"
        raise DataError("damaged, or no observations of NIR", place=str(path), hint=hint) from error


def _train(observed: Any) -> Tensor:
    """Return observations ``[N, steps, neurons]``, or events at times, as a train ``[steps, N, neurons]``."""
    if hasattr(observed, "dt"):
        return torch.from_numpy(np.ascontiguousarray(observed.data.swapaxes(0, 1)).astype(np.float64))
    train = np.zeros((round(observed.t_max / STEP), observed.n_samples, observed.n_neurons))
    samples, events = np.nonzero(observed.idx >= 0)
    # A step starts at a time that is a little off a whole number of them.
    steps = np.floor(observed.time[samples, events] / STEP + _OFF).astype(int)
    if (steps < 0).any():
        raise ValueError("events before the first step")
    values = observed.value[samples, events] if hasattr(observed, "value") else 1.0
    # Of several events of a neuron in one step none is lost.
    np.add.at(train, (steps, samples, observed.idx[samples, events]), values)
    return torch.from_numpy(train)


def _gridded(train: Tensor) -> Any:
    """Return a train ``[steps, N, ...]`` as NIR has it: ``[N, steps, neurons]``."""
    flat = train.flatten(2) if train.ndim > 2 else train.unsqueeze(2)
    array = flat.transpose(0, 1).contiguous().numpy()
    single = not train.is_floating_point() and bool(((train == 0) | (train == 1)).all())
    return nir_package().TimeGriddedData(array.astype(bool if single else np.float32), STEP)


def _once(values: Tensor, steps: int) -> Any:
    array = values.reshape(len(values), 1, math.prod(values.shape[1:])).numpy()
    return nir_package().TimeGriddedData(array, STEP * steps)
