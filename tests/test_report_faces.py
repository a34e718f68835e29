"""The faces of a report, on one that has everything, on those that lack something, and on a hostile one."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from markdown_it import MarkdownIt
from pydantic import TypeAdapter
from rich.console import Console

import snnc
from snnc import recipe
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.formats.match import Match
from snnc.measure.gates import Limits
from snnc.report import Report
from snnc.report.data import plain, read, write
from snnc.report.faces import faces, terminal
from snnc.report.sentence import sentence
from snnc.text import printable, span, written

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
LIMITS = Limits(max_drop="1%", min_agreement=50, max_energy_ratio=1, max_spikes=1000, max_layer_error=0.3)

# Markup, an attribute's end, Markdown, a template, a formula, a color of a plot's own, links, control characters, an
# override of the direction of text, half a character.
HOSTILE = (
    "<script>alert(1)</script>|\"'`&``\n\\|\\\\| x='y' onload=alert(1) </style></title></svg> {{ 7 * 7 }} $x^2$ "
    "#0a0a04 [a](javascript:alert(1)) ![i](https://evil.example/i.png) <https://evil.example> www.evil.example "
    "a@evil.example @someone someone/else#1 GH-1 javascript:alert(1)\0\x1b\u202e\ud800"
)
VERIFICATIONS = (
    Match("onnx", "whole trains", "onnxruntime 1.0", 2, 24, "passed", True, 99.9991, "Relu", 99.99, 1e-7, 100.0),
    Match("onnx", "one step", "onnxruntime 1.0", 2, 24, "failed", False, 12.25, "Relu", 3.5, 0.5, remark="fires 12 %"),
    Match("nir", "profile if", "other 2.0", 2, 0, "noted", remark="does not read it: why should it"),
)
KINDS = ("bare", "calibrated", "evaluated", "stripped", "unlabeled", "hostile")
VOID = {"meta", "br", "img"}


@pytest.fixture(scope="session")
def reports() -> dict[str, Report]:
    few = Reading(limit=24)
    made = {"recipe": recipe.load("quick", timesteps=2), "preprocessing": PREPROCESSING}
    _, bare = snnc.convert(DIGITS / "model.onnx", **made)
    conversion, calibrated = snnc.convert(DIGITS / "model.onnx", data=DIGITS / "calibration", reading=few, **made)
    whole = snnc.evaluate(conversion, data=DIGITS / "test", timesteps=[1, 2, 4], blamed=24, limits=LIMITS, reading=few)
    stripped = snnc.evaluate(replace(conversion, reference=None), data=DIGITS / "test", reading=few)
    unlabeled = snnc.evaluate(conversion, data=DIGITS / "calibration", reading=few)
    # Drawing takes the time: two layers show what four do.
    summary = replace(calibrated.summary, layers=2)
    calibrated = replace(calibrated, layers=calibrated.layers[:2], summary=summary)
    evaluated = replace(calibrated, evaluation=whole, verifications=VERIFICATIONS)
    data = spoiled(plain(evaluated))
    data["provenance"][HOSTILE] = HOSTILE
    # A file with control characters is refused; faces have to bear them all the same.
    hostile = replace(TypeAdapter(Report).validate_python(data), sections=evaluated.sections)
    found = {
        "bare": bare,
        "calibrated": calibrated,
        "evaluated": evaluated,
        "stripped": replace(calibrated, evaluation=stripped),
        "unlabeled": replace(calibrated, evaluation=unlabeled),
        "hostile": hostile,
    }
    assert set(found) == set(KINDS)
    return found


def spoiled(data: Any, key: str = "") -> Any:
    """Make every text that a file could bring hostile; what only this program writes stays one of its words."""
    if isinstance(data, dict):
        return {name: spoiled(value, name) for name, value in data.items()}
    if isinstance(data, list):
        return [spoiled(value, key) for value in data]
    said = isinstance(data, str) and data and key not in ("code", "severity", "verdict", "why")
    return data + HOSTILE if said else data


@pytest.fixture(scope="session")
def rendered(reports: dict[str, Report]) -> Callable[[str, str], str]:
    texts: dict[tuple[str, str], str] = {}

    def render(face: str, kind: str) -> str:
        if (face, kind) not in texts:
            texts[face, kind] = faces[face](reports[kind])
        return texts[face, kind]

    return render


class Page(HTMLParser):
    """A page taken apart: its elements, its words, its tables; elements have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((tuple(self._open), data))
        if {"td", "th"} & set(self._open) and "small" not in self._open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for inside, data in self.words if "style" not in inside).split())

    def table(self, first: str) -> list[dict[str, str]]:
        """The rows of the table whose first column has this title, by their columns' titles."""
        header, *rows = next(rows for rows in self.tables if rows[0][0].strip() == first)
        return [{title: cell.strip() for title, cell in zip(header, row, strict=True)} for row in rows]

    def attributes(self, name: str) -> Iterator[str]:
        return (attributes[name] for _, attributes in self.elements if name in attributes)


