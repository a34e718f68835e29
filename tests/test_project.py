"""snnc.yaml is read strictly, and every problem in it is named with its place."""

from pathlib import Path

import pytest
import yaml

from snnc import project
from snnc.data.preprocessing import Preprocessing
from snnc.errors import SnncError, UsageError
from snnc.measure.gates import Limits
from snnc.project import Data, Evaluated, Project

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def write(folder: Path, text: str) -> Path:
    (folder / "snnc.yaml").write_text(text, encoding="utf-8")
    return folder


def test_no_file_sets_nothing(tmp_path: Path):
    assert project.read(tmp_path) == Project()


def test_an_empty_file_sets_nothing(tmp_path: Path):
    assert project.read(write(tmp_path, "")) == Project()


def test_the_example_is_read_relative_to_its_folder():
    read = project.read(DIGITS)
    assert read.model == DIGITS / "model.onnx"
    assert read.calibration == Data(DIGITS / "calibration")
    assert read.evaluation == Evaluated(DIGITS / "test")
    assert read.preprocessing == Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")


def test_everything_can_be_set(tmp_path: Path):
    text = """
        model: net.pt
        input-shape: [3, 32, 32]
        calibration: {data: some/images}
        evaluation: {data: x.npz}
        preprocessing: {resize: [40, 40], crop: 32, label-offset: 1, array-layout: nhwc}
        recipe: mine.yaml
        timesteps: 4
        neuron: if
        set: {passes.calibrate-thresholds.percentile: 99.5, passes.calibrate-thresholds.kind: percentile}
        gates: {max-drop: 1, min-agreement: 98.5}
    """
    read = project.read(write(tmp_path, text))
    assert read == Project(
        model=tmp_path / "net.pt",
        input_shape=(3, 32, 32),
        calibration=Data(tmp_path / "some/images"),
        evaluation=Evaluated(tmp_path / "x.npz"),
        preprocessing=Preprocessing(resize=(40, 40), crop=32, label_offset=1, array_layout="nhwc"),
        recipe=str(tmp_path / "mine.yaml"),
        timesteps=4,
        neuron="if",
        set=("passes.calibrate-thresholds.percentile=99.5", 'passes.calibrate-thresholds.kind="percentile"'),
        gates=Limits(max_drop=1.0, min_agreement=98.5),
    )


def test_a_list_of_settings_is_taken_as_typed(tmp_path: Path):
    assert project.read(write(tmp_path, "set: ['timesteps=3', a.b.c=d]")).set == ("timesteps=3", "a.b.c=d")


def test_the_name_of_a_recipe_is_no_path(tmp_path: Path):
    assert project.read(write(tmp_path, "recipe: default")).recipe == "default"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modle: x", "unknown option 'modle' @ snnc.yaml", "did you mean 'model'?"),
        ("- x", "expected a mapping, found ['x'] @ snnc.yaml", "keys: model"),
        ("timesteps: many", "invalid value 'many' @ snnc.yaml: timesteps", "integer"),
        ("calibration: folder", "expected a mapping, found 'folder' @ snnc.yaml: calibration", "keys: data"),
        ("calibration: {date: x}", "unknown option 'date' @ snnc.yaml: calibration", "did you mean 'data'?"),
        ("gates: {max-dorp: 1}", "unknown option 'max-dorp' @ snnc.yaml: gates", "did you mean 'max-drop'?"),
        ("gates: {max-drop: x}", "'x' is no limit for max-drop: give a number of points or a percentage", "max-drop"),
        ("gates: {max-spikes: x}", "invalid value 'x' @ snnc.yaml: gates.max-spikes", "number"),
        ("preprocessing: {mean: [a]}", "invalid value 'a' @ snnc.yaml: preprocessing.mean[0]", "number"),
        ("preprocessing: {channels: rbg}", "invalid value 'rbg' @ snnc.yaml: preprocessing.channels", "'rgb'"),
        ("input-shape: [3, x]", "invalid value 'x' @ snnc.yaml: input-shape[1]", "integer"),
        ("set: a.b.c=d", "invalid value 'a.b.c=d' @ snnc.yaml: set", "write a list: [a.b.c=d]"),
        ("model: [", "not valid YAML @", ""),
    ],
)
def test_a_problem_is_named_with_its_place(tmp_path: Path, text: str, message: str, hint: str):
    with pytest.raises(UsageError) as caught:
        project.read(write(tmp_path, text))
    assert str(caught.value).startswith(message)
    assert hint in caught.value.hint
    assert "\n" not in caught.value.line + caught.value.hint


