"""Networks as NIR files: what is read there fires the same spikes, and what NIR cannot say is refused by name."""

import dataclasses
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import snnc
from snnc import cli, ops, pipeline, recipe
from snnc.actions.export import export, samples
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Samples, silent
from snnc.errors import ModelError, SnncError, UsageError
from snnc.feeds import Feeds
from snnc.formats.format import formats
from snnc.formats.match import Match
from snnc.formats.nir import PROFILES, NirFile, NirFormat, nir_file
from snnc.formats.nir.engines import NirEngine, foreign, reference
from snnc.formats.nir.frameworks import FRAMEWORKS, Framework, installed
from snnc.formats.nir.interpreter import HARD, SOFT, Dynamics, Interpreter
from snnc.formats.nir.links import Kernel, squared
from snnc.formats.nir.lowering import lowered
from snnc.formats.nir.split import split_network
from snnc.formats.verification import verify
from snnc.ir import Graph
from snnc.neurons import Neuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.neurons.temporal_bias import TemporalBias
from snnc.run import Program
from snnc.schedule import Schedule
from tests.support import PROVENANCE, normal, random_network, spiking, uniform
from tests.support import Network as Builder
from tests.test_export_spiking_onnx import fed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
ZERO = torch.tensor(0.0)


@pytest.fixture
def nir():
    pytest.importorskip("nirtorch", reason="the extra snnc[nir] is not installed")
    return pytest.importorskip("nir", reason="the extra snnc[nir] is not installed")


def conversion(snn: Graph, schedule: Schedule | None = None) -> Conversion:
    return Conversion(None, snn, schedule or Schedule(8), (), (), (), Preprocessing(), PROVENANCE)


def fire(net: Builder, value: str, kind: str = "if", **fields: Tensor) -> str:
    """Neurons that start at zero, with thresholds per channel, powers of two so that folding them rounds nothing."""
    channels = net.shapes[value][0]
    steps = torch.randint(-1, 3, (channels,), generator=torch.Generator().manual_seed(len(net.nodes)))
    threshold = (2.0**steps).reshape(-1, *(1,) * (len(net.shapes[value]) - 1))
    return net.add(neurons[kind](threshold, potential=ZERO, **fields), value)


def dyadic(graph: Graph) -> Graph:
    """The network with weights of few bits: all its sums are exact, and what is equal is equal to the last bit."""
    kept = (IntegrateAndFire, IntegrateAndFireToZero)
    rounded = {
        name: op.map_tensors(lambda tensor: (tensor * 16).round() / 16)
        for name, op in graph.ops((ops.Conv, ops.Linear, ops.Affine, *kept)).items()
        if not isinstance(op, kept)
    }
    return graph.with_ops(rounded)


def images(graph: Graph, count: int = 6) -> Tensor:
    return (normal(count, *graph.shapes[graph.inputs[0]], seed=9) * 16).round() / 16


def plain(net: Builder, kind: str) -> None:
    net.linear(fire(net, net.linear(fire(net, net.linear("x", 12), kind), 9), kind), 5)


def convolutions(net: Builder, kind: str) -> None:
    value = fire(net, net.conv("x", 6), kind)
    value = fire(net, net.conv(value, 8, groups=2, stride=2), kind)
    value = net.add(ops.AveragePool((2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 0, 0)), value)
    net.linear(net.flat(fire(net, net.conv(value, 4), kind)), 5)


def residual(net: Builder, kind: str) -> None:
    value = fire(net, net.conv("x", 4), kind)
    inner = fire(net, net.conv(value, 4), kind)
    value = fire(net, net.add(ops.Add(), net.conv(inner, 4), value), kind)
    # Itself twice: an edge is written only once in NIR.
    value = fire(net, net.add(ops.Add(), value, value), kind)
    net.linear(net.flat(net.add(ops.Mean((2, 3)), value)), 5)


