"""The test of the simulator: bugs planted in a copy of lbcore, each to be found within a few seeds.

A patch in `tests/mutants` says in its first line what it breaks, and in the second perhaps which seed to try first;
what follows is a diff against `src/lbcore`. Those in `routers` are for clusters with routers. A patch that no longer
applies is to be written anew against the code that it broke.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
MUTANTS = PROJECT / "tests" / "mutants"
PATCHES = sorted(MUTANTS.glob("*.patch"))
PATCHES_WITH_ROUTERS = sorted((MUTANTS / "routers").glob("*.patch"))
PATCHES_WITH_GOSSIP = sorted((MUTANTS / "gossip").glob("*.patch"))
SEEDS, HOURS = 24, 0.75
GOSSIP_SEEDS, GOSSIP_HOURS = 12, 0.25  # of those in which members gossip, which take some thirty times as long

HUNT = """
import sys
import lbcore
from lbcore.simulation.run import simulate
source, first, kind, seeds, hours = sys.argv[1:]
assert lbcore.__file__.startswith(source), lbcore.__file__
for number in range(int(seeds)):
    seed = (int(first) + number) % int(seeds)
    report = simulate(seed, float(hours), routers=kind == "routers", gossip=kind == "gossip")
    if report.violations:
        sys.exit(f"seed {seed}: {report.violations[0]}")
"""


def apply(patch: str, root: Path) -> None:
    """Put a unified diff in force wherever its lines stand now; its line numbers are not believed."""
    path = root
    for part in re.split(r"^(?=--- a/|@@ )", patch, flags=re.MULTILINE)[1:]:
        head, *lines = part.splitlines(keepends=True)
        if head.startswith("---"):
            path = root / head.removeprefix("--- a/").strip()
            continue
        text = path.read_text(encoding="utf-8")
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        if text.count(before) != 1:  # something beside the lines in question has changed
            before = "".join(line[1:] for line in lines if line[0] == "-")
            after = "".join(line[1:] for line in lines if line[0] == "+")
        assert text.count(before) == 1, f"{path.name} no longer has\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")


def hunt(source: Path, first: str, kind: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(source)}
    seeds, hours = (GOSSIP_SEEDS, GOSSIP_HOURS) if kind == "gossip" else (SEEDS, HOURS)
    command = [sys.executable, "-c", HUNT, str(source), first, kind, f"{seeds}", f"{hours}"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)


def copy_of_the_package(folder: Path) -> Path:
    shutil.copytree(PROJECT / "src" / "lbcore", folder / "lbcore", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_there_are_enough_of_them() -> None:
    assert len(PATCHES) >= 10
    assert len(PATCHES_WITH_ROUTERS) >= 10
    assert len(PATCHES_WITH_GOSSIP) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found(patch: Path, tmp_path: Path) -> None:
    is_found(patch, tmp_path, "records")


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES_WITH_ROUTERS, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found_where_there_are_routers(patch: Path, tmp_path: Path) -> None:
    is_found(patch, tmp_path, "routers")


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES_WITH_GOSSIP, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found_where_members_gossip(patch: Path, tmp_path: Path) -> None:
    is_found(patch, tmp_path, "gossip")


def is_found(patch: Path, folder: Path, kind: str) -> None:
    source = copy_of_the_package(folder)
    text = patch.read_text(encoding="utf-8")
    apply(text, source / "lbcore")
    hint = re.search(r"^Found by seed (\d+) ", text, re.MULTILINE)
    found = hunt(source, hint[1] if hint is not None else "0", kind)
    assert found.returncode == 1, f"not found within its seeds: {text.splitlines()[0]}"
    assert "seed" in found.stderr, found.stderr  # a promise was seen broken, rather than the program
