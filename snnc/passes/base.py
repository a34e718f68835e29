"""What every pass is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from snnc.calibration import Calibration
from snnc.ir import Graph
from snnc.registry import Registry


@dataclass(frozen=True)
class Pass(ABC):
    """A pure function over graphs; its fields are its options, written in recipes with hyphens.

    A name means the same value before and after: a pass may drop names and add new ones, but what keeps its name
    still computes, exactly or approximately, what it computed.
    """

    @property
    def exact(self) -> bool:
        """Whether the network computes the same function afterwards, up to rounding."""
        return False

    def requires(self, graph: Graph) -> None:  # noqa: B027 - most passes run on any graph
        """Raise PreconditionError where the pass cannot run on this graph."""

    @abstractmethod
    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        """Return the changed graph; every node that is not changed is shared with the old one."""


passes: Registry[type[Pass]] = Registry("pass", __name__.rpartition(".")[0])
