"""A comparison of two reports as a comment on a pull request, in GitHub's Markdown."""

from collections.abc import Sequence

from snnc.report.comparison import Change, Comparison, value_text
from snnc.report.escaping import escaped

# A comment is short: so many lines of each kind, and so many characters of a name.
_LINES, _CHARACTERS = 20, 200


def comment(comparison: Comparison, old: str, new: str) -> str:
    """Return what has changed between two reports of these names, what is worse than allowed first."""
    worse = comparison.worse
    outcome = f"{len(worse)} worse than allowed" if worse else "nothing is worse than allowed"
    moved = [change for change in comparison.changes if change.verdict not in {"same", "worse"}]
    whole, layers = ([c for c in moved if bool(c.layer) == of_layer] for of_layer in (False, True))
    blocks = [
        [f"### snnc diff: {outcome}"],
        [f"{_text(old)} → {_text(new)}, {comparison.sentence}"],
        [f"- :warning: {_text(warning)}" for warning in _shortened(comparison.warnings)],
        _table([*worse, *whole]),
        _folded("Layers", _table(layers)),
        _folded(
            "What else is different",
            [f"- {_text(line)}" for line in _shortened([*comparison.differences, *comparison.notes])],
        ),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _table(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    shown = changes[:_LINES]
    left_out = [f"| | and {len(changes) - _LINES} more | | | | | |"] if len(changes) > _LINES else []
    titles = ["| where | figure | before | now | difference | allowed | |", "|---|---|---:|---:|---:|---:|---|"]
    return [*titles, *map(_row, shown), *left_out]


def _row(change: Change) -> str:
    cells = [
        _text(change.place) or "as converted",
        f"{change.name} ({change.unit})" if change.unit else change.name,
        value_text(change.old, change.unit),
        value_text(change.new, change.unit),
        change.difference_text or "-",
        change.tolerance_text or "-",
        change.words.replace("worse", "**worse**", 1),
    ]
    return f"| {' | '.join(cells)} |"


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"] if lines else []


def _shortened(lines: Sequence[str]) -> list[str]:
    left_out = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return [*lines[:_LINES], *left_out]


def _text(text: str) -> str:
    return escaped(text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…")
