"""Waiting for something to become so."""

from __future__ import annotations

import time
from collections.abc import Callable

from lbcore.lab.errors import LabError

__all__ = ["wait_for"]


def wait_for(
    condition: Callable[[], object],
    seconds: float,
    otherwise: str,
    *,
    pause: float = 0.01,
    kind: type[LabError] = LabError,
) -> None:
    """Ask, every `pause` seconds, until the answer is something true; after `seconds` raise a `kind` that says so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise kind(otherwise)
        time.sleep(pause)
