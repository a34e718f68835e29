"""How many steps pass between the image and the answer."""

from snnc.ir import Graph
from snnc.neurons import CausalNeuron, OrderFreeNeuron
from snnc.schedule import Schedule


def latency(snn: Graph, schedule: Schedule) -> int:
    """Return the steps from the image to the answer.

    Neurons that gather their whole input first make the next layer wait: (N+1)·T for N of them in a row (and a new
    answer every T steps when pipelined); causal ones do not. Only causal ones rehearse and sleep.
    """
    gathering = snn.ops(OrderFreeNeuron)
    waits: dict[str, int] = {}
    for name, node in snn.nodes.items():
        before = max((waits[value] for value in node.inputs), default=0)
        waits[name] = before + (name in gathering)
    around = schedule.rehearsal + schedule.sleep if snn.ops(CausalNeuron) else 0
    return (max(waits[name] for name in snn.outputs) + 1) * schedule.timesteps + around


def active_steps(snn: Graph, schedule: Schedule) -> int:
    """Return the steps in which every neuron works; those that gather first neither rehearse nor sleep."""
    return schedule.total if snn.ops(CausalNeuron) else schedule.timesteps
