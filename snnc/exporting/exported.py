"""What exporting comes to, whatever the format."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, final

from snnc.conversion import Conversion
from snnc.registry import Registry
from snnc.report.data import Verification


@dataclass(frozen=True)
class Exported(ABC):
    """A file as it is to be written, and how others run it, where that was asked for.

    ``trains`` says, by layer of neurons, what the spikes at every step are called in the file, and ``means`` what their
    mean over time is, of layers for which the file has no more. ``noise`` says that it was run on noise.
    """

    data: bytes
    trains: Mapping[str, str]
    means: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    noise: bool = field(default=False, kw_only=True)

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """Return what was measured, as plain data."""

    @property
    @abstractmethod
    def mismatch(self) -> str:
        """What is beyond tolerance; "" where nothing is, or nothing was compared."""

    @abstractmethod
    def verifications(self) -> tuple[Verification, ...]:
        """Return how the file compares, as the report has it; nothing where it was not compared."""


@final
@dataclass(frozen=True)
class Format:
    """A way to export a conversion.

    ``export`` takes it and the keywords verify, data, reading and progress, besides options of its own. ``check``
    raises, without the work, what ``export`` raises for what the format cannot say.
    """

    export: Callable[..., Exported]
    check: Callable[[Conversion], object]


formats: Registry[Format] = Registry("format", __name__.rpartition(".")[0])


class Measured(Protocol):
    """What every comparison of two engines has, whatever the format."""

    @property
    def timesteps(self) -> int:
        """For how many steps both ran."""
        ...

    @property
    def images(self) -> int:
        """How many images both ran."""
        ...

    @property
    def agreement(self) -> float:
        """The percentage of predictions that are the same."""
        ...

    @property
    def accuracy(self) -> float | None:
        """Ours, in percent; None without labels."""
        ...

    @property
    def accuracy_there(self) -> float | None:
        """The other engine's."""
        ...


def verification(
    found: Measured,
    layers: Mapping[str, float],
    *,
    format: str,  # noqa: A002 - the name of the field
    variant: str,
    engine: str,
    equal: float,
    output_error: float,
    mismatch: str,
    noise: bool,
) -> Verification:
    """Return a comparison as the report has it; ``layers`` are the equal spikes of each, in percent."""
    worst = min(layers, key=lambda name: layers[name], default="")
    return Verification(
        format=format,
        variant=variant,
        engine=engine,
        timesteps=found.timesteps,
        images=found.images,
        noise=noise,
        verdict="failed" if mismatch else "passed",
        equal=equal,
        worst_layer=worst,
        worst_equal=layers.get(worst),
        output_error=finite(output_error),
        agreement=found.agreement,
        accuracy=found.accuracy,
        accuracy_there=found.accuracy_there,
        remark=mismatch,
    )


def finite(value: Any) -> Any:
    """Return plain data with None for what is no finite number: an engine may answer anything."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
