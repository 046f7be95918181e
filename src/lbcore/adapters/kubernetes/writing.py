"""Documents -> YAML text, as people keep it in files: fields in the order given, nothing by reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

__all__ = ["documents_text"]


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write out what stands in two places: anchors are for machines."""
        return True


def documents_text(documents: Iterable[Mapping[str, object]]) -> str:
    """A YAML text with these documents, in order; empty for none. `text.parse` reads the same values back."""
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120, explicit_start=True)
