"""The guide: Markdown files of this folder, one for each topic; what the code knows is made where it is shown.

A line ``<!-- snnc: NAME -->`` in a file stands for a part that ``snnc.guide.parts`` makes.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import final

from snnc.errors import UsageError

# In the order in which people need them.
TOPICS = (
    "start",
    "choose",
    "accuracy",
    "data",
    "tasks",
    "events",
    "recipes",
    "passes",
    "training",
    "tune",
    "report",
    "energy",
    "export",
    "ci",
    "distributed",
    "python",
    "extend",
    "architecture",
    "methods",
    "support",
    "results",
)
FOLDER = Path(__file__).parent

_MADE = re.compile(r"^<!-- snnc: ([a-z-]+) -->$", re.MULTILINE)


@final
@dataclass(frozen=True)
class Topic:
    """A page of the guide: its ``title``, what it is about in a sentence, and all of it as Markdown."""

    name: str
    title: str
    about: str
    markdown: str


def topic(name: str) -> Topic:
    """Return a page of the guide, with what the code knows; raises UsageError where there is no such topic."""
    if name not in TOPICS:
        close = get_close_matches(name, TOPICS, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        hint = f"{meant}topics: {', '.join(TOPICS)}"
        raise UsageError(f"no topic of the guide is called {name!r}", hint=hint)
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    title, about = (" ".join(part.replace("`", "").split()) for part in text.split("\n\n", 2)[:2])
    return Topic(name, title.removeprefix("# "), about, _MADE.sub(_made, text))


def _made(found: "re.Match[str]") -> str:
    # Loads torch, as the rest of the guide does not.
    from snnc.guide.parts import parts

    return parts[found[1]]()
