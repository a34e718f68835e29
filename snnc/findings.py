"""What the tool left alone, approximated or distrusts, as data."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Finding:
    """One remark on a conversion. ``code`` is stable, ``node`` is "" where the whole network is meant."""

    code: str
    severity: Literal["info", "warning"]
    node: str
    message: str
    hint: str
