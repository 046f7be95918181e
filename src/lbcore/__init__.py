"""lbcore: addresses and their announcement for Kubernetes on your own machines, as pure functions.

This is the front door of the library: values, the questions one can ask of them, and the brains
that put the questions together. Nothing here does I/O, reads a clock or throws dice; importing it
loads attrs, netaddr and immutables only.

- Values: `Address`, `AddressRange`, `Pool`, `Service`, `Node`, ...; `Catalog` is all pools, ready
  to be asked; `Ledger` is who holds what.
- Questions: `read_request`, `allocate`, `settle`, `elect`, `rank`. A refusal is a value (`Refusal`).
- Brains: `assignment.step` (the controller) and `announcement.step` (a speaker), each
  `step(state, event, now) -> Step(state, intents, wake_at)`; `explain` beside each says why.
"""

from lbcore import announcement, assignment, events, intents
from lbcore.addresses import Address, AddressRange, Family
from lbcore.allocation import Allocation, Outcome, allocate, settle
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.brain import Step
from lbcore.config import Config, ConfigDocument, InvalidConfig, L2Advertisement, Origin, Pool, ServiceAllocation, build
from lbcore.election import elect, rank
from lbcore.errors import AddressError, LbcoreError, Problem
from lbcore.ledger import Claim, Ledger
from lbcore.model import (
    Endpoint,
    EndpointSlice,
    IPFamilyPolicy,
    LabelSelector,
    Link,
    Namespace,
    Node,
    Port,
    Service,
    ServiceKey,
    SliceKey,
    TrafficPolicy,
)
from lbcore.pools import Catalog, capacity
from lbcore.requests import Request, read_request
from lbcore.sharing import Sharing
from lbcore.verdicts import NodeVerdict, PoolVerdict, Reason, Refusal

__version__ = "0.1.0"

__all__ = [
    "Address",
    "AddressError",
    "AddressRange",
    "Allocation",
    "AnnouncementSettings",
    "AnnouncementState",
    "AssignmentSettings",
    "AssignmentState",
    "Catalog",
    "Claim",
    "Config",
    "ConfigDocument",
    "Endpoint",
    "EndpointSlice",
    "Family",
    "IPFamilyPolicy",
    "InvalidConfig",
    "L2Advertisement",
    "LabelSelector",
    "LbcoreError",
    "Ledger",
    "Link",
    "Namespace",
    "Node",
    "NodeVerdict",
    "Origin",
    "Outcome",
    "Pool",
    "PoolVerdict",
    "Port",
    "Problem",
    "Reason",
    "Refusal",
    "Request",
    "Service",
    "ServiceAllocation",
    "ServiceKey",
    "Sharing",
    "SliceKey",
    "Step",
    "TrafficPolicy",
    "__version__",
    "allocate",
    "announcement",
    "assignment",
    "build",
    "capacity",
    "elect",
    "events",
    "intents",
    "rank",
    "read_request",
    "settle",
]
