"""Spiking networks as ONNX files: plain onnxruntime fires the spikes that snnc fires, at any number of time steps."""

import dataclasses
import json
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Generator, Tensor

from snnc import cli, ops
from snnc.artifact import load_conversion, save_conversion
from snnc.conversion import Conversion
from snnc.data.labels import Classes
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples, Samples
from snnc.errors import ModelError, VerificationError
from snnc.feeds import Feeds
from snnc.formats.format import Written
from snnc.formats.match import Match
from snnc.formats.onnx import OnnxFormat, Onnxruntime, SpikingFile, spiking_file
from snnc.formats.onnx.train import train_model
from snnc.formats.verification import Bounds, noise, verify
from snnc.ir import Graph, Input, Node
from snnc.measure.probe import permuted
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.two_phase_probabilistic import draws
from snnc.report.data import read
from snnc.schedule import Schedule
from tests.support import (
    IMAGE,
    PROVENANCE,
    Network,
    alternating,
    exact,
    neuron_instances,
    normal,
    random_network,
    run,
    sloped,
    spiking,
)

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
PREPROCESSING = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")
TIMESTEPS = (1, 2, 4, 7)
SCHEDULES = (Schedule(4), Schedule(4, 2, 3))


def identifier(schedule: Schedule) -> str:
    return f"{schedule.rehearsal}+{schedule.timesteps}+{schedule.sleep}"


def conversion(snn: Graph, schedule: Schedule) -> Conversion:
    return Conversion(None, snn, schedule, (), (), (), Preprocessing(), PROVENANCE)


def written(snn: Graph, schedule: Schedule, *, step: bool = False) -> SpikingFile:
    """The file, valid, with nothing in it that has to be brought along."""
    file = spiking_file(conversion(snn, schedule), step=step)
    onnx.checker.check_model(file.model, full_check=True)
    local = {function.name for function in file.model.functions}
    for calls in (file.model.graph.node, *(function.node for function in file.model.functions)):
        for node in every(calls):
            assert node.domain == "" or (node.domain == "snnc" and node.op_type in local)
    return file


def every(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from every(attribute.g.node)


def matched(
    file: SpikingFile, data: bytes, snn: Graph, schedule: Schedule, x: Tensor, labels: Tensor | None = None
) -> Match:
    made = Written("onnx", "whole trains", data, file, file.trains, file.means)
    samples = fed(snn, x) if labels is None else Labeled(fed(snn, x), labels)
    return verify(conversion(snn, schedule), made, Onnxruntime(file, data, snn, schedule), samples)


def fed(snn: Graph, x: Tensor, size: int | None = None) -> Samples:
    """Samples for the one input of a network, handed out ``size`` at once."""
    return MemorySamples(Feeds({snn.inputs[0]: x}), size)


class Labeled(Samples):
    """Samples in memory that have labels."""

    def __init__(self, samples: Samples, labels: Tensor) -> None:
        self.samples, self.answers = samples, labels

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self) -> Iterator[Feeds]:
        return self.samples.batches()

    def labels(self, kind: str) -> Classes:  # type: ignore[override]
        return Classes(self.answers)

    def chosen(self, numbers: Sequence[int]) -> Samples:
        return self.samples.chosen(numbers)


