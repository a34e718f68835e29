"""What an answer of a network is, and how good it is."""

from snnc.tasks.task import Answers, Loss, Task, chosen, joined, picked, plain, stated, tasks

__all__ = ["Answers", "Loss", "Task", "chosen", "joined", "picked", "plain", "stated", "tasks"]
