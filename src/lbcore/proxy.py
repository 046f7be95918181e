"""What a reverse proxy shall do, as closed types: hosts, locations, upstreams, TLS, and policies.

Made by `lbcore.annotations` and `lbcore.routing` from what users wrote, read by whoever writes a
proxy's configuration. Nothing here is text in a proxy's own language: where a user may refer to
something of the request, that is a `Variable`, in a `Template` between plain texts.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen
from immutables import Map

from lbcore.ingress import Certificate, ObjectKey

__all__ = [
    "AccessLists",
    "AccessLog",
    "Affinity",
    "Balance",
    "BasicAuth",
    "Blocked",
    "Canary",
    "CanaryRule",
    "ClientCertificates",
    "Comparison",
    "Cors",
    "CustomErrors",
    "ExternalAuth",
    "FastCgi",
    "Location",
    "Match",
    "Options",
    "Peer",
    "Policies",
    "Protocol",
    "RateLimit",
    "Redirect",
    "Return",
    "Reworded",
    "Rewrite",
    "RoutingTable",
    "Site",
    "Size",
    "Snippet",
    "Source",
    "Step",
    "Stream",
    "StreamOptions",
    "Template",
    "Transport",
    "Tuning",
    "Upstream",
    "UpstreamTLS",
    "Url",
    "Variable",
]


@frozen(order=True)
class Variable:
    """Something of the request: `request_uri`, `http_x_user`, or `1` to `9`, a capture of the path's pattern."""

    name: str


Template = tuple[str | Variable, ...]
"""Texts and variables, in order; a text stands for itself, whatever characters it has."""


@frozen(order=True)
class Size:
    """A number of bytes; `unit` is `""`, `k`, `m` or `g`."""

    number: int
    unit: str = ""

    @property
    def bytes(self) -> int:
        """How many bytes."""
        return self.number << {"": 0, "k": 10, "m": 20, "g": 30}[self.unit]

    def __str__(self) -> str:
        # nginx knows g for some sizes only (ngx_parse_size, ngx_parse_offset).
        return f"{self.number << 10}m" if self.unit == "g" else f"{self.number}{self.unit}"


@frozen(kw_only=True)
class Url:
    """An http or https URL. `host` is a name, an IPv4 address or an IPv6 one in brackets; `path` is what follows."""

    scheme: str
    host: str
    port: int | None = None
    path: Template = ()


class Protocol(Enum):
    """What a backend speaks."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    AUTO_HTTP = "AUTO_HTTP"
    GRPC = "GRPC"
    GRPCS = "GRPCS"
    FCGI = "FCGI"


class Match(Enum):
    """How a location's path is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    PATTERN = "pattern"


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
class AccessLists:
    """CIDRs that may come, that may not, and whether either these or authentication is enough."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    any_is_enough: bool = False


@frozen(kw_only=True)
class BasicAuth:
    """`auth-type: basic`. With `by_user` each key of the Secret is a user; else its key `auth` is an htpasswd file.

    `users` are the file's lines, once the Secret is known.
    """

    secret: ObjectKey
    by_user: bool = False
    realm: str = ""
    users: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class ExternalAuth:
    """`auth-url` and its companions: who is asked whether a request may pass.

    `headers` are sent besides, once the ConfigMap is known. With a `cache_key` an answer holds for all requests with
    the same key, for as long as `cache_times` say: codes, and a time.
    """

    url: Url
    method: str | None = None
    signin: Template | None = None
    signin_has_query: bool = False
    signin_parameter: str = "rd"
    response_headers: tuple[str, ...] = ()
    request_redirect: Template | None = None
    always_set_cookie: bool = False
    headers_from: ObjectKey | None = None
    headers: tuple[tuple[str, Template], ...] = ()
    cache_key: Template | None = None
    cache_times: tuple[tuple[str, ...], ...] = ()


class Verify(Enum):
    """`auth-tls-verify-client`, as nginx spells it too."""

    ON = "on"
    OFF = "off"
    OPTIONAL = "optional"
    OPTIONAL_NO_CA = "optional_no_ca"


@frozen(kw_only=True)
class ClientCertificates:
    """`auth-tls-*`, for a whole host. `authorities` and `revoked` are PEM, once the Secret is known.

    `match` is a pattern that the subject's name has to match; `error_page` is where others are sent.
    """

    secret: ObjectKey
    verify: Verify = Verify.ON
    depth: int = 1
    pass_on: bool = False
    match: str | None = None
    error_page: Template | None = None
    authorities: bytes = field(default=b"", repr=False)
    revoked: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class RateLimit:
    """Requests a second and a minute, connections at once, of each client; bursts are limits times `burst`."""

    rps: int = 0
    rpm: int = 0
    connections: int = 0
    burst: int = 5
    exempt: tuple[str, ...] = ()


@frozen(kw_only=True)
class Cors:
    """`enable-cors`. `origins` are `scheme://host[:port]`, the host perhaps beginning `*.`; None is everybody."""

    origins: tuple[str, ...] | None = None
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    headers: tuple[str, ...] = (
        "DNT", "Keep-Alive", "User-Agent", "X-Requested-With", "If-Modified-Since", "Cache-Control", "Content-Type",
        "Range", "Authorization",
    )  # fmt: skip
    expose: tuple[str, ...] = ()
    credentials: bool = True
    max_age: int = 1728000


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
class Comparison:
    """A variable of the request that equals a text, matches a pattern, or (with neither) is neither empty nor 0."""

    variable: str
    equals: str | None = None
    matches: str | None = None
    negated: bool = False


@frozen(kw_only=True)
class Return:
    """An answer of the proxy's own: a code, and where to (3xx) or a text."""

    code: int
    text: Template | None = None


