"""How inspect and convert --dry-run tell what will become of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.cli.console import Terminal

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.actions.plan import Plan
    from snnc.blocks import Block, Facts
    from snnc.frontend import Survey


def show_plan(terminal: Terminal, found: Plan, data: Path | None, files: Sequence[Path], chosen: str = "") -> None:
    """Print what a conversion would do, which files it would write, and its recipe as ``--save-recipe`` writes it.

    Before that what was ``chosen``, and why.
    """
    schedule = found.recipe.schedule
    plain = {
        "survey": plain_survey(found.survey),
        "recipe": found.recipe.plain(),
        "schedule": {**dataclasses.asdict(schedule), "total_steps": found.total_steps},
        "layers": found.layers,
        "data": None if data is None else {"path": str(data), "images": found.images},
        "files": [str(path) for path in files],
        **({"chosen": chosen} if chosen else {}),
    }

    def human() -> Iterator[Block]:
        from snnc.blocks import Text

        yield from [Text(chosen)] if chosen else []
        yield from _plan(found, data, files)

    terminal.show(plain, human)


def refuse(terminal: Terminal, found: Plan) -> None:
    """Raise ModelError where the model holds what cannot spike."""
    from snnc.frontend import unsupported

    if found.survey.problems:
        error = unsupported(found.survey, str(found.model.path))
        # Who has seen the table knows them.
        error.details = error.details if terminal.quiet else ()
        raise error


def plain_survey(found: Survey) -> dict[str, Any]:
    """Return the machine form of a survey."""
    refusals = [dataclasses.asdict(refusal) for refusal in found.refusals]
    return {**dataclasses.asdict(found), "macs": found.macs, "refusals": refusals}


def survey_blocks(found: Survey) -> Iterator[Block]:
    """Tell what a model holds and what becomes of it."""
    from snnc.blocks import Cell, Column, Table, Text
    from snnc.report.sections.findings import by_kind
    from snnc.text import fixed

    facts = {
        "input": ", ".join(
            _shape(shape) if len(found.input_shapes) == 1 else f"{name} {_shape(shape)}"
            for name, shape in found.input_shapes.items()
        ),
        "output": ", ".join(map(_shape, found.output_shapes)),
        "MACs": f"{found.macs:,}",
        "opset": str(found.opset),
        "made by": found.producer or "unknown",
        "sha256": found.sha256,
        **({"recipe": found.recipe} if found.recipe else {}),
    }
    yield facts_of(facts)
    yield Text("")
    yield Table.of(
        "",
        [
            (Column("operation", "layer"), lambda verdict: verdict.name),
            (Column("kind", "words"), lambda verdict: verdict.operation),
            (Column("MACs %"), lambda verdict: Cell(fixed(100 * verdict.share) if verdict.macs else "")),
            (Column("becomes", "words"), lambda verdict: verdict.text),
        ],
        found.verdicts,
    )
    yield from by_kind(found.findings)


def facts_of(facts: Mapping[str, str]) -> Facts:
    """Return names and values as a block."""
    from snnc.blocks import Fact, Facts

    return Facts(tuple(Fact(name, value) for name, value in facts.items()))


def as_typed(options: Mapping[str, Any]) -> str:
    """Return options of a pass or of preprocessing in one line, values as in YAML; what is not set is left out."""
    said = {name.replace("_", "-"): value for name, value in options.items() if value not in (None, [], {})}
    return ", ".join(f"{name} {_value(value)}" for name, value in said.items())


def _plan(found: Plan, data: Path | None, files: Sequence[Path]) -> Iterator[Block]:
    from snnc.blocks import Listing, Text
    from snnc.recipe import options, pass_name

    recipe = found.recipe
    count = "" if found.images is None else f" ({found.images:,} images)"
    latency = "" if found.total_steps is None else f" ({found.total_steps} from image to answer)"
    facts = {
        "time steps": f"{recipe.timesteps}{latency}, {recipe.sleep} asleep, {recipe.rehearsal} of rehearsal",
        **({} if found.layers is None else {"spiking layers": str(found.layers)}),
        "data": "none: uncalibrated" if data is None else f"{data}{count}",
        "would write": ", ".join(map(str, files)),
    }
    passes = {f"{number}. {pass_name(step)}": as_typed(options(step)) for number, step in enumerate(recipe.passes, 1)}
    yield from survey_blocks(found.survey)
    for block in (facts_of(facts), facts_of(passes), Listing(tuple(recipe.to_yaml().rstrip().splitlines()))):
        yield Text("")
        yield block


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({as_typed(value)})"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
