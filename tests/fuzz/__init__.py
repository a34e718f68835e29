"""Inputs made at random, structured as real ones are and wrong in one place or many, and what has to hold of them all.

``python -m tests.fuzz --minutes 30`` looks for more; what it finds is saved as small files.
"""
