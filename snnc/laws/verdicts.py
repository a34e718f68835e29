"""What laws say of the members of a plug-in."""

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from snnc import plugins
from snnc.ir import Op, operations
from snnc.laws import neurons as neuron_laws
from snnc.laws import operations as operation_laws
from snnc.laws import passes as pass_laws
from snnc.laws.tables import forgotten, registries
from snnc.neurons import Neuron, neurons
from snnc.neurons.base import Timed
from snnc.passes import Pass, passes

_SAMPLE = (4, 7, 6)
_SEEDS = range(2)


@dataclass(frozen=True)
class Judgment:
    """Whether a member keeps a law: ``fault`` says how it is broken, and is empty where it is kept."""

    member: str
    law: str
    fault: str


def verdicts(plugin: str) -> Iterator[Judgment]:
    """Yield what laws say of everything that a plug-in has registered."""
    for kind, registry in registries().items():
        for name, member in registry.items():
            # A neuron is an operation too, and has laws of its own.
            judged = registry is operations and issubclass(member, Neuron)
            if plugins.origin(member) == plugin and not judged:
                yield from _member(f"{kind} {name!r}", registry, member, plugin)


def _member(called: str, registry: Any, member: Any, plugin: str) -> Iterator[Judgment]:
    if isinstance(member, type):
        yield _asked(called, partial(_is_final, member))
    if registry is neurons:
        yield _asked(called, partial(_is_in_every_table, member))
        yield from _of_instances(called, partial(neuron_laws.instances, member), neuron_laws.LAWS)
    elif registry is operations:
        yield _asked(called, partial(_is_in_every_table, member))
        if not issubclass(member, Timed):
            yield from _operation(called, member, plugin)
    elif registry is passes:
        yield from _pass(called, member)


def _operation(called: str, kind: type[Op], plugin: str) -> Iterator[Judgment]:
    given = getattr(sys.modules.get(f"snnc_plugins.{plugin}"), "EXAMPLES", [])
    examples = [(op, shapes) for op, *shapes in given if type(op) is kind]

    def can_be_tried() -> None:
        """It can be tried: made without arguments, or from the plug-in's EXAMPLES."""
        if not examples:
            examples.append((kind(), [_SAMPLE]))

    verdict = _asked(called, can_be_tried)
    yield verdict
    for index, (op, shapes) in enumerate(examples):
        one = called if len(examples) == 1 else f"{called} (example {index + 1})"
        for law in operation_laws.LAWS:
            yield _asked(one, partial(law, op, shapes), law)


def _pass(called: str, kind: type[Pass]) -> Iterator[Judgment]:
    made: list[Pass] = []

    def has_defaults() -> None:
        """Every option of it has a default."""
        made.append(kind())

    yield _asked(called, has_defaults)
    for step in made:
        for seed in _SEEDS:
            networks, look = pass_laws.stages(seed)
            for stage, graph in networks.items():
                law = pass_laws.it_keeps_its_promises
                yield _asked(f"{called} ({stage} network {seed})", partial(law, step, graph, look, seed), law)


def _of_instances(
    called: str, instances: Callable[[], dict[str, Neuron]], laws: tuple[Callable[[Neuron], None], ...]
) -> Iterator[Judgment]:
    made: dict[str, Neuron] = {}

    def is_made_of_thresholds() -> None:
        """It is made of thresholds, a slope where it is signed, and a potential; all other fields have defaults."""
        made.update(instances())

    yield _asked(called, is_made_of_thresholds)
    for case, neuron in made.items():
        for law in laws:
            yield _asked(f"{called} ({case})", partial(law, neuron), law)


def _is_final(kind: type[Any]) -> None:
    """A member is final: what is derived from stays abstract."""
    assert getattr(kind, "__final__", False), "write @final above it"


def _is_in_every_table(kind: type[Op]) -> None:
    """Every table of rules that can be asked about it has a rule for it, or refuses it in words."""
    missing = forgotten(kind)
    assert not missing, "; ".join(missing)


def _asked(member: str, law: Callable[[], None], told: Callable[..., None] | None = None) -> Judgment:
    """Try a law; whatever it raises, it is broken."""
    words = told or (law.func if isinstance(law, partial) else law)
    try:
        law()
    except Exception as error:
        return Judgment(member, _first_line(words), _fault(error))
    return Judgment(member, _first_line(words), "")


def _fault(error: Exception) -> str:
    """Return what went wrong; of an assertion without words, the assertion itself."""
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError):
        return text or traceback.extract_tb(error.__traceback__)[-1].line or "it does not hold"
    return f"{type(error).__name__}: {text}"


def _first_line(law: Callable[..., None]) -> str:
    return (law.__doc__ or law.__name__).strip().splitlines()[0]
