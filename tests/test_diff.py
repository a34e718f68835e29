"""Comparing two reports: the laws of a comparison, what it says, and the command."""

import dataclasses
import html
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from snnc import cli, intervals
from snnc.figure import Energy, LayerError, Row
from snnc.findings import Finding
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import tolerances
from snnc.measure.gates import Tolerances
from snnc.measure.layers import Layer
from snnc.measure.summary import Summary
from snnc.report.comment import comment
from snnc.report.comparison import Change, Comparison, compare
from snnc.report.data import Report, read, write
from snnc.report.escaping import escaped
from snnc.text import printable

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
PREPROCESSING = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")
SAMPLES = 400
ZERO = Tolerances(**dict.fromkeys(tolerances(), 0.0))
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
UNLIMITED = Tolerances(**dict.fromkeys(tolerances(), math.inf))
HOSTILE = "</details>|`x`\n# @octocat #1 [y](http://evil) <img src=x onerror=y> ![z](www.evil.com) *b* \x1b[31m\u202e"


def energy(ratio: float) -> Energy:
    return Energy(
        accumulations=ratio,
        memory=ratio,
        reference=1.0,
        reference_memory=1.0,
        bits=2,
        quantized=0.5,
        quantized_memory=0.5,
        ratio=ratio,
        arithmetic_ratio=ratio,
        firing_rate=0.1,
    )


def row(timesteps: int = 4, hits: int = 380, **changes: Any) -> Row:
    """A row without the intervals of what can be measured exactly."""
    share = 100 * hits / SAMPLES
    fields: dict[str, Any] = {
        "timesteps": timesteps,
        "sleep": 0,
        "sleep_used": 0,
        "total_steps": 5 * timesteps,
        "repeats": 1,
        "accuracy": share,
        "accuracy_deviation": None,
        "accuracy_interval": intervals.proportion(hits, SAMPLES),
        "lost": 98 - share,
        "won": 0.0,
        "drop": 98 - share,
        "drop_interval": intervals.paired(392 - hits, 0, SAMPLES) if hits <= 392 else None,
        "relative_drop": None,
        "relative_drop_interval": None,
        "agreement": share,
        "agreement_deviation": None,
        "agreement_interval": intervals.proportion(hits, SAMPLES),
        "spikes": 250.0 * timesteps,
        "spikes_interval": (249.0 * timesteps, 251.0 * timesteps),
        "synaptic_operations": 1e5,
        "energy": energy(0.1 * timesteps),
        "energy_ratio_interval": None,
    }
    return Row(**{**fields, **changes})


def layer(name: str, source: str = "", threshold: float = 1.0, error: float | None = 0.2) -> Layer:
    return Layer(name, source or f"/{name}", "TwoPhase", 8, 2, threshold, 2 * threshold, 4, error=error)


def report(
    *rows: Row,
    layers: tuple[Layer, ...] = (layer("first"), layer("second")),
    findings: tuple[Finding, ...] = (),
    provenance: dict[str, Any] | None = None,
    **changes: Any,
) -> Report:
    """A report on a network for 4 time steps; without rows, one that was not evaluated."""
    summary = Summary(4, 0, 0, 20, 4, len(layers), 16, 1000, 64, 97.0, 0.1, 1000.0, 1e5, 10.0, energy(0.4))
    fields: dict[str, Any] = {"samples": SAMPLES, "labeled": True, "sha256": "d", "findings": ()}
    evaluation = (
        Evaluation(task={"classification": {}}, reference={"accuracy": 98.0}, rows=rows, **{**fields, **changes})
        if rows
        else None
    )
    model = {"file": "m.onnx", "sha256": "m"}
    known = {"model": model, "recipe": {}, "calibration": None, "versions": {"snnc": "1"}}
    return Report(summary, layers, findings, (), evaluation, known if provenance is None else provenance)


def unmeasured() -> Report:
    """A report on a network that saw no images."""
    plain = report(layers=(layer("first", error=None), layer("second", error=None)))
    summary = plain.summary
    none = dict.fromkeys(("agreement", "output_error", "spikes", "synaptic_operations", "analog_macs", "energy"))
    return dataclasses.replace(plain, summary=dataclasses.replace(summary, images=0, **none))


