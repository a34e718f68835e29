"""What a sweep measured: as one page, as tables for a paper, as rows, and whom to cite."""

import dataclasses
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from snnc.blocks import Block, Cell, Column, Fact, Facts, Line, Lines, Plot, SideBySide, Table, Text
from snnc.display import Displayed
from snnc.files import write_atomically
from snnc.report.faces.markdown import card
from snnc.report.faces.page import Part, document
from snnc.report.rows import csv_of
from snnc.tasks import Task
from snnc.text import counted, fixed, number, printable, written
from snnc.validation import parse

SWEEP_VERSION = 1

_ENTRY = re.compile(r"^@\w+\{.*?^\}\n", re.MULTILINE | re.DOTALL)
_CITED = re.compile(r"^  cited = \{(.*)\},\n", re.MULTILINE)
# What LaTeX takes for more than text.
_SPECIAL = re.compile(r"([&%$#_{}])")


@final
@dataclass(frozen=True)
class Result:
    """One way to convert, and what was measured of it, in percent and µJ; ``failed`` says why it could not be made.

    ``score`` is the task's or, without labels, agreement with the trained network; ``quantized`` is that of the network
    with quantized activations of as many ``levels``. ``asked_levels`` are those of the sweep.
    """

    key: str
    title: str
    recipe: str
    neuron: str
    seed: int
    timesteps: int
    asked_levels: int | None = None
    total_steps: int | None = None
    levels: int | None = None
    event_bits: int | None = None
    score: float | None = None
    trained: float | None = None
    quantized: float | None = None
    agreement: float | None = None
    spikes: float | None = None
    energy: float | None = None
    energy_ratio: float | None = None
    arithmetic_ratio: float | None = None
    quantized_energy: float | None = None
    samples: int | None = None
    seconds: float | None = None
    failed: str = ""

    @classmethod
    def parsed(cls, data: object, place: str) -> "Result":
        """Return what a line says; raises UsageError where it is none."""
        return parse(cls, data, place=place)


