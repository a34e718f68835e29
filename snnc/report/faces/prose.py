"""Markdown in a terminal: what is to be copied stays on one line, and links to topics say how to read them."""

import re
from typing import ClassVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.markdown import MarkdownElement as Element
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# A cell that is wider wraps where there is no room, and so many columns of such cells can share a line.
_NARROW, _WRAPPED = 15, 2
_TOPIC = re.compile(r"\[([^\]]+)\]\(([a-z]+)\.md(?:#[\w-]*)?\)")
_REMARK = re.compile(r"<!--.*?-->\n*", re.DOTALL)


class _Heading(Heading):
    """A heading at the left margin."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.stylize("bold underline" if self.tag == "h1" else "bold")
        yield text


class _CodeBlock(CodeBlock):
    """Lines as they are, however narrow the terminal is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in str(self.text).rstrip().splitlines():
            yield Text(f"    {line}", no_wrap=True, overflow="ignore", style="cyan")


class _Table(TableElement):
    """A table or, where too many of its columns would be narrow, its rows in turn, each cell with its title."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        titles = [cell.content for cell in self.header.row.cells] if self.header and self.header.row else []
        rows = [[cell.content for cell in row.cells] for row in self.body.rows] if self.body else []
        widths = [max(text.cell_len for text in column) for column in zip(titles, *rows, strict=True)]
        if sum(widths) > options.max_width and sum(width > _NARROW for width in widths[1:]) > _WRAPPED:
            for first, *others in rows:
                first.stylize("bold")
                yield first
                for title, cell in zip(titles[1:], others, strict=True):
                    yield Padding(Text.assemble(title, ": ", cell), (0, 0, 0, 4))
            return
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for title in titles:
            grid.add_column(title, overflow="fold")
        for row in rows:
            grid.add_row(*row)
        yield grid


class Prose(Markdown):
    """A text in Markdown, to be printed in a terminal."""

    elements: ClassVar[dict[str, type[Element]]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
        "table_open": _Table,
    }

    def __init__(self, markdown: str) -> None:
        told = _TOPIC.sub(r"\1 (`snnc guide \2`)", _REMARK.sub("", markdown))
        super().__init__(told, hyperlinks=False)
