"""Text from outside (names in a model, paths, messages about them), made harmless where it is shown."""

import re
import unicodedata

# What GitHub makes something of even where it is escaped: @user, #1, GH-1, :smile:, https: and www.
_ACTIVE = re.compile(r"(?<=[@#:])(?=[\w/])|(?<=www)(?=\.)|(?<=gh)(?=-\d)", re.IGNORECASE)
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$!])")
_AT_THE_START = re.compile(r"^(\d+(?=[.)](\s|$))|(?=[-+#=]))")


def harmless(text: str) -> bool:
    """Return whether a terminal only shows the text: no control characters, none that turn its direction around.

    Halves of a character (surrogates), which stand for bytes of a file name that are no text, cannot be written at all.
    """
    return not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _TURNING for c in text)


def printable(text: str) -> str:
    """Return the text on one line, what cannot be printed replaced by spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def as_it_is(line: str) -> str:
    """Return a line with what cannot be printed replaced by spaces, its own spaces kept."""
    return "".join(c if c.isprintable() else " " for c in line).rstrip()


def escaped(text: str) -> str:
    """Return Markdown that GitHub shows as the text on one line: no markup, HTML, links, mentions or references."""
    inert = _MARKUP.sub(r"\\\1", printable(text))
    # A comment, which nobody sees, stands between the characters that GitHub looks for.
    return _ACTIVE.sub("<!-- -->", _AT_THE_START.sub(r"\1\\", inert))
