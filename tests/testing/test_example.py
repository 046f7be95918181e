"""`docs/testing-your-pools.md` shows tests that run: here they do, on the pools that it shows and on worse ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing-your-pools.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


# The same histories every time, and no time spent on looking for the smallest; however busy the machine is.
PROFILE = """
from hypothesis import HealthCheck, Phase, settings

slow = [HealthCheck.too_slow]
settings.register_profile(
    "as found", derandomize=True, database=None, deadline=None, suppress_health_check=slow, phases=[Phase.generate]
)
settings.load_profile("as found")
"""


def outcome(folder: Path, pools: str) -> tuple[set[str], set[str]]:
    """The tests of the document that pass and that fail with these pools."""
    (folder / "manifests").mkdir()
    (folder / "manifests" / "pools.yaml").write_text(pools, "utf-8")
    (folder / "test_pools.py").write_text(block("python"), "utf-8")
    (folder / "conftest.py").write_text(PROFILE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-rA", "--tb=line", "-p", "no:cacheprovider", "-c", os.devnull, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    passed, failed = (
        set(re.findall(rf"^{word} \S*::test_(\w+)", done.stdout, re.MULTILINE)) for word in ("PASSED", "FAILED")
    )
    assert 3 == len(passed | failed), done.stdout + done.stderr
    return passed, failed


PROD = "prod_gets_addresses_of_its_own_pool_while_there_is_room"
LAB = "nobody_but_the_lab_ever_has_an_address_of_the_lab"
FOUR = "four_services_of_prod_are_all_served_whatever_comes_and_goes"


def test_the_tests_of_the_document_pass_with_its_pools(tmp_path: Path) -> None:
    assert ({PROD, LAB, FOUR}, set()) == outcome(tmp_path, block("yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "instead", "failing"),
    [
        ("priority: 1, namespaces: [prod]", "priority: 1, namespaces: [default]", PROD),
        ("serviceSelectors: [{matchLabels: {team: lab}}]", "serviceSelectors: []", LAB),
        ("192.168.20.64/31", "192.168.20.64/32", FOUR),
    ],
)
def test_each_finds_an_edit_that_breaks_its_law(tmp_path: Path, there: str, instead: str, failing: str) -> None:
    pools = block("yaml")
    assert there in pools
    _, failed = outcome(tmp_path, pools.replace(there, instead))
    assert failing in failed
