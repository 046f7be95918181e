"""What a definition of a custom resource is made of: a kind, its versions, the columns of `kubectl get`.

Besides: what several kinds have in common. The kinds themselves are in `crds` and `crds_bgp`.
"""

from __future__ import annotations

from attrs import field, frozen

from lbcore.adapters.kubernetes.schema import Schema, label_selectors, mapping, names

__all__ = ["MOST_NAMES", "NO_STATUS", "Column", "Kind", "Version", "choice_columns", "pool_choice"]

MOST_NAMES = 256


@frozen
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0  # above 0: with `-o wide` only


@frozen
class Version:
    """One version of a kind: its schema without apiVersion, kind and metadata."""

    name: str
    fields: dict[str, Schema]
    required: tuple[str, ...] = ()
    is_stored: bool = True
    deprecation: str = ""


@frozen(kw_only=True)
class Kind:
    """A kind of metallb.io."""

    name: str
    plural: str
    description: str
    columns: tuple[Column, ...] = ()
    versions: tuple[Version, ...] = field()

    @property
    def singular(self) -> str:
        """The name as it is typed."""
        return self.name.lower()


NO_STATUS = mapping("Nothing is said about it.", {})


def pool_choice() -> dict[str, Schema]:
    """The fields by which an advertisement of either protocol says what it is for."""
    return {
        "ipAddressPools": names("The pools it is for; with no selectors either: all.", "a pool", most=MOST_NAMES),
        "ipAddressPoolSelectors": label_selectors("Pools with such labels, besides those that are named."),
        "nodeSelectors": label_selectors("The nodes that announce; empty: all."),
        "serviceSelectors": label_selectors("The Services whose addresses are announced; empty: all."),
    }


def choice_columns(third: str, path: str) -> tuple[Column, ...]:
    """The columns of an advertisement of either protocol."""
    return (
        Column("IPAddressPools", ".spec.ipAddressPools"),
        Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors"),
        Column(third, path),
        Column("Node Selectors", ".spec.nodeSelectors", priority=10),
    )
