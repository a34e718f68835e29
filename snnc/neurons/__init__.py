"""Spiking neurons, one file each."""

from snnc.neurons.base import CausalNeuron, Neuron, OrderFreeNeuron, neurons

__all__ = ["CausalNeuron", "Neuron", "OrderFreeNeuron", "neurons"]
