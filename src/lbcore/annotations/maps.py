"""What a ConfigMap that an annotation names holds: each value to its closed type, and one that is bad spoils it all.

`$` means a variable in some of ingress-nginx's maps; here it does for those of a closed list, and any other is refused.
Each function raises `ValueError` that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from lbcore.annotations.scalars import FRAMING, REFLECTED_VARIABLES, UNANSWERED, header_name, header_value, template
from lbcore.proxy import Template

__all__ = ["answered", "answered_one", "fastcgi_params", "read_all", "read_some", "sent", "sent_one"]

T = TypeVar("T")

MOST_ENTRIES = 100
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Each value has its length before it in FastCGI, so that a decoded path ends nothing. nginx's own folder
# (`$document_root`) is no backend's, and nobody's to know.
_OF_SCRIPTS = REFLECTED_VARIABLES | {
    "uri", "document_uri", "fastcgi_script_name", "fastcgi_path_info", "remote_user", "remote_port", "server_addr",
    "server_port", "server_protocol", "https", "content_type", "content_length",
}  # fmt: skip
_param = template(_OF_SCRIPTS, r" -~", of_request=True)


_sent = template(REFLECTED_VARIABLES | {"remote_port", "server_protocol"}, r" -~", of_request=True)


def read_all(data: Mapping[str, str], one: Callable[[str, str], T]) -> tuple[T, ...]:
    """Each entry of a ConfigMap, by name. Raises `ValueError` for the first that is bad."""
    if len(data) > MOST_ENTRIES:
        raise ValueError(f"more than {MOST_ENTRIES} keys")
    found = []
    for name, text in sorted(data.items()):
        try:
            found.append(one(name, text.strip()))
        except ValueError as error:
            raise ValueError(f"{name[:60]!r}: {error}") from None
    return tuple(found)


def read_some(data: Mapping[str, str], one: Callable[[str, str], T]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """The entries that can be read, and a sentence for each other."""
    found, problems = [], []
    for name, text in sorted(data.items())[:MOST_ENTRIES]:
        try:
            found.append(one(name, text.strip()))
        except ValueError as error:
            problems.append(f"{name[:60]!r}: {error}")
    if len(data) > MOST_ENTRIES:
        problems.append(f"only the first {MOST_ENTRIES} keys are taken")
    return tuple(found), tuple(problems)


def sent_one(name: str, text: str) -> tuple[str, Template]:
    """A header of requests; variables of the closed list may stand in it."""
    if header_name(name).lower() in FRAMING:
        raise ValueError("says where a message ends, and is nobody's to set")
    return name, _sent(text)


def answered_one(name: str, text: str) -> tuple[str, str]:
    """A header of answers, as it stands there."""
    if header_name(name).lower() in UNANSWERED:
        raise ValueError("is nobody's to set")
    return name, header_value(text)


def sent(data: Mapping[str, str]) -> tuple[tuple[str, Template], ...]:
    """Headers of requests."""
    return read_all(data, sent_one)


def answered(data: Mapping[str, str], allowed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Headers of answers, each of them one of those allowed."""
    known = {each.lower() for each in allowed}

    def one(name: str, text: str) -> tuple[str, str]:
        if name.lower() not in known:
            raise ValueError("is not in the option global-allowed-response-headers")
        return answered_one(name, text)

    return read_all(data, one)


def fastcgi_params(data: Mapping[str, str]) -> tuple[tuple[str, Template], ...]:
    """Parameters of FastCGI with their values."""
    return read_all(data, _fastcgi_param)


def _fastcgi_param(name: str, text: str) -> tuple[str, Template]:
    if not _PARAM.fullmatch(name):
        raise ValueError("is no parameter; write letters, digits and _")
    return name, _param(text)
