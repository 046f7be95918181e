"""kubernetes_asyncio's reader of credentials, without the rest of that client.

Its package imports a module for each of the 900 kinds of the API, 33 MB and a quarter of a second of CPU, and its
reader of credentials needs none of them. So `config` is imported below two empty packages in place of the two that
would import all the rest. A version in which that no longer works is imported whole.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["credentials_reader"]

_ROOT = "kubernetes_asyncio"
_CLIENT = f"{_ROOT}.client"
_CONFIG = f"{_ROOT}.config"


class _NotHere:
    """Stands where the reader names classes of the client, to make them when it is handed none: we hand it ours."""


@cache  # it keeps the names of the files that it writes
def credentials_reader() -> Any:
    """The module `kubernetes_asyncio.config`. Raises `ImportError` where the library is not installed."""
    if _ROOT in sys.modules:  # somebody needs all of it
        return importlib.import_module(_CONFIG)
    found = find_spec(_ROOT)
    if found is None or not found.submodule_search_locations:
        return importlib.import_module(_CONFIG)
    root, client = ModuleType(_ROOT), ModuleType(_CLIENT)
    root.__path__ = list(found.submodule_search_locations)
    vars(client).update(ApiClient=_NotHere, Configuration=_NotHere)
    sys.modules[_ROOT], sys.modules[_CLIENT] = root, client
    alone = None
    try:
        alone = importlib.import_module(_CONFIG)
    except (ImportError, AttributeError):
        pass
    finally:
        # Whoever imports the client later gets all of it.
        for name in [each for each in sys.modules if each == _ROOT or each.startswith(f"{_ROOT}.")]:
            del sys.modules[name]
    return alone if alone is not None else importlib.import_module(_CONFIG)
