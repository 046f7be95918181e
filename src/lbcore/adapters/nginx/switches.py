"""Options of the ConfigMap that are one directive each, at the http level."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.tree import Directive, directive
from lbcore.proxy import Options

__all__ = ["switches"]

# The directive of each option, and what it is by default where nginx's own default is another.
_ALWAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "client-header-timeout": ("client_header_timeout", ()),
    "client-body-timeout": ("client_body_timeout", ()),
    "client-header-buffer-size": ("client_header_buffer_size", ()),
    "large-client-header-buffers": ("large_client_header_buffers", ()),
    "http2-max-concurrent-streams": ("http2_max_concurrent_streams", ()),
    "ignore-invalid-headers": ("ignore_invalid_headers", ()),
    "default-type": ("default_type", ("text/html",)),
    "ssl-session-cache-size": ("ssl_session_cache", ("shared:lbcore:10m",)),
    "ssl-session-timeout": ("ssl_session_timeout", ("10m",)),
    "ssl-session-tickets": ("ssl_session_tickets", ("off",)),
    "ssl-buffer-size": ("ssl_buffer_size", ("4k",)),
    "ssl-ecdh-curve": ("ssl_ecdh_curve", ()),
    "ssl-early-data": ("ssl_early_data", ()),
}
_TYPES = ("application/javascript", "application/json", "text/css", "text/plain", "image/svg+xml")
_COMPRESSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "gzip-level": ("gzip_comp_level", ()),
    "gzip-min-length": ("gzip_min_length", ("256",)),
    "gzip-types": ("gzip_types", _TYPES),
}


def switches(options: Options) -> Iterator[Directive]:
    """The directives of what is given, or is not nginx's own default."""
    given = dict(options.switches)
    for option, (name, default) in (_ALWAYS | (_COMPRESSED if options.gzip else {})).items():
        words = given.get(option, default)
        if words:
            yield directive(name, *words)
