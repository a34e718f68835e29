"""Spiking networks in C: what a compiler makes of the file fires what was converted, within the memory it states."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from snnc import cli, ops
from snnc.conversion import Conversion
from snnc.data.samples import MemorySamples
from snnc.errors import ModelError, UsageError, VerificationError
from snnc.feeds import Feeds
from snnc.formats.c import CFormat, Compiled, compilers
from snnc.formats.c.engine import FLAGS
from snnc.formats.c.functions import SOURCES
from snnc.formats.c.language import WIDTHS
from snnc.formats.c.memory import Line, laid_out
from snnc.formats.c.numbers import numbers_of
from snnc.formats.c.operations import kernels
from snnc.formats.format import Written
from snnc.formats.match import Match
from snnc.formats.onnx.neurons import Recurrence, forms
from snnc.formats.vectors import conformance_vectors
from snnc.formats.verification import verify
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.temporal_bias import TemporalBias
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.report.data import read
from snnc.rules import RefusedError
from snnc.schedule import Schedule
from tests.support import Network, calibration, exact, neuron_instances, normal, operations, uniform
from tests.test_export_spiking_onnx import conversion
from tests.test_integers import averaged, images_of, pooled

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
# What is compiled for one run is compiled fast.
FAST = (*FLAGS, "-O0")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SCHEDULES = (Schedule(3), Schedule(2, 1, 2), Schedule(3, 1, shares=(0.5, 0.3, 0.2)))

needs_compiler = pytest.mark.skipif(not compilers(), reason="needs a C compiler")


def written_operations() -> dict[str, tuple[Op, tuple[tuple[int, ...], ...]]]:
    refused = (Input, *refusals())
    return {name: entry for name, entry in operations().items() if not isinstance(entry[0], refused)}


@cache
def refusals() -> tuple[type[Op], ...]:
    """The operations that C refuses."""
    found = []
    for op, shapes in operations().values():
        network = conversion(around(("op", op, shapes)), Schedule(1))
        found += [type(op)] if CFormat().refusals(network) else []
    return tuple(found)


def around(*cases: tuple[str, Op, Sequence[Sequence[int]]]) -> Graph:
    """Each operation once on what is held and once on what moves, with inputs of its own and neurons behind it."""
    nodes: list[Node] = []
    for name, op, shapes in cases:
        inputs = [f"{name}_in{index}" for index, _ in enumerate(shapes)]
        nodes += [Node(value, Input((*shape,)), ()) for value, shape in zip(inputs, shapes, strict=True)]
        sent = [Node(f"{value}_sent", neurons["dual-threshold"](torch.tensor(0.7)), (value,)) for value in inputs]
        for what, values in (("held", inputs), ("moving", [node.name for node in sent])):
            nodes += sent if what == "moving" else []
            nodes.append(Node(f"{name}_{what}", op, tuple(values)))
            nodes.append(Node(f"{name}_{what}_coded", neurons["graded"](torch.tensor(0.5377)), (f"{name}_{what}",)))
    return Graph.of(nodes, [node.name for node in nodes if node.name.endswith("_coded")])


def samples(graph: Graph, count: int = 3) -> Feeds:
    inputs = enumerate(graph.ops(Input).items())
    return Feeds({name: normal(count, *op.shape, seed=seed) for seed, (name, op) in inputs})


def compiled(made: Conversion, form: CFormat, flags: Sequence[str] = FAST) -> tuple[Written, Compiled]:
    written = form.write(made)
    compiler = compilers()[0]
    return written, Compiled(written.file, form.prefix, made.snn, made.schedule, compiler, flags)


def chained(shape: tuple[int, ...], layers: Mapping[str, Op]) -> dict[str, Node]:
    """Return an input and one operation after the other."""
    nodes, before = {"x": Node("x", Input(shape), ())}, "x"
    for name, op in layers.items():
        nodes[name], before = Node(name, op, (before,)), name
    return nodes


def matched(made: Conversion, form: CFormat | None = None, feeds: Feeds | None = None) -> Match:
    written, engine = compiled(made, form or CFormat())
    return verify(made, written, engine, MemorySamples(feeds or samples(made.snn)))


@cache
def sanitized() -> bool:
    """Whether there is a compiler with sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "one.c"
        source.write_text("int main(void) { return 0; }\n")
        done = subprocess.run([compilers()[0], *SANITIZERS, source, "-o", source.with_suffix("")], capture_output=True)
    return not done.returncode


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    nodes = (
        dataclasses.replace(
            node, name=names.get(node.name, node.name), inputs=tuple(names.get(n, n) for n in node.inputs)
        )
        for node in graph.nodes.values()
    )
    return Graph.of(nodes, (names.get(name, name) for name in graph.outputs))


