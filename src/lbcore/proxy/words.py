"""What is said of a request and of a backend: variables, templates, sizes, URLs, and words of closed lists."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

__all__ = ["Balance", "Match", "Protocol", "Size", "Template", "Url", "Variable"]


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
    """An http or https URL. `host` is a name, an IPv4 address or an IPv6 one in brackets, or the variable `host`: that
    of the request; `path` is what follows.
    """

    scheme: str
    host: str | Variable
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


class Balance(Enum):
    """How one of several peers is chosen."""

    ROUND_ROBIN = "round_robin"
    EWMA = "ewma"
