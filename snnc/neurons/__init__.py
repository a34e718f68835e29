"""Spiking neurons, one file each, which opens with its recurrence and its paper.

``neurons`` maps the names that recipes use to the classes. A neuron is a whole layer of them: an operation of a graph,
without hidden state.

    import torch
    from snnc import Schedule
    from snnc.neurons import neurons

    sorted(neurons)  # the names of all there are
    layer = neurons["cif"](threshold=torch.tensor(0.5))
    schedule, currents = Schedule(4, sleep=1), torch.rand(5, 2, 3)  # [steps, N, ...]
    response = layer.respond(currents, schedule)  # spikes times their values, [5, 2, 3]
    numbers = layer.fired(response, schedule)  # signed numbers of spikes, [5, 2, 3]
    state = layer.initial(currents[0])  # a CausalNeuron can also be run step by step
    state, values = layer.step(state, currents[0])

An ``OrderFreeNeuron`` gathers its whole input before it fires, and has no step. The layers of a converted network are
``conversion.snn.ops(Neuron)``. To add one, put a file in this package with a class that is registered
(``@neurons.register("name")``) and has one of the two as its base: see ``snnc.neurons.base``.
"""

from snnc.neurons.base import CausalNeuron, Neuron, OrderFreeNeuron, neurons

__all__ = ["CausalNeuron", "Neuron", "OrderFreeNeuron", "neurons"]