def from_markdown(text: str) -> Page:
    return Page(MarkdownIt("commonmark").enable("table").render(text))


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "").split()[0])


def test_there_are_faces() -> None:
    assert {"html", "junit", "markdown", "sarif"} <= set(faces)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("face", faces)
def test_every_face_shows_every_report_in_text_that_can_be_written(
    face: str, kind: str, rendered: Callable[[str, str], str]
) -> None:
    text = rendered(face, kind)
    assert text.endswith("\n")
    assert text.encode()
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("face", faces)
def test_equal_reports_give_equal_bytes(
    face: str, reports: dict[str, Report], rendered: Callable[[str, str], str], tmp_path: Path
) -> None:
    write(reports["evaluated"], tmp_path / "report.json")
    # Settings of the user's own are none of the page's business, and stay as they are.
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        again = faces[face](read(tmp_path / "report.json"))
        assert matplotlib.rcParams["font.size"] == 30
    assert again == rendered(face, "evaluated")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_else_and_runs_its_own_script_alone(
    kind: str, rendered: Callable[[str, str], str]
) -> None:
    page = Page(rendered("html", kind))
    scripts = [data for inside, data in page.words if inside[-1:] == ("script",)]
    own = (Path(snnc.__file__).parent / "report" / "faces" / "page.js").read_text()
    assert [tag for tag, _ in page.elements].count("script") == len(scripts) == 1 and scripts == [own]
    forbidden = {"iframe", "object", "embed", "image", "link", "base", "form", "foreignobject"}
    assert not forbidden & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "action")], tag
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert "url(" not in f"{attributes.get('style')} {attributes.get('clip-path')}".replace("url(#", "")
    ids = list(page.attributes("id"))
    assert len(ids) == len(set(ids))
    targets = [*page.attributes("href"), *(u for _, a in page.elements for u in re.findall(r"url\((#[^)]*)", str(a)))]
    assert {f"#{name}" for name in ids} >= set(targets)
    (policy,) = (a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';")
    styles = "".join(data for inside, data in page.words if "style" in inside)
    assert "url(" not in styles
    assert "@import" not in styles


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_can_be_read_by_those_who_do_not_see_it(kind: str, rendered: Callable[[str, str], str]) -> None:
    page = Page(rendered("html", kind))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    # Without images, only how the layers follow each other is known.
    assert (kind == "bare") == (len(plots) == 1)
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    titles = [data for inside, data in page.words if inside[-2:] == ("svg", "title")]
    assert len(titles) >= len(plots)
    assert page.elements[0] == ("html", {"lang": "en"})


def test_plots_have_the_colors_of_the_page_and_no_style_for_all_of_it(rendered: Callable[[str, str], str]) -> None:
    page = Page(rendered("html", "evaluated"))
    drawn = " ".join(page.attributes("style"))
    assert "var(--plot-spiking)" in drawn
    assert not re.search(r"#[0-9a-fA-F]{3,}\b", drawn)
    assert [tag for tag, _ in page.elements].count("style") == 1


@pytest.mark.parametrize("face", ["html", "markdown"])
def test_the_figures_are_those_of_the_report(
    face: str, reports: dict[str, Report], rendered: Callable[[str, str], str]
) -> None:
    whole = reports["evaluated"]
    assert whole.evaluation is not None
    text = rendered(face, "evaluated")
    page = Page(text) if face == "html" else from_markdown(text)
    assert sentence(whole) in page.text
    shown = page.table("T")
    assert len(shown) == len(whole.evaluation.rows) == 3
    for cells, row in zip(shown, whole.evaluation.rows, strict=True):
        known = {"T": row.timesteps, "accuracy, %": row.accuracy, "drop, points": row.drop}
        known |= {"agreement, %": row.agreement, "steps to the answer": row.total_steps}
        assert {name: number(cells[name]) for name in known} == pytest.approx(known, abs=0.00501)
        assert number(cells["spikes"]) == pytest.approx(row.spikes, abs=0.501)
        assert number(cells["energy ratio"]) == pytest.approx(row.energy.ratio, rel=0.005)
    errors = {layer.name: 100 * (layer.error or 0) for layer in whole.layers}
    layers = next(rows for rows in page.tables if "unevenness, %" in rows[0])
    place = layers[0].index("error, %")
    assert {row[0].strip(): number(row[place]) for row in layers[1:]} == pytest.approx(errors, abs=0.0501)
    verdicts = {gate.verdict for gate in whole.evaluation.gates}
    assert {row["verdict"].split(maxsplit=1)[1].strip() for row in page.table("verdict")} == verdicts
    exports = next(rows for rows in page.tables if "equal spikes, %" in rows[0])
    titles = [title.strip() for title in exports[0]]
    for row, known in zip(exports[1:], VERIFICATIONS, strict=True):
        cells = {title: cell.strip() for title, cell in zip(titles, row, strict=True)}
        assert cells["verdict"].split()[1] == known.verdict
        assert cells["run by"] == known.engine and cells["remark"] == (known.remark or "-")
        equal = cells["equal spikes, %"]
        assert equal == "-" if known.equal is None else number(equal) == pytest.approx(known.equal, abs=0.000051)
    for finding in whole.all_findings:
        assert finding.hint in page.text


@pytest.mark.parametrize("face", ["html", "markdown"])
def test_one_page_rounds_one_figure_once(
    face: str, reports: dict[str, Report], rendered: Callable[[str, str], str]
) -> None:
    text = rendered(face, "evaluated")
    page = Page(text) if face == "html" else from_markdown(text)
    row = reports["evaluated"].headline
    assert row is not None and row.drop is not None and row.drop_interval is not None
    drop, accuracy = written(row.drop, "points"), written(row.accuracy or 0.0, "%")
    within = span(row.drop_interval, "points")
    (cells,) = (cells for cells in page.table("T") if cells["T"] == str(row.timesteps))
    assert (cells["drop, points"].split(" (")[0], cells["accuracy, %"].split(" (")[0]) == (drop, accuracy)
    # The sentence, the key figure and the table.
    assert f"{drop} points" in sentence(reports["evaluated"]) and within in sentence(reports["evaluated"])
    assert page.text.count(within) >= 3
    assert page.text.count(f"{drop} points") >= 2
    assert not re.search(r"(?<![.\d])\d+(\.\d|\.\d{3,})? points", page.text.split("Gates")[0])
    assert f"{accuracy} %" in page.text


def test_one_of_a_thing_is_no_several_and_samples_are_counted_in_every_face() -> None:
    one = Reading(limit=1)
    how = {"recipe": recipe.load("synchronous", timesteps=1, sleep=1), "preprocessing": PREPROCESSING, "reading": one}
    conversion, report = snnc.convert(DIGITS / "model.onnx", data=DIGITS / "calibration", **how)
    evaluation = snnc.evaluate(conversion, data=DIGITS / "test", reading=one)
    several = re.compile(r"(?<![\w.,±=-])1 (?:[a-z]+ )?(?:images|samples|steps|layers|levels|bits|spikes|neurons)\b")
    for told in (report, replace(report, evaluation=evaluation)):
        file = io.StringIO()
        Console(file=file, width=1000).print(terminal.rendered(terminal.lines(told)))
        for text in (file.getvalue(), *(face(told) for face in faces.values())):
            assert not several.findall(text)
        # The figures of layers and NeuroBench's are of other samples than those beside them.
        for text in (file.getvalue(), faces["markdown"](told)):
            assert "The layers are as converted, over 1 image at T=1." in text
            assert "of 1 sample, per inference at T=1." in text


def test_what_was_measured_before_has_the_columns_of_what_is_measured_now(reports: dict[str, Report]) -> None:
    now = reports["evaluated"]
    assert now.evaluation is not None
    page = Page(faces["html"](replace(now, earlier=(replace(now.evaluation, samples=7),))))
    assert page.table("samples")[0].keys() - {"samples"} == page.table("T")[0].keys() - {"steps asleep used"}


@pytest.mark.parametrize("face", ["html", "markdown"])
@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("bare", ["calibrate --data FOLDER", "evaluate --data FOLDER --timesteps 1,2,4,8", "evaluate --data FOLDER"]),
        ("calibrated", ["evaluate --data FOLDER --blame", "evaluate --data FOLDER --max-drop 1%"]),
        ("stripped", ["convert MODEL --data FOLDER", "evaluate --data FOLDER --max-energy-ratio 1"]),
        ("unlabeled", ["evaluate --data FOLDER", "evaluate --data FOLDER --min-agreement 99"]),
        ("evaluated", []),
    ],
)
def test_what_was_not_measured_is_said_with_the_command_that_measures_it(
    face: str, kind: str, commands: list[str], rendered: Callable[[str, str], str]
) -> None:
    text = rendered(face, kind)
    page = Page(text) if face == "html" else from_markdown(text)
    given = {data for inside, data in page.words if inside[-1:] == ("code",) and data.startswith("snnc ")}
    assert {f"snnc {command}" for command in commands} <= given
    assert bool(given) == bool(commands)
    assert ("not measured" in page.text) == (kind != "evaluated")


