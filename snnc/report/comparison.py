"""What has become better or worse from one report to another, judged by tolerances.

The rule is that of gates: what is worse as measured is worse, since a test that fails only beyond doubt would let a
network become worse little by little; what is not, but might be by its interval, is not proven. What one report lacks
is told, and judged by nothing.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from snnc import intervals
from snnc.figure import Row, Subject
from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import figures
from snnc.measure.gates import Tolerances, judge
from snnc.measure.layers import Layer
from snnc.report.data import Report
from snnc.text import exact, signed, written

ChangeVerdict = Literal["same", "better", "changed", "allowed", "worse", "unknown"]

# Figures this near are the same but for the order in which numbers were added up.
_NOISE, _SMALLEST = 1e-6, 1e-9


@dataclass(frozen=True)
class Change:
    """One figure, before and after, and what to think of it.

    Of a network as it was converted where ``timesteps`` is None, else evaluated at so many; of a ``layer`` (named as in
    the new report) or ("") of the whole network. None is what was not measured. ``interval`` (95 %) is that of the
    difference, taking both samples to be independent: of the same images, which vary together, it is too wide.
    ``within_chance`` says whether it holds 0. ``limit`` names the tolerance, "" where there is none, and ``tolerance``
    is its value, in percent of ``old`` where ``relative``.

    The ``verdict`` is ``allowed`` where a figure is worse by no more than that, ``changed`` where it differs by no more
    and no direction is better, ``worse`` beyond that, and ``unknown`` where only one report has it. Where it keeps to
    the tolerance and the interval does not, it is not ``proven``, and ``worse`` if proof was asked for;
    ``samples_needed`` samples would prove it, None where no number within reason would.
    """

    name: str
    unit: str
    timesteps: int | None
    layer: str
    old: float | None
    new: float | None
    difference: float | None
    interval: Interval | None
    within_chance: bool | None
    limit: str
    tolerance: float
    relative: bool
    verdict: ChangeVerdict
    proven: bool = True
    samples_needed: int | None = None

    @property
    def place(self) -> str:
        """Where the figure was measured, in words."""
        where = [f"T={self.timesteps}"] if self.timesteps is not None else []
        return " @ ".join([*where, *([self.layer] if self.layer else [])])

    @property
    def difference_text(self) -> str | None:
        """The difference with its sign, in percent of the old figure where it is judged by that; None of none."""
        if self.difference is None:
            return None
        if self.relative and self.old:
            return f"{signed(100 * self.difference / abs(self.old), '%')} %"
        return signed(self.difference, self.unit)

    @property
    def tolerance_text(self) -> str | None:
        """The tolerance, None where there is none or an infinite one."""
        if not self.limit or math.isinf(self.tolerance):
            return None
        return f"{exact(self.tolerance)}{' %' if self.relative else ''}"

    @property
    def sentence(self) -> str:
        """What has changed, in words."""
        where = f" at {self.place}" if self.place else ""
        unit = f" {self.unit}" if self.unit else ""
        before, now = (value_text(value, self.unit) for value in (self.old, self.new))
        text = f"{self.name}{where}: {before}{unit} before, {now}{unit} now"
        if self.difference_text is not None:
            text += f" ({self.difference_text})"
        if self.tolerance_text is not None:
            text += f", allowed {self.tolerance_text}"
        if not self.proven:
            many = (
                "no number of samples within reason"
                if self.samples_needed is None
                else f"{self.samples_needed:,} samples"
            )
            text += f"; not proven, {many} would"
        return f"{text}; chance alone could do that" if self.within_chance else text

    @property
    def words(self) -> str:
        """The verdict, and what chance has to do with it, in words."""
        doubts = ["not proven"] * (not self.proven) + ["within chance"] * bool(self.within_chance)
        return ", ".join([self.verdict, *doubts])


@dataclass(frozen=True)
class Comparison:
    """All that differs between two reports, and figures that do not.

    ``renamed`` are layers of another name that come from the same operation of the trained network: old and new.
    ``warnings`` say what makes the comparison loose or incomplete, ``notes`` what else was different.
    """

    changes: tuple[Change, ...]
    timesteps_only_old: tuple[int, ...]
    timesteps_only_new: tuple[int, ...]
    layers_removed: tuple[str, ...]
    layers_added: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    findings_gone: tuple[Finding, ...]
    findings_new: tuple[Finding, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    tolerances: Tolerances

    @property
    def worse(self) -> tuple[Change, ...]:
        """What is worse than allowed."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    def judges(self, limit: str) -> bool:
        """Whether there was something to judge by the tolerance of this name."""
        return any(change.limit == limit and change.verdict != "unknown" for change in self.changes)

    @property
    def sentence(self) -> str:
        """The outcome, in words."""
        names: dict[ChangeVerdict, str] = {
            "worse": "worse than allowed",
            "allowed": "worse but allowed",
            "changed": "changed",
            "better": "better",
            "same": "the same",
            "unknown": "in one report only",
        }
        verdicts = [change.verdict for change in self.changes]
        counts = ", ".join(f"{verdicts.count(v)} {name}" for v, name in names.items() if v in verdicts)
        doubtful = sum(not change.proven for change in self.changes)
        return f"{len(verdicts)} figures: {counts}" + (f"; {doubtful} not proven" if doubtful else "")

    @property
    def differences(self) -> tuple[str, ...]:
        """What is there in one report only: T, layers and findings, in words."""
        lists = {
            "evaluated only before": [f"T={steps}" for steps in self.timesteps_only_old],
            "evaluated only now": [f"T={steps}" for steps in self.timesteps_only_new],
            "layer removed": self.layers_removed,
            "layer added": self.layers_added,
            "layer renamed": [f"{old} to {new}" for old, new in self.renamed],
            "finding gone": map(_told, self.findings_gone),
            "finding new": map(_told, self.findings_new),
        }
        return tuple(f"{what}: {entry}" for what, entries in lists.items() for entry in entries)

    def plain(self) -> dict[str, Any]:
        """Return the comparison as plain data; what is infinite is None."""
        found: dict[str, Any] = _without_infinity(dataclasses.asdict(self))
        return {**found, "passed": not self.worse}


