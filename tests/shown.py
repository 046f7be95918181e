"""`lbcore demo` and `lbcore lab` as a user starts them, and how to read what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

__all__ = ["LBCORE", "PATIENCE", "curls", "environment", "folded", "run", "section"]

LBCORE = (sys.executable, "-m", "lbcore.cli.main")
PATIENCE = 120.0  # seconds; a busy machine with two cores takes a quarter of it


def environment(**more: str) -> Mapping[str, str]:
    """As a script has it: no terminal, and no colour wanted."""
    return os.environ | {"NO_COLOR": "1"} | more


def run(*argv: str, env: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        argv, env=env, input=text, capture_output=True, encoding="utf-8", timeout=PATIENCE * 4, check=False
    )


def folded(text: str) -> str:
    """A text without its line breaks and columns, to look for sentences in."""
    return " ".join(text.split())


def section(shown: str, heading: str) -> str:
    """What a demo printed under a heading."""
    parts = re.split(r"^── (?:\d/\d  )?(.*?) ─+$", shown, flags=re.MULTILINE)
    return parts[parts.index(heading) + 1]


def curls(shown: str) -> dict[str, list[str]]:
    """What each URL gave."""
    found = re.findall(r"^  client \$ curl .*'(\S+)'\n((?:    .*\n)+)", shown, re.MULTILINE)
    return {url: [line.strip() for line in lines.splitlines()] for url, lines in found}
