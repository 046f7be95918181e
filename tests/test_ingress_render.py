"""`lbcore render` prints the configuration, and beside it what is wrong; secrets are not printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway import CLASS, ingress, secret
from lbcore.cli.main import cli
from machine import NEWER_NGINX

SERVICE: tuple[dict[str, Any], ...] = (
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"},
     "spec": {"ports": [{"port": 80}]}},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6", "ports": [{"port": 8080}],
     "metadata": {"name": "a-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "a"}},
     "endpoints": [{"addresses": ["2001:db8::1"]}]},
)  # fmt: skip
SHOP = ingress("shop", "shop.example", auth_type="basic", auth_secret="users", proxy_read_timeout="soon")


def rendered(folder: Path, *arguments: str) -> Result:
    documents = [CLASS, *SERVICE, SHOP, secret("users", auth="u:{PLAIN}sesame\n")]
    (folder / "all.yaml").write_text(yaml.safe_dump_all(documents))
    done = CliRunner().invoke(cli, ["render", str(folder), *arguments], catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    return done


def directives(text: str, folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Every directive with its arguments, by a parser of another maker."""
    (folder / "nginx.conf").write_text(text)
    found = crossplane.parse(
        str(folder / "nginx.conf"), single=True, catch_errors=False, check_args=False, check_ctx=False
    )
    waiting, made = list(found["config"][0]["parsed"]), []
    while waiting:
        each = waiting.pop()
        made.append((each["directive"], tuple(each["args"])))
        waiting += each.get("block", [])
    return made


def test_what_would_run_is_printed_and_what_is_wrong_is_said_beside_it(tmp_path: Path) -> None:
    done = rendered(tmp_path, "--http-port", "8080", "--https-port", "8443")
    found = directives(done.stdout, tmp_path)
    assert ("server_name", ("shop.example",)) in found
    assert ("server", ("[2001:db8::1]:8080", "max_fails=0")) in found
    assert {("8080",), ("8443", "ssl", "http2")} <= {words for name, words in found if name == "listen"}
    (line,) = done.stderr.splitlines()
    assert "default/shop" in line
    assert "proxy-read-timeout" in line
    assert "sesame" not in done.output


@pytest.mark.needs("nginx-newer")
def test_it_is_printed_for_the_nginx_that_is_named(tmp_path: Path) -> None:
    found = directives(rendered(tmp_path, "--nginx", str(NEWER_NGINX)).stdout, tmp_path)
    assert ("http2", ("on",)) in found
    assert [] == [words for name, words in found if name == "listen" and "http2" in words]


def test_no_text_of_an_option_is_a_directive_and_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """What is written in the docs of two CVEs: neither `alias` nor `try_files` comes from anywhere."""
    names = ("main-snippet", "http-snippet", "server-snippet", "location-snippet", "stream-snippet")
    text = "alias /x; location / { try_files $uri /x; }"
    options = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "options"},
        "data": dict.fromkeys(names, text),
    }
    old = {"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "metadata": {"name": "old"}, "spec": {}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump_all([options, old]))
    done = rendered(tmp_path, "--configmap", "default/options")
    assert set() == {"alias", "try_files"} & {name for name, _ in directives(done.stdout, tmp_path)}
    said = done.stderr.splitlines()
    assert [] == [name for name in names if not any(f"{name} has no effect" in line for line in said)]
    assert [True] == ["must be networking.k8s.io/v1" in line for line in said if line.startswith("left out: ")]
