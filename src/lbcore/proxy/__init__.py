"""What a reverse proxy shall do, as closed types: hosts, locations, upstreams, TLS, and policies.

Made by `lbcore.annotations` and `lbcore.routing` from what users wrote, read by whoever writes a
proxy's configuration. Nothing here is text in a proxy's own language: where a user may refer to
something of the request, that is a `Variable`, in a `Template` between plain texts.
"""

from __future__ import annotations

from lbcore.proxy.access import (
    AccessLists,
    BasicAuth,
    Blocked,
    ClientCertificates,
    Cors,
    ExternalAuth,
    RateLimit,
    Verify,
)
from lbcore.proxy.options import AccessLog, Options, StreamOptions
from lbcore.proxy.passing import (
    Affinity,
    CanaryRule,
    CustomErrors,
    FastCgi,
    Redirect,
    Redirects,
    Rewrite,
    Tuning,
    UpstreamTLS,
)
from lbcore.proxy.policies import Policies
from lbcore.proxy.snippets import Comparison, Return, Reworded, Snippet, Step
from lbcore.proxy.table import Canary, Location, Peer, RoutingTable, Site, Source, Stream, Transport, Upstream
from lbcore.proxy.words import Balance, Match, Protocol, Size, Template, Url, Variable

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
    "Redirects",
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
    "Verify",
]
