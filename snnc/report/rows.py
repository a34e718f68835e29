"""Rows of figures as comma-separated values."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows below the names of their columns; where a row has none of a column, it stays empty."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(dict[str, Any](row) for row in rows)
    return text.getvalue()
