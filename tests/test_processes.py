"""Sums over samples do not depend on how many processes share them, and what fails in one fails in all."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest
import torch

from snnc.data.samples import MemorySamples, Samples
from snnc.errors import DataError, LostError, SnncError, UsageError
from snnc.feeds import Feeds
from snnc.files import writes
from snnc.processes import ALONE, Division, Processes, current, working

Value = TypeVar("Value")


class Pipes:
    """Links between simulated processes, which are threads: what they hand over is copied, as it would be."""

    def __init__(self, count: int) -> None:
        self.queues = {(one, other): SimpleQueue[bytes]() for one in range(count) for other in range(count)}

    def of(self, rank: int) -> "Pipe":
        return Pipe(self, rank)


class Pipe:
    def __init__(self, pipes: Pipes, rank: int) -> None:
        self._queues, self._rank = pipes.queues, rank

    def send(self, value: object, to: int) -> None:
        self._queues[self._rank, to].put(pickle.dumps(value))

    def receive(self, of: int) -> Any:
        return pickle.loads(self._queues[of, self._rank].get(timeout=20))


def simulated(count: int, work: Callable[[int], Value]) -> list[Value]:
    """What work returns in each of so many processes that work together."""
    pipes = Pipes(count)

    def run(rank: int) -> Value:
        processes = Processes(rank, count, pipes.of(rank)) if count > 1 else ALONE
        with working(processes):
            try:
                return work(rank)
            except SnncError as error:
                raise processes.failed(error) from error

    with ThreadPoolExecutor(count) as pool:
        return [found.result() for found in [pool.submit(run, rank) for rank in range(count)]]


def drawn(count: int) -> Samples:
    return MemorySamples(Feeds({"x": torch.randn(count, 3, generator=torch.Generator().manual_seed(0))}), 7)


@pytest.mark.parametrize("size", [1, 10, 256])
@pytest.mark.parametrize("count", [1, 5, 33, 100, 700])
def test_sums_have_the_same_bytes_whoever_adds(count: int, size: int) -> None:
    samples = drawn(count)

    def work(feeds: Feeds, first: int) -> dict[str, Any]:
        return {
            "sum": feeds["x"].sinh().sum(0),
            "rows": [*range(first, first + feeds.samples)],
            f"at {first}": feeds.samples,
        }

    (alone,) = simulated(1, lambda rank: samples.added(size, work))
    assert alone["rows"] == [*range(count)]
    whole = torch.cat([feeds["x"] for feeds in samples.batches()]).sinh().sum(0)
    assert torch.allclose(alone["sum"], whole, atol=1e-3)
    for processes in (2, 3, 4, 8, 11):
        for found in simulated(processes, lambda rank: samples.added(size, work)):
            assert torch.equal(found["sum"], alone["sum"])
            assert {**found, "sum": 0} == {**alone, "sum": 0}


@pytest.mark.parametrize("count", [1, 40, 100, 1000, 5000])
def test_each_process_has_a_part(count: int) -> None:
    parts = simulated(4, lambda rank: (Division(count, 64).start, Division(count, 64).stop))
    assert parts[0][0] == 0 and parts[-1][1] == count
    assert all(start < stop for start, stop in parts)
    assert count < 1000 or max(stop - start for start, stop in parts) <= 1.15 * count / 4
    assert (Division(100, 64).start, Division(100, 64).stop, Division(100, 64).whole) == (0, 100, True)


def test_frames_of_a_sample_stay_together() -> None:
    frames = torch.randn(5, 50, 3, generator=torch.Generator().manual_seed(0))
    still = MemorySamples(Feeds({"x": frames}, ["x"], apart=True), 7).still()
    assert len(still) == 250

    def work(feeds: Feeds, first: int) -> list[tuple[int, float]]:
        return [(first + row, float(value.sum())) for row, value in enumerate(feeds["x"])]

    (alone,) = simulated(1, lambda rank: still.added(16, work))
    assert [number for number, _ in alone] == [*range(250)]
    assert all(found == alone for found in simulated(3, lambda rank: still.added(16, work)))


def test_what_fails_in_one_fails_in_all_and_the_first_tells_it() -> None:
    samples = drawn(100)

    def work(rank: int) -> tuple[str, int, bool]:
        def broken(feeds: Feeds, first: int) -> list[int]:
            if first > 50:
                raise DataError("broken", place=f"image {first}", hint="mend it")
            return [first]

        try:
            samples.added(8, broken)
        except DataError as error:
            agreed = current().failed(error)
            return agreed.line, agreed.exit_code, agreed.told
        raise AssertionError

    found = simulated(3, work)
    assert {error for error, _, _ in found} == {"broken @ image 56"}
    assert [code for _, code, _ in found] == [5, 5, 5]
    assert [told for *_, told in found] == [False, True, True]


def test_processes_that_differ_end_alike() -> None:
    def work(rank: int) -> tuple[str, int]:
        try:
            return str(drawn(100 + rank).added(8, lambda feeds, first: [first])), 0
        except UsageError as error:
            return error.line, error.exit_code

    (one, code), *others = simulated(2, work)
    assert one.startswith("processes do not do the same: 100 samples")
    assert code == 2 and others == [(one, code)]


def test_one_that_has_ended_ends_the_others() -> None:
    class Broken:
        def send(self, value: object, to: int) -> None:
            raise RuntimeError("Connection closed by peer")

        def receive(self, of: int) -> None:
            raise RuntimeError("Connection closed by peer")

    with working(Processes(0, 3, Broken())), pytest.raises(LostError, match="process 1 has ended") as caught:
        drawn(100).added(8, lambda feeds, first: [first])
    assert not caught.value.told and caught.value.exit_code == 1
    assert Processes(0, 3).failed(caught.value) is caught.value


def test_only_the_first_process_writes() -> None:
    assert writes() and simulated(3, lambda rank: writes()) == [True, False, False]
