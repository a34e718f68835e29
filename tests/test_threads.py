"""How many threads torch has."""

from collections.abc import Iterator

import pytest
import torch

from snnc.threads import Threads, choose_threads
from tests.support import normal


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("two", "chosen"), [(0.6, 2), (0.95, 1), (8.0, 1)])
def test_more_threads_are_kept_where_they_pay(two: float, chosen: int) -> None:
    assert choose_threads(lambda threads: two if threads == 2 else 1.0) == chosen == torch.get_num_threads()


def test_one_slow_round_decides_nothing() -> None:
    # To start threads, and then rounds of two threads and of one.
    taken = iter([9.0, *[0.001, 0.002] * 3, 0.1, 0.002, *[0.001, 0.002] * 3])
    assert choose_threads(lambda threads: next(taken)) == 2


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(lambda threads: pytest.fail("nothing is timed")) == 2


def test_one_thread_is_no_choice() -> None:
    torch.set_num_threads(1)
    assert choose_threads(lambda threads: pytest.fail("nothing is timed")) == 1


def test_something_is_timed() -> None:
    assert choose_threads() in (1, 2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 5, 40])
def test_half_of_what_is_symmetric_is_computed(size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    inputs = normal(3, size, 50)
    with Threads() as work:
        found = work.gram(inputs)
    torch.testing.assert_close(found, inputs @ inputs.mT, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 40), (40, 5), (64, 64)])
def test_products_are_the_same_to_the_bit_whatever_the_threads(rows: int, columns: int) -> None:
    left, right = normal(3, rows, 50), normal(3, columns, 50, seed=1).mT
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with Threads() as work:
            found.append((work.product(left, right), work.gram(left)))
    torch.testing.assert_close(found[0][0], left @ right, rtol=1e-5, atol=1e-4)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
