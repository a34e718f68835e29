"""The guide: whole, true of the code, and every block of code in it and in the README runs."""

import dataclasses
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import snnc
from snnc import cli, recipe
from snnc.cli.application import commands
from snnc.errors import ModelError
from snnc.findings import EXPLANATIONS
from snnc.formats.format import formats
from snnc.guide import FOLDER, TOPICS, topic
from snnc.guide import parts as guide_parts
from snnc.guide.site import site, slug
from snnc.measure.figures import figures
from snnc.neurons import neurons
from snnc.neurons.choice import options_of
from snnc.passes import passes
from snnc.report.faces.prose import Prose
from snnc.tasks import tasks
from tests.browser import CHROMIUM, Browser
from tests.documents import DOCUMENTS, ROOT, blocks, can_run, forgotten, furnished, run

LINK = re.compile(r"\]\(([^)\s]+)\)")

pytestmark = pytest.mark.usefixtures("trained_shortly")


def test_every_file_is_a_topic() -> None:
    assert sorted(TOPICS) == sorted(path.stem for path in FOLDER.glob("*.md"))
    for name in TOPICS:
        found = topic(name)
        assert found.markdown.startswith(f"# {found.title}\n\n") and found.about.endswith(".")
        assert "<!-- snnc:" not in found.markdown
        assert len(found.about) < 200


PYTHON, EXTEND = FOLDER / "python.md", FOLDER / "extend.md"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Run all code of a document in a folder with little data; returns what its Python calls by name."""
    monkeypatch.chdir(furnished(tmp_path / "folder"))

    def reads(document: Path) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for block in blocks(document):
            run(block, names)
        return names

    with forgotten():
        yield reads


@pytest.mark.parametrize("document", sorted({*DOCUMENTS} - {PYTHON, EXTEND}), ids=lambda path: path.name)
def test_all_code_of_a_document_runs(document: Path, read: Callable[[Path], dict[str, Any]]) -> None:
    read(document)


def test_the_page_on_python_tells_the_truth(read: Callable[[Path], dict[str, Any]], capsys) -> None:
    names = read(PYTHON)
    assert [tensor.shape for tensor in names["images"].values()] == [(30, 1, 8, 8)]
    assert names["answer"].shape == names["output"].shape == (30, 10)
    assert (names["answer"].argmax(1) == names["test"].labels("classes").answers).float().mean() > 0.9
    assert [row.timesteps for row in names["rows"]] == [2, 4, 8]
    again = snnc.evaluate(names["network"].conversion, data="test")
    assert again.rows[0] == next(row for row in names["rows"] if row.timesteps == again.rows[0].timesteps)
    assert names["state"].taken == names["network"].schedule.total
    for layer, spikes in names["response"].spikes.items():
        assert spikes.shape[:2] == (names["network"].schedule.total, 30)
        assert (names["state"].spikes[layer] == spikes[-1]).all()
    printed = capsys.readouterr().out
    assert all(layer in printed for layer in names["network"].layers)
    for registry in (passes, neurons):
        assert all(name in printed for name in registry)


def test_the_plug_ins_of_the_guide_work(read: Callable[[Path], dict[str, Any]], capsys) -> None:
    read(EXTEND)
    assert "leaky.py: 1 member," in capsys.readouterr().out
    for name in [name for name in sys.modules if name.startswith("snnc_plugins.")]:
        del sys.modules[name]
    with pytest.raises(ModelError, match="needs the plug-in 'leaky', not loaded here"):
        snnc.load("model.snn")


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    command = "pip install '.[dev]' && python -m pytest"
    assert command in lines and command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_code_that_nobody_runs_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# A\n\n    indented\n\n```rust\nfn\n```\n\n```sh\nsnnc env\n```\n")
    assert [can_run(block) for block in blocks(document)] == [False, False, True]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        path, _, place = target.partition("#")
        if target.startswith("https://"):
            continue
        found = document.parent / path if path else document
        assert found.exists(), target
        if place:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in {slug(one) for one in headings}, target


def test_what_is_named_is_there() -> None:
    """Commands, topics, findings, files and benchmarks that the documents speak of exist."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"`snnc ([a-z][a-z-]*)", text):
            assert name in commands, (document, name)
        for name in re.findall(r"`snnc guide ([a-z]+)", text):
            assert name in TOPICS, (document, name)
        for path in re.findall(r"`((?:examples|snnc|tests)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), (document, path)
        for path in re.findall(r"python (tests/[\w/]+\.py)", text):
            assert (ROOT / path).exists(), (document, path)
        for listed in re.findall(r"\(the findings? ([^)]*)\)", text):
            assert set(re.findall(r"`([\w-]+)`", listed)) <= set(EXPLANATIONS), listed


def test_every_figure_is_defined() -> None:
    text = (FOLDER / "report.md").read_text(encoding="utf-8")
    defined = re.findall(r"^\| ([\w -]+?) \| .+ \| .+ \| .+ \|$", text.split("## Gates")[0], re.MULTILINE)
    assert {*defined} - {"figure", "---"} == {figure.name for figure in figures()}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, kind) for registry in (passes, tasks, formats) for kind in registry.values()),
        *((kind, options_of(kind)) for kind in neurons.values()),
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_option_has_a_meaning(kind: type[Any], form: type[Any]) -> None:
    """An option is described where it stands, or named in what its owner says of itself."""
    told = guide_parts._described("it", kind, form)
    prose, _, listed = told.rpartition("\n\n- `")
    for field in dataclasses.fields(form):
        name = field.name.replace("_", "-")
        described = re.search(rf"^(?:- )?`?{name}` \(.*\): ", f"- `{listed}", re.MULTILINE)
        assert described or f"`{name}`" in prose or f"`{name}:" in prose, name


