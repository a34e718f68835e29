"""Jobs, each a conversion and an evaluation with settings of its own, from one file."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnc import project
from snnc.data.patterns import is_pattern, matched
from snnc.documents import read_yaml, to_yaml
from snnc.errors import DataError, UsageError
from snnc.files import at_home
from snnc.registry import suggest
from snnc.report.faces import faces
from snnc.version import VERSION

_COMMANDS = ("convert", "evaluate")
# What a job says besides what a project file does.
_OWN = ("name", "data", "options")
# Where results go is the batch's business, what they look like, and whose settings hold.
_REFUSED = {"output", "report", "json", "quiet", "verbose", "dry-run", "help", "version", "config"}
_FLAG = re.compile(r"[a-z][a-z0-9-]*")
# What is kept in the folder of a job: what is complete, and what commands print.
_RECORD, _LOG = "batch.json", "log.txt"
# What only matters to an evaluation.
_JUDGING = ("evaluation", "gates")
_LONGEST = 100
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Command:
    """A command of snnc with its arguments: what it reads, the files that it alone makes, and settings.

    ``model`` and other files are told by what they hold, ``data`` by names, sizes and times: it may be large.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    makes: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def stamp(self) -> str:
        """Return the SHA-256 of all that the command's result depends on, as it is now."""
        read = [[*map(content_of, self.files)], [*map(_listing, self.data)]]
        told = [VERSION, self.arguments, to_yaml(self.settings), *read]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """Commands that run one after the other in a folder, where the last leaves a ``report``.

    ``settings`` is what the project file there says, None where the folder is the user's. What commands print goes to
    ``log``, what is complete is kept in ``record``, if anywhere.
    """

    name: str
    model: Path
    folder: Path
    commands: tuple[Command, ...]
    report: Path
    log: Path
    settings: Mapping[str, Any] | None = None
    record: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What it reads, and what it is known to write."""
        named = (path for command in self.commands for path in (*command.files, *command.data, *command.makes))
        own = (self.folder / project.FILE, self.record) if self.record is not None else ()
        return (self.model, *named, self.report, self.log, *own)


def each(models: Sequence[Path], output: Path, arguments: Sequence[str]) -> list[Job]:
    """Return a job for each model: convert it, with the same arguments, into a folder."""
    jobs = []
    for model in models:
        made = output / f"{model.stem}.snn"
        command = Command("convert", (str(model), "--output", str(made), *arguments), makes=(made,))
        report, log = project.report_beside(made), output / f"{model.stem}.log"
        jobs.append(Job(model.stem, model, Path(), (command,), report, log))
    _check_names(jobs, "snnc convert", "rename a file, or give them names in snnc batch")
    return jobs


def read_jobs(path: Path, output: Path, flags: Sequence[str] = ()) -> list[Job]:
    """Read a file of jobs, which are done in folders of their names below ``output``.

    ``jobs`` is a list of mappings, and what ``defaults`` says holds for all of them. Each has the keys of snnc.yaml,
    and ``name`` (else that of its model), ``data`` (the same samples to calibrate on and to judge by, two thirds and
    one) and ``options`` (flags of ``convert`` and ``evaluate``). Paths are relative to the file; a pattern of models
    makes a job of each. All commands get the ``flags``, too. A folder that is there has to be one of a job, or empty.
    Raises UsageError or DataError with the place of the first problem.
    """
    data = read_yaml(path)
    if not isinstance(data, Mapping) or not isinstance(data.get("jobs"), list) or not data["jobs"]:
        hint = "write a list: jobs: [{model: a.onnx}, {model: b.onnx}]"
        raise UsageError("no jobs", place=str(path), hint=hint)
    unknown = next((str(key) for key in data if key not in ("defaults", "jobs")), None)
    if unknown is not None:
        raise UsageError(f"unknown option {unknown!r}", place=str(path), hint=suggest(unknown, ["defaults", "jobs"]))
    defaults = _mapping(data.get("defaults"), f"{path}: defaults")
    jobs: list[Job] = []
    for index, row in enumerate(data["jobs"]):
        place = f"{path}: jobs[{index}]"
        merged = _merged(defaults, _mapping(row, place))
        model = merged.get("model")
        if not isinstance(model, str) or not model:
            raise UsageError("a job without a model", place=place, hint="add model: model.onnx")
        pattern = path.parent / at_home(Path(model))
        for file in matched(pattern) if is_pattern(pattern) else [pattern]:
            jobs.append(_job({**merged, "model": str(file.absolute())}, path.parent, output, place, flags))
    _check_names(jobs, str(path), "give each a name: of its own")
    return jobs


def content_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, and of those beside it whose names go on from its; None where it is not there."""
    digest = hashlib.sha256()
    try:
        for file in sorted(path.parent.glob(f"{_literal(path.name)}*")):
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        digest.update(block)
        return digest.hexdigest() if path.is_file() else None
    except OSError:
        return None


