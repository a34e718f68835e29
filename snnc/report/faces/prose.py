"""Markdown in a terminal: what is to be copied stays on one line, and links to topics say how to read them."""

import re
from typing import ClassVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.markdown import MarkdownElement as Element
from rich.table import Table
from rich.text import Text

# Narrower than its widest cell would like to be, a table takes a line between rows to be told apart.
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
    """A table whose rows are told apart where their cells take several lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, padding=(0, 1, 0, 0))
        header = self.header.row.cells if self.header is not None and self.header.row is not None else []
        for cell in header:
            grid.add_column(cell.content, overflow="fold")
        for row in self.body.rows if self.body is not None else []:
            grid.add_row(*(cell.content for cell in row.cells))
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