def stripped() -> Report:
    """A report evaluated with neither labels nor the trained network."""
    lacking = dict.fromkeys(f"{name}{end}" for name in ("accuracy", "drop", "agreement") for end in ("", "_interval"))
    return report(row(**lacking), labeled=False, stripped=True)


def many() -> list[Report]:
    """Reports of every kind, of good and bad networks."""
    warning = Finding("dead-channels", "warning", "first", "1 of 2 channels are dead", "")
    errors = (LayerError("first", 0.3, (0.25, 0.35)), LayerError("second", 0.4, None))
    return [
        report(row(2), row(4)),
        report(row(4, hits=370), row(8, hits=399), findings=(warning,)),
        report(row(4, hits=379, spikes=1300.0, energy=energy(0.6), layers=errors), sha256="e"),
        report(row(4, total_steps=4, energy=energy(0.0), spikes=0.0)),
        report(row(4, hits=0), row(4, hits=SAMPLES), samples=300, seed=3),
        report(layers=(layer("first", threshold=1.5, error=0.1), layer("renamed", "/second"), layer("third"))),
        report(row(4), layers=(), provenance={}),
        report(row(4, hits=390), layers=(layer(HOSTILE),), provenance={"model": 3, "recipe": [], "versions": None}),
        unmeasured(),
        stripped(),
    ]


def change(comparison: Comparison, name: str, timesteps: int | None = None, layer: str = "") -> Change:
    wanted = name, timesteps, layer
    (found,) = [c for c in comparison.changes if (c.name, c.timesteps, c.layer) == wanted]
    return found


def places(comparison: Comparison) -> set[tuple[str, int | None, str]]:
    return {(c.name, c.timesteps, c.layer) for c in comparison.worse}


# Laws.


@pytest.mark.parametrize("old", many())
def test_nothing_differs_from_itself(old: Report) -> None:
    same = compare(old, old, ZERO)
    assert same.changes
    assert {c.verdict for c in same.changes} == {"same"}
    assert not same.worse
    assert not same.differences
    assert not any(c.within_chance for c in same.changes)
    assert not any("loosely" in warning for warning in same.warnings)


@pytest.mark.parametrize("allowed", [ZERO, UNLIMITED])
def test_the_other_way_round_everything_is_the_opposite(allowed: Tolerances) -> None:
    for old, new in itertools.product(many(), many()):
        assert_opposite(old, new, allowed)


def assert_opposite(old: Report, new: Report, allowed: Tolerances) -> None:
    there, back = compare(old, new, allowed), compare(new, old, allowed)
    names = {b: a for a, b in there.renamed}
    backward = {(c.name, c.timesteps, c.layer): c for c in back.changes}
    assert len(backward) == len(back.changes) == len(there.changes)
    for c in there.changes:
        opposite = backward[c.name, c.timesteps, names.get(c.layer, c.layer)]
        assert (c.old, c.new) == (opposite.new, opposite.old)
        if c.difference is None:
            assert c.verdict == opposite.verdict == "unknown"
            continue
        assert opposite.difference == -c.difference
        assert c.within_chance == opposite.within_chance
        if c.interval is not None:
            assert opposite.interval == pytest.approx((-c.interval[1], -c.interval[0]))
        verdicts = {c.verdict, opposite.verdict}
        assert verdicts in ({"same"}, {"changed"}, {"better", "allowed"}, {"better", "worse"}) or (
            verdicts == {"worse"} and c.limit == "threshold_change"
        )
    assert there.layers_added == back.layers_removed
    assert there.layers_removed == back.layers_added
    assert there.timesteps_only_new == back.timesteps_only_old
    assert there.findings_new == back.findings_gone
    assert sorted(there.renamed) == sorted((b, a) for a, b in back.renamed)


