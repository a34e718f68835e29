"""Look at the spikes and the membranes of single layers while one sample is shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from snnc.actions.opened import Spiking, conversion_of
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.given import Data, Given, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.ir import Input, Node
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import kind_of, retimed, stretched
from snnc.registry import suggest
from snnc.report.activity import Activity, LayerActivity
from snnc.run import Program
from snnc.schedule import check_steps
from snnc.tasks import chosen

# So many neurons of a layer are shown unless it is said how many, the most active ones.
NEURONS = 24


def spikes(
    network: Spiking,
    sample: Data,
    *,
    index: int = 0,
    layers: Sequence[str] = (),
    neurons: int = NEURONS,
    timesteps: int | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
) -> Activity:
    """Show one sample to a network, and return what the neurons of ``layers``, or of all, do at every step.

    ``sample`` is an image or another file of a folder, or data of which ``index`` says which sample. Of every layer the
    ``neurons`` that fire most are kept, in the order of their counts. Membranes are known of neurons that have steps.
    Raises DataError where there is no such sample, UsageError for layers that there are not.
    """
    conversion = conversion_of(network)
    schedule = conversion.schedule
    if timesteps is not None:
        check_steps(timesteps, schedule.sleep, schedule.rehearsal, prefix="--")
        schedule = schedule.over(timesteps, schedule.sleep)
    if neurons < 1:
        raise UsageError(f"{neurons} neurons", place="--neurons", hint="give a whole number from 1")
    snn = retimed(conversion.snn, conversion.schedule, schedule)
    known = snn.ops(Neuron)
    for name in layers:
        if name not in known:
            raise UsageError(f"no spiking layer is called {name!r}", place="--layer", hint=suggest(name, list(known)))
    dataset, index = _found(sample, index, preprocessing or conversion.preprocessing, snn.ops(Input))
    task = chosen(conversion.task, snn, dataset.kinds).named(dataset)
    trains: dict[str, Tensor] = {}
    potentials: dict[str, Tensor] = {}

    def observe(name: str, response: Tensor) -> None:
        trains[name] = known[name].fired(response, schedule)[:, 0].flatten(1)

    def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        if isinstance(node.op, CausalNeuron):
            found = node.op.potentials(stretched(inputs[0], schedule), schedule)
            # Channels have thresholds of their own: what is shown is the share of one's own.
            potentials[node.name] = (found / node.op.threshold)[:, 0].flatten(1)
        return compute(*inputs)

    feeds = next(iter(dataset.chosen([index]).batches(Reading(batch_size=1))))
    program = Program(snn, schedule, trains=True)
    with torch.no_grad():
        found = program(feeds, observe=observe, generator=Generator().manual_seed(seed), through=through)
    answer = task.answers([found[name][0] for name in task.judged(snn.outputs)])[0]
    shown = [_layer(name, known[name], trains[name], potentials.get(name), neurons) for name in layers or known]
    return Activity(conversion.provenance.model.file, dataset.name(index), task.told(answer), schedule, tuple(shown))


def _layer(name: str, neuron: Neuron, train: Tensor, potential: Tensor | None, most: int) -> LayerActivity:
    counts = train.abs().sum(0)
    kept = counts.argsort(descending=True, stable=True)[:most]
    return LayerActivity(
        name=name,
        neuron=kind_of(neuron),
        neurons=len(counts),
        fired=int(counts.sum()),
        active=int((counts > 0).sum()),
        numbers=tuple(kept.tolist()),
        spikes=tuple(tuple(int(value) for value in row) for row in train[:, kept].T.tolist()),
        potentials=() if potential is None else tuple(tuple(row) for row in potential[:, kept].T.tolist()),
    )


def _found(sample: Data, index: int, preprocessing: Preprocessing, inputs: Mapping[str, Input]) -> tuple[Dataset, int]:
    """Open what was given, or the folder around a single file; return it with the number of the sample."""
    held = gathered(sample)
    around = _around(held, preprocessing, inputs) if isinstance(held, Path) and held.is_file() else None
    if around is not None:
        return around
    dataset = open_dataset(held, preprocessing, inputs)
    if not 0 <= index < len(dataset):
        place = held.name if isinstance(held, Given) else str(held)
        raise DataError(f"no sample {index}", place=place, hint=f"give --index from 0 to {len(dataset) - 1}")
    return dataset, index


def _around(file: Path, preprocessing: Preprocessing, inputs: Mapping[str, Input]) -> tuple[Dataset, int] | None:
    """Return the folder that a file is a sample of, and its number there; None where it is none."""
    try:
        dataset = open_dataset(file.parent, preprocessing, inputs)
    except DataError:
        return None
    named = (number for number in range(len(dataset)) if Path(dataset.place(number)).resolve() == file.resolve())
    number = next(named, None)
    return None if number is None else (dataset, number)