def sum_of_sums(net: Builder, kind: str) -> None:
    value = fire(net, net.conv("x", 4), kind)
    bottleneck = net.add(ops.Add(), net.conv(value, 4, kernel=1), value)
    deeper = net.add(ops.Add(), net.conv(bottleneck, 4), bottleneck)
    net.linear(net.flat(fire(net, net.conv(deeper, 4), kind)), 5)


def rerouted(net: Builder, kind: str) -> None:
    left, right = fire(net, net.conv("x", 4), kind), fire(net, net.conv("x", 2, kernel=1), kind)
    value = net.add(ops.Concat(1), left, right)
    value = net.add(ops.Take(1, (5, 0, 0, 3, 2)), value)
    value = net.add(ops.Affine(uniform(0.5, 2, 5, 1, 1), uniform(-1, 1, 5, 1, 1)), value)
    value = fire(net, net.conv(value, 6), kind)
    value = net.add(ops.Slice(2, 1, 8, 2), net.add(ops.Slice(3, 1, 8, 2), value))
    value = net.add(ops.Pad((1, 0, 0, 2, 0, 0)), value)
    net.linear(net.flat(fire(net, value, kind)), 5)


def padded(net: Builder, kind: str) -> None:
    kernel = net.random(4, 3, 3, 3)
    value = net.add(ops.Conv(kernel, None, (1, 1), (0, 1, 2, 1), (1, 1)), "x")
    value = net.add(ops.Pad((0, 1, 0, 0, 0, 1)), fire(net, value, kind))
    value = fire(net, net.add(ops.Conv(net.random(4, 4, 3, 3), None, (2, 2), (2, 2, 2, 2), (2, 2)), value), kind)
    value = net.add(ops.AveragePool((2, 2), (1, 1), (1, 0, 0, 1), (0, 0, 0, 0)), value)
    value = fire(net, net.conv(value, 3), kind)
    value = net.add(ops.Mean((2, 3), keep=False), value)
    net.add(ops.Affine(torch.tensor(2.0), net.random(3)), fire(net, value, kind))


NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[Builder, str], None]]] = {
    "plain": ((7,), plain),
    "convolutions": ((2, 8, 8), convolutions),
    "residual": ((2, 8, 8), residual),
    "sum of sums": ((2, 6, 6), sum_of_sums),
    "rerouted": ((2, 8, 8), rerouted),
    "padded": ((3, 7, 7), padded),
    "over one axis": ((3, 12), lambda net, kind: convolutions_over_one_axis(net, kind)),
    "spikes at the end": ((7,), lambda net, kind: fire(net, net.linear("x", 4), kind) and None),
}


def convolutions_over_one_axis(net: Builder, kind: str) -> None:
    value = fire(net, net.conv("x", 4), kind)
    value = net.add(ops.AveragePool((2,), (2,), (0, 0), (0, 0)), value)
    net.linear(net.flat(fire(net, net.conv(value, 4, groups=2), kind)), 5)


def built(name: str, kind: str = "if") -> Graph:
    shape, build = NETWORKS[name]
    net = Builder(shape)
    build(net, kind)
    return dyadic(net.graph())


def compared(snn: Graph, reading: Dynamics, profile: str = "portable") -> Match:
    return read_as(snn, reading, profile)


def read_as(snn: Graph, reading: Dynamics, profile: str = "portable", other: Graph | None = None) -> Match:
    """The file of a network, understood in one way, against the network, or against an ``other`` one."""
    made = conversion(other or snn)
    written = NirFormat(profile).write(conversion(snn))
    return verify(
        made, written, NirEngine("", Interpreter(reading), written.file.front, made.snn), fed(snn, images(snn))
    )