def test_whatever_is_missing_can_be_shown() -> None:
    for old, new in itertools.product(many(), many()):
        found = compare(old, new, ZERO)
        text = json.dumps(found.plain(), allow_nan=False)
        assert json.loads(text)["passed"] == (not found.worse)
        assert all(c.name in c.sentence for c in found.changes)
        assert comment(found, "old", "new").startswith("### snnc diff: ")


@pytest.mark.parametrize("field", tolerances())
def test_who_tolerates_more_finds_less_wrong(field: str) -> None:
    steps = (0.0, 0.05, 1.0, 30.0, math.inf)
    for old, new in itertools.product(many(), many()):
        compared = [compare(old, new, Tolerances(**{**ZERO, field: tolerance})) for tolerance in steps]
        for less, more in itertools.pairwise(compared):
            assert places(more) <= places(less)
        assert all(c.limit != field for c in compared[-1].worse)


def test_without_limits_nothing_is_too_much() -> None:
    for old, new in itertools.product(many(), many()):
        assert not compare(old, new, UNLIMITED).worse


@pytest.mark.parametrize(
    ("new", "field", "amount"),
    [
        (row(hits=376), "accuracy_loss", 1.0),
        (row(spikes=1250.0), "more_spikes", 25.0),
        (row(energy=energy(0.5)), "more_energy", 25.0),
        (row(total_steps=23), "more_steps", 3.0),
    ],
)
def test_a_figure_fails_its_own_tolerance_and_only_beyond_it(new: Row, field: str, amount: float) -> None:
    for tolerance, fails in ((0.0, True), (0.99 * amount, True), (amount, False), (1.01 * amount, False)):
        allowed = Tolerances(**{**UNLIMITED, field: tolerance})
        worse = compare(report(row()), report(new), allowed).worse
        assert [c.limit for c in worse] == [field] * fails
        # What is better is never too much.
        assert not compare(report(new), report(row()), allowed).worse


@pytest.mark.parametrize(("field", "amount"), [("layer_error_increase", 0.1), ("threshold_change", 50.0)])
def test_a_layer_fails_its_own_tolerance(field: str, amount: float) -> None:
    new = report(layers=(layer("first"), layer("second", threshold=1.5, error=0.3)))
    for tolerance, fails in ((0.99 * amount, True), (amount, False)):
        worse = compare(report(), new, Tolerances(**{**UNLIMITED, field: tolerance})).worse
        assert {c.limit for c in worse} == ({field} if fails else set())
        assert {c.layer for c in worse} == ({"second"} if fails else set())


def test_a_threshold_may_move_neither_way() -> None:
    allowed = Tolerances(**{**UNLIMITED, "threshold_change": 10.0})
    for threshold in (0.8, 1.2):
        new = report(layers=(layer("first", threshold=threshold), layer("second")))
        assert {c.name for c in compare(report(), new, allowed).worse} == {"lowest threshold", "highest threshold"}


def test_rounding_is_no_difference() -> None:
    new = report(row(spikes=1000 * (1 + 1e-8), energy=energy(0.4 * (1 - 1e-8))))
    assert {c.verdict for c in compare(report(row()), new, ZERO).changes} == {"same"}
    # What is exactly at the limit is within it, however it is added up.
    few = report(row(accuracy=0.1 + 0.2)), report(row(accuracy=0.2))
    assert not compare(*few, Tolerances(**{**ZERO, "accuracy_loss": 0.1})).worse


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_no_tolerance_is_negative(value: float) -> None:
    with pytest.raises(ValueError, match="no tolerance for more-spikes"):
        Tolerances(more_spikes=value)


# Chance.


def test_a_difference_within_chance_is_told_and_judged_all_the_same() -> None:
    found = change(compare(report(row(hits=380)), report(row(hits=376)), Tolerances()), "accuracy", 4)
    assert found.verdict == "worse"
    assert found.within_chance
    assert "chance" in found.sentence
    assert not change(compare(report(row(hits=380)), report(row(hits=340)), Tolerances()), "accuracy", 4).within_chance


