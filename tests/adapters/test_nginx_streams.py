# ruff: noqa: E501 - a table is read in rows
"""TCP and UDP services in nginx's text: another parser finds what was meant, and no entry adds anything to it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.annotations.options import NAMES as OPTION_NAMES
from lbcore.backends.nginx import find_capabilities
from nginx_text import HARMLESS, HOSTILE, Parsed, parse, refusal, walk
from rendering import BASE, OPTIONS, STREAMS, ingress, render


def entries(data: dict[str, str], transport: str = "tcp") -> dict[str, Any]:
    key = getattr(STREAMS, transport)
    metadata = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def options(**data: str) -> dict[str, Any]:
    metadata = {"namespace": OPTIONS.namespace, "name": OPTIONS.name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {
        name.replace("_", "-"): text for name, text in data.items()}}  # fmt: skip


def dns() -> list[dict[str, Any]]:
    """A Service of two protocols with two endpoints, and one that is a name elsewhere."""
    metadata = {"name": "dns", "namespace": "shop"}
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("tcp", "udp")]
    far = {"type": "ExternalName", "externalName": "db.example.com", "ports": [{"port": 5432}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata | {"name": "far"}, "spec": far},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
         "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "dns"}},
         "ports": [{"name": each["name"], "port": 5353, "protocol": each["protocol"]} for each in ports],
         "endpoints": [{"addresses": ["2001:db8::53"]}, {"addresses": ["192.0.2.53"]}]},
    ]  # fmt: skip


def stream(text: str) -> tuple[Parsed, ...]:
    """What stands in the block of streams; nothing where there is none."""
    found = [each[2] for each in parse(text) if each[0] == "stream"]
    assert len(found) <= 1
    return (found[0] or ()) if found else ()


def leaves(text: str) -> list[str]:
    """The same, a line each, in the order in which it stands there."""

    def lines(tree: tuple[Parsed, ...], above: str) -> list[str]:
        made = []
        for name, arguments, block in tree:
            made.append(" ".join(filter(None, (above, name, *arguments))))
            made += lines(block, f"{above} {name}".strip()) if block is not None else []
        return made

    return lines(stream(text), "")


TCP = {
    "9000": "shop/dns:53",
    "9001": "shop/dns:tcp:PROXY",
    "9002": "shop/dns:53::PROXY",
    "9003": "shop/dns:53:PROXY:PROXY",
}
BOTH = [*BASE, *dns(), entries(TCP), entries({"9000": "shop/dns:udp"}, "udp")]


def test_another_parser_finds_every_port_as_it_was_meant() -> None:
    text = render(BOTH).text
    peers = ["upstream server 192.0.2.53:5353 max_fails=0", "upstream server [2001:db8::53]:5353 max_fails=0"]
    trusted = ["server set_real_ip_from 0.0.0.0/0", "server set_real_ip_from ::/0"]
    assert [
        "log_format streaminfo [${remote_addr}] [${time_local}] ${protocol} ${status} ${bytes_sent} ${bytes_received} "
        "${session_time}",
        "access_log /dev/stdout streaminfo",
        "resolver 127.0.0.1 valid=30s",
        "proxy_timeout 600s",
        "proxy_next_upstream on",
        "proxy_next_upstream_timeout 600s",
        "proxy_next_upstream_tries 3",
        "upstream tcp_9000", *peers,
        "server", "server listen 9000", "server listen [::]:9000",
        "server set $lbcore_stream tcp-shop-dns-53", "server proxy_pass tcp_9000",
        "upstream udp_9000", *peers,
        "server", "server listen 9000 udp reuseport", "server listen [::]:9000 udp reuseport",
        "server proxy_responses 1", "server set $lbcore_stream udp-shop-dns-udp", "server proxy_pass udp_9000",
        "upstream tcp_9001", *peers,
        "server", "server listen 9001 proxy_protocol", "server listen [::]:9001 proxy_protocol", *trusted,
        "server set $lbcore_stream tcp-shop-dns-tcp", "server proxy_pass tcp_9001",
        "upstream tcp_9002", *peers,
        "server", "server listen 9002", "server listen [::]:9002", "server proxy_protocol on",
        "server set $lbcore_stream tcp-shop-dns-53", "server proxy_pass tcp_9002",
        "upstream tcp_9003", *peers,
        "server", "server listen 9003 proxy_protocol", "server listen [::]:9003 proxy_protocol", *trusted,
        "server proxy_protocol on", "server set $lbcore_stream tcp-shop-dns-53", "server proxy_pass tcp_9003",
    ] == leaves(text)  # fmt: skip
    assert "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n" in text


def test_a_name_is_looked_up_for_each_connection() -> None:
    found = leaves(render([*BASE, *dns(), entries({"9000": "shop/far:5432"})]).text)
    assert ["server set $lbcore_peer db.example.com:5432", "server proxy_pass ${lbcore_peer}"] == found[-2:]
    assert [] == [line for line in found if line.startswith("upstream")]


def test_without_streams_or_without_the_module_there_is_nothing_of_them() -> None:
    alone = render([*BASE, *dns()]).text
    assert "stream" not in alone.replace("upstream", "")
    assert alone == render(BOTH, capabilities=evolve(Capabilities(), stream=False, stream_module="")).text
    built_in = render(BOTH, capabilities=evolve(Capabilities(), stream_module="")).text
    assert ("load_module" in built_in, bool(stream(built_in))) == (False, True)


def test_where_nginx_believes_nobody_there_the_list_of_those_to_believe_is_left_out() -> None:
    found = leaves(render(BOTH, capabilities=evolve(Capabilities(), stream_real_ip=False)).text)
    assert [] == [line for line in found if "set_real_ip_from" in line]
    few = leaves(render([*BOTH, options(proxy_real_ip_cidr="192.0.2.0/24")]).text)
    assert {"server set_real_ip_from 192.0.2.0/24"} == {line for line in few if "set_real_ip_from" in line}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"proxy_stream_timeout": "10m"}, "proxy_timeout 600s"),
        ({"proxy_stream_timeout": "90"}, "proxy_timeout 90s"),
        ({"proxy_stream_timeout": "0"}, "proxy_timeout 600s"),
        ({"proxy_stream_responses": "0"}, "server proxy_responses 0"),
        ({"proxy_stream_next_upstream": "false"}, "proxy_next_upstream off"),
        ({"proxy_stream_next_upstream_timeout": "1h"}, "proxy_next_upstream_timeout 3600s"),
        ({"proxy_stream_next_upstream_tries": "9"}, "proxy_next_upstream_tries 9"),
        ({"log_format_stream": "$proxy_upstream_name $upstream_addr"}, "log_format streaminfo ${lbcore_stream} ${upstream_addr}"),
        ({"log_format_stream": "$request_uri"}, "log_format streaminfo [${remote_addr}] [${time_local}] ${protocol} "
         "${status} ${bytes_sent} ${bytes_received} ${session_time}"),
        ({"disable_stream_access_log": "true"}, "access_log off"),
        ({"disable_access_log": "true"}, "access_log off"),
        ({"disable_http_access_log": "true"}, "access_log /dev/stdout streaminfo"),
        ({"access_log_path": "/x/a.log", "access_log_params": "buffer=16k"}, "access_log /x/a.log streaminfo buffer=16k"),
        ({"access_log_path": "/x/a.log", "stream_access_log_path": "/x/s.log"}, "access_log /x/s.log streaminfo"),
        ({"http_access_log_path": "/x/h.log"}, "access_log /dev/stdout streaminfo"),
    ],
)  # fmt: skip
def test_options_of_the_config_map_count_for_streams(data: dict[str, str], wanted: str) -> None:
    assert wanted in leaves(render([*BOTH, options(**data)]).text)


KEYS = st.sampled_from([*HOSTILE, "9000", "9001", "22"]) | st.text(max_size=8)
VALUES = st.sampled_from([*HOSTILE, *TCP.values()]) | st.builds("{}{}".format, st.sampled_from(list(TCP.values())), st.text(max_size=6))  # fmt: skip
NAMES = {name for name, _, _ in walk(stream(render(BOTH).text))}
LINES = {*leaves(render(BOTH).text), *leaves(render([*BOTH, entries({"9000": "shop/dns:53"}, "udp")]).text)}
ALONE = [each for each in parse(render(BASE).text) if each[0] != "load_module"]
OWN = ("server listen", "server set $lbcore_stream", "server proxy_pass", "upstream tcp_", "upstream udp_")


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=5))
@settings(max_examples=60)
def test_no_text_of_an_entry_adds_a_directive_or_touches_what_else_there_is(
    tcp: dict[str, str], udp: dict[str, str]
) -> None:
    text = render([*BASE, *dns(), entries({**tcp, "9004": "shop/dns:53"}), entries(udp, "udp")]).text
    assert ALONE == [each for each in parse(text) if each[0] not in {"stream", "load_module"}]
    assert {name for name, _, _ in walk(stream(text))} <= NAMES
    assert "server proxy_pass tcp_9004" in leaves(text)
    assert [] == [line for line in leaves(text) if line not in LINES and not line.startswith(OWN)]
    assert not any("$" in line.replace("$lbcore_stream", "") for line in leaves(text) if line.startswith(OWN))


def test_no_text_of_an_option_adds_a_directive_to_streams() -> None:
    for text in (*HARMLESS, *HOSTILE):
        data = {name.replace("-", "_"): text for name in OPTION_NAMES if "stream" in name or "log" in name}
        assert {each[0] for each in walk(stream(render([*BOTH, options(**data)]).text))} <= NAMES, text


@pytest.mark.slow
@pytest.mark.needs("nginx", "nginx-stream")
def test_nginx_takes_every_kind_of_entry_with_every_option(tmp_path: Path) -> None:
    here = find_capabilities("nginx")
    assert (True, True) == (here.stream, here.stream_real_ip)
    more = [entries({**TCP, "9005": "shop/far:5432"}), ingress("a.example")]
    data = {"proxy_stream_timeout": "1d", "proxy_stream_responses": "0", "log_format_stream": "$proxy_upstream_name",
            "proxy_stream_next_upstream": "false", "proxy_stream_next_upstream_tries": "0"}  # fmt: skip
    for number, capabilities in enumerate((here, evolve(here, lua=()))):
        for given_ in ({}, data):
            with tempfile.TemporaryDirectory() as folder:
                rendered = render([*BOTH, *more, options(**given_)], folder, capabilities)
                assert "" == refusal(rendered, Path(folder)), number