def _job(merged: Mapping[str, Any], base: Path, output: Path, place: str, flags: Sequence[str]) -> Job:
    model = Path(merged["model"])
    name = merged.get("name", model.stem)
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".", "..") or len(name) > _LONGEST:
        hint = f"give up to {_LONGEST} letters and digits, a number in quotes"
        raise UsageError(f"no name of a folder: {name!r:.40}", place=f"{place}.name", hint=hint)
    folder = output / name
    if os.path.isdir(folder) and os.listdir(folder) and not (folder / _RECORD).exists():  # noqa: PTH112, PTH208
        hint = "give the job another name, or another --output"
        raise UsageError(f"{folder} has files that are no job's", place=f"{place}.name", hint=hint)
    options = _mapping(merged.get("options"), f"{place}.options")
    unknown = next((str(key) for key in options if key not in _COMMANDS), None)
    if unknown is not None:
        hint = suggest(unknown, list(_COMMANDS))
        raise UsageError(f"no command of a job: {unknown!r}", place=f"{place}.options", hint=hint)
    given = {
        command: (*flags, *_flags(options.get(command), base, f"{place}.options.{command}")) for command in _COMMANDS
    }
    settings = {str(key): value for key, value in merged.items() if key not in _OWN}
    shared = merged.get("data")
    if shared is not None:
        for section, command, part in (
            ("calibration", "convert", "calibration"),
            ("evaluation", "evaluate", "judging"),
        ):
            own = _mapping(settings.get(section), f"{place}.{section}")
            if "data" not in own:
                settings[section] = {**own, "data": shared}
                given[command] = ("--part", part, *given[command])
    parsed = _parsed(settings, base, place)
    settings = _placed(settings, parsed, base)
    samples, judged = parsed.calibration.data, parsed.evaluation.data
    if judged is None and parsed.gates:
        hint = "add evaluation: {data: FOLDER}, or data: FOLDER"
        raise UsageError("gates without data to judge by", place=f"{place}.gates", hint=hint)
    named = [settings.get(section) for section in ("recipe", "task", "export")]
    files = (model, *parsed.plugins, *(Path(text) for text in _texts(named) if Path(text).is_absolute()))
    made, report = folder / f"{model.stem}.snn", folder / f"{model.stem}.report.json"
    converting = {key: value for key, value in settings.items() if key not in _JUDGING}
    calibrated = ("--data", str(samples.absolute())) if samples is not None else ()
    data = (samples,) if samples is not None else ()
    # The report is that of the last command.
    makes = (made, report) if judged is None else (made,)
    commands = [Command("convert", (*calibrated, *given["convert"]), files, data, makes, converting)]
    if judged is not None:
        data = (judged, *data)
        commands.append(Command("evaluate", given["evaluate"], (*files, made), data, (report,), settings))
    return Job(name, model, folder, tuple(commands), report, folder / _LOG, settings, folder / _RECORD)


def _parsed(settings: Mapping[str, Any], base: Path, place: str) -> project.Project:
    """Return the settings as a project file has them; raises UsageError with the place in the file of jobs."""
    try:
        with project.named(None):
            return project.parsed(settings, base)
    except UsageError as error:
        inner = error.place.removeprefix(project.FILE).removeprefix(": ")
        raise UsageError(error.message, place=f"{place}.{inner}" if inner else place, hint=error.hint) from None