def test_tables_of_the_code_name_all_of_it() -> None:
    for name, members in (("passes", passes), ("neurons", neurons), ("tasks", tasks), ("formats", formats)):
        text = guide_parts.parts[name]()
        assert all(member in text for member in members)
    assert all(f"`{name}`" in guide_parts.parts["recipes"]() for name in recipe.shipped())
    assert all(code in guide_parts.parts["findings"]() for code in EXPLANATIONS)
    rows = {line.split("|")[1].strip(): line for line in guide_parts.parts["operations"]().splitlines()}
    assert rows["`MaxPool`"].split("|")[3:6] == [" yes ", " yes ", " no "]
    assert "doi.org/10.3389/fnins.2017.00682" in guide_parts.parts["papers"]()


def test_topics_are_listed_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guide"]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[: len(TOPICS)]] == list(TOPICS)
    assert cli.main(["guide", "energy"]) == 0
    assert capsys.readouterr().out.startswith("# Energy\n")
    assert cli.main(["guide", "energy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Energy"


def test_a_topic_that_there_is_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guide", "enregy"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no topic of the guide is called 'enregy'")
    assert "'energy'" in error and all(name in error for name in TOPICS)
    assert cli.main(["guide", "energy", "--html", "x"]) == 2


def test_the_site_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guide", "--html", str(tmp_path / "site")]) == 0
    assert "index.html" in capsys.readouterr().out
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "site").iterdir()}
    assert set(pages) == {"index.html", "style.css", "search.js", *(f"{name}.html" for name in TOPICS)}
    for name, page in pages.items():
        places = re.findall(r' id="([^"]*)"', page)
        assert len(places) == len({*places}), name
        loaded = re.findall(r'(?:src|<link [^>]*href)="([^"]*)"', page) if name.endswith(".html") else []
        assert {*loaded} <= {"style.css", "search.js"}, name
        for target in re.findall(r'<a href="([^"]*)"', page):
            path, _, place = target.partition("#")
            assert target.startswith("https://") or path in pages or not path, (name, target)
            assert not place or target.startswith("https://") or f'id="{place}"' in pages[path or name], (name, target)
    found = json.loads(pages["search.js"].partition(" = ")[2].partition(";\n")[0])
    assert ["methods", "radix"] in [[page, heading] for page, _, heading, _ in found]


def test_a_browser_searches_the_site_and_asks_for_nothing(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium (Debian: apt install chromium)")
    for name, content in site().items():
        (tmp_path / name).write_bytes(content)
    with Browser() as browser:
        for name, width in (("support", 400), ("results", 1280), ("index", 1280)):
            browser.open(tmp_path / f"{name}.html", width)
            assert not browser.run("document.documentElement.scrollWidth > innerWidth"), name
        browser.run("field.value = 'Radix code'; field.dispatchEvent(new Event('input'))")
        assert browser.run("list.querySelector('a').getAttribute('href')") == "methods.html#radix"
        browser.run("field.value = 'qqqq'; field.dispatchEvent(new Event('input'))")
        assert browser.run("list.textContent") == "nothing found"
        assert browser.said == []
        assert all(url.startswith(tmp_path.as_uri()) for url in browser.requests)


def test_what_is_cited_is_this_version() -> None:
    (block,) = (block for block in blocks(FOLDER / "start.md") if block.language == "bibtex")
    assert f"  version = {{{snnc.__version__}}},\n" in block.text


def test_a_site_goes_into_a_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main(["guide", "--html", str(tmp_path / "file")]) == 5
    assert capsys.readouterr().err.startswith("error: cannot write: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_terminals_fold_prose_and_keep_what_is_copied_on_one_line() -> None:
    console = Console(file=io.StringIO(), width=60, legacy_windows=False)
    command = f"snnc convert {'x' * 80}"
    console.print(Prose(f"# A\n\nsee [here](choose.md#x) {'word ' * 30}\n\n```sh\n{command}\n```\n"), crop=False)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in lines if "xx" in line] == [command]
    assert all(len(line) <= 60 for line in lines if "xx" not in line)
    assert "here (snnc guide choose)" in " ".join(line.strip() for line in lines)


def test_tables_with_too_many_wide_columns_are_told_row_by_row() -> None:
    console = Console(file=io.StringIO(), width=60, legacy_windows=False)
    words = " ".join(["word"] * 6)
    wide = f"| a | b | c | d |\n|---|---|---|---|\n| 1 | {words} | {words} | {words} |"
    console.print(Prose(f"{wide}\n\n| e | f |\n|---|---|\n| 1 | {words} |"))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    assert lines[:4] == ["1", f"    b: {words}", f"    c: {words}", f"    d: {words}"]
    assert lines[4].split() == ["e", "f"]


def test_pages_are_made_without_loading_torch() -> None:
    code = "import sys; from snnc import cli; cli.main(['guide', 'choose', '-q']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


def test_the_site_is_small() -> None:
    assert sum(map(len, site().values())) < 1_500_000