@frozen(kw_only=True)
class Reworded:
    """A redirect to what a path is rewritten to, where it matches."""

    pattern: str
    to: Template
    permanent: bool


@frozen(kw_only=True)
class Step:
    """What ends a request early, and when."""

    what: Return | Reworded
    when: Comparison | None = None


@frozen(kw_only=True)
class Snippet:
    """What a `configuration-snippet` asks for, as far as it is in the closed list.

    `answered` are headers of answers (name, value, of every status), `hidden` those of the backend that are left
    out, `sent` those of the request to it.
    """

    steps: tuple[Step, ...] = ()
    answered: tuple[tuple[str, Template, bool], ...] = ()
    hidden: tuple[str, ...] = ()
    sent: tuple[tuple[str, Template], ...] = ()
    cookie_path: tuple[str, str] | None = None
    gzip: bool | None = None


@frozen(kw_only=True)
class FastCgi:
    """`fastcgi-index` and `fastcgi-params-configmap`; `params` are what that ConfigMap holds, once it is known."""

    index: str | None = None
    config_map: ObjectKey | None = None
    params: tuple[tuple[str, Template], ...] = ()


class Balance(Enum):
    """How one of several peers is chosen."""

    ROUND_ROBIN = "round_robin"
    EWMA = "ewma"


@frozen(kw_only=True)
class Policies:
    """Everything that one Ingress's annotations ask for.

    `denied` is why none of its locations may be served: a broken access control never means none.
    """

    denied: str = ""
    rewrite: Rewrite = Rewrite()
    redirects: Redirects = Redirects()
    tuning: Tuning = Tuning()
    access: AccessLists = AccessLists()
    basic_auth: BasicAuth | None = None
    external_auth: ExternalAuth | None = None
    no_global_auth: bool = False
    client_certificates: ClientCertificates | None = None
    rate_limit: RateLimit | None = None
    cors: Cors | None = None
    affinity: Affinity | None = None
    canary: CanaryRule | None = None
    errors: CustomErrors = CustomErrors()
    protocol: Protocol = Protocol.HTTP
    host_header: str | None = None
    connection_header: str | None = None
    service_upstream: bool | None = None
    hash_by: Template | None = None
    balance: Balance | None = None
    upstream_tls: UpstreamTLS | None = None
    fastcgi: FastCgi = FastCgi()
    snippet: Snippet = Snippet()
    aliases: tuple[str, ...] = ()
    ciphers: str | None = None
    prefer_server_ciphers: bool | None = None
    response_headers: ObjectKey | None = None
    answered: tuple[tuple[str, str], ...] = ()  # what that ConfigMap holds, once it is known


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
class Blocked:
    """Whose requests are answered 403, whatever they ask for: CIDRs, and what clients say of themselves and of where
    they come from. An agent or a referer that begins with `~` or `~*` is a pattern. `everybody`: a list cannot be read.
    """

    cidrs: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    referers: tuple[str, ...] = ()
    everybody: bool = False


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


