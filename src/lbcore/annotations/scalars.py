"""One value's text -> its type, the whole text or not at all. Each parser raises `ValueError` that says what to write.

Every pattern is matched to the end of the text (`fullmatch`), so that no newline hides behind `$`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.ingress import ObjectKey
from lbcore.patterns import Pattern, check
from lbcore.proxy import Size, Template, Url, Variable

__all__ = [
    "absolute_path", "choice", "cidrs", "ciphers", "codes", "flag", "header_name", "header_value", "host_name",
    "integer", "listed", "object_key", "on_off", "pattern", "size", "template", "token", "url", "words",
]  # fmt: skip

T = TypeVar("T")

MOST_BYTES = 2000  # of one value that goes into a configuration: nginx ends at 4,096 for a token

_LABEL = r"[A-Za-z0-9](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_TOKEN = re.compile(r"[!#%&*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110, 5.6.2, without $ and '
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PATH = re.compile(r"/[A-Za-z0-9._~!&*+,:=@%/?#;()-]*")
_SIZE = re.compile(r"([0-9]{1,9})([kKmMgG]?)")
_VARIABLE = re.compile(r"\$(?:\{([a-z0-9_]+)\}|([a-z][a-z0-9_]*|[1-9]))", re.IGNORECASE)
_OF_REQUEST = re.compile(r"(?:http|arg|cookie)_[a-z0-9_]{1,64}")
_PRINTABLE = re.compile(r"[ -~]*")

REQUEST_VARIABLES = frozenset(
    {"request_uri", "uri", "host", "http_host", "scheme", "args", "is_args", "query_string", "request_method",
     "remote_addr", "binary_remote_addr", "remote_user", "request_id", "server_name", "escaped_request_uri"}
)  # fmt: skip
# Those of them that hold no line end, whatever the client sends: `$uri` is decoded, and would end a header.
REFLECTED_VARIABLES = REQUEST_VARIABLES - {"uri", "binary_remote_addr", "remote_user"}
CAPTURES = frozenset("123456789")
# Headers that say where a message ends, and those of answers that are nginx's own.
FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade"})
UNANSWERED = FRAMING | {"content-type", "date", "location", "server"}


def flag(text: str) -> bool:
    """A boolean in Go's forms."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError('write "true" or "false"')


# OpenSSL refuses a list of which it knows nothing, and nginx with it everybody's configuration. What is known is named
# here: the suites of TLS 1.2 that hold a secret, and classes of suites that are never empty.
_SUITES = frozenset(
    f"{exchange}-{cipher}"
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA", "DHE-RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
) | {"HIGH", "DEFAULT", "EECDH+AESGCM", "EECDH+CHACHA20", "ECDHE+AESGCM", "ECDHE+CHACHA20"}
_SUITE = re.compile(r"[A-Z][A-Za-z0-9_+-]*|!(?:[aek]NULL|[A-Z0-9]{3,10})")


def ciphers(text: str) -> str:
    """Cipher suites by OpenSSL's names; at least one is sure to be known, and is not taken out by another word."""
    parts = text.split(":")
    out = {part[1:] for part in parts if part.startswith("!")}
    kept = [part for part in parts if part in _SUITES and not any(each in re.split("[-+]", part) for each in out)]
    if not all(map(_SUITE.fullmatch, parts)) or not kept or out & {"HIGH", "DEFAULT", "ALL", "COMPLEMENTOFALL"}:
        raise ValueError("write OpenSSL's names of suites with : between them, one of them with AES-GCM or ChaCha20")
    return text


def on_off(text: str) -> bool:
    """`on` or `off`."""
    if text in {"on", "off"}:
        return text == "on"
    raise ValueError('write "on" or "off"')


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number within bounds, without a unit."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"write a whole number from {lowest} to {highest}, without a unit")
        return int(text)

    return read


def choice(*allowed: str, fold: bool = False) -> Callable[[str], str]:
    """One of some words."""

    def read(text: str) -> str:
        found = text.upper() if fold else text
        if found not in allowed:
            raise ValueError(f"write one of {', '.join(allowed)}")
        return found

    return read


def size(text: str) -> Size:
    """A size as nginx has it: a number, and perhaps k, m or g."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError("write a size such as 8m, or 0")
    return Size(int(found[1]), found[2].lower())


def listed(one: Callable[[str], T], most: int = 200) -> Callable[[str], tuple[T, ...]]:
    """A list with commas; what is wrong with one spoils it all."""

    def read(text: str) -> tuple[T, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not any(parts):
            raise ValueError("is empty; write values with commas between them, or take it out")
        if len(parts) > most:
            raise ValueError(f"has more than {most} values")
        return tuple(one(part) for part in parts if part)

    return read


def words(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Words with spaces or commas between them, each one of those allowed."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text.replace(",", " ").split()))
        if not found or set(found) - set(allowed):
            raise ValueError(f"write some of {', '.join(allowed)}")
        return found

    return read


def cidrs(text: str) -> tuple[str, ...]:
    """Addresses and CIDRs with commas, written anew."""

    def one(part: str) -> str:
        text, slash, length = part.partition("/")
        try:
            address = Address.parse(text)
        except AddressError as error:
            raise ValueError(f"{part[:60]!r} is no CIDR: {error}") from None
        bits = address.family.bits
        if slash and not (re.fullmatch(r"[0-9]{1,3}", length) and int(length) <= bits):
            raise ValueError(f"{part[:60]!r} is no CIDR; write 192.0.2.0/24 or 2001:db8::/32")
        kept = int(length) if slash else bits
        value = int.from_bytes(address.packed) >> (bits - kept) << (bits - kept)
        return f"{Address.from_bytes(value.to_bytes(bits // 8))}/{kept}"

    return tuple(dict.fromkeys(listed(one, 5000)(text)))


def codes(lowest: int, highest: int) -> Callable[[str], tuple[int, ...]]:
    """Status codes with commas, sorted."""
    return lambda text: tuple(sorted(set(listed(integer(lowest, highest))(text))))


def host_name(text: str) -> str:
    """A DNS name, lower case."""
    if not _HOST.fullmatch(text):
        raise ValueError("write a host name, such as shop.example")
    return text.lower()


def token(text: str) -> str:
    """An HTTP token: a header's or a cookie's name."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("write a name of letters, digits, - and _")
    return text


