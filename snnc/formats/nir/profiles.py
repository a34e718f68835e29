"""How a network is spelled: importers of NIR differ in what they read, and in how they read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

# Simulators that read CubaLIF count time in these steps, in seconds.
STEP = 1e-4


@final
@dataclass(frozen=True)
class Profile:
    """A spelling: the neuron, whether thresholds are folded into weights so that all are 1, and what it is for.

    Where weights and thresholds are whole numbers, ``whole`` ones stay that, whose sums are the same in all engines.

    Alike in all of them, because someone or other reads nothing else: groups expanded, square kernels, padding the same
    at both ends, pooling as SumPool2d, Affine with a bias, Flatten from a negative axis, sums at neurons only, and one
    Output.
    """

    name: str
    neuron: Literal["IF", "CubaLIF"]
    unit_thresholds: bool
    about: str
    whole: bool = True


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile("portable", "IF", True, "IF with thresholds of 1: what most importers read"),
            Profile("cuba", "CubaLIF", True, "IF as CubaLIF without leak, for importers that read IF as leaky"),
            Profile("if", "IF", False, "IF with the thresholds that the network has"),
            Profile("unit", "IF", True, "IF with thresholds of 1, even where they are whole numbers", whole=False),
        )
    }
)
