"""snnc run."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, PreprocessingFlags, ReadingFlags, TaskFlag, required_data, task_of
from snnc.errors import UsageError
from snnc.text import fixed, number, typable

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.actions.run import Decision

_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


@commands.register("run")
def run(
    model: Artifact = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "--events",
            metavar="PATH",
            help="A recording of an event camera, a folder of recordings, images or sequences, or an array file. "
            "Default: evaluation: data: in snnc.yaml.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of recordings: decide every so often, as in 10ms (us, ms or s)."),
    ] = None,
    task: TaskFlag = None,
    *,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Tell each answer as it comes: of a recording every so often, else of every frame or sample.

    Each answer is of a network that starts anew. A line says when it came, what it is, how many spikes fired, and how
    long it took on this computer; with --json, each line is an object.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    source = required_data(data, "evaluation", settings.evaluation.data)
    span = None if every is None else _microseconds(every)

    from snnc.actions.run import run as running
    from snnc.artifact import load_conversion

    conversion = load_conversion(model)
    seen: list[Decision] = []
    for decision in running(
        conversion,
        data=source,
        every=span,
        task=task_of(task, settings),
        preprocessing=preprocessing.resolve(settings, conversion.preprocessing),
        reading=reading.resolve(),
        seed=reading.seed,
    ):
        seen.append(decision)
        if terminal.as_json:
            _print(json.dumps(dataclasses.asdict(decision), sort_keys=True))
        elif not terminal.quiet:
            _print(_line(decision, seen[-2] if len(seen) > 1 else None, timed=span is not None))
    if seen and not terminal.as_json and not terminal.quiet:
        _print(_summary(seen, conversion.schedule.timesteps))


def _microseconds(text: str) -> int:
    """Return a time in microseconds; raises UsageError where it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s)", text.strip())
    span = round(float(found[1]) * _UNITS[found[2]]) if found else 0
    if span < 1:
        hint = "give a number and us, ms or s, as in 10ms"
        raise UsageError(f"invalid value {text!r}", place="--every", hint=hint)
    return span


def _line(decision: Decision, before: Decision | None, *, timed: bool) -> str:
    """Return a decision in one line, the sample named where it is another one than before."""
    if decision.at is None:
        when = decision.sample
    else:
        at = f"{fixed(decision.at / 1000, 1)} ms" if timed else f"frame {decision.at}"
        new = before is None or before.sample != decision.sample
        when = f"{decision.sample}\n{at:>14}" if new else f"{at:>14}"
    return f"{when}  {decision.answer}  ({decision.spikes:,} spikes, {fixed(decision.milliseconds, 1)} ms)"


def _summary(seen: list[Decision], timesteps: int) -> str:
    count = len(seen)
    spikes = sum(decision.spikes for decision in seen) / count
    times = [decision.milliseconds for decision in seen]
    return (
        f"{count:,} {'decision' if count == 1 else 'decisions'} at T={timesteps}, {seen[0].steps} steps from input to "
        f"answer, each from a restart: {number(spikes)} spikes and {fixed(sum(times) / count, 1)} ms each "
        f"(at most {fixed(max(times), 1)} ms)"
    )


def _print(line: str) -> None:
    sys.stdout.write(typable("".join(c if c.isprintable() or c == "\n" else " " for c in line)) + "\n")
    # Who watches a camera reads each line as it comes.
    sys.stdout.flush()