def spiking_share(snn: Graph, name: str) -> float:
    """How many spikes a layer fires, for each neuron and step."""
    responses: dict[str, Tensor] = {}
    Program(snn, Schedule(8), trains=True)(Feeds({snn.inputs[0]: images(snn)}), observe=responses.__setitem__)
    return float((responses[name] != 0).double().mean())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", ["if", "if-zero"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_fires_the_same_spikes(nir, name: str, kind: str, profile: str) -> None:
    snn = built(name, kind)
    found = compared(snn, SOFT if kind == "if" else HARD, profile)
    # Averages of a number of values that is no power of two are rounded, and so is a leak that hardly is one.
    exact = profile != "cuba" and name != "padded"
    assert found.equal == 100 if exact else found.equal > 99
    assert found.output_error < 1e-6 or not exact
    assert any(0.02 < spiking_share(snn, layer.name) < 0.98 for layer in found.layers)


@pytest.mark.parametrize("name", ["convolutions", "residual"])
def test_another_reset_is_noticed(nir, name: str) -> None:
    found = compared(built(name), HARD)
    assert found.equal < 99
    assert found.mismatch
    # Read with a reset to zero, the file is a network of ours whose neurons are reset to zero.
    kind = IntegrateAndFireToZero
    graph = built(name)
    zero = graph.with_ops({n: kind(op.threshold) for n, op in graph.ops(IntegrateAndFire).items()})
    assert read_as(graph, HARD, other=zero).equal == 100


@pytest.mark.parametrize("profile", PROFILES)
def test_a_firing_threshold_apart_from_the_value_is_kept(nir, profile: str) -> None:
    net = Builder((7,))
    value = fire(net, net.linear("x", 12), "if-zero", firing=torch.tensor(0.5))
    net.linear(fire(net, net.linear(value, 8), "if-zero", firing=torch.tensor(2.0)), 4)
    found = compared(dyadic(net.graph()), HARD, profile)
    assert found.equal == 100 if profile != "cuba" else found.equal > 99
    assert found.output_error < 1e-6 or profile == "cuba"


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_agree_within_tolerance(nir, seed: int) -> None:
    """Thresholds and weights as they come: what is folded is rounded once more."""
    graph = random_network(seed, spiking("if", seed=seed))
    pools = {n: ops.AveragePool(op.kernel, op.stride, op.padding, (0,) * 4) for n, op in graph.ops(ops.MaxPool).items()}
    pools |= {n: dataclasses.replace(op, excess=(0,) * 4) for n, op in graph.ops(ops.AveragePool).items()}
    rested = {n: dataclasses.replace(op, potential=ZERO) for n, op in graph.ops(IntegrateAndFire).items()}
    if any(shape != graph.with_ops(pools).shapes[name] for name, shape in graph.shapes.items()):
        pools = {n: op for n, op in pools.items() if op.excess == (0,) * 4}
    assert not compared(graph.with_ops({**pools, **rested}), SOFT).mismatch


@pytest.mark.parametrize("name", ["srp", "cos", "burst"])
def test_neurons_that_are_integrate_and_fire_are_written_so(nir, name: str) -> None:
    net = Builder((7,))
    extra = {"max_event": 1} if name == "burst" else {}
    net.linear(net.add(neurons[name](torch.tensor(1.0), potential=ZERO, **extra), net.linear("x", 12)), 4)
    assert compared(dyadic(net.graph()), SOFT).equal == 100


# The file.


def test_the_file_reads_back(nir, tmp_path: Path) -> None:
    file = nir_file(conversion(built("residual")))
    (tmp_path / "a.nir").write_bytes(file.data())
    read = nir.read(tmp_path / "a.nir")
    assert read.metadata["reset"] == "subtract"
    assert read.metadata["profile"] == "portable"
    assert read.metadata["timesteps"] == 8
    assert list(read.nodes) == list(file.graph.nodes) == sorted(file.graph.nodes)
    assert sum(isinstance(node, nir.Output) for node in read.nodes.values()) == 1
    for source, target in read.edges:
        several = sum(reader == target for _, reader in read.edges) > 1
        assert not several or isinstance(read.nodes[target], nir.IF)
        assert source < target
    for node in read.nodes.values():
        assert not isinstance(node, nir.Linear | nir.AvgPool2d)
        if isinstance(node, nir.IF):
            assert (node.v_threshold == 1).all()
            assert (node.v_reset == 0).all()
            assert (node.r == 1).all()
        if isinstance(node, nir.Flatten):
            assert node.start_dim < 0


