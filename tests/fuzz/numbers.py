"""Values that somebody might write, most of them usual ones."""

from typing import Any

from hypothesis import strategies as st

ODD = [-1, 0, -7, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1]
HOSTILE = [
    "##[error]x",
    "::stop-commands::t",
    "\x1b[31m",
    "\u202ex",
    "\x9b2J",
    "a" * 3000,
    "\u2028",
    "a\0b",
    "../x",
    "",
]

lengths = st.one_of(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(ODD))
reals = st.one_of(
    st.floats(-2, 2, width=32), st.sampled_from([0.0, -0.0, 1e-45, 3e38, -3e38, float("nan"), float("inf"), 1e300])
)
names = st.one_of(st.text("abxy_./", min_size=1, max_size=6), st.sampled_from(HOSTILE), st.text(max_size=4))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 10), st.sampled_from([*ODD, 1 << 70]), reals, names)
plain: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


def places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where values are in plain data."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place, *(found for key, value in children for found in places(value, (*place, key)))]


def replaced(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return plain data with another value at a place."""
    if not place:
        return value
    key, *rest = place
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[key] = replaced(copy[key], tuple(rest), value)
    return copy


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 4) -> bytes:
    """Draw bytes that are not quite those given: some changed, or the rest cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, most))):
        if changed:
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))]) if draw(st.integers(0, 5)) == 0 else bytes(changed)
