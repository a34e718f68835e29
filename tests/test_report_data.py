"""The machine form of reports: its schema, its bytes, and the energies and the sentence in it."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from rich.console import Console

import snnc
import snnc.report
from snnc import pipeline, recipe
from snnc.analysis.reach import connected
from snnc.artifact import fingerprint, load_conversion
from snnc.blocks import Facts, Text
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.samples import MemorySamples
from snnc.errors import DataError
from snnc.figure import Blame, Row
from snnc.findings import EXPLANATIONS, Finding
from snnc.formats.match import Match
from snnc.measure.energy import Cost, cost, energy
from snnc.measure.evaluation import Evaluation
from snnc.measure.gates import Limits
from snnc.measure.layers import compare_layers
from snnc.neurons import Neuron
from snnc.ops import Activation, Relu
from snnc.report import Report, build, completed, stored
from snnc.report.data import parsed, plain, read, schema, staged, to_json, write
from snnc.report.faces.terminal import lines, rendered
from snnc.report.report import save
from snnc.report.sections import sections
from snnc.report.sections.figures import KeyFiguresSection
from snnc.report.sections.steps import StepsSection
from snnc.report.sentence import sentence
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification
from snnc.tasks.values import Values
from tests.support import feeding, normal, row, run
from tests.test_report import DIGITS, PREPROCESSING, spiking


@cache
def converted(*, calibrated: bool = True, name: str = "synchronous") -> tuple[Conversion, Report]:
    return snnc.convert(
        DIGITS / "model.onnx",
        recipe.load(name, timesteps=2, overrides=("passes.distill.steps=1",) if name == "synchronous" else ()),
        data=DIGITS / "calibration" if calibrated else None,
        preprocessing=PREPROCESSING,
        reading=Reading(limit=40),
    )


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    made, calibrated = converted()
    measured = snnc.evaluate(
        made,
        data=DIGITS / "test",
        timesteps=[1, 2],
        blamed=60,
        limits=Limits(max_drop="2%", min_agreement=90, max_energy_ratio=0.5, max_spikes=1e4, max_layer_error=0.3),
        reading=Reading(limit=60),
    )
    stripped = dataclasses.replace(made, reference=None)
    bare = snnc.evaluate(stripped, data=DIGITS / "calibration", reading=Reading(limit=1))
    return {
        "plain": converted(calibrated=False)[1],
        "calibrated": calibrated,
        "evaluated": dataclasses.replace(calibrated, evaluation=measured),
        "stripped": dataclasses.replace(build(stripped), evaluation=bare),
    }


NAMES = ["plain", "calibrated", "evaluated", "stripped"]


def test_the_schema_is_one_and_has_what_every_section_adds():
    published = schema()
    jsonschema.Draft202012Validator.check_schema(published)
    assert f"version {snnc.report.SCHEMA_VERSION}" in published["title"]
    added = {name for name, kind in sections.items() if dataclasses.fields(kind)}
    assert "outputs" in added
    assert added < set(published["properties"])
    assert "sections" not in published["properties"]


@pytest.mark.parametrize("name", NAMES)
def test_reports_keep_to_the_schema_and_are_read_back(name: str, reports: dict[str, Report], tmp_path: Path):
    text = to_json(reports[name])
    data = json.loads(text)
    jsonschema.validate(data, schema())
    assert text == json.dumps(data, sort_keys=True, indent=1) + "\n"
    write(reports[name], tmp_path / "r.json")
    again = read(tmp_path / "r.json")
    assert plain(again) == plain(reports[name])
    assert to_json(again) == text


@pytest.mark.parametrize("change", ["summary", "layers", "provenance", "schema_version", "energy_model"])
def test_what_is_missing_is_noticed(change: str, reports: dict[str, Report], tmp_path: Path):
    data = plain(reports["calibrated"])
    published = schema()
    if change in published["required"]:
        del data[change]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, published)
    data[change] = "?"
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"report|schema"):
        read(tmp_path / "r.json")


def test_no_number_is_beyond_what_floats_hold(reports: dict[str, Report], tmp_path: Path):
    text = to_json(reports["plain"]).replace('"timesteps": 2', f'"timesteps": 1{"0" * 400}', 1)
    assert "0" * 400 in text
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match="no valid JSON"):
        read(tmp_path / "r.json")


def test_what_is_no_text_in_a_file_name_can_be_written_and_read(reports: dict[str, Report], tmp_path: Path):
    model = {**reports["plain"].provenance["model"], "file": "m\udcff.onnx"}
    named = dataclasses.replace(reports["plain"], provenance={**reports["plain"].provenance, "model": model})
    write(named, tmp_path / "r.json")
    assert read(tmp_path / "r.json").provenance["model"]["file"] == "m?.onnx"


@pytest.mark.parametrize("value", ["NaN", "0.5", "inf"])
def test_a_text_is_no_number(value: str, reports: dict[str, Report], tmp_path: Path):
    data = plain(reports["calibrated"])
    data["layers"][0]["error"] = value
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"damaged report: layers\.0\.error"):
        read(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (1, ("summary", "latency")),
        (99, ("summary", "layers")),
        (-1, ("summary", "neurons")),
        (0, ("summary", "arithmetic", "macs")),
        (1, ("layers", 0, "accuracy")),
        (True, ("layers", 0, "neurons")),
        ("", ("layers", 0, "name")),
        (1, ("provenance", "model", "size")),
        (101, ("evaluation", "rows", 0, "agreement")),
        (-0.5, ("evaluation", "rows", 0, "accuracy")),
        ([9.0, 1.0], ("evaluation", "rows", 0, "spikes_interval")),
    ],
)
def test_what_no_measurement_says_is_refused(
    value: object, place: tuple[str | int, ...], reports: dict[str, Report], tmp_path: Path
):
    data = plain(reports["evaluated"])
    parent: Any = data
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data["layers"][1]["name"] if place[-1] == "name" else value
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"damaged report: " + r"\.".join(map(str, place))):
        read(tmp_path / "r.json")


def test_the_terminal_tells_the_energy_wherever_the_page_does(reports: dict[str, Report]):
    # Evaluated, but never calibrated: nothing but the evaluation has counted spikes.
    found = dataclasses.replace(reports["plain"], evaluation=reports["evaluated"].evaluation)
    console = Console(width=200, file=StringIO())
    for report, steps in ((reports["plain"], None), (found, 2), (reports["calibrated"], 2)):
        with console.capture() as captured:
            console.print(rendered(lines(report)))
        assert ("energy, µJ" in captured.get()) == (steps is not None) == (report.energy is not None)
        assert steps is None or f"spiking, T={steps}" in captured.get()


def test_what_a_terminal_would_obey_is_refused(reports: dict[str, Report], tmp_path: Path):
    data = plain(reports["calibrated"])
    data["layers"][0]["name"] = "\x1b[2J"
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="control characters"):
        read(tmp_path / "r.json")


def test_a_report_follows_its_network(reports: dict[str, Report], tmp_path: Path):
    made, report = converted()
    other, _ = converted(name="quick")
    path = tmp_path / "r.json"
    assert stored(made, path).summary.images == 0
    write(report, path)
    assert to_json(stored(made, path)) == to_json(report)
    # Stripped, it is the same network.
    assert stored(dataclasses.replace(made, reference=None), path).summary.images == report.summary.images
    with pytest.raises(DataError, match="another network"):
        stored(other, path)
    measured = reports["evaluated"].evaluation
    assert measured is not None
    assert completed(made, path, evaluation=measured).layers == stored(made, path).layers
    assert completed(other, path, evaluation=measured).summary.images == 0


@pytest.mark.parametrize("until", range(8))
def test_whoever_is_stopped_between_a_network_and_its_report_leaves_a_pair(
    until: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pairs = [converted(), converted(name="quick")]
    path, file = tmp_path / "n.snn", tmp_path / "n.report.json"
    save(pairs[0][0], path, pairs[0][1], file)
    counts = iter(range(100))
    replace_file, unlink = Path.replace, Path.unlink

    # Stopped before or after one of the steps that others can see, as by kill -9: nothing is cleaned up.
    def stopping(step: Callable[..., object]) -> Callable[..., object]:
        def run_or_stop(self: Path, *arguments: object, **options: object) -> object:
            if next(counts) >= until:
                raise SystemExit
            found = step(self, *arguments, **options)
            if next(counts) >= until:
                raise SystemExit
            return found

        return run_or_stop

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stopping(replace_file))
        patched.setattr(Path, "unlink", stopping(unlink))
        with contextlib.suppress(SystemExit):
            save(pairs[1][0], path, pairs[1][1], file)
    found = load_conversion(path)
    wanted = next(report for made, report in pairs if fingerprint(made) == fingerprint(found))
    assert to_json(stored(found, file)) == to_json(wanted)
    # The next one to write clears what was left.
    write(stored(found, file), file)
    assert to_json(stored(found, file)) == to_json(wanted) and not staged(file).exists()


def test_a_verification_takes_the_place_of_the_last_one_of_its_kind(tmp_path: Path):
    made, report = converted()
    first = Match("onnx", "one step", "engine", 2, 8, "failed", equal=50.0)
    kept = Match("nir", "profile if", "engine", 2, 8, "passed", equal=100.0)
    path = tmp_path / "r.json"
    write(dataclasses.replace(report, verifications=(first, kept)), path)
    again = [dataclasses.replace(first, timesteps=t, verdict="passed", equal=100.0) for t in (2, 4)]
    found = completed(made, path, verifications=again)
    assert found.verifications == (kept, *again)
    write(found, path)
    assert to_json(stored(made, path)) == to_json(dataclasses.replace(report, verifications=(kept, *again)))


def test_distributions_count_every_value_once(reports: dict[str, Report]):
    images = reports["calibrated"].summary.images
    for layer in reports["calibrated"].layers:
        found = layer.distributions
        assert found is not None and layer.over_firing is not None and layer.under_firing is not None
        everything = images * layer.neurons
        assert sum(found.reference.counts) + found.reference_zeros == everything
        assert sum(found.result.counts) + found.result_zeros == everything
        assert sum(found.potentials.counts) == everything
        assert 0 <= layer.over_firing + layer.under_firing <= 1


def test_two_phase_neurons_neither_fire_too_often_nor_too_seldom():
    _, report = converted(name="quick")
    assert all(layer.over_firing == layer.under_firing == 0 for layer in report.layers)


def test_what_is_not_emitted_is_what_came_in_less_what_went_out():
    """One neuron per image: a current of 0.3 of its threshold for 4 steps, rounded to one spike, leaves 0.7."""
    graph = spiking("if")
    (threshold,) = graph.ops(Neuron)["spikes"].threshold.tolist()
    trained = graph.with_ops({"spikes": Relu()})
    # Every pixel of the inner image sees nine neighbors with weights of 0.1.
    image = torch.full((1, 1, 4, 4), 0.3 * threshold / 0.9)
    measured = compare_layers(
        trained, graph, MemorySamples(feeding(graph, image)), Schedule(4), connected(graph), Classification()
    ).layers[0]
    assert measured.distributions is not None
    potentials = measured.distributions.potentials
    width = (potentials.high - potentials.low) / len(potentials.counts)
    # 4 · 0.3 + 1/2 − 1 = 0.7 for the 4 neurons inside, of 2 channels.
    assert potentials.counts[int((0.7 - potentials.low) / width)] >= 8


@pytest.mark.parametrize(("timesteps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (1023, 10)])
def test_steps_are_matched_by_bits(timesteps: int, bits: int):
    graph = spiking()
    spikes = {"spikes": torch.ones(2, 4, 4, dtype=torch.float64)}
    found = energy(graph, connected(graph), spikes, Schedule(timesteps))
    assert found.bits == bits
    # The image has its full width there, too.
    first, second = 2 * 4 * 4 * 9, 3 * 8
    assert found.quantized == pytest.approx((first * 4.6 + second * (3.7 * bits / 32 + 0.9)) * 1e-6)


def test_energies_by_hand_and_at_break_even():
    graph, schedule = spiking("if"), Schedule(4)
    connections = connected(graph)
    macs = 2 * 4 * 4 * 9 + 3 * 8
    spikes = {"spikes": torch.full((2, 4, 4), 2.0, dtype=torch.float64)}
    found = energy(graph, connections, spikes, schedule)
    assert found.reference == pytest.approx(macs * 4.6e-6)
    # Two words for each multiplication, one for each activation written.
    assert found.reference_memory == pytest.approx((2 * macs + 32) * 5e-6)
    assert found.multiplications == pytest.approx(288 * 4.6e-6)
    assert found.accumulations == pytest.approx(64 * 3 * 0.9e-6)
    assert found.memory == pytest.approx((3 * 64 * 3 + 2 * 288 + 2 * 32 * 4) * 5e-6)
    # Driven by events, no clock touches the potentials of 32 neurons at 4 steps.
    assert found.neuron_memory == pytest.approx(2 * 32 * 4 * 5e-6)
    assert found.spike_memory == pytest.approx(3 * 64 * 3 * 5e-6)
    whole = found.reference + found.reference_memory
    assert found.ratio == pytest.approx(found.total / whole)
    assert found.event_driven_ratio == pytest.approx((found.total - found.neuron_memory) / whole)
    assert found.arithmetic_ratio == pytest.approx(found.arithmetic / found.reference)
    assert found.total == pytest.approx(found.accumulations + found.multiplications + found.memory)
    assert found.firing_rate == pytest.approx(0.5)
    # With a clock, four steps of potentials cost more than the trained network, were there no spike at all.
    assert found.break_even is None
    # Frames are multiplied at every step: four of them cost more than the trained network once.
    framed = energy(graph, connections, spikes, schedule, {"x"})
    assert framed.multiplications == pytest.approx(288 * 4 * 4.6e-6)
    assert framed.break_even is None and framed.quantized_break_even is None
    once = energy(graph, connections, spikes, Schedule(1))
    assert once.break_even is not None
    even = {"spikes": torch.full((2, 4, 4), once.break_even, dtype=torch.float64)}
    assert cost(graph, connections, even, Schedule(1)).total == pytest.approx(once.reference + once.reference_memory)
    assert energy(graph, connections, {"spikes": torch.zeros(2, 4, 4)}, Schedule(1)).break_even is None
    assert Cost(0.0, 1e6, bits=32).arithmetic == pytest.approx(4.6)


def test_what_comes_first_says_what_is_lost_and_where(reports: dict[str, Report]):
    assert sentence(reports["plain"]).startswith("Nothing was measured yet: calibrate on images")
    assert "predictions at T=2, 3 steps in all, on 40 samples it was" in sentence(reports["calibrated"])
    assert "the trained network was stripped" not in sentence(reports["evaluated"])
    assert "no loss is known" in sentence(reports["stripped"])
    evaluation = reports["evaluated"].evaluation
    assert evaluation is not None
    nothing = dataclasses.replace(evaluation, labeled=False, rows=(row(2, total_steps=2),))
    told = sentence(dataclasses.replace(reports["evaluated"], evaluation=nothing))
    assert "the trained network has no predictions to compare with" in told and "without" not in told
    layer = reports["calibrated"].layers[1]
    blamed = (Blame("Relu", 0.2, (0.1, 0.3), 0.2), Blame(layer.name, 0.8, (0.5, 1.1), 0.8))
    sleep = reports["calibrated"].summary.sleep
    measured = row(2, total_steps=2, sleep=sleep, drop=1.0, drop_interval=(0.5, 1.5), blame=blamed)

    def said(shown: Row = measured, **changes: float) -> str:
        calm = {"clipping": 0.0, "quantization": 0.0, "unevenness": 0.0, "clipping_channels": 3}
        changed = dataclasses.replace(layer, **{**calm, **changes})
        report = dataclasses.replace(
            reports["calibrated"],
            layers=(changed,),
            evaluation=Evaluation(100, True, {"classification": {}}, {"accuracy": 90.0}, (shown,), ()),
        )
        return sentence(report)

    longer = dataclasses.replace(measured, total_steps=8, drop_interval=(-0.5, 2.5))
    few = "100 samples are too few to tell how many points of accuracy are lost at T=2, 8 steps in all"
    assert said(longer) == f"{few} (measured 1.00 points, 95 % interval −0.50 to 2.50)."
    enough = dataclasses.replace(longer, drop=0.1, drop_interval=(-0.2, 0.4))
    most = "At most 0.40 points of accuracy are lost at T=2, 8 steps in all"
    assert said(enough) == f"{most} (measured 0.10 points, 95 % interval −0.20 to 0.40)."
    start = "Loses 1.00 points of accuracy at 2 steps (95 % interval 0.50 to 1.50)"
    start = f"{start}; 80.0 % of it enters at {layer.name}"
    assert said() == f"{start}."
    assert said(clipping=0.5) == f"{start}, where 3 of {layer.channels} channels clip."
    assert said(quantization=0.5) == f"{start}, where values are rounded to 3 levels."
    assert said(unevenness=0.5).startswith(f"{start}, where spikes come unevenly (")
    # Of many layers, one is far from 0 by chance.
    many = tuple(Blame(f"Relu_{index}", 0.01, (-0.5, 0.5), 0.01) for index in range(20))
    barely = dataclasses.replace(measured, blame=(Blame(layer.name, 0.8, (0.1, 1.5), 0.8), *many))
    assert said(barely).endswith("; no single layer stands out beyond chance.")
    assert said(dataclasses.replace(barely, blame=barely.blame[:1])) == f"{start}."


def test_a_finding_of_no_known_kind_cannot_be_built():
    with pytest.raises(ValueError, match="no known kind"):
        Finding("made-up", "info", "", "", "")
    assert len(EXPLANATIONS) > 20


def test_the_trained_network_is_found_again_in_the_form_it_was_compared_in():
    made, _ = converted()
    canonical = pipeline.canonical_reference(made)
    assert made.reference is not None
    assert set(made.snn.ops(Neuron)) <= set(canonical.ops(Activation))
    x = torch.randn(4, 1, 8, 8)
    wanted, found = (
        run(graph, {graph.inputs[0]: x.unsqueeze(0)}, graph.outputs) for graph in (made.reference, canonical)
    )
    for one, other in zip(wanted.values(), found.values(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_values_are_told_in_one_order_and_only_what_was_stripped_is_called_so(reports: dict[str, Report]) -> None:
    answers, trained = normal(8, 3, seed=1), normal(8, 3, seed=2)
    outcomes = Values().outcomes(answers, trained, truth=trained + 1)
    assert reports["evaluated"].headline is not None
    shown = dataclasses.replace(
        reports["evaluated"].headline,
        accuracy=None,
        drop=None,
        agreement=None,
        scores=Values().measured(outcomes)["scores"],
    )
    live = dataclasses.replace(reports["calibrated"], evaluation=Evaluation(8, True, {"values": {}}, {}, (shown,), ()))
    again = parsed(json.loads(to_json(live)), "here")
    titles = ["Relative error", "Cosine", "Largest deviation", "Label error"]
    for report in (live, again):
        facts = next(block for block in KeyFiguresSection().blocks(report) if isinstance(block, Facts))
        assert [fact.name for fact in facts.facts if fact.name in titles] == titles
        told = [block.words for block in StepsSection().blocks(report) if isinstance(block, Text)]
        assert "8 samples; with labels" in told
    assert live.evaluation is not None
    bare = dataclasses.replace(live, evaluation=dataclasses.replace(live.evaluation, stripped=True))
    assert bare.stripped and not live.stripped
    assert any("stripped of" in block.words for block in StepsSection().blocks(bare) if isinstance(block, Text))