def test_the_hard_reset_is_stated(nir) -> None:
    assert nir_file(conversion(built("plain", "if-zero"))).graph.metadata["reset"] == "zero"


def test_time_constants_are_kept_in_double_precision(nir, tmp_path: Path) -> None:
    (tmp_path / "a.nir").write_bytes(nir_file(conversion(built("plain")), profile="cuba").data())
    found = [node for node in nir.read(tmp_path / "a.nir").nodes.values() if isinstance(node, nir.CubaLIF)]
    assert found
    assert all((1 - 1e-4 / node.tau_syn == 0).all() and node.tau_mem.dtype == "float64" for node in found)


def test_the_same_network_gives_the_same_bytes(nir) -> None:
    text = (
        "import hashlib; from tests.test_export_nir import *;"
        "print(hashlib.sha256(nir_file(conversion(built('residual'))).data()).hexdigest())"
    )
    here = nir_file(conversion(built("residual"))).data()
    root = Path(__file__).parent.parent
    there = subprocess.run([sys.executable, "-c", text], cwd=root, capture_output=True, check=True, text=True)
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()
    assert here != nir_file(conversion(built("rerouted"))).data()


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(UsageError) as raised:
        nir_file(conversion(built("plain")))
    assert "pip install 'snnc[nir]'" in raised.value.hint


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(UsageError, match="'portabel'") as raised:
        nir_file(conversion(built("plain")), profile="portabel")
    assert "'portable'" in raised.value.hint


# What NIR cannot say.


def one_layer(threshold: Tensor | float = 1.0, kind: str = "if", **fields: object) -> Graph:
    net = Builder((3, 6, 6))
    fields = {"potential": ZERO, **fields}
    net.add(neurons[kind](torch.as_tensor(threshold), **fields), net.conv("x", 4), name="layer")
    net.linear(net.flat("layer"), 5)
    return net.graph()


def behind(op: ops.Op) -> Graph:
    net = Builder((4, 6, 6))
    value = net.add(op, fire(net, net.conv("x", 4)), name="layer")
    net.linear(net.flat(fire(net, value)), 5)
    return net.graph()


def max_pool() -> Graph:
    return behind(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))


def convolved(kernel: tuple[int, ...], shape: tuple[int, ...]) -> Graph:
    net = Builder(shape)
    axes = len(kernel)
    op = ops.Conv(normal(4, 4, *kernel), None, (1,) * axes, (0,) * 2 * axes, (1,) * axes)
    value = net.add(op, fire(net, net.add(op, "x", name="layer")))
    net.linear(net.flat(fire(net, value)), 5)
    return net.graph()


def output_sum() -> Graph:
    net = Builder((6,))
    spikes = fire(net, net.linear("x", 6))
    net.add(ops.Add(), net.linear(spikes, 5), net.linear(spikes, 5), name="layer")
    return net.graph()


def temporal() -> Graph:
    net = Builder((6,))
    value = net.add(TemporalBias(normal(4, 6)), net.linear("x", 6), name="layer")
    net.linear(fire(net, value), 3)
    return net.graph()


