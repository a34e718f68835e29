"""How the outputs of both networks scatter."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from snnc.blocks import Block, Fact, Facts, Missing, Plot, Scatter, SideBySide, Text
from snnc.report.data import Report
from snnc.report.sections import CONVERT, Known, Section, sections
from snnc.text import percent


@sections.register("outputs")
@dataclass(frozen=True)
class OutputsSection(Section):
    """Some ``pairs`` of output values, of the trained and of the spiking network."""

    title: ClassVar[str] = "Outputs"
    order: ClassVar[int] = 60

    pairs: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, known: Known) -> Self | None:
        """Take the outputs on the images that the network was calibrated on."""
        return None if known.measured is None else cls(known.measured.outputs)

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the plot."""
        if report.unmeasured:
            command = CONVERT if report.stripped else "snnc calibrate --data FOLDER"
            yield Missing("The outputs were not compared on images.", command, only=("page",))
        errors = report.summary.output_errors
        if len(errors) > 1:
            worst = max(errors, key=lambda name: errors[name])
            yield Facts(tuple(Fact(name, percent(error)) for name, error in errors.items()), only=("page",))
            yield Text(f"The output {worst} is furthest from the trained network's: by {percent(errors[worst])}.")
        if not self.pairs:
            return
        error, count = report.summary.output_error, len(self.pairs)
        relative = "" if error is None else f" The relative error (L2) of all outputs is {percent(error)}."
        plot = Plot(
            "Output of the spiking network",
            Scatter(self.pairs, "trained network"),
            f"{count} outputs of the spiking network over those of the trained one.{relative}",
            note=f"{count} outputs; on the line both are the same.{relative}",
        )
        yield SideBySide((plot,), only=("page",))
