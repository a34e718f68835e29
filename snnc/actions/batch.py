"""Do jobs in processes of their own, as many at once as the machine has room for."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from snnc.actions.jobs import Command, Job, content_of
from snnc.blocks import Check, Checks
from snnc.documents import read_json, to_yaml
from snnc.errors import DataError, SnncError, UsageError
from snnc.files import make_folder, write_atomically
from snnc.process import STOPPING, lack, memory
from snnc.processes import current
from snnc.project import FILE
from snnc.report.data import Report, read
from snnc.report.faces.junit import checks_of, document

# What a command ended with where its results are there: with everything kept, or with a gate that failed.
COMPLETE: Final = (0, 4)
STOPPED: Final = 130
_INTERNAL: Final = 1
# Exit codes from the best to the worst: what was measured and is too bad, results that differ, what was given, and us.
_SEVERITY: Final = (0, 4, 6, 5, 3, 2, _INTERNAL, STOPPED)
# Less memory is too little for a process; so long one may take to end.
_LEAST_MEMORY, _PATIENCE = 2 << 30, 10
# As ``python -m snnc``, from the same places as this process.
_PROCESS = "import sys; sys.path[:] = {path!r}; from snnc.__main__ import program; sys.exit(program())"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its exit code, the error in words, whether it was ``kept`` from before, and its report."""

    job: Job
    code: int
    seconds: float
    kept: bool = False
    error: str = ""
    report: Report | None = None

    @property
    def complete(self) -> bool:
        """Whether its results are there."""
        return self.code in COMPLETE

    @property
    def verdict(self) -> str:
        """What became of it, in a word or two."""
        return {0: "ok", 4: "gate failed", STOPPED: "stopped"}.get(self.code, f"error {self.code}")

    def check(self) -> Check:
        """Return the job as something that was to be kept."""
        return Check(self.job.name, "failed" if self.code else "passed", self.error or self.verdict)


@dataclass(frozen=True)
class Batch:
    """What became of jobs, in their order: those that had begun where it was ``stopped``."""

    outcomes: tuple[Outcome, ...]
    stopped: bool = False

    @property
    def code(self) -> int:
        """The exit code of the worst."""
        return max((outcome.code for outcome in self.outcomes), key=severity, default=0)

    def junit(self) -> str:
        """Return every job as a test case, and the gates and layers of each, in JUnit's XML."""
        found = [Checks("jobs", tuple(outcome.check() for outcome in self.outcomes))]
        for outcome in self.outcomes:
            if outcome.report is not None:
                found += [
                    Checks(f"{outcome.job.name} {block.kind}", block.checks) for block in checks_of(outcome.report)
                ]
        return document(found)


def severity(code: int) -> int:
    """Return how bad an exit code is: a gate that failed is the mildest, a fault of ours the worst."""
    return _SEVERITY.index(code)


