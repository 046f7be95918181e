# ruff: noqa: E501 - a table is read in rows
"""Requests through the nginx that `lbcore ingress` runs: which backend answers, with which status and headers.

One nginx for the file. A case is one Ingress on a host of its own; what is asked for and what comes stands in a table.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import Answer, Backend, Gateway, ingress, secret
from lbcore.adapters.certificates import make_fake

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.slow]

USERS = "Basic dTpw"  # u:p
PAIR = make_fake(datetime.now(UTC), "tls.test")
WILD = make_fake(datetime.now(UTC), "*.wild.test")


@frozen(kw_only=True)
class Ask:
    """One request, and what is to come: the status, the backend, its path, headers of the answer or of the request."""

    path: str = "/"
    status: int = 200
    backend: str | None = None
    sees: str | None = None
    method: str = "GET"
    host: str | None = None
    send: dict[str, str] = field(factory=dict)
    answers: dict[str, str | None] = field(factory=dict)
    receives: dict[str, str | None] = field(factory=dict)
    tls: bool = False
    body: bytes | None = None


@frozen
class Case:
    """Ingresses (their host is the case's name) and what they do."""

    name: str
    ingresses: tuple[dict[str, Any], ...]
    asks: tuple[Ask, ...]


def case(name: str, *asks: Ask, also: tuple[dict[str, Any], ...] = (), **given: Any) -> Case:
    host = given.pop("host", f"{name}.test")
    return Case(name, (ingress(name, host, **given), *also), asks)


def two(name: str, *asks: Ask, **given: Any) -> Case:
    """A host with a canary to backend b."""
    canary = ingress(f"{name}-canary", f"{name}.test", "b", canary="true", **given)
    return Case(name, (ingress(name, f"{name}.test"), canary), asks)


OK = Ask(backend="a")
REDIRECT: dict[str, str | None] = {"location": "https://example.org/x"}

CASES = (
    # Hosts and paths (the Ingress conformance features).
    case("exact-host", OK, Ask(host="other.exact-host.test", status=404)),
    case("upper-host", OK, Ask(host="UPPER-host.test", backend="a")),
    case("wild-host", Ask(host="a.wild-host.test", backend="a"), Ask(host="b.a.wild-host.test", status=404),
         Ask(host="wild-host.test", status=404), host="*.wild-host.test"),
    case("exact-path", Ask(path="/foo", backend="a"), Ask(path="/foo/", status=404), Ask(path="/FOO", status=404),
         Ask(path="/bar", status=404), path="/foo", kind="Exact"),
    case("prefix-path", Ask(path="/foo", backend="a"), Ask(path="/foo/", backend="a"), Ask(path="/foo/x", backend="a"),
         Ask(path="/FOO", status=404), Ask(path="/foobar", status=404), path="/foo"),
    case("prefix-slash", Ask(path="/aaa/bbb/", backend="a"), Ask(path="/aaa/bbb", status=301), Ask(path="/aaa", status=404),
         path="/aaa/bbb/"),
    case("longest-path", Ask(path="/aaa/bbb/c", backend="b"), Ask(path="/aaa/x", backend="a"), Ask(path="/aaaccc", status=404),
         path="/aaa", also=(ingress("longest-2", "longest-path.test", "b", "/aaa/bbb"),)),
    case("exact-first", Ask(path="/foo", backend="b"), Ask(path="/foo/x", backend="a"), path="/foo",
         also=(ingress("exact-first-2", "exact-first.test", "b", "/foo", kind="Exact"),)),
    case("both-slashes", Ask(path="/a", backend="a"), Ask(path="/a/", backend="b"), path="/a",
         also=(ingress("both-2", "both-slashes.test", "b", "/a/", created="2025-01-01T00:00:00Z"),)),
    case("oldest-wins", Ask(backend="b"), also=(ingress("oldest-2", "oldest-wins.test", "b", created="2025-01-01T00:00:00Z"),)),
    case("odd-path", Ask(path="/a%20b%22%7B%7D;%24host", backend="a"), path='/a b"{};$host'),
    case("port-by-name", OK, port="http"),
    case("port-unknown", Ask(status=503), port=81),
    case("no-service", Ask(status=503), service="nobody"),
    case("no-endpoints", Ask(status=503), service="empty"),
    case("external-localhost", Ask(status=503), service="inside"),
    case("spread", OK, service="both"),
    # Rewrites and redirects.
    case("rewrite", Ask(path="/api", sees="/"), Ask(path="/api/v1/x?q=1", sees="/v1/x?q=1"), Ask(path="/API/Z", sees="/Z"),
         Ask(path="/apifoo", status=404), path="/api(/|$)(.*)", kind="ImplementationSpecific", rewrite_target="/$2"),
    case("rewrite-all", Ask(path="/q/anything", sees="/"), path="/q", rewrite_target="/"),
    case("regex", Ask(path="/id/12", backend="a"), Ask(path="/id/123a", backend="a"), Ask(path="/id/x", status=404),
         path="/id/[0-9]+", use_regex="true"),
    case("regex-end", Ask(path="/id/12", backend="a"), Ask(path="/id/12a", status=404), path="/id/[0-9]+$", use_regex="true"),
    case("regex-quirk", Ask(path="/foobar", backend="a"), Ask(path="/FOO", backend="a"), path="/foo",
         also=(ingress("quirk-2", "regex-quirk.test", "b", "/z", use_regex="true"),)),
    case("bad-regex", Ask(path="/ok", backend="b"), path="/(a+)+$", use_regex="true",
         also=(ingress("bad-regex-2", "bad-regex.test", "b", "/ok"),)),
    case("overlap", Ask(path="/ab", status=503), path="/((a)(b))", rewrite_target="/$1$2"),
    case("forwarded-prefix", Ask(path="/p/x", receives={"x-forwarded-prefix": "/p"}), path="/p(/|$)(.*)", rewrite_target="/$2",
         x_forwarded_prefix="/p"),
    case("app-root", Ask(status=302, answers={"location": "http://app-root.test/app"}), Ask(path="/app", backend="a"),
         app_root="/app"),
    case("permanent", Ask(status=301, answers=REDIRECT), permanent_redirect="https://example.org/x"),
    case("permanent-code", Ask(status=308, answers=REDIRECT), permanent_redirect="https://example.org/x",
         permanent_redirect_code="308"),
    case("temporal", Ask(status=302, answers=REDIRECT), temporal_redirect="https://example.org/x",
         permanent_redirect="https://example.org/y"),
    case("temporal-code", Ask(status=307, answers=REDIRECT), temporal_redirect="https://example.org/x",
         temporal_redirect_code="307"),
    case("redirect-uri", Ask(path="/p?q=1", status=301, answers={"location": "https://example.org/p?q=1"}),
         permanent_redirect="https://example.org$request_uri"),
    case("redirect-script", Ask(status=503), permanent_redirect="javascript:alert(1)"),
    case("redirect-variable", Ask(status=503), permanent_redirect="https://example.org/$document_root"),
    case("force-ssl", Ask(path="/x", status=308, answers={"location": "https://force-ssl.test/x"}),
         Ask(status=308, answers={"location": "https://force-ssl.test"}), Ask(tls=True, backend="a"), force_ssl_redirect="true"),
    case("keep-slash", Ask(status=308, answers={"location": "https://keep-slash.test/"}), force_ssl_redirect="true",
         preserve_trailing_slash="true"),
    case("with-tls", Ask(path="/x", status=308), Ask(tls=True, backend="a", answers={
        "strict-transport-security": "max-age=31536000; includeSubDomains"}), host="tls.test", tls="pair"),
    case("tls-no-redirect", Ask(backend="a", answers={"strict-transport-security": None}), tls="pair", ssl_redirect="false"),
    case("tls-missing", Ask(status=308), Ask(tls=True, backend="a"), tls="nowhere"),
    case("acme", Ask(path="/.well-known/acme-challenge/x", backend="b"), tls="pair",
         also=(ingress("acme-2", "acme.test", "b", "/.well-known/acme-challenge/x", kind="Exact"),)),
    case("twin", Ask(host="www.twin.test", path="/x", status=308), OK, from_to_www_redirect="true"),
    # Passing on.
    case("headers", Ask(send={"X-Forwarded-For": "192.0.2.9", "Proxy": "evil"}, receives={
        "host": "headers.test", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
        "x-original-forwarded-for": "192.0.2.9", "proxy": None})),
    case("vhost", Ask(receives={"host": "inner.example"}), upstream_vhost="inner.example"),
    case("body-size", Ask(method="POST", body=b"x" * 100, backend="a"), Ask(method="POST", body=b"x" * 3000, status=413),
         proxy_body_size="2k"),
    case("body-default", Ask(method="POST", body=b"x" * 1100000, status=413)),
    case("body-unlimited", Ask(method="POST", body=b"x" * 1100000, backend="a"), proxy_body_size="0"),
    case("tuning", OK, proxy_connect_timeout="7", proxy_send_timeout="8", proxy_read_timeout="9", proxy_buffering="on",
         proxy_buffers_number="8", proxy_buffer_size="16k", proxy_request_buffering="off", proxy_http_version="1.0",
         client_body_buffer_size="64k", proxy_next_upstream="error timeout http_502", proxy_next_upstream_tries="2",
         proxy_next_upstream_timeout="3", proxy_max_temp_file_size="0", limit_rate="100", limit_rate_after="10",
         enable_access_log="false", relative_redirects="true"),
    case("bad-tuning", OK, proxy_read_timeout="60s", proxy_body_size="8 m; return 200", proxy_buffering="maybe"),
    case("connection", Ask(receives={"connection": "close"}), connection_proxy_header="close"),
    case("hash-by", OK, service="both", upstream_hash_by="$request_uri"),
    case("ewma", OK, load_balance="ewma"),
    case("grpc-to-http", Ask(status=502), backend_protocol="GRPC"),
    case("https-to-http", Ask(status=502), backend_protocol="HTTPS"),
    case("bad-protocol", Ask(status=503), backend_protocol="HTTP; return 200"),
    case("cluster-ip-less", OK, service_upstream="true"),
    case("websocket", Ask(send={"Upgrade": "websocket", "Connection": "upgrade"},
                          receives={"upgrade": "websocket", "connection": "upgrade"})),
    # Who may.
    case("basic", Ask(status=401, answers={"www-authenticate": 'Basic realm="in"'}),
         Ask(send={"Authorization": USERS}, backend="a", receives={"authorization": None}),
         auth_type="basic", auth_secret="users", auth_realm="in"),
    case("basic-map", Ask(status=401), Ask(send={"Authorization": USERS}, backend="a"), auth_type="basic",
         auth_secret="default/usermap", auth_secret_type="auth-map"),
    case("basic-missing", Ask(status=503), Ask(send={"Authorization": USERS}, status=503), auth_type="basic",
         auth_secret="nowhere"),
    case("basic-foreign", Ask(status=503), auth_type="basic", auth_secret="kube-system/users"),
    case("basic-nameless", Ask(status=503), auth_type="basic"),
    case("digest", Ask(status=503), auth_type="digest", auth_secret="users"),
    case("allow", OK, whitelist_source_range="127.0.0.0/8,10.0.0.0/8"),
    case("allow-others", Ask(status=403), allowlist_source_range="10.0.0.0/8, 2001:db8::/32"),
    case("allow-broken", Ask(status=503), allowlist_source_range="10.0.0.0/33"),
    case("deny", Ask(status=403), denylist_source_range="127.0.0.1"),
    case("satisfy", Ask(status=401), Ask(send={"Authorization": USERS}, backend="a"), satisfy="any", auth_type="basic",
         auth_secret="users", allowlist_source_range="10.0.0.0/8"),
    case("limit", OK, OK, Ask(status=503), limit_rpm="1", limit_burst_multiplier="1",
         also=(ingress("limit-2", "limit-other.test"),)),
    case("limit-exempt", OK, OK, OK, limit_rpm="1", limit_burst_multiplier="1", limit_whitelist="127.0.0.1/32"),
    case("limit-broken", Ask(status=503), limit_rps="10; return 200"),
    case("limit-connections", OK, limit_connections="5", limit_rps="100"),
    case("cors", Ask(send={"Origin": "https://x.example"}, backend="a", answers={"access-control-allow-origin": "*"}),
         Ask(method="OPTIONS", status=204, answers={"access-control-allow-methods": "GET, PUT, POST, DELETE, PATCH, OPTIONS",
                                                    "access-control-max-age": "1728000"}), enable_cors="true"),
    case("cors-list", Ask(send={"Origin": "https://shop.example"}, answers={
        "access-control-allow-origin": "https://shop.example", "access-control-allow-credentials": None,
        "access-control-expose-headers": "X-A", "access-control-max-age": "9"}),
         Ask(send={"Origin": "xhttps://shop.example"}, answers={"access-control-allow-origin": None}),
         Ask(send={"Origin": "https://shop.example.evil"}, answers={"access-control-allow-origin": None}),
         Ask(send={"Origin": "https://a.wild.example"}, answers={"access-control-allow-origin": "https://a.wild.example"}),
         enable_cors="true", cors_allow_origin="https://shop.example, https://*.wild.example", cors_allow_credentials="false",
         cors_expose_headers="X-A", cors_max_age="9", cors_allow_methods="GET", cors_allow_headers="X-B"),
    case("cors-broken", Ask(status=503), enable_cors="true", cors_allow_origin="not an origin"),
    case("auth-url", Ask(status=401), Ask(send={"X-Want-Status": "200"}, backend="a", receives={"x-user": "ann"}),
         auth_url="http://127.0.0.1:@door@/check?a=$request_uri", auth_response_headers="X-User"),
    case("auth-signin", Ask(path="/x", status=302, answers={
        "location": "https://login.example/in?back=http://auth-signin.test/x"}),
         auth_url="http://127.0.0.1:@door@/check", auth_signin="https://login.example/in", auth_signin_redirect_param="back",
         auth_method="POST"),
    case("auth-nowhere", Ask(status=500), auth_url="http://no-such-name.invalid/"),
    case("auth-broken", Ask(status=503), auth_url="http://x/;} evil {"),
    case("auth-userinfo", Ask(status=503), auth_url="http://u:p@x/"),
    case("match-cn", Ask(status=503), auth_tls_match_cn="CN=x"),
    case("client-cert", Ask(tls=True, status=400), auth_tls_secret="default/authorities"),
    case("client-cert-optional", Ask(tls=True, backend="a", receives={"ssl-client-verify": "NONE"}),
         auth_tls_secret="default/authorities", auth_tls_verify_client="optional", auth_tls_verify_depth="2"),
    case("client-cert-missing", Ask(status=403), Ask(tls=True, status=403), auth_tls_secret="default/nowhere"),
    case("snippet", OK, configuration_snippet="return 418;", server_snippet="return 418;"),
    # Sessions, canaries, errors.
    two("canary-header", OK, Ask(send={"X-C": "always"}, backend="b"), Ask(send={"X-C": "never"}, backend="a"),
        Ask(send={"X-C": "maybe"}, backend="a"), canary_by_header="X-C"),
    two("canary-value", Ask(send={"X-C": "be$ta \""}, backend="b"), Ask(send={"X-C": "always"}, backend="a"),
        canary_by_header="X-C", canary_by_header_value='be$ta "'),
    two("canary-pattern", Ask(send={"X-C": "v12"}, backend="b"), Ask(send={"X-C": "w"}, backend="a"), canary_by_header="X-C",
        canary_by_header_pattern="^v[0-9]+$"),
    two("canary-cookie", Ask(send={"Cookie": "try-it=always; z=1"}, backend="b"), Ask(send={"Cookie": "try-it=never"}, backend="a"),
        OK, canary_by_cookie="try-it"),
    two("canary-all", Ask(backend="b"), canary_weight="100"),
    two("canary-total", Ask(backend="b"), canary_weight="200", canary_weight_total="200"),
    two("canary-half", canary_weight="50"),
    case("ten", service="ten"),
    two("canary-none", OK, canary_weight="0"),
    case("canary-alone", Ask(status=404), canary="true", canary_weight="100"),
    case("custom-errors", Ask(send={"X-Want-Status": "404"}, backend="door", receives={
        "x-code": "404", "x-namespace": "default", "x-ingress-name": "custom-errors", "x-service-name": "a"}, sees="/", status=404),
         OK, custom_http_errors="404,503", default_backend="door"),
    case("default-backend", Ask(backend="b", receives={"x-code": "503"}), service="empty", default_backend="b"),
    case("sticky", OK, service="both", affinity="cookie", affinity_mode="persistent", session_cookie_name="route",
         session_cookie_expires="60", session_cookie_max_age="60", session_cookie_path="/", session_cookie_samesite="Lax",
         session_cookie_secure="true", session_cookie_domain="sticky.test"),
    case("sticky-bad", OK, service="both", affinity="cookie", session_cookie_name="a b; c"),
    case("upstream-tls", Ask(backend="sealed"), service="sealed", backend_protocol="HTTPS"),
    case("upstream-tls-verified", Ask(backend="sealed"), service="sealed", backend_protocol="https",
         proxy_ssl_secret="default/authorities", proxy_ssl_verify="on", proxy_ssl_name="tls.test", proxy_ssl_server_name="on"),
    case("upstream-tls-other-name", Ask(status=502), service="sealed", backend_protocol="HTTPS",
         proxy_ssl_secret="default/authorities", proxy_ssl_verify="on", proxy_ssl_name="other.test"),
    case("upstream-tls-no-secret", Ask(status=503), service="sealed", backend_protocol="HTTPS",
         proxy_ssl_secret="default/nowhere", proxy_ssl_verify="on"),
    case("client-cert-passed", Ask(tls=True, backend="a", receives={"ssl-client-verify": "NONE"}),
         auth_tls_secret="default/authorities", auth_tls_verify_client="optional_no_ca",
         auth_tls_pass_certificate_to_upstream="true"),
    case("alias", OK, Ask(host="alias-other.test", backend="a"), server_alias="alias-other.test"),
)  # fmt: skip


WITHOUT = ("--no-dynamic-upstreams",)
VARIANTS = [
    pytest.param(WITHOUT, id="plain"),
    pytest.param((), id="lua", marks=pytest.mark.needs("nginx-lua")),
]


@pytest.fixture(scope="module", params=VARIANTS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With nginx as it is, and with Lua that chooses peers: every case in both ways."""
    a, b = Backend("a"), Backend("b")
    door = Backend("door", status=401, answers={"X-User": "ann"})
    both = a.manifests("both", Backend("a"))
    sealed = Backend("sealed", pair=PAIR)
    ten = [Backend(f"ten-{number}") for number in range(10)]
    meta = {"name": "empty", "namespace": "default"}
    empty = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
    inside = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "inside", "namespace": "default"},
              "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 80}]}}  # fmt: skip
    secrets = (
        secret("pair", **{"tls.crt": PAIR.chain.decode(), "tls.key": PAIR.key.decode()}),
        secret("wild", **{"tls.crt": WILD.chain.decode(), "tls.key": WILD.key.decode()}),
        secret("users", auth="u:{PLAIN}p\n"),
        secret("usermap", u="{PLAIN}p"),
        secret("authorities", **{"ca.crt": PAIR.chain.decode()}),
    )
    found = Gateway(tmp_path_factory.mktemp("gateway")).start(*request.param)
    try:
        given = [each for case in CASES for each in case.ingresses]
        for each in given:
            annotations = each["metadata"]["annotations"]
            for name, value in annotations.items():
                annotations[name] = value.replace("@door@", str(door.port))
        services = [
            *a.manifests(),
            *b.manifests(),
            *door.manifests(),
            *sealed.manifests(),
            *ten[0].manifests("ten", *ten[1:]),
            *both,
            empty,
            inside,
        ]
        found.put("all", *services, *secrets, *given, ingress("wild", "*.wild.test", tls="wild"))
        yield found
    finally:
        found.stop()


def ask(gateway: Gateway, host: str, wanted: Ask) -> Answer:
    send: dict[str, Any] = dict(wanted.send)
    return gateway.get(wanted.host or host, wanted.path, method=wanted.method, tls=wanted.tls, body=wanted.body, **send)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_a_request_is_answered_as_the_annotations_say(gateway: Gateway, each: Case) -> None:
    host = each.ingresses[0]["spec"]["rules"][0]["host"]
    for wanted in each.asks:
        answer = ask(gateway, host, wanted)
        assert wanted.status == answer.status, (wanted, answer)
        if wanted.backend is not None:
            assert wanted.backend == answer.backend
        if wanted.sees is not None:
            assert wanted.sees == answer.seen["path"]
        for name, value in wanted.answers.items():
            assert value == answer.headers.get(name), name
        for name, value in wanted.receives.items():
            assert value == answer.seen["headers"].get(name), name


def test_who_brings_his_cookie_stays_with_his_backend(gateway: Gateway) -> None:
    first = gateway.get("sticky.test")
    [cookie] = first.cookies
    for part in ("route=", "Path=/", "Max-Age=60", "Domain=sticky.test", "SameSite=Lax", "Secure", "HttpOnly"):
        assert part in cookie
    again = gateway.get("sticky.test", cookie=cookie.partition(";")[0])
    assert () == again.cookies


def test_half_of_the_weight_is_about_half_of_the_requests(gateway: Gateway) -> None:
    came = [gateway.get("canary-half.test").backend for _ in range(200)]
    assert 60 < came.count("b") < 140  # 5.6 standard deviations


def test_all_backends_of_a_service_are_used(gateway: Gateway) -> None:
    seen = {gateway.get("ten.test").backend for _ in range(100)}
    assert {f"ten-{number}" for number in range(10)} == seen


def test_no_reload_was_refused_and_no_ingress_left_out(gateway: Gateway) -> None:
    assert "ProxyRefused" not in gateway.log
    assert "nginx refuses" not in gateway.log


def test_certificates_are_shown_by_name(gateway: Gateway) -> None:
    def der(chain: bytes) -> bytes:
        return x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)

    assert der(PAIR.chain) == gateway.certificate_of("tls.test")
    assert der(WILD.chain) == gateway.certificate_of("one.wild.test")
    assert gateway.certificate_of("plain.invalid") not in {der(PAIR.chain), der(WILD.chain)}


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
