"""A line of the log, as the controller's ConfigMap writes it: which variables it may hold; and where the log is."""

from __future__ import annotations

import re

from lbcore.annotations.scalars import REQUEST_VARIABLES, template
from lbcore.proxy import Template

__all__ = ["LOG_VARIABLES", "STREAM_VARIABLES", "log_form", "log_parameters", "log_path", "stream_form"]

_OF_ANSWERS = re.compile(r"(?:sent_http|upstream_http)_[a-z0-9_]{1,64}")

# What a line of the log may hold: nginx's own variables of a request and of what was asked for it, and those that
# ingress-nginx sets. Any other is refused: nginx does not start with a variable that it does not know.
LOG_VARIABLES = REQUEST_VARIABLES | {
    "body_bytes_sent", "bytes_sent", "connection", "connection_requests", "content_length", "content_type", "hostname",
    "msec", "pid", "pipe", "proxy_protocol_addr", "proxy_protocol_port", "realip_remote_addr", "remote_port", "request",
    "request_body", "request_completion", "request_length", "request_time", "server_addr", "server_port",
    "server_protocol", "ssl_cipher", "ssl_client_fingerprint", "ssl_client_i_dn", "ssl_client_s_dn",
    "ssl_client_serial", "ssl_client_verify", "ssl_protocol", "ssl_server_name", "ssl_session_id",
    "ssl_session_reused", "status", "time_iso8601", "time_local", "upstream_addr", "upstream_bytes_received",
    "upstream_bytes_sent", "upstream_cache_status", "upstream_connect_time", "upstream_header_time",
    "upstream_response_length", "upstream_response_time", "upstream_status", "proxy_add_x_forwarded_for",
    "proxy_host", "proxy_port", "http2", "limit_rate", "connection_time", "document_uri", "gzip_ratio",
    "limit_conn_status", "limit_req_status", "nginx_version", "ssl_curve", "ssl_curves", "tcpinfo_rcv_space",
    "tcpinfo_rtt", "tcpinfo_rttvar", "tcpinfo_snd_cwnd",
    # ingress-nginx's
    "namespace", "ingress_name", "service_name", "service_port", "location_path", "proxy_upstream_name",
    "proxy_alternative_upstream_name", "req_id", "the_real_ip", "best_http_host", "pass_access_scheme",
    "pass_server_port", "pass_port",
}  # fmt: skip
_line = template(LOG_VARIABLES, r" -~", of_request=True, more=_OF_ANSWERS)


def log_form(text: str) -> Template:
    """One line, however many it was written in. Raises `ValueError`."""
    return _line(" ".join(text.splitlines()))


# The same for what is no HTTP.
STREAM_VARIABLES = frozenset({
    "bytes_received", "bytes_sent", "connection", "hostname", "msec", "pid", "protocol", "proxy_protocol_addr",
    "proxy_protocol_port", "proxy_upstream_name", "remote_addr", "remote_port", "server_addr", "server_port",
    "session_time", "status", "time_iso8601", "time_local", "upstream_addr", "upstream_bytes_received",
    "upstream_bytes_sent", "upstream_connect_time", "upstream_first_byte_time", "upstream_session_time",
})  # fmt: skip
_stream_line = template(STREAM_VARIABLES, r" -~")


def stream_form(text: str) -> Template:
    """The same of what is no HTTP. Raises `ValueError`."""
    return _stream_line(" ".join(text.splitlines()))


def log_path(text: str) -> str | None:
    """None is where logs go by default, which the usual path is a link to in ingress-nginx's image."""
    if text in {"/var/log/nginx/access.log", "/dev/stdout"}:
        return None
    if not re.fullmatch(r"/[A-Za-z0-9._/-]{0,199}[A-Za-z0-9._-]", text) or ".." in text:
        raise ValueError("write a path from the root, of letters, digits and ._-")
    return text


def log_parameters(text: str) -> tuple[str, ...]:
    """`buffer=` and `flush=`. Raises `ValueError`."""
    found = tuple(text.split())
    if not all(re.fullmatch(r"buffer=[0-9]{1,6}[km]|flush=[0-9]{1,4}[smh]", each) for each in found):
        raise ValueError("write buffer=SIZE and flush=TIME, such as buffer=16k flush=5s")
    return found