def header_name(text: str) -> str:
    """A header's name that can also be a variable's."""
    if not _HEADER.fullmatch(text):
        raise ValueError("write a header's name: letters, digits, - and _")
    return text


def header_value(text: str) -> str:
    """A header's value: printable ASCII."""
    if not _PRINTABLE.fullmatch(text) or len(text) > MOST_BYTES:
        raise ValueError(f"write printable ASCII, up to {MOST_BYTES} characters")
    return text


def absolute_path(text: str) -> str:
    """A path from the root, in the characters of a URL."""
    if not _PATH.fullmatch(text) or len(text) > MOST_BYTES:
        raise ValueError("write a path that begins with /, in characters of a URL")
    return text


def pattern(text: str) -> Pattern:
    """A regular expression that may be used."""
    found = check(text)
    if isinstance(found, str):
        raise ValueError(f"is no pattern that can be used: {found}")
    return found


def object_key(own_namespace: str | None) -> Callable[[str], ObjectKey]:
    """`namespace/name`; a bare name, if allowed, gets the namespace that is given here (empty: the Ingress's own)."""

    def read(text: str) -> ObjectKey:
        namespace, slash, name = text.partition("/")
        if not slash:
            namespace, name = own_namespace or "", text
        bare = not slash and own_namespace == ""
        if not _NAME.fullmatch(name) or not (bare or _NAME.fullmatch(namespace)):
            raise ValueError("write " + ("a name or " if own_namespace == "" else "") + "namespace/name")
        return ObjectKey(namespace, name)

    return read


def template(
    allowed: Iterable[str], characters: str, *, of_request: bool = False, more: re.Pattern[str] | None = None
) -> Callable[[str], Template]:
    """Texts of some characters (a class of a regular expression) with variables between them.

    Besides those allowed, `of_request`: headers, arguments and cookies; `more`: names that match.
    """
    known = frozenset(allowed)
    plain = re.compile(f"[{characters}]*")

    def read(text: str) -> Template:
        if len(text) > MOST_BYTES:
            raise ValueError(f"is longer than {MOST_BYTES} characters")
        found: list[str | Variable] = []
        place = 0
        for match in _VARIABLE.finditer(text):
            name = (match[1] or match[2]).lower()
            usable = name in known or (of_request and _OF_REQUEST.fullmatch(name)) or (more and more.fullmatch(name))
            if not usable:
                raise ValueError(f"the variable ${name[:40]} may not be used here")
            found += [text[place : match.start()], Variable(name)]
            place = match.end()
        found.append(text[place:])
        for part in found:
            if isinstance(part, str) and ("$" in part or not plain.fullmatch(part)):
                raise ValueError("holds characters that may not be used here")
        return tuple(part for part in found if part != "")

    return read


URL_CHARACTERS = r"A-Za-z0-9._~/:,?&=%+@!*;#()-"
_url_path = template(REFLECTED_VARIABLES, URL_CHARACTERS, of_request=True)


def url(text: str) -> Url:
    """An absolute http or https URL without user information; variables may stand in its path only, but for `$host`,
    which may be its host.
    """
    found = re.fullmatch(r"(https?)://(\$host|\$\{host\}|[^/?#:\[\]@$]+|\[[^\]/]*\])(?::([0-9]{1,5}))?([/?].*)?", text)
    if not found:
        raise ValueError("write a URL such as https://auth.example/check, or with the host that was asked for, $host")
    scheme, host, port, path = found.groups()
    own = host in {"$host", "${host}"}
    if not (own or _HOST.fullmatch(host) or _IPV4.fullmatch(host) or _IPV6.fullmatch(host)):
        raise ValueError("its host is no name and no address")
    if port and not 0 < int(port) < 65536:
        raise ValueError("its port is not from 1 to 65535")
    rest = _url_path(path or "")
    return Url(
        scheme=scheme, host=Variable("host") if own else host.lower(), port=int(port) if port else None, path=rest
    )


def redirect_target(text: str) -> Template:
    """Where a client is sent: an absolute http(s) URL that may hold variables."""
    found = template(REFLECTED_VARIABLES, URL_CHARACTERS, of_request=True)(text)
    if not found or not re.match(r"https?://|\$scheme://", text):
        raise ValueError("write a URL that begins with https:// or http://")
    return found
