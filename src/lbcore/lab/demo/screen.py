"""How the demo looks: a heading, steps with a tick and seconds, files, commands, small tables.

The only file of the lab that knows rich. Nothing here knows what is being shown. Without a terminal
the same lines come, without colour and at 100 columns; a file or a pipe sees each line at once.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

__all__ = ["Screen"]

_WIDTH = 100  # columns; wider lines of prose are hard to read
_INDENT = 2
_SECONDS = 8  # columns for "123.4 s"
_NARROWEST = 24  # columns; a text folded to less is harder to read than one that the terminal folds
_GAP = 3  # spaces between columns, as kubectl has it
_COLUMN_GAP = re.compile(r" {3,}(?=\S)")


class Screen:
    """Where the demo writes to: the terminal, or whatever `file` is."""

    def __init__(self, file: TextIO | None = None) -> None:
        # Highlighting and markup would colour what is quoted: numbers, [brackets] of IPv6 addresses.
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH
        self._width = min(_WIDTH, self._console.width)
        unicode = self._console.encoding.startswith("utf")
        self._in_steps = False
        self._tick, self._cross, self._bar, self._rule = ("✓", "✗", "│", "─") if unicode else ("ok", "FAILED", "|", "-")

    def title(self, title: str, *paragraphs: str) -> None:
        """What this is, in a few lines, once."""
        self._line(title, "bold")
        for paragraph in paragraphs:
            self.say(paragraph)

    def chapter(self, number: int, of: int, heading: str, code: str) -> None:
        """A heading that says how far one has come, and where the code of what follows lies."""
        self.heading(f"{number}/{of}  {heading}")
        for line in textwrap.wrap(f"code: {code}", self._width - _INDENT, subsequent_indent="      "):
            self._line(" " * _INDENT + line, "dim")

    def heading(self, heading: str) -> None:
        """A heading across the screen."""
        start = f"{self._rule * 2} {heading} "
        self._line()
        self._line(start + self._rule * max(self._width - len(start), 0), "bold cyan")

    def say(self, text: str) -> None:
        """A paragraph of prose, folded."""
        self._line()
        for line in textwrap.wrap(" ".join(text.split()), self._width - _INDENT):
            self._line(" " * _INDENT + line)

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Do something while its name is shown; then a tick and how many seconds it took, or a cross.

        What the block appends to the list it is given stands behind the name.
        """
        results: list[str] = []
        if not self._in_steps:
            self._line()
        start = time.monotonic()
        try:
            with self._console.status(f" {what}"):
                yield results
        except BaseException:
            self._mark(self._cross, "bold red", what, results, start)
            raise
        self._mark(self._tick, "bold green", what, results, start)

    def _mark(self, mark: str, style: str, what: str, results: Sequence[str], start: float) -> None:
        said = f"{what}: {', '.join(results)}" if results else what
        seconds = f"{time.monotonic() - start:.1f} s"
        indent = " " * (_INDENT + len(mark) + 1)
        room = self._width - len(indent) - _SECONDS
        *before, last = textwrap.wrap(said, room, break_on_hyphens=False) or [""]
        whole = "".join(f"{line}\n{indent}" for line in before) + last.ljust(room)
        pieces = (" " * _INDENT, (mark, style), f" {whole}", (seconds.rjust(_SECONDS), "dim"))
        self._console.print(Text.assemble(*pieces), soft_wrap=True)
        self._in_steps = True

    def file(self, name: str, content: str) -> None:
        """A file as its author would write it."""
        self._line()
        self._line(f"{' ' * _INDENT}{name}", "bold")
        for line in content.rstrip().splitlines():
            self._line(f"{' ' * _INDENT}{self._bar} {line}".rstrip(), "dim")

    def command(self, where: str, command: str, output: str) -> None:
        """A command that was run, where, and what it printed; long lines are folded under their last column."""
        self._line()
        for part in self._shell_lines(f"{where}$ {command}"):
            self._line(" " * _INDENT + part, "bold")
        for line in output.strip("\n").splitlines():
            for part in self._fold(line):
                self._line(" " * (_INDENT + 2) + part)

    def _shell_lines(self, command: str) -> list[str]:
        """A command as a shell takes it on several lines, where it is too long for one."""
        room = self._width - _INDENT - len(" \\")
        *before, last = textwrap.wrap(
            command, room, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
        )
        return [*(f"{each} \\" for each in before), last]

    def _fold(self, line: str) -> list[str]:
        gaps = list(_COLUMN_GAP.finditer(line))
        indent = gaps[-1].end() if gaps else len(line) - len(line.lstrip()) + 2
        room = self._width - _INDENT - 2
        if len(line) <= room or room - indent < _NARROWEST:
            return [line.rstrip()]
        return textwrap.wrap(line, room, subsequent_indent=" " * indent, drop_whitespace=True, break_on_hyphens=False)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, fold: bool = True) -> None:
        """Columns as wide as they must be, headings above; with `fold`, the last one is folded to the width.

        What somebody shall copy as one line must not be folded.
        """
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        self._line()
        for number, row in enumerate((headings, *rows)):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            line = (" " * _GAP).join(cells).rstrip()
            for part in self._fold(line) if fold else [line]:
                self._line(" " * (_INDENT + 2) + part, "bold" if number == 0 else "")

    def warn(self, text: str) -> None:
        """Something that is not as one would expect it."""
        self._line()
        for line in textwrap.wrap(f"Note: {text}", self._width - _INDENT, break_on_hyphens=False):
            self._line(" " * _INDENT + line, "yellow")

    def log(self, name: str, lines: Sequence[str]) -> None:
        """The last lines that a program wrote, for somebody who looks for a fault."""
        self._line()
        self._line(f"{' ' * _INDENT}{name}", "bold")
        for line in lines:
            self._line(f"{' ' * _INDENT}{self._bar} {line}")

    def _line(self, text: str = "", style: str = "") -> None:
        self._in_steps = False
        self._console.print(Text(text, style), soft_wrap=True)
