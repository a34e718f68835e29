"""What inspect and convert --dry-run say beforehand, and the verdicts that are written into a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from snnc import cli
from snnc.actions.plan import plan
from snnc.data import images
from snnc.frontend import Verdict, annotate, open_model
from snnc.recipe import load
from tests.frontend_files import array, integers, one, save

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits"
MODELS = ROOT / ".." / "shared" / "data" / "models"
DATA = ("--data", DIGITS / "calibration", "--mean", "0.31", "--std", "0.38", "--channels", "gray")


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


def texts(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    assert len({verdict.name for verdict in verdicts}) == len(verdicts)
    return {verdict.name: verdict.text for verdict in verdicts}


def node(kind: str, inputs: list[str], outputs: list[str], name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=name, **attributes)


def valid(path: Path, features: int) -> Path:
    """Say the shape of the output, without which the checker takes no file."""
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", features]))
    onnx.save(model, path)
    return path


def fine(path: Path) -> Path:
    """A network in which nearly everything is folded somewhere, with names missing and doubled."""
    nodes = [
        node("Shape", ["x"], ["s"], "same"),
        node("Gather", ["s", "zero"], ["n"]),
        node("Conv", ["x", "w"], ["a"], "same"),
        node("BatchNormalization", ["a", "one", "zero3", "zero3", "one"], ["b"], "norm"),
        node("Identity", ["b"], ["c"]),
        node("Relu", ["c"], ["d"], "d"),
        node("Constant", [], ["rest"], value=onnx.numpy_helper.from_array(integers(-1))),
        node("Concat", ["n", "rest"], ["t"], "same", axis=0),
        node("Reshape", ["d", "t"], ["e"], "flat"),
        node("MatMul", ["e", "m"], ["f"], "product"),
        node("Add", ["f", "bias"], ["g"], "sum"),
        node("Softmax", ["g"], ["y"], "end", axis=1),
    ]
    constants = {"zero": integers(0), "w": array(3, 2, 1, 1), "one": np.ones(3, np.float32)}
    constants |= {"zero3": np.zeros(3, np.float32), "m": array(48, 5), "bias": array(5)}
    return valid(save(path, nodes, (2, 4, 4), constants), 5)


FINE = {
    "s": "folded into flat",
    "n": "folded into flat",
    "a": "Conv",
    "norm": "folded into a",
    "c": "folded into d",
    "d": "two-phase neurons",
    "t": "folded into flat",
    "flat": "Reshape",
    "product": "part of the Linear at sum",
    "sum": "Linear",
    "end": "left out",
}


def odd(path: Path) -> Path:
    """A network with two nodes of one name, of which one cannot spike."""
    nodes = [
        node("Relu", ["x"], ["a"], "twin"),
        node("RandomNormalLike", ["a"], ["b"], "twin", seed=1.0, doc_string="mine\nand mine"),
        node("MatMul", ["b", "w"], ["c"]),
        node("RandomUniformLike", ["c"], ["y"], "a", seed=1.0),
    ]
    return valid(save(path, nodes, (4,), {"w": array(4, 4)}), 4)


def annotated(path: Path, output: Path) -> onnx.ModelProto:
    opened = open_model(path)
    annotate(opened, opened.survey, output)
    onnx.checker.check_model(output, full_check=True)
    return onnx.load(output)


def properties(holder: onnx.NodeProto | onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in holder.metadata_props}


def computed(path: Path, *shape: int) -> list[np.ndarray]:
    model = onnx.load(path)
    for entry in model.graph.node:
        # onnxruntime takes no name twice.
        entry.name = ""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})


# Verdicts.


def test_a_plan_says_what_becomes_of_every_node_and_what_is_folded_where(tmp_path: Path) -> None:
    assert texts(plan(fine(tmp_path / "m.onnx"), load("default")).survey.verdicts) == FINE


def test_a_plan_is_of_its_recipe(tmp_path: Path) -> None:
    path = fine(tmp_path / "m.onnx")
    recipe = load("synchronous")
    found = plan(path, recipe)
    assert texts(found.survey.verdicts)["d"] == "cif neurons"
    assert (found.survey.recipe, found.total_steps, found.layers) == ("synchronous", 8, 1)


@pytest.mark.parametrize("name", ["default", "quick", "residual-noise", "qcfs"])
def test_a_plan_counts_nothing_and_runs_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, recipe = fine(tmp_path / "m.onnx"), load(name)
    found = texts(plan(path, recipe).survey.verdicts)

    def called(*given: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr("snnc.calibration.histogram.Histogram.mmse", called)
    monkeypatch.setattr("snnc.calibration.Calibration.histograms", called)
    monkeypatch.setattr("snnc.pipeline.Program", called)
    monkeypatch.setattr("snnc.passes.correct_residual_noise.Program", called)
    assert texts(plan(path, recipe).survey.verdicts) == found


def test_verdicts_of_the_import_are_those_of_its_operations(tmp_path: Path) -> None:
    found = open_model(fine(tmp_path / "m.onnx")).survey
    assert texts(found.verdicts) == FINE | {"norm": "BatchNorm", "d": "Relu"}
    assert [verdict.position for verdict in found.verdicts] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]


def test_what_is_merged_by_onnxruntime_is_folded_into_what_computes_its_value(tmp_path: Path) -> None:
    nodes = [one("Conv", ["x", "w"], ["a"]), one("Add", ["a", "shift"], ["b"]), one("Relu", ["b"])]
    path = save(tmp_path / "m.onnx", nodes, (2, 4, 4), {"w": array(3, 2, 1, 1), "shift": array(1, 3, 1, 1)})
    assert texts(open_model(path).survey.verdicts)["the/Add/b"] == "folded into the/Conv/a"


def test_what_a_pass_takes_out_is_folded_into_what_reads_it(tmp_path: Path) -> None:
    nodes = [
        node("Gemm", ["x", "w"], ["a"], "layer"),
        node("Relu", ["a"], ["b"], "before"),
        node("Clip", ["b", "zero", "one"], ["c"], "clip"),
        node("Mul", ["c", "seven"], ["d"], "up"),
        node("Round", ["d"], ["e"], "round"),
        node("Div", ["e", "seven"], ["f"], "down"),
        node("Gemm", ["f", "w"], ["y"], "last"),
    ]
    constants = {"w": array(4, 4), "zero": np.float32(0), "one": np.float32(1), "seven": np.float32(7)}
    found = texts(plan(save(tmp_path / "m.onnx", nodes, (4,), constants), load("quick")).survey.verdicts)
    assert found == {
        "layer": "Linear",
        "before": "folded into clip",
        **dict.fromkeys(("clip", "up", "round"), "part of the two-phase neurons at down"),
        "down": "two-phase neurons",
        "last": "Linear",
    }


def test_what_is_folded_into_several_is_a_layer_of_none(tmp_path: Path) -> None:
    """As torch writes halves: where they meet is computed from the shape."""
    nodes = [
        one("Shape", ["x"], ["s"]),
        one("Gather", ["s", "one"], ["n"], axis=0),
        one("Div", ["n", "two"], ["h"]),
        one("Slice", ["x", "zero", "h", "one"], ["a"]),
        one("Slice", ["x", "h", "n", "one"], ["b"]),
        one("Relu", ["b"], ["c"]),
        one("Add", ["a", "c"]),
    ]
    constants = {"zero": integers(0), "one": integers(1), "two": integers(2)}
    found = texts(plan(save(tmp_path / "m.onnx", nodes, (6,), constants), load("quick")).survey.verdicts)
    assert found["the/Div/h"] == "folded into the/Slice/b, the/Slice/a"
    assert "two-phase neurons" in found["the/Relu/c"]


def test_what_nothing_reads_is_folded_nowhere(tmp_path: Path) -> None:
    nodes = [one("Relu", ["x"]), one("Shape", ["x"], ["s"]), one("Neg", ["s"], ["t"])]
    assert texts(open_model(save(tmp_path / "m.onnx", nodes, (4,), {})).survey.verdicts) == {
        "the/Relu/y": "Relu",
        "the/Shape/s": "left out",
        "the/Neg/t": "left out",
    }


def test_a_function_that_onnxruntime_writes_out_is_refused_as_one_operation(tmp_path: Path) -> None:
    nodes = [
        one("Relu", ["x"], ["a"]),
        one("Bernoulli", ["a"], ["b"]),
        one("Sigmoid", ["b"], ["c"]),
        one("Neg", ["c"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, (4, 3, 3), {}, opset=21)
    seen = open_model(path).survey
    assert [(v.operation, v.problem, v.position) for v in seen.verdicts] == [
        ("Relu", "", 0),
        ("Bernoulli", "it draws at random", 1),
        ("Sigmoid", "", 2),
        ("Neg", "", 3),
    ]


# Annotation.


@pytest.mark.parametrize(("make", "shape"), [(fine, (2, 2, 4, 4)), (odd, (2, 4))])
def test_an_annotated_model_is_the_same_model(
    make: Callable[[Path], Path], shape: tuple[int, ...], tmp_path: Path
) -> None:
    path, output = make(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    model, original = annotated(path, output), onnx.load(path)
    for ours, theirs in zip(computed(output, *shape), computed(path, *shape), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(model.graph.node, original.graph.node, strict=True):
        assert all(key.startswith("snnc.") for key in properties(ours))
        assert ours.doc_string.startswith("snnc: ")
        del ours.metadata_props[:]
        ours.ClearField("doc_string")
        if theirs.doc_string:
            ours.doc_string = theirs.doc_string
    del model.metadata_props[:]
    assert model == original
    first = output.read_bytes()
    annotated(path, output)
    assert output.read_bytes() == first


def test_every_node_says_its_verdict(tmp_path: Path) -> None:
    model = annotated(fine(tmp_path / "m.onnx"), tmp_path / "out.onnx")
    said = [properties(entry).get("snnc.becomes") for entry in model.graph.node]
    away = "folded away"
    assert said[:8] == [away, away, "Conv", "BatchNorm", away, "Relu", "a constant", away]
    assert said[8:] == ["Reshape", "Linear", "Linear", "left out"]
    into = [properties(entry).get("snnc.into", "") for entry in model.graph.node]
    assert into == ["flat", "flat", "", "", "d", "", "", "flat", "", "sum", "", ""]
    conv = model.graph.node[2]
    assert conv.doc_string == "snnc: Conv"
    assert float(properties(conv)["snnc.share-of-macs"]) == pytest.approx(96 / (96 + 240), abs=1e-6)
    assert properties(model)["snnc.summary"] == "every operation can become spiking"


def test_problems_stand_at_the_right_one_of_two_nodes_of_a_name(tmp_path: Path) -> None:
    model = annotated(odd(tmp_path / "m.onnx"), tmp_path / "out.onnx")
    problems = [properties(entry).get("snnc.problem") for entry in model.graph.node]
    assert problems == [None, "it draws at random", None, "it draws at random"]
    assert "model.eval()" in properties(model.graph.node[1])["snnc.hint"]
    said = model.graph.node[1].doc_string.splitlines()
    assert said[0].startswith("snnc: cannot spike: it draws at random; ")
    assert said[1:] == ["mine", "and mine"]
    summary = properties(model)
    assert summary["snnc.summary"].startswith("2 of 4 operations cannot become spiking")
    assert [line.split(":")[0] for line in summary["snnc.problems"].splitlines()] == [
        "b (RandomNormalLike)",
        "y (RandomUniformLike)",
    ]


def test_annotating_again_replaces_verdicts_and_keeps_what_others_said(tmp_path: Path) -> None:
    path = odd(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"author": "me"})
    onnx.save(model, path)
    once = annotated(path, tmp_path / "once.onnx")
    twice = annotated(tmp_path / "once.onnx", tmp_path / "twice.onnx")
    assert twice.graph == once.graph
    assert properties(twice)["author"] == "me"
    assert len(twice.metadata_props) == len(once.metadata_props)


def test_external_weights_come_inside_and_are_never_overwritten(run: Run, tmp_path: Path) -> None:
    path = fine(tmp_path / "m.onnx")
    expected = computed(path, 1, 2, 4, 4)
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    weights = (tmp_path / "weights.bin").read_bytes()
    refused = run("inspect", "m.onnx", "--annotate", "weights.bin")
    assert (refused.code, refused.err.count("\n")) == (2, 2)
    assert "would overwrite the model @ weights.bin" in refused.err
    assert (tmp_path / "weights.bin").read_bytes() == weights
    (tmp_path / "elsewhere").mkdir()
    output = tmp_path / "elsewhere" / "out.onnx"
    annotated(path, output)
    np.testing.assert_array_equal(computed(output, 1, 2, 4, 4)[0], expected[0])


def test_inspect_annotates_what_the_recipe_makes(run: Run, tmp_path: Path) -> None:
    result = run("inspect", DIGITS / "model.onnx", "--annotate", "out.onnx")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("written: out.onnx\n")
    assert (
        "/stem/stem.1/BatchNormalization    BatchNormalization          folded into /stem/stem.0/Conv\n" in result.out
    )
    model = onnx.load(tmp_path / "out.onnx")
    said = {entry.name: entry.doc_string.splitlines()[0] for entry in model.graph.node}
    assert said["/Relu_1"] == "snnc: two-phase neurons"
    assert said["/stem/stem.1/BatchNormalization"] == "snnc: folded into /stem/stem.0/Conv"
    assert properties(model)["snnc.recipe"] == "default"
    (tmp_path / "snnc.yaml").write_text("recipe: casc\n")
    plain = json.loads(run("inspect", DIGITS / "model.onnx", "--annotate", "out.onnx", "--json").out)
    assert plain["files"] == ["out.onnx"]
    assert {v["becomes"] for v in plain["verdicts"] if v["operation"] == "Relu"} == {"cif neurons"}


@pytest.mark.usefixtures("torchscript_here")
def test_torchscript_is_annotated_as_it_was_exported(run: Run, tmp_path: Path) -> None:
    run("inspect", DIGITS / "model.pt", "--input-shape", "1,8,8", "--annotate", "out.onnx")
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    model = onnx.load(tmp_path / "out.onnx")
    assert all(entry.doc_string.startswith("snnc: ") for entry in model.graph.node)
    np.testing.assert_allclose(
        computed(tmp_path / "out.onnx", 3, 1, 8, 8)[0], computed(DIGITS / "model.onnx", 3, 1, 8, 8)[0], atol=1e-4
    )


def test_an_unsupported_model_is_annotated_and_refused(run: Run, tmp_path: Path) -> None:
    odd(tmp_path / "odd.onnx")
    result = run("inspect", "odd.onnx", "--annotate", "out.onnx")
    assert result.code == 3
    assert "written: out.onnx" in result.out
    assert result.err.startswith("error: 2 of 4 operations cannot become spiking")
    assert "snnc.problem" in properties(onnx.load(tmp_path / "out.onnx").graph.node[1])


def test_bad_places_for_an_annotated_model(run: Run, tmp_path: Path) -> None:
    path = fine(tmp_path / "m.onnx")
    (tmp_path / "model.snn").touch()
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir()}
    for model, place, code, message in (
        (path, "m.onnx", 2, "would overwrite the model @ m.onnx\nhint:  choose another place with the flag"),
        (path, "missing/out.onnx", 5, "cannot write"),
        (path, ".", 5, "it is a folder"),
        ("model.snn", "out.onnx", 2, "no ONNX model to annotate @ model.snn"),
        ("missing.onnx", "out.onnx", 5, "no such file @ missing.onnx"),
    ):
        result = run("inspect", model, "--annotate", place)
        assert (result.code, result.out, result.err.count("\n")) == (code, "", 2), result
        assert message in result.err
    assert {entry: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_a_real_transformer_is_annotated(tmp_path: Path) -> None:
    path = MODELS / "vnncomp_cifar10_vit_pgd_2_3_16.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the repository")
    nodes = annotated(path, tmp_path / "out.onnx").graph.node
    for ours, theirs in zip(computed(tmp_path / "out.onnx", 1, 3, 32, 32), computed(path, 1, 3, 32, 32), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all(entry.doc_string for entry in nodes)
    assert not [entry.op_type for entry in nodes if "snnc.problem" in properties(entry)]
    softmaxes = [properties(entry)["snnc.becomes"] for entry in nodes if entry.op_type == "Softmax"]
    assert [text.split(", ")[0] for text in softmaxes] == ["Softmax"] * 2


# The dry run.


def test_a_dry_run_tells_all_and_touches_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--recipe", "quick", "--timesteps", "4", "--save-recipe", "r.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", lambda *_, **__: pytest.fail("an image was read"))
        told = run("convert", DIGITS / "model.onnx", *DATA, *flags, "--dry-run")
        plain = json.loads(run("convert", DIGITS / "model.onnx", *DATA, *flags, "--dry-run", "--json").out)
    assert (told.code, told.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert f"{DIGITS / 'calibration'} (200 images)" in told.out
    assert "would write     model.snn, model.report.json, r.yaml\n" in told.out
    assert "5. calibrate-thresholds    kind mmse, per channel, " in told.out
    assert run("convert", DIGITS / "model.onnx", *DATA, *flags, "-q").code == 0
    assert told.out.endswith("\n\n" + (tmp_path / "r.yaml").read_text())
    assert sorted(plain["files"]) == sorted(entry.name for entry in tmp_path.iterdir())
    # It said what was then done.
    facts = json.loads(run("inspect", "model.snn", "--json").out)
    assert plain["recipe"] == facts["provenance"]["recipe"]
    assert plain["data"]["images"] == facts["provenance"]["calibration"]["images"]
    assert plain["schedule"]["total_steps"] == facts["total_steps"]
    assert plain["layers"] == len(facts["layers"])
    spiking = {v["name"] for v in plain["survey"]["verdicts"] if "neurons" in v["becomes"]}
    assert spiking == {layer["source"] for layer in facts["layers"]}


def test_a_dry_run_counts_what_would_be_read(run: Run) -> None:
    def counted(*flags: str) -> Any:
        return json.loads(run("convert", DIGITS / "model.onnx", "--dry-run", "--json", *flags).out)["data"]

    assert counted() is None
    assert counted(*map(str, DATA), "--limit", "60")["images"] == 60
    assert counted(*map(str, DATA), "--limit", "60", "--part", "judging")["images"] == 20


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["true", "dry"])
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--recipe", "nonsense"), 2),
        (("--set", "passes.substitute-neurons.neuron=nonsense"), 2),
        (("--set", "passes.substitute-neurons.layers={nonsense: if}"), 2),
        (("--data", "missing"), 5),
        ((*DATA, "--batch-size", "0"), 2),
        (("--output", "missing/model.snn"), 5),
    ],
)
def test_a_dry_run_fails_as_the_true_one(
    dry: tuple[str, ...], flags: tuple[str | Path, ...], code: int, run: Run, tmp_path: Path
) -> None:
    result = run("convert", DIGITS / "model.onnx", "--recipe", "quick", *flags, *dry)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_an_unsupported_model_tells_what_it_can(run: Run, tmp_path: Path) -> None:
    odd(tmp_path / "odd.onnx")
    result = run("convert", "odd.onnx", "--dry-run")
    assert result.code == 3
    assert result.out.count("cannot spike: ") == 2
    assert "\nname: default\n" in result.out
    assert result.err.startswith("error: 2 of 4 operations cannot become spiking")
    assert [entry.name for entry in tmp_path.iterdir()] == ["odd.onnx"]
    plain = run("convert", "odd.onnx", "--dry-run", "--json")
    assert plain.code == 3
    assert json.loads(plain.out)["schedule"]["total_steps"] is None