def test_what_keeps_to_a_tolerance_as_measured_is_proven_by_its_interval_or_fails_where_proof_is_asked_for() -> None:
    pair = report(row(hits=380)), report(row(hits=379))
    found = change(compare(*pair, Tolerances()), "accuracy", 4)
    assert (found.verdict, found.proven) == ("allowed", False)
    assert found.samples_needed is not None and found.samples_needed > SAMPLES
    assert f"not proven, {found.samples_needed:,} samples would" in found.sentence
    assert found.words == "allowed, not proven, within chance"
    strict = change(compare(*pair, Tolerances(proven=True)), "accuracy", 4)
    assert (strict.verdict, strict.proven, strict.samples_needed) == ("worse", False, found.samples_needed)
    # With room enough it is proven, and what is the same on the same samples needs no proof.
    assert change(compare(*pair, Tolerances(proven=True, accuracy_loss=10)), "accuracy", 4).words.startswith(
        "allowed, w"
    )
    same = compare(report(row()), report(row()), Tolerances(proven=True))
    assert not same.worse and all(found.proven for found in same.changes)


def test_the_interval_of_a_difference_covers_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    for first, second, samples in ((0.9, 0.85, 100), (0.5, 0.5, 50), (0.97, 0.99, 200)):
        shares = torch.tensor([first, second]).expand(4000, 2)
        hits = torch.binomial(torch.full((4000, 2), float(samples)), shares, generator=generator).int().tolist()
        covered = 0
        for old, new in hits:
            ends = (intervals.proportion(count, samples) for count in (old, new))
            low, high = intervals.difference(100 * old / samples, next(ends), 100 * new / samples, next(ends))
            covered += low <= 100 * (second - first) <= high
        assert 0.93 < covered / 4000 < 0.985


# What is told.


def test_what_one_report_lacks_is_told_and_not_judged() -> None:
    whole = report(row())
    for lacking, parts in (
        (unmeasured(), ["new: not evaluated", "new: not measured on images"]),
        (stripped(), ["new: evaluated without labels", "new: evaluated without the trained network"]),
    ):
        found = compare(whole, lacking, ZERO)
        assert not found.worse
        assert not found.judges("accuracy_loss")
        for part in parts:
            assert any(warning.startswith(part) for warning in found.warnings)
    assert change(compare(whole, stripped(), ZERO), "accuracy", 4).verdict == "unknown"
    both = compare(stripped(), stripped(), ZERO)
    assert any(warning.startswith("old and new: evaluated without labels") for warning in both.warnings)


def test_without_labels_agreement_is_judged_in_place_of_accuracy() -> None:
    without = {"accuracy": None, "accuracy_interval": None, "drop": None, "drop_interval": None}
    old, new = (report(row(hits=hits, **without), labeled=False) for hits in (380, 370))
    assert places(compare(old, new, Tolerances())) == {("agreement", 4, "")}
    # With labels, a prediction that changes is no loss.
    agreeing = report(row(agreement=90.0))
    assert not compare(report(row()), agreeing, Tolerances()).worse


def test_layers_are_matched_by_name_then_by_where_they_come_from() -> None:
    old = report(layers=(layer("a"), layer("b"), layer("gone"), layer("x", "/twice"), layer("y", "/twice")))
    new = report(layers=(layer("a", "/moved"), layer("c", "/b", threshold=2.0), layer("new"), layer("z", "/twice")))
    found = compare(old, new, Tolerances())
    assert found.renamed == (("b", "c"),)
    assert found.layers_removed == ("gone", "x", "y")
    assert found.layers_added == ("new", "z")
    assert change(found, "lowest threshold", layer="c").difference == 1.0
    assert any("no layer in common" in w for w in compare(old, report(layers=(layer("q"),)), ZERO).warnings)


def test_errors_of_layers_are_compared_at_the_same_t() -> None:
    def at(error: float, name: str) -> Report:
        errors = (LayerError(name, error, (error - 0.01, error + 0.01)),)
        return report(row(layers=errors), layers=(layer(name, "/source"),))

    found = compare(at(0.3, "old"), at(0.4, "new"), Tolerances(**{**UNLIMITED, "layer_error_increase": 0.05}))
    assert places(found) == {("error", 4, "new")}
    assert (
        change(compare(at(0.3, "a"), report(row(), layers=(layer("a"),)), ZERO), "error", 4, "a").verdict == "unknown"
    )


