"""What a ConfigMap that an annotation names holds: each value to its closed type, and one that is bad spoils it all.

`$` means a variable in some of ingress-nginx's maps; here it does for those of a closed list, and any other is refused.
Each function raises `ValueError` that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lbcore.annotations.scalars import REFLECTED_VARIABLES, template
from lbcore.proxy import Template

__all__ = ["fastcgi_params"]

MOST_ENTRIES = 100
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Each value has its length before it in FastCGI, so that a decoded path ends nothing. nginx's own folder
# (`$document_root`) is no backend's, and nobody's to know.
_OF_SCRIPTS = REFLECTED_VARIABLES | {
    "uri", "document_uri", "fastcgi_script_name", "fastcgi_path_info", "remote_user", "remote_port", "server_addr",
    "server_port", "server_protocol", "https", "content_type", "content_length",
}  # fmt: skip
_param = template(_OF_SCRIPTS, r" -~", of_request=True)


def fastcgi_params(data: Mapping[str, str]) -> tuple[tuple[str, Template], ...]:
    """Parameters of FastCGI with their values, by name."""
    if len(data) > MOST_ENTRIES:
        raise ValueError(f"more than {MOST_ENTRIES} keys")
    found = []
    for name, text in sorted(data.items()):
        if not _PARAM.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is no parameter; write letters, digits and _")
        try:
            found.append((name, _param(text)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(found)
