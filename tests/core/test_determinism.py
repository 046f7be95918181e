"""The same history gives the same answers under any PYTHONHASHSEED: nothing follows a set's order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCENARIO = Path(__file__).parent.parent / "scenario.py"


def trace(seed: int) -> str:
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run([sys.executable, SCENARIO], env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_same_history_gives_the_same_trace_under_any_hash_seed() -> None:
    first = trace(0)
    assert len(first.splitlines()) > 100
    assert [first, first] == [trace(1), trace(2)]
