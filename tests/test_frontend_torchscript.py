"""TorchScript: in other precisions than single, and what is said where it cannot become ONNX."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from snnc.errors import ModelError
from snnc.frontend import read_model, torchscript
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


@pytest.mark.usefixtures("torchscript_here")
@pytest.mark.parametrize(
    ("kind", "casts"),
    [(torch.float16, False), (torch.float16, True), (torch.bfloat16, True), (torch.float64, False)],
)
def test_networks_in_other_precisions(kind: torch.dtype, casts: bool, tmp_path: Path) -> None:
    module = Small(lambda x: x.to(kind).relu() if casts else x.relu()).eval().to(kind)
    x = torch.randn(2, 1, 6, 6)
    graph = read_model(traced(module, x.to(kind), tmp_path / "m.pt"), (1, 6, 6)).graph
    with torch.no_grad():
        expected = module.float()(x)
    torch.testing.assert_close(run(graph, x)[0], expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.usefixtures("torchscript_here")
def test_outputs_in_dictionaries_are_called_as_their_keys(tmp_path: Path) -> None:
    module = Small(lambda x: (x, {"maps": x.relu(), "input": x.mean((2, 3))})).eval()
    x = torch.randn(2, 1, 6, 6)
    graph = read_model(traced(module, x, tmp_path / "m.pt"), (1, 6, 6)).graph
    assert graph.output_names == ("output0", "maps", "input_")
    with torch.no_grad():
        first, others = module(x)
    torch.testing.assert_close(run(graph, x), [first, others["maps"], others["input"]])


class Numbered(nn.Module):
    def forward(self, x: Tensor) -> dict[int, Tensor]:
        return {3: x * 2, 5: x.relu()}


@pytest.mark.usefixtures("torchscript_here")
def test_outputs_whose_keys_are_numbers_are_called_outputs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Numbered()), tmp_path / "m.pt")
    assert read_model(tmp_path / "m.pt", (5,)).graph.output_names == ("output3", "output5")


class Choosy(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor] | None:
        if float(x.sum()) > -1:
            return {"maps": x.relu()}
        return None


@pytest.mark.usefixtures("torchscript_here")
def test_a_dictionary_that_may_be_missing_is_refused_by_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Choosy()), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="DictConstruct"):
        read_model(tmp_path / "m.pt", (5,))


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.relu(x) if mask is None else torch.relu(x) * mask


@pytest.mark.usefixtures("torchscript_here")
def test_arguments_that_may_be_left_out_are(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Masked()), tmp_path / "m.pt")
    x = torch.randn(2, 5)
    (found,) = run(read_model(tmp_path / "m.pt", (5,)).graph, x)
    assert torch.equal(found, x.relu())


REASONS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "grouped queries": (
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x, enable_gqa=True),
        "not implemented if enable_gqa",
    ),
    "shared by a number": (
        lambda x: nn.functional.avg_pool2d(x, 2, divisor_override=3),
        "computes something else than the network",
    ),
    "nothing": (lambda x: (), "it returns no tensor"),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_cannot_become_onnx_is_told_in_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    if case in ("nothing", "shared by a number"):
        # Of the others it is the exporter that prints: in a process of its own.
        request.getfixturevalue("torchscript_here")
    ending, reason = REASONS[case]
    path = traced(Small(ending).eval(), torch.randn(1, 1, 6, 6), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=reason) as caught:
        read_model(path, (1, 6, 6))
    assert "\n" not in caught.value.line
    assert "type 'Tensor'" not in str(caught.value)
    assert capfd.readouterr().out == ""


WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "root mean square": lambda x: nn.functional.rms_norm(x, (7,), torch.arange(7.0)),
    "root mean square of maps": lambda x: nn.functional.rms_norm(x, (6, 7), eps=0.1),
    "parts": lambda x: nn.functional.adaptive_avg_pool2d(x, (4, 3)),
    "equal parts": lambda x: nn.functional.adaptive_avg_pool2d(x, (3, 7)),
    "parts of lines": lambda x: nn.functional.adaptive_avg_pool1d(x[:, 0], 5),
    "all": lambda x: nn.functional.adaptive_avg_pool2d(x, 1),
    "nearest": lambda x: nn.functional.interpolate(x, (9, 4), mode="nearest-exact"),
    "nearest, scaled": lambda x: nn.functional.interpolate(x, scale_factor=0.4, mode="nearest-exact"),
    "averaged": lambda x: nn.functional.interpolate(x, (9, 4), mode="bicubic", antialias=True),
    "as many parts as there are": lambda x: nn.functional.adaptive_avg_pool2d(x, (None, 4)),
    "channels in another order": lambda x: nn.functional.channel_shuffle(torch.cat([x, 2 * x], 1), 2),
    "matrices turned": lambda x: x.mT - x.mH[..., :1],
    "what is above": lambda x: nn.functional.threshold(x, 0.2, -0.3),
    "as long, with holes": lambda x: nn.functional.conv1d(
        x[:, 0], torch.arange(24.0).view(1, 6, 4) / 24, padding="same", dilation=2
    ),
    "averaged, scaled": lambda x: nn.functional.interpolate(x, scale_factor=0.4, mode="bilinear", antialias=True),
}


@pytest.mark.parametrize("case", WRITTEN)
@pytest.mark.usefixtures("torchscript_here")
def test_what_torch_has_no_onnx_for_is_written(case: str, tmp_path: Path) -> None:
    network, x = Small(WRITTEN[case]).eval(), torch.randn(2, 1, 8, 9)
    (found,) = run(read_model(traced(network, x, tmp_path / "m.pt"), (1, 8, 9)).graph, x)
    with torch.no_grad():
        torch.testing.assert_close(found, network(x), rtol=1e-4, atol=1e-5)


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)

    def forward(self, x: Tensor) -> object:
        return self.table(x.long())


@pytest.mark.usefixtures("torchscript_here")
def test_a_network_need_not_bear_all_numbers(tmp_path: Path) -> None:
    data, _ = torchscript.export_torchscript(traced(Looking(), torch.ones(1, 4), tmp_path / "m.pt"), (4,))
    assert onnx.load_from_string(data).graph.node


class Printing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("##[error] listen to me")
        return torch.relu(x)


class Raising(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 0:
            raise NotImplementedError("not today")
        return x


class Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        count = 0
        while count >= 0:
            count = 1 - count
        return x


class Greedy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(1 << 38).sum()


class Crashing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.as_strided(x, [4, 1 << 20], [1 << 40, 1 << 12], 1 << 30).sum() + x


class Empty(nn.Module):
    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x


def scripted(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), path)
    return path


PROGRAMS: dict[str, tuple[nn.Module, str]] = {
    "raises": (Raising(), "not today"),
    "never ends": (Endless(), "did not end within 1 s"),
    "takes all memory": (Greedy(), "memory"),
    "crashes": (Crashing(), "crashed when it was run|does not run|cannot be exported"),
    "has no forward": (Empty(), "no method forward"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_network_is_a_program_that_is_run_elsewhere(
    program: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if program == "never ends":
        monkeypatch.setattr(torchscript, "_SECONDS", 1)
    elif program in ("raises", "has no forward"):
        # Nothing happens to the process.
        request.getfixturevalue("torchscript_here")
    module, reason = PROGRAMS[program]
    with pytest.raises(ModelError, match=reason) as caught:
        read_model(scripted(module, tmp_path / "m.pt"), (4,))
    assert "\n" not in caught.value.line
    assert capfd.readouterr() == ("", "")


def test_what_a_network_prints_is_told_as_such(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (found,) = read_model(scripted(Printing(), tmp_path / "m.pt"), (4,)).findings
    assert found.code == "network-prints"
    assert "listen to me" in found.message and "##[" not in found.message
    assert capfd.readouterr() == ("", "")


class Compiled(nn.Module):
    """What torch.compile makes of a module, without its compiler, which takes seconds to import."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("a compiled function is not traced")


