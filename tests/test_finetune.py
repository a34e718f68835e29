"""Fine-tuning with labels: what it starts from, what it ends with, and that it can be stopped, shared and resumed."""

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import snnc
from snnc import cli, ops, pipeline, recipe, states
from snnc.actions import finetune as finetune_action
from snnc.actions.finetune import Tuned
from snnc.artifact import load_conversion
from snnc.conversion import Tuning
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, MemorySamples
from snnc.data.store import FeedsStore
from snnc.errors import DataError, ModelError, PreconditionError, StoppedError, UsageError
from snnc.feeds import Feeds
from snnc.formats.onnx import onnx_model
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.processes import ALONE, Processes
from snnc.recipe import Recipe
from snnc.report.data import read as read_report
from snnc.tasks.classification import Classification
from snnc.tasks.embedding import Embedding
from snnc.tasks.segmentation import Segmentation
from snnc.tasks.values import Values
from snnc.training import trainer
from snnc.training.checkpoint import load
from snnc.training.drawing import complete, drawn, passing_on, whitened
from snnc.training.settings import Training
from snnc.training.trainer import Labeled, Noise
from snnc.training.variation import Variation
from tests.support import Network, normal, operations, outputs, run

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
SHORT = Training(epochs=3, batch_size=48, augment=("crop",), learning_rate=2e-3)


def how(training: Training = SHORT, timesteps: int = 2, name: str = "quick") -> Recipe:
    return dataclasses.replace(recipe.load(name, timesteps=timesteps), training=training)


def tuned(training: Training = SHORT, **options: object) -> Tuned:
    made = how(training, options.pop("timesteps", 2))  # type: ignore[arg-type]
    data = options.pop("data", DIGITS / "test")
    return finetune_action.finetune(
        DIGITS / "model.onnx",
        made,
        data=data,  # type: ignore[arg-type]
        preprocessing=PREPROCESSING,
        **options,  # type: ignore[arg-type]
    )


def same(one: Tuned, other: Tuned) -> bool:
    tensors = [[t for node in r.graph.nodes.values() for t in node.op.tensors().values()] for r in (one, other)]
    return len(tensors[0]) == len(tensors[1]) and all(map(torch.equal, *tensors)) and one.history == other.history


# What it does.


@pytest.mark.parametrize("activation", ["clip", "qcfs", "noisy-qcfs", "cqrelu"])
def test_training_lowers_the_loss_and_keeps_its_activations(activation: str) -> None:
    settings = dataclasses.replace(SHORT, activation=activation, epochs=4)  # type: ignore[arg-type]
    result = tuned(settings, timesteps=3, reading=Reading(limit=200))
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.8 * losses[0]
    assert result.score == max(row["held_out_accuracy"] for row in result.history)
    assert result.score >= 90
    kind = ops.ClippedRelu if activation == "clip" else ops.QuantizedRelu
    found = result.graph.ops(kind)
    assert found and not result.graph.ops(ops.Relu)
    for op in found.values():
        if isinstance(op, ops.QuantizedRelu):
            assert op.levels == 3
            assert float(op.potential) == (0 if activation == "cqrelu" else 0.5)
    assert ("noise" in result.history[-1]) == (activation == "noisy-qcfs")
    assert result.samples + result.held_out == 200


def test_thresholds_learn_unless_their_range_is_fixed() -> None:
    read = pipeline.read_trained(DIGITS / "model.onnx").graph
    few = Reading(limit=100)
    samples = DatasetSamples(open_dataset(DIGITS / "test", PREPROCESSING, read.input_shapes, few), few, "")
    for activation, per in (("qcfs", "channel"), ("qcfs", "layer"), ("cqrelu", "channel")):
        settings = dataclasses.replace(SHORT, activation=activation, epochs=1)  # type: ignore[arg-type]
        per_layer = recipe.override(how(settings), overrides=[f"passes.calibrate-thresholds.per={per}"])
        start = finetune_action.starting(read, per_layer, samples, pipeline.silent)
        result = finetune_action.finetune(
            DIGITS / "model.onnx", per_layer, data=DIGITS / "test", preprocessing=PREPROCESSING, reading=few
        )
        for name, before in start.ops(ops.QuantizedRelu).items():
            after = result.graph.op(name)
            assert isinstance(after, ops.QuantizedRelu)
            assert after.ceiling.shape == before.ceiling.shape
            assert (before.ceiling.numel() == 1) == (per == "layer")
            assert torch.allclose(after.ceiling, before.ceiling, rtol=1e-5) == (activation == "cqrelu")
        assert set(start.ops(ops.BatchNorm)) == set(read.ops(ops.BatchNorm)), "folded after the training only"
        assert not result.graph.ops(ops.BatchNorm)


def test_batch_normalization_is_trained_or_left_alone() -> None:
    read = pipeline.read_trained(DIGITS / "model.onnx").graph
    assert read.ops(ops.BatchNorm)
    for kind in ("trainable", "frozen"):
        settings = dataclasses.replace(SHORT, batch_norm=kind, fold=False, epochs=1)  # type: ignore[arg-type]
        result = tuned(settings, reading=Reading(limit=100))
        for name, before in read.ops(ops.BatchNorm).items():
            after = result.graph.op(name)
            assert isinstance(after, ops.BatchNorm)
            assert torch.equal(after.mean, before.mean) == (kind == "frozen")
            assert torch.equal(after.scale, before.scale) == (kind == "frozen")


