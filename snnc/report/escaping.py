"""Text from outside (names in a model, paths, messages about them) as Markdown that shows it."""

import re

from snnc.text import printable

# What GitHub makes something of even where it is escaped: @user, #1, GH-1, :smile:, https: and www.
_ACTIVE = re.compile(r"(?<=[@#:])(?=[\w/])|(?<=www)(?=\.)|(?<=gh)(?=-\d)", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$!])")
_AT_THE_START = re.compile(r"^(\d+(?=[.)](\s|$))|(?=[-+#=]))")


def escaped(text: str) -> str:
    """Return Markdown that GitHub shows as the text on one line: no markup, HTML, links, mentions or references."""
    inert = _MARKUP.sub(r"\\\1", printable(text))
    # A comment, which nobody sees, stands between the characters that GitHub looks for.
    return _ACTIVE.sub("<!-- -->", _AT_THE_START.sub(r"\1\\", inert))