class Mirrored(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).T


def test_compiled_parts_and_parametrized_weights_are_what_they_compute(tmp_path: Path) -> None:
    first, second = nn.Linear(4, 5), nn.Linear(5, 5)
    nn.utils.parametrizations.spectral_norm(first)
    nn.utils.parametrize.register_parametrization(second, "weight", Mirrored())
    act = Compiled(nn.ReLU())
    network = Compiled(nn.Sequential(first, act, Compiled(second), act)).eval()
    keys = [*network.state_dict()]
    path = tmp_path / "m.onnx"
    path.write_bytes(torchscript.export_module(network, torch.randn(1, 4)))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = second(torch.relu(first(x))).relu()
    torch.testing.assert_close(run(read_model(path).graph, x)[0], wanted, rtol=1e-5, atol=1e-6)
    assert [*network.state_dict()] == keys
    assert nn.utils.parametrize.is_parametrized(first)


class Attentive(nn.Module):
    """Attention of queries and what they look at, with weights that are given out; the batch second or first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        found, weights = self.attention(x, x, x)
        return found.mean(1 if self.batch_first else 0) + weights.mean(1).sum(1, keepdim=True)


class Translating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.both(x, x.flip(1))
        return seen


ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Attentive(batch_first=True),
    "attention, batch second": lambda: Attentive(batch_first=False),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
    "encoder and decoder": Translating,
    "an axis as several": lambda: nn.Sequential(nn.Linear(8, 12), nn.Unflatten(2, (3, -1)), nn.ReLU()),
    "an inner axis as several": lambda: nn.Sequential(nn.Linear(8, 12), nn.Unflatten(1, (-1, 2)), nn.ReLU()),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_of_torch_is_read_in_its_parts(case: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ATTENTION[case]().eval()
    path = tmp_path / "m.onnx"
    path.write_bytes(torchscript.export_module(module, torch.randn(2, 6, 8)))
    assert torch.backends.mha.get_fastpath_enabled()
    x = torch.randn(3, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(run(read_model(path).graph, x)[0], module(x), rtol=1e-4, atol=1e-5)
