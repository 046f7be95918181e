# ruff: noqa: E501 - a table is read in rows
"""Sticky sessions, canaries, error pages, and what is never taken."""

from __future__ import annotations

from asking.case import HTTPS, Ask, Case, case, two
from gateway import ingress

STICKY: tuple[Case, ...] = (
    case("sticky",
         Ask("affinity: cookie gives a client a cookie, with all that was asked for", cookies=(
             "route=", "Path=/", "Max-Age=60", "Domain=sticky.test", "SameSite=Lax", "Secure", "HttpOnly")),
         Ask("and none to who has one", send={"Cookie": "route=abc"}, no_cookie=True),
         Ask("among others", send={"Cookie": "x=1; route=abc; y=2"}, no_cookie=True),
         Ask("a cookie that only ends the same is another one", send={"Cookie": "my-route=abc"}, cookies=("route=",)),
         service="both", affinity="cookie", affinity_mode="persistent", session_cookie_name="route",
         session_cookie_expires="60", session_cookie_max_age="60", session_cookie_path="/", session_cookie_samesite="Lax",
         session_cookie_secure="true", session_cookie_domain="sticky.test"),
    case("sticky-default",
         Ask("by default it is called INGRESSCOOKIE, for the path of its rule", "/shop/x", cookies=("INGRESSCOOKIE=", "Path=/shop", "HttpOnly")),
         Ask("and by TLS for TLS alone", "/shop/x", cookies=("Secure",), **HTTPS),
         service="both", path="/shop", affinity="cookie"),
    case("sticky-expires", Ask("session-cookie-expires bounds its life", cookies=("Max-Age=3600",)), service="both", affinity="cookie", session_cookie_expires="3600"),
    case("sticky-not-secure", Ask("session-cookie-secure: false leaves it to both", cookies=("INGRESSCOOKIE=",), **HTTPS), service="both", affinity="cookie", session_cookie_secure="false"),
    case("sticky-none", Ask("SameSite may be None", cookies=("SameSite=None",)), service="both", affinity="cookie", session_cookie_samesite="None"),
    case("sticky-strict", Ask("or Strict", cookies=("SameSite=Strict",)), service="both", affinity="cookie", session_cookie_samesite="Strict", affinity_mode="balanced"),
    case("sticky-bad", Ask("a name of a cookie that is none is the usual one", cookies=("INGRESSCOOKIE=",)), service="both", affinity="cookie", session_cookie_name="a b; c",
         session_cookie_path="x;y", session_cookie_samesite="Never", session_cookie_secure="perhaps", session_cookie_max_age="long", session_cookie_domain="a b", affinity_mode="x"),
    case("sticky-other", Ask("an affinity that is none gives no cookie", no_cookie=True), service="both", affinity="ip"),
    case("sticky-error", Ask("an error of the backend gives no cookie", status=500, send={"X-Want-Status": "500"}, no_cookie=True), service="both", affinity="cookie"),
    case("sticky-paths", Ask("the cookie is for the paths of its Ingress", "/in", cookies=("INGRESSCOOKIE=",)), Ask("and not for others of the host", "/out", backend="b", no_cookie=True),
         service="both", path="/in", affinity="cookie", also=(ingress("sticky-paths-2", "sticky-paths.test", "b", "/out"),)),
)  # fmt: skip

