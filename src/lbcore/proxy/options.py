"""Everything that the controller's own ConfigMap asks for, for all of them."""

from __future__ import annotations

from attrs import field, frozen

from lbcore.ingress import ObjectKey
from lbcore.proxy.access import AccessLists, Blocked, ExternalAuth
from lbcore.proxy.passing import Tuning
from lbcore.proxy.words import Balance, Size, Template

__all__ = ["AccessLog", "Options", "StreamOptions"]


@frozen(kw_only=True)
class AccessLog:
    """Which requests are logged, where, and how; None: as the proxy has it by default.

    `form` is one line; its variables are nginx's and ingress-nginx's own (`namespace`, `ingress_name`, ...).
    `skipped` are paths with their queries. `parameters` are `buffer=` and `flush=`.
    """

    off: bool = False
    form: Template | None = None
    escape: str = "default"
    path: str | None = None
    parameters: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    of_default_backend: bool = False


@frozen(kw_only=True)
class StreamOptions:
    """How connections and datagrams that are not HTTP are passed on: ingress-nginx's defaults; times in seconds.

    `responses` is after how many datagrams of a backend no more are expected for one of a client.
    """

    timeout: int = 600
    responses: int = 1
    next_upstream: bool = True
    next_timeout: int = 600
    next_tries: int = 3
    log: AccessLog = AccessLog()


@frozen(kw_only=True)
class Options:
    """What the controller's own ConfigMap says for all: the defaults of ingress-nginx.

    `sent` and `added` are headers of requests and of answers, `dh_param` is PEM, once what they are named by is known.
    """

    tuning: Tuning = Tuning(
        body_size=Size(1, "m"),
        body_buffer=Size(8, "k"),
        connect_timeout=5,
        send_timeout=60,
        read_timeout=60,
        buffering=False,
        buffers=4,
        buffer_size=Size(4, "k"),
        temp_file=Size(1024, "m"),
        request_buffering=True,
        http_version="1.1",
        next_upstream=("error", "timeout"),
        next_timeout=0,
        next_tries=3,
        access_log=True,
        rate=0,
        rate_after=0,
    )
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    preserve_trailing_slash: bool = False
    relative_redirects: bool = False
    redirect_code: int = 308
    no_tls_redirect: tuple[str, ...] = ("/.well-known/acme-challenge",)
    no_auth: tuple[str, ...] = ("/.well-known/acme-challenge",)
    hsts: bool = True
    hsts_max_age: int = 31536000
    hsts_subdomains: bool = True
    hsts_preload: bool = False
    http2: bool = True
    forwarded_headers: bool = False
    full_forwarded_for: bool = False
    real_ip: bool = False
    trusted: tuple[str, ...] = ("0.0.0.0/0",)
    proxy_protocol: bool = False
    service_upstream: bool = False
    balance: Balance = Balance.ROUND_ROBIN
    keepalive: int = 320
    keepalive_timeout: int = 60
    keepalive_requests: int = 10000
    client_keepalive: int = 75
    client_requests: int = 1000
    limit_code: int = 503
    connections_code: int = 503
    custom_errors: tuple[int, ...] = ()
    global_auth: ExternalAuth | None = None
    global_denied: str = ""  # why nobody is asked, and so nobody is let in
    access: AccessLists = AccessLists()
    log: AccessLog = AccessLog()
    streams: StreamOptions = StreamOptions()
    error_level: str = "warn"
    switches: tuple[tuple[str, tuple[str, ...]], ...] = ()  # options that are one value each, by name
    ssl_protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ssl_ciphers: str = (
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
    )
    reject_handshake: bool = False
    server_tokens: bool = False
    gzip: bool = False
    underscores: bool = False
    workers: int = 0  # 0: one for each processor
    connections: int = 16384
    shutdown_timeout: int = 240
    allowed_response_headers: frozenset[str] = frozenset()
    sent_from: ObjectKey | None = None
    added_from: ObjectKey | None = None
    dh_param_from: ObjectKey | None = None
    sent: tuple[tuple[str, Template], ...] = ()
    added: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    dh_param: bytes = b""
    ticket_key: bytes = field(default=b"", repr=False)
    blocked: Blocked = Blocked()
    cross_namespace: bool = False
    retry_non_idempotent: bool = False
    snippets: bool = False  # of a closed list
    exact_in_regex_hosts: bool = False  # ours: an Exact path stays exact beside patterns
