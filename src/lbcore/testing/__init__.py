"""Property tests of your own pools and policies, with hypothesis: `pip install lbcore[testing]`.

- `load`: your manifests as values, judged as `lbcore check` does.
- Strategies: `addresses`, `ranges`, `pools`, `configs`, `services`, ..., and `histories`, which are what
  may happen to a cluster; `worlds` draws small clusters of any kind with their histories.
- The judge: `replay` lives through a history with the controller's own brain and yields the cluster at
  rest after each burst of changes (`Moment`); `check_history` asserts laws of every one of them.

`docs/testing-your-pools.md` shows all of it at work. Nothing in lbcore needs this package.
"""

from lbcore.testing.clusters import (
    ALL_STACKS,
    Wish,
    allocations,
    configs,
    documents,
    namespace_named,
    namespaces_named,
    pools,
    services,
)
from lbcore.testing.histories import Change, History, Started, histories, in_any_order, worlds
from lbcore.testing.laws import (
    ALWAYS,
    check_history,
    each_in_a_pool_that_serves_it,
    nobody_waits_in_vain,
    shared_by_consent,
)
from lbcore.testing.manifests import Manifests, UnsoundManifestsError, load
from lbcore.testing.replay import Law, Moment, replay
from lbcore.testing.values import (
    AWKWARD_PLACES,
    NAMESPACES,
    addresses,
    awkward_values,
    clumped_ranges,
    disjoint_ranges,
    families,
    label_requirements,
    label_selectors,
    labels,
    ports,
    ranges,
    service_keys,
    versions,
)

__all__ = [
    "ALL_STACKS",
    "ALWAYS",
    "AWKWARD_PLACES",
    "NAMESPACES",
    "Change",
    "History",
    "Law",
    "Manifests",
    "Moment",
    "Started",
    "UnsoundManifestsError",
    "Wish",
    "addresses",
    "allocations",
    "awkward_values",
    "check_history",
    "clumped_ranges",
    "configs",
    "disjoint_ranges",
    "documents",
    "each_in_a_pool_that_serves_it",
    "families",
    "histories",
    "in_any_order",
    "label_requirements",
    "label_selectors",
    "labels",
    "load",
    "namespace_named",
    "namespaces_named",
    "nobody_waits_in_vain",
    "pools",
    "ports",
    "ranges",
    "replay",
    "service_keys",
    "services",
    "shared_by_consent",
    "versions",
    "worlds",
]
