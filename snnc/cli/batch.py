"""snnc batch."""

from pathlib import Path
from typing import Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.jobs import run_jobs
from snnc.cli.options import Jobs


@commands.register("batch")
def batch(
    context: typer.Context,
    jobs: Annotated[Path, typer.Argument(metavar="JOBS.yaml", show_default=False, help="The jobs, as told above.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where each job has a folder of its name.")
    ] = Path("out"),
    at_once: Jobs = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do again what is complete and unchanged.")] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write jobs, gates and layers as test cases, in JUnit's XML.")
    ] = None,
    *,
    terminal: Terminal,
) -> None:
    """Convert and evaluate many models, several at once, each with settings of its own.

    JOBS.yaml has a list, jobs, of mappings with the keys of snnc.yaml (model, calibration, evaluation, recipe,
    timesteps, gates, ...), and what defaults has holds for all of them. Besides there are name, data (one set, two
    thirds to calibrate on and one to judge by) and options (flags: {convert: {limit: 512}, evaluate: {repeats: 3}}).
    A pattern of models makes a job of each. Every job is what snnc convert and snnc evaluate do in its folder; what is
    complete and unchanged is not done again, what fails stops no other, and the exit code is that of the worst.
    """
    from snnc.actions.jobs import read_jobs

    flags = [part for plugin in context.params["plugin"] or () for part in ("--plugin", str(plugin.absolute()))]
    run_jobs(terminal, read_jobs(jobs, output, flags), at_once, fresh=fresh, junit=junit, reads=jobs)
