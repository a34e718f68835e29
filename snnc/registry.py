"""Name -> object, filled by putting a file in the right folder."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from snnc.errors import UsageError
from snnc.plugins import load_installed

T = TypeVar("T")
Registered = TypeVar("Registered")


class Registry(Mapping[str, T]):
    """The members of one kind, found by importing every module of their packages on first use, and all plug-ins.

    Members are classes that have a ``base``, where there is one, and lack nothing that it leaves open. Where plug-ins
    cannot add to the members, they are left alone until something else asks for them.
    """

    def __init__(self, kind: str, *packages: str, base: type | None = None, plugins: bool = True) -> None:
        self.kind = kind
        self._base = base
        self._packages = packages
        self._plugins = plugins
        self._members: dict[str, T] = {}
        self._loaded = False
        # A module of the package may look its siblings up while it is imported.
        self._loading = False

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that enters what it decorates under ``name``.

        Raises ValueError where the name is taken, TypeError where what is entered is not of this kind.
        """

        def enter(member: Registered) -> Registered:
            held = self._members.get(name)
            # A module that failed to import is imported again at the next look-up, and registers the same again.
            if held is not None and _place(held) != _place(member):
                raise ValueError(f"another {self.kind} is called {name!r}")
            if self._base is not None:
                _check_member(member, self._base, f"{name!r} is no {self.kind}")
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
        """Import all modules of the packages and plug-ins; raises what one of them raises, at every look-up."""
        if self._loaded or self._loading:
            return
        self._loading = True
        try:
            for name in self._packages:
                package = importlib.import_module(name)
                for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
                    importlib.import_module(f"{name}.{module.name}")
            if self._plugins:
                load_installed()
            self._loaded = True
        finally:
            self._loading = False


def _check_member(member: object, base: type, message: str) -> None:
    """Raise TypeError where something is no class of a base, or lacks what this leaves open."""
    if not isinstance(member, type) or not issubclass(member, base):
        raise TypeError(f"{message}: it is no class with the base {base.__name__}")
    stated = [name for kind in base.__mro__ for name, hint in inspect.get_annotations(kind).items() if _of_class(hint)]
    lacking = [*sorted(getattr(member, "__abstractmethods__", ())), *(n for n in stated if not hasattr(member, n))]
    if lacking:
        raise TypeError(f"{message}: it lacks {', '.join(lacking)}")


def _of_class(hint: object) -> bool:
    return str(hint).startswith(("typing.ClassVar", "ClassVar"))


def _place(member: object) -> tuple[object, object]:
    """Return where a class or a function is defined."""
    return getattr(member, "__module__", None), getattr(member, "__qualname__", id(member))


def suggest(name: str, known: Iterator[str] | Mapping[str, object] | list[str]) -> str:
    """Say which of the ``known`` names was probably meant, or list them all."""
    names = sorted(known)
    if not names:
        return "there are none"
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
