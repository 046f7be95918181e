"""Where the traffic of an Ingress's backend goes, whatever a manifest has for a port."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lbcore.model import Endpoint, EndpointPort, EndpointSlice, Service, ServiceKey, ServicePort, SliceKey
from lbcore.proxy import Peer
from lbcore.upstreams import peers_of

KEY = ServiceKey("shop", "web")
# Digits to `str.isdigit` that `int` does not take, or takes for others; and more of them than it takes.
AS_A_RULE: dict[str, list[int]] = {
    "": [], "http": [], "8080": [8080], "0": [], "65536": [], "\u00b2": [], "\u0663": [], "9" * 5000: [],
}  # fmt: skip
TARGETS = st.sampled_from(list(AS_A_RULE)) | st.text(max_size=6)
PORTS = st.sampled_from([(), (EndpointPort("http", 9090),), (EndpointPort("other", 70000),)])


@given(TARGETS, PORTS, st.sampled_from(["http", ""]))
def test_a_peer_has_a_port_and_what_is_no_number_makes_none(
    target: str, ports: tuple[EndpointPort, ...], name: str
) -> None:
    service = Service(key=KEY, named_ports=(ServicePort(name, 80, target),))
    there = Endpoint(addresses=("2001:db8::1",))
    found = EndpointSlice(key=SliceKey("shop", "web-1"), service="web", endpoints=(there,), ports=ports)
    peers = peers_of(service, "80", [found])
    assert all(0 < peer.port < 65536 for peer in peers)
    if target in AS_A_RULE and not ports:
        assert [Peer("2001:db8::1", port) for port in AS_A_RULE[target]] == list(peers)


@given(TARGETS, TARGETS)
def test_a_name_elsewhere_is_asked_at_a_port_or_not_at_all(target: str, wanted: str) -> None:
    for ports in ((), (ServicePort("http", 80, target),)):
        service = Service(key=KEY, type="ExternalName", external_name="db.example", named_ports=ports)
        for asked in (wanted, "http"):
            assert all(0 < peer.port < 65536 for peer in peers_of(service, asked, []))
