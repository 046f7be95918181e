"""Ordinary life of Ingresses: Secrets that come late, solvers that come and go, mistakes that cost others nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certificates import make_client_pair, make_pair
from gateway import CLASS, Backend, Gateway, ingress, secret
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

A, B = Backend("a"), Backend("b")
VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]
NEIGHBOUR = ingress("neighbour", "neighbour.test", "b")


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    try:
        found.put("all", *A.manifests(), *B.manifests(), NEIGHBOUR)
        yield found
    finally:
        found.stop()


def status_of(gateway: Gateway, host: str, path: str = "/", **headers: Any) -> int:
    return gateway.get(host, path, **headers).status


def test_a_password_that_comes_after_its_ingress_opens_it(gateway: Gateway) -> None:
    gateway.put("late", ingress("late", "late.test", auth_type="basic", auth_secret="late"))
    assert 503 == status_of(gateway, "late.test", Authorization="Basic dTpw")
    gateway.write("late-secret", secret("late", auth="u:{PLAIN}p\n"))
    gateway.until(lambda: 200 == status_of(gateway, "late.test", Authorization="Basic dTpw"), "the password to count")
    assert 401 == status_of(gateway, "late.test")
    gateway.write("late-secret", secret("late", auth="u:{PLAIN}q\n"))
    gateway.until(lambda: 401 == status_of(gateway, "late.test", Authorization="Basic dTpw"), "it to be changed")
    gateway.write("late-secret")
    gateway.until(lambda: 503 == status_of(gateway, "late.test", Authorization="Basic dTpx"), "it to be taken away")


def test_a_certificate_that_comes_after_its_ingress_is_shown_and_renewed(gateway: Gateway) -> None:
    gateway.put("sealed", ingress("sealed", "sealed.test", tls="sealed"))
    assert 308 == status_of(gateway, "sealed.test")
    nobodys = gateway.certificate_of("sealed.test")
    for _ in range(2):
        pair = make_fake(datetime.now(UTC), "sealed.test")
        der = x509.load_pem_x509_certificate(pair.chain).public_bytes(Encoding.DER)
        gateway.write(
            "sealed-secret", secret("sealed", **{"tls.crt": pair.chain.decode(), "tls.key": pair.key.decode()})
        )

        def is_shown(wanted: bytes = der) -> bool:
            return gateway.certificate_of("sealed.test") == wanted

        gateway.until(is_shown, "the certificate")
    gateway.write("sealed-secret")
    gateway.until(lambda: gateway.certificate_of("sealed.test") == nobodys, "the certificate of nobody")


def test_authorities_that_come_after_their_ingress_open_it(gateway: Gateway, tmp_path: Path) -> None:
    authority = make_pair("authority", common="authority")
    files = tmp_path / "crt", tmp_path / "key"
    for path, data in zip(files, make_client_pair(authority, "ann", "people"), strict=True):
        path.write_bytes(data)
    gateway.put("clients", ingress("clients", "clients.test", auth_tls_secret="default/clients"))
    assert 403 == gateway.get("clients.test", tls=True, certificate=files).status
    gateway.write("clients-secret", secret("clients", **{"ca.crt": authority[0].decode()}))
    gateway.until(lambda: 200 == gateway.get("clients.test", tls=True, certificate=files).status, "ann to be let in")
    assert 400 == gateway.get("clients.test", tls=True).status
    # Who asks TLS for another host, and then for this one, has shown nothing.
    assert 421 == gateway.get("clients.test", tls=True, server_name="neighbour.test").status


def test_a_solver_of_cert_manager_comes_and_goes(gateway: Gateway) -> None:
    path = "/.well-known/acme-challenge/token"
    site = ingress("site", "site.test", tls="site", force_ssl_redirect="true", auth_type="basic", auth_secret="site")
    users = secret("site", auth="u:{PLAIN}p\n")
    gateway.put("site", site, users)
    for _ in range(2):
        assert 308 == status_of(gateway, "site.test", "/x")
        solver = ingress("cm-acme-http-solver-x1", "site.test", "b", path, kind="Exact", created="2026-02-01T00:00:00Z",
                         whitelist_source_range="0.0.0.0/0,::/0")  # fmt: skip
        gateway.put("solver", solver)
        assert "b" == gateway.get("site.test", path).backend
        assert 308 == status_of(gateway, "site.test", "/x")
        assert 401 == gateway.get("site.test", path + "/more", tls=True).status
        gateway.put("solver")
        gateway.until(lambda: 401 == gateway.get("site.test", path, tls=True).status, "it to be gone")


def test_a_canary_comes_and_goes(gateway: Gateway) -> None:
    gateway.put("main", ingress("main", "main.test"))
    for _ in range(2):
        gateway.put("canary", ingress("canary", "main.test", "b", canary="true", canary_weight="100"))
        assert "b" == gateway.get("main.test").backend
        gateway.put("canary")
        gateway.until(lambda: "a" == gateway.get("main.test").backend, "it to be gone")


def test_an_ingress_that_is_taken_away_is_gone_and_another_takes_its_path(gateway: Gateway) -> None:
    older = ingress("older", "taken.test", "a", created="2025-01-01T00:00:00Z")
    gateway.put("taken", older, ingress("younger", "taken.test", "b"))
    assert "a" == gateway.get("taken.test").backend
    gateway.put("taken", ingress("younger", "taken.test", "b"))
    gateway.until(lambda: "b" == gateway.get("taken.test").backend, "the younger one")
    gateway.put("taken")
    gateway.until(lambda: 404 == status_of(gateway, "taken.test"), "it to be gone")


def test_hosts_whose_files_nginx_refuses_are_found_and_cost_nobody_else_anything(gateway: Gateway) -> None:
    """Authorities that are none: what is in a Secret is not looked into before nginx reads it."""
    broken = secret("broken", **{"ca.crt": "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"})
    bad = [ingress(f"bad-{number}", f"bad-{number}.test", auth_tls_secret="default/broken") for number in range(2)]
    good = [ingress(f"good-{number}", f"good-{number}.test", "b") for number in range(5)]
    gateway.put("refused", broken, *bad, *good)
    assert {"b"} == {gateway.get(f"good-{number}.test").backend for number in range(5)}
    assert {503} == {gateway.get(f"bad-{number}.test", tls=tls).status for number in range(2) for tls in (True, False)}
    assert "b" == gateway.get("neighbour.test").backend
    for number in range(2):
        said = f"bad-{number}.test"
        gateway.until(lambda said=said: "ProxyRefused" in gateway.log and said in gateway.log, said)  # type: ignore[misc]
    # What came before and after is served, and the bad ones are when they are mended.
    gateway.put("after", ingress("after", "after.test", "b"))
    assert "b" == gateway.get("after.test").backend
    gateway.put("refused", *good, *(ingress(f"bad-{number}", f"bad-{number}.test") for number in range(2)))
    assert {"a"} == {gateway.get(f"bad-{number}.test").backend for number in range(2)}


def test_a_host_that_nginx_refuses_is_served_when_its_secret_is_mended(gateway: Gateway, tmp_path: Path) -> None:
    authority = make_pair("authority", common="authority")
    files = tmp_path / "crt", tmp_path / "key"
    for path, data in zip(files, make_client_pair(authority, "ann", "people"), strict=True):
        path.write_bytes(data)
    gateway.write("mending-secret", secret("mending", **{"ca.crt": "nonsense"}))
    gateway.put("mending", ingress("mending", "mending.test", auth_tls_secret="default/mending"))
    assert 503 == gateway.get("mending.test", tls=True, certificate=files).status
    gateway.write("mending-secret", secret("mending", **{"ca.crt": authority[0].decode()}))
    gateway.until(lambda: 200 == gateway.get("mending.test", tls=True, certificate=files).status, "it to be served")


def test_what_an_ingress_has_wrong_is_said_once_and_only_of_it(gateway: Gateway) -> None:
    wrong = ingress("wrong", "wrong.test", proxy_read_timeout="60s", limit_rps="many", no_such_thing="x")
    gateway.put("wrong", wrong)
    assert 503 == status_of(gateway, "wrong.test")
    for said in ("proxy-read-timeout: dropped", "limit-rps: denied", "no-such-thing: unknown"):
        gateway.until(partial(_is_said, gateway, said), said)
    gateway.put("wrong", wrong)
    lines = [line for line in gateway.log.splitlines() if "limit-rps: denied" in line]
    assert 1 == len(lines)
    assert "default/wrong" in lines[0]


def _is_said(gateway: Gateway, text: str) -> bool:
    return text in gateway.log


def test_a_class_that_is_taken_away_takes_its_ingresses_along(gateway: Gateway) -> None:
    own = {**CLASS, "metadata": {"name": "own"}}
    classed = ingress("classed", "classed.test")
    classed["spec"]["ingressClassName"] = "own"
    gateway.put("classed", classed)
    assert 404 == status_of(gateway, "classed.test")
    gateway.write("class", own)
    gateway.until(lambda: 200 == status_of(gateway, "classed.test"), "its class")
    gateway.write("class")
    gateway.until(lambda: 404 == status_of(gateway, "classed.test"), "its class to be gone")
