"""The limits, and whether they are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.blocks import Block, Cell, Check, Checks, Column, Fold, Missing, Room, Table, Text, Verdict
from snnc.measure.gates import Gate
from snnc.report.data import Report
from snnc.report.sections import EVALUATE, Section, sections
from snnc.text import counted, exact

# So many limits on layers are enough to know where to look.
_BROKEN = 10

# The worst first.
VERDICTS: tuple[Verdict, ...] = ("failed", "not proven", "noted", "passed")


@sections.register("gates")
@dataclass(frozen=True)
class GatesSection(Section):
    """The gates on the whole network, and those on its layers."""

    title: ClassVar[str] = "Gates"
    order: ClassVar[int] = 20
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the verdicts as tables, as test cases, and line by line."""
        gates = () if report.evaluation is None else report.evaluation.gates
        whole, by_layer = ([gate for gate in gates if bool(gate.layer) == of_layer] for of_layer in (False, True))
        yield Checks(
            "gates", tuple(gate_check(gate, f"{gate.name} at T={gate.timesteps}") for gate in whole), only=("cases",)
        )
        if not gates:
            yield Missing("No limits were set.", f"{EVALUATE} {_limit(report)}")
            return
        yield Text(
            "A limit is kept where what was measured is within it; that is not proven where the 95 % interval reaches "
            f"beyond. In all: {tally(gates)}.",
            only=("page",),
        )
        yield Text(f"In all: {tally(gates)}.", only=("card",))
        # Of many layers most pass, and what is not proven is a finding.
        told = [gate for gate in gates if gate.verdict == "failed" or (gate.verdict == "passed" and not gate.layer)]
        yield Checks("gate", tuple(map(gate_check, told)), only=("lines",))
        if whole:
            yield gate_table(whole, only=("page",))
        if by_layer:
            yield Fold(
                "Limits on every layer", (gate_table(by_layer),), tally(by_layer), opened=not whole, only=("page",)
            )
        broken = [gate for gate in by_layer if gate.verdict != "passed"]
        yield gate_table([*whole, *broken[:_BROKEN]], only=("card",))
        if len(broken) > _BROKEN:
            more = f"And {counted(len(broken) - _BROKEN, 'more layer')} whose limits were not kept, or not for certain."
            yield Text(more, only=("card",))

    def verdicts(self, report: Report) -> Iterator[Check]:
        """Yield the gates on the whole network, and those on layers as one."""
        gates = () if report.evaluation is None else report.evaluation.gates
        yield from (gate_check(gate) for gate in gates if not gate.layer)
        by_layer = [gate for gate in gates if gate.layer]
        if by_layer:
            yield Check("", worst(by_layer), f"limits on {counted(len(by_layer), 'layer')}: {tally(by_layer)}")


def worst(judged: Iterable[Gate | Check]) -> Verdict:
    """Return the verdict on several: passed where all are."""
    found = {one.verdict for one in judged}
    return next((verdict for verdict in VERDICTS if verdict in found), "passed")


def gate_check(gate: Gate, name: str = "") -> Check:
    """Return a gate as something that was to be kept."""
    return Check(name, gate.verdict, gate.sentence)


def gate_table(gates: Sequence[Gate], *, only: tuple[Room, ...] = ()) -> Table:
    """Return how limits were kept."""
    return Table.of(
        "The limits, and whether they are kept",
        [
            (Column("verdict", "verdict"), lambda gate: gate.verdict),
            (Column("gate", "code"), lambda gate: gate.name),
            (Column("layer", "layer"), lambda gate: gate.layer or None),
            (Column("T"), lambda gate: str(gate.timesteps)),
            (Column("measured"), _measured),
            (Column("allowed"), _allowed),
            (Column("samples that would prove it"), _deciding),
        ],
        gates,
        only=only,
    )


def _limit(report: Report) -> str:
    """Return a limit that could be set on what the report has."""
    if report.stripped:
        return "--max-energy-ratio 1"
    labeled = report.evaluation is None or report.evaluation.labeled
    return "--max-drop 1%" if labeled else "--min-agreement 99"


def tally(judged: Sequence[Gate | Check]) -> str:
    """Say how many there are of each verdict."""
    found = {verdict: sum(one.verdict == verdict for one in judged) for verdict in VERDICTS}
    return ", ".join(f"{count} {verdict}" for verdict, count in found.items() if count)


def _measured(gate: Gate) -> Cell | None:
    cell = Cell.of(gate.measured, gate.interval, gate.unit)
    return None if cell is None else replace(cell, text=f"{cell.text}{gate.unit}")


def _allowed(gate: Gate) -> str:
    return f"{'at least' if gate.name.startswith('min-') else 'at most'} {exact(gate.limit)}{gate.unit}"


def _deciding(gate: Gate) -> Cell | None:
    if gate.proven is not False:
        return None
    if gate.interval is None:
        return Cell("2 or more", "one does not say how much samples vary")
    if gate.samples_needed is None:
        return Cell("none within reason", f"{gate.samples:,} were measured")
    return Cell(f"{gate.samples_needed:,}", f"{gate.samples:,} were measured")
