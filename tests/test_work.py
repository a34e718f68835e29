"""Work is counted as it is done: once where once is enough, and wherever a spike is delivered to (METHODS 6, 7)."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from snnc import ops
from snnc.analysis.reach import connected
from snnc.analysis.values import Kind
from snnc.analysis.work import work
from snnc.blocks import Remark, Remarks, Table, Text
from snnc.feeds import Feeds
from snnc.frontend import open_model
from snnc.hardware.fit import OPERATIONS, Misfit, fit
from snnc.hardware.target import load_target
from snnc.ir import Graph, Op
from snnc.laws.networks import Network, calibration, random_network
from snnc.laws.samples import normal
from snnc.measure.energy import arithmetic, cost
from snnc.neurons import Neuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.place_neurons import PlaceNeurons
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.report.faces.terminal import show
from snnc.report.report import build
from snnc.report.sections import sections
from snnc.run.program import Program
from snnc.schedule import Schedule
from tests.frontend_files import array, one, save
from tests.support import spiking
from tests.test_codes import tokens
from tests.test_export_spiking_onnx import conversion


def coded(neuron: str, keep: tuple[str, ...] = ()) -> Graph:
    """The network of tokens with neurons, codes among them, but for the layers that go on multiplying."""
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    graph = PlaceNeurons(keep=keep)(graph, calibration(graph))
    given = calibration(graph, normal(16, 6, 8))
    return SubstituteNeurons(neuron)(CalibrateThresholds()(graph, given), given)


def silent(graph: Graph) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(graph.shapes[name], dtype=torch.float64) for name in graph.ops(tuple(neurons.values()))}


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_analog_work_is_what_is_computed(neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where it happens: how many samples pass through every operation that spikes do not drive."""
    graph, schedule = coded(neuron, keep=("query", "widened")), Schedule(5, rehearsal=2)
    program, connections = Program(graph, schedule), connected(graph)
    seen: Counter[int] = Counter()
    for kind in {type(op) for op in program.graph.ops(Op).values()}:
        plain = kind.__call__

        def counted(op: Op, *inputs: torch.Tensor, plain: Any = plain) -> torch.Tensor:
            seen[id(op)] += len(inputs[0])
            result: torch.Tensor = plain(op, *inputs)
            return result

        monkeypatch.setattr(kind, "__call__", counted)
    program(Feeds({graph.inputs[0]: normal(3, 6, 8)}))
    analog = {name: found for name, found in connections.items() if found.reach is None}
    assert {found.kind for found in analog.values()} == {Kind.CONSTANT, Kind.CURRENT, Kind.LIFTED}
    for name, found in analog.items():
        assert seen[id(program.graph.op(name))] == 3 * found.evaluations(schedule), name
    once = neuron == "two-phase"
    assert {found.evaluations(schedule) for found in analog.values()} == ({1} if once else {1, 7})
    total = sum(found.macs * found.evaluations(schedule) for found in analog.values())
    assert cost(graph, connections, silent(graph), schedule).analog_macs == total


def test_a_spike_is_delivered_to_every_population_along_a_trunk() -> None:
    graph = coded("two-phase")
    connections = connected(graph)
    places = {name: found.populations for name, found in connections.items() if found.copies > 1}
    codes = ("embedded_code", "trunk_code", "left_code")
    assert places == {"embedded": codes, "projected": codes[1:]}
    (reach,) = (connections["projected"].reach or {}).values()
    # Each of 8 targets of a token, in either population.
    assert torch.equal(reach, torch.full((6, 8), 16.0, dtype=torch.float64))
    spikes = {name: torch.ones_like(count) for name, count in silent(graph).items()}
    found = arithmetic(graph, connections, Schedule(4), spikes)
    copied = {
        delivery.name: (delivery.populations, delivery.additions, delivery.relayed) for delivery in found.delivered
    }
    assert copied == {"embedded": (3, 2 * 48 * 8, 3 * 48), "projected": (2, 48 * 8, 2 * 48)}
    assert [delivery.additions for delivery in arithmetic(graph, connections, Schedule(4)).delivered] == [None, None]


def test_shares_say_what_drives_the_multiplications_of_the_trained_network() -> None:
    graph = coded("two-phase")
    macs = {
        name: work(node.op, [graph.shapes[v] for v in node.inputs], graph.shapes[name]).macs
        for name, node in graph.nodes.items()
    }
    found = arithmetic(graph, connected(graph), Schedule(4))
    total = sum(macs.values())
    assert found.macs == total
    first, *others = (operation.name for operation in found.analog)
    assert graph.nodes[first].inputs == graph.inputs
    assert others == [*graph.ops(ops.Nonlinear)]
    assert [operation.why for operation in found.analog] == ["image", "function", "function", "function"]
    assert found.driven_by_image == pytest.approx(100 * macs[first] / total)
    analog = macs[first] + sum(macs[name] for name in others)
    assert found.driven_by_spikes == pytest.approx(100 * (total - analog) / total)
    nothing = Network((3,))
    nothing.add(neurons["if"](torch.tensor(1.0)), "x")
    assert arithmetic(nothing.graph(), connected(nothing.graph()), Schedule(4)).driven_by_spikes is None