def _placed(settings: Mapping[str, Any], parsed: project.Project, base: Path) -> dict[str, Any]:
    """Return settings whose paths lead to the same files from anywhere."""
    found = dict(settings)
    for section, data in (("calibration", parsed.calibration.data), ("evaluation", parsed.evaluation.data)):
        if data is not None:
            found[section] = {**found[section], "data": str(data.absolute())}
    if parsed.plugins:
        found["plugins"] = [str(plugin.absolute()) for plugin in parsed.plugins]
    for section in ("recipe", "task", "export"):
        if section in found:
            found[section] = _from_anywhere(found[section], base)
    return found


def _from_anywhere(value: Any, base: Path) -> Any:
    """Return a value in which texts that lead to a file from a folder are the whole path."""
    if isinstance(value, Mapping):
        return {key: _from_anywhere(inner, base) for key, inner in value.items()}
    if not isinstance(value, str) or not ("/" in value or "." in value):
        return value
    path = base / at_home(Path(value))
    # Of a name that is too long, this says that there is no such thing.
    return str(path.absolute()) if os.path.exists(path) else value  # noqa: PTH110


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in nested values."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        yield from _texts(one)
    if isinstance(value, str):
        yield value


def _flags(options: object, base: Path, place: str) -> tuple[str, ...]:
    """Return options as the command line has them; what is there, seen from the file of jobs, is a path.

    What is null is left out, and what writes a file writes it into the folder of the job.
    """
    found: list[str] = []
    switches: list[str] = []
    for key, value in _mapping(options, place).items():
        name = str(key).replace("_", "-")
        where = f"{place}.{key}"
        if not _FLAG.fullmatch(name):
            raise UsageError(f"no flag: {name!r:.40}", place=place, hint="write it without its hyphens: {limit: 512}")
        if name in _REFUSED:
            hint = "leave it out: results are in the folder of the job, and the job has the settings"
            raise UsageError(f"a job has no --{name}", place=place, hint=hint)
        writes = name in {"save-recipe", *faces}
        if value is None or (isinstance(value, bool) and not (value and writes)):
            switches += [f"--{name}"] if value else []
            continue
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
            hint = "give the name of a file" if writes else "give a text, a number, true, or a list of texts or numbers"
            raise UsageError(f"no value of a flag: {value!r:.40}", place=where, hint=hint)
        text = ",".join(map(str, parts))
        if writes:
            if text != Path(text).name or text in (_RECORD, _LOG):
                hint = "give it a name of its own, without a folder: it is in that of the job"
                raise UsageError(f"not the name of a file of the job: {text!r:.60}", place=where, hint=hint)
        else:
            text = str(_from_anywhere(text, base))
        found.append(f"--{name}={text}")
    # Last: one that lacks its value would take the next flag for it.
    return (*found, *switches)


def _mapping(data: object, place: str) -> Mapping[str, Any]:
    if data is not None and not isinstance(data, Mapping):
        raise UsageError("expected a mapping", place=place, hint="write names and values, as in {model: a.onnx}")
    return data or {}


def _merged(defaults: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job with what the defaults say besides; a task is one name with its options, and is not merged."""
    found = dict(defaults)
    for key, value in row.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping) and key != "task"
        found[key] = _merged(found[key], value) if both else value
    return found


def _check_names(jobs: Sequence[Job], place: str, hint: str) -> None:
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen:
            raise UsageError(f"two jobs are called {job.name!r}", place=place, hint=hint)
        seen.add(job.name)


def _listing(path: Path) -> Any:
    """Return names, sizes and times of the files of data."""
    try:
        if path.is_dir():
            found = (Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
            files = sorted(found)
        else:
            files = matched(path) if is_pattern(path) else [path]
        stats = [(file.relative_to(path) if path.is_dir() else file.name, file.stat()) for file in files]
        return [(str(name), stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    except (OSError, DataError):
        return None


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
