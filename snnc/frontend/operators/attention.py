"""Attention in products, masks and softmaxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.contraction import Term, contracted
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, Shape, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.decision import HIDDEN


@dataclass(frozen=True, eq=False)
class _Heads:
    """Queries, keys or values of shape ``[*lead, heads, positions, features]``, computed or constant."""

    value: Expression | Array
    shape: Shape

    @property
    def lead(self) -> Shape:
        return self.shape[:-3]

    @property
    def heads(self) -> int:
        return self.shape[-3]

    @property
    def positions(self) -> int:
        return self.shape[-2]

    @property
    def features(self) -> int:
        return self.shape[-1]

    def computed(self) -> Expression:
        if isinstance(self.value, np.ndarray):
            raise UnsupportedError("a constant is one of its outputs", "export the network without this output")
        return self.value

    def behind(self, past: _Heads | None) -> _Heads:
        """Return these positions behind earlier ones."""
        if past is None:
            return self
        axis = len(self.lead) + 2
        value = Apply(ops.Concat(axis), (past.computed(), self.computed()))
        return _Heads(value, (*self.shape[:-2], past.positions + self.positions, self.features))


@dataclass(frozen=True, eq=False)
class _Attended:
    """What comes of attention: ``[*lead, heads, positions, features]``, and the scores at every stage."""

    value: Expression
    shape: Shape
    raw: Expression
    capped: Expression
    masked: Expression
    shares: Expression


@operators.register("Attention")
def attention(call: Call) -> tuple[Expression, ...]:
    """Read attention as ONNX has it, or as onnxruntime has it under the same name with the projections inside."""
    if call.domain:
        return _projected_attention(call)
    if call.has(6):
        raise UnsupportedError("how many keys count is one of its inputs", "mask the keys instead")
    query = _heads(call, 0, call.integer("q_num_heads", 0))
    key, value = (_heads(call, index, call.integer("kv_num_heads", 0)) for index in (1, 2))
    past = [_heads(call, index, 0) if call.has(index) else None for index in (4, 5)]
    keys, values = key.behind(past[0]), value.behind(past[1])
    offset = keys.positions - key.positions
    masks = [_mask(call, 3, query, keys)] if call.has(3) else []
    if call.integer("is_causal", 0):
        masks.append(_causal(query, keys, offset))
    scale = call.number("scale", query.features**-0.5)
    found = _attended(query, keys, values, scale, call.number("softcap", 0.0), masks)
    result = found.value if len(call.shape()) == 4 else _joined(found.value, found.shape)
    stages = [found.raw, found.capped, found.masked, found.shares]
    stage = stages[call.integer("qk_matmul_output_mode", 0)]
    return result, *_present(call, result, keys, values), stage


@operators.register("MultiHeadAttention")
def multi_head_attention(call: Call) -> tuple[Expression, ...]:
    """Read onnxruntime's attention with heads side by side in the features of its inputs."""
    count = call.integer("num_heads", 1)
    if not call.has(1) or len(call.shape(1)) == 5:
        raise UnsupportedError("its keys are packed with others", "export queries, keys and values apart")
    bias = call.given(3)
    width = call.shape()[-1]
    starts = (0, width, 2 * width)
    biases = [None if bias is None else bias.reshape(-1)[start:] for start in starts]
    query, key, value = (_heads(call, index, count, part) for index, part in enumerate(biases))
    past = [_heads(call, index, 0) if call.has(index) else None for index in (6, 7)]
    keys, values = key.behind(past[0]), value.behind(past[1])
    masks = [_padding(call, 4, query, keys)] if call.has(4) else []
    masks += [_mask(call, 5, query, keys)] if call.has(5) else []
    if call.integer("unidirectional", 0):
        mask = _causal(query, keys, keys.positions - key.positions)
        # onnxruntime hides nothing from the last query.
        mask[-1] = 0.0
        masks.append(mask)
    scale = call.number("scale", 0.0) or query.features**-0.5
    found = _attended(query, keys, values, scale, 0.0, masks)
    result = _joined(found.value, found.shape)
    return result, *_present(call, result, keys, values), found.raw


