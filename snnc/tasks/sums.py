"""Figures that are made of sums over samples, with their intervals and the drop."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snnc import intervals
from snnc.figure import Score

Sums = NDArray[np.float64]


def measured(outcomes: Tensor, figures: Callable[[Sums], Mapping[str, Sums]]) -> dict[str, Any]:
    """Return the fields of a row from the outcomes of samples ``[N, k]``.

    ``figures`` are made of sums of them over samples, ``[draws, k]``, of each draw one; NaN where they are not known.
    Those called ``drop``, ``relative_drop`` and ``agreement`` are fields, all others scores. Intervals are by the
    bootstrap; those of fields do not take draws that are all the same for proof (see ``intervals.varied``), and that of
    ``relative_drop`` is not known then.
    """
    values = outcomes.numpy()
    found = intervals.bootstrap(len(values), lambda times: figures(times @ values))
    fields: dict[str, Any] = {}
    for name in ("drop", "relative_drop", "agreement"):
        fields[name], fields[f"{name}_interval"] = found.pop(name, (None, None))
    for name, difference in (("drop", True), ("agreement", False)):
        if fields[name] is not None:
            known = fields[name], fields[f"{name}_interval"]
            fields[f"{name}_interval"] = intervals.varied(*known, len(values), difference=difference)
    if not intervals.varies(fields["relative_drop_interval"]):
        fields["relative_drop_interval"] = None
    return {**fields, "scores": {name: Score(*known) for name, known in found.items()}}


def scores_of(outcomes: Tensor, figures: Callable[[Sums], Mapping[str, Sums]]) -> dict[str, float]:
    """Return figures without intervals, as far as they are known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = figures(outcomes.numpy().sum(0, keepdims=True))
    return {name: float(values[0]) for name, values in found.items() if not np.isnan(values[0])}


def dropped(score: Sums, trained: Sums) -> dict[str, Sums]:
    """Return what is lost of a score in percent, in points and in percent of the trained network's."""
    drop = trained - score
    return {"drop": drop, "relative_drop": np.where(trained > 0, 100 * drop / trained, np.nan)}


def mean_of_known(values: Sums) -> Sums:
    """Return the mean over the last axis of what is a number; NaN where nothing is."""
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1))
