"""The lab itself: its segment, its forwarding, its faults, and that it leaves nothing behind.

But for one test, no daemon runs here. Addresses come from status files as a controller writes them,
and where a client must find one, its neighbour entry is put in by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from lbcore.addresses import Address
from lbcore.errors import ManifestError
from lbcore.lab import Lab, LabError, anchor
from lbcore.lab.manifests import ObjectKey, ServiceWish
from lbcore.lab.namespaces import Namespace
from lbcore.lab.workloads import forwardings

pytestmark = pytest.mark.needs("netns", "nft", "curl", "nginx", "ping")

V4, V6 = Address.parse("192.168.20.20"), Address.parse("fd00:20::20")
BOTH = pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])


def deployment(replicas: int = 3, name: str = "web") -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers: [{{name: nginx, image: nginx, ports: [{{name: http, containerPort: 8080}}]}}]
"""


def service(policy: str = "Cluster", name: str = "web") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: {policy}
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: http}}]
"""


def assign(lab: Lab, *addresses: Address, name: str = "web") -> None:
    """Give a Service addresses, as the controller's status file does, and wait until they are forwarded."""
    status = lab.folder / ".lbcore" / "services" / "default" / f"{name}.json"
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(json.dumps({"addresses": [str(address) for address in addresses]}), encoding="utf-8")
    lab.wait_until(lambda: lab.addresses(name) == addresses, "the addresses to be forwarded")


def point_client_at(lab: Lab, node: str, *addresses: Address) -> None:
    for address in addresses:
        lab.network.set_neighbour(address, lab.nodes[node].mac)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(grace=0.5) as running:
        yield running


@pytest.fixture
def web(lab: Lab) -> Lab:
    """Three pods on three nodes, a Service with an address of each family, and a client that finds them at n1."""
    lab.apply(deployment() + "---" + service())
    lab.wait_for_pods()
    assign(lab, V4, V6)
    point_client_at(lab, "n1", V4, V6)
    return lab


def servers(lab: Lab, address: Address, requests: int = 30) -> set[str]:
    """The nodes whose pods answered."""
    return {lab.curl(address).served_by.partition("/")[2] for _ in range(requests)}


# The segment


@pytest.mark.parametrize("version", [6, 4])
def test_the_client_reaches_every_node_in_both_families(lab: Lab, version: int) -> None:
    for name, station in lab.nodes.items():
        address = station.address(version)
        assert lab.ping(address)
        assert name == lab.announcer(address)


def test_addresses_and_macs_can_be_read_off_the_node_number(lab: Lab) -> None:
    station = lab.nodes["n2"]
    assert ["192.168.20.12", "fd00:20::12"] == [str(address) for address in station.addresses]
    assert "02:00:00:00:00:02" == station.mac
    assert ["10.244.2.0/24", "fd00:244:2::/64"] == [str(network) for network in station.pod_networks]
    assert "n2" == station.namespace.run(["hostname"]).stdout.strip()


@pytest.mark.parametrize("network", ["192.168.144.0/20", "192.168.0.0/16"])
def test_other_networks_and_one_family_alone_work(network: str) -> None:
    with Lab(nodes=1, network=network, network6=None) as lab:
        assert [4] == [address.version for address in lab.nodes["n1"].addresses]
        assert lab.ping(lab.nodes["n1"].address(4))


@pytest.mark.parametrize(
    ("nodes", "network", "network6"),
    [(0, "192.168.20.0/24", None), (3, "192.168.20.0/28", None), (1, None, None), (1, "fd00::/64", "fd01::/64")],
)
def test_a_lab_that_cannot_be_is_refused_before_anything_is_made(
    nodes: int, network: str | None, network6: str | None
) -> None:
    with pytest.raises(LabError):
        Lab(nodes=nodes, network=network, network6=network6)


