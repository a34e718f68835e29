"""The whole network as measured with its layers."""

import dataclasses
from dataclasses import dataclass, field

from snnc.analysis.latency import active_steps, latency
from snnc.analysis.reach import connected
from snnc.conversion import Conversion
from snnc.data.samples import Samples
from snnc.feeds import Feeds
from snnc.figure import Arithmetic, Energy, Events
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.measure.energy import arithmetic, cost, energy, events
from snnc.measure.layers import Layer, Measured, compare_layers, describe
from snnc.measure.remarks import find
from snnc.tasks import Task, chosen


@dataclass(frozen=True)
class Summary:
    """The whole network, as measured with its layers; figures per inference. What needs images is None without them.

    ``total_steps`` is the latency from image to answer, ``steps_per_answer`` how often answers come when images are
    pipelined; ``agreement`` is the percentage of ``answers``, as the task calls them, that are the trained network's,
    ``output_errors`` how far each output is off, by its name, ``output_error`` how far all are (relative, L2).
    """

    timesteps: int
    sleep: int
    rehearsal: int
    total_steps: int
    steps_per_answer: int
    layers: int
    neurons: int
    reference_macs: int
    images: int
    agreement: float | None = None
    output_error: float | None = None
    spikes: float | None = None
    synaptic_operations: float | None = None
    analog_macs: float | None = None
    energy: Energy | None = None
    arithmetic: Arithmetic | None = None
    events: Events | None = None
    answers: str = "predictions"
    output_errors: dict[str, float] = field(default_factory=dict)

    @property
    def driven_by_spikes(self) -> float | None:
        """The percentage of the multiply-accumulates that spikes drive."""
        return None if self.arithmetic is None else self.arithmetic.driven_by_spikes


@dataclass(frozen=True, eq=False)
class Examined:
    """What is known of a conversion itself; ``measured`` is what images said, None where there were none."""

    summary: Summary
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    measured: Measured | None


def examine(
    conversion: Conversion,
    canonical: Graph | None = None,
    images: Samples | None = None,
    task: Task | None = None,
) -> Examined:
    """Measure a conversion on ``images`` (None for none) and remark on what was found.

    ``canonical`` is the trained network in the form that the spiking one was made from, needed with images.
    """
    snn, schedule = conversion.snn, conversion.schedule
    connections = connected(snn)
    layers = describe(snn, schedule)
    summary = Summary(
        timesteps=schedule.timesteps,
        sleep=schedule.sleep,
        rehearsal=schedule.rehearsal,
        total_steps=latency(snn, schedule),
        steps_per_answer=active_steps(snn, schedule),
        layers=len(layers),
        neurons=sum(layer.neurons for layer in layers),
        reference_macs=sum(layer.macs for layer in connections.values()),
        images=0,
        arithmetic=arithmetic(snn, connections, schedule),
        events=events(snn, schedule),
    )
    measured = None
    if images is not None and canonical is not None:
        task = task or chosen(conversion.task, snn)
        measured = compare_layers(canonical, snn, images, schedule, connections, task)
        known = measured.spikes, schedule, measured.sample.over_time, measured.payloads
        work = cost(snn, connections, *known)
        layers = measured.layers
        summary = dataclasses.replace(
            summary,
            images=measured.images,
            answers=task.answer_name,
            agreement=None if measured.agreement is None else 100 * measured.agreement,
            output_error=measured.output_error,
            output_errors=measured.output_errors,
            spikes=sum(float(spikes.sum()) for spikes in measured.spikes.values()),
            synaptic_operations=work.synaptic_operations,
            analog_macs=work.analog_macs,
            energy=energy(snn, connections, *known),
            events=events(snn, schedule, measured.spikes, measured.payloads),
            arithmetic=arithmetic(snn, connections, schedule, measured.spikes, measured.sample.over_time),
        )
    sample = Feeds({}) if measured is None else measured.sample
    found = find(conversion, layers, connections, sample)
    findings = dict.fromkeys([*found, *conversion.findings, *conversion.imported])
    return Examined(summary, layers, tuple(findings), measured)