class Host:
    """What runs a file elsewhere: onnxruntime, as it comes, which is shown the spikes and given the random numbers."""

    def __init__(self, file: SpikingFile, *, given: bool = True) -> None:
        model = ModelProto()
        model.CopyFrom(file.model)
        self.file = file
        self.values = {**file.trains, **file.means}
        known = {entry.name: entry for entry in (*model.graph.value_info, *model.graph.output)}
        outputs = [entry.name for entry in model.graph.output]
        model.graph.output.extend(known[name] for name in dict.fromkeys(self.values.values()) if name not in outputs)
        if given:
            kept = [node for node in model.graph.node if node.op_type != "Draws"]
            del model.graph.node[:]
            model.graph.node.extend(kept)
            model.graph.input.extend(known[name] for name in file.draws.values())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.names = [entry.name for entry in self.session.get_outputs()]

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(self.names, feeds), strict=True))

    def train(self, snn: Graph, x: Tensor, timesteps: int) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The outputs, and the responses of the neurons as ``run`` shows them."""
        generator = Generator().manual_seed(0)
        feeds = {snn.inputs[0]: x.numpy(), self.file.timesteps: np.array(timesteps, np.int64)}
        for name in snn.nodes:
            if name in self.file.draws:
                numbers = [*draws((len(x), *snn.shapes[name]), timesteps, generator)]
                feeds[self.file.draws[name]] = torch.stack(numbers).numpy()
        found = self({name: value for name, value in feeds.items() if name})
        answers = [torch.from_numpy(found[name]) for name in self.names[: len(snn.outputs)]]
        responses = {name: torch.from_numpy(found[value]) for name, value in self.values.items()}
        return answers, {name: r.reshape(-1, len(x), *r.shape[1:]) for name, r in responses.items()}

    def steps(self, x: Tensor, schedule: Schedule) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the first output, and the spikes, of steps one after another, as the file's text says."""
        model = self.file.model
        states = [entry for entry in model.graph.input if entry.name not in (model.graph.input[0].name, "timesteps")]
        shapes = {s.name: [a.dim_value or len(x) for a in s.type.tensor_type.shape.dim] for s in states}
        kinds = {s.name: onnx.helper.tensor_dtype_to_np_dtype(s.type.tensor_type.elem_type) for s in states}
        feeds = {name: np.zeros(shape, kinds[name]) for name, shape in shapes.items()}
        feeds[model.graph.input[0].name] = x.numpy()
        total, trains = torch.zeros(()), {name: [] for name in self.values}
        for t in range(schedule.total):
            found = self({**feeds, "timesteps": np.array(schedule.timesteps, np.int64)})
            feeds |= {name: found[f"{name}/next"] for name in shapes}
            total = total + (torch.from_numpy(found[self.names[0]]) if t >= schedule.rehearsal else 0)
            for name, value in self.values.items():
                trains[name].append(torch.from_numpy(found[value]))
        return total / schedule.timesteps, {name: torch.stack(train) for name, train in trains.items()}


def ours(snn: Graph, x: Tensor, schedule: Schedule) -> tuple[list[Tensor], dict[str, Tensor]]:
    responses: dict[str, Tensor] = {}
    feeds = {snn.inputs[0]: x.unsqueeze(0)}
    found = run(snn, feeds, snn.outputs, schedule, observe=responses.__setitem__)
    return [found[name][0] for name in snn.outputs], responses


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor], schedule: Schedule) -> None:
    """Spike for spike; of what is a train here and its mean there, the mean."""
    assert set(found) == set(wanted)
    for name, response in wanted.items():
        if len(found[name]) == len(response):
            assert torch.equal(found[name], response), name
        else:
            mean = response[schedule.rehearsal :].sum(0, keepdim=True) / schedule.timesteps
            torch.testing.assert_close(found[name], mean, rtol=1e-6, atol=1e-6)


# Whole trains.


@pytest.mark.parametrize(
    ("asked", "schedule"),
    alternating(
        [(n, asked) for n, neuron in neuron_instances().items() for asked in {True, isinstance(neuron, CausalNeuron)}],
        SCHEDULES,
    ),
    ids=str,
)
def test_every_neuron_fires_the_same_spikes(asked: tuple[str, bool], schedule: Schedule) -> None:
    name, order_asked = asked
    snn = exact(neuron_instances()[name], order_asked=order_asked)
    host = Host(written(snn, schedule))
    fired = False
    for timesteps, batch in zip(TIMESTEPS, (1, 3, 3, 1), strict=True):
        now = dataclasses.replace(schedule, timesteps=timesteps)
        x = normal(batch, *IMAGE, seed=timesteps)
        (answer,), spikes = host.train(snn, x, timesteps)
        (wanted,), trains = ours(snn, x, now)
        assert_equal(spikes, trains, now)
        assert answer.shape == (batch, *snn.shapes["y"])
        torch.testing.assert_close(answer, wanted, rtol=1e-6, atol=1e-6)
        fired |= bool(spikes["asked"].any()) and not bool(spikes["asked"].all())
    assert fired


