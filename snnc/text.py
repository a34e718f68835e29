"""What people read: numbers in words, rounded in one place, and texts of others, made harmless in one place."""

import re
import unicodedata

# Units of which two decimals are written; a limit of half a point is a usual one.
_HUNDREDTHS = {"%", "points"}

# Characters that turn the direction of writing around.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# What a continuous integration takes for a command: anywhere in a line, and at its start.
_COMMAND = re.compile(r"(?<=#)#(?=\[)|^(\s*):(?=:)")
# How much is shown of a text that somebody else wrote, of a word amid others, and of a line.
_TEXT, _LINE = 200, 600


def number(value: float) -> str:
    """Write a number with four significant digits, and all of those before the point; a count as it is."""
    if not value:
        return "0"
    text = f"{value:,.0f}" if isinstance(value, int) or abs(float(f"{value:.3e}")) >= 1000 else f"{value:#.4g}"
    return text.replace("-", "−")


def fixed(value: float, decimals: int = 1) -> str:
    """Write a number with so many decimals; what rounds to zero has no sign."""
    text = f"{value:,.{decimals}f}"
    return (text if text.strip("-0.") else text.lstrip("-")).replace("-", "−")


def percent(share: float) -> str:
    """Write a share of one in percent."""
    return f"{fixed(100 * share)} %"


def written(value: float, unit: str = "") -> str:
    """Write a figure as its unit asks for, without the unit: percent and points with two decimals."""
    return fixed(value, 2) if unit.strip() in _HUNDREDTHS else number(value)


def signed(value: float, unit: str = "") -> str:
    """Write a difference between figures of this unit, with its sign."""
    return f"{'+' if value > 0 else ''}{written(value, unit)}"


def span(interval: tuple[float, float], unit: str = "") -> str:
    """Write the ends of an interval as its figure is written."""
    return " to ".join(written(end, unit) for end in interval)


def brackets(interval: tuple[float, float], unit: str = "") -> str:
    """Write an interval behind its figure, as it is written."""
    return f"[{', '.join(written(end, unit) for end in interval)}]"


def exact(value: float) -> str:
    """Write a number that a person has chosen, such as a limit, as it was chosen."""
    return f"{value:,.10g}"


def typable(text: str) -> str:
    """Return the text with a minus that can be typed, searched for, and read as a number by other programs."""
    return text.replace("−", "-")


def identifier(text: str) -> str:
    """Write a name with letters, digits and underscores alone, a letter first."""
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "node"
    return plain if not plain[0].isdigit() else f"node_{plain}"


def harmless(text: str) -> bool:
    """Return whether who shows the text only shows it: no control characters, turns of direction or commands.

    Halves of a character (surrogates), which stand for bytes of a file name that are no text, cannot be written at all.
    """
    odd = any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _TURNING for c in text)
    return not odd and _COMMAND.search(text) is None


def as_it_is(line: str) -> str:
    """Return a line with what cannot be printed replaced and commands broken up, its own spaces kept."""
    plain = "".join(map(_shown, line)).rstrip()
    return _COMMAND.sub(lambda found: found[0] + " " if found[0].endswith(":") else " #", plain)


def printable(text: str) -> str:
    """Return the text on one line, what cannot be printed replaced and commands broken up."""
    return as_it_is(" ".join("".join(map(_shown, text)).split()))


def _shown(character: str) -> str:
    """Return a character as it is shown; a half of one (a byte of a file's name that is no text) leaves a mark."""
    if character.isprintable():
        return character
    return "?" if unicodedata.category(character) == "Cs" else " "


def foreign(text: str) -> str:
    """Return a text that somebody else wrote as it is shown: printable, and its middle left out where it is long."""
    return _shortened(printable(text), _TEXT)


def in_one_line(text: str) -> str:
    """Return a message, with whatever it repeats, as one printable line, long words and what is too long cut."""
    return _shortened(re.sub(rf"\S{{{_TEXT + 1},}}", lambda word: foreign(word[0]), printable(text)), _LINE)


def _shortened(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def duration(seconds: float) -> str:
    """Return a time in words, roughly: 40 s, 12 min, 3.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(number: int, what: str) -> str:
    """Return a number of things, in words: 1 step, 2 steps."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
