"""What of a Service can be announced, by whom, and why not: functions of the state that change nothing."""

from __future__ import annotations

from immutables import Map

from lbcore.addresses import Address
from lbcore.advertising import Speakers
from lbcore.announcement.state import AnnouncementState, NotAnnounced, Part
from lbcore.config import L2Advertisement, Pool
from lbcore.election import Electorate, electorate, restrict_to_endpoints
from lbcore.endpoints import Reach, reach_of
from lbcore.exports import Contribution, contributions
from lbcore.model import EndpointSlice, Node, Service, ServiceKey, SliceKey, matches_any
from lbcore.requests import annotation
from lbcore.verdicts import Reason

__all__ = [
    "candidates_for",
    "contributions_of",
    "electorate_of",
    "interfaces_of",
    "is_ours",
    "judge_service",
    "owners_of",
    "parts_of",
    "ranked_by",
    "reach_to",
    "seconds_of_sharer",
]


def reach_to(state: AnnouncementState, key: ServiceKey) -> Reach:
    """Through which nodes' endpoints a Service can be reached."""
    return reach_of(state.slices.get(key, Map[SliceKey, EndpointSlice]()).values())


def told_reach_to(state: AnnouncementState, key: ServiceKey) -> Reach:
    """The same, as far as routers may be told of it."""
    reach = reach_to(state, key)
    return Reach(reach.anywhere, reach.nodes, state.settling.waiting(key))


def electorate_of(
    state: AnnouncementState, adverts: tuple[L2Advertisement, ...], *, members: frozenset[str] | None = None
) -> Electorate:
    """Who may announce what these advertisements are for, of the members or of some others."""
    ignore = state.settings.ignore_exclude_label
    members = state.members if members is None else members
    return electorate(adverts, state.nodes, members, drained=state.drained, ignore_exclude_label=ignore)


def candidates_for(
    state: AnnouncementState, service: Service, adverts: tuple[L2Advertisement, ...], among: Electorate
) -> Electorate:
    """Those of `among`, who may announce what the advertisements are for, that may announce this Service.

    Where none of them may, those that wait since they were held for dead: what nobody else can announce moves nowhere,
    and waiting would only keep it silent.
    """
    nodes = reach_to(state, service.key).nodes
    ready = restrict_to_endpoints(among, service, nodes)
    if ready.candidates or not state.waiting:
        return ready
    return restrict_to_endpoints(electorate_of(state, adverts, members=state.waiting), service, nodes)


def parts_of(state: AnnouncementState, service: Service) -> tuple[Part, ...]:
    """A Service's addresses that may be announced, with the advertisements for each."""
    judged = judge_service(state, service)
    return () if isinstance(judged, NotAnnounced) else judged


def owners_of(state: AnnouncementState, service: Service) -> tuple[tuple[Address, Pool], ...] | NotAnnounced:
    """A Service's addresses with the pool of each, or why nobody announces any of them, on any protocol."""
    if not is_ours(state, service):
        return NotAnnounced(Reason.NOT_LOAD_BALANCER, _why_not_ours(state, service))
    if not service.held:
        return NotAnnounced(Reason.NO_ADDRESS, "the Service has no address yet; see what its pools say")
    if state.catalog is None:
        return NotAnnounced(Reason.NOT_READY, "there is no valid configuration yet; mend what `lbcore check` finds")
    owners = [state.catalog.owner(address) for address in service.held]
    if None in owners:
        foreign = service.held[owners.index(None)]
        text = f"{foreign} is in no address pool; add it to one, or let the controller give the Service another"
        return NotAnnounced(Reason.ADDRESS_NOT_IN_POOL, text)
    return tuple((address, owner) for address, owner in zip(service.held, owners, strict=True) if owner is not None)