def compare(old: Report, new: Report, tolerances: Tolerances) -> Comparison:
    """Compare two reports, layer by layer (by name, then by where they come from) and at all T that both have."""
    pairs, samples = _paired(old.layers, new.layers), _fewest(old, new)
    old_rows, new_rows = _rows(old.evaluation), _rows(new.evaluation)
    changes = [
        *_compared("network", old.summary, new.summary, tolerances),
        *(
            change
            for steps in sorted(old_rows.keys() & new_rows.keys())
            for change in _at_timesteps(old_rows[steps], new_rows[steps], pairs, tolerances, samples)
        ),
        *(change for a, b in pairs for change in _compared("layer", a, b, tolerances, layer=b.name)),
    ]
    old_findings, new_findings = old.all_findings, new.all_findings
    old_matched, new_matched = {a.name for a, _ in pairs}, {b.name for _, b in pairs}
    return Comparison(
        changes=tuple(changes),
        timesteps_only_old=tuple(sorted(old_rows.keys() - new_rows.keys())),
        timesteps_only_new=tuple(sorted(new_rows.keys() - old_rows.keys())),
        layers_removed=tuple(layer.name for layer in old.layers if layer.name not in old_matched),
        layers_added=tuple(layer.name for layer in new.layers if layer.name not in new_matched),
        renamed=tuple((a.name, b.name) for a, b in pairs if a.name != b.name),
        findings_gone=tuple(finding for finding in old_findings if finding not in new_findings),
        findings_new=tuple(finding for finding in new_findings if finding not in old_findings),
        warnings=tuple(_warnings(old, new, pairs)),
        notes=tuple(_notes(old, new, pairs)),
        tolerances=tolerances,
    )


def value_text(value: float | None, unit: str) -> str:
    """Return a figure as people read it, "-" where it is not known."""
    return "-" if value is None else written(value, unit)


def _fewest(old: Report, new: Report) -> int:
    return min((report.evaluation.samples for report in (old, new) if report.evaluation is not None), default=0)


def _at_timesteps(
    old: Row, new: Row, pairs: Sequence[tuple[Layer, Layer]], tolerances: Tolerances, samples: int
) -> Iterator[Change]:
    yield from _compared("row", old, new, tolerances, timesteps=new.timesteps, samples=samples)
    before, after = ({error.name: error for error in row.layers or ()} for row in (old, new))
    for a, b in pairs:
        errors = before.get(a.name), after.get(b.name)
        yield from _compared("layer", *errors, tolerances, timesteps=new.timesteps, layer=b.name, samples=samples)