def processes(jobs: int) -> int:
    """Return how many of some jobs the machine has room for: by its cores and its memory."""
    return max(1, min(jobs, _cores(), memory() // _LEAST_MEMORY))


def do(
    jobs: Sequence[Job], count: int, *, fresh: bool = False, told: Callable[[Outcome], None] = lambda outcome: None
) -> Batch:
    """Do all jobs, ``count`` at once, and tell each that has ended; what fails stops no other.

    What is complete, and depends on nothing that has changed since, is not done again unless ``fresh``. Processes
    share the cores and the memory. A request to end ends them all.
    """
    worker = _Worker(count, fresh)
    ended: dict[str, Outcome] = {}
    with ThreadPoolExecutor(count, thread_name_prefix="snnc-job") as pool:
        waiting = [pool.submit(worker.do, job) for job in jobs]
        try:
            for one in as_completed(waiting):
                outcome = one.result()
                ended[outcome.job.name] = outcome
                told(outcome)
        except BaseException as interruption:
            worker.stop()
            pool.shutdown(cancel_futures=True)
            if not isinstance(interruption, KeyboardInterrupt):
                raise
            done = (one.result() for one in waiting if one.done() and not one.cancelled())
            ended |= {outcome.job.name: outcome for outcome in done}
            return Batch(tuple(ended[job.name] for job in jobs if job.name in ended), stopped=True)
    return Batch(tuple(ended[job.name] for job in jobs))


@final
class _Worker:
    """What does one job after the other; several threads share it."""

    def __init__(self, count: int, fresh: bool) -> None:
        if current().count > 1:
            hint = "start it without torchrun"
            raise UsageError("many models at once, in several processes", place="WORLD_SIZE", hint=hint)
        self._fresh = fresh
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._memory = f"{memory() // count >> 20}M"
        self._environment = {"OMP_NUM_THREADS": f"{max(1, _cores() // count)}", **os.environ}
        path = [str(Path(place).absolute()) for place in sys.path]
        self._program = (sys.executable, "-P", "-c", _PROCESS.format(path=path))

    def stop(self) -> None:
        """End all that runs, and begin nothing more."""
        self._stopping.set()
        with self._lock:
            running = [*self._running]
        for process in running:
            process.terminate()
        try:
            until = time.monotonic() + _PATIENCE
            for process in running:
                process.wait(max(0.0, until - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # Too long, or for somebody who asks again.
            for process in running:
                process.kill()

    def do(self, job: Job) -> Outcome:
        """Do a job, as far as it is not complete; what it cannot write is its error."""
        if self._stopping.is_set():
            return Outcome(job, STOPPED, 0.0)
        started = time.monotonic()
        try:
            code, kept, error = self._commands(job)
            report = read(job.report) if code in COMPLETE else None
        except SnncError as failure:
            code, kept, error, report = failure.exit_code, False, f"{failure.line} hint: {failure.hint}", None
        except OSError as failure:
            place = f" @ {failure.filename}" if failure.filename else ""
            told = f"cannot do it: {failure.strerror or failure}{place}"
            reason, hint = lack(failure) or (told, "see whether its files and folders are there, and free some space")
            code, kept, error, report = DataError.exit_code, False, f"{reason} hint: {hint}", None
        return Outcome(job, code, time.monotonic() - started, kept, error, report)

    def _commands(self, job: Job) -> tuple[int, bool, str]:
        """Return the exit code, whether nothing was to be done, and the error."""
        for folder in (job.folder, job.log.parent):
            make_folder(folder)
        # It is what tells the folder from one of the user's.
        if job.record is not None and not job.record.exists():
            write_atomically(job.record, b"{}")
        if job.settings is not None:
            write_atomically(job.folder / FILE, to_yaml(job.settings).encode())
        record = {} if self._fresh else _recorded(job.record)
        kept, code, error = True, 0, ""
        for command in job.commands:
            stamp = command.stamp() if job.record else ""
            before = record.get(command.name)
            if kept and before and before[:2] == [stamp, _made(command)] and before[2] in COMPLETE:
                ended, said = before[2], before[3]
            else:
                if kept:
                    write_atomically(job.log, b"")
                kept = False
                ended, said = self._run(command, job)
                record[command.name] = [stamp, _made(command), ended, said]
                if job.record:
                    write_atomically(job.record, json.dumps(record, indent=1).encode())
            if severity(ended) > severity(code):
                code, error = ended, said
            if ended not in COMPLETE:
                break
        return code, kept, error

    def _run(self, command: Command, job: Job) -> tuple[int, str]:
        """Run a command in a process, and return its exit code and the error that it printed."""
        arguments = (*self._program, command.name, f"--memory={self._memory}", *command.arguments)
        with job.log.open("ab") as log:
            with self._lock:
                if self._stopping.is_set():
                    return STOPPED, ""
                process = subprocess.Popen(
                    arguments,
                    cwd=job.folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.PIPE,
                )
                self._running.add(process)
            try:
                _, said = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
            log.write(said)
        lines = said.decode(errors="replace").splitlines()
        error = next((line for line in reversed(lines) if line.startswith(("error: ", "internal error: "))), "")
        code = process.returncode
        if -code in STOPPING:
            return STOPPED, ""
        if code < 0 or code not in _SEVERITY:
            return _INTERNAL, error or f"it ended by signal {-code}: too little memory, perhaps"
        return code, " ".join(error.removeprefix("error: ").split())


def _recorded(path: Path | None) -> dict[str, Any]:
    """Return what was complete, nothing where that is not known."""
    with contextlib.suppress(DataError, ValueError):
        found = read_json(path) if path is not None else {}
        if isinstance(found, dict) and all(map(_is_entry, found.values())):
            return found
    return {}


def _is_entry(found: object) -> bool:
    """Return whether this is what is kept of a command: two stamps, its exit code, and the error that it printed."""
    return isinstance(found, list) and [*map(type, found)] == [str, list, int, str]


def _made(command: Command) -> list[str | None]:
    return [*map(content_of, command.makes)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