def test_findings_come_and_go() -> None:
    stays, goes, comes = (Finding("dead-channels", "warning", name, "dead", "") for name in "abc")
    found = compare(report(findings=(stays, goes)), report(findings=(comes, stays)), ZERO)
    assert found.findings_gone == (goes,)
    assert found.findings_new == (comes,)
    assert "finding new: warning dead-channels: dead @ c" in found.differences


@pytest.mark.parametrize(
    ("new", "part"),
    [
        (report(row(hits=381), sha256="other"), "on different data"),
        (report(row(hits=381), samples=300), "on 400 samples before, on 300 now"),
        (report(row(hits=381), sha256=""), "does not say what data"),
        (report(row(hits=381), seed=1), "seed 0 before, 1 now"),
        (report(row(8)), "no T in common"),
        (report(row(), provenance={"model": {"sha256": "n"}}), "different trained networks"),
    ],
)
def test_what_makes_a_comparison_loose_is_a_warning(new: Report, part: str) -> None:
    assert any(part in warning for warning in compare(report(row()), new, ZERO).warnings)
    assert not any(part in warning for warning in compare(report(row()), report(row(hits=381)), ZERO).warnings)


# Markdown.


def shown(markdown: str) -> str:
    """What GitHub's Markdown shows of a text, without its tags."""
    page = MARKDOWN.render(markdown)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@settings(deadline=None, max_examples=100)
