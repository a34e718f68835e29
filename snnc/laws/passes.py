"""What every pass obeys: what need not be touched is not, and nothing is changed in place."""

from dataclasses import replace

import torch

from snnc.analysis.moments import propagate, stated_moments
from snnc.calibration import Calibration
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.laws.networks import calibration, feeding, random_network, relu
from snnc.laws.samples import normal
from snnc.ops import QuantizedRelu
from snnc.passes import Pass
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.fold_batch_norm import FoldBatchNorm
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.treat_max_pool import TreatMaxPool
from snnc.run import Program

# What brings a trained network into the form that all other passes expect.
PREPARE: tuple[Pass, ...] = (FoldBatchNorm(), TreatMaxPool(), NormalizeActivations())


def it_keeps_its_promises(step: Pass, graph: Graph, look: Calibration, seed: int = 0) -> None:
    """A pass that accepts a network keeps what it need not touch; an ``exact`` one the function, and twice is once."""
    try:
        step.requires(graph)
    except PreconditionError as error:
        assert error.hint, "it refuses a network without a hint"
        return
    after = apply(step, graph, look)
    if step.exact:
        tolerance = 1e-2 if graph.ops(QuantizedRelu) else 1e-5
        assert_same_function(graph, after, tolerance, seed)
        assert shared(after, apply(step, after, look)) == set(after.nodes), "applied again, it changes something"


def stages(seed: int) -> tuple[dict[str, Graph], Calibration]:
    """Return a random network as it was trained, prepared, and with thresholds, and what passes may look at."""
    trained = random_network(seed, relu, norms=True)
    canonical = trained
    for step in PREPARE:
        canonical = apply(step, canonical)
    # Said of all values, so that there is something even where no normalization was drawn.
    said = propagate(trained, stated_moments(trained))
    look = replace(calibration(canonical, normal(24, 3, 8, 8, seed=seed)), stated=said)
    quantized = apply(CalibrateThresholds(), canonical, look)
    return {"trained": trained, "canonical": canonical, "quantized": quantized}, look


def apply(step: Pass, graph: Graph, look: Calibration | None = None) -> Graph:
    """Apply a pass and check what every pass promises."""
    tensors = {(n, f): (t, t.clone()) for n, node in graph.nodes.items() for f, t in node.op.tensors().items()}
    step.requires(graph)
    after = step(graph, look or calibration(graph))
    for (name, field), (tensor, value) in tensors.items():
        assert graph.op(name).tensors()[field] is tensor
        assert torch.equal(tensor, value), f"{name}.{field} was changed in place"
    assert after.inputs == graph.inputs, "it has other inputs"
    assert after.outputs == graph.outputs, "it has other outputs"
    for name, node in after.nodes.items():
        old = graph.nodes.get(name)
        if old is not None and old.op is node.op and old.inputs == node.inputs:
            assert old is node, f"{name} is not shared"
    for name in graph.outputs:
        assert after.shapes[name] == graph.shapes[name], f"{name} has another shape"
    return after


def shared(before: Graph, after: Graph) -> set[str]:
    """Return the names of the nodes that a pass left alone."""
    return {name for name, node in after.nodes.items() if before.nodes.get(name) is node}


def assert_same_function(before: Graph, after: Graph, tolerance: float = 1e-5, seed: int = 0) -> None:
    """Compare in double precision; weights are rounded to single where a pass computes them."""
    (name,) = before.inputs
    x = normal(8, *before.shapes[name], seed=seed).double()
    found = []
    for graph in (before, after):
        double = graph.map_tensors(lambda tensor: tensor.double())
        signals = Program(double)(feeding(double, x))
        found.append([signals[output].mean(0) for output in double.outputs])
    for wanted, given in zip(*found, strict=True):
        assert wanted.abs().max() > 0
        error = float((given - wanted).norm() / wanted.norm())
        assert error <= tolerance, f"it is another function, by {error:.2g}"
