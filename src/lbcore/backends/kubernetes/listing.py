"""An API server asked once: for each kind one list, nothing followed and nothing written.

What cannot be read ends it, with one line that says what is missing and what to do: an answer about a cluster that
was read in part would be a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from attrs import field, frozen

from lbcore.adapters.kubernetes.announced import Announced, read_announced
from lbcore.adapters.kubernetes.api import ANNOUNCED, RESOURCES, SPEAKERS, ApiResource, Page
from lbcore.adapters.kubernetes.applying import ObjectName
from lbcore.adapters.kubernetes.changes import kind_of, only_objects
from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_all
from lbcore.adapters.kubernetes.speakers import living, read_lease, views
from lbcore.adapters.kubernetes.watching import PAGE, Setback
from lbcore.adapters.views import View
from lbcore.backends.kubernetes.access import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.errors import LbcoreError
from lbcore.events import Kind

__all__ = ["SOURCE", "ListError", "Listing", "Reader"]

SOURCE = "cluster"  # what problems of its objects call the API server
_WITHIN = 60.0  # seconds for one page, as the API server has it
_GONE = 410  # the server has forgotten the next page of a list
_TRIES = 3  # of such a list

Tell = Callable[[str, int], None]


class ListError(LbcoreError):
    """A kind that cannot be read; the message says why, and what to do."""


@frozen(kw_only=True)
class Listing:
    """The objects of some kinds at one moment, as they came."""

    objects: tuple[tuple[ApiResource, msgspec.Raw], ...]
    _index: dict[ObjectName, msgspec.Raw] = field(init=False, factory=dict, eq=False, repr=False)

    def entries(self, without: frozenset[ObjectName] = frozenset()) -> Iterator[Seen | Ignored | Refused]:
        """What they tell, each kind's own only; `without` some of them."""
        for resource, raw in self.objects:
            document = resource.decode(raw)
            if without and _name(resource, document) in without:
                continue
            for entry in read_all(document, SOURCE):
                if isinstance(entry, Ignored | Refused) or kind_of(entry.subject) is resource.kind:
                    yield entry

    def find(self, name: ObjectName) -> dict[str, Any] | None:
        """The whole document of one object."""
        if not self._index:
            for resource, raw in self.objects:
                self._index[_name(resource, resource.decode(raw))] = raw
        raw_ = self._index.get(name)
        if raw_ is None:
            return None
        version = next(each.api_version for each, _ in self.objects if (each.group, each.name) == name[:2])
        return {**msgspec.json.decode(raw_, type=dict), "apiVersion": version, "kind": name.kind}


def _name(resource: ApiResource, document: dict[str, Any]) -> ObjectName:
    metadata = document.get("metadata") or {}
    return ObjectName(resource.group, resource.name, metadata.get("namespace") or "", metadata.get("name") or "")


class Reader:
    """Asks one API server. `tell` hears which kind is read, and how many of it have come."""

    def __init__(self, access: Access, *, tell: Tell) -> None:
        self._access = access
        self._client = Client(access, agent="lbcore-ask")
        self._tell = tell

    async def __aenter__(self) -> Reader:
        await self._client.sign_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def objects(self, kinds: Iterable[Kind]) -> Listing:
        """All objects of these kinds. Raises `ListError`."""
        asked = only_objects(kinds)
        return await self.of(resource for resource in RESOURCES if resource.kind in asked)

    async def of(self, resources: Iterable[ApiResource]) -> Listing:
        """All objects that are kept there. Raises `ListError`."""
        found: list[tuple[ApiResource, msgspec.Raw]] = []
        for resource in resources:
            found += [(resource, raw) for raw in (await self._list(resource))[0]]
        return Listing(objects=tuple(found))

    async def announced(self) -> tuple[Announced, ...]:
        """What speakers say that they announce, by Service and node. Raises `ListError`."""
        found = []
        for resource in ANNOUNCED:
            said = (read_announced(resource.decode(raw)) for raw in (await self._list(resource))[0])
            found += [each for each in said if each is not None]
        return tuple(sorted(found, key=lambda each: (each.service, each.peers != (), each.node)))

    async def speakers(self) -> tuple[frozenset[str] | None, tuple[View, ...]]:
        """The nodes whose speakers live, as their Leases say (None: no speaker keeps one at all), and what those that
        gossip see of each other. Raises `ListError`.

        Their clocks need not agree with each other or with ours: when a Lease was written is told by the API server
        (`metadata.managedFields`), and so is what time it is.
        """
        raws, date = await self._list(SPEAKERS)
        found = (read_lease(msgspec.json.decode(raw, type=dict)) for raw in raws)
        leases = [each for each in found if each is not None]
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return (living(leases, now) if leases else None), views(leases, now)

    async def _list(self, resource: ApiResource) -> tuple[list[msgspec.Raw], str]:
        """All objects of a kind, and the server's time."""
        setback = Setback(status=_GONE)
        for _ in range(_TRIES):
            if setback.status == _GONE:
                found, date, trouble = await self._pages(resource)
                if trouble is None:
                    return found, date
                setback = trouble
        if setback.status == 404 and resource.optional:
            return [], ""
        raise ListError(self._why(resource, setback))

    async def _pages(self, resource: ApiResource) -> tuple[list[msgspec.Raw], str, Setback | None]:
        found: list[msgspec.Raw] = []
        date = continued = ""
        self._tell(resource.plural, 0)
        while True:
            query = (*resource.selector, ("limit", str(PAGE)), *((("continue", continued),) if continued else ()))
            path = resource.path(self._access.namespace)
            answer = await self._client.request("GET", path, query=query, within=_WITHIN)
            if answer.setback is not None:
                return found, date, answer.setback
            try:
                page = msgspec.json.decode(answer.body, type=Page)
            except (msgspec.MsgspecError, UnicodeError) as error:
                return found, date, Setback(status=answer.status, message=f"its answer is no list ({error})")
            found += page.items or ()
            self._tell(resource.plural, len(found))
            date, continued = answer.date, page.metadata.continue_
            if not continued:
                return found, date, None

    def _why(self, resource: ApiResource, setback: Setback) -> str:
        where = f"{resource.plural}{f'.{resource.group}' if resource.group else ''}"
        match setback.status:
            case 0:
                return f"{self._access}: the API server does not answer: {setback.message}"
            case 401:
                return f"{self._access}: the API server does not know us ({setback.message}); renew the credentials"
            case 403:
                rights = "ClusterRole and Role lbcore-viewer of the chart hold what is needed"
                return f"may not list {where}: {setback.message.removeprefix('403 ')}; {rights}"
            case 404:
                cure = "install the definitions: lbcore crds | kubectl apply --server-side -f -"
                return f"the API server has no {where} ({resource.version}); {cure}"
            case _:
                return f"cannot list {where}: {setback.message}"
