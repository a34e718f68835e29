"""What every pass is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snnc.calibration import Calibration
from snnc.errors import PreconditionError
from snnc.ir import Graph, Op
from snnc.registry import Registry, suggest
from snnc.schedule import Schedule


@dataclass(frozen=True)
class Pass(ABC):
    """A pure function over graphs; its fields are its options, written in recipes with hyphens.

    A name means the same value before and after: a pass may drop names and add new ones, but what keeps its name
    still computes, exactly or approximately, what it computed.
    """

    @property
    def exact(self) -> bool:
        """Whether the network computes the same function afterward, up to rounding."""
        return False

    def requires(self, graph: Graph) -> None:  # noqa: B027 - most passes run on any graph
        """Raise PreconditionError where the pass cannot run on this graph."""

    def levels(self, graph: Graph, schedule: Schedule) -> Mapping[str, int]:
        """Return the levels of the neurons that the pass will put in, by the names of activations of the graph.

        The pass need not come next: others may still change the graph.
        """
        return {}

    def settled(self, graph: Graph, calibration: Calibration, following: "tuple[Pass, ...]") -> "tuple[Pass, ...]":
        """Return the passes that follow this one, with the options that it chooses for them before it runs itself."""
        return following

    def shares(self, graph: Graph, calibration: Calibration) -> tuple[float, ...]:
        """Return what of the image each step awake is to carry: what the pass chooses before it runs itself."""
        return calibration.schedule.shares

    def runs(self, samples: int, schedule: Schedule) -> int:
        """Return how often the pass runs the network on a sample, in all, roughly, where it is shown so many."""
        return 0

    def alters(self, graph: Graph) -> str:
        """Return what the pass puts in the place of what, in words, where the network is another function then."""
        return ""

    @abstractmethod
    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        """Return the changed graph; every node that is not changed is shared with the old one."""

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        """Return a graph with the operations of the changed one, whatever their weights and thresholds.

        What is counted or solved for on samples need not be: by default it is.
        """
        return self(graph, calibration)


class TrainingPass(Pass):
    """A pass that takes ``steps`` of ``batch_size`` samples each: fewer of them take less time, and bring less."""

    steps: int
    batch_size: int

    @abstractmethod
    def planned(self, samples: int) -> int:
        """Return how many steps the pass takes where it is shown so many samples."""

    def runs(self, samples: int, schedule: Schedule) -> int:
        return 2 * samples


def check_layers(option: str, named: Iterable[str], known: Iterable[str]) -> None:
    """Raise PreconditionError where an option names a layer that is none of the ``known``."""
    layers = list(known)
    for name in named:
        if name not in layers:
            hint = suggest(name, layers) if layers else "there is no layer left that the option could change"
            raise PreconditionError(f"unknown layer {name!r}", place=f"passes.{option}", hint=hint)


def check_form(reference: Graph, graph: Graph) -> None:
    """Raise PreconditionError where the trained network lacks a value of the same name, made from the same values."""
    for name, node in graph.nodes.items():
        other = reference.nodes.get(name)
        if other is None or other.inputs != node.inputs or reference.shapes[name] != graph.shapes[name]:
            raise PreconditionError(
                "the trained network has no such value to compare with",
                place=node.place,
                hint="put the passes that change the network's form before calibrate-thresholds in the recipe",
            )


def check_stage(graph: Graph, early: type[Op] | tuple[type[Op], ...], late: type[Op] | tuple[type[Op], ...]) -> None:
    """Raise PreconditionError where an activation is not yet, or no longer, what a pass works on: these kinds."""
    for node in graph.nodes.values():
        for kinds, what, hint in (
            (early, "not yet", "put the passes that choose thresholds and neurons before it in the recipe"),
            (late, "no longer", "put it before substitute-neurons in the recipe"),
        ):
            if isinstance(node.op, kinds):
                place = node.place
                raise PreconditionError(f"an activation is {what} what this pass works on", place=place, hint=hint)


passes: Registry[type[Pass]] = Registry("pass", __name__.rpartition(".")[0], base=Pass)