def small(kind: str = "if", schedule: Schedule = SCHEDULES[0]) -> Conversion:
    net = Network((2, 6, 6))
    net.add(neurons[kind](torch.tensor(0.7)), net.conv("x", 4))
    net.add(ops.MaxPool((2, 2), (2, 2), (0,) * 4, (1, 1)))
    net.add(neurons[kind](torch.tensor(0.6)), net.conv(net.nodes[-1].name, 3, stride=2))
    net.linear(net.flat(net.nodes[-1].name), 5)
    return conversion(net.graph(), schedule)


def test_some_operations_are_written_and_some_are_refused_in_words() -> None:
    assert {ops.Conv, ops.Linear, ops.Add, ops.MaxPool, ops.Mean} <= {
        type(op) for op, _ in written_operations().values()
    }
    assert {ops.Softmax, ops.RootMeanSquareNorm, ops.MatMul} <= {type(op) for op, _ in written_operations().values()}
    assert {ops.Embedding, ops.QuantizedRelu} <= set(refusals())
    for kind in refusals():
        op, shapes = next((op, shapes) for op, shapes in operations().values() if type(op) is kind)
        with pytest.raises(RefusedError) as refused:
            kernels(op, shapes)
        assert "--format onnx" in refused.value.hint
        with pytest.raises(ModelError) as placed:
            CFormat().write(conversion(around(("op", op, shapes)), Schedule(1)))
        assert placed.value.place == "op_held"


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_finite_number_is_refused_by_name(odd: float) -> None:
    """NaN would be a name in C, and whole numbers are neither: of no operation and in no field."""
    fields = set[str]()
    for op, shapes in written_operations().values():
        for name, tensor in op.tensors().items():
            if name in op.unbounded and not math.isnan(odd):
                continue
            broken = op.with_tensors({name: torch.where(tensor == tensor.max(), odd, tensor)})
            made = conversion(around(("op", broken, shapes)), Schedule(1))
            (refusal,) = CFormat().refusals(made)
            assert (refusal.message, refusal.places) == (
                f"its {name} holds NaN or infinities",
                ("op_held", "op_moving"),
            )
            with pytest.raises(ModelError, match=refusal.message):
                CFormat().write(made)
            fields.add(name)
    assert {"weight", "bias", "scale"} <= fields


@needs_compiler
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["plain", "rehearsal and sleep", "shares"])
def test_every_operation_computes_what_it_computes_here(schedule: Schedule) -> None:
    cases = [(f"case{index}", op, shapes) for index, (op, shapes) in enumerate(written_operations().values())]
    made = conversion(around(*cases), schedule)
    found = matched(made, CFormat(event_driven=bool(schedule.shares)))
    assert (found.verdict, found.equal, found.together) == ("passed", 100, 100), found.worst_layer
    assert found.output_error is not None and found.output_error < 1e-6
    assert len(found.layers) > 3 * len(cases)


@needs_compiler
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["plain", "rehearsal and sleep", "shares"])
def test_every_neuron_with_a_step_fires_what_it_fires_here(schedule: Schedule) -> None:
    """Nothing is summed in another order, so that all spikes are equal, whatever was fired before."""
    causal = {name: one for name, one in neuron_instances().items() if isinstance(one, CausalNeuron)}
    assert {type(one) for one in causal.values()} == {k for k in neurons.values() if issubclass(k, CausalNeuron)}
    nodes: list[Node] = [Node("x", Input((4, 7, 6)), ())]
    for index, one in enumerate(causal.values()):
        branch = exact(one, order_asked=True)
        names = {name: f"{name}_{index}" for name in branch.nodes if name != "x"}
        for node in branch.nodes.values():
            if node.name != "x":
                inputs = tuple(names.get(value, value) for value in node.inputs)
                nodes.append(Node(names[node.name], node.op, inputs))
    made = conversion(Graph.of(nodes, [node.name for node in nodes if node.name.startswith("y_")]), schedule)
    found = matched(made)
    assert (found.verdict, found.equal, found.together) == ("passed", 100, 100), found.worst_layer
    assert found.together_error is not None and found.together_error < 1e-6
    assert len(found.layers) == 3 * len(causal)


def test_what_has_no_step_is_refused_by_name() -> None:
    for name, kind in neurons.items():
        made = conversion(exact(kind(torch.tensor([0.7]))), Schedule(3))
        if issubclass(kind, CausalNeuron):
            assert not CFormat().refusals(made)
            continue
        (refusal,) = CFormat().refusals(made)
        assert refusal.places == ("asked",) and "gathers its whole input first" in refusal.message, name
        assert "--latency synchronous" in refusal.hint


