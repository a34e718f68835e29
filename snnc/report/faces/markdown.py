"""Markdown as GitHub shows it: a model card for a repository, a comment on a change, the summary of a CI step."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from snnc.measure.gates import Gate
from snnc.report import facts
from snnc.report.data import Report
from snnc.report.escaping import escaped, printable
from snnc.report.faces import faces
from snnc.report.facts import Cell, Column, Fact, Table
from snnc.report.sentence import sentence

# So many layers, and limits on them, are enough to know where to look; the page has all.
_WORST = 5
_BROKEN = 10

_MARKS = {"passed": "✅", "failed": "❌", "undecided": "❔", "noted": "💬"}


@faces.register("markdown")
def markdown(report: Report) -> str:
    """Return the sentence first, then what it rests on, and where the rest can be had."""
    return "\n".join(_lines(report)).rstrip("\n") + "\n"


def _lines(report: Report) -> Iterator[str]:
    missing = facts.missing(report)
    gates = () if report.evaluation is None else report.evaluation.gates

    def lacking(*names: str) -> Iterator[str]:
        for name in names:
            if name in missing:
                yield from (f"> {missing[name].what} `{missing[name].command}`", "")

    yield from (f"# {_code(facts.model_file(report))} as a spiking network", "", f"**{escaped(sentence(report))}**", "")
    yield from _facts("figure", facts.key_facts(report), outside=False)
    yield from lacking("accuracy", "reference")
    yield from ("## Gates", "")
    yield from lacking("gates")
    yield from _gates(gates)
    yield from ("## Against time steps", "")
    yield from lacking("timesteps")
    if report.evaluation is not None:
        yield from _table(facts.by_timesteps(report.evaluation.rows))
        yield from ("In parentheses: 95 % intervals. Spikes, additions and energy are per image.", "")
    yield from ("## Layers", "")
    yield from lacking("layers", "blame")
    for row in facts.blamed(report)[:1]:
        table = facts.blame_table(row)
        yield from _table(replace(table, rows=table.rows[:_WORST]))
    if "layers" not in missing and report.layers:
        worst = sorted(report.layers, key=lambda layer: -(layer.error or 0.0))
        table = facts.layer_table(worst[:_WORST])
        yield from _table(replace(table, caption=f"The {len(table.rows)} layers with the largest errors"))
    yield from ("## Energy", "")
    yield from lacking("energy")
    energy = facts.measured_energy(report)
    if energy is not None:
        yield from (facts.break_even(energy), "")
        yield from _table(facts.energy_table(energy))
        yield from (f"Constants: {escaped(facts.constants(report))}.", "")
    yield from ("## Exports", "")
    yield from lacking("verifications")
    if report.verifications:
        yield from _table(facts.verifications_table(report.verifications))
    yield from ("## Findings", "")
    yield from _findings(report)
    yield from ("## Provenance", "")
    yield from _table(facts.passes_table(report))
    yield from _facts("what", facts.provenance(report), outside=True)


def _gates(gates: Sequence[Gate]) -> Iterator[str]:
    """Show the limits on the whole network, and some of those on layers that were not kept."""
    if not gates:
        return
    whole = [gate for gate in gates if not gate.layer]
    broken = [gate for gate in gates if gate.layer and gate.verdict != "passed"]
    yield from (f"In all: {facts.tally(gates)}.", "")
    yield from _table(facts.gates_table([*whole, *broken[:_BROKEN]]))
    if len(broken) > _BROKEN:
        yield from (f"And {len(broken) - _BROKEN} more layers whose limits were not kept, or not for certain.", "")


def _findings(report: Report) -> Iterator[str]:
    for group in facts.groups(report):
        for remark in group.remarks:
            where = f" At {', '.join(map(_code, remark.nodes))}." if remark.nodes else ""
            said = f"{escaped(remark.message)}.{where} Hint: {escaped(remark.hint)}."
            yield f"- **{group.severity}** {_code(group.code)}: {said}"
    yield from ([""] if report.all_findings else ["None.", ""])


def _facts(title: str, known: Sequence[Fact], *, outside: bool) -> Iterator[str]:
    columns = Column(title, "words"), Column("value", "code" if outside else "words"), Column("", "words")
    rows = tuple((Cell(fact.name), Cell(fact.value), Cell(fact.detail)) for fact in known)
    width = 2 if outside else 3
    yield from _table(Table("", columns[:width], tuple(row[:width] for row in rows)))


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield from (f"{table.caption}:", "")
    yield _row([column.title for column in table.columns])
    yield _row(["---:" if column.kind == "number" else ":---" for column in table.columns])
    for row in table.rows:
        yield _row([_cell(column, cell) for column, cell in zip(table.columns, row, strict=True)])
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, cell: Cell) -> str:
    detail = f" ({escaped(cell.detail)})" if cell.detail else ""
    if column.kind == "verdict":
        return f"{_MARKS[cell.text]} {cell.text}{detail}"
    outside = column.kind in ("layer", "code") and cell.text != facts.UNKNOWN
    return (_code(cell.text, in_table=True) if outside else escaped(cell.text)) + detail


def _code(text: str, *, in_table: bool = False) -> str:
    """Show text as it is: in code nothing is a link, a mention or a tag."""
    text = printable(text)
    if in_table:
        # A table is cut at bars before code is looked for; a backslash before one is dropped, and so are pairs of them.
        text = re.sub(r"(\\*)\|", r"\1\1\\|", text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text or not text.strip() else ""
    return f"{fence}{space}{text or ' '}{space}{fence}"