def test_options_change_the_training() -> None:
    few, short = Reading(limit=30), dataclasses.replace(SHORT, epochs=1, batch_size=10)
    plain = tuned(short, reading=few)
    assert same(plain, tuned(short, reading=few))
    for change in (
        {"optimizer": "sgd"},
        {"distillation": 0.5},
        {"features": 0.5},
        {"seed": 1},
        {"augment": ()},
        {"augment": ("flip", "cutout")},
        {"threshold_rate": 0.0},
        {"weight_decay": 0.5},
        {"warm_up": 0.5},
        {"levels": 5},
        {"precision": "bfloat16"},
        {"label_smoothing": 0.2},
        {"batch_norm": "shifts"},
        {"shift_rate": 0.0},
    ):
        other = tuned(dataclasses.replace(short, **change), reading=few)  # type: ignore[arg-type]
        assert not same(plain, other), change


@pytest.fixture(scope="module")
def tuned_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tuned") / "tuned.onnx"
    file.write_bytes(onnx_model(tuned().graph).SerializeToString())
    return file


@pytest.mark.parametrize("neuron", ["two-phase", "cif"])
def test_a_tuned_network_converts_without_further_loss(neuron: str, tuned_file: Path) -> None:
    made, _ = snnc.convert(
        tuned_file,
        recipe.load("casc" if neuron == "cif" else "default", timesteps=2),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=Reading(limit=24),
    )
    assert {op.levels for op in made.reference.ops(ops.QuantizedRelu).values()} == {2}  # type: ignore[union-attr]
    images = torch.cat(
        [
            feeds["x"]
            for feeds in open_dataset(DIGITS / "test", PREPROCESSING, {"x": (1, 8, 8)}, Reading(limit=100)).batches()
        ]
    ).double()
    answers = []
    for graph, schedule in ((made.reference, None), (made.snn, made.schedule)):
        assert graph is not None
        exactly = graph.map_tensors(lambda tensor: tensor.double())
        feeds = {graph.inputs[0]: images[None]}
        found = run(exactly, feeds, graph.outputs, *([schedule] if schedule else []))
        answers.append(found[graph.outputs[0]][0].argmax(1))
    assert torch.equal(*answers)
    assert made.snn.ops(Neuron)


def test_a_training_that_ruins_keeps_its_start_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = str(DIGITS / "model.onnx"), ("--data", str(DIGITS / "test"), "--limit", "100")
    how = ("--recipe", "quick", "--timesteps", "2", "--set", "training.augment=[]", "--epochs", "1")
    ruinous = ("--learning-rate", "30", "--set", "training.warm-up=0", "--mean", "0.31", "--std", "0.38")
    command = ["finetune", model, *data, *how, *ruinous, "--channels", "gray", "-o", "t.onnx", "--json"]
    assert cli.main([*command, "--strict"]) == 4
    told = capsys.readouterr()
    training = json.loads(told.out)["training"]
    assert "--strict: warnings (start-kept)" in told.err
    (found,) = (finding for finding in training["findings"] if finding["code"] == "start-kept")
    assert f"({training['score']:.2f} % accuracy; before quantization {training['before']:.2f} %)" in found["message"]
    assert training["score"] > training["history"][0]["held_out_accuracy"]
    # What was written computes with the weights of the start.
    read = pipeline.read_trained(tmp_path / "t.onnx")
    before = pipeline.read_trained(DIGITS / "model.onnx")
    assert read.tuned_from is not None
    assert (read.tuned_from.file, read.tuned_from.sha256) == ("model.onnx", before.file.sha256)
    assert (read.tuned_from.before, read.tuned_from.after) == (training["before"], training["score"])
    assert cli.main(command) == 0


def test_what_fine_tuning_lost_is_lost_of_the_network_that_the_user_brought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main(list(arguments)), *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    original = pipeline.read_trained(DIGITS / "model.onnx")
    tuning = Tuning("model.onnx", original.file.sha256, "accuracy", 80.56, 8.33, 36)
    ruined = original.graph.map_tensors(torch.zeros_like)
    file = onnx_model(ruined, properties={pipeline.TUNED_FROM: json.dumps(dataclasses.asdict(tuning))})
    Path("ruined.onnx").write_bytes(file.SerializeToString())
    how = ("--mean", "0.31", "--std", "0.38", "--channels", "gray", "--timesteps", "2", "--recipe", "quick")
    assert call("convert", "ruined.onnx", "--data", str(DIGITS / "calibration"), "--limit", "24", *how)[0] == 0
    made = load_conversion("ruined.snn")
    assert made.provenance.tuned_from == tuning
    data = ("evaluate", "ruined.snn", "--data", str(DIGITS / "test"), "--limit", "60")
    # Not there: no limit on what is lost can be judged, and all figures are said to be of the tuned network.
    code, _, error = call(*data, "--max-drop", "5")
    assert (
        code == 5 and "--max-drop cannot be judged: compared with the fine-tuned network, not with model.onnx" in error
    )
    assert "(80.56 % accuracy on 36 samples held out; tuned 8.33 %)" in error and "--reference model.onnx" in error
    _, out, _ = call(*data, "--json")
    assert "original-missing" in {finding["code"] for finding in json.loads(out)["findings"]}
    # Found beside, or named.
    for more in ((), ("--reference", str(DIGITS / "model.onnx"))):
        if not more:
            shutil.copy(DIGITS / "model.onnx", tmp_path)
        page = ("--markdown", "r.md") if more else ()
        code, out, error = call(*data, "--max-drop", "5", *more, *page)
        assert code == 4 and "gate failed: max-drop at T=2: measured " in error
        assert "; fine-tuned it has " in out and (not page or ", fine-tuned " in Path("r.md").read_text())
        report = read_report(Path("ruined.report.json"))
        assert report.evaluation is not None and report.headline is not None
        assert report.evaluation.compared_with == "model.onnx"
        assert report.evaluation.reference["accuracy"] > 90 > 30 > report.evaluation.tuned["accuracy"]
        assert report.headline.drop == report.evaluation.reference["accuracy"] - (report.headline.accuracy or 0.0)
        (tmp_path / "model.onnx").unlink(missing_ok=True)
    # Another network of that name is not meant, and one that takes something else is refused.
    Path("model.onnx").write_bytes(b"other")
    assert call(*data, "--max-drop", "5")[0] == 5
    code, _, error = call(*data, "--reference", str(perceptron(tmp_path)))
    assert code == 3 and "takes and gives something else than the network that is compared" in error
    code, _, error = call("convert", "ruined.onnx", "--reference", "model.onnx")
    assert code == 2 and "invalid value 'model.onnx' @ --reference" in error


