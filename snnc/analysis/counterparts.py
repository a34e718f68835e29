"""What a layer of neurons stands for in the trained network."""

from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.ops import Activation


def check_counterparts(trained: Graph, snn: Graph, kind: type[Neuron] = Neuron) -> None:
    """Check that the trained network has an activation of the name and shape of every layer of neurons of a kind.

    Raises PreconditionError where it lacks one: there is nothing to compare that layer with.
    """
    activations = trained.ops(Activation)
    for name in snn.ops(kind):
        if name not in activations or trained.shapes[name] != snn.shapes[name]:
            raise PreconditionError(
                "the trained network has no such activation to compare with",
                place=snn.nodes[name].place,
                hint="put the passes that change the network's form before calibrate-thresholds in the recipe",
            )
