# ruff: noqa: E501 - a table is read in rows
"""Headers that ConfigMaps hold: of answers, and to the authentication service; and its answers, kept for a while."""

from __future__ import annotations

from asking.case import HTTPS, Ask, Case, case

__all__ = ["ALLOWED", "CASES", "MAPS"]

DOOR = "http://127.0.0.1:@door@"
IN = {"X-Door-Status": "200"}
ALLOWED = "X-Frame-Options, x-more,X-Long,Strict-Transport-Security"
TEXT = 'a"; return 200 $host ${x} \\'
MAPS: dict[str, dict[str, str]] = {
    "answers": {"X-Frame-Options": "DENY", "X-More": TEXT, "X-Long": "ours"},
    "answers-hsts": {"Strict-Transport-Security": "max-age=1"},
    "answers-other": {"X-Frame-Options": "DENY", "X-Other": "x"},
    "answers-lines": {"X-More": "a\r\nX-Evil: 1"},
    "answers-name": {"X More": "x"},
    "asks": {"X-Plain": 'a"; return 200 {} \\', "X-Uri": "to ${request_uri}", "X-Sent-From": "us"},
    "asks-variable": {"X-Root": "$document_root"},
    "asks-dollar": {"X-Price": "5$"},
    "asks-lines": {"X-Plain": "a\nX-Evil: 1"},
    "asks-framing": {"Content-Length": "3"},
    "asks-name": {"X Plain": "x"},
}  # fmt: skip

CASES: tuple[Case, ...] = (
    case("custom-headers",
         Ask("custom-headers adds headers to answers, as they stand there", answers={"x-frame-options": "DENY", "x-more": TEXT}),
         Ask("to errors, too", status=500, send={"X-Want-Status": "500"}, answers={"x-frame-options": "DENY"}),
         Ask("in place of the backend's own", send={"X-Want-Header": "3"}, answers={"x-long": "ours"}),
         Ask("beside those that all answers have", answers={"x-more": TEXT, "strict-transport-security": "max-age=31536000; includeSubDomains"}, **HTTPS),
         custom_headers="default/answers"),
    case("custom-headers-here", Ask("the ConfigMap may be named without its namespace", answers={"x-frame-options": "DENY"}), custom_headers="answers"),
    case("custom-headers-hsts", Ask("one of them may be that of all", answers={"strict-transport-security": "max-age=1"}, **HTTPS), custom_headers="answers-hsts"),
    case("custom-headers-cors", Ask("and cookies and CORS are there, too", answers={"x-frame-options": "DENY", "access-control-allow-origin": "*"}, cookies=("INGRESSCOOKIE=",)),
         custom_headers="answers", enable_cors="true", affinity="cookie"),
    case("custom-headers-fcgi", Ask("whatever the backend speaks", backend="script", send={"X-Want-Header": "3"}, answers={"x-long": "ours"}),
         service="script", backend_protocol="FCGI", custom_headers="answers"),
    case("custom-headers-other", Ask("a header that the options do not allow is not served", status=503), custom_headers="answers-other"),
    case("custom-headers-missing", Ask("nor a ConfigMap that is missing", status=503), custom_headers="nowhere"),
    case("custom-headers-foreign", Ask("nor one of another namespace", status=503), custom_headers="kube-system/answers"),
    case("custom-headers-lines", Ask("nor a value of two lines", status=503), custom_headers="answers-lines"),
    case("custom-headers-name", Ask("nor a name that is none", status=503), custom_headers="answers-name"),
    case("custom-headers-bad", Ask("nor what is no ConfigMap's name", status=503), custom_headers="a b"),
    case("auth-sends",
         Ask("auth-proxy-set-headers is sent to the service, as it stands there", "/p?q", send=IN, receives={"door-x-plain": 'a"; return 200 {} \\'}),
         Ask("with variables of the request", "/p?q", send=IN, receives={"door-x-uri": "to /p?q"}),
         Ask("in place of what is sent otherwise", send=IN, receives={"door-x-sent-from": "us", "door-x-original-method": "GET"}),
         Ask("and not to the backend", send=IN, receives={"x-plain": None}),
         auth_url=f"{DOOR}/", auth_proxy_set_headers="default/asks", auth_response_headers="Door-X-Plain,Door-X-Uri,Door-X-Sent-From,Door-X-Original-Method"),
    *(case(f"auth-sends-{name}", Ask(f"{says} is not served", status=503, send=IN), auth_url=f"{DOOR}/", auth_proxy_set_headers=map_) for name, says, map_ in (
        ("variable", "a variable of nginx's own", "asks-variable"), ("dollar", "a dollar that is no variable", "asks-dollar"), ("lines", "a header of two lines", "asks-lines"),
        ("framing", "a length of the message", "asks-framing"), ("name", "a header's name that is none", "asks-name"), ("missing", "a ConfigMap that is missing", "nowhere"),
        ("foreign", "one of another namespace", "kube-system/asks"), ("bad", "what is no ConfigMap's name", "../asks"))),
    case("auth-kept",
         Ask("auth-cache-key keeps a no as well", status=401, send={"X-Key": "nobody"}, after=1),
         Ask("of each key its own", send={"X-Key": "ann", **IN}, receives={"x-user": "ann"}, after=1),
         auth_url=f"{DOOR}/", auth_response_headers="X-User", auth_cache_key="$http_x_key", auth_cache_duration="200 202 401 10m"),
    case("auth-kept-default", Ask("five minutes if nothing else is said", send={"X-Key": "ann", **IN}, after=1), auth_url=f"{DOOR}/", auth_cache_key="$http_x_key"),
    case("auth-kept-same", Ask("a key that is the same for all is not served", status=503, send=IN), auth_url=f"{DOOR}/", auth_cache_key="all"),
    case("auth-kept-variable", Ask("nor one of nginx's own", status=503, send=IN), auth_url=f"{DOOR}/", auth_cache_key="$document_root"),
    case("auth-kept-quotes", Ask("nor one with quotes", status=503, send=IN), auth_url=f"{DOOR}/", auth_cache_key='$host"; x'),
    case("auth-kept-time", Ask("nor a time that is none", status=503, send=IN), auth_url=f"{DOOR}/", auth_cache_key="$host", auth_cache_duration="200 soon"),
)  # fmt: skip
