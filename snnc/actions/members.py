"""What there is to choose from: recipes, neurons, passes and the rest, with the papers that they are from."""

import dataclasses
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from snnc import recipe
from snnc.data.source import sources
from snnc.errors import UsageError
from snnc.formats.format import formats
from snnc.frontend.operators import operators
from snnc.hardware.target import load_target, target_names
from snnc.neurons import neurons
from snnc.neurons.choice import options_of
from snnc.passes import passes
from snnc.registry import suggest
from snnc.tasks import tasks

# A paper as docstrings cite it: who, where (if that is said) and when.
_PAPER = re.compile(r"(?:[A-Z]')?[A-Z][\w-]+(?: and [A-Z][\w-]+| et al\.)?,? (?:[A-Z]\w+,? )?(?:19|20)\d\d\b")


@final
@dataclass(frozen=True)
class Member:
    """Something that can be chosen by its ``name``.

    ``about`` says what it is, ``options`` are those that it has with what they are unless given, as YAML and JSON have
    it (None: given by somebody, or worked out), and ``papers`` those that it cites.
    """

    name: str
    about: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    papers: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """The name with its options, as they are written behind it."""
        written = (f"{name}={_written(value)}" for name, value in self.options.items())
        return f"{self.name}({', '.join(written)})" if self.options else self.name


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds of members."""
    return tuple(_KINDS)


def members(kind: str) -> tuple[Member, ...]:
    """Return all members of a kind, plug-ins included; raises UsageError where there is no such kind."""
    if kind not in _KINDS:
        raise UsageError(f"nothing to list is called {kind!r}", hint=suggest(kind, list(_KINDS)))
    return tuple(_KINDS[kind]())


def _registered(registry: Mapping[str, Any], form: Callable[[Any], type[Any]] = lambda kind: kind) -> Iterator[Member]:
    places = Counter(member.__module__ for member in registry.values())
    for name, member in registry.items():
        module, own = (inspect.getdoc(each) or "" for each in (inspect.getmodule(member), member))
        # Who has a file of its own is introduced by it.
        about = module if places[member.__module__] == 1 else own or module
        options = _options(form(member)) if isinstance(member, type) else {}
        yield Member(name, _paragraph(about), options, _papers(f"{own}\n{module}"))


def _options(form: type[Any]) -> Mapping[str, Any]:
    fields = dataclasses.fields(form) if dataclasses.is_dataclass(form) else ()
    return {field.name.replace("_", "-"): _default(field) for field in fields}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if isinstance(field.default, tuple):
        return list(field.default)
    return None if field.default is dataclasses.MISSING else field.default


def _recipes() -> Iterator[Member]:
    for name in recipe.shipped():
        text = recipe.introduction(name)
        yield Member(name, _paragraph(text), {"timesteps": recipe.load(name).timesteps}, _papers(text))


def _targets() -> Iterator[Member]:
    for name in target_names():
        target = load_target(name)
        yield Member(name, target.title, papers=tuple(document.document for document in target.documents.values()))


def _written(value: Any) -> str:
    return "?" if value is None else value if isinstance(value, str) and value else json.dumps(value)


def _paragraph(text: str) -> str:
    """Return what comes before the first empty line, in one line."""
    return " ".join(text.partition("\n\n")[0].replace("``", "").split())


def _papers(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_PAPER.findall(" ".join(text.split()))))


_KINDS: dict[str, Callable[[], Iterator[Member]]] = {
    "recipes": _recipes,
    "neurons": lambda: _registered(neurons, options_of),
    "passes": lambda: _registered(passes),
    "tasks": lambda: _registered(tasks),
    "sources": lambda: _registered(sources, lambda kind: object),
    "formats": lambda: _registered(formats),
    "targets": _targets,
    "operations": lambda: _registered(operators),
}
