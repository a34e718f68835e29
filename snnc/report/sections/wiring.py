"""The network as a graph: which layers follow each other, and how many spikes go there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from snnc.analysis.wiring import wiring
from snnc.blocks import Block, Column, Flow, Flows, Fold, Missing, Plot, Table
from snnc.figure import Wire
from snnc.report.data import Report
from snnc.report.sections import EVALUATE, Known, Section, sections
from snnc.text import number

# More stops have a drawing that few look through, and yet more have none that can be drawn.
_MANY, _MOST = 24, 150


@sections.register("wiring")
@dataclass(frozen=True)
class WiringSection(Section):
    """The ways from layer to layer, with the spikes that each layer sends along them."""

    title: ClassVar[str] = "Spikes from layer to layer"
    label: ClassVar[str] = "Graph"
    order: ClassVar[int] = 42

    wires: tuple[Wire, ...] = ()

    @classmethod
    def of(cls, known: Known) -> Self | None:
        """Take the ways through the spiking network."""
        return cls(wiring(known.conversion.snn))

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the graph and the same as a table."""
        sent = {layer.name: layer.spikes for layer in report.layers}
        if not self.wires:
            yield Missing("How the layers follow each other is not in this report.", EVALUATE, only=("page",))
            return
        stops = tuple(dict.fromkeys(name for wire in self.wires for name in (wire.source, wire.target)))
        if len(stops) <= _MOST:
            plot = self._plot(stops, sent)
            yield Fold("The graph", (plot,), opened=len(stops) <= _MANY, only=("page",))
        yield Fold("All ways in one table", (self._table(sent),), only=("page",))

    def _plot(self, stops: tuple[str, ...], sent: dict[str, float | None]) -> Plot:
        most = max((spikes for spikes in sent.values() if spikes), default=1.0)
        flows = []
        for wire in self.wires:
            spikes = sent.get(wire.source)
            share = None if spikes is None else spikes / most
            flows.append(Flow(wire.source, wire.target, "" if spikes is None else number(spikes), share))
        words = "; ".join(f"{flow.source} to {flow.target}: {flow.words or 'no spikes'}" for flow in flows)
        title = "Spikes per image on the way from layer to layer"
        note = "Gray is what is no spikes, or was not counted."
        return Plot(title, Flows(stops, tuple(flows)), f"{title}. {words}", note=note)

    def _table(self, sent: dict[str, float | None]) -> Table:
        def spikes(wire: Wire) -> str | None:
            known = sent.get(wire.source)
            return None if known is None else number(known)

        return Table.of(
            "The ways from layer to layer",
            [
                (Column("from", "layer"), lambda wire: wire.source),
                (Column("to", "layer"), lambda wire: wire.target),
                (Column("through", "code"), lambda wire: ", ".join(wire.through) or None),
                (Column("spikes", about="per image"), spikes),
            ],
            self.wires,
            sorts=True,
        )