def test_a_file_that_does_not_say_well_what_it_was_is_refused(tmp_path: Path) -> None:
    graph = pipeline.read_trained(DIGITS / "model.onnx").graph
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(graph, properties={pipeline.TUNED_FROM: '{"file": 3}'}).SerializeToString())
    with pytest.raises(ModelError, match="does not say well what it was fine-tuned from"):
        pipeline.read_trained(path)


# Noise.


def test_noise_is_as_strong_as_asked_and_shared_among_processes() -> None:
    value = torch.zeros(8, 4000)
    whole = Noise(ALONE, torch.device("cpu"))
    whole.strengths = {"a": 0.3}
    whole.reseed(5)
    drawn = whole("a", value)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.02)
    assert whole("b", value) is value
    parts = []
    for rank in range(2):
        part = Noise(Processes(rank, 2), torch.device("cpu"))
        part.strengths = {"a": 0.3}
        part.reseed(5)
        parts.append(part("a", value[:4]))
    assert torch.equal(torch.cat(parts), drawn)


def test_the_noise_is_the_residual_of_spiking_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []
    finish = trainer.Trainer._finish

    def watched(self: trainer.Trainer, epoch: int, step: int) -> None:
        seen.append(dict(self._noise.strengths))
        finish(self, epoch, step)

    monkeypatch.setattr(trainer.Trainer, "_finish", watched)
    settings = dataclasses.replace(SHORT, activation="noisy-qcfs", epochs=2, learning_rate=1e-9, batch_size=20)
    few = Reading(limit=50)
    result = tuned(settings, reading=few)
    assert not seen[0], "none in the first epoch"
    names = list(result.graph.ops(ops.QuantizedRelu))
    assert set(seen[1]) == set(names)
    exact = tuned(dataclasses.replace(settings, noise_steps=2), reading=few).history
    longer = tuned(dataclasses.replace(settings, noise_steps=8), reading=few).history
    assert 0 < exact[-1]["noise"] != longer[-1]["noise"] > 0
    other = tuned(dataclasses.replace(settings, noise_steps=8, noise_neuron="dual-threshold"), reading=few).history
    assert 0 < other[-1]["noise"] != longer[-1]["noise"]


# Images.


def varied(
    kinds: tuple[str, ...], shape: tuple[int, ...], preprocessing: Preprocessing
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    vary = Variation(kinds, {"x": shape}, preprocessing)  # type: ignore[arg-type]
    return lambda images, seed: vary(Feeds({"x": images}), seed)["x"]


@pytest.mark.parametrize(
    "kinds", [("crop",), ("translate",), ("flip",), ("cutout",), ("autoaugment",), ("crop", "flip", "cutout")]
)
@pytest.mark.parametrize("last", [False, True])
def test_images_are_varied_by_the_seed_alone(kinds: tuple[str, ...], last: bool) -> None:
    shape = (16, 12, 3) if last else (3, 16, 12)
    layout = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2,), layout="nhwc" if last else "nchw")
    vary = varied(kinds, shape, layout)
    images = normal(20, *shape)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, again, other = vary(images, 1), vary(images, 1), vary(images, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.shape == images.shape and bool(one.isfinite().all())
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert not torch.equal(one, images)


def test_what_a_crop_adds_is_black() -> None:
    vary = varied(("crop",), (1, 8, 8), Preprocessing(mean=(0.5,), std=(0.25,)))
    found = vary(torch.zeros(200, 1, 8, 8), 0)
    assert sorted({round(v, 4) for v in found.flatten().tolist()}) == [-2.0, 0.0]


def test_what_is_moved_is_mirrored_at_the_border() -> None:
    vary = varied(("translate",), (1, 16, 16), Preprocessing())
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(200, 1, 16, 16)
    found = vary(ramp, 0)[:, 0, 0]
    assert {tuple(row.round().int().tolist()) for row in found} == {
        (1, *range(15)),
        tuple(range(16)),
        (*range(1, 16), 14),
    }


def test_what_cannot_be_varied_is_refused() -> None:
    with pytest.raises(UsageError, match="no images"):
        varied(("crop",), (12,), Preprocessing())
    with pytest.raises(UsageError, match="colors"):
        varied(("autoaugment",), (1, 8, 8), Preprocessing())
    shapes = {"x": (3, 8, 8), "mask": (1, 8, 8)}
    with pytest.raises(UsageError, match="several inputs: x, mask"):
        Variation(("crop",), shapes, Preprocessing())
    feeds = Feeds({"x": normal(5, 3, 8, 8)})
    assert Variation((), shapes, Preprocessing())(feeds, 0) is feeds


@pytest.mark.parametrize("reference", ["frames", "sum"])
def test_frames_are_trained_on_as_the_network_sees_them(reference: str, tmp_path: Path) -> None:
    dataset = open_dataset(DIGITS / "test", PREPROCESSING, {"x": (1, 8, 8)}, Reading(limit=100))
    (images,) = dataset.batches(Reading(100))
    labels = dataset.labels("classes")
    assert labels is not None
    results = []
    for count in (0, 1, 2):
        x = images["x"] if count == 0 else images["x"].unsqueeze(1) * torch.linspace(1, 2, count).view(-1, 1, 1, 1)
        np.savez(tmp_path / "a.npz", x=x.numpy(), y=labels.answers.numpy())
        results.append(
            finetune_action.finetune(
                DIGITS / "model.onnx",
                how(),
                data=tmp_path / "a.npz",
                preprocessing=Preprocessing(reference=reference),  # type: ignore[arg-type]
            )
        )
    still, one, two = results
    assert same(still, one)
    assert two.samples + two.held_out == (200 if reference == "frames" else 100)
    assert not same(one, two)


def test_images_are_varied_alike_whatever_pixels_became() -> None:
    pixels = torch.rand(16, 3, 12, 12)
    changes = ("flip", "autoaugment", "cutout")
    plain = varied(changes, (3, 12, 12), Preprocessing())(pixels, 4)
    assert not torch.equal(plain, pixels)
    large = varied(changes, (3, 12, 12), Preprocessing(scale=1.0, mean=(100.0,), std=(50.0,)))
    torch.testing.assert_close((large((pixels * 255 - 100) / 50, 4) * 50 + 100) / 255, plain, rtol=0, atol=1e-4)
    reversed_ = varied(changes, (3, 12, 12), Preprocessing(channels="bgr"))
    torch.testing.assert_close(reversed_(pixels.flip(1), 4).flip(1), plain)


# Held out.


def arrays(folder: Path, labels: list[int]) -> Path:
    path = folder / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 255, (len(labels), 8, 8, 1), dtype=np.uint8), y=np.asarray(labels))
    return path


