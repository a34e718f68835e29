"""How fast a spiking network runs on this machine: in the simulator, and as exported files in other programs."""

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, final

import torch

from snnc.actions.opened import Spiking, conversion_of
from snnc.conversion import Conversion
from snnc.data.samples import Progress
from snnc.errors import UsageError
from snnc.feeds import Feeds
from snnc.figure import Speed
from snnc.formats.format import formats
from snnc.formats.verification import UnreadableError
from snnc.ir import Graph, Input
from snnc.progress import told
from snnc.registry import suggest
from snnc.run import ONCE, Program
from snnc.schedule import Schedule

# The formats whose files are quickly made and run, and how many images at once.
FORMATS, BATCHES = ("onnx",), (1, 32)
# Each is run so long, in seconds, and so often at least; the first time does not count.
SECONDS, _RUNS = 1.0, 3
_MOST = 4096


@final
@dataclass(frozen=True)
class Bench:
    """Times of this machine, with so many threads, of a network of so many steps, on noise."""

    machine: str
    threads: int
    schedule: Schedule
    speeds: tuple[Speed, ...]

    def __repr__(self) -> str:
        told = ", ".join(f"{speed.name} ({speed.batch}): {speed.per_second:.4g} images/s" for speed in self.speeds)
        return f"<Bench {told}>"

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        speeds = [{**asdict(speed), "images_per_second": speed.per_second} for speed in self.speeds]
        return {**asdict(self), "speeds": speeds}


def bench(
    network: Spiking,
    *,
    exported: Sequence[str] = FORMATS,
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Bench:
    """Time a conversion, or its file, in the simulator, its trained network, and files of the formats ``exported``.

    Each takes so many images of noise at once as each of the ``batches`` says, again and again for so many ``seconds``.
    Raises UsageError where one of these makes no sense, or where nothing here runs a file, ModelError for what a format
    cannot say, and VerificationError where the program that runs it refuses the file.
    """
    conversion, progress = conversion_of(network), progress or told()
    for batch in batches:
        if not 1 <= batch <= _MOST:
            hint = f"give whole numbers from 1 to {_MOST:,}"
            raise UsageError(f"{batch} images at once", place="--batch", hint=hint)
    if not 0 < seconds <= 3600:
        raise UsageError(f"{seconds:g} seconds", place="--seconds", hint="give a number above 0, at most 3600")
    for name in exported:
        if name not in formats:
            raise UsageError(f"unknown format {name!r}", place="--format", hint=suggest(name, formats))
        formats[name]().check(conversion)
    found: list[Speed] = []
    runners = [*_runners(conversion, exported)]
    whole = len(runners) * len(batches)
    for name, run in runners:
        for batch in batches:
            progress("timing", len(found), whole)
            try:
                found.append(_timed(name, run, _noise(conversion.snn, batch), seconds))
            except UnreadableError as refusal:
                hint = "leave it out, or see what snnc export --verify says of it"
                raise UsageError(f"{name} cannot be timed: {refusal}", place="--format", hint=hint) from None
    progress("timing", whole, whole)
    return Bench(platform.machine(), torch.get_num_threads(), conversion.schedule, tuple(found))


def _runners(conversion: Conversion, exported: Sequence[str]) -> Iterator[tuple[str, Callable[[Feeds], object]]]:
    """Yield what is to be timed, by its name."""
    programs = [("simulator", Program(conversion.snn, conversion.schedule))]
    if conversion.reference is not None:
        programs.append(("trained network, simulated", Program(conversion.reference, ONCE)))
    for name, program in programs:
        yield name, partial(_simulate, program)
    for name in exported:
        form = formats[name]()
        for engine in form.engines(form.write(conversion), conversion):
            yield f"{name}, {engine.name}", partial(engine.answer, generator=_drawing())


def _simulate(program: Program, feeds: Feeds) -> None:
    for _ in program.stream([feeds], generator=_drawing()):
        pass


def _timed(name: str, run: Callable[[Feeds], object], feeds: Feeds, seconds: float) -> Speed:
    run(feeds)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _RUNS or time.perf_counter() < end:
        begun = time.perf_counter()
        run(feeds)
        times.append(time.perf_counter() - begun)
    return Speed(name, feeds.samples, 1000 * statistics.median(times), 1000 * min(times), len(times))


def _noise(graph: Graph, batch: int) -> Feeds:
    return Feeds({name: op.drawn(batch, _drawing()) for name, op in graph.ops(Input).items()})


def _drawing() -> torch.Generator:
    return torch.Generator().manual_seed(0)