def _compared(
    of: Subject,
    old: object,
    new: object,
    tolerances: Tolerances,
    *,
    timesteps: int | None = None,
    layer: str = "",
    samples: int = 0,
) -> Iterator[Change]:
    """Compare all figures of two subjects that at least one of them has, measured on so many samples."""
    values = {figure.name: (figure.value(old), figure.value(new)) for figure in figures(of)}
    for figure in figures(of):
        before, after = values[figure.name]
        if (before is None and after is None) or not figure.compared:
            continue
        others = [values.get(name, (None, None)) for name in figure.judged_by]
        held = figure.tolerance if all(None in other for other in others) else None
        tolerance = math.inf if held is None else tolerances[held.name]
        relative = figure.tolerance is not None and figure.tolerance.relative
        difference = interval = within_chance = None
        proven, needed = True, None
        verdict: ChangeVerdict = "unknown"
        if before is not None and after is not None:
            difference = after - before
            verdict = _verdict(figure.better, before, after, tolerance, relative)
            ends = figure.interval(old), figure.interval(new)
            if ends[0] is not None and ends[1] is not None:
                interval = intervals.difference(before, ends[0], after, ends[1])
                within_chance = verdict != "same" and interval[0] <= 0 <= interval[1]
                allowed = _allowed(before, tolerance, relative)
                if verdict not in {"same", "worse"} and math.isfinite(allowed) and figure.better:
                    lost, lies = -figure.better * difference, _ordered(-figure.better * end for end in interval)
                    gate = judge("max-loss", allowed, lost, lies, samples=samples, timesteps=timesteps or 0)
                    proven, needed = gate.proven is not False, gate.samples_needed
                    verdict = "worse" if tolerances.proven and not proven else verdict
        yield Change(
            name=figure.name,
            unit=figure.unit,
            timesteps=timesteps,
            layer=layer,
            old=before,
            new=after,
            difference=difference,
            interval=interval,
            within_chance=within_chance,
            limit="" if held is None else held.name,
            tolerance=tolerance,
            relative=relative,
            verdict=verdict,
            proven=proven,
            samples_needed=needed,
        )


def _verdict(better: int, old: float, new: float, tolerance: float, relative: bool) -> ChangeVerdict:
    if math.isclose(old, new, rel_tol=_NOISE, abs_tol=_SMALLEST):
        return "same"
    lost = better * (old - new) if better else abs(new - old)
    if lost < 0:
        return "better"
    allowed = _allowed(old, tolerance, relative)
    # What is exactly at the limit is within it.
    if lost > allowed and not math.isclose(lost, allowed, rel_tol=_SMALLEST):
        return "worse"
    return "allowed" if better else "changed"


def _allowed(old: float, tolerance: float, relative: bool) -> float:
    return tolerance * abs(old) / 100 if relative and math.isfinite(tolerance) else tolerance


def _ordered(ends: Iterable[float]) -> Interval:
    low, high = sorted(ends)
    return low, high


def _paired(old: Sequence[Layer], new: Sequence[Layer]) -> tuple[tuple[Layer, Layer], ...]:
    """Pair layers of the same name, and of the others those that alone come from the same operation."""
    before, after = ({layer.name: layer for layer in layers} for layers in (old, new))
    old_sources = _by_source(layer for layer in old if layer.name not in after)
    new_sources = _by_source(layer for layer in new if layer.name not in before)
    renamed = {old_sources[source].name: layer for source, layer in new_sources.items() if source in old_sources}
    partners = {**{name: after[name] for name in before if name in after}, **renamed}
    return tuple((layer, partners[name]) for name, layer in before.items() if name in partners)


def _by_source(layers: Iterable[Layer]) -> dict[str, Layer]:
    listed = list(layers)
    sources = [layer.source for layer in listed]
    return {layer.source: layer for layer in listed if sources.count(layer.source) == 1}


def _rows(evaluation: Evaluation | None) -> dict[int, Row]:
    # Of as many steps, the first row is the latest.
    return {} if evaluation is None else {row.timesteps: row for row in reversed(evaluation.rows)}


