"""What every test shares: the account of skipped tests and the two sizes of property tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from machine import TOOLS
from skips import Skips
from unsteady import Unsteady

pytest_plugins = ["pytester", "planes"]

# A deadline would measure the neighbours of a busy machine, and `too_slow` likewise.
settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), max_examples=300, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--again`, which `make test` gives."""
    text = "try each slow test that fails a second time, and name those that pass then"
    parser.addoption("--again", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Take skipped tests into account, with the tools of this machine, and those that pass at the second try."""
    config.pluginmanager.register(Skips(TOOLS), "skips")
    if config.getoption("again"):
        config.pluginmanager.register(Unsteady(), "unsteady")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell: what tests start would ignore Ctrl-C, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
