"""Networks run on another device do there all that they do: only what goes in and what comes out is handed over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import snnc
from snnc import cli
from snnc.artifact import fingerprint
from snnc.data.dataset import Reading
from snnc.errors import DataError
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.neurons import neurons
from snnc.run import Program, computing_on
from snnc.run.device import current_device
from snnc.schedule import Schedule
from tests.other_device import ELSEWHERE, other_device
from tests.support import Network, alternating, normal, random_network, relu, sloped
from tests.test_report import DIGITS, PREPROCESSING

SCHEDULE = Schedule(4, sleep=1)


class Places(TorchDispatchMode):
    """Where numbers are computed that are real: operations by the devices of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.seen.setdefault(result.device.type, set()).add(str(func.overloadpacket))
        return result


def seen(program: Program, x: Tensor) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]]]:
    responses: list[tuple[str, Tensor]] = []
    found = program(Feeds({"x": x}), observe=lambda name, response: responses.append((name, response)))
    return found, responses


def assert_same(one: Any, other: Any) -> None:
    assert one[0].keys() == other[0].keys() and [name for name, _ in one[1]] == [name for name, _ in other[1]]
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize(("name", "trains"), alternating(["trained", *neurons], [True, False]))
def test_programs_compute_there_and_nowhere_else(name: str, trains: bool) -> None:
    graph = random_network(1, relu if name == "trained" else sloped(name, seed=1), norms=name == "trained")
    x = normal(3, 3, 8, 8)
    want = [*graph.nodes][-4:]
    wanted = seen(Program(graph, SCHEDULE, want=want, trains=trains), x)
    with other_device(), computing_on(ELSEWHERE), Places() as places:
        program = Program(graph, SCHEDULE, want=want, trains=trains)
        found = seen(program, x)
    assert all(tensor.device.type == "cpu" for tensor in [*found[0].values(), *(r for _, r in found[1])])
    assert_same(found, wanted)
    # Here there are copies, and what is drawn at random, alike on every device.
    here, there = (places.seen.get(device, set()) for device in ("cpu", ELSEWHERE.type))
    copies = {"aten._to_copy", "aten.clone", "aten.detach", "aten.alias", "aten.lift_fresh"}
    assert "aten.convolution" in there
    assert here <= copies | {"aten.rand", "aten.view", "aten.movedim", "aten.permute", "aten.squeeze", "aten.slice"}
    assert current_device().type == "cpu"


def test_the_law_can_fail() -> None:
    with other_device(), Places() as places:
        normal(2, 3) + 1
        normal(2, 3).to(ELSEWHERE) * 2
    assert "aten.add" in places.seen["cpu"] and "aten.mul" in places.seen[ELSEWHERE.type]


class Small:
    """A device on which so many samples have room, and no more."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        computed = Program._computed
        self.sizes: list[int] = []

        def limited(program: Program, order: Any, feeds: Feeds, *others: Any) -> Any:
            if order is not program._order:
                self.sizes.append(feeds.samples)
                # Some of it is done by then.
                found = computed(program, order, feeds, *others)
                if feeds.samples > room:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return found
            return computed(program, order, feeds, *others)

        monkeypatch.setattr(Program, "_computed", limited)


def test_what_has_no_room_is_done_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(1, sloped("if", "two-phase", seed=1))
    x = normal(7, 3, 8, 8)
    wanted = seen(Program(graph, SCHEDULE), x)
    small = Small(2, monkeypatch)
    with other_device(), computing_on(ELSEWHERE):
        found = seen(Program(graph, SCHEDULE), x)
    assert small.sizes == [7, 3, 1, 2, 4, 2, 2]
    assert [name for name, _ in found[1]] == [name for name, _ in wanted[1]]
    assert all(torch.allclose(found[0][name], wanted[0][name], atol=1e-5) for name in wanted[0])
    small = Small(0, monkeypatch)
    with other_device(), computing_on(ELSEWHERE), pytest.raises(DataError, match="more memory") as caught:
        seen(Program(graph, SCHEDULE), x)
    assert caught.value.place == "--device" and caught.value.exit_code == 5


def test_what_is_drawn_does_not_depend_on_what_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network((3, 8, 8))
    for _ in range(2):
        net.add(neurons["two-phase-probabilistic"](torch.tensor(0.7)), net.conv(net.nodes[-1].name, 4))
    x = normal(7, 3, 8, 8)
    wanted = seen(Program(net.graph(), SCHEDULE), x)
    Small(2, monkeypatch)
    with other_device(), computing_on(ELSEWHERE):
        assert_same(seen(Program(net.graph(), SCHEDULE), x), wanted)


def test_conversions_and_figures_are_those_of_the_cpu() -> None:
    data, some = DIGITS / "calibration", Reading(limit=24)

    def work() -> tuple[str, Any]:
        made, _ = snnc.convert(
            DIGITS / "model.onnx", "quick", data=data, timesteps=2, preprocessing=PREPROCESSING, reading=some
        )
        return fingerprint(made), snnc.evaluate(made, data=data, reading=some, images=False).plain()

    wanted = work()
    with other_device(), computing_on(ELSEWHERE):
        found = work()
    assert found == wanted


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["convert", "calibrate", "evaluate", "export"])
def test_a_device_that_is_not_there_is_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    convert = ["convert", str(DIGITS / "model.onnx"), "-o", "made.snn", "--recipe", "quick", "-q"]
    assert cli.main([*convert, "--device", "auto"]) == 0
    before = {path.name for path in tmp_path.iterdir()}
    data = ["--data", str(DIGITS / "test")]
    words = {"convert": convert, "export": ["export", "made.snn", "-o", "made.onnx"]}.get(
        command, [command, "made.snn", *data]
    )
    assert cli.main([*words, "--device", "cuda"]) == 2
    told = capsys.readouterr().err
    assert told == "error: torch sees no GPU here @ --device\nhint:  use --device cpu\n"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_graphs_stay_where_they_are() -> None:
    graph = random_network(0, relu)
    with other_device(), computing_on(ELSEWHERE):
        program = Program(graph)
        assert isinstance(program.graph, Graph)
        tensors = [tensor for node in program.graph.nodes.values() for tensor in node.op.tensors().values()]
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
