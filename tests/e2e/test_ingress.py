"""Requests through the nginx that `lbcore ingress` runs: which backend answers, with which status and headers.

One nginx for the file, one with Lua, and both again of the next Debian where it was fetched. A case is one Ingress on
a host of its own; what is asked for and what comes stands in the tables of `tests/asking`.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from asking.case import Ask, Case, ask, judge
from asking.tables import CASES, World
from gateway import Backend, Gateway, ingress
from machine import NEWER_NGINX

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

WITHOUT = ("--no-dynamic-upstreams",)
NEWER = ("--nginx", str(NEWER_NGINX))
VARIANTS = [
    pytest.param(WITHOUT, id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
    pytest.param((*NEWER, *WITHOUT), id="newer-plain", marks=pytest.mark.needs("nginx-newer")),
    # Where the modules are is looked up in the machine's own folders: they have to be there, too.
    pytest.param(NEWER, id="newer-lua", marks=pytest.mark.needs("nginx-newer", "nginx-lua")),
]
ASKS = [pytest.param(each, ask, id=f"{each.name}: {ask.says}") for each in CASES for ask in each.asks]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Backends, Secrets and clients of all tables."""
    found = World(tmp_path_factory.mktemp("world"))
    yield found
    found.close()


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """With nginx as it is, and with Lua that chooses peers: every case in both ways."""
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    try:
        found.put("all", *world.documents())
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize(("case", "wanted"), ASKS)
def test_a_request_is_answered_as_the_annotations_say(gateway: Gateway, world: World, case: Case, wanted: Ask) -> None:
    certificate = world.client(wanted.certificate) if wanted.certificate is not None else None
    begun = time.monotonic()
    answer = ask(gateway, wanted, case.host, certificate)
    assert wanted.at_least <= time.monotonic() - begun
    judge(wanted, answer, world.words(gateway.http, gateway.https))


def test_no_two_requests_have_one_name() -> None:
    assert [] == [name for name, times in Counter(each.id for each in ASKS).items() if times > 1]
    assert [] == [name for name, times in Counter(each.name for each in CASES).items() if times > 1]


def test_half_of_the_weight_is_about_half_of_the_requests(gateway: Gateway) -> None:
    came = [gateway.get("canary-half.test").backend for _ in range(200)]
    assert 60 < came.count("b") < 140  # 5.6 standard deviations


def test_all_backends_of_a_service_are_used(gateway: Gateway) -> None:
    seen = {gateway.get("ten.test").backend for _ in range(100)}
    assert {f"ten-{number}" for number in range(10)} == seen


def test_no_reload_was_refused_and_no_ingress_left_out(gateway: Gateway) -> None:
    assert "ProxyRefused" not in gateway.log
    assert "nginx refuses" not in gateway.log


def test_certificates_are_shown_by_name(gateway: Gateway, world: World) -> None:
    def der(chain: bytes) -> bytes:
        return x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)

    assert der(world.pair.chain) == gateway.certificate_of("tls.test")
    assert der(world.wild.chain) == gateway.certificate_of("one.wild.test")
    assert gateway.certificate_of("plain.invalid") not in {der(world.pair.chain), der(world.wild.chain)}


def test_secrets_lie_in_files_that_others_cannot_read(gateway: Gateway) -> None:
    modes = {
        path.stat().st_mode & 0o777 for path in gateway.runtime.iterdir() if path.is_file() and path.suffix != ".pid"
    }
    assert {0o600} == modes
    assert 0o700 == gateway.runtime.stat().st_mode & 0o777


def test_a_change_of_endpoints_is_served(tmp_path: Path) -> None:
    a, b = Backend("a"), Backend("b")
    found = Gateway(tmp_path).start()
    try:
        found.put("all", *a.manifests("web"), ingress("web", "web.test", "web"))
        assert "a" == found.get("web.test").backend
        found.put("all", *b.manifests("web"), ingress("web", "web.test", "web"))
        assert "b" == found.get("web.test").backend
    finally:
        found.stop()


def test_without_any_ingress_everything_is_404(tmp_path: Path) -> None:
    found = Gateway(tmp_path)
    found.write("all")
    found.start()
    try:
        deadline = time.monotonic() + 15
        while "nginx refuses" not in found.log:
            with contextlib.suppress(OSError):
                assert 404 == found.get("nobody.test").status
                return
            assert time.monotonic() < deadline, found.log
            time.sleep(0.05)
        raise AssertionError(found.log)
    finally:
        found.stop()
