"""One question about operations, answered by one rule for each kind of them."""

from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Self, TypeVar, final

from snnc.errors import ModelError

Kind = TypeVar("Kind")
Answer = TypeVar("Answer")
Function = TypeVar("Function", bound=Callable[..., Any])


class UnansweredError(ModelError):
    """A table of rules has no answer for a kind of operation."""

    def at(self, place: str) -> Self:
        """Return the same error with its place."""
        return type(self)(self.message, hint=self.hint, place=place)


class RefusedError(UnansweredError):
    """A table of rules refuses a kind of operation; the message says why, the hint what to do instead."""


class MissingRuleError(UnansweredError, LookupError):
    """A table of rules has forgotten a kind of operation, which only one that is not snnc's own can be."""


@final
@dataclass(frozen=True)
class _Refusal:
    """A rule that has no answer, and says why."""

    why: str
    hint: str

    def __call__(self, *_: object) -> NoReturn:
        raise RefusedError(self.why, hint=self.hint)


class Rules(Generic[Kind, Answer]):
    """A table of functions by the kind of object that they are for; a rule for a family serves its members.

    ``table(op, *context)`` calls the rule of the nearest family of ``type(op)``. There is no default: a kind without
    a rule is a defect (MissingRuleError), and a kind that is refused on purpose raises RefusedError.
    """

    def __init__(self, question: str) -> None:
        self.question = question
        self._rules: dict[type[Any], Callable[..., Any]] = {}

    def __repr__(self) -> str:
        return f"Rules({self.question!r})"

    def register(self, *kinds: type[Any]) -> Callable[[Function], Function]:
        """Return a decorator that enters a function as the rule for ``kinds`` and what is derived from them.

        Raises ValueError where one of them has a rule already, or is the root of all kinds: a rule for everything
        would be the default that no table has.
        """

        def enter(rule: Function) -> Function:
            for kind in kinds:
                if kind.__mro__[1] in (ABC, object):
                    raise ValueError(f"a rule of {self.question!r} for {kind.__name__} would be a default")
                if kind in self._rules:
                    raise ValueError(f"{kind.__name__} has two rules of {self.question!r}")
                self._rules[kind] = rule
            return rule

        return enter

    def refuse(self, *kinds: type[Any], why: str, hint: str) -> None:
        """State that the question has no answer for ``kinds``; asked for one, the table raises RefusedError."""
        self.register(*kinds)(_Refusal(why, hint))

    def refuses(self, kind: type[Any]) -> bool:
        """Return whether none of a kind has an answer: it is refused, or its rule states that it never returns."""
        rule = self._nearest(kind)
        stated = getattr(rule, "__annotations__", {}).get("return")
        return isinstance(rule, _Refusal) or stated in (NoReturn, "NoReturn")

    def __call__(self, op: Kind, *context: Any) -> Answer:
        """Answer for one operation; raises RefusedError or, without a rule, MissingRuleError."""
        rule = self._nearest(type(op))
        if rule is None:
            hint = f"register one, or a refusal, beside {type(op).__name__}"
            raise MissingRuleError(f"no rule of {self.question!r} for {type(op).__name__}", hint=hint)
        answer: Answer = rule(op, *context)
        return answer

    def __iter__(self) -> Iterator[type[Any]]:
        """Yield the kinds and families that rules were registered for."""
        return iter(self._rules)

    def missing(self, kinds: Iterable[type[Any]]) -> tuple[type[Any], ...]:
        """Return those of ``kinds`` that have neither a rule nor a stated refusal."""
        return tuple(kind for kind in kinds if self._nearest(kind) is None)

    def _nearest(self, kind: type[Any]) -> Callable[..., Any] | None:
        return next((self._rules[family] for family in kind.__mro__ if family in self._rules), None)
