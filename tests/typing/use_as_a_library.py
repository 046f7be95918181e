"""The API as users type it. mypy reads this file with the rest; nothing runs it."""

from typing import assert_type

from lbcore import (
    Address,
    AddressRange,
    Allocation,
    AnnouncementSettings,
    AnnouncementState,
    AssignmentState,
    Catalog,
    Family,
    Ledger,
    Pool,
    Refusal,
    Request,
    Service,
    ServiceKey,
    Step,
    allocate,
    announcement,
    assignment,
    capacity,
    elect,
    rank,
    read_request,
)
from lbcore.assignment import PendingReason
from lbcore.events import Kind, Listed, ServiceSeen
from lbcore.intents import Intent, SetAddresses

address = Address.parse("192.0.2.1")
assert_type(address.family, Family)
assert_type(str(address), str)
assert_type(AddressRange.parse("192.0.2.0/24").size, int)
assert_type(sorted([address, Address(6, 1)])[0], Address)

pools = Catalog.of([Pool.parse("home", "192.0.2.0/24", avoid_buggy_ips=True)])
assert_type(capacity(pools.pools[0], Family.IPV4), int)
assert_type(pools.owner(address), Pool | None)

service = Service(key=ServiceKey("default", "web"), labels={"app": "web"}, held=[address])
request = read_request(service)
assert_type(request, Request | Refusal)
if isinstance(request, Request):
    answer = allocate(request, pools, Ledger())
    assert_type(answer, Allocation | Refusal)
    match answer:
        case Allocation(addresses=addresses):
            assert_type(addresses, tuple[Address, ...])
            assert_type(Ledger().claim(answer.claim(request)), Ledger)
        case Refusal(detail=detail):
            assert_type(detail, str)

assert_type(elect(["n1", "n2"], address), str | None)
assert_type(rank({"n1", "n2"}, address, {"n1": 5}), tuple[str, ...])

step = assignment.step(AssignmentState(), ServiceSeen(service), 0.0)
assert_type(step, Step[AssignmentState])
assert_type(step.state, AssignmentState)
assert_type(step.intents, tuple[Intent, ...])
assert_type(step.wake_at, float | None)
for intent in step.intents:
    if isinstance(intent, SetAddresses):
        assert_type(intent.key, ServiceKey)
assert_type(assignment.explain(step.state, service.key), PendingReason | None)

speaker = AnnouncementState(settings=AnnouncementSettings(node="n1"))
assert_type(announcement.step(speaker, Listed(Kind.NODES), 0.0).state, AnnouncementState)
