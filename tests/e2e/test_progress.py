"""What is said while a cluster is read: nothing to a script, a line now and then to somebody who waits."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable

import pytest

from lbcore.cli.progress import reading
from lbcore.errors import LbcoreError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said_while_reading(monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO, lines: int) -> str:
    """What is said until so many lines are, or three turns have passed."""
    monkeypatch.setattr(sys, "stderr", terminal)

    async def work(tell: Callable[[str, int], None]) -> str:
        tell("services", 1500)
        for _ in range(500):
            await asyncio.sleep(0.001)
            if terminal.getvalue().count("\n") >= lines:
                break
        return "done"

    assert "done" == reading(work, patience=0.001)
    return terminal.getvalue()


def test_somebody_at_a_terminal_is_told_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_while_reading(monkeypatch, Terminal(), 2)
    assert ["lbcore: reading services, 1,500 so far"] * 2 == said.splitlines()[:2]


def test_a_script_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "" == said_while_reading(monkeypatch, io.StringIO(), 0)


def test_what_goes_wrong_is_raised() -> None:
    async def work(_tell: Callable[[str, int], None]) -> None:
        raise LbcoreError("no")

    with pytest.raises(LbcoreError, match="no"):
        reading(work)
