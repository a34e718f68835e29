"""Numbers in words: the one place that rounds what people read, so that a figure looks the same wherever it stands."""

import re

# Units of which two decimals are written; a limit of half a point is a usual one.
_HUNDREDTHS = {"%", "points"}


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