@frozen(order=True)
class Peer:
    """Where a request may go: an address or, of an ExternalName Service, a name; and a port."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether `host` is an address and not a name."""
        return ":" in self.host or self.host.replace(".", "").isdigit()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen(kw_only=True)
class Upstream:
    """One Service's port, as one Ingress uses it. `id` is a hash, safe as a name anywhere."""

    id: str
    service: ObjectKey
    port: str
    peers: tuple[Peer, ...] = ()
    external: bool = False
    balance: Balance = Balance.ROUND_ROBIN
    hash_by: Template | None = None
    affinity: Affinity | None = None

    @property
    def label(self) -> str:
        """As ingress-nginx names it in logs."""
        return f"{self.service.namespace}-{self.service.name}-{self.port}"


@frozen(kw_only=True)
class Canary:
    """Which requests go to another upstream. `cookie` is that by which a client stays where it was sent once."""

    rule: CanaryRule
    upstream: str
    cookie: str | None = None


@frozen(kw_only=True)
class Source:
    """The Ingress that a location comes from, and the Service and port that it names, for logs and metrics."""

    ingress: ObjectKey
    service: str = ""
    port: str = ""


@frozen(kw_only=True)
class Location:
    """What happens to requests whose path matches.

    `upstream` is an `Upstream.id`; None is the default backend. `fallback` answers while `upstream` has no peer.
    `to_https` is what redirects come to for this host.
    """

    path: str
    match: Match
    source: Source
    policies: Policies
    upstream: str | None = None
    fallback: str | None = None
    errors_to: str | None = None
    canary: Canary | None = None
    to_https: bool = False


@frozen(kw_only=True)
class Site:
    """A virtual host: `host` is a name, `*.` and a name (one label more), or empty for all that match no other.

    `certificate` None is the default one. `forbidden` is why all requests are answered 403.
    """

    host: str
    aliases: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    certificate: Certificate | None = None
    client_certificates: ClientCertificates | None = None
    forbidden: str = ""
    www: str | None = None
    app_root: str | None = None
    ciphers: str | None = None
    prefer_server_ciphers: bool | None = None


class Transport(Enum):
    """What comes in at a port: connections or datagrams."""

    TCP = "TCP"
    UDP = "UDP"


@frozen(kw_only=True)
class Stream:
    """A port of the proxy's, and the peers of a Service's port that all that comes there is passed to, whatever it is.

    `takes_proxy`: connections begin with the PROXY protocol; `sends_proxy`: those to peers do.
    """

    port: int
    transport: Transport
    service: ObjectKey
    service_port: str
    peers: tuple[Peer, ...]
    takes_proxy: bool = False
    sends_proxy: bool = False

    @property
    def name(self) -> str:
        """Such as `5432/tcp`: no host is called so."""
        return f"{self.port}/{self.transport.value.lower()}"

    @property
    def label(self) -> str:
        """As ingress-nginx names it in logs."""
        return f"{self.transport.value.lower()}-{self.service.namespace}-{self.service.name}-{self.service_port}"


@frozen(kw_only=True)
class RoutingTable:
    """Everything that a proxy needs, by host and by upstream's id; what did not change is the same object.

    `streams` are sorted, and no two have one name.
    """

    sites: Map[str, Site] = field(factory=Map)
    upstreams: Map[str, Upstream] = field(factory=Map)
    streams: tuple[Stream, ...] = ()
    options: Options = Options()
    default_certificate: Certificate | None = None
    default_upstream: str | None = None
