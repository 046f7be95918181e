"""Everything that one Ingress asks for."""

from __future__ import annotations

from attrs import frozen

from lbcore.ingress import ObjectKey
from lbcore.proxy.access import AccessLists, BasicAuth, ClientCertificates, Cors, ExternalAuth, RateLimit
from lbcore.proxy.passing import Affinity, CanaryRule, CustomErrors, FastCgi, Redirects, Rewrite, Tuning, UpstreamTLS
from lbcore.proxy.snippets import Snippet
from lbcore.proxy.words import Balance, Protocol, Template

__all__ = ["Policies"]


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
