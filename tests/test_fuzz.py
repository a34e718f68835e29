"""A few of the inputs that ``python -m tests.fuzz`` makes at random, always the same."""

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.oracle import FaultError, Kind, judge, search

COUNTS = {"onnx": 20, "image": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_any_input_is_read_or_refused(kind: str) -> None:
    search(KINDS[kind], COUNTS.get(kind, 40), 24)


def broken() -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    "examine",
    [
        lambda folder: broken(),
        lambda folder: print("x"),
        lambda folder: (folder / "new").write_bytes(b""),
    ],
)
def test_a_fault_is_noticed(examine: object) -> None:
    with pytest.raises(FaultError):
        judge(Kind("wrong", KINDS["recipe"].files, examine), {"a": b"x"})  # type: ignore[arg-type]