@pytest.fixture
def own() -> Iterator[Callable[[str], Neuron]]:
    """A kind of neuron as somebody else would add it, with a form of its own."""

    class Own(IntegrateAndFire):  # type: ignore[misc]
        pass

    def make(body: str) -> Neuron:
        one = Own(torch.tensor(0.7))
        starts = {"membrane": one.potential * one.threshold}
        forms._rules[Own] = lambda op: Recurrence("Own", "own */ int x;", {"threshold": op.threshold}, starts, body)
        return one

    yield make
    forms._rules.pop(Own, None)


@needs_compiler
def test_a_neuron_of_others_is_written_from_its_form(own: Callable[[str], Neuron]) -> None:
    body = """
    charged = Add(membrane, x)
    fires = GreaterOrEqual(charged, threshold)
    fired = CastLike(fires, x)
    spikes = Mul(fired, threshold)
    unasked = Neg(spikes)
    next_membrane = Sub(charged, spikes)
    """
    net = Network((2, 5, 5))
    net.add(own(body), "x")
    assert matched(conversion(net.graph(), Schedule(4))).together == 100
    net = Network((2, 5, 5))
    net.add(own(body.replace("Neg", "Erf")), "x", name="odd")
    (refusal,) = CFormat().refusals(conversion(net.graph(), Schedule(4)))
    assert "Erf(spikes)" in refusal.message and refusal.places == ("odd",)


@needs_compiler
@pytest.mark.parametrize("flags", [(), ("--event-driven",)], ids=["by rates", "event-driven"])
def test_sanitizers_have_nothing_to_say(flags: tuple[str, ...]) -> None:
    if not sanitized():
        pytest.skip("needs a compiler with sanitizers")
    cases = [(f"case{index}", op, shapes) for index, (op, shapes) in enumerate(written_operations().values())]
    made = conversion(around(*cases), Schedule(2, 1, 1))
    _, engine = compiled(made, CFormat(event_driven=bool(flags)), (*FAST, *SANITIZERS))
    assert engine.answer(samples(made.snn, 2), torch.Generator())[0]


@needs_compiler
def test_what_calls_functions_of_mathematics_is_told() -> None:
    cases = [("soft", ops.Softmax(1), [(4, 5)]), ("all", ops.MatMul(), [(1, 3, 4), (2, 4, 5)])]
    cases.append(("each", ops.MatMul(), [(2, 3, 4), (2, 4, 5)]))
    made = conversion(around(*cases), Schedule(3))
    assert matched(made).together == 100
    (told,) = (note for note in CFormat().write(made).notes if "math.h" in note)
    assert "link with -lm" in told and told.endswith("soft_held, soft_moving")
    (refusal,) = CFormat().refusals(conversion(around(("op", ops.MatMul(), [(2, 1, 3, 4), (5, 4, 2)])), Schedule(1)))
    assert refusal.places == ("op_held", "op_moving") and "--format onnx --step" in refusal.hint
    (refusal,) = CFormat().refusals(
        conversion(around(("op", ops.RootMeanSquareNorm((1, 3), 1e-5), [(2, 3, 4)])), Schedule(1))
    )
    assert "beside one another" in refusal.message


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang")
@pytest.mark.parametrize("whole", [False, True], ids=["real", "whole"])
def test_clang_accepts_it(whole: bool) -> None:
    made = counted(Schedule(3, 1), "cif") if whole else small("graded")
    written = CFormat().write(made)
    engine = Compiled(written.file, "snn", made.snn, made.schedule, str(shutil.which("clang")))
    found = verify(made, written, engine, MemorySamples(samples(made.snn)))
    assert engine.name.startswith("clang") and found.together == 100


