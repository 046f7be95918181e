# ruff: noqa: E501 - a table is read in rows
"""Backends that speak FastCGI: what they are told, and that everything else holds for them, too."""

from __future__ import annotations

from typing import Any

from asking.case import HTTPS, Ask, Case, case, two
from gateway import ingress

__all__ = ["CASES", "MAPS"]

PASSWORD = {"Authorization": "Basic dTpw"}
# ConfigMaps that the Ingresses name.
MAPS: dict[str, dict[str, str]] = {
    "script": {
        "SCRIPT_FILENAME": "/app$fastcgi_script_name", "PLAIN": 'a"; return 200 \\', "ASKED": "${request_uri}", "REDIRECT_STATUS": "300",
        "HTTP_X_REAL_IP": "by hand", "HTTPS": "perhaps",
    },
    "script-root": {"SCRIPT_FILENAME": "$document_root/x.php"},
    "script-dollar": {"PRICE": "5$"},
    "script-name": {"NOT-A-NAME": "x"},
    "script-lines": {"SCRIPT_FILENAME": "/x\n;return 200;"},
    "script-long": {"LONG": "x" * 70_000},
}  # fmt: skip
FCGI: dict[str, Any] = {"service": "script", "backend_protocol": "FCGI"}

CASES: tuple[Case, ...] = (
    case("fastcgi",
         Ask("backend-protocol: FCGI speaks FastCGI", "/a/x.php?q=1", backend="script", sees="/a/x.php?q=1", shows={
             "SCRIPT_NAME": "/a/x.php", "DOCUMENT_URI": "/a/x.php", "QUERY_STRING": "q=1", "REQUEST_METHOD": "GET", "SERVER_NAME": "fastcgi.test",
             "GATEWAY_INTERFACE": "CGI/1.1", "REDIRECT_STATUS": "200", "REQUEST_SCHEME": "http", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
             "SERVER_PORT": "@http@", "DOCUMENT_ROOT": None, "SCRIPT_FILENAME": None, "HTTPS": None}),
         Ask("with the headers that all backends get", backend="script", send={"X-Forwarded-For": "192.0.2.9", "X-Real-IP": "192.0.2.9", "X-More": "1"}, receives={
             "host": "fastcgi.test", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-original-forwarded-for": "192.0.2.9",
             "x-more": "1"}),
         Ask("but for one that would be taken for a variable of its own", backend="script", send={"Proxy": "http://192.0.2.1/"}, receives={"proxy": None}),
         Ask("a body comes with its length", backend="script", method="POST", body=b"abc", send={"Content-Type": "text/x"}, shows={
             "length": 3, "CONTENT_LENGTH": "3", "CONTENT_TYPE": "text/x", "REQUEST_METHOD": "POST"}),
         Ask("TLS is told", backend="script", shows={"HTTPS": "on", "REQUEST_SCHEME": "https", "SERVER_PORT": "443"}, **HTTPS),
         Ask("its status is the answer's", "/", 418, "script", send={"X-Want-Status": "418"}),
         Ask("a path is decoded in its script's name", "/a%20b%0ac", backend="script", sees="/a%20b%0ac", shows={"SCRIPT_NAME": "/a b\nc"}),
         **FCGI),
    case("fastcgi-params",
         Ask("fastcgi-params-configmap adds parameters", "/x.php", backend="script", shows={"SCRIPT_FILENAME": "/app/x.php", "ASKED": "/x.php"}),
         Ask("whatever characters they have", backend="script", shows={"PLAIN": 'a"; return 200 \\'}),
         Ask("and takes the place of the usual ones", backend="script", shows={"REDIRECT_STATUS": "300", "HTTPS": "perhaps"}, receives={"x-real-ip": "by hand"}),
         Ask("fastcgi-index is the script of a folder", "/dir/", backend="script", sees="/dir/", shows={"SCRIPT_NAME": "/dir/index.php", "SCRIPT_FILENAME": "/app/dir/index.php"}),
         fastcgi_params_configmap="script", fastcgi_index="index.php", **FCGI),
    case("fastcgi-params-here", Ask("the ConfigMap may be named with its namespace", "/x", backend="script", shows={"SCRIPT_FILENAME": "/app/x"}),
         fastcgi_params_configmap="default/script", **FCGI),
    case("fastcgi-params-missing", Ask("without its ConfigMap it is not served", status=503), fastcgi_params_configmap="nowhere", **FCGI),
    case("fastcgi-params-foreign", Ask("nor with one of another namespace", status=503), fastcgi_params_configmap="kube-system/script", **FCGI),
    case("fastcgi-params-root", Ask("nor with nginx's own folder in it", status=503), fastcgi_params_configmap="script-root", **FCGI),
    case("fastcgi-params-dollar", Ask("nor with a dollar that is no variable", status=503), fastcgi_params_configmap="script-dollar", **FCGI),
    case("fastcgi-params-name", Ask("nor with a name that is none", status=503), fastcgi_params_configmap="script-name", **FCGI),
    case("fastcgi-params-lines", Ask("nor with two lines", status=503), fastcgi_params_configmap="script-lines", **FCGI),
    case("fastcgi-params-long", Ask("nor with a book", status=503), fastcgi_params_configmap="script-long", **FCGI),
    case("fastcgi-params-bad", Ask("nor with what is no ConfigMap's name", status=503), fastcgi_params_configmap="../script", **FCGI),
    case("fastcgi-index-bad", Ask("an index that is no file's name is dropped", "/dir/", backend="script", shows={"SCRIPT_NAME": "/dir/"}),
         fastcgi_index="x.php; return 200", **FCGI),
    case("fastcgi-params-unused", Ask("a backend that speaks HTTP needs no parameters"), fastcgi_params_configmap="nowhere", fastcgi_index="index.php"),
    case("fastcgi-to-http", Ask("a backend that speaks none has no answer in time", status=504), backend_protocol="fcgi", proxy_read_timeout="1", proxy_next_upstream="off"),
    case("fastcgi-password", Ask("a password is asked for as ever", status=401), Ask("and does not get to the backend", backend="script", send=PASSWORD, receives={"authorization": None}),
         auth_type="basic", auth_secret="users", **FCGI),
    case("fastcgi-auth", Ask("so is the authentication service", status=401), Ask("and what it says gets there", backend="script", send={"X-Door-Status": "200"}, receives={"x-user": "ann"}),
         auth_url="http://127.0.0.1:@door@/check", auth_response_headers="X-User", **FCGI),
    case("fastcgi-vhost", Ask("upstream-vhost is its host", backend="script", receives={"host": "inner.test"}), upstream_vhost="inner.test", **FCGI),
    case("fastcgi-rewrite", Ask("a rewritten path is its script's name", "/old/x.php", backend="script", sees="/old/x.php", shows={"SCRIPT_NAME": "/new/x.php"}),
         path="/old(/|$)(.*)", rewrite_target="/new/$2", **FCGI),
    case("fastcgi-errors", Ask("custom-http-errors holds", status=418, backend="page", send={"X-Want-Status": "418"}, receives={"x-code": "418"}),
         custom_http_errors="418", default_backend="page", **FCGI),
    case("fastcgi-timeout", Ask("proxy-read-timeout holds", status=504, send={"X-Want-Pause": "2"}), proxy_read_timeout="1", proxy_next_upstream="off", **FCGI),
    case("fastcgi-sizes", Ask("sizes of buffers hold", backend="script", send={"X-Want-Header": "6000"}), proxy_buffer_size="16k", proxy_busy_buffers_size="1k",
         proxy_buffering="on", proxy_max_temp_file_size="1k", proxy_request_buffering="off", proxy_http_version="1.0", **FCGI),
    case("fastcgi-numbers", Ask("whichever of them is given", backend="script"), proxy_buffers_number="2", **FCGI),
    case("fastcgi-file", Ask("or is small", backend="script"), proxy_max_temp_file_size="1", **FCGI),
    case("fastcgi-retry", Ask("an endpoint where nobody listens is passed over", after=5, backend="script"), service="half-script", backend_protocol="FCGI"),
    case("fastcgi-retry-code", Ask("errors that FastCGI does not have are no reason to ask another", status=502, after=5, backend="-"), service="gone", backend_protocol="FCGI",
         proxy_next_upstream="http_502 http_504"),
    two("fastcgi-canary", Ask("a canary speaks FastCGI, too", backend="script-b", send={"X-C": "always"}), Ask("where it is chosen", backend="script"),
        main=FCGI, service="script-b", canary_by_header="X-C"),
    case("fastcgi-beside", Ask("paths of one host may speak differently", "/"), Ask("each its own", "/php", backend="script"),
         also=(ingress("fastcgi-beside-2", "fastcgi-beside.test", "script", "/php", backend_protocol="FCGI"),)),
)  # fmt: skip
