"""The faces of a report: the same blocks for different readers, each a text."""

from collections.abc import Callable, Iterable

from snnc.blocks import Block, Room
from snnc.registry import Registry
from snnc.report.data import Report
from snnc.report.sections import Section, told

faces: Registry[Callable[[Report], str]] = Registry("face", __name__)


def seen(report: Report, room: Room) -> list[tuple[str, Section, tuple[Block, ...]]]:
    """Return the sections that have something to show where there is this much room: name, section and blocks."""
    shown = [(name, section, in_room(section.blocks(report), room)) for name, section in told(report).items()]
    return [(name, section, blocks) for name, section, blocks in shown if blocks]


def in_room(blocks: Iterable[Block], room: Room) -> tuple[Block, ...]:
    """Return those of the blocks that are for a room."""
    return tuple(block for block in blocks if not block.only or room in block.only)