def _warnings(old: Report, new: Report, pairs: Sequence[tuple[Layer, Layer]]) -> Iterator[str]:
    """Say what makes a comparison loose, or leaves a part of it out."""
    models = [_at(report.provenance, "model", "sha256") for report in (old, new)]
    if models[0] != models[1]:
        yield "made from different trained networks"
    if old.layers and new.layers and not pairs:
        yield "no layer in common: networks for different tasks?"
    if old.energy_model != new.energy_model:
        yield "energies rest on different constants"
    if old.evaluation is not None and new.evaluation is not None:
        yield from _data_warnings(old.evaluation, new.evaluation)
        if not _rows(old.evaluation).keys() & _rows(new.evaluation).keys():
            yield "evaluated at no T in common: neither accuracy nor spikes and energy at the same T are compared"
    lacking = list(_lacking(old)), list(_lacking(new))
    for reason in dict.fromkeys([*lacking[0], *lacking[1]]):
        sides = [name for name, reasons in zip(("old", "new"), lacking, strict=True) if reason in reasons]
        yield f"{' and '.join(sides)}: {reason}"


def _data_warnings(old: Evaluation, new: Evaluation) -> Iterator[str]:
    if old == new:
        return
    loosely = "accuracies compare only loosely"
    if old.samples != new.samples:
        yield f"evaluated on {old.samples:,} samples before, on {new.samples:,} now: {loosely}"
    elif not old.sha256 or not new.sha256:
        yield f"a report does not say what data it was evaluated on: {loosely} if they differ"
    elif old.sha256 != new.sha256:
        yield f"evaluated on different data: {loosely}"
    if old.preprocessing != new.preprocessing:
        yield f"images were preprocessed differently: {loosely}"
    rows = _rows(old), _rows(new)
    for steps in sorted(rows[0].keys() & rows[1].keys()):
        for name in ("sleep", "repeats"):
            before, after = (getattr(row[steps], name) for row in rows)
            if before != after:
                yield f"{name} at T={steps}: {before} before, {after} now"
    if old.seed != new.seed:
        yield f"evaluated with seed {old.seed} before, {new.seed} now: what is random was drawn differently"


def _lacking(report: Report) -> Iterator[str]:
    """Say what a report lacks, and why."""
    if not report.summary.images:
        yield "not measured on images (snnc calibrate): no error of any layer"
    if report.evaluation is None:
        yield "not evaluated (snnc evaluate): no accuracy"
        return
    if not report.evaluation.labeled and not any(row.scores for row in report.evaluation.rows):
        yield "evaluated without labels: no accuracy"
    if report.stripped:
        yield "evaluated without the trained network, which was stripped: no drop and no agreement"


def _notes(old: Report, new: Report, pairs: Sequence[tuple[Layer, Layer]]) -> Iterator[str]:
    if (same := _at(old.provenance, "snn")) is not None and same == _at(new.provenance, "snn"):
        yield "the same spiking network"
    facts = {
        "recipe": ("recipe", "name"),
        "images calibrated on": ("calibration", "images"),
        "snnc": ("versions", "snnc"),
        "torch": ("versions", "torch"),
    }
    for fact, path in facts.items():
        before, after = _at(old.provenance, *path), _at(new.provenance, *path)
        if before != after:
            yield f"{fact}: {_known(before)} before, {_known(after)} now"
    recipes = [_at(report.provenance, "recipe") for report in (old, new)]
    if recipes[0] != recipes[1] and _at(recipes[0], "name") == _at(recipes[1], "name"):
        yield "the recipe has other options or steps"
    calibrations = [_at(report.provenance, "calibration") for report in (old, new)]
    if calibrations[0] != calibrations[1] and _at(calibrations[0], "images") == _at(calibrations[1], "images"):
        yield "calibrated on different images"
    swapped = [(a.neuron, b.neuron) for a, b in pairs if a.neuron != b.neuron]
    for before, after in dict.fromkeys(swapped):
        count = swapped.count((before, after))
        yield f"neurons of {count} layer{'s' if count > 1 else ''}: {before} before, {after} now"


def _at(data: Any, *path: str) -> Any:
    """Return what is at a path of keys, None where there is nothing: provenance is not checked on reading."""
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _told(finding: Finding) -> str:
    return f"{finding.severity} {finding.code}: {finding.message}{f' @ {finding.node}' if finding.node else ''}"


def _known(value: Any) -> str:
    return "none" if value is None else str(value)


def _without_infinity(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _without_infinity(value) for key, value in data.items()}
    return [_without_infinity(value) for value in data] if isinstance(data, list | tuple) else data
