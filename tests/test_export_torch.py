"""Spiking networks as programs of torch: what is loaded fires what was converted, for any number of images."""

import dataclasses
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from snnc import cli, ops
from snnc.errors import ModelError
from snnc.feeds import Feeds
from snnc.formats.torch import ENTRY, TorchFormat, TorchProgram, torch_file
from snnc.formats.verification import verify
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.temporal_bias import TemporalBias
from snnc.report.data import read
from snnc.schedule import Schedule
from tests.support import IMAGE, POOL, Network, exact, normal, random_network, run, spiking, uniform
from tests.test_export_spiking_onnx import conversion, fed

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
REPEATABLE = [name for name, kind in neurons.items() if not kind.random]
CAUSAL = tuple(name for name in REPEATABLE if issubclass(neurons[name], CausalNeuron))


def test_there_are_neurons_to_write() -> None:
    assert CAUSAL
    assert len(REPEATABLE) < len(neurons)


def side_by_side(*kinds: str) -> Graph:
    """Layers of all these kinds on one train that comes unevenly, and one that the order of their spikes is asked by.

    A program takes longer to be made than to be run, and one of many layers not as long as many of one. Nothing is
    summed, so that no sum is made in an order of its own.
    """
    net = Network(IMAGE)
    first = net.add(neurons["if"](uniform(0.3, 1, 4, 1, 1, seed=1)), "x", name="before")
    scaled = net.add(ops.Affine(normal(4, 1, 1, seed=2) * 2, normal(4, 1, 1, seed=3) * 0.3), first)
    biased = net.add(TemporalBias(normal(3, 4, 1, 1, seed=4) * 0.2), scaled)
    asked = [net.add(neurons[kind](torch.tensor([0.7])), biased, name=kind.replace("-", "_")) for kind in kinds]
    net.add(POOL, net.add(ops.Concat(1), *asked))
    net.add(neurons["if"](torch.tensor(0.8)), name="after")
    net.add(ops.Affine(torch.tensor(0.7), torch.tensor(0.1)), name="y")
    return net.graph()


@pytest.mark.parametrize("kinds", [CAUSAL, *((name,) for name in REPEATABLE if name not in CAUSAL)], ids="+".join)
def test_a_program_fires_what_the_network_fires(kinds: tuple[str, ...]) -> None:
    schedule = Schedule(2, 1, 1)
    snn = side_by_side(*kinds) if kinds == CAUSAL else random_network(5, spiking(*kinds, seed=3))
    made = conversion(snn, schedule)
    written = TorchFormat().write(made)
    program = TorchProgram(written.data, snn, schedule)
    x = normal(5, *snn.shapes[snn.inputs[0]])
    found = verify(made, written, program, fed(snn, x))
    assert found.mismatch == "" and found.together == 100
    assert [layer.name for layer in found.layers] == list(snn.ops(Neuron))
    assert {type(op) for op in snn.ops(Neuron).values()} >= {neurons[kind] for kind in kinds}
    # One image is no special case.
    (image,), (output,) = snn.inputs, snn.outputs
    (answer,) = program.answer(Feeds({image: x[:1]}))[0].values()
    wanted = run(snn, {image: x[:1].unsqueeze(0)}, [output], schedule)[output][0]
    assert torch.allclose(answer, wanted, atol=1e-5)


def test_a_program_that_fires_otherwise_is_noticed() -> None:
    snn, schedule = exact(neurons["if"](torch.tensor([0.7]))), Schedule(3)
    other = snn.with_ops({"asked": neurons["if"](torch.tensor([0.9]))})
    written = TorchFormat().write(conversion(other, schedule))
    program = TorchProgram(written.data, snn, schedule)
    found = verify(conversion(snn, schedule), written, program, fed(snn, normal(5, *IMAGE)))
    assert "'asked'" in found.mismatch
    assert {layer.name: layer.alone == 100 for layer in found.layers} == {"before": True, "asked": False}


@pytest.mark.parametrize("name", ["cif", "two-phase"])
def test_a_program_is_moved_as_a_whole(name: str) -> None:
    snn = side_by_side(name) if name in CAUSAL else random_network(1, spiking(name, seed=3))
    schedule = Schedule(1, 1)
    program = torch.export.load(io.BytesIO(torch_file(conversion(snn, schedule))))
    assert not program.constants
    buffers = program.graph_signature.inputs_to_buffers
    assert buffers and all(node.users for node in program.graph.nodes if node.name in buffers)
    assert all(node.kwargs.get("device") is None for node in program.graph.nodes)
    x = normal(3, *snn.shapes[snn.inputs[0]]).double()
    exactly = snn.map_tensors(torch.Tensor.double)
    wanted = run(exactly, {snn.inputs[0]: x.unsqueeze(0)}, snn.outputs, schedule)
    with torch.no_grad():
        outputs, _ = program.module().to(torch.float64)(x)
    for name, output in zip(snn.outputs, outputs, strict=True):
        torch.testing.assert_close(output, wanted[name][0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "message"),
    [("two-phase-probabilistic", "random"), ("two-phase", "two-phase neurons gather their whole input")],
)
def test_what_cannot_be_written_is_refused_by_name(name: str, message: str) -> None:
    snn = exact(neurons[name](torch.tensor([0.7])))
    with pytest.raises(ModelError, match=message) as caught:
        torch_file(conversion(snn, Schedule(3)))
    assert caught.value.place == "asked" and "--format onnx" in caught.value.hint


def test_equal_networks_give_equal_bytes_that_say_what_they_are() -> None:
    made = conversion(exact(neurons["cif"](torch.tensor([0.7]))), Schedule(1, 1))
    data = torch_file(made)
    assert data == torch_file(dataclasses.replace(made, reference=None))
    extra = {ENTRY: ""}
    torch.export.load(io.BytesIO(data), extra_files=extra)
    about = json.loads(extra[ENTRY])
    assert (about["timesteps"], about["sleep"], about["rehearsal"]) == (1, 1, 0)
    # Where it was made is nobody's business, and would change the bytes.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert not any(b".py" in archive.read(name) for name in archive.namelist())


def test_torch_alone_runs_what_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = ["--data", str(DIGITS / "calibration"), "--mean", "0.31", "--std", "0.38", "--channels", "gray"]
    how = ["--recipe", "quick", "--neuron", "if", "--timesteps", "1", "--limit", "8", "-q", "--export", "torch"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), *how, *images]) == 0
    (found,) = read(Path("model.report.json")).verifications
    assert (found.format, found.verdict, found.images) == ("torch", "passed", 8)
    program = (
        "import sys, torch; (found,), spikes = torch.export.load('model.pt2').module()(torch.zeros(7, 1, 8, 8));"
        "print(tuple(found.shape), any(name.split('.')[0] == 'snnc' for name in sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split("\n")[0] == "(7, 10) False"
    capsys.readouterr()
    assert cli.main(["export", "--format", "torch", "--step", "-o", "m.pt2"]) == 2
    assert "--format onnx" in capsys.readouterr().err
    assert not Path("m.pt2").exists()
