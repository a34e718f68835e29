"""Choose what answers within a number of steps from image to answer."""

from dataclasses import dataclass
from pathlib import Path

from snnc.analysis.latency import latency
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress, silent
from snnc.frontend import InputShapes
from snnc.hardware.steps import Way, ways
from snnc.hardware.target import Target
from snnc.pipeline import outline, read_trained
from snnc.recipe import load
from snnc.schedule import Schedule
from snnc.tasks import Task
from snnc.text import counted, written
from snnc.trials import Bench, Candidate, Family
from snnc.validation import called

# So many of the best are tried where there is data.
_TRIED = 3


@dataclass(frozen=True)
class Chosen:
    """The way that was chosen, and ``told`` in one line what it is and why."""

    way: Way
    told: str


def choose_steps(
    model: Path,
    steps: int,
    *,
    target: Target | None = None,
    max_event: int | None = None,
    data: Path | None = None,
    preprocessing: Preprocessing | None = None,
    task: Task | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Chosen:
    """Choose neuron, levels, time steps awake and asleep, and shares of the image, for at most so many steps in all.

    Events are of at most ``max_event`` units, and what the target can. With data the best few are tried with the recipe
    quick, and the one whose answers are most often the trained network's, on samples that none was made on, is chosen;
    labels are not looked at. Raises UsageError where nothing answers within so many steps, and says what would.
    """
    trained = read_trained(model, input_shape)
    waits = latency(outline(trained.graph, load("quick", timesteps=1)), Schedule(1))
    found = ways(steps, waits, target, max_event)
    on = "" if target is None else f" on {target.name}"
    asked = f"chosen for at most {counted(steps, 'step')}{on}"
    best, why = found[0], found[0].why
    if data is not None and len(found) > 1:
        bench = Bench(trained, data, preprocessing or Preprocessing(), reading or Reading(), task)
        agreed = []
        for way in found[:_TRIED]:
            conversion, _ = bench.make(_candidate(way), progress)
            (row,) = bench.judge(conversion, progress).rows
            if row.agreement is not None:
                agreed.append((row.agreement, way))
        if len(agreed) > 1:
            agreement, best = max(agreed, key=lambda pair: pair[0])
            others = ", ".join(f"{way.neuron} {written(share, '%')} %" for share, way in agreed if way is not best)
            share = f"{written(agreement, '%')} % of answers as the trained network's on samples held out"
            why = f"{best.why}; with the recipe quick {share} ({others})"
    return Chosen(best, f"{asked}: {best.told}; {why}")


def _candidate(way: Way) -> Candidate:
    """Return a way as something to be tried."""
    name, schedule = called(way.neuron, place="")[0], way.schedule
    changes = [f"passes.substitute-neurons.neuron={way.neuron}"]
    changes += [f"shares={[*schedule.shares]}"] if schedule.shares else []
    family = Family("quick", name, way.neuron, tuple(changes), schedule.sleep)
    return family.at(schedule.timesteps)