@final
@dataclass(frozen=True)
class Group:
    """The results of one way to convert, of every seed."""

    title: str
    timesteps: int
    results: tuple[Result, ...]

    def values(self, name: str) -> list[float]:
        """Return one figure of all seeds, as far as it is known."""
        return [value for result in self.results if (value := getattr(result, name)) is not None]

    def mean(self, name: str) -> float | None:
        """Return the mean of a figure over seeds."""
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def deviation(self, name: str) -> float | None:
        """Return the standard deviation of a figure over seeds, None of a single one."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else None

    def plain(self) -> dict[str, Any]:
        """Return means and deviations as plain data."""
        found: dict[str, Any] = {"title": self.title, "timesteps": self.timesteps, "seeds": len(self.results)}
        for name in _MEASURED:
            found[name], found[f"{name}_deviation"] = self.mean(name), self.deviation(name)
        return found


_MEASURED = (
    "total_steps",
    "levels",
    "event_bits",
    "score",
    "quantized",
    "agreement",
    "spikes",
    "energy",
    "energy_ratio",
    "arithmetic_ratio",
    "quantized_energy",
)


@final
@dataclass(frozen=True, repr=False)
class Sweep(Displayed):
    """What a sweep measured, and kept in ``folder``.

    ``identity`` says of which network and data it is, and ``papers`` what its methods cite.
    """

    folder: Path
    model: str
    task: Task
    identity: Mapping[str, Any]
    results: tuple[Result, ...]
    papers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Sweep of {self.model}: {len(self.results)} results in {self.folder}>"

    @property
    def measures(self) -> str:
        """What the score is."""
        labeled = any(result.trained is not None for result in self.results)
        return (labeled and self.task.score_name) or "agreement"

    @property
    def trained(self) -> float | None:
        """The trained network's score, of several seeds the mean."""
        return Group("", 0, self.results).mean("trained")

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The results that could be made, those of all seeds together."""
        found: dict[tuple[str, int], list[Result]] = {}
        for result in self.results:
            if not result.failed:
                found.setdefault((result.title, result.timesteps), []).append(result)
        return tuple(Group(title, steps, tuple(results)) for (title, steps), results in found.items())

    @property
    def failed(self) -> tuple[Result, ...]:
        """What could not be made."""
        return tuple(result for result in self.results if result.failed)

    @property
    def lead(self) -> str:
        """What was done, in a sentence."""
        seeds = len({result.seed for result in self.results})
        trained = "" if self.trained is None else f"; the trained network has {written(self.trained, '%')} %"
        return (
            f"{counted(len(self.groups), 'spiking network')} of {counted(seeds, 'seed')}, each calibrated anew, and a "
            f"quantized network of as many levels beside every one{trained}."
        )

    def plain(self) -> dict[str, Any]:
        """Return the sweep as plain data."""
        return {
            "schema_version": SWEEP_VERSION,
            "model": self.model,
            "measures": self.measures,
            "trained": self.trained,
            "identity": dict(self.identity),
            "groups": [group.plain() for group in self.groups],
            "results": [dataclasses.asdict(result) for result in self.results],
        }

    @property
    def rows(self) -> tuple[dict[str, object], ...]:
        """The results as rows of a table."""
        return tuple(dataclasses.asdict(result) for result in self.results)

    def curves(self) -> Iterator[Plot]:
        """Draw scores against all steps from image to answer, and against energy."""
        for axis, own, beside, doubling in (
            ("steps from image to answer", "total_steps", "total_steps", True),
            ("energy per inference, µJ, with memory traffic, estimated", "energy", "quantized_energy", False),
        ):
            lines = tuple(self._lines(own, beside))
            title = f"{self.measures[:1].upper()}{self.measures[1:]}, %, against {axis.partition(',')[0]}"
            words = "; ".join(f"{line.name}: {_points(line)}" for line in lines)
            note = "Dashed: the quantized network of as many levels. Bars: standard deviation over seeds."
            if lines:
                yield Plot(title, Lines(lines, axis, doubling), f"{title}. {words}", note=note)

    def _lines(self, own: str, beside: str) -> Iterator[Line]:
        titles = list(dict.fromkeys(group.title for group in self.groups))
        for hue, title in enumerate(titles):
            groups = [group for group in self.groups if group.title == title]
            for name, place, score, dashed in (
                (title, own, "score", False),
                (f"{title}: quantized", beside, "quantized", True),
            ):
                pairs = ((group, group.mean(place), group.mean(score)) for group in groups)
                known = sorted((x, y, group.deviation(score) or 0.0) for group, x, y in pairs if x is not None and y)
                if known:
                    points = tuple((x, y) for x, y, _ in known)
                    yield Line(name, points, tuple(spread for *_, spread in known), hue, dashed)

    def blocks(self) -> Iterator[Block]:
        """Tell what was measured where there is little room."""
        yield Text(self.lead)
        yield self.table()
        yield from (Text(f"not made: {result.title}, T={result.timesteps}: {result.failed}") for result in self.failed)

    def table(self) -> Table:
        """Return all means with their deviations."""
        return Table.of(
            "Means over seeds, ± standard deviation",
            [(column, _cell_of(name, unit)) for name, unit, column in self._columns()],
            self.groups,
        )

    def page(self) -> str:
        """Return one page with all curves and the table."""
        facts = tuple(
            Fact(name, value)
            for name, value in (
                ("network", self.model),
                ("samples that judge", ", ".join(f"{count:,}" for count in sorted({*self._samples()}))),
                ("seeds", ", ".join(map(str, sorted({result.seed for result in self.results})))),
            )
        )
        notes = tuple(
            Text(f"Not made: {result.title}, T={result.timesteps}, seed {result.seed}: {result.failed}")
            for result in self.failed
        )
        parts = [
            Part("curves", "Curves", "All curves", (SideBySide(tuple(self.curves())),)),
            Part("table", "Table", "All figures", (self.table(), *notes)),
            Part("papers", "Papers", "Whom to cite", tuple(Text(_told(entry)) for entry in self._entries())),
            Part("about", "About", "What was done", (Facts(facts),)),
        ]
        return document("sweep", self.model, self.lead, [part for part in parts if part.blocks])

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return card([Text(self.lead), self.table()])

    def latex(self) -> str:
        """Return the table as LaTeX, for booktabs."""
        columns = [
            each for each in self._columns() if any(_cell_of(*each[:2])(group) is not None for group in self.groups)
        ]
        lines = [
            "% \\usepackage{booktabs}",
            f"\\begin{{tabular}}{{{'l' + 'r' * (len(columns) - 1)}}}",
            "\\toprule",
            " & ".join(_escaped(column.title) for _, _, column in columns) + " \\\\",
            "\\midrule",
            *(
                " & ".join(_latex(_cell_of(name, unit)(group)) for name, unit, _ in columns) + " \\\\"
                for group in self.groups
            ),
            "\\bottomrule",
            "\\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def bibliography(self) -> str:
        """Return what the methods used are from, as BibTeX."""
        return "\n".join(_CITED.sub("", entry) for entry in self._entries())

    def save(self) -> tuple[Path, ...]:
        """Write all of it into the folder, and return the files; raises DataError where one cannot be written."""
        content = {
            "sweep.csv": csv_of(self.rows),
            "sweep.json": json.dumps(self.plain(), sort_keys=True, indent=1, allow_nan=False) + "\n",
            "sweep.html": self.page(),
            "sweep.md": self.markdown(),
            "sweep.tex": self.latex(),
            "sweep.bib": self.bibliography(),
        }
        for name, text in content.items():
            write_atomically(self.folder / name, text.encode())
        return tuple(self.folder / name for name in content)

    def _columns(self) -> tuple[tuple[str, str, Column], ...]:
        """Return the columns: figure, unit, and what stands above it."""
        measured = f"{self.measures} %"
        return (
            ("title", "", Column("recipe, neuron", "words")),
            ("timesteps", "", Column("T")),
            ("total_steps", "", Column("steps", about="all steps from image to answer")),
            ("levels", "", Column("levels", about="of an activation, the most of any layer")),
            ("event_bits", "", Column("event bits")),
            ("score", "%", Column(measured)),
            ("quantized", "%", Column("quantized %", about="the quantized network of as many levels")),
            ("spikes", "", Column("spikes", about="per inference")),
            ("energy", "", Column("energy, µJ", about="with memory traffic, estimated")),
            ("energy_ratio", "", Column("ratio", about="energy, the trained network's being 1")),
        )

    def _samples(self) -> Iterable[int]:
        return (result.samples for result in self.results if result.samples is not None)

    def _entries(self) -> list[str]:
        return entries(self.papers)


def entries(papers: Sequence[str]) -> list[str]:
    """Return the entries of BibTeX that texts cite as these papers; of one that is not known, as it is cited."""
    text = files("snnc").joinpath("papers.bib").read_text(encoding="utf-8")
    known = {_CITED.findall(entry)[0]: entry for entry in _ENTRY.findall(text)}
    return [known.get(paper) or _as_cited(paper) for paper in papers]


def _as_cited(paper: str) -> str:
    key = re.sub("[^a-z0-9]", "", paper.lower())
    return f"@misc{{{key},\n  author = {{{paper}}},\n  title = {{{paper}}},\n  year = {{{paper[-4:]}}},\n}}\n"


def _cell_of(name: str, unit: str) -> Callable[[Group], Cell | None]:
    def cell(group: Group) -> Cell | None:
        if name in ("title", "timesteps"):
            return Cell(str(getattr(group, name)))
        mean, deviation = group.mean(name), group.deviation(name)
        if mean is None:
            return None
        whole = mean == int(mean) and not deviation and not unit
        said = f"{int(mean):,}" if whole else written(mean, unit)
        decimals = len(said.partition(".")[2])
        return Cell(f"{said} ± {fixed(deviation, decimals)}" if deviation is not None and not whole else said)

    return cell


def _points(line: Line) -> str:
    return ", ".join(f"{number(x)}: {written(y, '%')} %" for x, y in line.points)


def _told(entry: str) -> str:
    """Return an entry of BibTeX as a line for people."""
    fields = dict(re.findall(r"^  (\w+) = \{(.*?)\},$", entry, re.MULTILINE | re.DOTALL))
    where = fields.get("booktitle") or fields.get("journal") or f"arXiv {fields.get('eprint', '')}"
    plain = {name: " ".join(re.sub(r"[{}\\']", "", text).split()) for name, text in fields.items() if name != "cited"}
    return f"{plain['author'].replace(' and ', ', ')}: {plain['title']}. {where}, {fields['year']}."


def _latex(cell: Cell | None) -> str:
    return "--" if cell is None else _escaped(cell.text).replace(" ± ", " $\\pm$ ").replace("−", "$-$")


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", printable(text)).replace("µ", "$\\mu$")
