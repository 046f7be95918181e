"""How a request is passed on: to which path, to whom, how patiently, and what becomes of the answer."""

from __future__ import annotations

from attrs import field, frozen

from lbcore.ingress import Certificate, ObjectKey
from lbcore.proxy.words import Size, Template

__all__ = [
    "Affinity",
    "CanaryRule",
    "CustomErrors",
    "FastCgi",
    "Redirect",
    "Redirects",
    "Rewrite",
    "Tuning",
    "UpstreamTLS",
]


@frozen(kw_only=True)
class Rewrite:
    """`rewrite-target`, `use-regex`, `app-root`, `x-forwarded-prefix`."""

    target: Template | None = None
    use_regex: bool = False
    app_root: str | None = None
    forwarded_prefix: Template | None = None


@frozen(kw_only=True)
class Redirect:
    """A redirect that takes the place of any answer."""

    to: Template
    code: int


@frozen(kw_only=True)
class Redirects:
    """To https, to another URL, between a host and its `www.` twin; None: as the options say."""

    ssl: bool | None = None
    force_ssl: bool | None = None
    preserve_slash: bool | None = None
    fixed: Redirect | None = None
    www: bool = False
    relative: bool | None = None


@frozen(kw_only=True)
class Tuning:
    """How a request is passed on: seconds, sizes, switches. None: as it is by default."""

    body_size: Size | None = None
    body_buffer: Size | None = None
    connect_timeout: int | None = None
    send_timeout: int | None = None
    read_timeout: int | None = None
    buffering: bool | None = None
    buffers: int | None = None
    buffer_size: Size | None = None
    busy_buffers: Size | None = None
    temp_file: Size | None = None
    request_buffering: bool | None = None
    http_version: str | None = None
    next_upstream: tuple[str, ...] | None = None
    next_timeout: int | None = None
    next_tries: int | None = None
    cookie_domain: tuple[str, str] | None = None
    cookie_path: tuple[str, str] | None = None
    redirect_from: str | None = None  # `off`, or what a Location begins with
    redirect_to: str | None = None
    access_log: bool | None = None
    rate: int | None = None  # KiB/s of each answer
    rate_after: int | None = None  # KiB


@frozen(kw_only=True)
class Affinity:
    """`affinity: cookie`: the same client to the same peer.

    `persistent`: the cookie names the peer, so that one that comes takes no client; else it is a key that is hashed.
    `change_on_failure`: after a peer that failed the client is given another. `old_browsers`: SameSite=None is left out
    for those that take it for Strict. `with_canary`: a client stays with the canary, or without it.
    """

    name: str = "INGRESSCOOKIE"
    persistent: bool = False
    expires: int | None = None
    max_age: int | None = None
    path: str | None = None
    domain: str | None = None
    same_site: str | None = None
    secure: bool | None = None
    change_on_failure: bool = False
    old_browsers: bool = False
    with_canary: bool = True


@frozen(kw_only=True)
class CanaryRule:
    """`canary-*`: which requests of another Ingress's location come here instead.

    `sticky`: a client that was once sent here stays, where the other Ingress has affinity.
    """

    weight: int = 0
    total: int = 100
    header: str | None = None
    header_value: str | None = None
    header_pattern: str | None = None
    cookie: str | None = None
    sticky: bool = True


@frozen(kw_only=True)
class CustomErrors:
    """Answers with these codes are replaced by those of a default backend."""

    codes: tuple[int, ...] = ()
    service: str | None = None  # `default-backend`


@frozen(kw_only=True)
class UpstreamTLS:
    """`proxy-ssl-*`: how we show ourselves to a backend and whether we believe it. PEM, once the Secret is known."""

    secret: ObjectKey
    verify: bool = False
    depth: int = 1
    name: Template | None = None
    server_name: bool = False
    ciphers: str | None = None
    protocols: tuple[str, ...] = ()
    certificate: Certificate | None = None
    authorities: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class FastCgi:
    """`fastcgi-index` and `fastcgi-params-configmap`; `params` are what that ConfigMap holds, once it is known."""

    index: str | None = None
    config_map: ObjectKey | None = None
    params: tuple[tuple[str, Template], ...] = ()