def test_two_labs_with_the_same_addresses_do_not_disturb_each_other(web: Lab) -> None:
    with Lab() as other:
        other.cut("n1")
        assert web.curl(V6).ok
        assert not other.ping(other.nodes["n1"].address(6))
        assert other.ping(other.nodes["n2"].address(6))
        assert web.ping(web.nodes["n1"].address(6))


# Forwarding


@BOTH
def test_an_address_is_delivered_to_real_nginx_on_every_node(web: Lab, address: Address) -> None:
    answer = web.curl(address)
    assert 200 == answer.status
    assert "Welcome to nginx!" in answer.body
    assert "nginx" in answer.headers["server"]
    assert {"n1", "n2", "n3"} == servers(web, address)


@BOTH
def test_without_a_speaker_and_with_a_flushed_cache_curl_fails(web: Lab, address: Address) -> None:
    assert web.curl(address).ok
    web.flush_neighbours()
    answer = web.curl(address, timeout=1)
    assert not answer.ok
    assert answer.error
    assert web.announcer(address) is None


def test_no_interface_anywhere_has_the_address(web: Lab) -> None:
    for station in web.network.stations:
        interfaces = json.loads(station.namespace.run(["ip", "-json", "address"]).stdout)
        found = {each["local"] for interface in interfaces for each in interface["addr_info"]}
        assert str(station.address(6)) in found
        assert not {str(V4), str(V6)} & found


@BOTH
def test_a_ping_of_the_address_is_not_answered_though_curl_is(web: Lab, address: Address) -> None:
    assert web.curl(address).ok
    assert not web.ping(address)


@BOTH
def test_under_local_only_a_node_with_a_pod_answers_and_the_pod_sees_the_client(lab: Lab, address: Address) -> None:
    lab.apply(deployment(replicas=2) + "---" + service("Local"))
    pods = lab.wait_for_pods()
    assert ["n1", "n2"] == [pod.plan.node for pod in pods]
    assign(lab, address)
    point_client_at(lab, "n2", address)
    assert {"n2"} == servers(lab, address, requests=10)
    assert {str(lab.client.address(address.version))} == callers(lab, "web-1") - {
        str(a) for a in pods[1].plan.addresses
    }
    point_client_at(lab, "n3", address)
    assert not lab.curl(address, timeout=0.5).ok


@BOTH
def test_under_cluster_a_pod_elsewhere_sees_the_node_that_passed_the_connection_on(web: Lab, address: Address) -> None:
    assert "n2" in servers(web, address)
    assert str(web.nodes["n1"].address(address.version)) in callers(web, "web-1")
    assert str(web.client.address(address.version)) not in callers(web, "web-1")


def callers(lab: Lab, pod: str) -> set[str]:
    """Who has asked a pod for a page, from its own access log."""
    log = lab.directory / "pods" / f"default_{pod}" / "access.log"
    return {line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()}


@BOTH
def test_a_service_without_endpoints_is_refused_at_once(lab: Lab, address: Address) -> None:
    lab.apply(service())
    assign(lab, address)
    point_client_at(lab, "n1", address)
    answers = [lab.curl(address, timeout=5) for _ in range(10)]
    assert not any(answer.ok for answer in answers)
    assert all("Failed to connect" in answer.error for answer in answers)  # a refusal, not silence
    # Before the client's kernel would ask a second time; a reset that a busy machine loses is asked for again.
    assert sorted(answer.seconds for answer in answers)[4] < 0.9


def test_a_node_reaches_the_address_itself(web: Lab) -> None:
    for address in (V4, V6):
        host = f"[{address}]" if address.version == 6 else str(address)
        done = web.nodes["n3"].namespace.run(["curl", "-sS", "--max-time", "2", f"http://{host}/"])
        assert "Welcome to nginx!" in done.stdout


def test_the_address_goes_when_the_status_or_the_service_does(web: Lab) -> None:
    assign(web)
    assert not web.curl(V4, timeout=0.3).ok
    assign(web, V4)
    assert web.curl(V4).ok
    web.delete("Service", "default", "web")
    web.wait_until(lambda: not web.curl(V4, timeout=0.3).ok, "the address to go")


