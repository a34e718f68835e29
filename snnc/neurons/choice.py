"""A neuron as recipes and ``--neuron`` name it: ``graded``, or with options ``graded(levels=15)``."""

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from snnc.errors import UsageError
from snnc.neurons.base import Neuron, neurons
from snnc.ops import Quantized
from snnc.registry import suggest
from snnc.schedule import Schedule
from snnc.validation import called, keys, parse, with_values

_ONE = torch.tensor(1.0)


@final
@dataclass(frozen=True)
class Choice:
    """A kind of neuron, and the options that its layers are made with."""

    kind: type[Neuron]
    options: Mapping[str, Any]

    @property
    def signed(self) -> bool:
        """Whether these neurons fire negative spikes."""
        return self.kind(_ONE, **self.options).takes_back

    def standing_for(self, activation: Quantized, schedule: Schedule) -> Neuron:
        """Return the neuron of this choice whose mean output is, or comes near, that of a quantized activation."""
        return self.kind.standing_for(activation, schedule, **self.options)

    def levels(self, timesteps: int) -> int:
        """Return how many levels above 0 these neurons have after so many time steps."""
        return self.kind(_ONE, **self.options).levels(timesteps)


def chosen(text: str, *, place: str = "") -> Choice:
    """Read the name of a neuron and, in brackets, its options: ``NAME`` or ``NAME(OPTION=VALUE, ...)``, as in YAML.

    Raises UsageError that names the option below ``place``.
    """
    name, given = called(text, place=place)
    if name not in neurons:
        raise UsageError(f"unknown neuron {name!r}", place=place, hint=suggest(name, neurons))
    kind, form = neurons[name], options_of(neurons[name])
    if given and not keys(form):
        raise UsageError(f"{name!r} neurons have no options", place=place, hint=f"write {name}")
    read = parse(form, given, place=place)
    options = {field.metadata["field"]: getattr(read, field.name) for field in dataclasses.fields(form)}
    try:
        kind(_ONE, **options)
    except ValueError as error:
        raise UsageError(str(error), place=place, hint=f"options: {', '.join(keys(form))}") from None
    return Choice(kind, options)


def with_options(text: str, given: Mapping[str, object], *, place: str, otherwise: str = "") -> str:
    """Return the text of a choice with other options; of neurons that do not have these, of ``otherwise`` if any."""
    name, written = called(text, place=place)
    known = keys(options_of(neurons[name])) if name in neurons else []
    if otherwise and not set(given) <= set(known):
        name, written = otherwise, {}
    options = ", ".join(f"{option}={json.dumps(value)}" for option, value in with_values(written, given).items())
    return f"{name}({options})"


@functools.cache
def options_of(kind: type[Neuron]) -> type[Any]:
    """Return a dataclass of the options of a kind of neuron: the fields that it adds, but for tensors."""
    hints = typing.get_type_hints(kind)
    fields = [
        (name, hints[field.name], dataclasses.field(default=field.default, metadata={"field": field.name}))
        for name, field in _named(kind).items()
        if hints[field.name] is not Tensor
    ]
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=True)


def _named(kind: type[Neuron]) -> dict[str, "dataclasses.Field[Any]"]:
    """Return the fields that a kind of neuron adds, by what users call them."""
    shared = {field.name for field in dataclasses.fields(Neuron)}
    own = (field for field in dataclasses.fields(kind) if field.name not in shared)
    return {field.metadata.get("option", field.name).replace("-", "_"): field for field in own}
