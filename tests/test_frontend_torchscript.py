"""TorchScript: in other precisions than single, and what is said where it cannot become ONNX."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from snnc.errors import ModelError
from snnc.frontend import read_model
from tests.frontend_files import run


class Small(nn.Module):
    def __init__(self, ending: Callable[[Tensor], object] = torch.relu) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.ending = ending

    def forward(self, x: Tensor) -> object:
        return self.ending(self.norm(self.conv(x)))


def traced(module: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        # torch deprecates TorchScript.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, x, strict=False), path)
    return path


@pytest.mark.parametrize("casts", [False, True])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_in_other_precisions(kind: torch.dtype, casts: bool, tmp_path: Path) -> None:
    module = Small(lambda x: x.to(kind).relu() if casts else x.relu()).eval().to(kind)
    x = torch.randn(2, 1, 6, 6)
    graph = read_model(traced(module, x.to(kind), tmp_path / "m.pt"), (1, 6, 6)).graph
    with torch.no_grad():
        expected = module.float()(x)
    torch.testing.assert_close(run(graph, x)[0], expected.float(), rtol=2e-2, atol=2e-2)


REASONS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "adaptive": (lambda x: nn.functional.adaptive_avg_pool2d(x, 3), "adaptive_avg_pool2d, output size"),
    "dictionary": (lambda x: {"maps": x, "mean": x.mean()}, "DictConstruct"),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_cannot_become_onnx_is_told_in_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ending, reason = REASONS[case]
    path = traced(Small(ending).eval(), torch.randn(1, 1, 6, 6), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=reason) as caught:
        read_model(path, (1, 6, 6))
    assert "\n" not in str(caught.value)
    assert "type 'Tensor'" not in str(caught.value)
    assert capfd.readouterr().out == ""
