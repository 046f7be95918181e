"""Which nginx is taken: the machine's own, the next Debian's, and a copy that no package vouches for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from lbcore.adapters.nginx.capabilities import read_capabilities
from lbcore.backends.nginx import find_capabilities
from lbcore.cli.main import cli
from machine import NEWER_NGINX


def asked(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


@pytest.mark.needs("nginx")
def test_a_program_is_vouched_for_by_its_own_package_and_a_copy_by_none(tmp_path: Path) -> None:
    found = shutil.which("nginx")
    assert found is not None
    shutil.copy(found, tmp_path / "nginx")
    package = ""
    if shutil.which("dpkg-query") is not None:
        owner = asked("dpkg-query", "-S", found).partition(":")[0]
        package = asked("dpkg-query", "-W", "-f", "${Version}", owner)
    wanted = [read_capabilities(asked(found, "-V"), each).fixed for each in (package, "")]
    assert wanted == [find_capabilities(each).fixed for each in (found, str(tmp_path / "nginx"))]


@pytest.mark.needs("nginx")
def test_an_nginx_with_the_known_overflows_is_refused_in_one_line(tmp_path: Path) -> None:
    copy = tmp_path / "nginx"
    copy.write_text("#!/bin/sh\necho nginx version: nginx/1.28.0 >&2\n")
    copy.chmod(0o755)
    (tmp_path / "cluster").mkdir()
    done = CliRunner().invoke(cli, ["ingress", "--cluster", str(tmp_path / "cluster"), "--nginx", str(copy)])
    assert 1 == done.exit_code
    assert "nginx 1.28.0 has overflows that a tenant can reach" in str(done.exception)


@pytest.mark.needs("nginx-newer")
def test_the_nginx_of_the_next_debian_needs_no_excuse() -> None:
    found = find_capabilities(str(NEWER_NGINX))
    assert found.fixed
    assert found.http2_directive
