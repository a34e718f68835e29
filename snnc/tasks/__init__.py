"""What an answer of a network is, and how good it is."""

from snnc.tasks.task import Task, seeming, tasks

__all__ = ["Task", "seeming", "tasks"]
