"""Say what has become better or worse from one conversion to another."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from snnc.actions.report import report
from snnc.errors import DataError, GateError
from snnc.measure.gates import Tolerances
from snnc.report import Report
from snnc.report.comment import comment
from snnc.report.comparison import Comparison, compare


@final
@dataclass(frozen=True, repr=False)
class Difference:
    """Two conversions by their files, compared, and how much worse the new one may be."""

    old: Path
    new: Path
    comparison: Comparison
    allowed: Tolerances

    def __repr__(self) -> str:
        return f"<{self.old} to {self.new}: {self.comparison.sentence}>"

    @property
    def comment(self) -> str:
        """The outcome as a comment for a pull request."""
        return comment(self.comparison, str(self.old), str(self.new))

    def check(self, stated: Iterable[str] = ()) -> None:
        """Raise GateError where the new one is worse than allowed, DataError where that cannot be said.

        What has to be judged is what answers are worth, and the tolerances that were ``stated``, unless infinite.
        """
        comparison = self.comparison
        worse = [change.sentence for change in comparison.worse]
        if worse:
            others = f" (and {len(worse) - 1} more)" if len(worse) > 1 else ""
            hint = "allow more with the --max flags, or only report it with --no-fail"
            message = f"worse than allowed: {worse[0]}{others}"
            raise GateError(message, place=str(self.new), hint=hint, details=tuple(worse[1:]))
        # What answers are worth is what a comparison is for: that it could not be judged is no success.
        worth = "error_increase" if comparison.judges("error_increase") else "accuracy_loss"
        for name in dict.fromkeys([worth, *stated]):
            if not comparison.judges(name) and math.isfinite(self.allowed[name]):
                hint = (
                    "measure both in the same way (snnc calibrate, snnc evaluate at the same T), or allow anything: inf"
                )
                raise DataError(f"nothing to judge --max-{name.replace('_', '-')} by", place="snnc diff", hint=hint)


def diff(old: str | Path | Report, new: str | Path | Report, allowed: Tolerances | None = None) -> Difference:
    """Compare two conversions, each a .snn file or a report, also as a program has it, by what was measured of them.

    Raises UsageError on a trained model, DataError and ModelError where a file cannot be read or the report beside it
    is on another network.
    """
    held_to = allowed or Tolerances()
    compared = compare(_report(old), _report(new), held_to)
    return Difference(_name(old), _name(new), compared, held_to)


def _report(found: str | Path | Report) -> Report:
    return found if isinstance(found, Report) else report(Path(found))


def _name(found: str | Path | Report) -> Path:
    return Path(found.model_file) if isinstance(found, Report) else Path(found)