@pytest.mark.parametrize("kinds", [(kind,) for kind in neurons] + [tuple(neurons)], ids="+".join)
@pytest.mark.parametrize(
    ("activation", "schedule"), [*zip([spiking, sloped], SCHEDULES, strict=True)], ids=["spiking", "sloped"]
)
def test_networks_fire_the_same_spikes(
    activation: Callable[..., Callable[[Network, str], str]], kinds: tuple[str, ...], schedule: Schedule
) -> None:
    snn = random_network(len(kinds), activation(*kinds, seed=3))
    file = written(snn, schedule)
    x = normal(3, 3, 8, 8)
    found = matched(file, file.model.SerializeToString(), snn, schedule, x)
    assert found.mismatch == ""
    assert found.images == 3
    assert [layer.name for layer in found.layers] == list(snn.ops(Neuron))
    assert found.together > 99
    # And without looking inside, as somebody would use it.
    if not file.draws:
        answers, _ = Host(file).train(snn, x, 7)
        wanted, _ = ours(snn, x, dataclasses.replace(schedule, timesteps=7))
        for there, here in zip(answers, wanted, strict=True):
            assert float((there - here).norm()) <= 1e-2 * float(here.norm())


@pytest.mark.parametrize("kind", neurons)
def test_a_network_reads_as_layers_and_neurons(kind: str) -> None:
    net = Network((3, 8, 8))
    for name in ("first", "second"):
        net.conv(net.nodes[-1].name, 4)
        net.add(neurons[kind](torch.tensor([1.0])), name=name)
    file = written(net.graph(), Schedule(4))
    # Optimizers have special cases for ones.
    assert set(Host(file).train(net.graph(), normal(1, 3, 8, 8), 3)[1]) == {"first", "second"}
    model = file.model
    read = [node.op_type for node in model.graph.node if node.op_type not in ("DirectCoding", "TemporalMean", "Draws")]
    assert read == ["Conv", read[1], "Conv", read[1]]
    assert read[1].lower() in (kind.replace("-", ""), "if")
    assert {"first", "second"} & {value.name for value in model.graph.output}


def test_time_steps_need_not_be_given() -> None:
    snn = exact(neurons["if"](torch.tensor([0.7])))
    host = Host(written(snn, Schedule(5)))
    x = normal(2, *IMAGE)
    found = host({"x": x.numpy()})
    (wanted,), _ = host.train(snn, x, 5)
    assert np.array_equal(found["y"], wanted.numpy())


def test_what_is_constant_is_computed_once() -> None:
    net = Network((3, 8, 8))
    net.add(neurons["if"](torch.tensor([0.7])), net.conv("x", 4, name="layer"))
    shapes = {
        v.name: v.type.tensor_type.shape.dim[0].dim_param
        for v in written(net.graph(), Schedule(4)).model.graph.value_info
    }
    assert shapes["layer"] == "batch"
    assert shapes["layer/train"] == "steps_batch"


@pytest.mark.parametrize("schedule", SCHEDULES, ids=identifier)
@pytest.mark.parametrize("step", [False, True])
def test_outputs_may_be_anywhere_and_names_may_look_like_ours(step: bool, schedule: Schedule) -> None:
    net = Network(IMAGE)
    net.add(ops.Affine(None, normal(4, 1, 1)), "x", name="step")
    net.add(neurons["if"](torch.tensor([0.7])), name="timesteps")
    net.add(neurons["cif"](torch.tensor([0.5])), name="timesteps/train")
    net.add(ops.Affine(torch.tensor(2.0), None), "timesteps", name="y/mean")
    snn = net.graph("step", "timesteps", "timesteps/train", "y/mean")
    file = written(snn, schedule, step=step)
    assert [value.name for value in file.model.graph.output][:4] == list(snn.outputs)
    found = matched(file, file.model.SerializeToString(), snn, schedule, normal(3, *IMAGE))
    assert (found.together, found.mismatch) == (100, "")
    if not step:
        x = normal(3, *IMAGE)
        for there, here in zip(Host(file).train(snn, x, 4)[0], ours(snn, x, schedule)[0], strict=True):
            torch.testing.assert_close(there, here)


