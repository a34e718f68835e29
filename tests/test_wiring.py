"""The network as a graph: which layers follow each other, and what the page draws of it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import snnc
from snnc.analysis.wiring import wiring
from snnc.blocks import Flow, Flows, Fold, Plot, Table
from snnc.figure import Wire
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron, neurons
from snnc.ops import Add, Linear
from snnc.report import Report
from snnc.report.faces import seen
from snnc.report.faces.plots import svg

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


def graph() -> Graph:
    """An image, two layers of which the second is skipped, and two outputs, one of them neurons."""
    theta, weight = torch.tensor(1.0), torch.ones(2, 2)
    nodes = (
        Node("x", Input((2,)), ()),
        Node("a", Linear(weight, None), ("x",)),
        Node("n1", neurons["if"](theta), ("a",)),
        Node("b", Linear(weight, None), ("n1",)),
        Node("n2", neurons["if"](theta), ("b",)),
        Node("sum", Add(), ("n1", "n2")),
        Node("c", Linear(weight, None), ("sum",), output="scores"),
    )
    return Graph({node.name: node for node in nodes}, ("c", "n2"))


def test_every_way_is_from_a_stop_to_the_next_one() -> None:
    assert wiring(graph()) == (
        Wire("x", "n1", ("a",)),
        Wire("n1", "n2", ("b",)),
        Wire("n1", "output scores", ("c",)),
        Wire("n2", "output scores", ("c",)),
    )


@pytest.fixture(scope="module")
def report() -> Report:
    network, made = snnc.convert(DIGITS / "model.onnx", recipe="quick", timesteps=1)
    ways = made.sections["wiring"].wires
    assert {wire.target for wire in ways} >= set(network.snn.ops(Neuron)) and ways == wiring(network.snn)
    return made


def shown(report: Report) -> list[object]:
    (blocks,) = (blocks for name, _, blocks in seen(report, "page") if name == "wiring")
    return [block for fold in blocks if isinstance(fold, Fold) for block in fold.blocks]


def test_the_page_draws_the_spikes_that_each_layer_sends(report: Report) -> None:
    spikes = {layer.name: 100.0 * at for at, layer in enumerate(report.layers, 1)}
    counted = replace(report, layers=tuple(replace(layer, spikes=spikes[layer.name]) for layer in report.layers))
    for found, known in ((report, {}), (counted, spikes)):
        plot, table = shown(found)
        assert isinstance(plot, Plot) and isinstance(plot.drawing, Flows) and isinstance(table, Table)
        told = {flow.source: (flow.words, flow.share) for flow in plot.drawing.flows}
        most = max(known.values(), default=1)
        assert told == {
            name: (f"{known[name]:.1f}", known[name] / most) if name in known else ("", None) for name in told
        }
        assert len(table.rows) == len(plot.drawing.flows) > len(report.layers)
        drawn = svg(plot, "p")
        assert all(f">{layer.name}<" in drawn for layer in report.layers)


def test_who_skips_a_layer_goes_around_and_side_by_side_is_beside() -> None:
    stops = ("image", "left", "right", "both", "out")
    pairs = (("image", "left"), ("image", "right"), ("left", "both"), ("right", "both"), ("both", "out"))
    usual = Flows(stops, tuple(Flow(*pair, "1", 1.0) for pair in pairs))
    skipping = replace(usual, flows=(*usual.flows, Flow("image", "out", "7", 0.5), Flow("left", "out", "8", 0.5)))
    boxes = []
    for drawing in (usual, skipping):
        drawn = svg(Plot("graph", drawing, "words"), "p")
        boxes.append([float(part) for part in drawn.partition('viewBox="')[2].partition('"')[0].split()])
        assert all(f">{stop}<" in drawn for stop in stops)
    # The same rows, and room for two ways around at the side.
    assert boxes[0][3] == boxes[1][3] and boxes[1][2] == boxes[0][2] + 2 * 14


# Each is a process that has not loaded matplotlib yet, and torch is read once for all.
_DRAWING = """
import os, sys
from snnc.report.data import read
from snnc.report.faces import faces
from snnc.report.faces.plots import _matplotlib
assert list(faces) and "matplotlib" not in sys.modules
for backend in ("nonsense", "agg"):
    if not os.fork():
        os.environ["MPLBACKEND"] = backend
        print(_matplotlib().rcParams.get("font.size"), flush=True)
        os._exit(0)
    os.wait()
"""


def test_only_what_draws_loads_matplotlib_and_it_reads_nothing_of_the_working_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "matplotlibrc")
    own = {"MATPLOTLIBRC": "/nowhere", "PYTHONPATH": str(DIGITS.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _DRAWING]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("10.0\n10.0\n", "")