# All but surrogates can be written; to ask a codec of every character takes seconds.
@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\\`*_[]()<>#|~!&@:-+. \n\t$^=w1"))))
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    page = MARKDOWN.render(f"x{escaped(text)}x").replace("<!-- -->", "")
    assert re.findall(r"<[^>]*>", page) == ["<p>", "</p>"]
    assert html.unescape(page).removeprefix("<p>x").removesuffix("x</p>\n") == printable(text)
    for active in ("@octocat", "#1", ":x:", "https://", "www.", "GH-1"):
        assert active not in MARKDOWN.render(escaped(f"{text} {active}"))
    cells = shown(f"| a | b |\n|---|---|\n| {escaped(text)} | end |")
    assert [line for line in cells.split("\n") if line][-1] == "end"


def test_a_hostile_name_stays_a_name_in_the_comment() -> None:
    old = report(row(), layers=(layer(HOSTILE), layer(f"{HOSTILE} gone")))
    evil = Finding("dead-channels", "warning", HOSTILE, HOSTILE, HOSTILE)
    new = report(row(), layers=(layer(HOSTILE, threshold=2.0),), findings=(evil,))
    text = comment(compare(old, new, ZERO), HOSTILE, HOSTILE)
    page = MARKDOWN.render(text)
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= {"h3", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "details", "summary"}
    assert page.count("<details>") == page.count("</details>") == 1
    for active in ("@octocat", "#1", "http://", "www.", "\x1b", "\u202e"):
        assert active not in html.unescape(page)
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert columns == {8}


def test_a_comment_stays_short() -> None:
    names = [f"layer {index} {'x' * 10_000}" for index in range(500)]
    old = report(row(), layers=tuple(layer(name) for name in names))
    new = report(row(hits=300), layers=tuple(layer(name, threshold=2.0) for name in names))
    text = comment(compare(old, new, ZERO), "old", "new")
    # GitHub takes 65,536 characters.
    assert len(text) < 40_000
    assert "accuracy" in text
    assert "and 983 more" in text


# The command.


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example for 4 time steps and for 1, both evaluated at both, and not calibrated."""
    folder = tmp_path_factory.mktemp("networks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = ["--data", str(DIGITS / "calibration"), "--limit", "64"]
    bad = ["--timesteps", "1", "--recipe", "quick", *data]
    for name, options in (
        ("good", ["--timesteps", "4", "--set", "passes.distill.steps=4", *data]),
        ("bad", bad),
        ("bare", []),
    ):
        path = str(folder / f"{name}.snn")
        assert cli.main(["convert", str(DIGITS / "model.onnx"), "-q", "-o", path, *options, *PREPROCESSING]) == 0
        if name != "bare":
            images = ["--data", str(DIGITS / "test"), "--limit", "100", "--timesteps", "1,4"]
            assert cli.main(["evaluate", path, "-q", *images]) == 0
    (folder / "bare.report.json").unlink()
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def run(tmp_path: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in a folder with these networks."""
    shutil.copytree(networks, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = cli.main(["diff", *arguments])
        return Result(code, *capsys.readouterr())

    return call


def test_the_same_file_twice(run: Run) -> None:
    result = run("good.snn", "good.report.json", "--max-accuracy-loss", "0")
    assert result.code == 0, result
    assert "the same spiking network" in result.out
    assert "worse" not in result.out.splitlines()[-1]
    # Only what differs is told, unless all is asked for.
    assert "no figure differs" in result.out and "accuracy" not in "".join(result.out.splitlines()[:-1])
    every = run("good.snn", "good.snn", "--all").out
    assert "accuracy %" in every and "no figure differs" not in every
    assert not result.err


def test_a_worse_network_exits_with_4_and_says_what_is_worse(run: Run) -> None:
    result = run("good.snn", "bad.snn", "--markdown", "comment.md")
    assert result.code == 4
    error, *details, hint = result.err.splitlines()
    assert error.startswith("error: worse than allowed: accuracy at T=")
    assert error.endswith("@ bad.snn") and hint.startswith("hint:  ")
    assert f"(and {len(details)} more)" in error or not details
    lines = [line for line in result.out.splitlines() if line.startswith("T=4 ") and " accuracy " in line]
    assert len(lines) == 1
    assert lines[0].split("  ")[-1].strip().startswith("worse")
    assert "written: comment.md" in result.out
    text = Path("comment.md").read_text()
    assert text.startswith("### snnc diff: ")
    assert "**worse**" in text
    assert run("good.snn", "bad.snn", "--no-fail").code == 0


def test_the_machine_form(run: Run) -> None:
    result = run("good.snn", "bad.report.json", "--json", "--markdown", "c.md", "--max-accuracy-loss", "inf")
    data = json.loads(result.out)
    assert data["old"] == "good.snn"
    assert data["files"] == ["c.md"]
    assert data["tolerances"]["accuracy_loss"] is None
    assert data["passed"] == (result.code == 0)
    (accuracy,) = [c for c in data["changes"] if (c["name"], c["timesteps"]) == ("accuracy", 4)]
    rows = {row.timesteps: row for row in read(Path("bad.report.json")).evaluation.rows}  # type: ignore[union-attr]
    assert accuracy["new"] == rows[4].accuracy
    assert accuracy["verdict"] == "allowed"
    assert accuracy["tolerance"] is None


def test_a_network_without_a_report_still_has_thresholds(run: Run) -> None:
    result = run("good.snn", "bare.snn", "--json", "--max-more-steps", "inf", "--max-threshold-change", "0.1")
    data = json.loads(result.out)
    assert result.code == 4
    assert {c["limit"] for c in data["changes"] if c["verdict"] == "worse"} == {"threshold_change"}
    assert any("new: not evaluated" in warning for warning in data["warnings"])
    # A limit that was asked for and cannot be judged has not been kept.
    result = run("good.snn", "bare.snn", "-q", "--max-more-steps", "inf", "--max-accuracy-loss", "1")
    assert result.code == 5
    assert "nothing to judge --max-accuracy-loss by" in result.err
    assert not result.out


@pytest.fixture
def broken(run: Run) -> Iterator[None]:
    """Files that are no reports, beside the networks."""
    text = Path("good.report.json").read_text()
    Path("damaged.json").write_text(text.replace('"summary"', '"sumary"'))
    Path("infinite.json").write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": 1e999', text))
    Path("newer.json").write_text(re.sub(r'"schema_version": \d+', '"schema_version": 99', text))
    Path("text.json").write_text("a text")
    shutil.copy("good.snn", "other.snn")
    shutil.copy("bad.report.json", "other.report.json")
    shutil.copy(DIGITS / "model.onnx", "model.onnx")
    yield


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["nothing.json"], 5, ["cannot read the report", "@ nothing.json"]),
        (["nothing.snn"], 5, ["no such file @ nothing.snn"]),
        (["damaged.json"], 5, ["damaged report: summary", "@ damaged.json"]),
        (["infinite.json"], 5, ["not a report", "@ infinite.json"]),
        (["text.json"], 5, ["not a report", "@ text.json"]),
        (["newer.json"], 5, ["schema version 99", "install a newer snnc"]),
        (["other.snn"], 5, ["a report on another network @ other.report.json"]),
        (["model.onnx"], 2, ["a trained model, not a .snn file @ model.onnx", "snnc convert"]),
        (["bad.snn", "--max-more-spikes", "-1"], 2, ["-1 is no tolerance for more-spikes"]),
        (["bad.snn", "--max-more-steps", "nan"], 2, ["nan is no tolerance for more-steps"]),
        (["bad.snn", "--markdown", "bad.report.json"], 2, ["would overwrite", "@ bad.report.json"]),
        (["bad.snn", "--markdown", "missing/c.md"], 5, ["cannot write", "@ missing/c.md"]),
    ],
)
@pytest.mark.usefixtures("broken")
def test_errors_are_one_line_with_a_hint(run: Run, arguments: list[str], code: int, parts: list[str]) -> None:
    for order in (["good.snn", *arguments], [arguments[0], "good.snn", *arguments[1:]]):
        result = run(*order)
        assert result.code == code, result
        assert result.out == ""
        assert result.err.count("\n") == 2
        assert "\nhint:  " in result.err
        for part in parts:
            assert part in result.err


def test_a_hostile_name_does_no_harm_to_a_terminal(run: Run, tmp_path: Path) -> None:
    write(report(row(), layers=(layer(HOSTILE),)), tmp_path / "a.json")
    write(report(row(hits=200), layers=(layer(HOSTILE, threshold=2.0),)), tmp_path / "b.json")
    # What is written is harmless; a report that is not was made by something else.
    forged = (tmp_path / "b.json").read_text().replace("@octocat", "@octocat\\u001b[31m\\u202e")
    (tmp_path / "c.json").write_text(forged)
    for new, code, said in (("b.json", 4, "worse than allowed"), ("c.json", 5, "control characters")):
        result = run("a.json", new)
        assert result.code == code
        assert said in result.err
        assert "\x1b" not in result.out + result.err
        assert "\u202e" not in result.out + result.err


def test_help_states_the_defaults(run: Run) -> None:
    text = " ".join(run("--help").out.split())
    for name, usual in Tolerances().items():
        said = text.split(f"--max-{name.replace('_', '-')} ")[1].split("Default: ")[1]
        assert said.startswith(f"{usual:g}")


def test_that_accuracy_could_not_be_judged_is_no_success(run: Run, tmp_path: Path) -> None:
    write(report(), tmp_path / "a.json")
    write(report(row(2)), tmp_path / "b.json")
    result = run("a.json", "b.json", "--quiet")
    assert (result.code, result.out) == (5, "")
    assert "nothing to judge --max-accuracy-loss by" in result.err
    assert run("a.json", "b.json", "--max-accuracy-loss", "inf", "-q").code == 0
    assert run("a.json", "b.json", "--no-fail", "-q").code == 0


def test_data_that_was_read_in_another_way_is_a_warning() -> None:
    changed = report(row(sleep=1, repeats=3), preprocessing={"mean": [0.9]})
    warnings = compare(report(row()), changed, ZERO).warnings
    for part in ("preprocessed differently", "sleep at T=4: 0 before, 1 now", "repeats at T=4: 1 before, 3 now"):
        assert any(part in warning for warning in warnings)
