"""Name -> object, filled by putting a file in the right folder."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from snnc.errors import UsageError

T = TypeVar("T")
Registered = TypeVar("Registered")


class Registry(Mapping[str, T]):
    """The members of one kind, found by importing every module of one package on first use."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._members: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that enters what it decorates under ``name``."""

        def enter(member: Registered) -> Registered:
            if name in self._members:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._members[name] = member  # type: ignore[assignment]
            return member

        return enter

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._members[name]
        except KeyError:
            raise UsageError(f"unknown {self.kind} {name!r}", hint=suggest(name, self)) from None

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._members))

    def __len__(self) -> int:
        self._load()
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._members

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")


def suggest(name: str, known: Iterator[str] | Mapping[str, object] | list[str]) -> str:
    """Say which of the ``known`` names was probably meant, or list them all."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
