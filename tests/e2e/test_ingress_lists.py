# ruff: noqa: E501 - manifests are read in rows
"""Options that name headers, lists of whom nobody serves, and what TLS is made of; with Lua and without."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from asking.case import HTTPS, Ask, ask, judge
from gateway import Backend, Gateway, config_map, ingress, secret
from scripts import Script

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

A, DOOR = Backend("a"), Backend("door", status=401, status_header="X-Door-Status")
SCRIPT = Script("script")
TEXT = 'a"; return 200 $host {} \\'
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3"  # 48 bytes
MAPS = {
    "sent": {"X-Plain": 'a"; return 200 {} \\', "X-Uri": "${request_uri}", "X-Real-IP": "by hand", "X-Bad": "$document_root", "Transfer-Encoding": "x"},
    "added": {"X-Frame-Options": "DENY", "X-More": TEXT, "X-Long": "ours", "X Bad": "x", "Content-Length": "3"},
}  # fmt: skip
FROM = {"use_forwarded_headers": "true"}
VIA = {"X-Forwarded-For": "198.51.100.7"}
ROWS: tuple[tuple[str, dict[str, str], tuple[Ask, ...]], ...] = (
    ("proxy-set-headers", {"proxy_set_headers": "default/sent"}, (
        Ask("", "/p?q", host="plain.test", receives={"x-plain": 'a"; return 200 {} \\', "x-uri": "/p?q", "x-real-ip": "by hand", "x-bad": None, "host": "plain.test"}),
        Ask("", host="vhost.test", receives={"x-plain": 'a"; return 200 {} \\', "x-real-ip": "by hand", "host": "inner.test"}),
        Ask("", backend="script", host="script.test", receives={"x-uri": "/", "x-real-ip": "by hand"}))),
    ("proxy-set-headers that is missing", {"proxy_set_headers": "default/nowhere"}, (Ask("", host="plain.test", receives={"x-plain": None, "x-real-ip": "127.0.0.1"}),)),
    ("add-headers", {"add_headers": "default/added"}, (
        Ask("", host="plain.test", answers={"x-frame-options": "DENY", "x-more": TEXT}),
        Ask("", "/", 404, host="nobody.test", answers={"x-frame-options": "DENY"}),
        Ask("", host="sticky.test", answers={"x-frame-options": "DENY"}, cookies=("INGRESSCOOKIE=",)),
        Ask("", host="plain.test", answers={"x-frame-options": "DENY", "strict-transport-security": "max-age=31536000; includeSubDomains"}, **HTTPS),
        Ask("", host="plain.test", send={"X-Want-Header": "3"}, answers={"x-long": "ours"}),
        Ask("", backend="script", host="script.test", send={"X-Want-Header": "3"}, answers={"x-long": "ours"}),
        Ask("", "/", 204, host="cors.test", method="OPTIONS", answers={"x-frame-options": "DENY"}))),
    ("hide-headers", {"hide_headers": "X-Long, X-Other"}, (
        Ask("", host="plain.test", send={"X-Want-Header": "3"}, answers={"x-long": None}),
        Ask("", host="own.test", send={"X-Want-Header": "3"}, answers={"x-long": None}),
        Ask("", backend="script", host="script.test", send={"X-Want-Header": "3"}, answers={"x-long": None}))),
    ("hide-headers that is none", {"hide_headers": "X Long"}, (Ask("", host="plain.test", send={"X-Want-Header": "3"}, answers={"x-long": "xxx"}),)),
    ("block-cidrs", {"block_cidrs": "198.51.100.0/24,2001:db8::/32", **FROM}, (
        Ask("", "/", 403, host="plain.test", send=VIA), Ask("", host="plain.test"), Ask("", "/", 403, host="home.test", send=VIA),
        Ask("", "/", 403, host="moved.test", send=VIA), Ask("", "/", 403, host="nobody.test", send=VIA), Ask("", "/", 403, host="plain.test", send=VIA, **HTTPS),
        Ask("", "/", 403, host="plain.test", send={"X-Forwarded-For": "2001:db8::7"}), Ask("", host="plain.test", send={"X-Forwarded-For": "203.0.113.1"}))),
    ("block-user-agents", {"block_user_agents": 'Robot/1.0,~*evil.*bot,~Exact,default,a";x'}, (
        Ask("", "/", 403, host="plain.test", send={"User-Agent": "Robot/1.0"}), Ask("", host="plain.test", send={"User-Agent": "Robot/1.0 x"}),
        Ask("", "/", 403, host="plain.test", send={"User-Agent": "an EVIL small Bot"}), Ask("", "/", 403, host="plain.test", send={"User-Agent": "Exact"}),
        Ask("", host="plain.test", send={"User-Agent": "exact"}), Ask("", "/", 403, host="plain.test", send={"User-Agent": "default"}),
        Ask("", "/", 403, host="plain.test", send={"User-Agent": 'a";x'}), Ask("", host="plain.test"))),
    ("block-referers", {"block_referers": "http://spam.example/,~*casino"}, (
        Ask("", "/", 403, host="plain.test", send={"Referer": "http://spam.example/"}), Ask("", "/", 403, host="plain.test", send={"Referer": "https://x.example/Casino"}),
        Ask("", host="plain.test", send={"Referer": "http://spam.example/x"}), Ask("", host="plain.test"))),
    ("all of these", {"block_cidrs": "198.51.100.0/24", "block_user_agents": "Robot", "block_referers": "~x", **FROM}, (
        Ask("", "/", 403, host="plain.test", send=VIA), Ask("", "/", 403, host="plain.test", send={"User-Agent": "Robot"}),
        Ask("", "/", 403, host="plain.test", send={"Referer": "x"}), Ask("", host="plain.test", send={"Referer": "y", "User-Agent": "x"}))),
    ("lists that are empty", {"block_cidrs": "", "block_user_agents": " ", "block_referers": ""}, (Ask("", host="plain.test"),)),
)  # fmt: skip
INGRESSES = (
    ingress("plain", "plain.test"),
    ingress("vhost", "vhost.test", upstream_vhost="inner.test"),
    ingress("script", "script.test", "script", backend_protocol="FCGI"),
    ingress("sticky", "sticky.test", affinity="cookie"),
    ingress("cors", "cors.test", enable_cors="true"),
    ingress("own", "own.test", configuration_snippet=""),
    ingress("home", "home.test", allowlist_source_range="198.51.100.0/24"),
    ingress("moved", "moved.test", permanent_redirect="https://x.example/"),
    ingress("door", "door.test", auth_url=f"http://127.0.0.1:{DOOR.port}/", auth_cache_key="$http_x_key"),
    ingress("door-2", "door-2.test", auth_url=f"http://127.0.0.1:{DOOR.port}/", auth_cache_key="$http_x_key"),
    ingress("door-short", "door-short.test", auth_url=f"http://127.0.0.1:{DOOR.port}/", auth_cache_key="$http_x_key",
            auth_cache_duration="401 10m, 200 1s"),
    ingress("tls", "tls.test", tls="pair"),
)  # fmt: skip
VARIANTS = [
    pytest.param(("--no-dynamic-upstreams",), id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]


def rsa_pair() -> dict[str, str]:
    """A certificate for tls.test that key exchanges of Diffie-Hellman are signed with."""
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tls.test")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"tls.crt": made.public_bytes(Encoding.PEM).decode(), "tls.key": private}


def group() -> str:
    """ffdhe2048 (RFC 7919, A.1): its prime is made of the digits of e."""
    term, digits = 1 << (1918 + 64), 0
    number = 0
    while term:
        digits += term
        number += 1
        term //= number
    prime = 2**2048 - 2**1984 + ((digits >> 64) + 560316) * 2**64 - 1
    numbers = b"\x02\x82\x01\x01" + prime.to_bytes(257) + b"\x02\x01\x02"  # PKCS #3, section 9: prime and base
    data = base64.encodebytes(b"\x30\x82" + len(numbers).to_bytes(2) + numbers).decode()
    return f"-----BEGIN DH PARAMETERS-----\n{data}-----END DH PARAMETERS-----\n"


def named_map(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {**config_map(), "metadata": {"name": name, "namespace": "default"}, "data": data}


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "script", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]},
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "script", "namespace": "default", "labels": {"kubernetes.io/service-name": "script"}},
        "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "", "port": SCRIPT.port}],
    }  # fmt: skip
    maps = [named_map(name, data) for name, data in MAPS.items()]
    secrets = [
        secret("pair", **rsa_pair()),
        secret("dh", **{"dhparam.pem": group()}),
        secret("dh-bad", **{"dhparam.pem": "x"}),
    ]
    try:
        found.put("all", *A.manifests(), service, slice_, *maps, *secrets, *INGRESSES)
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize(("data", "asks"), [pytest.param(data, asks, id=name) for name, data, asks in ROWS])
def test_the_options_hold_for_all_hosts(gateway: Gateway, data: dict[str, str], asks: tuple[Ask, ...]) -> None:
    gateway.put("options", config_map(**data))
    for wanted in asks:
        judge(wanted, ask(gateway, wanted), {})


@pytest.mark.parametrize(
    "data", [{"block_cidrs": "198.51.100.0/99"}, {"block_user_agents": "~("}, {"block_referers": "x\ny"}]
)
def test_a_list_of_whom_nobody_serves_that_cannot_be_read_keeps_everybody_out(
    gateway: Gateway, data: dict[str, str]
) -> None:
    gateway.write("options", config_map(**data))
    gateway.until(lambda: 403 == gateway.get("plain.test").status, "403 for everybody")
    gateway.put("options", config_map())
    assert 200 == gateway.get("plain.test").status


def test_what_is_missing_or_bad_in_what_the_options_name_is_said(gateway: Gateway) -> None:
    gateway.put("options", config_map(proxy_set_headers="default/sent", add_headers="default/nowhere", ssl_dh_param="default/dh-bad",
                                      ssl_session_ticket_key="c2VjcmV0"))  # fmt: skip
    for said in (
        "proxy-set-headers: 'X-Bad': the variable $document_root may not be used here", "'Transfer-Encoding': says where a message ends",
        "add-headers: there is no ConfigMap default/nowhere", "ssl-dh-param: Secret default/dh-bad: no DH PARAMETERS",
        "ssl-session-ticket-key: write 48 or 80 bytes",
    ):  # fmt: skip
        gateway.until(lambda said=said: said in gateway.log, said)  # type: ignore[misc]
    assert "c2VjcmV0" not in gateway.log
    assert 200 == gateway.get("plain.test").status


def test_headers_that_a_config_map_gets_later_are_sent(gateway: Gateway) -> None:
    gateway.put("options", config_map(proxy_set_headers="default/late"))
    assert "x-late" not in gateway.get("plain.test").seen["headers"]
    gateway.put("late", named_map("late", {"X-Late": "1"}))
    gateway.until(lambda: "1" == gateway.get("plain.test").seen["headers"].get("x-late"), "the header")
    gateway.put("late")
    gateway.until(lambda: "x-late" not in gateway.get("plain.test").seen["headers"], "no header")


def test_the_authentication_service_is_asked_once_for_a_key_and_a_location(gateway: Gateway) -> None:
    gateway.put("options", config_map())
    opened = {"X_Door_Status": "200"}
    assert 200 == gateway.get("door.test", X_Key="k1", **opened).status  # type: ignore[arg-type]
    assert 200 == gateway.get("door.test", X_Key="k1").status
    assert 401 == gateway.get("door.test", X_Key="k2").status
    assert 401 == gateway.get("door.test", X_Key="k2", **opened).status  # type: ignore[arg-type]
    assert 401 == gateway.get("door-2.test", X_Key="k1").status
    assert 403 == gateway.get("door.test", X_Key="k3", X_Door_Status="403").status  # not among the codes
    assert 200 == gateway.get("door.test", X_Key="k3", **opened).status  # type: ignore[arg-type]
    assert 200 == gateway.get("door-short.test", X_Key="k1", **opened).status  # type: ignore[arg-type]
    gateway.until(lambda: 401 == gateway.get("door-short.test", X_Key="k1").status, "the end of a second")


def _handshake(gateway: Gateway, ciphers: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    context = CONTEXTS.setdefault(ciphers, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    raw = socket.create_connection(("127.0.0.1", gateway.https), timeout=10)
    return context.wrap_socket(raw, server_hostname="tls.test", session=session)


CONTEXTS: dict[str, ssl.SSLContext] = {}


def test_ssl_dh_param_allows_key_exchanges_by_it(gateway: Gateway) -> None:
    gateway.put("options", config_map())
    with pytest.raises(ssl.SSLError):
        _handshake(gateway, "DHE-RSA-AES128-GCM-SHA256")
    gateway.put("options", config_map(ssl_dh_param="default/dh"))
    with _handshake(gateway, "DHE-RSA-AES128-GCM-SHA256") as found:
        assert "DHE-RSA-AES128-GCM-SHA256" == (found.cipher() or ("",))[0]


def test_a_session_outlives_a_reload_where_the_key_of_tickets_is_given(gateway: Gateway) -> None:
    ciphers = "ECDHE-RSA-AES128-GCM-SHA256"
    for key, outlives in (({"ssl_session_ticket_key": KEY}, True), ({}, False)):
        gateway.put("options", config_map(ssl_session_tickets="true", ssl_session_cache_size="1m", **key))
        with _handshake(gateway, ciphers) as first:
            session = first.session
        assert session is not None and session.has_ticket
        gateway.put(
            "options", config_map(ssl_session_tickets="true", ssl_session_cache_size="1m", server_tokens="true", **key)
        )
        with _handshake(gateway, ciphers, session) as again:
            assert outlives is again.session_reused
    names = [path for path in gateway.runtime.iterdir() if path.suffix == ".ticket"]
    assert all(0o600 == path.stat().st_mode & 0o777 for path in names)
