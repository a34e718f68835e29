"""Recurrent layers, unrolled: one copy of the cell for every position of the sequence, all with the same tensors.

What a cell reads of the sequence is multiplied once, for all positions. A state is an expression, or an array where it
is a constant, as the first one mostly is: what is computed of it alone is a constant, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, Shape, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.activation import unit_clipped
from snnc.ir import Op

Value = Expression | Array
Function = tuple[Op, ...]
# What was read at a position, the states before it and its name: the states behind it, the one that is output first.
Advance = Callable[[Expression, tuple[Value, ...], str], tuple[Expression, ...]]


@operators.register("RNN")
def recurrent(call: Call) -> tuple[Expression, ...]:
    """Read a recurrent layer without gates."""
    return _unrolled(call, _Kind(1, 1, ("Tanh",), _plain))


@operators.register("GRU")
def gated(call: Call) -> tuple[Expression, ...]:
    """Read a recurrent layer with an update and a reset gate."""
    return _unrolled(call, _Kind(3, 1, ("Sigmoid", "Tanh"), _gated))


@operators.register("LSTM")
def long_short_term(call: Call) -> tuple[Expression, ...]:
    """Read a recurrent layer with a memory, and with an input, an output and a forget gate."""
    return _unrolled(call, _Kind(4, 2, ("Sigmoid", "Tanh", "Tanh"), _long_short_term))


@dataclass(frozen=True)
class _Kind:
    """A kind of cell: how many parts its matrices have, its states and the functions it has by itself."""

    gates: int
    states: int
    functions: tuple[str, ...]
    advance: Callable[[_Cell], Advance]


@dataclass(frozen=True, eq=False)
class _Cell:
    """The cell of one direction; a state has the shape ``state``.

    ``recurrence [gates · H, H]``, and biases ``[gates · H]`` that are added to the products with the sequence and with
    a state; ``peepholes [3 · H]``.
    """

    call: Call
    state: Shape
    weight: Array
    recurrence: Array
    biases: tuple[Array, Array]
    peepholes: Array | None
    functions: tuple[Function, ...]

    @overload
    def parts(self, value: Expression) -> list[Expression]: ...
    @overload
    def parts(self, value: Value) -> list[Expression] | list[Array]: ...
    def parts(self, value: Value) -> list[Expression] | list[Array]:
        """Split a value into those that the gates read."""
        size = self.state[-1]
        starts = range(0, len(self.recurrence), size)
        if isinstance(value, np.ndarray):
            return [value[..., start : start + size] for start in starts]
        return [chain(value, ops.Slice(len(self.state), start, start + size)) for start in starts]


def _plain(cell: _Cell) -> Advance:
    (function,) = cell.functions
    weights = _weights(cell.recurrence, None)

    def advance(x: Expression, states: tuple[Value, ...], place: str) -> tuple[Expression, ...]:
        return (
            _named(chain(_sum(x, _product(states[0], weights, f"{place}_recurrence")), *function), f"{place}_state"),
        )

    return advance


def _gated(cell: _Cell) -> Advance:
    outer, inner = cell.functions
    size = cell.state[-1]
    # What is reset is the state, or else its product with the weights, bias included.
    late = bool(cell.call.integer("linear_before_reset", 0))
    gates = _weights(cell.recurrence if late else cell.recurrence[: 2 * size], cell.biases[1] if late else None)
    candidate = _weights(cell.recurrence[2 * size :], None)

    def advance(x: Expression, states: tuple[Value, ...], place: str) -> tuple[Expression, ...]:
        (before,) = states
        for_update, for_reset, for_candidate = cell.parts(x)
        from_update, from_reset, *from_candidate = cell.parts(_product(before, gates, f"{place}_recurrence"))
        update = _named(chain(_sum(for_update, from_update), *outer), f"{place}_update")
        reset = _named(chain(_sum(for_reset, from_reset), *outer), f"{place}_reset")
        kept = (
            _gate(reset, from_candidate[0])
            if late
            else _product(_gate(reset, before), candidate, f"{place}_reset_recurrence")
        )
        new = _named(chain(_sum(for_candidate, kept), *inner), f"{place}_candidate")
        # (1 - update) new + update before
        change = _gate(update, _sum(before, chain(new, ops.Affine(tensor(-1.0), None))))
        return (_named(_sum(new, change), f"{place}_state"),)

    return advance


def _long_short_term(cell: _Cell) -> Advance:
    outer, inner, last = cell.functions
    weights = _weights(cell.recurrence, None)
    eyes = None if cell.peepholes is None else np.split(cell.peepholes, 3)
    coupled = bool(cell.call.integer("input_forget", 0))

    def advance(x: Expression, states: tuple[Value, ...], place: str) -> tuple[Expression, ...]:
        state, memory = states

        def gate(value: Expression, seen: Value, which: int, name: str) -> Expression:
            watched = value if eyes is None else _sum(value, _scaled(seen, eyes[which]))
            return _named(chain(watched, *outer), f"{place}_{name}")

        for_input, for_output, for_forget, for_memory = cell.parts(
            _sum(x, _product(state, weights, f"{place}_recurrence"))
        )
        entry = gate(for_input, memory, 0, "input")
        one_less = ops.Affine(tensor(-1.0), tensor(1.0))
        forget = chain(entry, one_less) if coupled else gate(for_forget, memory, 2, "forget")
        new = _named(chain(for_memory, *inner), f"{place}_candidate")
        memory = _named(_sum(_gate(entry, new), _gate(forget, memory)), f"{place}_memory")
        output = gate(for_output, memory, 1, "output")
        return Apply(ops.Product(), (output, chain(memory, *last)), f"{place}_state"), memory

    return advance


def _unrolled(call: Call, kind: _Kind) -> tuple[Expression, ...]:
    sequence = call.shape(0)
    if call.constants[0] is not None:
        raise UnsupportedError("its sequence is a constant", "export the network with its states as inputs of a layer")
    length, rows, _ = sequence
    # Where the batch is all the rows there are, a state is a vector.
    state = ((rows,) if rows > 1 else ()) + (call.shape(2)[2],)
    steps = _length(call, length)
    way = call.text("direction", "forward")
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[way]
    outputs: list[list[Expression]] = []
    finals: list[tuple[Expression, ...]] = []
    for index, back in enumerate(backward):
        cell = _cell(call, kind, index, state, functions=_functions(call, kind, index, len(backward)))
        advance = kind.advance(cell)
        read = _read(cell, length)
        states = tuple(_initial(call, 5 + number, index, state) for number in range(kind.states))
        found: list[Expression] = []
        for position in sorted(range(steps), reverse=back):
            x = chain(read, ops.Slice(1, position, position + 1), ops.Reshape((*state[:-1], len(cell.recurrence))))
            after = advance(x, states, f"{'back' if back else 'at'}_{position}")
            states = after
            found.append(after[0])
        outputs.append(found[::-1] if back else found)
        finals.append(after)
    whole = [part for parts in zip(*outputs, strict=True) for part in parts]
    results = [_laid(call, whole, length * len(backward), state, 0)]
    for number in range(min(kind.states, len(call.outputs) - 1)):
        last = [states[number] for states in finals]
        results.append(_laid(call, last, len(last), state, 1 + number))
    return tuple(results)


def _cell(call: Call, kind: _Kind, index: int, state: Shape, functions: tuple[Function, ...]) -> _Cell:
    size = kind.gates * state[-1]
    bias = call.given(3)
    both = np.zeros(2 * size, np.float32) if bias is None else bias[index]
    seen = call.given(7) if kind.states == 2 else None
    # The reset gate of some works on the product with a state, bias included.
    late = kind.gates == 3 and call.integer("linear_before_reset", 0)
    apart = np.where(np.arange(size) >= size - state[-1], both[size:], 0) if late else np.zeros_like(both[size:])
    return _Cell(
        call=call,
        state=state,
        weight=call.constant(1)[index],
        recurrence=call.constant(2)[index],
        biases=(both[:size] + both[size:] - apart, apart),
        peepholes=None if seen is None else seen[index],
        functions=functions,
    )


def _read(cell: _Cell, length: int) -> Expression:
    """Return the products of the whole sequence, ``[positions, *rows, gates · H]``."""
    whole = Operand(0, (length, *cell.state[:-1], cell.weight.shape[1]))
    return Apply(_weights(cell.weight, cell.biases[0]), (whole,), "sequence")


def _initial(call: Call, index: int, direction: int, state: Shape) -> Value:
    """Return the state before the first position."""
    if index >= len(call.shapes) or call.shapes[index] is None:
        return np.zeros(state, np.float32)
    constant = call.constants[index]
    if constant is not None:
        # Written for another batch than the 1 that is read: then each sample has to begin alike.
        begins = constant[direction]
        alike = begins[:1] if np.all(begins == begins[:1]) else begins
        rows = state[0] if len(state) > 1 else 1
        if len(alike) not in (1, rows):
            raise UnsupportedError("every sample of a batch begins with states of its own", "export a batch of 1")
        return np.broadcast_to(alike, (rows, state[-1])).reshape(state)
    directions = call.shape(index)[0]
    if directions == 1:
        return Operand(index, state)
    whole = Operand(index, call.shape(index))
    return chain(whole, ops.Slice(1, direction, direction + 1), ops.Reshape(state))


def _laid(call: Call, parts: Sequence[Expression], places: int, state: Shape, output: int) -> Expression:
    """Return states in a row, of as many places, the last of which may be missing and zero, as an output."""
    value: Expression = parts[0] if len(parts) == 1 else Apply(ops.Concat(1), tuple(parts))
    missing = (places - len(parts)) * state[0]
    if missing:
        rest = (0,) * (len(state) - 1)
        value = chain(value, ops.Pad((0, *rest, missing, *rest)))
    return call.settled(value, output)


def _length(call: Call, length: int) -> int:
    """Return how many positions of the sequence there are."""
    if len(call.shapes) <= 4 or call.shapes[4] is None:
        return length
    lengths = call.constants[4]
    if lengths is None:
        raise UnsupportedError("the length of its sequence depends on data", "export the network for one length")
    if lengths.size == 0 or lengths.min() != lengths.max() or not 1 <= lengths[0] <= length:
        raise UnsupportedError("its sequences are of several lengths", "export the network for one length")
    return int(lengths[0])


# Activations by their names in small letters: the alpha and beta that each takes, by default, and what it is.
_FUNCTIONS: dict[str, tuple[tuple[float, ...], Callable[..., tuple[Op, ...]]]] = {
    "affine": ((1.0, 0.0), lambda alpha, beta: (ops.Affine(tensor(alpha), tensor(beta)),)),
    "elu": ((1.0,), lambda alpha: (ops.Elu(alpha),)),
    "hardsigmoid": ((0.2, 0.5), unit_clipped),
    "leakyrelu": ((0.01,), lambda alpha: (ops.LeakyRelu(tensor(alpha)),)),
    "relu": ((), lambda: (ops.Relu(),)),
    "scaledtanh": ((1.0, 1.0), lambda alpha, beta: (_scale(beta), ops.Tanh(), _scale(alpha))),
    "sigmoid": ((), lambda: (ops.Sigmoid(),)),
    "softplus": ((), lambda: (ops.Softplus(),)),
    "softsign": ((), lambda: (ops.Softsign(),)),
    "tanh": ((), lambda: (ops.Tanh(),)),
    "thresholdedrelu": ((1.0,), lambda alpha: (ops.ThresholdedRelu(alpha),)),
}


def _functions(call: Call, kind: _Kind, index: int, directions: int) -> tuple[Function, ...]:
    """Return the functions of one direction, behind limits on what they take where there are any."""
    listed = [name.decode() if isinstance(name, bytes) else name for name in call.attributes.get("activations", ())]
    names = listed or [*kind.functions] * directions
    given = [list(call.attributes.get(f"activation_{name}", ())) for name in ("alpha", "beta")]
    limit = call.number("clip", 0.0)
    limits = (
        ()
        if limit <= 0
        else (ops.Affine(None, tensor(limit)), ops.ClippedRelu(tensor(2 * limit)), ops.Affine(None, tensor(-limit)))
    )
    found: list[tuple[Op, ...]] = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise UnsupportedError(f"its activation {name!r} is not supported", "train with one of the usual ones")
        defaults, make = _FUNCTIONS[name.lower()]
        # Both lists are used up by the functions that take any, in their order.
        found.append(make(*(rest.pop(0) if rest else own for own, rest in zip(defaults, given, strict=False))))
    count = len(kind.functions)
    chosen = found[index * count : (index + 1) * count]
    # What an LSTM outputs of its memory is not limited.
    return tuple((*limits, *function) if place < 2 else function for place, function in enumerate(chosen))


def _scale(factor: float) -> Op:
    return ops.Affine(tensor(factor), None)


def _weights(weight: Array, bias: Array | None) -> ops.Linear:
    return ops.Linear(tensor(weight), tensor(bias) if bias is not None and bias.any() else None)


def _product(value: Value, weights: ops.Linear, name: str) -> Value:
    """Multiply by weights, and add their bias."""
    if isinstance(value, np.ndarray):
        array: Array = value @ weights.weight.numpy().T
        return array if weights.bias is None else array + weights.bias.numpy()
    return Apply(weights, (value,), name)


def _sum(x: Value, y: Value) -> Expression:
    """Add two values, of which one at least is computed."""
    if isinstance(x, np.ndarray):
        x, y = y, x
    if isinstance(x, np.ndarray):
        raise UnsupportedError("its states are constants", "check the file")
    if isinstance(y, np.ndarray):
        return chain(x, ops.Affine(None, tensor(y))) if y.any() else x
    return Apply(ops.Add(), (x, y))


def _gate(gate: Expression, value: Value) -> Value:
    """Multiply a value by a gate."""
    if not isinstance(value, np.ndarray):
        return Apply(ops.Product(), (gate, value))
    return chain(gate, ops.Affine(tensor(value), None)) if value.any() else value


def _scaled(value: Value, factors: Array) -> Value:
    """Multiply a value by constants ``[H]``."""
    if isinstance(value, np.ndarray):
        return value * factors
    return chain(value, ops.Affine(tensor(factors), None))


def _named(value: Expression, name: str) -> Expression:
    return replace(value, name=name) if isinstance(value, Apply) else value
