"""Ingresses as nginx configuration: how long it takes to make, how large it is, and how fast nginx is with it.

Hosts have three paths each, to a Service with three endpoints. Beside it the same hosts in the style of ingress-nginx:
everything said anew in each location, some 55 directives, as its users have it. `--hosts` are the sizes (1000,10000; 0:
none). What a request costs is measured beside an nginx.conf that one would write by hand (`ingressrequests`).
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from benchmarks.ingressrequests import BACKEND_PORT, Contestant, by_hand
from benchmarks.ingressrequests import rows as compared
from benchmarks.report import Row, progress, sizes
from lbcore.adapters.certificates import make_fake
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.lua import PEERS, peers_line
from lbcore.adapters.nginx.render import Places, Rendered, Renderer
from lbcore.backends.nginx import find_capabilities
from lbcore.events import Event, IngressSeen, Listed, ServiceSeen, SliceSeen, Tick
from lbcore.ingress import Backend, Ingress, IngressPath, IngressRule, ObjectKey, PathType
from lbcore.model import Endpoint, EndpointPort, EndpointSlice, Service, ServiceKey, ServicePort, SliceKey
from lbcore.routing import NEEDS, RoutingSettings, RoutingState, step

__all__ = ["NAME", "run"]

NAME = "ingress: objects to nginx.conf, 3 paths a host, beside ingress-nginx's style"
SIZES = sizes("LBCORE_BENCH_HOSTS")
PATHS = ("/", "/api", "/static")


def run() -> list[Row]:
    """Every size, then throughput."""
    rows = [row for hosts in SIZES for row in _size(hosts)]
    if shutil.which("wrk") is None:
        progress("no throughput: there is no program wrk (Debian: apt-get install wrk)")
        return rows
    return [*rows, *_throughput()]


def _size(hosts: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="lbcore-ingress-") as folder:
        progress(f"{hosts:,} hosts: objects to text")
        world = list(_world(hosts))
        renderer = _renderer(folder)
        gc.collect()
        began = time.thread_time()
        state = _settled(RoutingState(settings=RoutingSettings(without_class=True)), world)
        routed = time.thread_time() - began
        rendered = renderer.render(state.table)
        whole = time.thread_time() - began
        assert str(rendered.text).count("server_name") >= hosts
        parts = f"processor time; {routed:.2f} s of it to the routing table"
        yield Row(what=f"{hosts:,} hosts: objects to text", figure=whole, unit="s", note=parts)
        yield from _changes(hosts, state, renderer)
        yield from _shared(hosts, _renderer(folder))
        del world
        yield from _beside(hosts, folder, rendered, renderer.capabilities)
        if renderer.capabilities.lua:
            without = evolve(renderer.capabilities, lua=())
            plain = Renderer(places=renderer.places, capabilities=without, fake=renderer.fake)
            yield from _beside(hosts, folder, plain.render(state.table), plain.capabilities)


def _beside(hosts: int, folder: str, rendered: Rendered, capabilities: Capabilities) -> Iterator[Row]:
    """What nginx makes of it, beside the same hosts in the style of ingress-nginx."""
    name = f"{hosts:,} hosts, {'with' if capabilities.lua else 'without'} Lua"
    progress(f"{name}: nginx -t")
    _lay_out(Path(folder), rendered)
    ours = _tested(folder, rendered.text)
    theirs = _tested(folder, _in_the_other_style(hosts, folder, capabilities.lua))
    yield Row(
        what=f"{name}: size, beside ingress-nginx's style",
        figure=ours[0] / theirs[0],
        unit="times",
        at_most=0.2,
        note=f"{ours[0] / 1e6:.1f} MB, {theirs[0] / 1e6:.1f} MB",
    )
    yield Row(
        what=f"{name}: nginx -t, beside ingress-nginx's style",
        figure=ours[1] / theirs[1],
        unit="times",
        at_most=0.5,
        note=f"{ours[1]:.2f} s, {theirs[1]:.2f} s of processor time",
    )
    yield Row(what=f"{name}: memory of nginx -t, beside it", figure=ours[2] / theirs[2], unit="times",
              note=f"{ours[2] / 1e3:.0f} MB, {theirs[2] / 1e3:.0f} MB")  # fmt: skip


def _changes(hosts: int, state: RoutingState, renderer: Renderer) -> Iterator[Row]:
    """One Ingress, then one endpoint, among all of these."""
    changed = next(_objects(hosts // 2))
    assert isinstance(changed, IngressSeen)
    other = evolve(changed.ingress, annotations={"nginx.ingress.kubernetes.io/proxy-read-timeout": "7"})
    for what, event in (("one Ingress changes", IngressSeen(other)), ("one endpoint goes", _one_less(hosts // 3))):
        began = time.thread_time()
        state = _settled(state, [event])
        renderer.render(state.table)
        yield Row(what=f"{hosts:,} hosts: {what}, to text", figure=(time.thread_time() - began) * 1000, unit="ms",
                  note="processor time")  # fmt: skip


def _one_less(number: int) -> SliceSeen:
    """The endpoints of one host without the last."""
    *_, slice_ = _objects(number)
    assert isinstance(slice_, SliceSeen)
    return SliceSeen(evolve(slice_.slice, endpoints=slice_.slice.endpoints[:-1]))


def _shared(hosts: int, renderer: Renderer) -> Iterator[Row]:
    """One endpoint of a Service that all hosts have."""
    progress(f"{hosts:,} hosts: one Service")
    _, service, slice_ = _objects(0)
    ingresses = [evolve(each, ingress=_on_the_first(each.ingress)) for each in _ingresses(hosts)]
    lists = map(Listed, sorted(NEEDS, key=str))
    state = _settled(RoutingState(settings=RoutingSettings(without_class=True)), [*ingresses, service, slice_, *lists])
    renderer.render(state.table)
    began = time.thread_time()
    state = _settled(state, [_one_less(0)])
    yield Row(what=f"{hosts:,} hosts of one Service: one endpoint goes, to the routing table",
              figure=(time.thread_time() - began) * 1000, unit="ms", note="processor time")  # fmt: skip
    renderer.render(state.table)
    yield Row(what=f"{hosts:,} hosts of one Service: one endpoint goes, to text",
              figure=(time.thread_time() - began) * 1000, unit="ms", note="processor time")  # fmt: skip


def _ingresses(hosts: int) -> Iterator[IngressSeen]:
    for number in range(hosts):
        found = next(_objects(number))
        assert isinstance(found, IngressSeen)
        yield found


def _on_the_first(ingress: Ingress) -> Ingress:
    """The Ingress in the namespace of the first one, with its Service."""
    (rule,), backend = ingress.rules, Backend("app0", "80")
    paths = tuple(evolve(path, backend=backend) for path in rule.paths)
    return evolve(ingress, key=ObjectKey("team0", ingress.key.name), rules=(evolve(rule, paths=paths),))


def _renderer(folder: str) -> Renderer:
    places = Places(folder=folder, http_port=18080, https_port=18443, access_log="off", listen=("",))
    return Renderer(places=places, capabilities=find_capabilities("nginx"), fake=make_fake(datetime.now(UTC)))


def _settled(state: RoutingState, events: Iterable[Event]) -> RoutingState:
    for event in events:
        state = step(state, event, 0.0).state
    while not state.settled:
        state = step(state, Tick(), 0.0).state
    return state


def _world(hosts: int) -> Iterator[Event]:
    for number in range(hosts):
        yield from _objects(number)
    yield from map(Listed, sorted(NEEDS, key=str))


def _objects(number: int, addresses: tuple[str, ...] = (), *, port: int = 8080) -> Iterator[Event]:
    name, namespace = f"app{number}", f"team{number % 50}"
    backend = Backend(name, "80")
    paths = tuple(IngressPath(path=path, type=PathType.PREFIX, backend=backend) for path in PATHS)
    rule = IngressRule(host=f"app{number}.example.org", paths=paths)
    yield IngressSeen(Ingress(key=ObjectKey(namespace, name), rules=(rule,), created="2026-01-01T00:00:00Z"))
    yield ServiceSeen(Service(key=ServiceKey(namespace, name), named_ports=(ServicePort("http", 80),)))
    octets = f"10.{number >> 14 & 63}.{number >> 6 & 255}"
    addresses = addresses or tuple(f"{octets}.{(number & 63) * 4 + each}" for each in range(3))
    yield SliceSeen(
        EndpointSlice(
            key=SliceKey(namespace, f"{name}-1"),
            service=name,
            endpoints=tuple(Endpoint(addresses=(each,), ready=True) for each in addresses),
            ports=(EndpointPort("http", port),),
        )
    )


# nginx's part


def _lay_out(folder: Path, rendered: Rendered) -> None:
    (folder / "tmp").mkdir(exist_ok=True)
    for name, content in rendered.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _tested(folder: str, text: str) -> tuple[int, float, int]:
    """The size in bytes, and what `nginx -t` took: seconds of processor time, kilobytes at most."""
    path = Path(folder)
    config = path / "nginx.conf"
    config.write_text(text)
    process = subprocess.Popen(["nginx", "-t", "-q", "-p", folder, "-c", str(config)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"nginx refuses it: {said[-400:]}")
    return len(text.encode()), usage.ru_utime + usage.ru_stime, usage.ru_maxrss


_SETS = (
    "namespace", "ingress_name", "service_name", "service_port", "location_path", "proxy_upstream_name", "proxy_host",
    "pass_access_scheme", "pass_server_port", "best_http_host", "pass_port", "proxy_alternative_upstream_name",
    "balancer_score", "rate_limited",
)  # fmt: skip
_HEADERS = {
    "Host": "$http_host", "Upgrade": "$http_upgrade", "Connection": "$connection_upgrade",
    "X-Request-ID": "$request_id",
    "X-Real-IP": "$remote_addr", "X-Forwarded-For": "$remote_addr", "X-Forwarded-Host": "$http_host",
    "X-Forwarded-Port": "$server_port", "X-Forwarded-Proto": "$scheme", "X-Forwarded-Scheme": "$scheme",
    "X-Scheme": "$scheme", "X-Original-Forwarded-For": "$http_x_forwarded_for", "Proxy": '""',
    "ssl-client-verify": '""', "ssl-client-subject-dn": '""', "ssl-client-issuer-dn": '""',
}  # fmt: skip
_PROXY = (
    "proxy_connect_timeout 5s", "proxy_send_timeout 60s", "proxy_read_timeout 60s", "proxy_buffering off",
    "proxy_buffer_size 4k", "proxy_buffers 4 4k", "proxy_max_temp_file_size 1024m", "proxy_request_buffering on",
    "proxy_http_version 1.1", "proxy_cookie_domain off", "proxy_cookie_path off",
    "proxy_next_upstream error timeout", "proxy_next_upstream_timeout 0", "proxy_next_upstream_tries 3",
    "proxy_redirect off", "proxy_intercept_errors off", "port_in_redirect off", "client_max_body_size 1m",
    "client_body_buffer_size 8k", "chunked_transfer_encoding on", "gzip off", "keepalive_timeout 75s",
    "send_timeout 60s", "etag on",
)  # fmt: skip


def _in_the_other_style(hosts: int, folder: str, lua: tuple[str, ...]) -> str:
    """The same hosts with everything in every location: 14 variables, 16 headers, 24 settings and the way on.

    A Prefix is two locations, as it is there and with us. Every server takes TLS, with the fake certificate in place of
    the one that Lua would choose. With Lua (`lua`: the modules' files) peers are chosen by it, without by upstreams.
    """
    fake = make_fake(datetime.now(UTC))
    (Path(folder) / "fake.pem").write_bytes(fake.chain)
    (Path(folder) / "fake.key").write_bytes(fake.key)
    heads = "".join(f"proxy_set_header {name} {value};\n" for name, value in _HEADERS.items())
    settings = "".join(f"{each};\n" for each in _PROXY)
    parts = [f"load_module {each};\n" for each in lua]
    parts.append(f"pid {folder}/nginx.pid;\nevents {{ worker_connections 16384; }}\nhttp {{\naccess_log off;\n")
    parts.append(
        "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }\nserver_names_hash_max_size 65536;\n"
    )
    parts.append("server_names_hash_bucket_size 128;\nvariables_hash_max_size 2048;\n")
    parts.append(f"ssl_certificate {folder}/fake.pem;\nssl_certificate_key {folder}/fake.key;\n")
    script = f"rewrite_by_lua_file {folder}/check.lua;\n" if lua else ""
    if lua:
        balancer = f"balancer_by_lua_file {folder}/balance.lua;\n"
        parts.append(f"upstream all {{\nserver 0.0.0.1;\n{balancer}keepalive 320;\n}}\n")
    for number in range(hosts):
        name = f"team{number % 50}-app{number}-80"
        if not lua:
            *_, slice_ = _objects(number)
            assert isinstance(slice_, SliceSeen)
            servers = "".join(f"server {each.addresses[0]}:8080;\n" for each in slice_.slice.endpoints)
            parts.append(f"upstream {name} {{\n{servers}keepalive 320;\n}}\n")
        parts.append(f"server {{\nlisten 18080;\nlisten 18443 ssl http2;\nserver_name app{number}.example.org;\n")
        sets = "".join(f'set ${each} "{name}";\n' for each in _SETS)
        for path in ("/", *(form.format(each) for each in PATHS[1:] for form in ("{}/", "= {}"))):
            to = "all" if lua else name
            parts.append(f"location {path} {{\n{sets}{script}{heads}{settings}proxy_pass http://{to};\n}}\n")
        parts.append("}\n")
    return "".join([*parts, "}\n"])


def _throughput() -> Iterator[Row]:
    """What a request costs with what we render, and with what one would write by hand, in turns."""
    progress("requests")
    capabilities = find_capabilities("nginx")
    with tempfile.TemporaryDirectory(prefix="lbcore-ingress-") as name:
        Path(name).chmod(0o755)

        def folder(own: str) -> Path:
            made = Path(name) / own
            made.mkdir()
            return made

        others = [_ours("without Lua", folder("plain"), evolve(capabilities, lua=()))]
        if capabilities.lua:
            others.append(_ours("with Lua", folder("lua"), capabilities))
            others.append(_ours("with Lua, three endpoints", folder("three"), capabilities, endpoints=3))
            others.append(_ours("with Lua and metrics", folder("counted"), capabilities, metrics=True))
        others.append(by_hand("by hand without log and request id", folder("bare"), bare=True))
        yield from compared(by_hand("by hand", folder("hand")), others)


def _ours(
    name: str, folder: Path, capabilities: Capabilities, *, metrics: bool = False, endpoints: int = 1
) -> Contestant:
    addresses = tuple(f"127.0.0.{number}" for number in range(1, endpoints + 1))
    state = _settled(
        RoutingState(settings=RoutingSettings(without_class=True)),
        [*_objects(0, addresses, port=BACKEND_PORT), *map(Listed, sorted(NEEDS, key=str))],
    )
    places = Places(folder=str(folder), access_log=f"{folder}/access.log", listen=("",), metrics=metrics)
    rendered = Renderer(places=places, capabilities=capabilities, fake=make_fake(datetime.now(UTC))).render(state.table)
    _lay_out(folder, rendered)
    (folder / PEERS).write_text("".join(peers_line(each, 1) for _, each in sorted(rendered.dynamic.items())))
    return Contestant(name, folder, re.sub(r"worker_processes [^;]+;", "worker_processes 1;", rendered.text))
