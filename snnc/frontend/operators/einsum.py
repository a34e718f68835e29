"""Products in Einstein's notation."""

import itertools
import string
from collections.abc import Sequence

from snnc.frontend.contraction import contraction
from snnc.frontend.expression import Call, Expression, Shape, UnsupportedError
from snnc.frontend.operators import operators

_DOTS = "..."


@operators.register("Einsum")
def einsum(call: Call) -> Expression:
    """Read transposes, sums and products of any number of inputs."""
    equation = call.text("equation", "").replace(" ", "")
    shapes = [call.shape(index) for index in range(len(call.shapes))]
    letters, output = _spelled(equation, shapes)
    return contraction(call, letters, output)


def _spelled(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """Return the letters of every input and of the output, with letters for the dots as well."""
    before, arrow, after = equation.partition("->")
    terms = before.split(",")
    if len(terms) != len(shapes):
        raise UnsupportedError(f"{equation!r} has another number of inputs", "check the file with onnx.checker")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = [len(shape) - len(term.replace(_DOTS, "")) for term, shape in zip(terms, shapes, strict=True)]
    most = max((count for count, term in zip(hidden, terms, strict=True) if _DOTS in term), default=0)
    dots = "".join(itertools.islice(free, most))
    letters = [term.replace(_DOTS, dots[most - count :]) for term, count in zip(terms, hidden, strict=True)]
    if arrow:
        return letters, after.replace(_DOTS, dots)
    every = before.replace(",", "").replace(_DOTS, "")
    return letters, dots + "".join(sorted(letter for letter in set(every) if every.count(letter) == 1))