def test_the_template_sets_only_the_model(tmp_path: Path):
    assert project.read(write(tmp_path, project.template())) == Project()
    for name in ("net.onnx", "my net.onnx", "yes.pt", "007.onnx"):
        assert project.read(write(tmp_path, project.template([name]))) == Project(model=tmp_path / name)


def test_the_template_is_right_where_it_is_commented_out(tmp_path: Path):
    lines = project.template().splitlines()
    # Comments that set something are YAML; those that explain are sentences.
    code = [line[2:] for line in lines if line.startswith("# ") and not line.endswith(".") and "Keys: " not in line]
    read = project.read(write(tmp_path, "\n".join(line for line in code if not line.endswith("needed.")) + "\n"))
    assert set(yaml.safe_load((tmp_path / "snnc.yaml").read_text())) == {
        name.replace("_", "-") for name in Project.__dataclass_fields__
    }
    assert read.gates == Limits(
        max_drop=1.0,
        min_agreement=98.0,
        max_relative_error=0.1,
        min_cosine=0.98,
        min_psnr=40.0,
        max_energy_ratio=0.8,
        max_arithmetic_ratio=0.5,
        max_spikes=100_000,
        max_layer_error=0.3,
        max_mean_steps=2.5,
        min_spike_driven=95.0,
        timesteps=4,
        proven=True,
    )
    assert read.preprocessing is not None
    assert read.preprocessing.crop == 224


def test_the_models_of_a_folder_are_found(tmp_path: Path):
    assert project.models_in(tmp_path) == []
    for name in ("b.pt", "a.onnx", "a.snn"):
        (tmp_path / name).touch()
    assert project.models_in(tmp_path) == ["a.onnx", "b.pt"]


def test_the_template_has_the_data_that_is_known(tmp_path: Path):
    read = project.read(write(tmp_path, project.template(["a.onnx", "b.pt"], "my photos", "test.npz")))
    data = tmp_path / "my photos", tmp_path / "test.npz"
    assert (read.model, read.calibration.data, read.evaluation.data) == (None, *data)


def test_what_is_given_wins():
    settings = Project(model=Path("net.onnx"))
    assert settings.trained(Path("other.onnx")) == Path("other.onnx")
    assert settings.converted(Path("other.snn"), Path()) == Path("other.snn")
    assert settings.trained(None) == Path("net.onnx")
    assert settings.converted(None, Path("here")) == Path("here/net.snn")
    assert Project(model=Path("some/net.snn")).converted(None, Path("here")) == Path("some/net.snn")


def test_the_only_converted_file_is_taken(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no \.snn file in this folder") as caught:
        Project().converted(None, tmp_path)
    assert "snnc convert" in caught.value.hint and "snnc.yaml" in caught.value.hint
    (tmp_path / "a.snn").touch()
    assert Project().converted(None, tmp_path) == tmp_path / "a.snn"
    (tmp_path / "b.snn").touch()
    with pytest.raises(UsageError, match=r"several \.snn files in this folder \(a\.snn, b\.snn\)") as caught:
        Project().converted(None, tmp_path)
    assert "argument" in caught.value.hint and "snnc.yaml" in caught.value.hint


def test_the_wrong_kind_of_file_is_refused_with_the_command_to_use():
    with pytest.raises(SnncError, match="already a spiking network") as caught:
        Project().trained(Path("a.snn"))
    assert "snnc calibrate" in caught.value.hint
    with pytest.raises(SnncError, match="a trained model") as caught:
        Project().converted(Path("a.onnx"), Path())
    assert "snnc convert a.onnx" in caught.value.hint
    with pytest.raises(UsageError, match="no model to convert"):
        Project().trained(None)