def test_a_tenth_of_every_class_is_held_out(tmp_path: Path) -> None:
    labels = [0] * 40 + [1] * 25 + [2] * 2
    dataset = open_dataset(arrays(tmp_path, labels), PREPROCESSING, {"x": (1, 8, 8)})
    training, held_out = finetune_action.split_dataset(dataset, Training(seed=0), Classification())
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(67))
    assert np.bincount([labels[i] for i in held_out]).tolist() == [4, 2, 1]
    assert not torch.equal(held_out, finetune_action.split_dataset(dataset, Training(seed=1), Classification())[1])
    _, half = finetune_action.split_dataset(dataset, Training(held_out=0.5), Classification())
    assert np.bincount([labels[i] for i in half]).tolist() == [20, 12, 1]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([3] * 30, "all images have the label 3"), ([0] * 20 + [1] * 20 + [2], "the label 2 has one image")],
)
def test_labels_that_do_not_suffice_are_refused(labels: list[int], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        tuned(data=arrays(tmp_path, labels))


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(DataError, match="needs labels"):
        tuned(data=DIGITS / "calibration")


def test_a_recipe_without_training_is_refused() -> None:
    with pytest.raises(UsageError, match="says nothing of training"):
        finetune_action.finetune(DIGITS / "model.onnx", recipe.load("quick"), data=DIGITS / "test")


# From scratch.


def test_a_network_is_trained_from_scratch(tmp_path: Path) -> None:
    shipped = recipe.load("from-scratch").training
    assert shipped is not None
    plain = {"augment": (), "held_out": 0.1, "label_smoothing": 0.0}
    settings = dataclasses.replace(shipped, epochs=8, batch_size=32, **plain)  # type: ignore[arg-type]
    result = tuned(settings)
    read = pipeline.read_trained(DIGITS / "model.onnx").graph
    assert result.score is not None and result.score >= 90
    assert result.history[0]["loss"] > 1.5 > 1 > result.history[-1]["loss"], "the trained one would lose less"
    assert result.before is None and result.origin is None and "from scratch" in repr(result)
    # The same layers, ReLUs and normalizations, of which none is quantized.
    assert [type(node.op) for node in result.graph.nodes.values()] == [type(node.op) for node in read.nodes.values()]
    result.save(tmp_path / "own.onnx")
    assert pipeline.read_trained(tmp_path / "own.onnx").tuned_from is None
    qcfs = dataclasses.replace(settings, activation="qcfs", epochs=1)
    assert tuned(qcfs).graph.ops(ops.QuantizedRelu)


@pytest.mark.parametrize("name", [name for name, (op, _) in operations().items() if isinstance(op, ops.Weighted)])
def test_of_a_layer_that_is_drawn_only_its_shape_counts(name: str) -> None:
    op, (shape, *_) = operations()[name]
    assert isinstance(op, ops.Weighted)
    net = Network(shape)
    net.add(op, "x", name="one")
    net.add(dataclasses.replace(op), "x", name="other")
    network = net.graph()
    one, other = drawn(network, 0), drawn(network.map_tensors(torch.zeros_like), 0)
    layers = [made.op(layer) for made in (one, other) for layer in ("one", "other")]
    for layer in layers:
        assert isinstance(layer, ops.Weighted)
        assert torch.equal(layer.weight, layers[0].weight), "what layers share they still share"  # type: ignore[attr-defined]
        assert layer.weight.shape == op.weight.shape and layer.weight.dtype == op.weight.dtype
        assert layer.bias is None if op.bias is None else not layer.bias.any()  # type: ignore[union-attr]
    assert not torch.equal(drawn(network, 1).op("one").weight, layers[0].weight)  # type: ignore[attr-defined]


def test_what_is_drawn_keeps_the_size_of_currents() -> None:
    net = Network((64, 16, 16))
    net.add(ops.Conv(normal(96, 32, 3, 3), None, (1, 1), (0,) * 4, (1, 1), 2), "x", name="conv")
    net.add(ops.Relu(), "conv")
    (answer,) = outputs(drawn(net.graph(), 0), normal(8, 64, 16, 16))
    # A ReLU takes half of the mean square: what came in has 1.
    assert float(answer.square().mean()) == pytest.approx(1, rel=0.1)


def convolutions(batch_norm: bool = False) -> Graph:
    """Convolutions: one that sees the input, one behind it, one of two groups, two that share weights, the last one."""
    net = Network((3, 8, 8))
    net.add(ops.Conv(normal(60, 3, 3, 3), normal(60), (1, 1), (1,) * 4, (1, 1)), "x", name="first")
    if batch_norm:
        net.add(ops.BatchNorm(*(torch.ones(60),) * 4, 1e-5), "first", name="norm")
    net.add(ops.Relu(), "norm" if batch_norm else "first", name="relu")
    net.add(ops.Conv(normal(24, 60, 4, 4), None, (2, 2), (1,) * 4, (1, 1)), "relu", name="second")
    net.add(ops.Conv(normal(24, 12, 3, 3), None, (1, 1), (1,) * 4, (1, 1), 2), "second", name="groups")
    shared = normal(24, 24, 3, 3)
    net.add(ops.Conv(shared, None, (1, 1), (1,) * 4, (1, 1)), "groups", name="one")
    net.add(ops.Conv(shared, None, (1, 1), (1,) * 4, (1, 1)), "one", name="other")
    net.add(ops.Conv(normal(5, 24, 1, 1), None, (1, 1), (0,) * 4, (1, 1)), "other", name="last")
    return drawn(net.graph(), 0)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutions_begin_by_passing_on_what_comes_in(batch_norm: bool) -> None:
    before = convolutions(batch_norm)
    graph = passing_on(before)
    for name in ("groups", "one", "other", "last"):
        assert graph.op(name) is before.op(name)
    x, wide = normal(5, 3, 8, 8), normal(5, 60, 8, 8)
    # As large as what is drawn where that is normalized.
    gain = 2**0.5 if batch_norm else 1
    assert torch.allclose(graph.op("first")(x)[:, :3], gain * x, atol=1e-5)
    # Of an even window both in the middle count; those in front and behind are borders.
    means = torch.nn.functional.avg_pool2d(wide, 2)[:, :24]
    assert torch.allclose(graph.op("second")(wide)[:, :24], means, atol=1e-5)
    kept = before.op("first").weight[3:]  # type: ignore[attr-defined]
    assert torch.equal(graph.op("first").weight[3:], kept)  # type: ignore[attr-defined]


@pytest.mark.parametrize("channels", [40, 54, 60])
def test_first_convolutions_whiten_what_they_see(channels: int) -> None:
    graph = convolutions()
    narrow = dataclasses.replace(graph.op("first"), weight=normal(channels, 3, 3, 3), bias=normal(channels))  # type: ignore[call-arg]
    net = Network((3, 8, 8))
    net.add(narrow, "x", name="first")
    graph = net.graph()
    # Channels that say much the same, and pixels that follow their neighbors.
    shades = torch.nn.functional.avg_pool2d(normal(400, 1, 10, 10), 3, 1)
    images = 0.5 + shades + 0.1 * normal(400, 3, 8, 8)
    ((name, layer),) = whitened(graph, Feeds({"x": images}).split(100)).items()
    assert name == "first" and layer.weight.shape == (channels, 3, 3, 3) and layer.bias is None
    assert complete(layer) is (channels == 54)
    signed = min(channels, 54)
    found = layer(images).double().movedim(1, 0).flatten(1)[:signed]
    assert torch.allclose(found[::2], -found[1::2]), "every direction has both signs"
    moments = found[::2] @ found[::2].T / found.shape[1]
    assert torch.allclose(moments, torch.eye(signed // 2).double(), atol=0.05)
    assert torch.equal(layer.weight[signed:], narrow.weight[signed:]), "the rest is drawn"  # type: ignore[attr-defined]
    drawn_like = narrow(images).double().movedim(1, 0).flatten(1)
    assert not torch.allclose(drawn_like @ drawn_like.T / drawn_like.shape[1], torch.eye(channels).double(), atol=0.5)


def test_only_first_convolutions_that_see_what_training_shows_them_are_whitened() -> None:
    images = Feeds({"x": normal(20, 3, 8, 8)})
    assert [*whitened(convolutions(), [images])] == ["first"]
    nothing = Feeds({"x": torch.zeros(20, 3, 8, 8)})
    assert not whitened(convolutions(), [nothing])
    net = Network((3, 8, 8))
    net.add(ops.BatchNorm(*(torch.ones(3),) * 4, 1e-5), "x", name="norm")
    net.add(ops.Conv(normal(54, 3, 3, 3), None, (1, 1), (1,) * 4, (1, 1)), "norm")
    assert not whitened(net.graph(), [images]), "by which statistics is not known before"


@pytest.mark.parametrize(("shape", "spatial"), [((3, 12), 1), ((4, 3, 8, 8), 2), ((3, 5, 6, 7), 3)])
def test_convolutions_of_any_axes_are_whitened(shape: tuple[int, ...], spatial: int) -> None:
    net = Network(shape)
    kernel = normal(16, 3, *(2,) * spatial)
    net.add(ops.Conv(kernel, None, (1,) * spatial, (0,) * 2 * spatial, (1,) * spatial), "x", name="conv")
    images = normal(60, *shape)
    (layer,) = whitened(net.graph(), [Feeds({"x": images})]).values()
    answer = layer(images)
    found = answer.movedim(answer.ndim - spatial - 1, 0).flatten(1).double()[: 2 * 3 * 2**spatial : 2]
    assert torch.allclose(found @ found.T / found.shape[1], torch.eye(len(found)).double(), atol=0.1)


@pytest.mark.parametrize(("channels", "stays"), [(8, True), (9, False)])
def test_layers_that_are_whitened_as_a_whole_stay_as_they_are(channels: int, stays: bool, tmp_path: Path) -> None:
    shipped = recipe.load("from-scratch").training
    assert shipped is not None and shipped.initialization == ("whitened", "identity")
    net = Network((1, 8, 8))
    net.add(ops.Conv(normal(channels, 1, 2, 2), None, (1, 1), (0,) * 4, (1, 1)), "x", name="conv")
    net.add(ops.Relu(), "conv", name="relu")
    net.add(ops.Reshape((channels * 49,)), "relu", name="flat")
    net.add(ops.Linear(normal(10, channels * 49), None), "flat", name="linear")
    (tmp_path / "model.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    kernels, rows = [], []
    for epochs in (1, 2):
        settings = dataclasses.replace(shipped, batch_size=32, epochs=epochs, augment=(), held_out=0.1)
        model, data = tmp_path / "model.onnx", {"data": DIGITS / "test", "reading": Reading(limit=200)}
        graph = finetune_action.finetune(model, how(settings), preprocessing=PREPROCESSING, **data).graph  # type: ignore[arg-type]
        kernels += [layer.weight for layer in graph.ops(ops.Conv).values()]
        rows += [layer.weight for layer in graph.ops(ops.Linear).values()]
    assert torch.equal(*kernels) is stays and not torch.equal(*rows)
    found = kernels[0][:8].flatten(1)
    assert torch.allclose(found[::2], -found[1::2]) is stays
    if stays:
        # What the data shows has four directions.
        assert torch.linalg.matrix_rank(found) == 4 and found.norm(dim=1).max() > 2 * found.norm(dim=1).min()


@pytest.mark.parametrize(
    ("kind", "learned"), [("trainable", (True,) * 3), ("shifts", (False, True, True)), ("frozen", (False,) * 3)]
)
def test_of_batch_normalization_learns_what_is_asked_for(kind: str, learned: tuple[bool, ...]) -> None:
    shipped = recipe.load("from-scratch").training
    assert shipped is not None
    settings = dataclasses.replace(shipped, epochs=1, batch_size=20, augment=(), batch_norm=kind)  # type: ignore[arg-type]
    norms = tuned(settings, reading=Reading(limit=100)).graph.ops(ops.BatchNorm).values()
    assert norms
    for norm in norms:
        changed = [
            not torch.equal(norm.scale, torch.ones_like(norm.scale)),
            bool(norm.shift.any()),
            bool(norm.mean.any()),
        ]
        assert tuple(changed) == learned


def test_lookahead_goes_back_to_a_running_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(SHORT, activation="relu", epochs=1, batch_size=12, lookahead=3, augment=())
    means, before, after = [], [], []
    look_back = trainer.Trainer._look_back

    def watched(self: trainer.Trainer, step: int) -> None:
        means.append({name: tensor.clone() for name, tensor in self._mean.items()})
        before.append(self._copied())
        look_back(self, step)
        after.append(self._copied())

    monkeypatch.setattr(trainer.Trainer, "_look_back", watched)
    tuned(settings, reading=Reading(limit=100))
    steps = len(after)
    assert steps > 6 and steps % 3, "the last step is none of those in between"
    for name, mean in means[0].items():
        for step in range(1, steps + 1):
            fast = before[step - 1][name]
            kept = 1.0 if step == steps else 0.95**3 * (step / steps) ** 3
            if step % 3 == 0 or step == steps:
                mean = fast = kept * mean + (1 - kept) * fast
            torch.testing.assert_close(after[step - 1][name], fast, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lookahead", [1, 100])
def test_lookahead_ends_with_what_was_learned(lookahead: int) -> None:
    settings, few = dataclasses.replace(SHORT, activation="relu", epochs=1, augment=()), Reading(limit=200)
    found = tuned(dataclasses.replace(settings, lookahead=lookahead), reading=few)
    assert found.history[-1]["held_out_loss"] < 3
    if lookahead > 1:
        assert same(tuned(settings, reading=few), found)


# Several inputs.


def test_a_network_of_several_inputs_is_trained_by_their_names(tmp_path: Path) -> None:
    net = Network((6,))
    net.nodes.append(Node("side", Input((4,)), ()))
    net.shapes["side"] = (4,)
    total = net.add(ops.Add(), net.linear("x", 12), net.linear("side", 12))
    net.linear(net.add(ops.Relu(), total), 3)
    graph = net.graph()
    feeds = Feeds({"x": normal(90, 6, seed=1), "side": normal(90, 4, seed=2)})
    # What is asked for depends on both.
    labels = (feeds["x"][:, 0] + feeds["side"][:, 0] > 0).long()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    settings = Training(epochs=30, batch_size=20, augment=(), learning_rate=0.03, features=0.1, distillation=0.1)
    start = finetune_action.starting(graph, how(settings), MemorySamples(feeds, 16), pipeline.silent)
    data = Labeled(FeedsStore(tmp_path / "samples", feeds.split(16)), labels, order[:70], order[70:])
    noisy = dataclasses.replace(settings, activation="noisy-qcfs")
    training = finetune_action._trainer(
        graph,
        start,
        data,
        noisy,
        how(settings).schedule,
        kept=(),
        task=Classification(),
        variation=Variation((), graph.input_shapes, Preprocessing()),
        processes=ALONE,
        device=torch.device("cpu"),
        identity={},
        checkpoint=None,
        progress=pipeline.silent,
        after_epoch=lambda history: None,
    )
    before = finetune_action._before(graph, data, Classification())
    outcome = training.train()
    assert outcome.score >= max(80.0, before)
    assert outcome.history[-1]["noise"] > 0


# Other tasks than classification.


def regression_data(folder: Path, **others: np.ndarray) -> Path:
    x = normal(200, 6, seed=1)
    target = (x[:, :2] * x[:, 2:4]).sum(1, keepdim=True)
    np.savez(folder / "rows.npz", x=x.numpy(), **{"y": target.numpy(), **others})
    return folder / "rows.npz"


def perceptron(folder: Path) -> Path:
    net = Network((6,))
    net.linear(net.add(ops.Relu(), net.linear("x", 32)), 1)
    (folder / "rows.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    return folder / "rows.onnx"


def test_the_epoch_of_a_regression_is_chosen_by_its_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model, log = regression_data(tmp_path), perceptron(tmp_path), tmp_path / "log.csv"
    settings = ["--epochs", "25", "--batch-size", "20", "--learning-rate", "0.02", "--timesteps", "16"]
    settings += ["-o", str(tmp_path / "tuned.onnx")]
    command = ["finetune", str(model), "--data", str(data), *settings, "--log", str(log)]
    assert cli.main([*command, "--convert", str(tmp_path / "tuned.snn"), "--json"]) == 0
    training = json.loads(capsys.readouterr().out)["training"]
    scores = [row["held_out_r2"] for row in training["history"]]
    assert training["measures"] == "R2" and training["score"] == max(scores) > 40 > training["before"]
    assert training["held_out"] == 20 and "held_out_r2" in log.read_text()
    # Rows are no images, and what is asked for is a number: nothing is cropped or mirrored.
    assert [finding["code"] for finding in training["findings"]] == ["not-varied"]
    assert load_conversion(tmp_path / "tuned.snn").reference is not None
    assert cli.main([*command, "--epochs", "1"]) == 0
    assert "% R2 on 20 held out" in capsys.readouterr().out


def test_values_are_chosen_by_their_loss(tmp_path: Path) -> None:
    data, model = regression_data(tmp_path), perceptron(tmp_path)
    settings = dataclasses.replace(SHORT, epochs=3, distillation=0.0)
    result = finetune_action.finetune(model, how(settings), data=data, task=Values())
    assert result.score is None and result.before is None
    assert not any("held_out_" in name and name != "held_out_loss" for row in result.history for name in row)


def test_a_class_for_every_pixel_can_be_learned(tmp_path: Path) -> None:
    net = Network((1, 8, 8))
    net.conv(net.add(ops.Relu(), net.conv("x", 8)), 3)
    (tmp_path / "maps.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    x = np.random.default_rng(0).integers(0, 256, (120, 1, 8, 8), np.uint8)
    masks = np.where(x[:, 0] < 16, 255, x[:, 0] // 86)
    np.savez(tmp_path / "maps.npz", x=x, y=masks)
    settings = Training(epochs=15, batch_size=20, learning_rate=0.05, distillation=0.0)
    result = finetune_action.finetune(tmp_path / "maps.onnx", how(settings), data=tmp_path / "maps.npz")
    assert isinstance(result.task, Segmentation) and result.score is not None and result.before is not None
    assert result.score > 60 > result.before


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    data, model = regression_data(tmp_path), perceptron(tmp_path)
    with pytest.raises(UsageError, match="nothing can be learned of this task"):
        finetune_action.finetune(model, how(SHORT), data=data, task=Embedding())
    with pytest.raises(DataError, match="fine-tuning needs labels") as caught:
        finetune_action.finetune(model, how(SHORT), data=data, task=Classification())
    assert "class sub-folders" in caught.value.hint


# Stopping and going on.


@cache
def whole(settings: Training, reading: Reading) -> Tuned:
    return tuned(settings, reading=reading)


# Within an epoch, at its end, at the start of the next, and where there is noise; seven or eight steps are an epoch.
@pytest.mark.parametrize(("activation", "steps"), [("qcfs", 4), ("qcfs", 8), ("noisy-qcfs", 7), ("noisy-qcfs", 17)])
def test_a_training_that_was_stopped_ends_as_if_it_was_not(
    activation: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"activation": activation, "distillation": 0.3, "batch_size": 7, "lookahead": 3}
    settings = dataclasses.replace(SHORT, **asked)  # type: ignore[arg-type]
    few = Reading(limit=60)
    wanted = whole(settings, few)
    file = tmp_path / "state"
    step = trainer.Trainer._step

    def stopping(self: trainer.Trainer, number: int, *rest: object, **others: object) -> bool:
        if number == steps:
            # A terminal asks all processes, and who started this one asks it as well.
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        return step(self, number, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "_step", stopping)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match="stopped after") as caught:
        tuned(settings, checkpoint=file, reading=few)
    assert "--resume" in caught.value.hint
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    assert same(tuned(settings, checkpoint=file, resume=True, reading=few), wanted)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    few = Reading(limit=100)
    tuned(dataclasses.replace(SHORT, epochs=1), checkpoint=file, reading=few)
    with pytest.raises(UsageError, match="another recipe"):
        tuned(dataclasses.replace(SHORT, epochs=2), checkpoint=file, resume=True, reading=few)
    with pytest.raises(UsageError, match="another data"):
        tuned(dataclasses.replace(SHORT, epochs=1), checkpoint=file, resume=True, reading=Reading(limit=90))
    identity = {"model": "another"}
    with pytest.raises(UsageError, match="another model"):
        load(file, identity)
    with pytest.raises(UsageError, match="another preprocessing"):
        finetune_action.finetune(
            DIGITS / "model.onnx",
            how(dataclasses.replace(SHORT, epochs=1)),
            data=DIGITS / "test",
            preprocessing=dataclasses.replace(PREPROCESSING, std=(0.4,)),
            reading=few,
            checkpoint=file,
            resume=True,
        )
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match="damaged"):
        load(file, {})
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nothing", {})


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    file.write_bytes(b"the one before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snnc.files.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        tuned(dataclasses.replace(SHORT, epochs=1), checkpoint=file, reading=Reading(limit=100))
    assert file.read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("rate", [1e25, 1e38])
def test_a_network_that_is_no_longer_finite_names_the_layer_and_keeps_the_checkpoint(
    rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken by the last step of the second epoch, it is neither kept nor returned."""
    file = tmp_path / "state"
    step = trainer.Trainer._step

    def breaking(self: trainer.Trainer, number: int, *rest: object, **others: object) -> bool:
        for group in self._optimizer.param_groups:
            group["lr"] = rate if number == 13 else 1e-4
        return step(self, number, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "_step", breaking)
    settings = dataclasses.replace(SHORT, optimizer="sgd", batch_size=12)
    with pytest.raises(PreconditionError, match="no longer a number") as caught:
        tuned(settings, checkpoint=file, reading=Reading(limit=100))
    graph = pipeline.read_trained(DIGITS / "model.onnx").graph
    assert caught.value.place in graph.nodes
    assert "learning-rate" in caught.value.hint and str(file) in caught.value.hint
    kept = states.load(file)
    assert kept["step"] == 7
    assert all(bool(tensor.isfinite().all()) for tensor in kept["network"].values())


def test_a_threshold_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    step = trainer.Trainer._step

    def breaking(self: trainer.Trainer, number: int, *rest: object, **others: object) -> bool:
        if number == 3:
            (first, *_) = self._network.thresholds.values()
            first.register_hook(lambda gradient: gradient * torch.nan)
        return step(self, number, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "_step", breaking)
    with pytest.raises(PreconditionError, match="no longer a number") as caught:
        tuned(dataclasses.replace(SHORT, batch_size=12), reading=Reading(limit=100))
    first = next(iter(pipeline.read_trained(DIGITS / "model.onnx").graph.ops(ops.Relu)))
    assert caught.value.place == first


# Other networks.


def small(activation: str, outputs: tuple[int, ...]) -> bytes:
    """A network for 8 x 8 images with as many heads, one of which may be a single number."""
    net = Network((1, 8, 8))
    slope = torch.tensor(0.2)
    act = ops.Relu() if activation == "relu" else ops.LeakyRelu(slope)
    trunk = net.add(act, net.norm(net.conv("x", 6)))
    heads = [net.linear(net.flat(net.add(act, net.conv(trunk, 4))), width) for width in outputs]
    return onnx_model(net.graph(*heads)).SerializeToString()


@pytest.mark.parametrize("activation", ["clip", "qcfs", "noisy-qcfs", "cqrelu"])
@pytest.mark.parametrize(("kind", "outputs"), [("relu", (1,)), ("relu", (3, 2)), ("leaky", (2,))])
def test_other_networks_are_trained(activation: str, kind: str, outputs: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(small(kind, outputs))
    settings = dataclasses.replace(SHORT, activation=activation, batch_size=20, distillation=0.2)  # type: ignore[arg-type]
    result = finetune_action.finetune(file, how(settings), data=arrays(tmp_path, [0] * 50 + [1] * 50))
    assert len(result.history) == 3
    assert all(np.isfinite(value) for row in result.history for value in row.values())
    assert len(result.graph.outputs) == len(outputs)
    if kind == "leaky" and activation != "clip":
        assert all(op.slope is not None for op in result.graph.ops(ops.QuantizedRelu).values())


# Several processes.


def test_steps_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.actions.finetune.joined", lambda device: nullcontext(Processes(0, 5)))
    with pytest.raises(UsageError, match="shared evenly") as caught:
        tuned(dataclasses.replace(SHORT, batch_size=32))
    assert "multiple of 5" in caught.value.hint


# Settings.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 0}, "starts at 1"),
        ({"levels": 0}, "starts at 1"),
        ({"learning_rate": 0.0}, "positive"),
        ({"learning_rate": 1e60}, "positive and finite"),
        ({"weight_decay": -1.0}, "not negative"),
        ({"distillation": 1.5}, "share"),
        ({"features": -1.0}, "features"),
        ({"warm_up": -0.1}, "share"),
        ({"held_out": 0.0}, "held-out is a share"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"lookahead": -1}, "lookahead starts at 0"),
        ({"shift_rate": -1.0}, "shift-rate must be finite"),
        ({"initialization": ("whitened",)}, "drawn anew"),
        ({"held_out": 1.0}, "held-out is a share"),
        ({"from_scratch": True, "distillation": 0.5}, "no trained network to learn from"),
        ({"from_scratch": True, "features": 0.5}, "no trained network to learn from"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Training(**change)  # type: ignore[arg-type]


def test_a_neuron_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown neuron 'dual' @ noise-neuron") as caught:
        Training(noise_neuron="dual")
    assert "dual-threshold" in caught.value.hint


def test_settings_are_part_of_a_recipe() -> None:
    named = {name: recipe.load(name).training for name in recipe.shipped()}
    assert {name for name, training in named.items() if training} == {
        "casc", "default", "error-compensation", "from-scratch", "qcfs", "residual-noise",
    }  # fmt: skip
    made = recipe.load("default", overrides=["training.epochs=3", "training.augment=[cutout]"])
    assert made.training is not None
    assert (made.training.epochs, made.training.augment) == (3, ("cutout",))
    assert recipe.from_plain(made.plain()) == made
    for setting, place in (
        ("training.epoch=3", "training"),
        ("training.epochs=many", "training.epochs"),
        ("training.activation=gelu", "training.activation"),
    ):
        with pytest.raises(UsageError) as caught:
            recipe.load("default", overrides=[setting])
        assert caught.value.place == place
