"""Gradients: stand-ins for activations and neurons, and networks that can be trained."""
