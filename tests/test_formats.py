"""What every format of exports obeys; a new one is one file, its flags and its keys in snnc.yaml too."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import Generator

from snnc import cli, ops
from snnc.actions.export import Exported
from snnc.cli.options import FormatFlags
from snnc.conversion import Conversion
from snnc.data.samples import MemorySamples
from snnc.errors import ModelError, VerificationError
from snnc.feeds import Feeds
from snnc.formats.format import Format, Refusal, Written, formats
from snnc.formats.onnx.engine import Onnxruntime
from snnc.formats.onnx.spiking import OnnxFormat
from snnc.formats.verification import Bounds, Reply, verify
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron, neurons
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.project import read
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.validation import Option
from tests.support import Network, calibration, normal, random_network, spiking
from tests.test_export_spiking_onnx import conversion, fed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def made(*kinds: str, whole: bool = False, timesteps: int = 3, seed: int = 1) -> Conversion:
    """Return a network, ``whole`` ones of quantized weights."""
    graph = random_network(seed, spiking(*kinds, seed=3))
    return conversion(QuantizeWeights()(graph, calibration(graph)) if whole else graph, Schedule(timesteps))


def one_layer(kind: str, *, whole: bool) -> Conversion:
    """Return a network of one layer of neurons and one step: programs of torch take their time to be made."""
    net = Network((3, 4, 4))
    spiking(kind, seed=3)(net, net.conv("x", 4))
    net.linear(net.flat(net.nodes[-1].name), 5)
    graph = net.graph()
    return conversion(QuantizeWeights()(graph, calibration(graph)) if whole else graph, Schedule(1))


def sayable(*, whole: bool) -> Conversion:
    """What every format can say: neurons that start at zero, behind weights and before them."""
    net = Network((3, 8, 8))
    at_rest = neurons["if"](torch.tensor(1.0), potential=torch.tensor(0.0))
    net.add(at_rest, net.conv("x", 4))
    net.add(at_rest, net.conv(net.nodes[-1].name, 4))
    net.linear(net.flat(net.nodes[-1].name), 5)
    graph = net.graph()
    return conversion(QuantizeWeights()(graph, calibration(graph)) if whole else graph, Schedule(3))


def test_there_are_formats() -> None:
    assert {"c", "integers", "onnx", "nir", "torch"} <= set(formats)
    suffixes = [kind.suffix for kind in formats.values()]
    assert len(set(suffixes)) == len(suffixes) and all(suffix.startswith(".") for suffix in suffixes)


@pytest.fixture(params=formats)
def kind(request: pytest.FixtureRequest) -> type[Format[Any]]:
    found = formats[request.param]
    if found.extra:
        pytest.importorskip(found.extra, reason=f"needs the extra snnc[{found.extra}]")
    return found


def test_a_format_is_what_it_says(kind: type[Format[Any]]) -> None:
    assert formats[kind.name] is kind
    assert kind.about.endswith(".")
    assert kind() == kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().name = "other"  # type: ignore[misc]


def test_a_file_is_the_same_again_and_fires_what_the_network_fires(kind: type[Format[Any]]) -> None:
    network = sayable(whole=kind.name == "integers")
    assert kind().refusals(network) == ()
    written = kind().write(network)
    assert (written.format, written.data) == (kind.name, kind().write(network).data)
    assert {*written.trains, *written.means} == set(network.snn.ops(Neuron))
    engines = list(kind().engines(written, network))
    held = [engine for engine in engines if engine.tolerance is not None]
    if kind.name == "c" and not held:
        pytest.skip("needs a C compiler")
    assert held
    assert kind.runs_unasked == any(engine.tolerance is None for engine in engines)
    x = normal(5, *network.snn.shapes[network.snn.inputs[0]])
    for engine in engines:
        found = verify(network, written, engine, fed(network.snn, x))
        # What reads neurons in its own way does so, and the file is not to blame.
        allowed = {"passed", "noted"} if engine.expected else {"passed" if engine in held else "noted"}
        assert found.verdict in allowed, found
        assert (found.format, found.engine, found.images) == (kind.name, engine.name, 5)


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_network_of_several_inputs_fires_what_it_fires(name: str, neuron: str) -> None:
    here, there = (neurons[neuron](torch.tensor(threshold)) for threshold in (0.5, 1.0))
    nodes = [
        Node("left", Input((6,)), ()),
        Node("right", Input((6,)), ()),
        Node("there", there, ("left",)),
        Node("here", here, ("right",)),
        Node("sum", ops.Add(), ("there", "here")),
        Node("y", ops.Linear(normal(4, 6), None), ("sum",)),
    ]
    network = conversion(Graph.of(nodes, ["y"]), Schedule(3))
    written = formats[name]().write(network)
    (engine,) = formats[name]().engines(written, network)
    left, right = normal(5, 6), normal(5, 6, seed=1)
    feeds = Feeds({"right": right, "left": left})
    found = verify(network, written, engine, MemorySamples(feeds))
    assert (found.verdict, found.images, len(found.layers)) == ("passed", 5, 2)
    swapped = Feeds({"right": left, "left": right})
    assert not torch.equal(*(engine.answer(one, Generator())[0]["y"] for one in (feeds, swapped)))


@pytest.mark.parametrize("kinds", [(name,) for name in neurons] + [tuple(neurons)], ids="+".join)
def test_what_is_refused_is_what_cannot_be_written(kind: type[Format[Any]], kinds: tuple[str, ...]) -> None:
    whole = kind.name == "integers"
    network = one_layer(*kinds, whole=whole) if len(kinds) == 1 else made(*kinds, whole=whole, timesteps=1)
    refusals = kind().refusals(network)
    if not refusals:
        assert kind().write(network).data
        return
    assert all(refusal.message and refusal.hint for refusal in refusals)
    with pytest.raises(ModelError) as raised:
        kind().write(network)
    with pytest.raises(ModelError) as listed:
        kind().check(network)
    assert listed.value.hint == raised.value.hint == refusals[0].hint
    assert len(listed.value.details) == len(refusals) - 1


def test_some_networks_are_refused_and_some_are_not() -> None:
    kinds = {name: kind for name, kind in formats.items() if not kind.extra}
    network = made("two-phase-probabilistic", whole=True)
    refused = {name: bool(kind().refusals(network)) for name, kind in kinds.items()}
    assert refused == {"c": True, "integers": True, "onnx": False, "torch": True}


def test_everything_that_is_refused_is_listed_at_once() -> None:
    refusals = OnnxFormat(step=True).refusals(made("two-phase", "two-phase-probabilistic", "if"))
    assert {refusal.message.split()[0] for refusal in refusals} == {"two-phase", "two-phase-probabilistic"}
    with pytest.raises(ModelError, match="and 1 more") as raised:
        OnnxFormat(step=True).check(made("two-phase", "two-phase-probabilistic", "if"))
    assert len(raised.value.details) == 1 and "two-phase" in raised.value.details[0]


def test_all_that_nir_cannot_say_is_listed_at_once() -> None:
    pytest.importorskip("nir", reason="needs the extra snnc[nir]")
    net = Network((3, 8, 8))
    for kind in ("two-phase", "dual-threshold", "if"):
        net.add(neurons[kind](torch.tensor(1.0)), net.conv(net.nodes[-1].name, 4))
        net.add(ops.MaxPool((2, 2), (1, 1), (0,) * 4, (1, 1)))
    net.linear(net.flat(net.nodes[-1].name), 5)
    found = formats["nir"]().refusals(conversion(net.graph(), Schedule(3, sleep=1)))
    said = ["sleep", "gathers its input", "with a sign", "initial potentials", "max-pooling"]
    assert len(found) == len(said)
    assert all(text in refusal.message for text, refusal in zip(said, found, strict=True))
    assert len(found[-1].places) == 3


def test_many_nodes_are_counted() -> None:
    assert Refusal("no", "yes", tuple("abcdefgh")).place == "a, b, c, d, e and 3 more"
    assert Refusal("no", "yes", tuple("abc")).place == "a, b, c"


# Flags and keys.


@pytest.fixture
def own() -> Iterator[type[Format[Any]]]:
    """A format as somebody else would add it: one class."""

    @dataclasses.dataclass(frozen=True)
    class Backwards(Format[None]):
        letters: Annotated[tuple[int, ...], Option("Which.", "N,N,...")] = ()
        loud: Annotated[bool, Option("Shout.")] = False
        volume: Annotated[float, Option("How loud.", needs="--verify")] = 1.0

        name = "backwards"
        suffix = ".back"
        about = "nothing that anybody reads."

        def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
            return ()

        def write(self, conversion: Conversion) -> Written[None]:
            return Written(self.name, "all", repr(self).encode(), None, {}, facts={"loud": self.loud})

        def engines(self, written: Written[None], conversion: Conversion) -> Iterator[Onnxruntime]:
            plain = OnnxFormat()
            yield from plain.engines(plain.write(conversion), conversion)

    formats.register("backwards")(Backwards)
    try:
        yield Backwards
    finally:
        del formats._members["backwards"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "m.snn"
    how = ["--recipe", "quick", "--neuron", "if", "--timesteps", "2", "-q"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", str(path), *how]) == 0
    return path


@pytest.fixture
def run(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    shutil.copy(converted, "m.snn")

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main([*arguments]), *capsys.readouterr()

    return call


def test_flags_do_not_collide(run: Callable[..., Any]) -> None:
    code, out, _ = run("export", "--help")
    assert code == 0
    flags = [line.split()[0] for line in out.splitlines() if line.startswith("  --")]
    assert len(flags) == len(set(flags))
    fields = {field.name for kind in formats.values() for field in dataclasses.fields(kind)}
    assert fields <= set(FormatFlags.options())


def test_a_format_of_one_class_has_flags_keys_and_help(own: type[Format[Any]], run: Callable[..., Any]) -> None:
    code, out, _ = run("export", "--help")
    assert code == 0
    assert all(text in out for text in ("backwards", "--letters N,N,...", "--loud", "Of backwards: Shout."))
    export = ["export", "m.snn", "-o", "m.back", "--format", "backwards"]
    code, out, _ = run(*export, "--letters", "1,2", "--loud", "--json")
    assert code == 0 and json.loads(out)["loud"] is True
    assert "letters=(1, 2), loud=True" in Path("m.back").read_text()
    Path("snnc.yaml").write_text("export: {backwards: {letters: [3], volume: 2}}")
    assert run(*export)[0] == 0
    assert "letters=(3,), loud=False, volume=2.0" in Path("m.back").read_text()
    # Flags win.
    assert run(*export, "--letters", "4", "--verify", "--volume", "5")[0] == 0
    assert "letters=(4,), loud=False, volume=5.0" in Path("m.back").read_text()
    convert = ["convert", str(DIGITS / "model.onnx"), "-o", "d.snn", "--recipe", "quick", "--export", "backwards", "-q"]
    assert run(*convert)[0] == 0
    assert "letters=(3,)" in Path("d.back").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--loud"], "--loud without --format backwards"),
        (["--format", "backwards", "--volume", "2"], "--volume without --verify"),
        (["--format", "backwards", "--letters", "x"], "--letters"),
        (["--format", "backwards", "--volume", "x", "--verify"], "--volume"),
        (["--format", "forwards"], "'backwards'"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    own: type[Format[Any]], run: Callable[..., Any], flags: list[str], message: str
) -> None:
    code, out, err = run("export", "m.snn", "-o", "m.back", *flags)
    assert (code, out) == (2, "") and message in err
    assert not Path("m.back").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("export: {onnx: {steps: true}}", "unknown option 'steps' @ snnc.yaml: export.onnx"),
        ("export: {onnx: {step: loudly}}", "@ snnc.yaml: export.onnx.step"),
        ("export: {onyx: {}}", "unknown format 'onyx' @ snnc.yaml: export"),
        ("export: onnx", "export"),
    ],
)
def test_keys_that_mean_nothing_are_refused(run: Callable[..., Any], text: str, message: str) -> None:
    Path("snnc.yaml").write_text(text)
    code, out, err = run("export", "m.snn", "-o", "m.onnx")
    assert (code, out) == (2, "") and message in err


def test_the_project_holds_options_by_format(run: Callable[..., Any]) -> None:
    Path("snnc.yaml").write_text("export: {onnx: {step: true}}")
    assert read(Path()).export == {"onnx": {"step": True}}
    assert run("export", "m.snn", "-o", "m.onnx")[0] == 0
    assert b"One time step" in Path("m.onnx").read_bytes()


class Doubled:
    """Runs a network in double precision, or fires nothing at all."""

    name, tolerance, expected, note = "doubled", Bounds(100, 1.0, "spikes"), None, ""

    def __init__(self, made: Conversion, *, silent: bool = False) -> None:
        self.schedule, self.layers = made.schedule, frozenset(made.snn.ops(Neuron))
        self._program = Program(made.snn.map_tensors(lambda tensor: tensor.double()), made.schedule, trains=True)
        self._silent = silent

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        spikes: dict[str, torch.Tensor] = {}
        wide = Feeds({name: values.double() for name, values in feeds.items()})
        outputs = self._program(wide, observe=spikes.__setitem__)
        still = 0.0 if self._silent else 1.0
        trains = {name: still * train.float() for name, train in spikes.items()}
        return {name: signal.float().mean(0) for name, signal in outputs.items()}, trains


def test_what_rounding_decides_is_told_from_a_defect() -> None:
    net = Network((12,))
    tenths = torch.randint(-5, 6, (40, 12), generator=Generator().manual_seed(1)) / 10
    weighted = net.add(ops.Linear(tenths, None), "x")
    net.add(neurons["if"](torch.tensor(0.3), potential=torch.tensor(0.0)), weighted)
    tied = conversion(net.graph(), Schedule(3))
    samples = MemorySamples(Feeds({"x": torch.randint(0, 4, (64, 12), generator=Generator().manual_seed(2)).float()}))
    written = Written("own", "", b"", None, {})
    hints = []
    for silent in (False, True):
        found = verify(tied, written, Doubled(tied, silent=silent), samples)
        assert (found.verdict, found.rounding) == ("failed", not silent)
        with pytest.raises(VerificationError) as caught:
            Exported(written, (found,)).check("model.snn")
        hints.append(caught.value.hint)
    assert "--weight-bits" in hints[0] and "report" not in hints[0] and "please report it" in hints[1]
