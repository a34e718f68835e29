"""What an answer of a network is, and how good it is."""

from snnc.tasks.task import Loss, Task, seeming, stated, tasks

__all__ = ["Loss", "Task", "seeming", "stated", "tasks"]
