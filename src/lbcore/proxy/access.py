"""Who may come, who is asked, and how often: lists, passwords, certificates, limits, CORS."""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from lbcore.ingress import ObjectKey
from lbcore.proxy.words import Template, Url

__all__ = ["AccessLists", "BasicAuth", "Blocked", "ClientCertificates", "Cors", "ExternalAuth", "RateLimit", "Verify"]


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
class Blocked:
    """Whose requests are answered 403, whatever they ask for: CIDRs, and what clients say of themselves and of where
    they come from. An agent or a referer that begins with `~` or `~*` is a pattern. `everybody`: a list cannot be read.
    """

    cidrs: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    referers: tuple[str, ...] = ()
    everybody: bool = False