@pytest.mark.parametrize("face", ["html", "markdown"])
def test_what_comes_from_outside_is_shown_and_does_nothing(
    face: str, reports: dict[str, Report], rendered: Callable[[str, str], str]
) -> None:
    text = rendered(face, "hostile")
    page = Page(text) if face == "html" else from_markdown(text)
    usual = Page(rendered("html", "evaluated")) if face == "html" else from_markdown(rendered("markdown", "evaluated"))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in usual.elements}
    attributes = {name for _, found in page.elements for name in found}
    assert attributes <= {name for _, found in usual.elements for name in found} | {"href"}
    layer = reports["hostile"].layers[0]
    seen = " ".join(layer.name.replace("\0", " ").split("\ud800")[0].split())[:30]
    assert "<script>" in seen
    assert seen in page.text
    layers = next(rows for rows in page.tables if "unevenness, %" in rows[0])
    rates = sorted(number(row[[title.strip() for title in layers[0]].index("rate")]) for row in layers[1:])
    assert rates == pytest.approx(sorted(known.firing_rate or 0 for known in reports["hostile"].layers), rel=0.005)
    if face == "html":
        assert all(
            target.startswith("#") and target[1:].replace("-", "").isalnum() for target in page.attributes("href")
        )
    else:
        assert "a" not in {tag for tag, _ in page.elements}
        # Outside of code, GitHub would make links of these.
        words = " ".join(data for inside, data in page.words if "code" not in inside)
        assert not re.search(r"@someone|@evil|#1|GH-1|://|www\.", words)


def test_messages_for_code_scanning_are_text_in_a_place_that_is_shown(
    reports: dict[str, Report], rendered: Callable[[str, str], str]
) -> None:
    (scan,) = json.loads(rendered("sarif", "hostile"))["runs"]
    findings, evaluation = reports["hostile"].all_findings, reports["hostile"].evaluation
    assert evaluation is not None
    failed = [gate for gate in evaluation.gates if gate.verdict == "failed"]
    assert len(scan["results"]) == len(findings) + len(failed) and findings and failed
    said_of = [gate.sentence for gate in failed] + [f"{finding.message}. {finding.hint}" for finding in findings]
    for result, message in zip(scan["results"], said_of, strict=True):
        text = result["message"]["text"]
        # No link, no placeholder; what undoes both escapes gives the message back.
        assert not re.search(r"(?<!\\)\]\(", text)
        assert "{" not in text.replace("{{", "")
        assert "}" not in text.replace("}}", "")
        said = text.replace("{{", "{").replace("}}", "}").replace("\\](", "](")
        assert said == printable(message)
        (location,) = result["locations"]
        # GitHub's rules for what it takes in ask for a line.
        assert location["physicalLocation"]["region"] == {"startLine": 1}