def _projected_attention(call: Call) -> tuple[Expression, ...]:
    """Read onnxruntime's attention of what one matrix makes queries, keys and values of."""
    if call.has(4) or call.integer("do_rotary", 0):
        raise UnsupportedError("it reads earlier keys or rotates them", "export attention as ONNX has it")
    weight, bias = call.constant(1), call.given(2)
    count = call.integer("num_heads", 1)
    widths = call.integers("qkv_hidden_sizes", (weight.shape[1] // 3,) * 3)
    operand = call.framed(())[0]
    parts, start = [], 0
    for width in widths:
        own = None if bias is None else tensor(bias[start : start + width])
        made = chain(operand, ops.Linear(tensor(weight[:, start : start + width].T), own))
        parts.append(_split(made, (*operand.shape[:-1], width), count))
        start += width
    query, key, value = parts
    masks = [_padding(call, 3, query, key)] if call.has(3) else []
    masks += [_mask(call, 5, query, key)] if call.has(5) else []
    if call.integer("unidirectional", 0):
        masks.append(_causal(query, key, 0))
    scale = call.number("scale", 0.0) or query.features**-0.5
    found = _attended(query, key, value, scale, 0.0, masks)
    return (_joined(found.value, found.shape),)


def _present(call: Call, instead: Expression, *parts: _Heads) -> list[Expression]:
    """Return the keys and values that are outputs, too; ``instead`` where nobody reads them."""
    read = [*call.read[1:], False, False]
    return [part.computed() if wanted else instead for part, wanted in zip(parts, read, strict=False)]


def _heads(call: Call, index: int, count: int, bias: Array | None = None) -> _Heads:
    """Return an input by its heads: it has an axis of them, or ``count`` of them side by side in its features."""
    shape = call.shape(index)
    array = call.constants[index]
    lead = shape[:1] if shape[0] != 1 else ()
    sample = (*lead, *shape[1:])
    value: Expression | Array = Operand(index, sample) if array is None else array.reshape(sample)
    if bias is not None and len(shape) == 3:
        own = bias[: shape[-1]]
        value = value + own if isinstance(value, np.ndarray) else chain(value, ops.Affine(None, tensor(own)))
    if len(shape) == 4:
        return _Heads(value, sample)
    return _split(value, sample, count)


def _split(value: Expression | Array, shape: Shape, count: int) -> _Heads:
    """Return heads that lie side by side in the features of ``[*lead, positions, features]``."""
    *lead, positions, width = shape
    if count < 1 or width % count:
        raise UnsupportedError("it does not say how many heads it has", "check the file with onnx.checker")
    apart, order = (
        (*lead, positions, count, width // count),
        [*range(len(lead)), len(lead) + 1, len(lead), len(lead) + 2],
    )
    after = (*lead, count, positions, width // count)
    if isinstance(value, np.ndarray):
        return _Heads(value.reshape(apart).transpose(order), after)
    return _Heads(chain(value, ops.Reshape(apart), ops.Transpose((0, *(axis + 1 for axis in order)))), after)


def _joined(value: Expression, shape: Shape) -> Expression:
    """Return heads side by side in the features of every position."""
    *lead, count, positions, features = shape
    first = len(lead) + 1
    order = (*range(first), first + 1, first, first + 2)
    return chain(value, ops.Transpose(order), ops.Reshape((*lead, positions, count * features)))


def _attended(
    query: _Heads,
    keys: _Heads,
    values: _Heads,
    scale: float,
    cap: float,
    masks: list[Expression | Array],
) -> _Attended:
    """Return what queries find; groups of them share a head of keys and values."""
    rows = query.heads // keys.heads * query.positions
    lead = query.lead
    grouped = (*lead, keys.heads, rows)
    first = "b" * len(lead)
    lengths = dict(zip(first + "hq", grouped, strict=True))
    lengths |= {"d": query.features, "k": keys.positions, "e": values.features}
    asked: Expression | Array
    if isinstance(query.value, np.ndarray):
        asked = (query.value * np.float32(scale)).reshape(*grouped, query.features)
    else:
        asked = chain(query.value, ops.Affine(tensor(scale), None))
        if query.heads != keys.heads:
            asked = chain(asked, ops.Reshape((*grouped, query.features)))
    together = [Term(asked, first + "hqd"), Term(keys.value, first + "hkd")]
    raw = contracted(together, first + "hqk", lengths)
    shape = (*lead, query.heads, query.positions, keys.positions)
    if query.heads != keys.heads:
        raw = chain(raw, ops.Reshape(shape))
    capped = _capped(raw, cap)
    masked = _masked(capped, masks, shape)
    shares = chain(masked, ops.Softmax(len(shape)))
    read = shares if query.heads == keys.heads else chain(shares, ops.Reshape((*grouped, keys.positions)))
    result = contracted([Term(read, first + "hqk"), Term(values.value, first + "hke")], first + "hqe", lengths)
    after = (*lead, query.heads, query.positions, values.features)
    if query.heads != keys.heads:
        result = chain(result, ops.Reshape(after))
    return _Attended(result, after, raw, capped, masked, shares)


def _capped(scores: Expression, cap: float) -> Expression:
    if not cap:
        return scores
    return chain(scores, ops.Affine(tensor(1 / cap), None), ops.Tanh(), ops.Affine(tensor(cap), None))


def _masked(scores: Expression, masks: list[Expression | Array], shape: Shape) -> Expression:
    """Return scores with everything added that masks add."""
    constant = np.zeros((), np.float32)
    for mask in masks:
        if isinstance(mask, np.ndarray):
            constant = np.maximum(constant + mask, HIDDEN)
        else:
            scores = Apply(ops.Add(), (scores, mask))
    if (np.broadcast_to(constant, shape) <= HIDDEN).all(-1).any():
        reason = "its mask hides every entry of a row, which leaves a softmax without a value"
        raise UnsupportedError(reason, "export the network with a mask that leaves something in each row")
    return chain(scores, ops.Affine(None, tensor(constant))) if constant.any() else scores


def _causal(query: _Heads, keys: _Heads, offset: int) -> Array:
    """Return the mask that hides the keys behind each query, which itself stands behind ``offset`` others."""
    return _hiding(np.tri(query.positions, keys.positions, offset, dtype=bool))


def _hiding(seen: Array) -> Array:
    return np.where(seen, np.float32(0), np.float32(HIDDEN))


def _mask(call: Call, index: int, query: _Heads, keys: _Heads) -> Expression | Array:
    """Return an input that is added to scores, or that says which of them count, as something that is added."""
    shape = call.shape(index)
    short = keys.positions - shape[-1] if shape[-1] != 1 else 0
    full = (1,) * (4 - len(shape)) + shape
    sample = full if query.lead else full[1:]
    array = call.constants[index]
    if array is not None:
        array = _hiding(array) if array.dtype == bool else np.maximum(array.astype(np.float32), HIDDEN)
        pad = [(0, 0)] * (len(sample) - 1) + [(0, short)]
        return np.pad(array.reshape(sample), pad, constant_values=HIDDEN)
    value: Expression = Operand(index, sample)
    if call.whole[index]:
        value = chain(value, ops.Affine(tensor(-HIDDEN), tensor(HIDDEN)))
    if short:
        value = chain(value, ops.Pad((0,) * (2 * len(sample) - 1) + (short,), HIDDEN))
    return value


def _padding(call: Call, index: int, query: _Heads, keys: _Heads) -> Expression | Array:
    """Return which keys count, ``[batch, keys]`` or ``[batch, queries, keys]``, as something that is added."""
    shape = call.shape(index)
    if len(shape) not in (2, 3) or shape[-1] != keys.positions:
        raise UnsupportedError("how many keys count is one of its inputs", "mask the keys instead")
    rows = shape[1] if len(shape) == 3 else 1
    sample = (*query.lead, 1, rows, keys.positions)
    array = call.constants[index]
    if array is not None:
        return _hiding(array.reshape(sample) != 0)
    return chain(Operand(index, sample), ops.Affine(tensor(-HIDDEN), tensor(HIDDEN)))
