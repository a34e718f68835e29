"""Several jobs at once, and what became of them in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from snnc.cli.console import Terminal
from snnc.cli.options import check_outputs
from snnc.errors import (
    DataError,
    GateError,
    ModelError,
    SnncError,
    StoppedError,
    UsageError,
    VerificationError,
)
from snnc.text import counted

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.actions.batch import Batch, Outcome
    from snnc.actions.jobs import Job
    from snnc.blocks import Block

_ERRORS = {
    kind.exit_code: kind for kind in (SnncError, UsageError, ModelError, GateError, DataError, VerificationError)
}


def run_jobs(
    terminal: Terminal,
    jobs: Sequence[Job],
    at_once: int | None,
    *,
    fresh: bool = True,
    junit: Path | None = None,
    reads: Path | None = None,
) -> None:
    """Do jobs, and tell in one table what became of them; raises the error of the worst."""
    if at_once is not None and at_once < 1:
        raise UsageError(f"invalid value {at_once}", place="--jobs", hint="give a whole number from 1")
    if junit is not None:
        taken = [(path, "a file of a job") for job in jobs for path in job.files]
        check_outputs([junit], None, others=[*taken, *([(reads, "the file of jobs")] if reads else [])])

    from snnc.actions.batch import do, processes
    from snnc.files import write_atomically

    with terminal.working() as progress:
        ended: list[Outcome] = []

        def tell(outcome: Outcome) -> None:
            ended.append(outcome)
            progress("doing jobs", len(ended), len(jobs))
            terminal.log(f"{outcome.seconds:.1f} s  {outcome.job.name}: {outcome.verdict}")

        progress("doing jobs", 0, len(jobs))
        done = do(jobs, min(at_once or processes(len(jobs)), len(jobs)), fresh=fresh, told=tell)
    files = []
    if junit is not None:
        write_atomically(junit, done.junit().encode(), flag="--junit")
        files.append(str(junit))
    plain = {"jobs": [*map(_plain, done.outcomes)], "stopped": done.stopped, "code": done.code, "files": files}
    terminal.show(plain, lambda: _shown(done, files))
    failed = [outcome for outcome in done.outcomes if outcome.code]
    details = tuple(f"{outcome.job.name}: {outcome.error or outcome.verdict}" for outcome in failed)
    if done.stopped:
        complete = [outcome.job.name for outcome in done.outcomes if outcome.complete]
        named = f" ({', '.join(complete)})" if complete else ""
        hint = "run it again to go on with the others" if jobs[0].record else "convert the others again"
        raise StoppedError(f"stopped: {len(complete)} of {counted(len(jobs), 'job')} complete{named}", hint=hint)
    if failed:
        kind = _ERRORS.get(done.code, StoppedError)
        log = max(failed, key=lambda one: one.code == done.code).job.log
        hint = f"all that it printed is in {log}" if log.is_file() else "choose another folder with --output"
        raise kind(f"{len(failed)} of {counted(len(jobs), 'job')} failed", hint=hint, details=details)


def given(context: typer.Context, *but: str) -> list[str]:
    """Return the flags of a command as they were typed, without some of them, by their names."""
    found: list[str] = []
    for known in context.command.params:
        source = context.get_parameter_source(known.name or "")
        if source is None or source.name != "COMMANDLINE" or known.name in but:
            continue
        value: Any = context.params[known.name or ""]
        flag = known.opts[0]
        if isinstance(value, bool):
            found.append(flag)
        else:
            found += [
                part for one in (value if isinstance(value, list | tuple) else [value]) for part in (flag, str(one))
            ]
    return found


def _plain(outcome: Outcome) -> dict[str, Any]:
    from snnc.measure.figures import figures

    row = None if outcome.report is None else outcome.report.headline
    measured = {} if row is None else {figure.name: figure.value(row) for figure in figures("row")}
    return {
        "name": outcome.job.name,
        "model": str(outcome.job.model),
        "code": outcome.code,
        "verdict": outcome.verdict,
        "error": outcome.error or None,
        "kept": outcome.kept,
        "seconds": outcome.seconds,
        "timesteps": None if outcome.report is None else outcome.report.summary.timesteps,
        "figures": {name: value for name, value in measured.items() if value is not None},
        "report": str(outcome.job.report) if outcome.complete else None,
        "log": str(outcome.job.log),
    }


def _shown(done: Batch, files: Sequence[str]) -> Iterator[Block]:
    """Tell every job in a row, then what was written."""
    from snnc.blocks import Column, Table, Text
    from snnc.report.sections.steps import figure_columns
    from snnc.text import fixed

    rows = [(outcome, None if outcome.report is None else outcome.report.headline) for outcome in done.outcomes]
    yield Table.of(
        "",
        [
            (Column("job", "words"), lambda pair: pair[0].job.name),
            (Column("result", "words"), lambda pair: f"{pair[0].verdict}{', kept' if pair[0].kept else ''}"),
            (Column("T"), lambda pair: None if pair[0].report is None else str(pair[0].report.summary.timesteps)),
            *((column, lambda pair, said=said: pair[1] and said(pair[1])) for column, said in figure_columns()),
            (Column("seconds"), lambda pair: None if pair[0].kept else fixed(pair[0].seconds)),
        ],
        rows,
    )
    if any(outcome.kept for outcome in done.outcomes):
        yield Text("kept: complete before, and nothing has changed since (--fresh does it again)")
    places = list(dict.fromkeys(str(outcome.job.report.parent) for outcome in done.outcomes if outcome.complete))
    written = [*places, *files]
    if written:
        yield Text(f"written: {', '.join(written)}")
