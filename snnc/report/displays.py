"""What notebooks show of reports and evaluations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from snnc.blocks import Block, Checks, Plot, SideBySide, Text
from snnc.display import Display, displays
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import figures
from snnc.report.activity import Activity
from snnc.report.data import Report
from snnc.report.faces.notebook import fragment
from snnc.report.faces.plots import figure
from snnc.report.rows import csv_of
from snnc.report.sections.gates import gate_check
from snnc.report.sections.network import layer_table, over_layers
from snnc.report.sections.steps import row_table, trends
from snnc.report.sentence import sentence
from snnc.report.sweep import Sweep

# Curves that stand beside a table: there is a page for all of them.
_CURVES = 2


@final
@dataclass(frozen=True)
class Told(Display):
    """Words and a table, the curves below, and the rows of what was measured."""

    blocks: tuple[Block, ...]
    plots: tuple[Plot, ...]
    rows: tuple[Mapping[str, object], ...]

    def html(self) -> str:
        return fragment([*self.blocks, SideBySide(self.plots[:_CURVES])])

    def csv(self) -> str:
        return csv_of(self.rows)

    def figure(self) -> Any:
        return figure(self.plots[:_CURVES])


@displays.register("Evaluation")
def evaluation(found: Evaluation) -> Display:
    """Return the figures at every number of time steps, and their curves."""
    gates = [Checks("gate", tuple(gate_check(gate) for gate in found.gates))] if found.gates else []
    samples = Text(f"{found.samples:,} samples", soft=True)
    return Told((row_table(found.rows), samples, *gates), tuple(trends(found)), tuple(_rows(found)))


@displays.register("Report")
def report(found: Report) -> Display:
    """Return what was evaluated, or else what is known of the layers, below the sentence."""
    lead = Text(sentence(found))
    if found.evaluation is not None:
        told = evaluation(found.evaluation)
        assert isinstance(told, Told)
        return Told((lead, *told.blocks), told.plots, told.rows)
    layers = tuple(_plain(vars(layer)) for layer in found.layers)
    return Told((lead, layer_table(found.layers)), tuple(over_layers(found)), layers)


@displays.register("Activity")
def activity(found: Activity) -> Display:
    """Return who fires when."""
    return Told((Text(found.lead),), found.plots(), found.rows)


@displays.register("Sweep")
def sweep(found: Sweep) -> Display:
    """Return the table of means, and the curves."""
    return Told(tuple(found.blocks()), tuple(found.curves()), found.rows)


def _rows(found: Evaluation) -> Iterable[Mapping[str, object]]:
    for row in found.rows:
        yield {"timesteps": row.timesteps, "sleep": row.sleep, **figures_of(row)}


def figures_of(row: Any) -> dict[str, float]:
    """Return the figures of a row by names that programs have, with the ends of their 95 % intervals."""
    found: dict[str, float] = {}
    for known in figures("row"):
        value, interval = known.value(row), known.interval(row)
        name = known.name.replace(" ", "_").replace("-", "_")
        if value is None:
            continue
        found[name] = value
        if interval is not None:
            found[f"{name}_low"], found[f"{name}_high"] = interval
    return found


def _plain(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if isinstance(value, str | int | float)}