@needs_compiler
@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_cpp_accepts_it(standard: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    cases = [(f"case{index}", op, shapes) for index, (op, shapes) in enumerate(written_operations().values())]
    made = conversion(around(*cases), Schedule(2, 1, 1))
    (tmp_path / "network.cpp").write_bytes(CFormat().write(made).data)
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-std={standard}", "-DSNN_MAIN"]
    done = subprocess.run([compiler, *strict, "-fsyntax-only", "network.cpp"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@needs_compiler
def test_passing_over_what_is_silent_changes_no_bit() -> None:
    net = Network((2, 6, 40))
    net.add(neurons["cif"](torch.tensor(0.7)), net.conv("x", 8))
    net.add(neurons["graded"](torch.tensor(0.6)), net.conv(net.nodes[-1].name, 9, stride=2))
    net.linear(net.flat(net.nodes[-1].name), 5)
    made = conversion(net.graph(), Schedule(3, 1))
    feeds, dense = samples(made.snn, 4), (*FAST, "-DSNN_EVENT_COST=INT32_MAX")
    chosen, *others = (
        compiled(made, CFormat(event_driven=events), flags)[1].answer(feeds, torch.Generator())
        for events, flags in ((False, FAST), (False, dense), (True, FAST))
    )
    for other in others:
        for there, here in zip(other, chosen, strict=True):
            assert all(torch.equal(there[name], here[name]) for name in here)


def test_it_is_said_which_layers_go_event_by_event() -> None:
    net = Network((2, 6, 6))
    inner = [net.add(neurons["if"](torch.tensor(0.7)), net.conv("x", 4))]
    for channels in (9, 3):
        inner.append(net.add(neurons["if"](torch.tensor(0.6)), net.conv(inner[-1], channels)))
    last = net.linear(net.flat(inner[-1]), 5)
    made = conversion(net.graph(), Schedule(3))
    chosen, forced = (CFormat(event_driven=on).write(made) for on in (False, True))
    wide, narrow = (made.snn.nodes[name].inputs[0] for name in inner[1:])
    assert chosen.facts["loops"] == {wide: "rates", narrow: "dense", last: "events"}
    assert forced.facts["loops"] == {wide: "events", narrow: "dense", last: "events"}
    assert (chosen.variant, forced.variant) == ("by rates", "event-driven")
    (told,) = (note for note in chosen.notes if "SNN_EVENT_COST" in note)
    assert wide in told and "#define SNN_EVENT_COST 4" in chosen.file.source
    assert "EVENT_COST" not in forced.file.source


@needs_compiler
def test_an_input_that_is_added_to_itself_is_not_overwritten() -> None:
    net = Network((2, 4, 4))
    first = net.add(neurons["if"](torch.tensor(0.7)), net.conv("x", 2))
    net.add(neurons["if"](torch.tensor(0.9)), net.add(ops.Add(), first, first, first))
    net.add(ops.Add(), net.nodes[-1].name, first)
    assert matched(conversion(net.graph(), Schedule(4))).together == 100


@needs_compiler
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["plain", "rehearsal and sleep", "shares"])
def test_an_input_is_repeated_along_axes_that_constants_make_longer(schedule: Schedule) -> None:
    scale, shift = uniform(3, 2, 4, seed=1), normal(3, 2, 4, seed=2)
    shaped = ops.Affine(scale, shift), ops.Affine(None, shift), ops.ClippedRelu(scale, 0.1 * scale)
    cases = [(f"case{index}", op, [(3, 1, 1)]) for index, op in enumerate(shaped)]
    found = matched(conversion(around(*cases), schedule))
    assert (found.verdict, found.together) == ("passed", 100)


@needs_compiler
def test_an_input_that_nothing_asks_for_is_taken_all_the_same() -> None:
    nodes = [Node(name, Input((3,)), ()) for name in ("x", "unread")]
    nodes.append(Node("fired", neurons["if"](torch.tensor(0.7)), ("x",)))
    assert matched(conversion(Graph.of(nodes, ["fired"]), Schedule(3))).together == 100


@needs_compiler
def test_a_prefix_may_be_what_a_kind_of_neurons_is_called() -> None:
    assert matched(small(), CFormat(prefix="IF")).together == 100


@needs_compiler
def test_pixels_and_integers_are_taken_as_they_are() -> None:
    nodes = [
        Node("pixels", Input((3, 4), "pixel"), ()),
        Node("numbers", Input((3, 4), "integer", 9), ()),
        Node("scaled", ops.Affine(torch.tensor(1 / 255), None), ("pixels",)),
        Node("sum", ops.Add(), ("scaled", "numbers")),
        Node("fired", neurons["graded"](torch.tensor(0.7)), ("sum",)),
        Node("raw", ops.Affine(torch.tensor(2.0), None), ("numbers",)),
    ]
    made = conversion(Graph.of(nodes, ["fired", "raw", "scaled"]), Schedule(3, 1))
    drawn = {name: op.drawn(4, torch.Generator().manual_seed(1)) for name, op in made.snn.ops(Input).items()}
    feeds = Feeds({"pixels": drawn["pixels"].byte(), "numbers": drawn["numbers"].long()})
    found = matched(made, feeds=feeds)
    assert (found.equal, found.together, found.verdict) == (100, 100, "passed")
    assert "const uint8_t *pixels_in, const int32_t *numbers_in" in CFormat().write(made).file.header


# Whole numbers.


def counted(schedule: Schedule, *kinds: str, membrane_bits: int | None = None) -> Conversion:
    graph = pooled(*kinds)
    return conversion(
        QuantizeWeights(bits=6, membrane_bits=membrane_bits)(graph, calibration(graph, images_of(graph))), schedule
    )


def code(source: str) -> str:
    """What runs on a device, without the program for tests, comments, and constants for who asks."""
    own = re.sub(r"/\*.*?\*/", "", source[: source.index("#ifdef SNN_MAIN\n/*")], flags=re.DOTALL)
    return re.sub(r"^#define .*$", "", own, flags=re.MULTILINE)


@needs_compiler
@pytest.mark.parametrize(
    ("made", "events"),
    [
        (lambda: counted(Schedule(3, 1, 2), "if", "graded(levels=5,max-event=2,rest=1)"), False),
        (lambda: counted(Schedule(4), "cif", "if", membrane_bits=14), True),
        (lambda: dataclasses.replace(steps_apart(), schedule=Schedule(3, 1)), True),
    ],
    ids=["rehearsal", "saturating", "averages"],
)
def test_whole_numbers_need_no_floating_point(
    made: Callable[[], Conversion], events: bool, program: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    network, form = made(), CFormat(event_driven=events)
    written = form.write(network)
    assert written.variant.startswith("whole numbers") and "nothing floats" in "".join(written.notes)
    assert not re.findall(r"\b(?:float|double)\b|math\.h|\d\.\d", code(written.file.source))
    feeds = Feeds({"x": 3 * images_of(network.snn, seed=1)[:4]})
    flags = (*FAST, *SANITIZERS) if sanitized() else FAST
    engine = Compiled(written.file, form.prefix, network.snn, network.schedule, compilers()[0], flags)
    found = verify(network, written, engine, MemorySamples(feeds))
    assert (found.verdict, found.equal, found.together) == ("passed", 100, 100), found.worst_layer
    assert found.together_error is not None and found.together_error < 1e-6
    code_, out, err = program(network, conformance_vectors(network, MemorySamples(feeds), potentials=True))
    assert (code_, err) == (0, ""), out
    spikes, potentials = re.findall(r"(\d+) of (\d+)", out)
    assert spikes[0] == spikes[1] and potentials[0] == potentials[1]


def steps_apart() -> Conversion:
    graph = averaged()
    return conversion(QuantizeWeights(bits=5)(graph, calibration(graph, images_of(graph))), Schedule(3))


def test_numbers_are_as_small_as_they_may_be() -> None:
    made = counted(Schedule(3), "if")
    header, source = (CFormat().write(made).beside[".h"].decode(), CFormat().write(made).file.source)
    assert "static const int8_t" in source and "static int8_t scratch_int8" in source
    assert not re.findall(r"static const \w+ \w*weight\w*\[", source.replace("static const int8_t", ""))
    assert re.search(r"void snn_run\(const int\d+_t \*x_in, int\d+_t \*\w+_answer\)", header)
    assert re.search(r"#define SNN_\w+_UNIT \d[\d.e-]*f\n", header)
    assert "x is handed over in whole numbers of" in header


@needs_compiler
def test_what_is_read_is_of_its_own_type() -> None:
    """Sums of many steps behind a maximum are wider than what comes of them, also by way of a slice and of a skip."""
    net = Network((3, 9, 9))
    fired = net.add(neurons["if"](torch.tensor(0.7)), net.conv("x", 6))
    largest = net.add(ops.MaxPool((3, 3), (3, 3), (0,) * 4, (1, 1)), fired)
    inner = net.add(neurons["cif"](torch.tensor(0.7)), net.conv(net.add(ops.Slice(2, 0, 3, 1), largest), 5))
    last = net.add(neurons["cif"](torch.tensor(0.7)), net.add(ops.Add(), net.conv(inner, 6), largest))
    net.linear(net.flat(last), 5)
    graph = net.graph()
    made = conversion(QuantizeWeights(bits=8)(graph, calibration(graph, images_of(graph))), Schedule(200))
    written = CFormat().write(made)
    assert written.variant.startswith("whole numbers") and f"static int16_t {largest}" in written.file.source
    assert matched(made, feeds=Feeds({"x": images_of(graph, seed=1)[:2]})).together == 100


def test_counts_of_a_rehearsal_longer_than_the_steps_have_room() -> None:
    made = counted(Schedule(100, 0, 129), "cif")
    steps = numbers_of(made.snn, made.schedule).types.values()
    assert {dict(kinds.others).get("count") for kinds in steps} - {None} == {"int16_t"}


@needs_compiler
def test_a_maximum_falls_as_far_as_any_of_what_it_is_of() -> None:
    """Its neighbors in the window are zeros at first, and it takes back what it sent of the others."""
    cif, sign = neurons["cif"], torch.tensor([1.0, -1.0] * 6)
    layers: dict[str, Op] = {
        "first": ops.Linear(torch.eye(2), None),
        "first_fired": cif(torch.tensor(1.0)),
        "second": ops.Linear(torch.stack([torch.tensor([0.0, 8.0] if s > 0 else [1.2, -8.0]) for s in sign]), None),
        "second_fired": cif(torch.tensor(1.0)),
        "map": ops.Reshape((3, 2, 2)),
        "padded": ops.Pad((0, 1, 1, 0, 1, 1)),
        "largest": ops.MaxPool((2, 2), (2, 2), (0,) * 4, (1, 1)),
        "flat": ops.Reshape((12,)),
        "third": ops.Linear(torch.stack([sign, sign]), None),
        "third_fired": cif(torch.tensor(2.0)),
        "last": ops.Linear(torch.eye(2), None),
    }
    graph = Graph(chained((2,), layers), ("last",))
    x = torch.tensor([[4.0, 0.25], [4.0, 0.3], [4.0, 0.5]])
    made = conversion(QuantizeWeights(bits=5)(graph, calibration(graph, x)), Schedule(3))
    assert matched(made, feeds=Feeds({"x": x})).together == 100


def test_real_numbers_float_and_the_note_says_what_makes_them_real() -> None:
    made = counted(Schedule(3), "dual-threshold")
    written = CFormat().write(made)
    assert written.variant == "by rates" and "what this neuron counts @" in written.notes[-1]
    plain = CFormat().write(small())
    assert plain.variant == "by rates" and "--weight-bits 8" in plain.notes[-1] and "@" not in plain.notes[-1]


@pytest.mark.parametrize("whole", [False, True], ids=["real", "whole"])
def test_memory_is_what_the_file_declares(whole: bool) -> None:
    for schedule in SCHEDULES[:1] if whole else SCHEDULES:
        file = CFormat().write(counted(schedule, "cif") if whole else small("cif", schedule)).file
        source = file.source[: file.source.index("#ifdef SNN_MAIN\n/*")]
        found = re.findall(r"^static (const )?(float|u?int\d+_t) (\w+)(?:\[(\d+)\])?[; ]", source, re.MULTILINE)
        taken = [(const, name, int(size or 1) * WIDTHS[kind]) for const, kind, name, size in found if "(" not in name]
        windows = len(re.findall(r"^static const window", source, re.MULTILINE))
        routes = len(re.findall(r"^static const route", source, re.MULTILINE))
        assert file.constants == sum(size for const, _, size in taken if const) + 4 * (windows * 22 + routes * 25)
        assert file.state == sum(size for const, name, size in taken if not const and not name.startswith("scratch"))
        assert file.scratch == sum(size for _, name, size in taken if name.startswith("scratch"))
        for name, value in (("CONSTANT", file.constants), ("STATE", file.state), ("SCRATCH", file.scratch)):
            assert f"#define SNN_{name}_BYTES {value}\n" in file.header
        assert "malloc" not in source and "#include <stdlib.h>" not in source


@needs_compiler
@pytest.mark.skipif(shutil.which("size") is None, reason="needs the program size")
def test_memory_is_what_a_compiler_makes_of_it(tmp_path: Path) -> None:
    file = CFormat().write(small("cif", Schedule(3, 1))).file
    (tmp_path / "network.c").write_text(file.source)
    subprocess.run([compilers()[0], "-std=c11", "-Os", "-c", "network.c"], cwd=tmp_path, check=True)
    shown = subprocess.run(["size", "network.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, shown.splitlines()[1].split()[:3])
    assert file.state + file.scratch == pytest.approx(bss + data, abs=64 + 32 * file.source.count("\nstatic float "))
    # Code is made for some processor, of which nothing is known here.
    assert file.constants < text < file.constants + 4 * file.code


def test_values_lie_nowhere_on_top_of_one_another() -> None:
    lines = [
        Line("a", (), (), "a", 4),
        Line("b", (), ("a",), "b", 4, in_place=True),
        Line("c", (), ("b",), "c", 2, in_place=True),
        Line("d", (), ("b", "c"), "d", 4, in_place=True),
        Line("e", (), ("d",), "e", 6),
    ]
    layout = laid_out(lines)
    assert layout.starts["a"] == layout.starts["b"] == layout.starts["d"] == 0
    assert layout.starts["c"] == 4 and layout.starts["e"] == 4 and layout.sizes == {"float": 10}
    twice = [Line("a", (), (), "a", 4), Line("b", (), ("a", "a"), "b", 4, in_place=True)]
    assert laid_out(twice).starts["b"] == 4
    # What is of another type lies elsewhere.
    others = laid_out([lines[0], dataclasses.replace(lines[1], kind="int8_t")])
    assert others.starts["b"] == 0 and others.sizes == {"float": 4, "int8_t": 4}


@needs_compiler
def test_names_of_nodes_are_names_in_c_whatever_they_are() -> None:
    net = Network((2, 4, 4))
    odd = ["*/ int evil; /*", '"); system("true"); ("', "int", "fill", "fill_each", "ü\n#error", "scratch", "x" * 300]
    for name in odd:
        net.add(neurons["cif"](torch.tensor(0.7)), net.conv(net.nodes[-1].name, 2), name=name)
    made = conversion(renamed(net.graph(), {"x": "é*/\n??/"}), Schedule(2))
    assert matched(made).together == 100
    source = CFormat().write(made).data.decode("ascii")
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    assert not any(word in code for word in ("evil;", "system(", "#error"))


# The program for tests.


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Compiles the file of the one conversion that a test is about, and runs it on vectors."""

    def run(made: Conversion, vectors: bytes, *more: str) -> tuple[int, str, str]:
        (tmp_path / "vectors").write_bytes(vectors)
        if not (tmp_path / "network").exists():
            (tmp_path / "network.c").write_bytes(CFormat().write(made).data)
            command = [compilers()[0], *FLAGS, "-DSNN_MAIN", "network.c", "-o", "network"]
            subprocess.run(command, cwd=tmp_path, check=True)
        command = [str(tmp_path / "network"), "vectors", *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def steps() -> Conversion:
    """Neurons of all kinds of values: with a slope, as a code, at rest, of both signs, and again after a rehearsal."""
    net = Network((4, 5, 5))
    slope = uniform(0.2, 0.6, 4, 1, 1)
    net.add(neurons["dual-threshold"](torch.tensor(0.7), slope, coding=True), net.conv("x", 4))
    net.add(TemporalBias(normal(3, 4, 1, 1, seed=4) * 0.2))
    net.add(neurons["graded"](uniform(0.5, 1, 4, 1, 1), top=4, event=2, rest=2), net.conv(net.nodes[-1].name, 4))
    net.add(neurons["graded"](torch.tensor(0.6), slope, top=5), net.conv(net.nodes[-1].name, 4), name="last")
    net.linear(net.flat("last"), 5)
    return conversion(net.graph(), Schedule(3, 1, 2))


@needs_compiler
def test_vectors_are_compared_spike_for_spike(program: Callable[..., tuple[int, str, str]]) -> None:
    made = steps()
    data = conformance_vectors(made, MemorySamples(samples(made.snn)))
    code, out, err = program(made, data)
    assert (code, err) == (0, "")
    assert out.startswith("3 samples, 6 steps: 5400 of 5400 values of neurons are as they are there")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    start, _ = header["spikes.last"]["data_offsets"]
    # One more at step 4 of sample 1, by neuron 7; what it counts from there on is another, too.
    at = 8 + int.from_bytes(data[:8], "little") + start + (4 * 3 + 1) * 100 + 7
    wrong = data[:at] + bytes([(data[at] + 1) % 256]) + data[at + 1 :]
    code, out, err = program(made, wrong)
    assert (code, err) == (1, "")
    assert "the first that differs: layer last, neuron 7, sample 1, step 4 sends" in out


@needs_compiler
def test_vectors_are_found_whatever_their_names_hold(program: Callable[..., tuple[int, str, str]]) -> None:
    made = conversion(renamed(small().snn, {"x": "in"}), SCHEDULES[0])
    odd = {name: f'ü"{index}\\\n\x1f' for index, name in enumerate(made.snn.ops(Neuron))}
    made = dataclasses.replace(made, snn=renamed(made.snn, odd))
    code, out, err = program(made, conformance_vectors(made, MemorySamples(samples(made.snn))))
    assert (code, err) == (0, ""), out


@needs_compiler
def test_vectors_that_do_not_belong_to_it_are_refused(program: Callable[..., tuple[int, str, str]]) -> None:
    made, other = small(), small("cif")
    data = conformance_vectors(made, MemorySamples(samples(made.snn)))
    for wrong, said in (
        (conformance_vectors(other, MemorySamples(samples(other.snn))), "another network"),
        (data.replace(b'"input"', b'"inpot"'), "lack an input"),
        (data[: len(data) // 2], "end early"),
        (data.replace(b'"spikes.', b'"spokes.'), "lack"),
        (b"", "cannot be read"),
        (b"\xff" * 64, "no safetensors file"),
    ):
        code, out, err = program(made, wrong)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert program(made, data, "a", "b")[0] == 2


@needs_compiler
def test_potentials_are_compared_where_they_are_there(program: Callable[..., tuple[int, str, str]]) -> None:
    made = steps()
    data = conformance_vectors(made, MemorySamples(samples(made.snn)), potentials=True)
    code, out, err = program(made, data)
    assert (code, err) == (0, "") and "5400 of 5400 potentials are as they are there" in out
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = 8 + int.from_bytes(data[:8], "little") + header["potential.last"]["data_offsets"][0]
    code, out, err = program(made, data[:at] + b"\0\0\0\x42" + data[at + 4 :])
    assert (code, err) == (1, "") and "5399 of 5400 potentials" in out


# The command.


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "m.snn"
    how = ["--recipe", "quick", "--neuron", "if", "--timesteps", "2", "-q"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-o", str(path), *how]) == 0
    return path


@needs_compiler
def test_the_command_writes_a_file_that_others_compile(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(converted, "m.snn")
    how = ["--format", "c", "--prefix", "digits", "--verify", "--limit", "8"]
    assert cli.main(["export", "m.snn", "-o", "digits.c", *how]) == 0
    assert "bytes of constants" in capsys.readouterr().out
    (found, *_) = read(Path("m.report.json")).verifications
    assert (found.format, found.verdict, found.variant) == ("c", "passed", "by rates")
    Path("host.c").write_text(
        '#include "digits.h"\n#include <stdio.h>\nint main(void) {\n    static float image[64], answer[10];\n'
        '    digits_run(image, answer);\n    printf("%d", DIGITS_STEPS);\n    return answer[0] != answer[0];\n}\n'
    )
    subprocess.run([compilers()[0], *FLAGS, "host.c", "digits.c", "-o", "host"], check=True)
    assert subprocess.run(["./host"], capture_output=True, text=True, check=True).stdout == "2"


def test_a_prefix_that_starts_no_name_is_refused(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name in C"):
        CFormat(prefix="1 x").write(small())
    to = tmp_path / "x.c"
    assert cli.main(["export", str(converted), "-o", str(to), "--format", "c", "--prefix", "a-b", "-q"]) == 2
    assert not list(tmp_path.iterdir())


def test_the_place_of_the_header_is_not_that_of_the_file(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(converted), "-o", str(tmp_path / "x.h"), "--format", "c", "-q"]) == 2
    assert "written beside it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_larger_than_the_memory_is_refused(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small("cif")
    file = CFormat().write(made).file
    flash, ram = file.constants + file.code, file.state + file.scratch
    assert not CFormat(flash=flash, ram=ram).refusals(made)
    (first, second) = CFormat(flash=flash - 1, ram=ram - 1).refusals(made)
    assert "of flash" in first.message and "of RAM" in second.message
    assert {first.places, second.places} <= {(name,) for name in made.snn.nodes}
    with pytest.raises(ModelError, match="more than 100"):
        CFormat(ram=100).write(made)
    to = tmp_path / "x.c"
    capsys.readouterr()
    assert cli.main(["export", str(converted), "-o", str(to), "--format", "c", "--ram", "-1", "-q"]) == 2
    assert "numbers of bytes" in capsys.readouterr().err
    assert cli.main(["export", str(converted), "-o", str(to), "--format", "c", "--flash", "1000"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "bytes of flash are more than 1,000 @ " in err and err.count("\n") == 2
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    made = small()
    written = CFormat().write(made)
    (engine,) = CFormat().engines(written, made)
    found = verify(made, written, engine, MemorySamples(samples(made.snn)))
    assert found.verdict == "noted" and "there is none here" in found.remark


@needs_compiler
def test_a_compiler_that_complains_is_a_fault_of_the_file() -> None:
    made = small()
    written = CFormat().write(made)
    for broken in ("void x(void) { int unused; }", "#error no"):
        file = dataclasses.replace(written.file, source=f"{written.file.source}\n{broken}\n")
        with pytest.raises(VerificationError, match="refuses the exported file"):
            Compiled(file, "snn", made.snn, made.schedule, compilers()[0])


@needs_compiler
@pytest.mark.parametrize(
    ("script", "said"), [("echo error: broken >&2; exit 1", "error: broken"), ("exit 3", "ends with 3")]
)
def test_a_compiler_that_compiles_nothing_is_no_fault_of_the_file(script: str, said: str, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo cc 1.0 && exit\n{script}\n")
    compiler.chmod(0o755)
    made = small()
    written = CFormat().write(made)
    engine = Compiled(written.file, "snn", made.snn, made.schedule, str(compiler))
    found = verify(made, written, engine, MemorySamples(samples(made.snn)))
    assert (found.verdict, found.equal) == ("noted", None) and said in found.remark and "one line" in found.remark


def test_every_function_is_there_for_some_operation() -> None:
    cases = [(f"case{index}", op, shapes) for index, (op, shapes) in enumerate(written_operations().values())]
    networks = [conversion(around(*cases), SCHEDULES[1]), small("graded"), steps()]
    networks += [counted(SCHEDULES[0], "dual-threshold")]
    called = "".join(CFormat(event_driven=on).write(made).file.source for made in networks for on in (False, True))
    idle = [name for name in SOURCES if not re.search(rf"\b{name}\b", called)]
    assert not idle
