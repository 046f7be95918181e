"""The demo's story on one cluster, a chapter a function: first Service, static and refused ones, IPv6."""

from __future__ import annotations

import json
import re

from lbcore.addresses import Address
from lbcore.backends.statuses import STATUS_FOLDER
from lbcore.lab.demo.stage import Stage
from lbcore.lab.errors import LabError
from lbcore.lab.namespaces import Namespace

__all__ = ["FIRST", "first_service", "ipv6", "own_wishes", "page_text", "the_cluster"]

FIRST = "nginx-service"
_SHOWN_HEADERS = ("server", "content-length", "x-served-by")
_SHOWN_TAGS = re.compile(r"<title>.*?</title>|<h1>.*?</h1>")


def the_cluster(stage: Stage) -> None:
    """Who is there, and what is applied."""
    screen, lab = stage.screen, stage.lab
    rows = [
        [station.name, station.mac, *map(str, station.addresses), "lbcore speaker, pods" if station.number else "curl"]
        for station in lab.network.stations
    ]
    screen.table(["HOST", "MAC", "IPv4", "IPv6", "WHAT RUNS THERE"], rows)
    screen.say(
        "A user writes a pool of addresses, says that they are announced on the Ethernet segment (Layer 2), and asks "
        "for a Service of type LoadBalancer. These files are put into the cluster:"
    )
    stage.apply("first/pool.yaml", "first/nginx.yaml")
    with screen.step("the pods are ready") as results:
        pods = lab.wait_for_pods(20)
        results.append(", ".join(f"{pod.plan.name} on {pod.plan.node}" for pod in pods))


def first_service(stage: Stage) -> None:
    """Address, page, neighbour table, and why a ping stays without an answer."""
    (address,) = stage.addresses(FIRST)
    stage.lbcore("get", "services")
    answer = stage.page(address)
    _show_page(stage, address)
    stage.found("an address from the pool, by itself", f"{address} for {FIRST}, answered by {answer.served_by}")
    _show_neighbours(stage, address)
    _show_ping(stage, address)


def _show_page(stage: Stage, address: Address) -> None:
    command, text = page_text(stage.lab.client.namespace, address)
    stage.screen.command("client ", command, text)


def page_text(client: Namespace, address: Address) -> tuple[str, str]:
    """A curl command, and what it prints without the headers and the text that say nothing new."""
    url = f"http://[{address}]/" if address.version == 6 else f"http://{address}/"
    argv = ["curl", "-sS", "--include", "--noproxy", "*", "--max-time", "5", url]
    head, _, body = client.run(argv, check=True).stdout.partition("\n\n")
    status, *headers = head.splitlines()
    shown = [line for line in headers if line.partition(":")[0].lower() in _SHOWN_HEADERS]
    return f"curl --include '{url}'", "\n".join([status, *shown, "...", *_SHOWN_TAGS.findall(body), "..."])


def _show_neighbours(stage: Stage, address: Address) -> None:
    announcer = stage.announcer(address)
    node = stage.lab.nodes[announcer]
    stage.run("client", "ip", "neighbour", "show", "nud", "all", "to", str(address))
    stage.screen.say(
        f"That is the MAC of {announcer} itself ({node.mac}): its speaker answers ARP for {address}, so the switch "
        f"brings the packets to {announcer}, which forwards port 80 of the Service to the pods on all nodes. No MAC "
        "is invented, and no other node answers."
    )


def _show_ping(stage: Stage, address: Address) -> None:
    node = stage.lab.nodes[stage.announcer(address)]
    with stage.screen.step("no interface of any host has the address"):
        _require_on_no_interface(stage, address)
    with stage.screen.step(f"ping of {node.name}'s own address {node.address()} is answered"):
        stage.wait(lambda: stage.lab.ping(node.address()), f"an answer of {node.address()} to a ping")
    shown = stage.run("client", "ping", "-n", "-c", "1", "-W", "1", str(address), check=False)
    if "bytes from" in shown:
        raise LabError(f"something answered a ping of {address}")
    stage.screen.say(
        f"curl is answered and ping is not, and that is right: {address} is on no interface, so no kernel takes it "
        "for its own and answers ICMP. What arrives for it is forwarded only if it is for a port of the Service."
    )


def _require_on_no_interface(stage: Stage, address: Address) -> None:
    for station in stage.lab.network.stations:
        shown = station.namespace.run(["ip", "-json", "address"], check=True).stdout
        if any(str(address) == each["local"] for link in json.loads(shown) for each in link["addr_info"]):
            raise LabError(f"{station.name} has {address} on an interface")


def own_wishes(stage: Stage) -> None:
    """A Service that asks for an address, two that are refused, and who announces."""
    stage.screen.say("A Service may ask for an address of the pool:")
    stage.apply("first/static.yaml")
    (address,) = stage.addresses("static")
    answer = stage.page(address)
    stage.found("a Service with a static loadBalancerIP", f"{address}, answered by {answer.served_by}")
    stage.screen.say("These two ask for what they cannot have, an address in use and one outside every pool:")
    stage.apply("first/refused.yaml")
    refused(stage, "taken", "AddressInUse")
    refused(stage, "outside", "AddressNotInPool")
    stage.found("Services that are refused, with the reason", "taken: AddressInUse, outside: AddressNotInPool")
    stage.lbcore("get", "services")
    stage.screen.say(f"And who announces {FIRST}, and why does each other node not?")
    stage.lbcore("explain", FIRST)


def refused(stage: Stage, service: str, reason: str) -> None:
    """A step: a Service gets no address, for this reason, which `lbcore explain` then tells."""
    status = stage.lab.folder / STATUS_FOLDER / "services" / "default" / f"{service}.json"

    def is_refused() -> bool:
        known = json.loads(status.read_bytes()) if status.exists() else {"refusal": None}
        return known["refusal"] is not None and known["refusal"]["reason"] == reason and not known["addresses"]

    with stage.screen.step(f"Service {service} is refused: {reason}"):
        stage.wait(is_refused, f"Service {service} to be refused with {reason}")
    stage.lbcore("explain", service)


def ipv6(stage: Stage) -> None:
    """A Service with an address of each family."""
    stage.screen.say("A pool of IPv6 addresses, and a Service that wants both families:")
    stage.apply("first/dual-stack.yaml")
    four, six = sorted(stage.addresses("dual-stack"), key=lambda address: address.version)
    stage.page(four)
    stage.page(six)
    _show_page(stage, six)
    stage.run("client", "ip", "-6", "neighbour", "show", "nud", "all", "to", str(six))
    stage.screen.say(
        f"On IPv6 the client asks with Neighbor Discovery instead of ARP; {stage.announcer(six)}'s speaker answers."
    )
    stage.found("a dual-stack Service, reached over both", f"{four} and {six}")
