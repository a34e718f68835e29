"""The guide as pages that need no server: a page for each topic, one of what they are, and a search in all of them."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token

from snnc.guide import FOLDER, TOPICS, Topic, topic
from snnc.version import VERSION

_HEADINGS = ("h1", "h2", "h3")


def site() -> Mapping[str, bytes]:
    """Return the files of the site by their names."""
    topics = [topic(name) for name in TOPICS]
    read = MarkdownIt("commonmark", {"html": False}).enable("table")
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("site.html.jinja")
    files = {"index.html": page.render(topics=topics, current=None, body="", version=VERSION)}
    places: list[tuple[str, str, str, str]] = []
    for current in topics:
        tokens = _linked(read.parse(current.markdown))
        body = read.renderer.render(tokens, read.options, {})
        files[f"{current.name}.html"] = page.render(topics=topics, current=current, body=body, version=VERSION)
        places += _places(current, tokens)
    # A page that is opened as a file may load a script beside it, and no data.
    script = Path(FOLDER, "search.js").read_text(encoding="utf-8")
    files["search.js"] = f"const PLACES = {json.dumps(places, ensure_ascii=False)};\n{script}"
    files["style.css"] = Path(FOLDER, "style.css").read_text(encoding="utf-8")
    return {name: text.encode() for name, text in files.items()}


def slug(heading: str) -> str:
    """Return the place of a heading in its page, as those who show Markdown elsewhere call it."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


def _linked(tokens: list[Token]) -> list[Token]:
    """Give headings a place that links lead to, and let links lead to pages in place of files."""
    taken = Counter[str]()
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and token.tag in _HEADINGS and inline is not None:
            place = slug(inline.content)
            # Of headings that are alike, the first has the place that is called so.
            token.attrSet("id", f"{place}-{taken[place]}" if taken[place] else place)
            taken[place] += 1
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else None
            if isinstance(target, str):
                child.attrSet("href", re.sub(r"^([a-z]+)\.md\b", r"\1.html", target))
    return tokens


def _places(current: Topic, tokens: list[Token]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the page, the place in it, the heading and the words of every part of a page."""
    place, heading, words = "", current.title, list[str]()
    for token, before in zip(tokens, [None, *tokens[:-1]], strict=True):
        if before is not None and before.type == "heading_open" and before.tag in _HEADINGS:
            if words:
                yield current.name, place, heading, " ".join(words)
            place, heading, words = str(before.attrGet("id")), token.content, []
        elif token.content:
            words.append(" ".join(token.content.split()))
    yield current.name, place, heading, " ".join(words)
