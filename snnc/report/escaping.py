"""Text from outside (names in a model, paths, messages about them), made harmless where it is shown."""

import re

# What GitHub makes something of even where it is escaped: @user, #1, GH-1, :smile:, https: and www.
_ACTIVE = re.compile(r"[@#:]|gh(?=-)|www(?=\.)", re.IGNORECASE)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_ZERO_WIDTH_SPACE = "\u200b"


def printable(text: str) -> str:
    """Return the text on one line, what cannot be printed replaced by spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escaped(text: str) -> str:
    """Return Markdown that GitHub shows as the text on one line: no markup, HTML, links, mentions or references."""
    inert = _ACTIVE.sub(lambda match: match[0] + _ZERO_WIDTH_SPACE, printable(text))
    return _PUNCTUATION.sub(r"\\\1", inert)