def contributions_of(state: AnnouncementState, service: Service, *, waits: bool = True) -> tuple[Contribution, ...]:
    """What a Service gives to the routes of this node; unless it `waits`, as if its endpoints were not new."""
    config, node = state.configuration.current, state.settings.node
    if config is None or not config.bgp_advertisements:
        return ()
    owned = owners_of(state, service)
    if isinstance(owned, NotAnnounced):
        return ()
    # Whether other speakers see this one does not matter to a router that does. And who is drained goes on for a while.
    speakers = Speakers(
        nodes=state.nodes,
        members=state.members | {node},
        ignore_exclude_label=state.settings.ignore_exclude_label,
        drained=state.drained if state.drain_over else state.drained - {node},
    )
    reach = told_reach_to(state, service.key) if waits else reach_to(state, service.key)
    return contributions(service, owned, config.bgp_advertisements, config.bgp_peers, node, speakers, reach)


def judge_service(state: AnnouncementState, service: Service) -> tuple[Part, ...] | NotAnnounced:
    """What of a Service can be announced on Layer 2 by anybody, or why nothing of it."""
    owned = owners_of(state, service)
    if isinstance(owned, NotAnnounced):
        return owned
    if not reach_to(state, service.key).anywhere:
        return NotAnnounced(Reason.NO_ENDPOINTS, "the Service has no usable endpoint; look whether its Pods are ready")
    parts = tuple(
        Part(address, ranked_by(state, service, address), _adverts(state, service, owner.name), None)
        for address, owner in owned
    )
    if not any(part.adverts for part in parts):
        names = " and ".join(sorted({owner.name for _, owner in owned}))
        text = f"no L2Advertisement announces pool {names} for this Service; create one"
        return NotAnnounced(Reason.NO_ADVERTISEMENT, text)
    shared = annotation(service, "allow-shared-ip") is not None
    if shared and any(advert.service_selectors for part in parts for advert in part.adverts):
        text = (
            "a Service that shares its address cannot be announced by an L2Advertisement with serviceSelectors; "
            "take them out, or the annotation allow-shared-ip"
        )
        return NotAnnounced(Reason.SHARED_WITH_SERVICE_SELECTORS, text)
    return tuple(part for part in parts if part.adverts)


def is_ours(state: AnnouncementState, service: Service) -> bool:
    """Whether a Service asks for an address, and of this class."""
    return service.is_load_balancer and service.load_balancer_class == state.settings.load_balancer_class


def _why_not_ours(state: AnnouncementState, service: Service) -> str:
    if not service.is_load_balancer:
        return f"the Service is of type {service.type}; set spec.type: LoadBalancer if it is to have an address"
    given, served = service.load_balancer_class, state.settings.load_balancer_class
    theirs = f"is of class {given!r}" if given is not None else "has no class"
    ours = f"those of class {served!r} are" if served is not None else "those without a class are"
    return f"the Service {theirs}, and {ours} served here; change its loadBalancerClass, or --lb-class"


def seconds_of_sharer(state: AnnouncementState, service: Service | None) -> tuple[tuple[Address, Address], ...]:
    """The addresses that a Service which shares holds behind its first, each with that first one."""
    if service is None or len(service.held) < 2 or not is_ours(state, service):
        return ()
    if annotation(service, "allow-shared-ip") is None:
        return ()
    return tuple((address, service.held[0]) for address in service.held[1:])


def ranked_by(state: AnnouncementState, service: Service, address: Address) -> Address:
    """The address that the nodes' ranks are of, for an address of a Service; see `Part`."""
    return min(state.firsts.get(address, ()), default=service.held[0])


def _adverts(state: AnnouncementState, service: Service, pool_name: str) -> tuple[L2Advertisement, ...]:
    config, catalog = state.configuration.current, state.catalog
    pool = catalog.named(pool_name) if catalog is not None else None
    if config is None or pool is None:
        return ()
    return tuple(
        advert
        for advert in config.l2_advertisements
        if advert.selects_pool(pool)
        and (not advert.service_selectors or matches_any(advert.service_selectors, service.labels))
    )


def interfaces_of(adverts: tuple[L2Advertisement, ...], node: Node | None) -> tuple[str, ...]:
    """The interfaces that the advertisements which include this node name; empty for all of them."""
    labels = node.labels if node is not None else Map[str, str]()
    mine = [ad for ad in adverts if not ad.node_selectors or matches_any(ad.node_selectors, labels)]
    if not all(advert.interfaces for advert in mine):
        return ()
    return tuple(sorted({name for advert in mine for name in advert.interfaces}))