CANARIES: tuple[Case, ...] = (
    two("canary-header",
        Ask("without the header of canary-by-header nobody goes to the canary"),
        Ask("with always, he does", send={"X-C": "always"}, backend="b"),
        Ask("with never, he does not", send={"X-C": "never"}),
        Ask("with anything else, he does not, either", send={"X-C": "maybe"}),
        canary_by_header="X-C"),
    two("canary-header-weight",
        Ask("a header that says nothing leaves it to the weight", send={"X-C": "maybe"}, backend="b"),
        Ask("and never wins over the weight", send={"X-C": "never"}),
        Ask("as it does over the cookie", send={"X-C": "never", "Cookie": "c=always"}),
        Ask("and the cookie over the weight", send={"Cookie": "c=never"}),
        canary_by_header="X-C", canary_by_cookie="c", canary_weight="100"),
    two("canary-value",
        Ask("canary-by-header-value is compared as it is", send={"X-C": 'be$ta "'}, backend="b"),
        Ask("so that always is no value", send={"X-C": "always"}),
        Ask("nor is another letter's case", send={"X-C": 'BE$ta "'}),
        Ask("nor one that begins the same", send={"X-C": 'be$ta "x'}),
        canary_by_header="X-C", canary_by_header_value='be$ta "'),
    two("canary-pattern",
        Ask("canary-by-header-pattern is matched", send={"X-C": "v12"}, backend="b"),
        Ask("or not", send={"X-C": "w"}),
        canary_by_header="X-C", canary_by_header_pattern="^v[0-9]+$"),
    two("canary-pattern-bad", Ask("a pattern that does not compile takes nobody", send={"X-C": "("}), canary_by_header="X-C", canary_by_header_pattern="("),
    two("canary-both", Ask("with a value and a pattern the value counts", send={"X-C": "one"}, backend="b"), Ask("and the pattern does not", send={"X-C": "two"}),
        canary_by_header="X-C", canary_by_header_value="one", canary_by_header_pattern="two"),
    two("canary-cookie",
        Ask("a cookie with always goes to the canary", send={"Cookie": "try-it=always; z=1"}, backend="b"),
        Ask("and with never does not", send={"Cookie": "try-it=never"}),
        Ask("nor does another cookie", send={"Cookie": "xtry-it=always"}),
        Ask("nor none"),
        canary_by_cookie="try-it"),
    two("canary-all", Ask("canary-weight: 100 is everybody", backend="b"), canary_weight="100"),
    two("canary-none", Ask("canary-weight: 0 is nobody"), canary_weight="0"),
    two("canary-bad", Ask("a weight that is no number is nobody"), canary_weight="half"),
    two("canary-total", Ask("a weight of canary-weight-total is everybody", backend="b"), canary_weight="200", canary_weight_total="200"),
    two("canary-total-small", Ask("a total below 100 is 100", "/", backend="-"), canary_weight="50", canary_weight_total="50"),
    two("canary-half", Ask("canary-weight: 50 is served", backend="-"), canary_weight="50"),
    two("canary-redirect", Ask("a canary is for its main Ingress's annotations", "/x", 308), main={"force_ssl_redirect": "true"}, canary_weight="100"),
    two("canary-denied", Ask("a canary that is denied takes nobody"), canary_weight="100", allowlist_source_range="x"),
    case("canary-alone", Ask("a canary without a main Ingress is nobody", status=404), canary="true", canary_weight="100"),
    case("canary-false", Ask("canary: false is no canary"), canary="false"),
    case("canary-flag-bad", Ask("canary that is neither true nor false is not served", status=503), canary="x"),
    case("canary-path", Ask("a canary is for its own path", "/new", backend="b"), Ask("and not for another", "/old"), Ask("nor for the same as another type", "/exact"),
         path="/", also=(ingress("canary-path-1", "canary-path.test", "a", "/new"), ingress("canary-path-2", "canary-path.test", "b", "/new", canary="true", canary_weight="100"),
                         ingress("canary-path-3", "canary-path.test", "a", "/exact", kind="Exact"),
                         ingress("canary-path-4", "canary-path.test", "b", "/exact", canary="true", canary_weight="100"))),
    case("canary-second", Ask("of two canaries of a path the older one counts", send={"X-C": "always"}, backend="b"),
         also=(ingress("canary-second-1", "canary-second.test", "b", canary="true", canary_by_header="X-C", created="2026-01-01T00:00:01Z"),
               ingress("canary-second-2", "canary-second.test", "door", canary="true", canary_by_header="X-C", created="2026-01-01T00:00:02Z"))),
    case("canary-empty", Ask("a canary without an endpoint takes nobody"),
         also=(ingress("canary-empty-1", "canary-empty.test", "empty", canary="true", canary_weight="100"),)),
)  # fmt: skip

ERRORS: tuple[Case, ...] = (
    case("custom-errors",
         Ask("custom-http-errors lets a default backend answer for an error", "/x?y", 404, "page", send={"X-Want-Status": "404", "Accept": "text/html"}, sees="/?y", receives={
             "x-code": "404", "x-format": "text/html", "x-original-uri": "/x?y", "x-namespace": "default", "x-ingress-name": "custom-errors",
             "x-service-name": "a", "x-service-port": "80"}),
         Ask("each with its code", "/", 503, "page", send={"X-Want-Status": "503"}, receives={"x-code": "503"}),
         Ask("an error that is not among them is the backend's own", "/", 500, "a", send={"X-Want-Status": "500"}),
         Ask("and an answer is the backend's"),
         custom_http_errors="404,503", default_backend="page"),
    case("custom-errors-bad", Ask("codes that are none are not there", status=404, backend="a", send={"X-Want-Status": "404"}), custom_http_errors="404; x", default_backend="page"),
    case("custom-errors-nobody", Ask("without a default backend the error is the backend's own", status=404, backend="a", send={"X-Want-Status": "404"}), custom_http_errors="404"),
    case("default-backend", Ask("default-backend answers while a Service has no endpoint", backend="b", receives={
        "x-code": "503", "x-namespace": "default", "x-ingress-name": "default-backend", "x-service-name": "empty"}), service="empty", default_backend="b"),
    case("default-backend-not", Ask("and not while it has one"), default_backend="b"),
    case("default-backend-empty", Ask("one that has none itself does not", status=503), service="empty", default_backend="empty"),
    case("default-backend-missing", Ask("nor one that is missing", status=503), service="empty", default_backend="nobody"),
    case("default-backend-bad", Ask("nor one that is no name", status=503), service="empty", default_backend="b; return 200"),
    case("default-backend-auth", Ask("default-backend does not pass by a password", status=401), service="empty", default_backend="b", auth_type="basic", auth_secret="users"),
)  # fmt: skip

REFUSED: tuple[Case, ...] = (
    case("snippet", Ask("text in nginx's language has no effect", answers={"x-evil": None}), configuration_snippet="perl 'x';", server_snippet="lua_x y;", stream_snippet="return 418;",
         auth_snippet="return 418;", modsecurity_snippet="SecRuleEngine Off"),
    case("obsolete", Ask("names that ingress-nginx took away have none"), secure_backends="true", grpc_backend="true", session_cookie_hash="md5"),
    case("unknown", Ask("nor have names that never were"), no_such_thing="true"),
    case("tls-choice", Ask("ssl-prefer-server-ciphers is served", **HTTPS), ssl_prefer_server_ciphers="false"),
    case("tls-ciphers", Ask("ssl-ciphers is served", **HTTPS), ssl_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"),
    case("tls-ciphers-bad", Ask("and costs nothing where OpenSSL would not know it", **HTTPS), ssl_ciphers="NONSENSE:HIGH:!HIGH"),
    case("mirror", Ask("mirror-target has no effect"), mirror_target="http://127.0.0.1:1"),
)  # fmt: skip

CASES = (*STICKY, *CANARIES, *ERRORS, *REFUSED)