def test_random_neurons_draw_for_themselves() -> None:
    """Each layer numbers of its own; on average what ours draw."""
    net = Network((1,))
    for name in ("first", "second"):
        net.add(neurons["two-phase-probabilistic"](torch.tensor([1.0])), "x", name=name)
    snn = net.graph("first", "second")
    host = Host(written(snn, Schedule(1)), given=False)
    found = host({"x": np.full((4000, 1), 0.3, np.float32)})
    assert not np.array_equal(found["first"], found["second"])
    for name in snn.outputs:
        assert set(np.unique(found[name])) == {0, 1}
        assert abs(found[name].mean() - 0.3) < 0.03


# Single steps.


@pytest.mark.parametrize(
    ("name", "schedule"),
    alternating(
        [n for n, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)],
        [*SCHEDULES, Schedule(1, 0, 2)],
    ),
    ids=str,
)
def test_steps_one_after_another_are_the_whole_train(name: str, schedule: Schedule) -> None:
    snn = exact(neuron_instances()[name], order_asked=True)
    whole, single = (
        Host(written(snn, Schedule(9, *dataclasses.astuple(schedule)[1:3]))),
        Host(written(snn, schedule, step=True)),
    )
    for batch in (1, 3):
        x = normal(batch, *IMAGE, seed=batch)
        (wanted,), trains = whole.train(snn, x, schedule.timesteps)
        answer, spikes = single.steps(x, schedule)
        for neuron, train in trains.items():
            assert torch.equal(spikes[neuron], train), neuron
        torch.testing.assert_close(answer, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=identifier)
@pytest.mark.parametrize("kind", [kind for kind in neurons if issubclass(neurons[kind], CausalNeuron)])
def test_networks_fire_the_same_spikes_step_by_step(kind: str, schedule: Schedule) -> None:
    snn = random_network(5, sloped(kind, seed=1))
    file = written(snn, schedule, step=True)
    found = matched(file, file.model.SerializeToString(), snn, schedule, normal(3, 3, 8, 8))
    assert found.mismatch == ""
    assert found.together > 99


# What is refused.


@pytest.mark.parametrize("kind", [kind for kind in neurons if issubclass(neurons[kind], OrderFreeNeuron)])
def test_neurons_that_gather_first_have_no_step(kind: str) -> None:
    with pytest.raises(ModelError, match="@ asked") as caught:
        written(exact(neurons[kind](torch.tensor([0.7]))), Schedule(4), step=True)
    assert "--step" in caught.value.hint


def test_what_nobody_has_written_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="@ before"):
        train_model(permuted(exact(neurons["if"](torch.tensor([0.7])))), Schedule(4), {})


# The comparison.


def tampered(file: SpikingFile, constant: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    model = ModelProto()
    model.CopyFrom(file.model)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == constant)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), constant))
    return model.SerializeToString()


@pytest.mark.parametrize("step", [False, True])
def test_a_file_that_fires_otherwise_is_noticed(step: bool) -> None:
    snn = exact(neurons["cif"](torch.tensor([0.7])), order_asked=True)
    file = written(snn, Schedule(4), step=step)
    x = normal(4, *IMAGE)
    labels = torch.zeros(4, dtype=torch.long)
    right = matched(file, file.model.SerializeToString(), snn, Schedule(4), x, labels)
    assert right.mismatch == ""
    assert right.accuracy == right.accuracy_there
    data = tampered(file, "asked/scale", lambda scale: scale / np.float32(1.1))
    wrong = matched(file, data, snn, Schedule(4), x)
    assert "'asked'" in wrong.mismatch
    by_name = {layer.name: layer for layer in wrong.layers}
    # Only the layer that is wrong is blamed, but others suffer.
    assert by_name["before"].alone == by_name["after"].alone == 100
    assert by_name["after"].together < 100
    assert wrong.accuracy is None
    # All outputs are compared, not only the first.
    snn = dataclasses.replace(snn, outputs=("before", "y"))
    file = written(snn, Schedule(4), step=step)
    assert matched(file, file.model.SerializeToString(), snn, Schedule(4), x).mismatch == ""
    data = tampered(file, "y/shift", lambda shift: shift + np.float32(0.01))
    assert "outputs" in matched(file, data, snn, Schedule(4), x).mismatch


