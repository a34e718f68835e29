"""What answers are worth after every step, and samples that stop when their answer is certain."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import snnc
from snnc import cli, recipe
from snnc.actions.run import run
from snnc.analysis.latency import latency
from snnc.artifact import save_conversion
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.errors import UsageError, VerificationError
from snnc.feeds import Feeds
from snnc.figure import EarlyExit, Row
from snnc.formats.onnx import OnnxFormat
from snnc.formats.verification import verify
from snnc.ir import Input
from snnc.measure.ledger import Course
from snnc.module import SpikingNetwork
from snnc.neurons import neurons
from snnc.neurons.base import mean_signal, running_means
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks import tasks
from snnc.tasks.classification import Classification
from tests.support import random_network, spiking

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
FEW = Reading(limit=80)

pytestmark = pytest.mark.usefixtures("counted_shortly")
# Neurons that answer step by step, equally, in shares and asleep, after a rehearsal, and those that gather first.
SETTINGS: dict[str, dict[str, Any]] = {
    "if": {"neuron": "if", "timesteps": 5},
    "shares": {"neuron": "graded(levels=3, max-event=1, rest=1)", "timesteps": 2, "shares": (0.75, 0.25), "sleep": 1},
    "rehearsed": {"neuron": "srp", "timesteps": 3, "overrides": ["rehearsal=2"]},
    "gathers first": {"neuron": "two-phase", "timesteps": 3},
}


def converted(**changes: Any) -> Conversion:
    made, _ = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", **changes),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=Reading(limit=40),
    )
    return made


def evaluated(made: Conversion, reading: Reading = FEW, **options: Any) -> Row:
    (row,) = snnc.evaluate(made, data=DIGITS / "test", reading=reading, **options).rows
    return row


def images(network: Conversion, limit: int = 80) -> tuple[Feeds, torch.Tensor]:
    data = open_dataset(DIGITS / "test", PREPROCESSING, network.snn.ops(Input), Reading(limit=limit))
    labels = data.labels("classes")
    assert labels is not None
    (feeds,) = data.batches(Reading(batch_size=1000))
    return feeds, labels.answers


@pytest.fixture(scope="module")
def made() -> dict[str, Conversion]:
    return {name: converted(**changes) for name, changes in SETTINGS.items()}


@pytest.mark.parametrize("name", sorted(neurons))
def test_what_is_wanted_stepwise_is_the_train_and_has_the_mean(name: str) -> None:
    graph = random_network(3, spiking(name))
    schedule = Schedule(4, sleep=2)
    feeds = Feeds({n: op.drawn(3, torch.Generator().manual_seed(1)) for n, op in graph.ops(Input).items()})
    stepwise = Program(graph, schedule, stepwise=graph.outputs)(feeds)
    trains, means = Program(graph, schedule, trains=True)(feeds), Program(graph, schedule)(feeds)
    for output in graph.outputs:
        assert len(stepwise[output]) == schedule.total
        assert torch.allclose(stepwise[output], trains[output], atol=1e-4)
        assert torch.allclose(mean_signal(stepwise[output], schedule), means[output], atol=1e-4)
        assert torch.allclose(running_means(stepwise[output], schedule)[-1], means[output][0], atol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_ledger_has_what_the_network_answers_after_each_step(name: str, made: dict[str, Conversion]) -> None:
    row, network = evaluated(made[name]), made[name]
    feeds, labels = images(network)
    response = SpikingNetwork(network).respond(feeds)
    assert isinstance(response.signal, torch.Tensor)
    counting = response.signal[network.schedule.rehearsal :]
    answers = counting.cumsum(0).argmax(2)
    assert row.ledger is not None
    moments = row.ledger.moments
    assert row.ledger.measures == "accuracy"
    assert [moment.steps for moment in moments] == [*range(row.total_steps - len(counting) + 1, row.total_steps + 1)]
    assert row.total_steps == latency(network.snn, network.schedule)
    assert [moment.merit for moment in moments] == pytest.approx(
        [100 * float((found == labels).double().mean()) for found in answers]
    )
    assert [moment.settled for moment in moments] == pytest.approx(
        [100 * float((found == answers[-1]).double().mean()) for found in answers]
    )
    assert (moments[-1].merit, moments[-1].agreement, moments[-1].settled) == (row.accuracy, row.agreement, 100)
    assert row.accuracy is not None
    near = [moment.steps for moment in moments if moment.merit >= row.accuracy - 1]
    assert row.ledger.within_end == near[0]


def test_the_ledger_without_labels_is_of_the_agreement_and_tasks_that_take_long_have_none(
    made: dict[str, Conversion], tmp_path: Path
) -> None:
    feeds, _ = images(made["if"], 12)
    np.save(tmp_path / "x.npy", next(iter(feeds.values())).numpy())
    plain = dataclasses.replace(made["if"], preprocessing=Preprocessing())
    (row,) = snnc.evaluate(plain, data=tmp_path / "x.npy").rows
    assert row.ledger is not None
    assert (row.ledger.measures, row.ledger.trained) == ("agreement", 100)
    (values,) = snnc.evaluate(plain, data=tmp_path / "x.npy", task=tasks["values"]()).rows
    assert values.ledger is None


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "gathers first"])
@pytest.mark.parametrize("own", [True, False], ids=["data of their own", "held out"])
def test_each_sample_stops_at_the_first_step_whose_limit_its_margin_reaches(
    name: str, own: bool, made: dict[str, Conversion]
) -> None:
    network = made[name]
    exit_data = DIGITS / "calibration" if own else None
    found = evaluated(network, exit_confidence=0.8, exit_data=exit_data).exit
    assert found is not None
    assert found.samples == (80 if own else 64)
    assert found.rule.source == ("calibration" if own else "the evaluation data, held out")
    assert sum(found.stopped) == found.samples
    assert len(found.rule.limits) == network.schedule.total
    if own:
        stopped, *shares = by_hand(network, found)
        assert stopped == found.stopped
        assert shares == pytest.approx([found.merit, found.settled])
    assert found.mean_steps == pytest.approx(
        sum(step * count for step, count in zip(found.steps, found.stopped, strict=True)) / found.samples
    )
    assert found.steps[0] <= found.mean_steps < found.steps[-1]
    assert 0 < found.spikes < found.spikes_whole


@pytest.mark.parametrize(
    ("folder", "reading", "level"),
    [
        ("calibration", Reading(limit=60), ["warning"]),
        ("calibration", FEW, ["warning"]),
        ("test", Reading(limit=60), []),
        (None, FEW, []),
    ],
)
def test_samples_that_were_calibrated_on_are_told_where_they_say_when_to_stop(
    made: dict[str, Conversion], folder: str | None, reading: Reading, level: list[str]
) -> None:
    learned_on = None if folder is None else DIGITS / folder
    found = snnc.evaluate(
        made["if"], data=DIGITS / "test", exit_confidence=0.8, exit_data=learned_on, reading=reading, images=False
    ).findings
    assert [each.severity for each in found if "tell when to stop" in each.message] == level


@pytest.fixture(scope="module")
def ruled(made: dict[str, Conversion]) -> dict[str, tuple[Conversion, EarlyExit]]:
    """Networks with a rule for stopping, and what comes of it."""
    found = {}
    for name in set(SETTINGS) - {"gathers first"}:
        stopped = evaluated(made[name], exit_confidence=0.8, exit_data=DIGITS / "calibration").exit
        assert stopped is not None
        found[name] = dataclasses.replace(made[name], exit=stopped.rule), stopped
    return found


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "gathers first"])
def test_a_file_of_one_step_says_when_answers_are_certain(
    name: str, ruled: dict[str, tuple[Conversion, EarlyExit]]
) -> None:
    network, stopped = ruled[name]
    form = OnnxFormat(step=True, exit_early=True)
    written = form.write(network)
    onnx.checker.check_model(written.file.model, full_check=True)
    kept = {entry.key: entry.value for entry in written.file.model.metadata_props}
    assert json.loads(kept["snnc.exit"])["limits"] == [*stopped.rule.limits]
    feeds, _ = images(network)
    # A host that knows onnxruntime only: it feeds states back, and stops where it is told to.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(written.data, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    pixels = next(iter(feeds.values())).numpy()
    own = {network.snn.inputs[0]: pixels, written.file.timesteps: np.array(network.schedule.timesteps)}
    fed = {
        entry.name: np.zeros([len(pixels), *entry.shape[1:]], np.float32) if entry.shape else np.array(0)
        for entry in session.get_inputs()
        if entry.name in written.file.states
    }
    running, counts = np.ones(len(pixels), bool), []
    for _ in range(network.schedule.total):
        found = dict(zip(names, session.run(names, {**fed, **own}), strict=True))
        counts.append(int((running & found["certain"]).sum()))
        running &= ~found["certain"]
        fed = {before: found[after] for before, after in written.file.states.items()}
    assert not running.any()
    assert tuple(counts[network.schedule.rehearsal :]) == stopped.stopped
    (engine,) = form.engines(written, network)
    samples = MemorySamples(feeds)
    assert verify(network, written, engine, samples).verdict == "passed"
    # The check can fail: of other limits the file says something else.
    other = dataclasses.replace(stopped.rule, limits=(None,) * network.schedule.total)
    (engine,) = form.engines(written, dataclasses.replace(network, exit=other))
    with pytest.raises(VerificationError, match="certain"):
        verify(network, written, engine, samples)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "gathers first"])
def test_a_run_ends_when_the_answer_is_certain(name: str, ruled: dict[str, tuple[Conversion, EarlyExit]]) -> None:
    network, stopped = ruled[name]
    decisions = [*run(network, data=DIGITS / "test", reading=FEW, early=True)]
    steps = [decision.steps for decision in decisions]
    rehearsal = network.schedule.rehearsal
    assert tuple(steps.count(step + rehearsal) for step in range(1, len(stopped.steps) + 1)) == stopped.stopped
    assert [*stopped.steps] == [*range(rehearsal + 1, network.schedule.total + 1)]
    whole = [decision.steps for decision in run(network, data=DIGITS / "test", reading=Reading(limit=2))]
    assert whole == [network.schedule.total] * 2
    spikes = sum(decision.spikes for decision in decisions) / len(decisions)
    assert spikes == pytest.approx(stopped.spikes, rel=1e-3)


def test_files_and_runs_need_a_rule_for_their_steps(ruled: dict[str, tuple[Conversion, EarlyExit]]) -> None:
    network, _ = ruled["if"]
    lacking = dataclasses.replace(network, exit=None)
    longer = dataclasses.replace(network, schedule=Schedule(9))
    for wrong, message in ((lacking, "no rule"), (longer, "for 5 steps")):
        with pytest.raises(UsageError, match=message):
            OnnxFormat(step=True, exit_early=True).write(wrong)
        with pytest.raises(UsageError, match=message):
            next(run(wrong, data=DIGITS / "test", early=True))
    with pytest.raises(UsageError, match="whole trains"):
        OnnxFormat(exit_early=True).write(network)


def by_hand(network: Conversion, found: EarlyExit) -> tuple[tuple[int, ...], float, float]:
    """How many samples stop after each step, how many are right, and how many as after the last."""
    feeds, labels = images(network)
    rehearsal, elapsed = network.schedule.rehearsal, network.schedule.elapsed
    outputs = SpikingNetwork(network).respond(feeds).signal
    assert isinstance(outputs, torch.Tensor)
    stopped, right, same = [0] * len(found.steps), 0, 0
    for sample, label in enumerate(labels.tolist()):
        total = torch.zeros(outputs.shape[2])
        whole = int(outputs[rehearsal:, sample].sum(0).argmax())
        for step in range(rehearsal, network.schedule.total):
            total = total + outputs[step, sample]
            first, second = (total / elapsed[step]).topk(2).values.tolist()
            limit = found.rule.limits[step]
            if step == network.schedule.total - 1 or (limit is not None and first - second >= limit):
                stopped[step - rehearsal] += 1
                right += int(total.argmax()) == label
                same += int(total.argmax()) == whole
                break
    return tuple(stopped), 100 * right / len(labels), 100 * same / len(labels)


def course_of(network: Conversion, answers: torch.Tensor, margins: torch.Tensor) -> Course:
    course = Course(network.snn, network.schedule, Classification(), exits=True)
    course.answers, course.margins = answers, margins
    return course


def test_the_rule_keeps_to_its_confidence_on_what_it_was_made_on_and_few_samples_promise_nothing(
    made: dict[str, Conversion],
) -> None:
    draw = torch.Generator().manual_seed(0)
    steps = made["if"].schedule.timesteps
    margins = torch.rand(2000, steps, generator=draw)
    whole = torch.randint(10, (2000, 1), generator=draw)
    # The smaller the margin the more often an answer changes, and ever more rarely.
    changes = torch.rand(2000, steps, generator=draw) > margins + torch.arange(steps) / steps
    answers = torch.where(changes, (whole + 1) % 10, whole)
    answers[:, -1:] = whole
    for confidence in (0.6, 0.9, 0.99):
        rule = course_of(made["if"], answers, margins).rule(confidence, "here")
        running, changed, gone = torch.ones(2000, dtype=torch.bool), 0, 0
        for at, limit in enumerate(rule.limits[:-1]):
            stops = running & (margins[:, at] >= (2 if limit is None else limit))
            changed, gone = changed + int((answers[stops, at] != whole[stops, 0]).sum()), gone + int(stops.sum())
            assert gone == 0 or changed / gone <= 1 - confidence
            running &= ~stops
        assert gone > 0
        assert rule.limits[-1] is None
    few = course_of(made["if"], answers[:30], margins[:30]).rule(0.99, "here")
    assert few.limits == (None,) * steps
    # Of equal margins all stop or none does.
    equal = course_of(made["if"], answers, torch.ones_like(margins)).rule(0.99, "here")
    assert equal.limits[0] is None


def test_labels_do_not_change_the_rule(made: dict[str, Conversion], tmp_path: Path) -> None:
    feeds, labels = images(made["if"])
    pixels = next(iter(feeds.values())).numpy()
    plain = dataclasses.replace(made["if"], preprocessing=Preprocessing())
    rules = []
    for shift in (0, 3):
        np.savez(tmp_path / f"{shift}.npz", x=pixels, y=(labels.numpy() + shift) % 10)
        (row,) = snnc.evaluate(plain, data=tmp_path / f"{shift}.npz", exit_confidence=0.8).rows
        assert row.exit is not None
        rules.append(row.exit.rule)
    assert rules[0] == rules[1]
    # The data that is judged is not what the rule is made on, even where it is named as such.
    (row,) = snnc.evaluate(plain, data=tmp_path / "0.npz", exit_confidence=0.8, exit_data=tmp_path / "0.npz").rows
    assert row.exit is not None
    assert (row.exit.samples, row.exit.rule) == (64, rules[0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("if", {"exit_confidence": 1.0}, "no confidence"),
        ("if", {"exit_confidence": 0.0}, "no confidence"),
        ("if", {"exit_confidence": float("nan")}, "no confidence"),
        ("if", {"exit_confidence": 0.9, "timesteps": [1]}, "in one step"),
        ("if", {"exit_confidence": 0.9, "reading": Reading(limit=1)}, "one sample"),
        ("if", {"exit_confidence": 0.9, "task": tasks["values"]()}, "how certain values are"),
        ("gathers first", {"exit_confidence": 0.9}, "no answer before the end"),
    ],
)
def test_where_no_answer_could_be_certain_that_is_said(
    name: str, options: dict[str, Any], message: str, made: dict[str, Conversion]
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        evaluated(made[name], **options)
    assert "--exit-confidence" in raised.value.place
    assert raised.value.hint


def test_the_command_reports_it_in_all_faces(
    made: dict[str, Conversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_conversion(made["if"], tmp_path / "model.snn")
    settings = f"calibration:\n  data: {DIGITS / 'calibration'}\nevaluation:\n  data: {DIGITS / 'test'}\n"
    (tmp_path / "snnc.yaml").write_text(f"{settings}  exit-confidence: 0.8\n", encoding="utf-8")
    status = cli.main(["evaluate", "model.snn", "--limit", "120", "--max-mean-steps", "5", "--html", "page.html"])
    told = capsys.readouterr().out
    assert status == 0
    assert "accuracy % by steps from image to answer at T=5: 1: " in told
    assert "within 1 point of the whole run after" in told
    assert "samples stopped after step: 1: " in told
    assert "max-mean-steps" in told or "mean steps" in told
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Answering early" in page
    assert "after every step from image to answer" in page
    kept = json.loads((tmp_path / "model.report.json").read_text(encoding="utf-8"))
    (row,) = kept["evaluation"]["rows"]
    assert row["exit"]["rule"]["confidence"] == 0.8
    beside = [other["rule"]["confidence"] for other in row["exit_beside"]]
    assert beside == [0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
    # To be surer takes longer.
    steps = [other["mean_steps"] for other in (row["exit"], *row["exit_beside"])]
    assert steps == sorted(steps)
    assert len(row["ledger"]["moments"]) == 5
    # Asked for once, it stays until it is measured again.
    (tmp_path / "snnc.yaml").write_text(settings, encoding="utf-8")
    assert cli.main(["evaluate", "model.snn", "--limit", "120", "-q"]) == 0
    (row,) = json.loads((tmp_path / "model.report.json").read_text(encoding="utf-8"))["evaluation"]["rows"]
    assert row["exit"]["rule"]["confidence"] == 0.8
    assert cli.main(["run", "model.snn", "--limit", "5", "--exit-early"]) == 0
    assert "from input to answer" in capsys.readouterr().out
    assert cli.main(["export", "model.snn", "-o", "step.onnx", "--step", "--exit-early"]) == 0
    for arguments in (["--exit-early"], ["--step", "--exit-early", "--timesteps", "3"]):
        assert cli.main(["export", "model.snn", "-o", "other.onnx", *arguments]) == 2
    (tmp_path / "model.report.json").unlink()
    assert cli.main(["run", "model.snn", "--exit-early"]) == 2
    assert "--exit-confidence" in capsys.readouterr().err
    for arguments in (["--exit-data", str(DIGITS / "calibration")], ["--exit-confidence", "1.5"]):
        assert cli.main(["evaluate", "model.snn", *arguments]) == 2
    (tmp_path / "snnc.yaml").write_text(f"{settings}  exit-confidence: 2\n", encoding="utf-8")
    assert cli.main(["evaluate", "model.snn"]) == 2
    assert "snnc.yaml: evaluation" in capsys.readouterr().err
