"""The conversion report as data, and its machine form."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snnc.conversion import Conversion, latency
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron
from snnc.report.findings import find
from snnc.report.layers import Layer, describe, measure
from snnc.run.cost import PICOJOULES_PER_ACCUMULATION, PICOJOULES_PER_MAC, Cost, cost, synapses

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Summary:
    """The whole network; figures per inference. What needs images is None without them.

    ``total_steps`` is the latency from image to answer, ``steps_per_answer`` how often answers come when images are
    pipelined; ``agreement`` is the percentage of measured images with the trained network's prediction.
    """

    timesteps: int
    sleep: int
    rehearsal: int
    total_steps: int
    steps_per_answer: int
    layers: int
    neurons: int
    reference_macs: int
    reference_energy_microjoules: float
    images: int
    agreement: float | None = None
    output_error: float | None = None
    spikes: float | None = None
    synaptic_operations: float | None = None
    analog_macs: float | None = None
    energy_microjoules: float | None = None
    energy_ratio: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything the report's faces show."""

    summary: Summary
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    passes: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]


def build(conversion: Conversion, canonical: Graph, images: Iterable[Tensor] | None) -> Report:
    """Measure a conversion on ``images`` (batches ``[N, ...]``, None for none) and tell what was found.

    ``canonical`` is the trained network in the form that the spiking one was made from.
    """
    snn, schedule = conversion.snn, conversion.schedule
    connections = synapses(snn)
    macs = sum(layer.macs for layer in connections.values())
    energy = Cost(0.0, macs).microjoules
    layers = describe(snn)
    summary = Summary(
        timesteps=schedule.timesteps,
        sleep=schedule.sleep,
        rehearsal=schedule.rehearsal,
        total_steps=latency(snn, schedule),
        steps_per_answer=schedule.total if snn.ops(CausalNeuron) else schedule.timesteps,
        layers=len(snn.ops(Neuron)),
        neurons=sum(layer.neurons for layer in layers),
        reference_macs=macs,
        reference_energy_microjoules=energy,
        images=0,
    )
    if images is not None:
        measured = measure(canonical, snn, images, schedule, connections)
        work = cost(connections, measured.spikes, schedule)
        layers = measured.layers
        summary = dataclasses.replace(
            summary,
            images=measured.images,
            agreement=100 * measured.agreement,
            output_error=measured.output_error,
            spikes=sum(float(spikes.sum()) for spikes in measured.spikes.values()),
            synaptic_operations=work.synaptic_operations,
            analog_macs=work.analog_macs,
            energy_microjoules=work.microjoules,
            energy_ratio=work.microjoules / energy if energy else None,
        )
    return Report(
        summary=summary,
        layers=layers,
        findings=tuple(dict.fromkeys([*find(conversion, layers, connections), *conversion.imported])),
        passes=tuple({"name": a.name, "options": dict(a.options), "changed": a.changed} for a in conversion.applied),
        provenance=dict(conversion.provenance),
    )


def plain(report: Report) -> dict[str, Any]:
    """Return the report as plain data, with the version of its schema and the constants its energies rest on."""
    return {
        "schema_version": SCHEMA_VERSION,
        "energy_model": {
            "picojoules_per_mac": PICOJOULES_PER_MAC,
            "picojoules_per_accumulation": PICOJOULES_PER_ACCUMULATION,
            "source": "45 nm, 32-bit float; Horowitz, ISSCC 2014",
        },
        **_rounded(dataclasses.asdict(report)),
    }


def _rounded(data: Any) -> Any:
    """Round numbers to nine digits: the rest depends on the order in which threads add up."""
    if isinstance(data, float):
        return float(f"{data:.9g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list | tuple) else data


def to_json(report: Report) -> str:
    """Return the machine form: keys sorted, no time stamps, so that equal conversions give equal bytes."""
    return json.dumps(plain(report), sort_keys=True, indent=1, allow_nan=False) + "\n"
