"""What notebooks and scripts show of a result: a table with its curve, rows of figures, a plot."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnc.files import write_atomically
from snnc.registry import Registry


class Display(ABC):
    """A result as it is shown."""

    @abstractmethod
    def html(self) -> str:
        """Return the fragment of a page that a notebook shows below a cell."""

    @abstractmethod
    def csv(self) -> str:
        """Return the figures as a table of comma-separated values, the names of columns first."""

    @abstractmethod
    def figure(self) -> Any:
        """Return a figure of matplotlib."""


# By the names of classes.
displays: Registry[Callable[[Any], Display]] = Registry("display", "snnc.report.displays", plugins=False)


class Displayed:
    """A result that notebooks show."""

    def _repr_html_(self) -> str:
        return self._display.html()

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the figures as comma-separated values, and write them into a file where one is named.

        Raises DataError where it cannot be written.
        """
        text = self._display.csv()
        if path is not None:
            write_atomically(Path(path), text.encode(), flag="path")
        return text

    def plot(self) -> Any:
        """Draw the curves, as a ``matplotlib.figure.Figure``."""
        return self._display.figure()

    @property
    def _display(self) -> Display:
        return displays[type(self).__name__](self)