def test_work_is_told_by_kind_of_operation_and_codes_together() -> None:
    graph = coded("if", keep=("query",))
    report = build(conversion(graph, Schedule(4)))
    text, table, delivered = sections["arithmetic"]().blocks(report)
    assert isinstance(text, Text) and isinstance(table, Table) and isinstance(delivered, Text)
    shares = [float(share) for share in re.findall(r"([\d.]+) %", text.words)]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert re.match(
        r"[\d.]+ % of the multiply-accumulates are driven by spikes, [\d.]+ % are the image's own", text.words
    )
    cells = [[cell.text for cell in row] for row in table.rows]
    assert [(row[0], row[3], row[4]) for row in cells] == [
        ("Linear", "1", "the image alone makes what it takes in"),
        ("Linear", "4", "no neurons stand before it"),
        ("MatMul", "4", "no neurons stand for it"),
        ("Softmax", "4", "no neurons stand for it"),
    ]
    assert cells[2][1] == "source of matmul_8 and 1 more"
    assert "delivered to up to 3 populations" in delivered.words
    found = {finding.code: finding for finding in report.findings}
    assert found["analog-layer"].node == "query" and "at every step" in found["analog-layer"].message
    assert "4 layers of neurons stand for values of either sign" in found["codes"].message
    assert "ReLU" not in found["codes"].hint
    codes = {name for name, neuron in graph.ops(Neuron).items() if neuron.coding}
    assert not any(finding.node in codes for finding in report.findings if finding.code == "signed-spikes")
    plain = build(conversion(random_network(1, spiking("two-phase")), Schedule(4)))
    assert len([*sections["arithmetic"]().blocks(plain)]) == 1


def test_little_room_is_taken_by_findings_of_one_kind() -> None:
    alike = Remark("loose", "fasten it", tuple("abcde"))
    others = tuple(Remark(f"loose {index}", "fasten it") for index in range(4))
    said = [str(line) for line in show(Remarks("codes", "info", (alike, *others), ()))]
    assert said[:2] == ["info: loose @ a, b, c and 2 more", "hint: fasten it"]
    assert said[-2] == "info: 2 more of this kind are in the report"
    assert said[-1].startswith("hint: snnc explain codes") and len(said) == 8


def test_a_chip_is_asked_for_what_codes_and_functions_need() -> None:
    misfits: dict[tuple[str, str], list[Misfit]] = {}
    for name in ("speck", "loihi2"):
        for misfit in fit(coded("two-phase"), Schedule(4), load_target(name)).misfits:
            misfits.setdefault((name, misfit.limit), []).append(misfit)
    refused = {misfit.layer for misfit in misfits["loihi2", OPERATIONS]}
    assert {*coded("two-phase").ops(ops.Nonlinear)} <= refused
    signed = misfits["speck", "signed-spikes"]
    assert {misfit.layer for misfit in signed} >= {"trunk_code"}
    assert all("place-neurons" in misfit.edit for misfit in signed)


def test_scaled_spikes_are_taken_up_by_the_weights_behind() -> None:
    net = Network((4,))
    spikes = net.add(neurons["if"](torch.tensor(1.0)), "x")
    scaled = net.add(ops.Affine(torch.full((4,), 2.0), None), spikes, name="scaled")
    net.add(ops.Affine(torch.full((4,), 2.0), None), net.linear(scaled, 4), name="current")
    found = connected(net.graph())
    assert found["scaled"].reach == {} and found["scaled"].evaluations(Schedule(4)) == 0
    assert found["current"].reach is None and found["current"].evaluations(Schedule(4)) == 1


def test_the_trained_network_has_the_work_of_its_file(tmp_path: Path) -> None:
    nodes = [
        one("Relu", ["x"], ["b"]),
        one("Conv", ["b", "w"], ["a"], pads=[1, 1, 1, 1]),
        one("Flatten", ["a"], ["c"]),
        one("Gemm", ["c", "v"], ["d"]),
        one("Relu", ["d"], ["e"]),
        one("MatMul", ["e", "u"], ["y"]),
        one("MatMul", ["x", "b"], ["z"]),
    ]
    constants = {"w": array(4, 2, 3, 3), "v": array(4 * 5 * 5, 6), "u": array(6, 3)}
    opened = open_model(save(tmp_path / "m.onnx", nodes, (2, 5, 5), constants, ("y", "z")))
    graph = opened.model().graph
    found = arithmetic(graph, connected(graph), Schedule(1))
    assert found.macs == opened.survey.macs == 4 * 25 * 18 + 100 * 6 + 6 * 3 + 2 * 25 * 5


def test_a_sum_that_is_split_is_delivered_once_to_each_part() -> None:
    net = Network((4,))
    fired = net.add(IntegrateAndFire(torch.tensor(1.0)), net.linear("x", 5), name="fired")
    whole = net.linear(fired, 6, name="whole")
    for start in (0, 3):
        part = net.add(ops.Slice(1, start, start + 3), whole, name=f"part_{start}")
        net.add(IntegrateAndFire(torch.tensor(1.0)), part, name=f"neurons_{start}")
    graph = net.graph(net.linear("neurons_0", 2), net.linear("neurons_3", 2))
    found = connected(graph)["whole"]
    assert found.reach is not None
    assert torch.equal(found.reach["fired"], torch.full((5,), 6.0).double())
    assert (len(found.populations), found.copies) == (2, 1.0)
