"""The whole path on real Ethernet: a manifest, an address, an answer to ARP or NDP, a page of a real nginx."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from fleet import BASE, Fleet, advertisement, deployment, pool, service
from lbcore.addresses import Address

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "packet", "nft", "nginx", "curl", "ping")]

V4, V6 = {"ipFamilies": ["IPv4"]}, {"ipFamilies": ["IPv6"]}
BOTH = pytest.mark.parametrize("families", [V6, V4], ids=["ipv6", "ipv4"])


def access_log(fleet: Fleet, pod: str) -> set[str]:
    """Who has asked a pod for a page, from nginx's own log; not the node's probes of the pod."""
    log = fleet.lab.directory / "pods" / f"default_{pod}" / "access.log"
    askers = {line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()}
    return {asker for asker in askers if not any(ip_address(asker) in ip_network(net) for net in PODS)}


PODS = ("10.244.0.0/16", "fd00:244::/32")


# An address that answers


@BOTH
def test_a_service_gets_the_lowest_address_of_the_pool_and_the_client_gets_a_page(
    fleet: Fleet, families: dict[str, list[str]]
) -> None:
    (family,) = families["ipFamilies"]
    (address,) = fleet.serve(f"plain-{family.lower()}", **families)
    assert family == address.family.value
    first, last = ("192.168.20.20", "192.168.20.199") if address.version == 4 else ("fd00:20::100", "fd00:20::1ff")
    assert Address.parse(first) <= address <= Address.parse(last)
    answer = fleet.lab.curl(address)
    assert 200 == answer.status
    assert "Welcome to nginx!" in answer.body


def test_a_dual_stack_service_gets_one_address_of_each_family_and_one_node_announces_both(fleet: Fleet) -> None:
    addresses = fleet.serve("dual", ipFamilyPolicy="RequireDualStack")
    assert [4, 6] == [address.version for address in addresses]
    assert 1 == len({fleet.wait_for_one_answerer(address) for address in addresses})


@pytest.mark.parametrize(("text", "family"), [("fd00:20::177", "IPv6"), ("192.168.20.77", "IPv4")])
def test_an_address_asked_for_by_load_balancer_ip_is_the_one_that_answers(fleet: Fleet, text: str, family: str) -> None:
    name = f"static-{family.lower()}"
    assert (Address.parse(text),) == fleet.serve(name, loadBalancerIP=text, ipFamilies=[family])
    assert [text] == fleet.status(name)["addresses"]


def test_two_services_have_two_addresses_and_each_answers_for_itself(fleet: Fleet) -> None:
    fleet.lab.apply(deployment("blue", 1) + deployment("green", 1))
    (blue,), (green,) = fleet.serve("blue", app="blue"), fleet.serve("green", app="green")
    assert blue != green
    assert "blue-0" == fleet.lab.curl(blue).served_by.partition("/")[0]
    assert "green-0" == fleet.lab.curl(green).served_by.partition("/")[0]


@BOTH
def test_the_client_learns_the_own_mac_of_the_one_node_that_answers(
    fleet: Fleet, families: dict[str, list[str]]
) -> None:
    (address,) = fleet.serve(f"mac-{families['ipFamilies'][0].lower()}", **families)
    node = fleet.wait_for_one_answerer(address)
    fleet.lab.flush_neighbours()
    assert fleet.lab.curl(address).ok
    assert fleet.lab.nodes[node].mac == fleet.lab.neighbours()[address].mac


@BOTH
def test_ping_gets_no_answer_while_curl_does(fleet: Fleet, families: dict[str, list[str]]) -> None:
    (address,) = fleet.serve(f"ping-{families['ipFamilies'][0].lower()}", **families)
    assert not fleet.lab.ping(address)
    assert fleet.lab.curl(address).ok


# Where an address comes from


def test_a_pool_that_is_not_automatic_gives_to_those_who_name_it_under_either_prefix(fleet: Fleet) -> None:
    for prefix in ("metallb.io", "metallb.universe.tf"):
        name = "reserved-" + prefix.replace(".", "-")
        (address,) = fleet.serve(name, annotations={f"{prefix}/address-pool": "reserved"})
        assert Address.parse("192.168.20.200") <= address <= Address.parse("192.168.20.207")
    fleet.lab.apply(service("unasked"))
    (address,) = fleet.lab.wait_for_address("unasked")
    assert address < Address.parse("192.168.20.200")
    verdicts = {each["pool"]: each["reason"] for each in fleet.json("explain", "unasked")["pools"]}
    assert {"first": "OK", "reserved": "PoolNotAutomatic"} == verdicts


def test_a_refusal_stands_with_its_reason_in_the_status_and_at_the_command_line(fleet: Fleet) -> None:
    fleet.lab.apply(service("stranger", loadBalancerIP="10.99.0.1"))
    refusal = fleet.wait_for_refusal("stranger")
    assert "AddressNotInPool" == refusal["reason"]
    assert "10.99.0.1" in refusal["message"]
    table = fleet.cli("get", "services").stdout
    (row,) = [line.split() for line in table.splitlines() if " stranger " in line]
    assert "<pending>" == row[4]
    assert "AddressNotInPool: 10.99.0.1 is in no address pool" in fleet.cli("explain", "stranger").stdout
    (shown,) = [each for each in fleet.json("get", "services")["services"] if each["name"] == "stranger"]
    assert ([], "AddressNotInPool") == (shown["addresses"], shown["reason"])


def test_an_address_in_use_is_refused_to_the_second_and_given_when_the_first_goes(fleet: Fleet) -> None:
    address = Address.parse("192.168.20.88")
    fleet.serve("owner", loadBalancerIP=str(address))
    fleet.lab.apply(service("heir", loadBalancerIP=str(address)))
    assert "AddressInUse" == fleet.wait_for_refusal("heir")["reason"]
    assert fleet.lab.curl(address).ok
    fleet.lab.delete("Service", "default", "owner")
    assert (address,) == fleet.lab.wait_for_address("heir")
    fleet.wait_for_page(address)


def test_an_old_config_map_is_enough_to_get_an_answer(bare: Fleet) -> None:
    text = (
        "address-pools:\n- name: old\n  protocol: layer2\n  addresses: [192.168.20.251-192.168.20.254, fd00:20::f0/124]"
    )
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"config": text}}
    config_map["metadata"] = {"name": "config", "namespace": "metallb-system"}
    bare.lab.apply(json.dumps(config_map) + "\n" + deployment())
    bare.start()
    addresses = bare.serve("web", ipFamilyPolicy="RequireDualStack")
    assert ["192.168.20.251", "fd00:20::f0"] == [str(address) for address in addresses]


def test_one_machine_alone_runs_everything_in_one_process(bare: Fleet) -> None:
    bare.lab.apply(BASE)
    node = bare.lab.nodes["n2"]
    arguments = ("run", "--cluster", str(bare.lab.folder), "--runtime-dir", str(bare.lab.directory / "run"))
    program = bare.lab.start("run", node.namespace, *arguments)  # its name is the host name: n2
    addresses = bare.serve("web", ipFamilyPolicy="PreferDualStack")
    assert ["n2", "n2"] == [bare.wait_for_one_answerer(address) for address in addresses]
    assert 0 == program.stop()
    assert [] == bare.reflex("n2")


def test_the_portable_link_backend_answers_as_well(bare: Fleet) -> None:
    bare.lab.apply(BASE)
    bare.start_controller()
    bare.start_speaker("n1", "--link-backend", "scapy")
    addresses = bare.serve("web", ipFamilyPolicy="RequireDualStack")
    assert ["n1", "n1"] == [bare.wait_for_one_answerer(address) for address in addresses]


# What is not announced is silent


def test_with_the_speakers_stopped_and_the_cache_flushed_curl_fails(fresh: Fleet) -> None:
    addresses = fresh.serve("web", ipFamilyPolicy="RequireDualStack")
    fresh.wait_for_members("n1", "n2", "n3")
    assert [0, 0, 0] == [speaker.stop() for speaker in fresh.speakers.values()]
    fresh.lab.flush_neighbours()
    for address in addresses:
        assert {} == fresh.answers(address)
        assert not fresh.lab.curl(address, timeout=1).ok
        assert fresh.lab.announcer(address) is None
    assert [str(address) for address in addresses] == fresh.status("web")["addresses"]  # it is assigned all the same


@pytest.mark.parametrize("how", ["deleted", "made a ClusterIP"])
def test_an_address_falls_silent_when_its_service_is(fleet: Fleet, how: str) -> None:
    name = "deleted" if how == "deleted" else "demoted"
    addresses = fleet.serve(name, ipFamilyPolicy="RequireDualStack")
    if how == "deleted":
        fleet.lab.delete("Service", "default", name)
        fleet.lab.wait_until(lambda: not fleet.status_path(name).exists(), "the status to go")
    else:
        fleet.lab.apply(service(name, type="ClusterIP"))
        fleet.lab.wait_until(lambda: [] == fleet.status(name)["addresses"], "the status to be empty")
    for address in addresses:
        fleet.wait_for_silence(address)
    fleet.lab.flush_neighbours()
    assert not fleet.lab.curl(addresses[0], timeout=0.5).ok


def test_an_address_without_an_advertisement_is_silent_until_there_is_one(bare: Fleet) -> None:
    bare.lab.apply(pool("first", "192.168.20.20/32", "fd00:20::100/128") + deployment())
    bare.start()
    bare.lab.apply(service(ipFamilyPolicy="RequireDualStack"))
    addresses = bare.lab.wait_for_address("web")
    bare.wait_for_members("n1", "n2", "n3")
    bare.lab.wait_for_pods()
    assert "NoAdvertisement" == bare.json("explain", "web")["notAnnounced"]["reason"]
    assert [{}, {}] == [bare.answers(address) for address in addresses]
    bare.lab.apply(advertisement(ipAddressPools=["first"]))
    for address in addresses:
        bare.wait_for_one_answerer(address)


def test_an_advertisement_with_node_selectors_keeps_the_address_to_those_nodes(bare: Fleet) -> None:
    bare.lab.label_node("n2", {"edge": "yes"})
    bare.lab.apply(pool("first", "fd00:20::100/120") + deployment())
    bare.lab.apply(advertisement(nodeSelectors=[{"matchLabels": {"edge": "yes"}}]))
    bare.start()
    (address,) = bare.serve("web", ipFamilies=["IPv6"])
    assert "n2" == bare.wait_for_one_answerer(address)
    bare.lab.label_node("n2", {})
    bare.lab.label_node("n3", {"edge": "yes"})
    bare.lab.wait_until(lambda: "n3" == bare.wait_for_one_answerer(address), "n3 to announce", 20)


# externalTrafficPolicy: Local


@BOTH
def test_under_local_a_node_with_an_endpoint_announces_and_nginx_sees_the_client(
    fleet: Fleet, families: dict[str, list[str]]
) -> None:
    name = f"local-{families['ipFamilies'][0].lower()}"
    fleet.lab.apply(deployment(name, 1))
    (address,) = fleet.serve(name, app=name, externalTrafficPolicy="Local", **families)
    (home,) = [pod.plan.node for pod in fleet.lab.pods if pod.plan.owner == name]
    assert home == fleet.wait_for_one_answerer(address)
    assert {str(fleet.lab.client.address(address.version))} == access_log(fleet, f"{name}-0")
    nodes = {each["node"]: each["reason"] for each in fleet.json("explain", name)["announcers"][str(address)]}
    others = dict.fromkeys(set(fleet.lab.nodes) - {home}, "NoLocalEndpoints")
    assert {home: "OK", **others} == nodes


def test_under_local_the_address_follows_its_endpoint_to_another_node(fresh: Fleet) -> None:
    fresh.lab.apply(deployment("solo", 1))
    (address,) = fresh.serve("solo", app="solo", externalTrafficPolicy="Local")
    (home,) = [pod.plan.node for pod in fresh.lab.pods if pod.plan.owner == "solo"]
    assert home == fresh.wait_for_one_answerer(address)
    other = next(node for node in fresh.lab.nodes if node != home)
    slice_ = endpoint_slice("solo", str(fresh.lab.nodes[other].address(4)), other)
    fresh.lab.delete("Deployment", "default", "solo")
    fresh.wait_for_silence(address)
    fresh.lab.apply(slice_)
    fresh.lab.wait_until(lambda: {other} == set(fresh.answers(address)), f"{other} to announce", 20)


def endpoint_slice(name: str, address: str, node: str) -> str:
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-mine", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "nodeName": node}],
        "ports": [{"name": "", "protocol": "TCP", "port": 80}],
    }
    return json.dumps(document)
