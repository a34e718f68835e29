"""snnc run."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal, inert
from snnc.cli.options import (
    Artifact,
    PreprocessingFlags,
    ReadingFlags,
    ReportFile,
    StreamFlags,
    TaskFlag,
    required_data,
    task_of,
)
from snnc.errors import UsageError
from snnc.project import report_beside
from snnc.text import as_it_is, counted, fixed, number, typable

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
            help="A recording of an event camera, a folder of recordings, images or sequences, an array file, tar "
            "shards or Parquet. Default: evaluation: data: in snnc.yaml.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of recordings: decide every so often, as in 10ms (us, ms or s)."),
    ] = None,
    exit_early: Annotated[
        bool,
        typer.Option(
            "--exit-early",
            help="End as soon as an answer is certain, by the rule that snnc evaluate --exit-confidence left in the "
            "report.",
        ),
    ] = False,
    report_file: ReportFile = None,
    task: TaskFlag = None,
    *,
    stream: StreamFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Tell each answer as it comes: of a recording every so often, else of every frame or sample.

    Each answer is of a network that starts anew, or with --stream goes on from the one before. A line says when it
    came, what it is, how many spikes fired, and how long it took on this computer; with --json, each line is an object.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    source = required_data(data, "evaluation", settings.evaluation.data)
    span = None if every is None else _microseconds(every)
    between = stream.resolve()

    from snnc.actions.run import run as running
    from snnc.artifact import load_conversion
    from snnc.report import with_exit_rule

    conversion = load_conversion(model)
    if exit_early:
        conversion = with_exit_rule(conversion, report_file or report_beside(model))
    seen, last = _Seen("from a restart" if between is None else "from the one before"), None
    for decision in running(
        conversion,
        data=source,
        every=span,
        task=task_of(task, settings),
        preprocessing=preprocessing.resolve(settings, conversion.preprocessing),
        reading=reading.resolve(),
        seed=reading.seed,
        stream=between,
        early=exit_early,
    ):
        seen.add(decision)
        if terminal.as_json:
            plain = dataclasses.asdict(dataclasses.replace(decision, answer=typable(decision.answer)))
            _print(inert(json.dumps(plain, sort_keys=True, allow_nan=False)))
        elif not terminal.quiet:
            for line in _lines(decision, last, timed=span is not None):
                _print(line)
        last = decision
    if last is not None and not terminal.as_json and not terminal.quiet:
        _print(seen.summary(conversion.schedule.timesteps))


@dataclasses.dataclass
class _Seen:
    """How many decisions there were, and what they took: of a recording without end, more cannot be kept."""

    start: str
    count: int = 0
    steps: int = 0
    spikes: int = 0
    milliseconds: float = 0.0
    longest: float = 0.0

    def add(self, decision: Decision) -> None:
        self.count += 1
        self.steps += decision.steps
        self.spikes += decision.spikes
        self.milliseconds += decision.milliseconds
        self.longest = max(self.longest, decision.milliseconds)

    def summary(self, timesteps: int) -> str:
        """Return in one line what they took."""
        steps = self.steps / self.count
        mean = counted(int(steps), "step") if steps.is_integer() else f"{number(steps)} steps on average"
        return (
            f"{counted(self.count, 'decision')} at T={timesteps}, {mean} from input to answer, each "
            f"{self.start}: {number(self.spikes / self.count)} spikes and {fixed(self.milliseconds / self.count, 1)} "
            f"ms each (at most {fixed(self.longest, 1)} ms)"
        )


def _microseconds(text: str) -> int:
    """Return a time in microseconds; raises UsageError where it is none."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(us|ms|s)", text.strip(), re.ASCII)
    span = round(float(found[1]) * _UNITS[found[2]]) if found else 0
    if span < 1:
        hint = "give a number and us, ms or s, as in 10ms"
        raise UsageError(f"invalid value {text!r}", place="--every", hint=hint)
    return span


def _lines(decision: Decision, before: Decision | None, *, timed: bool) -> Iterator[str]:
    """Yield a decision in one line, below the name of the sample where that is another one than before."""
    when = decision.sample
    if decision.at is not None:
        if before is None or before.sample != decision.sample:
            yield when
        at = f"{fixed(decision.at / 1000, 1)} ms" if timed else f"frame {decision.at}"
        when = f"{at:>14}"
    yield f"{when}  {decision.answer}  ({decision.spikes:,} spikes, {fixed(decision.milliseconds, 1)} ms)"


def _print(line: str) -> None:
    sys.stdout.write(as_it_is(typable(line)) + "\n")
    # Who watches a camera reads each line as it comes.
    sys.stdout.flush()
