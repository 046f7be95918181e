"""Clusters to measure with: Services that hold addresses, as manifests with their status, and as values.

Half of the Services are IPv4, half IPv6. Each comes with what a user writes by hand, no more: what
an API server would add makes parsing slower, and everything else relatively faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lbcore.addresses import Address
from lbcore.backends.statuses import StatusWriter
from lbcore.intents import SetAddresses
from lbcore.model import ServiceKey

__all__ = [
    "ADVERTISEMENT",
    "CONFIG",
    "POOL",
    "address_of",
    "key_of",
    "node_text",
    "service_texts",
    "slice_texts",
    "write_documents",
    "write_statuses",
]

POOL = "production"
CONFIG = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: {POOL}
  namespace: metallb-system
spec:
  addresses:
  - 10.0.0.0/8
  - fd00:10::/64
"""

ADVERTISEMENT = """\
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: everything
  namespace: metallb-system
"""

_NODE = """\
apiVersion: v1
kind: Node
metadata:
  name: {name}
"""
_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web-{number}
  namespace: shop
  labels:
    app: web-{number}
    team: checkout
  annotations:
    metallb.io/address-pool: {pool}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Cluster
  ipFamilies:
  - IPv{version}
  selector:
    app: web-{number}
  ports:
  - name: http
    port: 80
    targetPort: 8080
    protocol: TCP
"""
_SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-{number}-a1
  namespace: shop
  labels:
    kubernetes.io/service-name: web-{number}
addressType: IPv{version}
endpoints:
- addresses:
  - {first}
  nodeName: {node}
  conditions:
    ready: true
ports:
- name: http
  port: 8080
  protocol: TCP
"""
_PER_FILE = 500  # documents: the size of file that people make with a template


def key_of(number: int) -> ServiceKey:
    """The Service of this number."""
    return ServiceKey("shop", f"web-{number}")


def address_of(number: int) -> Address:
    """What it holds: IPv4 where the number is even, IPv6 where it is odd. None ends in .0 or .255."""
    high, low = divmod(number, 250)
    offset = (high << 8) + low + 1
    return Address(4, (10 << 24) + offset) if number % 2 == 0 else Address(6, (0xFD000010 << 96) + offset)


def service_texts(numbers: range, pool: str = POOL) -> Iterator[str]:
    """Services as manifests."""
    for number in numbers:
        yield _SERVICE.format(number=number, pool=pool, version=address_of(number).version)


def slice_texts(numbers: range, node: str) -> Iterator[str]:
    """An EndpointSlice for each, with one endpoint on a node."""
    for number in numbers:
        version = address_of(number).version
        first = f"10.244.{number >> 8 & 255}.{number & 255}" if version == 4 else f"fd00:244::{number:x}"
        yield _SLICE.format(number=number, version=version, first=first, node=node)


def node_text(name: str) -> str:
    """A Node."""
    return _NODE.format(name=name)


def write_documents(folder: Path, name: str, texts: Iterator[str]) -> None:
    """Write documents into files of a few hundred each, `NAME-0.yaml` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(texts)
    for file, begin in enumerate(range(0, len(documents), _PER_FILE)):
        text = "---\n".join(documents[begin : begin + _PER_FILE])
        (folder / f"{name}-{file:03}.yaml").write_text(text, encoding="utf-8")


def write_statuses(folder: Path, numbers: range, pool: str = POOL) -> None:
    """Let each Service hold its address, as a controller that ran before has left it."""
    writer = StatusWriter(folder)
    for number in numbers:
        writer.set_addresses(SetAddresses(key=key_of(number), addresses=(address_of(number),), pool=pool))
