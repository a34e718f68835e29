"""Conformance vectors: what goes in, what every layer of neurons fires, and what comes out, to check hardware by."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from safetensors.torch import save
from torch import Generator, Tensor

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.neurons import Neuron
from snnc.neurons.base import mean_signal
from snnc.neurons.two_phase_probabilistic import draws
from snnc.run import run

FORMAT_VERSION = 1

# The entry of the metadata that says what the tensors are.
METADATA = "snnc.vectors"


def conformance_vectors(
    conversion: Conversion, images: Tensor, labels: Tensor | None, values: Mapping[str, str], *, seed: int = 0
) -> bytes:
    """Return a safetensors file of what the spiking network does for images ``[N, ...]``.

    It holds ``input``, as the network takes it; by layer ``spikes.LAYER``, the signed numbers of spikes of every neuron
    at every step, ``[steps, N, ...]``, steps of rehearsal first and those asleep last; ``output.NAME``, the mean over
    time ``[N, ...]``; ``draws.LAYER``, the random numbers ``[timesteps, N, ...]`` of neurons that draw; and ``labels``
    where there are any. The metadata has the schedule, and of every layer its neuron, its name in the trained network
    and, in ``values``, what its spikes are called in the exported file. The same network and images give the same
    bytes.
    """
    snn, schedule = conversion.snn, conversion.schedule
    neurons = snn.ops(Neuron)
    tensors: dict[str, Tensor] = {"input": images}
    if labels is not None:
        tensors["labels"] = labels

    def observe(name: str, response: Tensor) -> None:
        tensors[f"spikes.{name}"] = neurons[name].fired(response, schedule).to(torch.int8)

    (image,) = snn.inputs
    generator = Generator().manual_seed(seed)
    found = run(
        snn,
        {image: images.unsqueeze(0)},
        snn.outputs,
        schedule,
        step_by_step=True,
        observe=observe,
        generator=generator,
    )
    tensors |= {f"output.{name}": mean_signal(found[name], schedule)[0] for name in snn.outputs}
    generator = Generator().manual_seed(seed)
    for name, neuron in neurons.items():
        if neuron.random:
            numbers = draws((len(images), *snn.shapes[name]), schedule.timesteps, generator)
            tensors[f"draws.{name}"] = torch.stack([*numbers])
    about = {
        "format": FORMAT_VERSION,
        "network": fingerprint(conversion),
        "schedule": asdict(schedule),
        "layers": [
            {
                "name": name,
                "neuron": type(neuron).__name__,
                "source": snn.nodes[name].source,
                "value": values.get(name, ""),
            }
            for name, neuron in neurons.items()
        ],
        "outputs": list(snn.outputs),
    }
    text = json.dumps(about, sort_keys=True)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, {METADATA: text})