def test_a_file_that_does_not_run_is_refused() -> None:
    snn = exact(neurons["if"](torch.tensor([0.7])))
    file = written(snn, Schedule(4))
    data = tampered(file, "asked/threshold", lambda threshold: np.array(["text"]))
    with pytest.raises(VerificationError, match="refuses"):
        matched(file, data, snn, Schedule(4), normal(1, *IMAGE))


# The command.


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The example, with neurons that gather first and with neurons that do not."""
    folder = tmp_path_factory.mktemp("converted")
    found = {}
    for name, flags in {"gathering": ["--recipe", "quick"], "causal": ["--recipe", "casc", "--sleep", "4"]}.items():
        found[name] = folder / f"{name}.snn"
        data = ["--data", str(DIGITS / "calibration"), "--limit", "64", "--timesteps", "4"]
        arguments = ["convert", str(DIGITS / "model.onnx"), "-q", "-o", str(found[name]), *data, *flags, *PREPROCESSING]
        assert cli.main(arguments) == 0
    return found


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("network", "flags"), [("gathering", []), ("causal", []), ("causal", ["--step"])])
def test_the_example_is_exported_and_verified(
    network: str, flags: list[str], converted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", converted[network], "--format", "onnx", *flags, "--verify", "--data", DIGITS / "test"]
    code, out, err = call(capsys, *arguments, "-o", "m.onnx", "--timesteps", "2,4", "--json")
    assert (code, err) == (0, "")
    plain = json.loads(out)
    assert plain["files"] == ["m.onnx", str(converted[network].with_name(f"{network}.report.json"))]
    report = read(Path(plain["files"][1]))
    assert [(found.verdict, found.timesteps, found.images) for found in report.verifications[-2:]] == [
        ("passed", 2, 64),
        ("passed", 4, 64),
    ]
    assert {found.variant for found in report.verifications[-2:]} == {"one step" if flags else "whole trains"}
    assert all(found.worst_equal > 99.99 and found.accuracy_there > 90 for found in report.verifications[-2:])
    assert report.summary.images == 64
    assert [found["timesteps"] for found in plain["verified"]] == [2, 4]
    for found in plain["verified"]:
        assert (found["images"], found["agreement"]) == (64, 100)
        assert found["accuracy"] == found["accuracy_there"] > 90
        assert all(layer["alone"] > 99.99 for layer in found["layers"])
    data = Path("m.onnx").read_bytes()
    assert len(data) == plain["bytes"]
    properties = {entry.key: entry.value for entry in ModelProto.FromString(data).metadata_props}
    made = load_conversion(converted[network])
    assert json.loads(properties["snnc.schedule"]) == json.loads(json.dumps(dataclasses.asdict(made.schedule)))
    assert properties["snnc.model.sha256"] == made.provenance.model.sha256
    assert properties["snnc.calibration.sha256"] == made.provenance.calibration.sha256
    assert properties["snnc.kind"] == ("step" if flags else "train")
    assert str(tmp_path).encode() not in data
    # Again, for people, on noise: the same bytes.
    code, out, err = call(capsys, *arguments[:-2], "-o", "n.onnx", "--limit", 5)
    assert (code, err) == (0, "")
    assert "T=4, 5 images" in out
    assert "written: n.onnx, " in out
    assert Path("n.onnx").read_bytes() == data


def test_what_was_asked_in_vain_is_refused_before_any_work(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for code, place, arguments in (
        (2, "--output", [converted["causal"]]),
        (2, "--verify", [converted["causal"], "-o", "m.onnx", "--data", DIGITS / "test"]),
        (2, "--verify", [converted["causal"], "-o", "m.onnx", "--timesteps", "4"]),
        (2, "--timesteps", [converted["causal"], "-o", "m.onnx", "--verify", "--timesteps", "0"]),
        (2, "overwrite", [converted["causal"], "-o", converted["causal"]]),
        (3, "Relu", [converted["gathering"], "-o", "m.onnx", "--step"]),
        (5, "nowhere", [converted["causal"], "-o", "nowhere/m.onnx"]),
        (5, "nothing", [converted["causal"], "-o", "m.onnx", "--verify", "--data", "nothing"]),
    ):
        found, out, err = call(capsys, "export", *arguments)
        assert (found, out, err.count("\n")) == (code, "", 2), err
        assert place in err
        assert "\nhint:  " in err
    assert not list(Path.cwd().iterdir())


def test_a_mismatch_exits_with_6_and_writes_nothing(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(made: Conversion, **options: Any) -> SpikingFile:
        file = spiking_file(made, **options)
        data = tampered(file, "Relu_1/scale", lambda scale: scale / np.float32(1.3))
        return dataclasses.replace(file, model=ModelProto.FromString(data))

    monkeypatch.setattr("snnc.formats.onnx.spiking.spiking_file", wrong)
    code, out, err = call(capsys, "export", converted["causal"], "-o", "m.onnx", "--verify")
    assert code == 6
    assert "Relu_1" in out
    (found,) = read(converted["causal"].with_name("causal.report.json")).verifications[-1:]
    assert found.verdict == "failed" and "Relu_1" in found.remark
    assert err.startswith("error: another engine differs: layer 'Relu_1'")
    assert "T=4" in err
    assert not list(Path.cwd().iterdir())


def test_a_stripped_network_is_exported_too(converted: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    save_conversion(dataclasses.replace(load_conversion(converted["causal"]), reference=None), Path("bare.snn"))
    code, out, _ = call(capsys, "export", "-o", "bare.onnx")
    assert code == 0
    assert out.startswith("written: bare.onnx")


def test_what_was_never_calibrated_is_exported_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "convert", DIGITS / "model.onnx", "-o", "bare.snn", "--recipe", "quick")[0] == 0
    code, out, _ = call(capsys, "export", "bare.snn", "-o", "m.onnx")
    assert code == 0 and "warning: " in out and "snnc calibrate" in out
    code, out, _ = call(capsys, "export", "bare.snn", "-o", "m.onnx", "--json")
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["uncalibrated"]
    code, _, err = call(capsys, "export", "bare.snn", "-o", "m.onnx", "--strict")
    assert code == 4 and "uncalibrated" in err


@pytest.mark.parametrize(("failure", "code"), [(OSError(28, "No space left on device"), 5), (KeyboardInterrupt(), 130)])
def test_an_export_that_is_interrupted_leaves_no_file(
    failure: BaseException,
    code: int,
    converted: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(descriptor: int) -> None:
        raise failure

    Path("m.onnx").write_bytes(b"the last one")
    monkeypatch.setattr("os.fsync", fail)
    found, _, err = call(capsys, "export", converted["causal"], "-o", "m.onnx")
    assert found == code and err.count("\n") == {5: 2, 130: 1}[code]
    assert [path.name for path in Path.cwd().iterdir()] == ["m.onnx"]
    assert Path("m.onnx").read_bytes() == b"the last one"


def test_a_folder_that_cannot_be_written_to_and_an_unknown_format_are_refused_at_once(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    code, _, err = call(capsys, "export", converted["causal"], "-o", "m.onnx")
    assert code == 5 and "no permission" in err and "m.onnx" in err
    code, _, err = call(capsys, "export", converted["causal"], "-o", "m.h5", "--format", "hdf5")
    assert code == 2 and "'onnx'" in err and "hint: " in err
    code, _, err = call(capsys, "convert", DIGITS / "model.onnx", "--export", "hdf5")
    assert code == 2 and "'onnx'" in err


def test_converting_and_exporting_in_one_go_is_both(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", DIGITS / "calibration", "--limit", "64", "--timesteps", "4", "--recipe", "quick", *PREPROCESSING]
    code, out, _ = call(capsys, "convert", DIGITS / "model.onnx", *data, "--export", "onnx")
    assert code == 0 and "written: model.snn, model.report.json, model.spiking.onnx" in out
    assert Path("model.snn").read_bytes() == converted["gathering"].read_bytes()
    (found,) = read(Path("model.report.json")).verifications
    assert (found.format, found.verdict, found.images) == ("onnx", "passed", 64)
    assert call(capsys, "export", converted["gathering"], "-o", "m.onnx")[0] == 0
    assert Path("m.onnx").read_bytes() == Path("model.spiking.onnx").read_bytes()


def test_a_conversion_is_kept_whose_export_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Onnxruntime, "tolerance", Bounds(101.0, 1e-4, "spikes"))
    code, out, err = call(capsys, "convert", DIGITS / "model.onnx", "--recipe", "quick", "--export", "onnx")
    assert code == 6 and "the export was not written" in err and "written: model.snn, model.report.json" in out
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["model.report.json", "model.snn"]
    (found,) = read(Path("model.report.json")).verifications
    assert found.verdict == "failed" and found.noise


def test_an_engine_that_answers_no_numbers_is_a_mismatch(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Onnxruntime.answer

    def broken(*arguments: typing.Any) -> typing.Any:
        outputs, spikes = answer(*arguments)
        return {name: output * torch.nan for name, output in outputs.items()}, spikes

    monkeypatch.setattr(Onnxruntime, "answer", broken)
    for flags in ([], ["--json"]):
        code, _, err = call(capsys, "export", converted["causal"], "-o", "m.onnx", "--verify", *flags)
        assert code == 6 and "outputs differ" in err
    (found,) = read(converted["causal"].with_name("causal.report.json")).verifications[-1:]
    assert found.output_error is None and found.verdict == "failed"


@pytest.mark.parametrize("flags", [["--limit", "0"], ["--limit", "-3"], ["--seed", "-1"], ["--seed", "9" * 23]])
def test_numbers_that_make_no_sense_are_refused(
    flags: list[str], converted: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "export", converted["causal"], "-o", "m.onnx", "--verify", *flags)
    assert code == 2 and flags[0] in err


def test_what_a_format_cannot_say_is_refused_before_images_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nir", reason="needs the extra snnc[nir]")
    Path("broken").mkdir()
    Path("broken/image.png").write_bytes(b"no image")
    data = ["--data", "broken", "--recipe", "quick", *PREPROCESSING]
    for flags in ([], ["--dry-run"]):
        code, _, err = call(capsys, "convert", DIGITS / "model.onnx", *data, "--export", "nir", *flags)
        assert code == 3 and "--recipe nir" in err
    assert [path.name for path in Path.cwd().iterdir()] == ["broken"]


# Numbers of other kinds.


@pytest.mark.parametrize("step", [False, True])
def test_integers_and_pixels_go_in_as_what_they_are(step: bool) -> None:
    table = ops.Linear(normal(6, 5), normal(6))
    nodes = [
        Node("ids", Input((4,), "integer", 9), ()),
        Node("image", Input((4,), "pixel"), ()),
        Node("real", Input((4,)), ()),
        Node("scaled", ops.Affine(torch.tensor(1 / 255), None), ("image",)),
        Node("sum", ops.Add(), ("ids", "scaled", "real")),
        Node("wide", ops.Pad((0, 1)), ("sum",)),
        Node("current", table, ("wide",)),
        Node("fired", DualThreshold(torch.tensor(0.7)), ("current",)),
        Node("y", ops.Linear(normal(3, 6), None), ("fired",)),
    ]
    made = conversion(Graph.of(nodes, ["y"]), Schedule(5))
    how = OnnxFormat(step=step)
    written = how.write(made)
    kinds = [entry.type.tensor_type.elem_type for entry in written.file.model.graph.input[:3]]
    assert kinds == [TensorProto.INT64, TensorProto.UINT8, TensorProto.FLOAT]
    (engine,) = how.engines(written, made)
    found = verify(made, written, engine, noise(made.snn.ops(Input), 20, 0))
    assert (found.verdict, found.equal) == ("passed", 100.0)
