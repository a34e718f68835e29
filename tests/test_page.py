"""The page in a browser: what it folds, sorts and prints, at two widths, and that it asks for nothing."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import snnc
from snnc.actions.inspect import hold_against
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.hardware import load_target
from snnc.measure.gates import Limits
from snnc.report import Report, held
from snnc.report.faces import faces
from snnc.report.faces.page import Part, document
from tests.browser import CHROMIUM, Browser

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"

WIDE = "document.documentElement.scrollWidth > innerWidth"
FIRST = "[...document.querySelectorAll('#network table.sorts tbody tr')].map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def evaluated() -> tuple[Conversion, Report]:
    how = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
    few = Reading(limit=24)
    conversion, made = snnc.convert(
        DIGITS / "model.onnx", data=DIGITS / "calibration", recipe="quick", timesteps=2, preprocessing=how, reading=few
    )
    limits = Limits(max_spikes=100, max_layer_error=1)
    found = snnc.evaluate(conversion, data=DIGITS / "test", timesteps=[1, 2], limits=limits, reading=few)
    return conversion, dataclasses.replace(made, evaluation=found)


@pytest.fixture(scope="module")
def report(evaluated: tuple[Conversion, Report]) -> Report:
    return evaluated[1]


def drawn_less(report: Report) -> Report:
    """Leave out layers, whose plots take the time."""
    return dataclasses.replace(report, layers=report.layers[:1])


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return faces["html"](drawn_less(report))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium (Debian: apt install chromium)")
    with Browser() as started:
        yield started


def test_a_browser_opens_folds_sorts_and_has_nothing_to_say(report: Report, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(faces["html"](report), encoding="utf-8")
    for width, dark in ((1280, False), (400, True)):
        browser.open(path, width, dark=dark)
        assert not browser.run(WIDE)
    assert browser.run("document.title").startswith("failed: model.onnx")
    colors = [browser.run("getComputedStyle(document.body.parentElement).backgroundColor")]
    browser.open(path, 1280)
    assert browser.run("getComputedStyle(document.body.parentElement).backgroundColor") not in colors

    folds = browser.run("document.querySelectorAll('details').length")
    browser.run("document.querySelectorAll('details:not([open]) > summary').forEach(summary => summary.click())")
    assert browser.run("document.querySelectorAll('details[open]').length") == folds > len(report.layers)
    assert not browser.run(WIDE)

    names = browser.run(FIRST)
    assert names == [layer.name for layer in report.layers]
    rate = "[...document.querySelectorAll('#network table.sorts button')].find(b => b.textContent === 'rate')"
    by_rate = [layer.name for layer in sorted(report.layers, key=lambda layer: -(layer.firing_rate or 0))]
    for expected, order in ((by_rate, "descending"), (by_rate[::-1], "ascending"), (names, None)):
        browser.run(f"{rate}.click()")
        assert browser.run(FIRST) == expected
        assert browser.run(f"{rate}.parentElement.getAttribute('aria-sort')") == order
    assert by_rate != names

    assert browser.pdf().startswith(b"%PDF")
    assert browser.said == [] and set(browser.requests) == {path.as_uri()}


def test_a_page_says_its_verdict_first_and_in_its_title(report: Report, page: str) -> None:
    assert "<title>failed: model.onnx, snnc report</title>" in page
    above = page.partition("<nav")[0]
    assert "max-spikes at T=2" in above and "1 failed, 1 passed" in above
    layers = f"limits on {len(report.layers)} layers: {len(report.layers)} passed"
    assert above.index("max-spikes") < above.index(layers)
    assert report.evaluation is not None
    unlimited = dataclasses.replace(report, evaluation=dataclasses.replace(report.evaluation, gates=()))
    assert "<title>model.onnx, snnc report</title>" in faces["html"](drawn_less(unlimited))


def test_whether_it_fits_a_chip_is_said_first(evaluated: tuple[Conversion, Report]) -> None:
    conversion, report = evaluated
    found = hold_against(conversion, load_target("loihi2"))
    empty = dataclasses.replace(found, fit=dataclasses.replace(found.fit, misfits=()))
    cases = ((found, "does not fit Intel Loihi 2: weight-bits", "failed"), (empty, "fits, as far as", "passed"))
    for fitted, words, verdict in cases:
        text = faces["html"](held(conversion, drawn_less(report), fitted))
        above, _, below = text.partition("<nav")
        assert words in above and words in below and f"{verdict}</span> {words}" in above


def test_what_has_no_data_is_a_line_and_one_number_of_steps_is_no_plot(report: Report, page: str) -> None:
    assert report.evaluation is not None
    (first, _) = report.evaluation.rows
    only = dataclasses.replace(report, evaluation=dataclasses.replace(report.evaluation, rows=(first,)))
    one = faces["html"](drawn_less(only))
    assert page.count("steps from image to answer, at T = 1, 2") >= 4
    assert "steps from image to answer, at T" not in one
    assert one.count('class="bare"') == page.count('class="bare"') == 2
    assert one.count("<h2>") == page.count("<h2>")


def test_a_page_without_a_table_that_sorts_runs_nothing() -> None:
    text = document("report", "m", "All is well.", [Part("a", "a", "A", ())])
    assert "<script" not in text and "script-src 'none'" in text