def test_endpoints_that_end_are_used_only_while_there_is_no_ready_one() -> None:
    def answer(*conditions: str) -> list[str]:
        endpoints = [
            {
                "addresses": [f"fd00:244:1::{number}"],
                "conditions": dict.fromkeys(each.split(), True) | {"ready": "ready" in each},
            }
            for number, each in enumerate(conditions)
        ]
        ports = [{"name": None, "port": 8080}]
        about = {"name": "s", "labels": {"kubernetes.io/service-name": "web"}}
        document = {
            "kind": "EndpointSlice",
            "metadata": about,
            "addressType": "IPv6",
            "endpoints": endpoints,
            "ports": ports,
        }
        wish = ServiceWish.read(yaml.safe_load(service().replace("http", "8080")))
        (found,) = forwardings([wish], {ObjectKey.of(document): document}, {wish.key: (V6,)})
        return [str(target.address) for target in found.targets]

    assert ["fd00:244:1::1"] == answer("serving terminating", "ready", "terminating")
    assert ["fd00:244:1::"] == answer("serving terminating", "terminating")
    assert [] == answer("terminating")


# lbcore's daemons in the lab


def answers(lab: Lab, address: Address) -> bool:
    return lab.curl(address).ok


POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: ["192.168.20.20/32", "fd00:20::20/128"]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2, namespace: metallb-system}
"""


@pytest.mark.slow
@pytest.mark.needs("packet")
def test_daemons_make_the_address_answer_and_without_them_it_is_silent_again(lab: Lab) -> None:
    dual = service().replace("spec:", "spec:\n  ipFamilyPolicy: RequireDualStack")
    lab.apply(POOL + "---" + deployment() + "---" + dual)
    daemons = [lab.start_controller(), *(lab.start_speaker(node) for node in lab.nodes)]
    assert (V4, V6) == lab.wait_for_address("web", timeout=20)
    lab.wait_for_pods()
    for address in (V4, V6):
        lab.wait_until(partial(answers, lab, address), f"{address} to answer", timeout=20)
        assert lab.announcer(address) in lab.nodes
    assert all(daemon.running for daemon in daemons)
    assert [0, 0, 0, 0] == [daemon.stop() for daemon in daemons]
    lab.flush_neighbours()
    assert not lab.curl(V4, timeout=1).ok
    assert not lab.curl(V6, timeout=1).ok


# Pods and the folder


def slices(lab: Lab) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in lab.folder.glob("endpointslice_*")}


def test_the_folder_shows_nodes_and_slices_of_both_families(web: Lab) -> None:
    assert {"node_n1.yaml", "node_n2.yaml", "node_n3.yaml"} == {path.name for path in web.folder.glob("node_*")}
    found = slices(web)
    assert {"endpointslice_default_web-ipv4.yaml", "endpointslice_default_web-ipv6.yaml"} == set(found)
    assert "fd00:244:3::2" in found["endpointslice_default_web-ipv6.yaml"]
    assert "port: 8080" in found["endpointslice_default_web-ipv4.yaml"]


def test_scaling_starts_and_ends_pods_and_leaves_the_others_where_they_are(web: Lab) -> None:
    before = web.pods
    web.apply(deployment(replicas=5))
    assert before == web.wait_for_pods()[:3]
    assert ["n1", "n2", "n3", "n1", "n2"] == [pod.plan.node for pod in web.pods]
    web.apply(deployment(replicas=1))
    assert before[:1] == web.wait_for_pods()
    assert {"n1"} == servers(web, V6, requests=5)
    web.delete("Deployment", "default", "web")
    web.wait_until(lambda: not web.pods and not slices(web), "the pods and their slices to go")


def test_a_pod_that_crashes_is_taken_out_and_comes_back(web: Lab) -> None:
    web.nodes["n2"].namespace.signal_all(signal.SIGKILL)
    web.wait_until(lambda: not web.pods[1].ready, "the pod to be seen as dead")
    web.wait_for_pods()
    assert "n2" in servers(web, V4)
    assert any("web-1" in note for note in web.notes)


def test_manifests_are_kept_as_they_were_written(lab: Lab) -> None:
    text = "# mine\n" + service().strip() + "\n"
    assert ("service/web created", "deployment/web created") == lab.apply(text + "---\n" + deployment())
    assert text == (lab.folder / "service_default_web.yaml").read_text(encoding="utf-8")
    assert ("service/web unchanged",) == lab.apply(text)
    assert ("service/web configured",) == lab.apply(service("Local"))


@pytest.mark.parametrize(
    ("manifest", "place"),
    [
        ("kind: [", "no YAML"),
        ("- a", "mapping"),
        ("kind: Service", "metadata.name"),
        (deployment().replace("replicas: 3", "replicas: three"), "spec.replicas"),
        (deployment().replace("app: web}}", "app: other}}", 1), "spec.selector.matchLabels"),
        (service().replace("port: 80", "port: 80000"), "ports[].port"),
        (service("Nearby"), "spec.externalTrafficPolicy"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_its_place(lab: Lab, manifest: str, place: str) -> None:
    before = sorted(path.name for path in lab.folder.iterdir())
    with pytest.raises(ManifestError) as refused:
        lab.apply(service(name="good") + "\n---\n" + manifest)
    assert place in str(refused.value)
    assert before == sorted(path.name for path in lab.folder.iterdir())


def test_names_cannot_leave_the_folder(lab: Lab) -> None:
    lab.apply("kind: ConfigMap\nmetadata: {name: ../../evil, namespace: ../..}\n")
    assert ["configmap_..%2F.._..%2F..%2Fevil.yaml"] == [path.name for path in lab.folder.glob("configmap*")]


def test_a_broken_file_put_in_by_hand_is_noted_and_does_not_stop_the_rest(web: Lab) -> None:
    (web.folder / "broken.yaml").write_text("kind: {", encoding="utf-8")
    web.wait_until(lambda: any("broken.yaml" in note for note in web.notes), "a note")
    web.apply(deployment(replicas=4))
    assert 4 == len(web.wait_for_pods())


def test_a_folder_that_was_given_keeps_what_the_user_put_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(deployment() + "---" + service(), encoding="utf-8")
    with Lab(folder=tmp_path) as lab:
        assert 3 == len(lab.wait_for_pods())
        assert slices(lab)
    assert ["web.yaml"] == [path.name for path in tmp_path.iterdir()]


# Faults


@pytest.mark.parametrize("version", [4, 6])
def test_a_cut_node_loses_carrier_and_comes_back(lab: Lab, version: int) -> None:
    address = lab.nodes["n2"].address(version)
    lab.cut("n2")
    assert "0" == carrier(lab, "n2")
    assert not lab.ping(address)
    lab.heal("n2")
    assert "1" == carrier(lab, "n2")
    lab.flush_neighbours()  # or the client's kernel goes on at the pace of its failed attempts
    assert lab.ping(address)


@pytest.mark.parametrize("version", [4, 6])
def test_a_silently_cut_node_keeps_its_carrier_and_comes_back(lab: Lab, version: int) -> None:
    address = lab.nodes["n2"].address(version)
    lab.cut_silently("n2")
    assert "1" == carrier(lab, "n2")
    assert not lab.ping(address)
    assert lab.ping(lab.nodes["n1"].address(version))
    lab.heal("n2")
    lab.flush_neighbours()
    assert lab.ping(address)


@pytest.mark.parametrize("version", [6, 4])
def test_parted_nodes_reach_each_other_and_nobody_else_until_healed(lab: Lab, version: int) -> None:
    def reached(asker: str) -> list[str]:
        stations = [each for each in lab.network.stations if each.name != asker]
        ping = ["ping", "-n", "-c", "1", "-W", "0.3"]
        space = lab.network.station(asker).namespace
        return [each.name for each in stations if space.run([*ping, str(each.address(version))]).returncode == 0]

    lab.part("n1", "n2")
    assert [["n2"], ["n1"], ["client"]] == [reached(name) for name in ("n1", "n2", "n3")]
    for name in ("n1", "n2"):
        lab.heal(name)
        lab.network.flush_neighbours(name)
    lab.flush_neighbours()
    assert ["n1", "n2", "n3"] == reached("client")


def carrier(lab: Lab, node: str) -> str:
    links = json.loads(lab.nodes[node].namespace.run(["ip", "-json", "link", "show", "eth0"]).stdout)
    return "0" if "NO-CARRIER" in links[0]["flags"] else "1"


def test_a_killed_node_has_no_process_left_and_its_pods_start_again_when_healed(web: Lab) -> None:
    node = web.nodes["n2"]
    node.namespace.spawn(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
    web.wait_until(lambda: len(processes(node.namespace)) == 3, "nginx and two sleepers")
    web.kill("n2")
    web.wait_until(lambda: not processes(node.namespace), "all to be gone")
    web.wait_until(lambda: not web.pods[1].ready, "the pod to be counted out")
    web.wait_until(lambda: servers(web, V6) == {"n1", "n3"}, "the traffic to go to the other two")
    time.sleep(1.2)  # longer than a kubelet waits before it starts a pod again: a dead one must not
    assert [] == processes(node.namespace)
    web.heal("n2")
    web.wait_for_pods()
    assert {"n1", "n2", "n3"} == servers(web, V6)


def processes(space: Namespace) -> list[int]:
    return [pid for pid in anchor.processes_in(space.id) if pid != space.pid]


def test_a_node_that_is_silent_for_longer_than_the_grace_loses_its_traffic_and_gets_it_back(web: Lab) -> None:
    web.cut_silently("n3")
    assert web.pods[2].ready
    web.wait_until(lambda: not web.pods[2].ready, "the pod to be counted out")
    assert "status: Unknown" in (web.folder / "node_n3.yaml").read_text(encoding="utf-8")
    # The rules of the nodes follow in the same look, a moment after the pod is counted out.
    web.wait_until(lambda: servers(web, V4) == {"n1", "n2"}, "the traffic to go to the other two")
    web.heal("n3")
    web.wait_for_pods()
    assert "n3" in servers(web, V4)


def test_a_frozen_node_stands_still_and_goes_on_when_thawed(web: Lab) -> None:
    pod = f"http://{web.pods[1].plan.addresses[0]}:8080/"
    web.freeze("n2")
    assert 0 != web.nodes["n1"].namespace.run(["curl", "-sS", "--max-time", "0.3", pod]).returncode
    web.thaw("n2")
    assert 0 == web.nodes["n1"].namespace.run(["curl", "-sS", "--max-time", "2", pod]).returncode


@BOTH
def test_an_outage_is_measured_as_long_as_it_is(web: Lab, address: Address) -> None:
    assert web.outage(address, lambda: time.sleep(0.3), settle=0.3) < 0.2

    def blink() -> None:
        web.cut_silently("n1")
        time.sleep(0.4)
        web.heal("n1")

    assert 0.4 <= web.outage(address, blink, settle=0.3) < 0.9


@BOTH
def test_a_client_that_asks_anew_each_time_sees_that_nobody_speaks_for_an_address(web: Lab, address: Address) -> None:
    node = web.nodes["n1"].namespace

    def speak(verb: str) -> None:
        options = ["nodad"] if (verb, address.version) == ("add", 6) else []
        node.run(["ip", "address", verb, str(address), "dev", "eth0", *options], check=True)

    def be_silent() -> None:
        speak("del")
        time.sleep(0.4)
        speak("add")

    speak("add")
    assert web.outage(address, be_silent, settle=0.3) < 0.3  # n1's kernel goes on forwarding for who knows of it
    assert 0.4 <= web.outage(address, be_silent, settle=0.3, fresh=True) < 0.9


@BOTH
def test_lost_requests_are_counted_and_until_when_they_were_lost(web: Lab, address: Address) -> None:
    quiet = web.requests(address, lambda: time.sleep(0.3))
    assert (0, 0.0) == (quiet.lost, quiet.lost_for)
    assert quiet.made > 30

    def blink() -> None:
        web.cut_silently("n1")
        time.sleep(0.4)
        web.heal("n1")

    asked = web.requests(address, blink)
    assert 10 < asked.lost < asked.made
    assert 0.3 < asked.lost_for < 0.9


def test_a_measurement_goes_on_while_some_requests_are_lost(web: Lab) -> None:
    web.outage(V4, lambda: web.freeze("n2"), settle=0.3)
    assert not web.pods[1].ready  # a third was lost until it was counted out, later than 0.3 s after the fault


def test_an_outage_of_what_never_answered_is_an_error(lab: Lab) -> None:
    with pytest.raises(LabError, match="before any fault"):
        lab.outage(V4, lambda: None, limit=0.5)


def test_labels_of_a_node_stand_in_its_manifest(lab: Lab) -> None:
    lab.label_node("n1", {"zone": "a"})
    lab.wait_until(lambda: "zone: a" in (lab.folder / "node_n1.yaml").read_text(encoding="utf-8"), "the label")
    assert "kubernetes.io/hostname: n1" in (lab.folder / "node_n1.yaml").read_text(encoding="utf-8")


# The end

SCRIPT = dedent("""
    import os, sys, time
    from pathlib import Path
    from lbcore.lab import Lab, ensure_privileges
    ensure_privileges()
    lab = Lab()
    lab.apply(Path(sys.argv[1]).read_text())
    pods = lab.wait_for_pods()
    lab.nodes["n1"].namespace.spawn(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
    urls = [f"http://{pod.plan.addresses[0]}:8080/" for pod in pods]
    answers = [lab.nodes["n1"].namespace.run(["curl", "-s", "-m2", url]) for url in urls]
    copy = os.fork() if "fork" in sys.argv else 0
    if "fork" in sys.argv and copy == 0:
        time.sleep(20)  # a copy of the lab that holds every pipe of it open
        os._exit(0)
    spaces = [lab.network.switch, *(station.namespace for station in lab.network.stations)]
    print(lab.directory, len(answers) - sum(each.returncode for each in answers), copy, *(each.id for each in spaces))
    sys.stdout.flush()
    time.sleep(20)
""")


def start_lab_process(
    tmp_path: Path, *arguments: str, before: tuple[str, ...] = ()
) -> tuple[subprocess.Popen[str], list[str]]:
    (tmp_path / "web.yaml").write_text(deployment(), encoding="utf-8")
    (tmp_path / "play.py").write_text(SCRIPT, encoding="utf-8")
    argv = [*before, sys.executable, str(tmp_path / "play.py"), str(tmp_path / "web.yaml"), *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def left_of(spaces: list[str]) -> list[int]:
    return [pid for space in spaces for pid in anchor.processes_in(space)]


def wait_until_gone(spaces: list[str], directory: Path) -> None:
    deadline = time.monotonic() + 5
    while (left_of(spaces) or directory.exists()) and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_lab_that_is_killed_leaves_no_namespace_no_process_and_no_file(
    tmp_path: Path, signum: signal.Signals
) -> None:
    process, (directory, answers, _, *spaces) = start_lab_process(tmp_path)
    assert ("3", 5) == (answers, len(spaces))
    assert len(left_of(spaces)) >= 5 + 3 + 2  # anchors, pods, sleepers
    process.send_signal(signum)
    process.wait(5)
    wait_until_gone(spaces, Path(directory))
    assert [] == left_of(spaces)
    assert not Path(directory).exists()


def test_without_nginx_a_small_server_answers_and_the_lab_says_so(tmp_path: Path) -> None:
    script = """
        import sys
        from lbcore.lab import Lab
        with Lab(nodes=1) as lab:
            lab.apply(sys.stdin.read())
            (pod,) = lab.wait_for_pods()
            url = f"http://[{pod.plan.addresses[1]}]:8080/"
            print(lab.notes[0], lab.nodes["n1"].namespace.run(["curl", "-sS", "-i", "-m2", url]).stdout)
    """
    for tool in ("unshare", "nsenter", "nft", "curl"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    argv = [sys.executable, "-c", dedent(script)]
    paths = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run(argv, env=paths, input=deployment(1), capture_output=True, text=True, check=False)
    assert done.stdout.startswith("nginx is not installed"), done.stderr
    assert "X-Served-By: web-0/n1" in done.stdout
    assert "Hello from web-0/n1" in done.stdout


def test_a_forked_copy_of_the_lab_does_not_keep_it_alive(tmp_path: Path) -> None:
    process, (directory, _, copy, *spaces) = start_lab_process(tmp_path, "fork")
    try:
        process.kill()
        process.wait(5)
        wait_until_gone(spaces, Path(directory))
        assert [] == left_of(spaces)
    finally:
        os.kill(int(copy), signal.SIGKILL)


@pytest.mark.needs("userns")
def test_a_lab_works_without_the_privilege_to_make_one(tmp_path: Path) -> None:
    # CAP_SETFCAP alone is left: the kernel asks for it where user 0 of the machine is given to a user namespace.
    powerless = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all", "--no-new-privs", "--")
    assert 0 != subprocess.run([*powerless, "unshare", "--net", "true"], capture_output=True, check=False).returncode
    process, told = start_lab_process(tmp_path, before=powerless)
    assert told, "the lab did not start"
    directory, answers, _, *spaces = told
    assert ("3", 5) == (answers, len(spaces))
    process.kill()
    process.wait(5)
    wait_until_gone(spaces, Path(directory))
    assert [] == left_of(spaces)
    assert not Path(directory).exists()


def test_without_any_way_to_a_namespace_one_line_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "play.py").write_text("from lbcore.lab import ensure_privileges; ensure_privileges()", encoding="utf-8")
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")
    argv = [*powerless, sys.executable, str(tmp_path / "play.py")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "LabUnavailable" in done.stderr.splitlines()[-1]
    assert "run as root" in done.stderr.splitlines()[-1]


def test_an_anchor_without_a_namespace_of_its_own_kills_nobody() -> None:
    # Tried inside a namespace that is there to be lost, should the anchor be wrong.
    with Namespace("victim") as space:
        bystander = space.spawn(["sleep", "1000"])
        command = f"'{sys.executable}' -I -S '{anchor.__file__}' impostor; exit $?"  # its parent is the shell in here
        done = space.run(["sh", "-c", command])
        assert 1 == done.returncode
        assert "namespace of its own" in done.stderr
        assert bystander.poll() is None


def test_closing_twice_does_no_harm_and_takes_everything_along() -> None:
    lab = Lab(nodes=1)
    spaces = [lab.network.switch.id, lab.nodes["n1"].namespace.id, lab.client.namespace.id]
    sleeper = lab.nodes["n1"].namespace.spawn(["sleep", "1000"])
    lab.close()
    lab.close()
    assert [] == left_of(spaces)
    assert sleeper.returncode is not None
    assert not lab.directory.exists()


def test_a_lab_starts_fast_enough_to_have_one_for_every_test() -> None:
    start = time.monotonic()
    with Lab() as lab:
        lab.apply(deployment() + "---" + service())
        lab.wait_for_pods()
        took = time.monotonic() - start
    assert took < 1.5 * 4  # 0.4 s on two idle cores; the rest is for busy ones