REFUSED: dict[str, tuple[Callable[[], Graph], str, str]] = {
    "max-pooling": (max_pool, "max-pooling", "treat-max-pool.method=average"),
    "signed": (lambda: one_layer(kind="dual-threshold"), "with a sign", "--recipe nir"),
    "consistent": (lambda: one_layer(kind="cif"), "with a sign", "--recipe nir"),
    "order-free": (lambda: one_layer(kind="two-phase"), "gathers", "--recipe nir"),
    "burst": (lambda: one_layer(kind="burst"), "carry a number: burst neurons send up to 2", "--recipe nir"),
    "potential": (lambda: one_layer(potential=torch.tensor(0.5)), "initial potentials", "start-at-rest"),
    "temporal bias": (temporal, "changes from step to step", "temporal=false"),
    "analog": (lambda: behind(ops.Relu()), "does not spike", "beside-quantized"),
    "transposed": (lambda: behind(ops.Transpose((0, 2, 1, 3))), "order of axes", "channels first"),
    "reshaped": (lambda: behind(ops.Reshape((4, 36))), "flattens", "Flatten"),
    "upsampled": (lambda: behind(ops.Take(2, (0, 0, 1, 1))), "along axis 2", "Flatten"),
    "bordered": (lambda: behind(ops.Pad((0, 1, 1, 0, 1, 1), 1.0)), "pads with zeros", "zeros"),
    "uncounted": (lambda: behind(ops.AveragePool((2, 2), (2, 2), (0,) * 4, (1, 1, 1, 1))), "padding out", "count"),
    "volumes": (lambda: convolved((2, 2, 2), (4, 5, 5, 5)), "such layer", "images"),
    "frames": (lambda: convolved((2, 2), (3, 4, 5, 5)), "such layer", "images"),
    "place": (lambda: one_layer(uniform(0.5, 2, 4, 6, 6)), "from place to place", "per: channel"),
    "output": (output_sum, "at neurons only", "weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nir_cannot_say_is_refused_by_name(name: str) -> None:
    build, message, hint = REFUSED[name]
    with pytest.raises(ModelError, match=message) as raised:
        lowered(build(), Schedule(4), PROFILES["portable"])
    assert hint in raised.value.hint
    assert "layer" in raised.value.place


@pytest.mark.parametrize("schedule", [Schedule(4, sleep=2), Schedule(4, rehearsal=2)])
def test_steps_that_nir_does_not_know_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ModelError, match=r"sleep|rehearsal"):
        lowered(one_layer(), schedule, PROFILES["portable"])


def test_two_resets_are_refused() -> None:
    net = Builder((6,))
    net.linear(fire(net, net.linear(fire(net, net.linear("x", 6)), 6), "if-zero"), 3)
    with pytest.raises(ModelError, match="one kind of reset"):
        lowered(net.graph(), Schedule(4), PROFILES["portable"])


def test_a_kernel_that_fits_no_square_is_refused() -> None:
    blank = (0, 0)
    kernel = Kernel(normal(1, 1, 3, 2).double(), torch.zeros(1).double(), (1, 1), blank, blank)
    with pytest.raises(ModelError, match="square"):
        squared(kernel, (1, 8, 8), "layer")
    weight, padding = squared(dataclasses.replace(kernel, weight=normal(1, 1, 5, 1).double()), (1, 8, 8), "layer")
    assert weight.shape == (1, 1, 5, 5)
    assert padding == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_a_square_kernel_has_the_same_windows(seed: int) -> None:
    choose = random.Random(seed)
    kernel = (choose.randint(1, 3), choose.randint(1, 3))
    stride = (choose.randint(2, 3), choose.randint(2, 3))
    pads = tuple(choose.randint(0, 2) for _ in range(4))
    op = ops.Conv(normal(2, 3, *kernel).double(), None, stride, pads, (1, 1))
    x = normal(2, 3, choose.randint(5, 8), choose.randint(5, 8)).double()
    before = Kernel(op.weight, torch.zeros(2).double(), stride, pads[:2], pads[2:])
    weight, padding = squared(before, x.shape[1:], "layer")
    assert weight.shape[2] == weight.shape[3]
    torch.testing.assert_close(torch.nn.functional.conv2d(x, weight, None, stride, padding), op(x))


# How others read it.


def digits(*, zero: bool = False, timesteps: int = 8) -> Conversion:
    how = recipe.load("nir", timesteps=timesteps)
    how = recipe.reset_to_zero(how) if zero else how
    preprocessing = pipeline.Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
    reading = Reading(limit=100)
    made, _ = snnc.convert(
        DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=preprocessing, reading=reading
    )
    return made


@pytest.fixture(scope="module")
def soft() -> Conversion:
    return digits()


@pytest.fixture(scope="module")
def hard() -> Conversion:
    return digits(zero=True)


FOREIGN = [
    (framework, profile)
    for framework in FRAMEWORKS.values()
    for profile in ("portable", "cuba")
    if PROFILES[profile].neuron in framework.readings
]


@pytest.mark.parametrize(("framework", "profile"), FOREIGN, ids=lambda value: getattr(value, "name", value))
def test_a_framework_reads_a_file_as_it_is_said_to(nir, soft: Conversion, framework: Framework, profile: str) -> None:
    if not framework.version:
        pytest.skip(f"{framework.name} is not installed")
    written = NirFormat(profile).write(soft)
    found = verify(soft, written, foreign(framework, written.file.front, soft.snn), judged(soft, 20))
    assert "does not read it" not in found.remark
    assert not found.mismatch
    assert found.expected is not None and found.expected > 99.9


def judged(made: Conversion, count: int) -> Samples:
    return samples(made, DIGITS / "test", Reading(limit=count), "", silent)


def test_every_reader_is_told_with_what_it_does_after_a_spike_what_it_loses_and_how_it_loads_the_file(
    nir, soft: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snnc.save(soft, "model.snn")
    command = ["export", "--format", "nir", "-o", "n.nir", "--verify", "--data", str(DIGITS / "test"), "--limit", "100"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_reader = {match["engine"]: match for match in found["verified"]}
    plain, zero = by_reader["reference interpreter"], by_reader["reference interpreter with a reset to zero"]
    assert plain["manner"]["reset"] == "takes the threshold off" and abs(plain["lost"]) <= 1
    assert zero["manner"]["reset"] == "sets potentials to zero after a spike"
    assert zero["lost"] == pytest.approx(zero["accuracy"] - zero["accuracy_there"]) and zero["lost_interval"][0] > 0
    warned = [finding for finding in found["findings"] if finding["code"] == "reader-loses"]
    assert any(finding["message"].startswith(f"{zero['engine']}, which sets potentials") for finding in warned)
    assert "--reset zero" in warned[0]["hint"]
    assert cli.main([*command, "--strict"]) == 4
    told = capsys.readouterr().out
    for name, match in by_reader.items():
        assert f"loaded in {name}, for 8 steps, by:" in told or not match["manner"]["code"]
        assert all(line.replace("FILE", "n.nir").replace("TIMESTEPS", "8") in told for line in match["manner"]["code"])


@pytest.mark.parametrize("profile", ["portable", "cuba"])
def test_the_lines_that_load_a_file_make_the_network_that_was_verified(
    nir, soft: Conversion, profile: str, tmp_path: Path
) -> None:
    if not FRAMEWORKS["snntorch"].version:
        pytest.skip("snntorch is not installed")
    written = NirFormat(profile).write(soft)  # type: ignore[arg-type]
    path, x = tmp_path / "n.nir", torch.rand(2, 1, 8, 8)
    path.write_bytes(written.data)
    names: dict[str, Any] = {}
    lines = FRAMEWORKS["snntorch"].code(PROFILES[profile].neuron)
    assert len(lines) == 3
    exec("\n".join(lines).replace("FILE", str(path)), names)
    with torch.no_grad():
        outputs = [names["network"](x) for _ in range(8)]
    found = torch.stack([output[0] if isinstance(output, tuple) else output for output in outputs]).mean(0)
    wanted = FRAMEWORKS["snntorch"].answer(written.file.front.graph, x, 8).output
    torch.testing.assert_close(found, wanted)


def test_every_framework_says_how_it_loads_a_file() -> None:
    for framework in FRAMEWORKS.values():
        for neuron in framework.readings:
            code = "\n".join(framework.code(neuron))
            assert compile(code, framework.name, "exec") and 'nir.read("FILE")' in code and "{dt}" not in code
        assert all(reading.words for reading in framework.readings.values())


def test_a_hard_reset_costs_and_calibration_wins_it_back(nir, soft: Conversion, hard: Conversion) -> None:
    reading = Reading(limit=100)
    here, there = (export(made, NirFormat(), data=DIGITS / "test", reading=reading) for made in (soft, hard))
    assert here.written.facts["reset"] == "subtract" and there.written.facts["reset"] == "zero"
    assert not there.matches
    (told,) = here.matches
    assert told.verdict == "noted" and told.accuracy is not None
    lost = told.accuracy - (told.accuracy_there or 0)
    assert lost > 3
    written = NirFormat().write(hard)
    found = verify(hard, written, reference(written.file.front, hard.snn), judged(hard, 100))
    assert found.verdict == "passed"
    assert found.accuracy_there is not None
    assert found.accuracy_there >= told.accuracy - 2


def told_by(framework: Framework, made: Conversion) -> Match:
    written = NirFormat().write(made)
    engine = foreign(framework, written.file.front, made.snn)
    return verify(made, written, engine, samples(made, None, Reading(limit=4), "", silent))


def test_what_a_framework_refuses_is_told(nir, soft: Conversion) -> None:
    def refuse(graph: object, x: Tensor, timesteps: int) -> None:
        raise AssertionError("not that\nand more")

    picky = Framework("picky", "torch", {"IF": SOFT}, refuse)  # type: ignore[arg-type]
    found = told_by(picky, soft)
    assert (found.remark, found.verdict, found.images) == ("does not read it: not that", "noted", 0)
    assert found.equal is None


def test_a_file_is_to_blame_only_for_what_a_framework_does_not_always_do(nir, soft: Conversion) -> None:
    """Held to the reference that reads as it is known to; told apart from the network."""

    def hard(graph: object, x: Tensor, timesteps: int) -> object:
        return Interpreter(HARD).answer(graph, x, timesteps)  # type: ignore[arg-type]

    for reading, verdict in ((HARD, "noted"), (SOFT, "failed")):
        found = told_by(Framework("other", "torch", {"IF": reading}, hard), soft)  # type: ignore[arg-type]
        assert found.verdict == verdict, found
        assert (found.expected == 100) == (verdict == "noted")
    assert told_by(Framework("other", "torch", {"IF": HARD}, hard), soft).remark == (  # type: ignore[arg-type]
        "takes neurons otherwise than the file says"
    )


def test_installed_frameworks_are_found() -> None:
    assert all(framework.version for framework in installed())
    absent = Framework("absent", "a_package_that_is_not_there", {"IF": SOFT}, lambda *_: None)  # type: ignore[arg-type,return-value]
    assert not absent.version
    with pytest.raises(SnncError, match="not installed"):
        absent.answer(None, torch.zeros(1), 1)  # type: ignore[arg-type]


def test_all_that_is_measured_is_plain_data(nir, soft: Conversion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.formats.nir.engines.installed", list)
    exported = export(soft, NirFormat(), verify=True)
    assert [match.verdict for match in exported.matches] == ["passed", "noted"]
    assert json.loads(json.dumps(exported.plain()))["reset"] == "subtract"
    assert isinstance(nir_file(soft), NirFile)


def test_the_command_writes_a_file_and_says_how_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("nir", reason="needs the extra snnc[nir]")
    from snnc import cli

    monkeypatch.chdir(tmp_path)
    images = ["--mean", "0.31", "--std", "0.38", "--channels", "gray", "--limit", "20"]
    convert = ["convert", str(DIGITS / "model.onnx"), "--recipe", "nir", "--timesteps", "8", "-q"]
    assert cli.main([*convert, "--data", str(DIGITS / "calibration"), *images]) == 0
    assert cli.main(["export", "--format", "nir", "-o", "m.nir", "--data", str(DIGITS / "test"), "--limit", "8"]) == 0
    shown = capsys.readouterr().out
    assert "with a reset to zero" in shown and "written: m.nir" in shown
    assert all(name in shown for name in ("Relu ", "Relu_1 ", "Relu_3 "))
    assert (tmp_path / "m.nir").stat().st_size > 1000
    assert cli.main(["export", "--format", "nir", "--step", "-o", "n.nir"]) == 2
    assert cli.main(["export", "--profile", "if", "-o", "n.onnx"]) == 2
    assert not (tmp_path / "n.nir").exists()
    capsys.readouterr()
    for name, kind in formats.items():
        for told in {"onnx", "nir"} - {name}:
            for file in (f"n{kind.suffix}", f"N{kind.suffix.upper()}"):
                assert cli.main(["export", "--format", told, "-o", file]) == 2
                assert f"--format {name}, or call" in capsys.readouterr().err
                assert not (tmp_path / file).exists()


# In two parts.


def with_a_pool_in_the_middle() -> Graph:
    """NIR can say what is before the max-pooling, whose branches meet behind the layer that it ends with."""
    net = Builder((2, 8, 8))
    value = fire(net, net.conv("x", 4))
    value = fire(net, net.add(ops.Add(), net.conv(value, 4), value))
    pooled = net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), value)
    net.linear(net.flat(fire(net, net.conv(pooled, 6))), 5)
    return dyadic(net.graph())


def test_the_largest_part_that_nir_can_say_ends_before_what_it_cannot(nir) -> None:
    snn = with_a_pool_in_the_middle()
    parts, _ = split_network(snn, partial(nir_file, conversion(snn), "portable"))
    assert {type(op) for op in parts.rest.ops(ops.MaxPool).values()} == {ops.MaxPool}
    assert not parts.front.ops(ops.MaxPool)
    assert parts.front.outputs == (parts.cut,) == parts.rest.inputs
    assert len(parts.front.ops(Neuron)) == 2
    assert 0 < parts.share < 1


def test_both_parts_one_after_the_other_fire_the_same_spikes(nir) -> None:
    made = conversion(with_a_pool_in_the_middle())
    how = NirFormat(split=True)
    assert how.refusals(made) == ()
    written = how.write(made)
    (engine,) = how.engines(written, made)
    found = verify(made, written, engine, fed(made.snn, images(made.snn)))
    assert (found.verdict, found.equal) == ("passed", 100.0)
    assert {layer.name for layer in found.layers} == {*made.snn.ops(Neuron)}
    assert written.facts["share"] == pytest.approx(100 * written.file.parts.share)
    # Spikes that come otherwise would be noticed.
    threshold = made.snn.ops(Neuron)[written.file.parts.cut].threshold
    other = made.snn.with_ops({written.file.parts.cut: IntegrateAndFire(threshold * 2, potential=ZERO)})
    assert verify(conversion(other), written, engine, fed(made.snn, images(made.snn))).verdict == "failed"


def test_a_network_of_which_nir_can_say_nothing_is_refused(nir) -> None:
    net = Builder((4,))
    net.linear(fire(net, net.linear("x", 4), "cif"), 3)
    (refusal,) = NirFormat(split=True).refusals(conversion(net.graph()))
    assert "no part" in refusal.message


def test_a_network_in_two_is_two_files(nir, tmp_path: Path) -> None:
    made = conversion(with_a_pool_in_the_middle())
    written = NirFormat(split=True).write(made)
    assert [path.name for path in written.files(tmp_path / "a.nir")] == ["a.nir", "a.rest.onnx"]
