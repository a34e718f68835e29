"""Conformance vectors: what goes in, what every layer of neurons fires, and what comes out, to check hardware by."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Generator, Tensor

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.data.arrays import read_archive
from snnc.data.labels import CLASSES
from snnc.data.samples import Samples
from snnc.documents import from_json
from snnc.errors import DataError
from snnc.feeds import rechunk
from snnc.files import check_file, read_bytes
from snnc.formats.nir.observed import read_observed
from snnc.ir import Node
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import kind_of, mean_signal, stretched
from snnc.neurons.two_phase_probabilistic import draws
from snnc.process import memory
from snnc.run import Program

VECTORS_VERSION = 1

# The entry of the metadata that says what the tensors are.
METADATA = "snnc.vectors"


def conformance_vectors(
    conversion: Conversion,
    samples: Samples,
    *,
    trains: Mapping[str, str] = {},
    means: Mapping[str, str] = {},
    seed: int = 0,
    potentials: bool = False,
) -> bytes:
    """Return a safetensors file of what the spiking network does for samples.

    It holds ``input``, ``[N, ...]`` as the network takes it (``input.NAME`` each where there are several); by layer
    ``spikes.LAYER``, the signed numbers of spikes of every neuron at every step, ``[steps, N, ...]`` (steps of
    rehearsal first, those asleep last), ``counts.LAYER``, how many the layer fires whatever their sign, ``[steps, N]``,
    and ``threshold.LAYER`` and ``slope.LAYER``, what a spike weighs; on demand ``potential.LAYER``, the membrane
    potentials after every step, ``[steps, N, ...]``, of neurons that have steps;
    ``output.NAME``, the mean over time ``[N, ...]``; ``draws.LAYER``, the random numbers ``[timesteps, N, ...]`` of
    neurons that draw; and ``labels`` where there are any. The metadata has the schedule, the seed, and of
    every layer its neuron, its name in the trained network, and what the exported file calls its spikes times their
    weight: at every step (``train``; in ONNX steps and images are one axis, steps outside), or their mean over time
    (``mean``). The same network and images give the same bytes.
    """
    snn, schedule = conversion.snn, conversion.schedule
    neurons = snn.ops(Neuron)
    generator, same = Generator().manual_seed(seed), Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {}

    def keep(name: str, tensor: Tensor) -> None:
        parts.setdefault(name, []).append(tensor)

    def observe(name: str, response: Tensor) -> None:
        keep(f"spikes.{name}", neurons[name].fired(response, schedule).to(torch.int32))

    def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        if potentials and isinstance(node.op, CausalNeuron):
            keep(f"potential.{node.name}", node.op.potentials(stretched(inputs[0], schedule), schedule))
        return compute(*inputs)

    program = Program(snn, schedule, trains=True)
    for feeds in rechunk(samples.batches(), program.chunk):
        for name, values in feeds.items():
            keep("input" if len(feeds) == 1 else f"input.{name}", values.contiguous())
        found = program(feeds, observe=observe, generator=generator, through=through)
        for name in snn.outputs:
            keep(f"output.{name}", mean_signal(found[name], schedule)[0])
        for name, neuron in neurons.items():
            if neuron.random:
                numbers = draws((feeds.samples, *snn.shapes[name]), schedule.timesteps, same)
                keep(f"draws.{name}", torch.stack([*numbers]))
    # Images are the first axis of what has no steps, and the second of what has.
    stepped = ("spikes.", "draws.", "potential.")
    tensors = {name: torch.cat(held, 1 if name.startswith(stepped) else 0) for name, held in parts.items()}
    for name, neuron in neurons.items():
        spikes = tensors[f"spikes.{name}"]
        tensors[f"spikes.{name}"] = _narrowed(spikes)
        tensors[f"counts.{name}"] = spikes.abs().flatten(2).sum(2).to(torch.int32)
        weighed = {"threshold": neuron.threshold, "slope": neuron.slope}
        tensors |= {f"{what}.{name}": tensor.clone() for what, tensor in weighed.items() if tensor is not None}
    classes = samples.labels(CLASSES)
    if classes is not None:
        tensors["labels"] = classes.answers
    about = {
        "format": VECTORS_VERSION,
        "network": fingerprint(conversion),
        "schedule": asdict(schedule),
        "seed": seed,
        "layers": [
            {
                "name": name,
                "neuron": kind_of(neuron),
                "membrane_bits": neuron.membrane_bits,
                "source": snn.nodes[name].place,
                "train": trains.get(name, ""),
                "mean": means.get(name, ""),
            }
            for name, neuron in neurons.items()
        ],
        "outputs": list(snn.outputs),
    }
    text = json.dumps(about, sort_keys=True)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, {METADATA: text})


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file of some tensors, such as samples under the names of conformance vectors."""
    return save(dict(tensors), None if metadata is None else dict(metadata))


def unpacked(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    return load(data)


@final
@dataclass(frozen=True, eq=False)
class Vectors:
    """The tensors of a file of vectors by their names, and of which network and seed they say they are.

    ``membrane_bits`` are those of the layers where membranes saturate, by name.
    """

    tensors: Mapping[str, Tensor]
    network: str = ""
    seed: int = 0
    membrane_bits: Mapping[str, int] = field(default_factory=dict)


def read_vectors(path: Path) -> Vectors:
    """Read a file of vectors: ours (.safetensors), an archive of arrays by the same names (.npz), or NIR's (.nir).

    Raises DataError where it is none of them, and UsageError for NIR's without the extra ``snnc[nir]``.
    """
    if path.suffix.lower() == ".nir":
        return Vectors(read_observed(path))
    if path.suffix.lower() == ".npz":
        arrays = read_archive(path).items()
        # Torch has no numbers longer than eight bytes.
        kinds = {n: "f8" if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=") for n, array in arrays}
        return Vectors({n: torch.from_numpy(array.astype(kinds[n])) for n, array in arrays})
    size = check_file(path, hint="write one with: snnc export --vectors 16")
    hint = "give a file of snnc export --vectors, or write one with numpy.savez: spikes.LAYER for each, and input"
    if 2 * size > memory():
        raise DataError("the vectors do not fit into memory", place=str(path), hint="compare fewer samples")
    try:
        data = read_bytes(path)
        tensors = unpacked(data)
        header = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        said = from_json(header.get("__metadata__", {}).get(METADATA, "{}").encode())
        seed = said.get("seed", 0)
        if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
            raise ValueError(f"the seed is {seed!r}")
        layers = (layer for layer in said.get("layers", []) if layer.get("membrane_bits"))
        bits = {layer["name"]: layer["membrane_bits"] for layer in layers}
        return Vectors(tensors, str(said.get("network", "")), seed, bits)
    except (SafetensorError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError("damaged, or no .npz or .safetensors file", place=str(path), hint=hint) from error


def _narrowed(spikes: Tensor) -> Tensor:
    """Return numbers of spikes in one byte each, unless a neuron fires more than that holds in one step."""
    fits = not spikes.numel() or int(spikes.abs().max()) <= torch.iinfo(torch.int8).max
    return spikes.to(torch.int8) if fits else spikes
