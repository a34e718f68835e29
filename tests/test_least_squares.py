"""Damped least squares between features and between rows: one solution, whatever is kept."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from snnc import ops
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_residual_noise import CorrectResidualNoise, rows_within, spread_rows
from snnc.passes.least_squares import LeastSquares, Moments, Rows
from snnc.passes.normalize_activations import NormalizeActivations
from tests.support import Network, calibration, normal, relu

DAMPINGS = (0.001, 0.1, 10.0)


def known(kind: type[Rows] | type[Moments], inputs: Tensor, wanted: Tensor) -> LeastSquares:
    squares, rest = (kind.of(inputs[:, part], wanted[:, part]) for part in (slice(0, 5), slice(5, None)))
    squares += rest
    return squares


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("rows", "features"), [(40, 7), (12, 30), (1, 4)])
def test_between_rows_as_between_features(rows: int, features: int, groups: int, refit: bool) -> None:
    """Inputs far from zero, one of them always zero; the oracle is least squares with rows for the penalties."""
    inputs = normal(groups, rows, features, seed=1) + 3
    inputs[:, :, 1] = 0
    wanted = normal(groups, rows, 2, seed=2) + 1
    both = [known(kind, inputs, wanted) for kind in (Rows, Moments)]
    if refit:
        inputs, wanted = (torch.cat([part, part[:, :3] * 2], 1) for part in (inputs, wanted))
        both = [
            each + known(kind, inputs[:, rows:], wanted[:, rows:])
            for each, kind in zip(both, (Rows, Moments), strict=True)
        ]
    energy = inputs.double().square().sum(1)
    energy = energy + 1e-6 * energy.mean(1, keepdim=True)
    for damping, *found in zip(DAMPINGS, *(each.solutions(DAMPINGS) for each in both), strict=True):
        penalty = torch.diag_embed((energy * (damping + features / inputs.shape[1])).sqrt())
        rests = torch.cat([penalty, torch.zeros(groups, features, 1)], 2)
        system = torch.cat([torch.cat([inputs, torch.ones_like(inputs[..., :1])], 2).double(), rests], 1)
        goal = torch.cat([wanted, torch.zeros(groups, features, 2)], 1).double()
        oracle = torch.linalg.lstsq(system, goal, driver="gelsd").solution.mT
        for solution in found:
            torch.testing.assert_close(solution.weights, oracle[..., :-1].float(), atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(solution.constant.double(), oracle[..., -1], atol=1e-3, rtol=1e-3)


def test_errors_differ_by_what_no_solution_changes() -> None:
    inputs, wanted = normal(2, 20, 6, seed=1) + 1, normal(2, 20, 3, seed=2) + 1
    both = [known(kind, inputs, wanted) for kind in (Rows, Moments)]
    tried = [both[0].constant(), both[1].constant(), *both[0].solutions(DAMPINGS)]
    errors = torch.tensor([[each.error(solution) for solution in tried] for each in both], dtype=torch.float64)
    torch.testing.assert_close(errors[0] - errors[0, 0], errors[1] - errors[1, 0], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(errors[0, 0], errors[0, 1])
    assert errors[0, 2] < errors[0, 1]


@pytest.mark.parametrize(("available", "most"), [(1000, 10), (7, 7), (5, 9), (10**9 + 7, 4000), (4096, 4095)])
def test_rows_are_spread_evenly_and_none_is_taken_twice(available: int, most: int) -> None:
    rows = spread_rows(available, most)
    assert len(rows) == min(available, most) and int(rows[0]) >= 0 and int(rows[-1]) < available
    assert bool((rows.diff() > 0).all())
    assert int(rows.diff().max()) <= 2 * available / len(rows) + 1


def test_rows_are_spread_over_the_positions_of_every_image() -> None:
    """Where images have as many positions as one part, or a multiple, not always the same is looked at."""
    for positions in (64, 1024):
        places = spread_rows(500 * positions, 1000) % positions
        counts = torch.histc(places.float(), 8, 0, positions)
        assert float(counts.min()) > 0.8 * 1000 / 8


def test_what_is_looked_at_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_within(64, 8, 32) == 1 << 12 and rows_within(1, 1000, 32) == 32000
    monkeypatch.setattr("snnc.passes.correct_residual_noise.memory", lambda: 1 << 27)
    for groups, features in ((1, 1024), (1, 1025), (1, 1 << 21), (64, 4000)):
        rows = rows_within(groups, features, 32)
        assert groups * min(rows, features) * features <= 1 << 20 or rows == 1


class _Largest(TorchDispatchMode):
    """Watch how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numbers = max(self.numbers, made.untyped_storage().nbytes() // made.element_size())
        return made


@pytest.mark.parametrize("refit", [False, True])
def test_memory_does_not_grow_with_the_square_of_the_inputs(refit: bool) -> None:
    images, features = 40, 600
    net = Network((20,), seed=1)
    hidden = relu(net, net.linear("x", features))
    net.linear(hidden, 3)
    reference = NormalizeActivations()(net.graph(), calibration(net.graph()))
    look = calibration(reference, normal(images, 20), 4)
    quantized = CalibrateThresholds()(reference, look)
    with _Largest() as watched:
        corrected = CorrectResidualNoise(refit=refit)(quantized, look)
    assert watched.numbers < 2 * features * images
    name = net.nodes[-1].name
    assert not torch.equal(corrected.ops(ops.Linear)[name].weight, quantized.ops(ops.Linear)[name].weight)


def test_chunks_of_which_no_row_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.passes.correct_residual_noise.memory", lambda: 1 << 16)
    net = Network((40,), seed=1)
    net.linear(relu(net, net.linear("x", 30)), 3)
    reference = NormalizeActivations()(net.graph(), calibration(net.graph()))
    look = calibration(reference, normal(80, 40), 4)
    quantized = CalibrateThresholds()(reference, look)
    assert rows_within(1, 30, 16) < 80
    whole = CorrectResidualNoise(damping=(0.1,))(quantized, look)
    monkeypatch.setattr("snnc.run.program._CHUNK_ELEMENTS", 1)
    one_by_one = CorrectResidualNoise(damping=(0.1,))(quantized, look)
    for name, layer in whole.ops(ops.Linear).items():
        torch.testing.assert_close(one_by_one.ops(ops.Linear)[name].weight, layer.weight)
