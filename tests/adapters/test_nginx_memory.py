"""What a renderer remembers of earlier tables never shows: it writes what one writes that starts now."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from immutables import Map

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.render import Places, Rendered, Renderer
from lbcore.ingress import ObjectKey
from lbcore.proxy import (
    Affinity,
    Canary,
    CanaryRule,
    Location,
    Match,
    Options,
    Peer,
    Policies,
    RoutingTable,
    Site,
    Source,
    Upstream,
)
from lbcore.routing import RoutingSettings
from nginx_text import refusal
from rendering import FAKE
from traffic import HOSTS, History, histories, settings, settle, started

LUA = Capabilities(lua=("/usr/lib/nginx/modules/ngx_http_lua_module.so",))
BOTH = pytest.mark.parametrize("capabilities", [LUA, Capabilities()], ids=["with Lua", "without"])
PLACES = Places(folder="/run/x", resolvers=("127.0.0.1",))


def new(capabilities: Capabilities) -> Renderer:
    return Renderer(places=PLACES, capabilities=capabilities, fake=FAKE)


@pytest.mark.slow
@BOTH
@example_settings(max_examples=60)
@given(settings, histories(bursts=4, most=4), st.lists(st.frozensets(st.sampled_from(HOSTS), max_size=1), min_size=5))
def test_after_any_changes_the_text_is_that_of_a_new_renderer(
    capabilities: Capabilities, settings: RoutingSettings, history: History, without: list[frozenset[str]]
) -> None:
    state, _ = started(settings, history[0])
    renderer = new(capabilities)
    rendered = written(renderer, state.table, without[0])
    for burst, hosts in zip(history[1:], without[1:], strict=False):
        before = rendered
        state, _ = settle(state, burst)
        rendered = written(renderer, state.table, hosts)
        assert new(capabilities).render(state.table, hosts) == rendered
        assert (before.files, before.text) == (rendered.files, rendered.text) or before.files is not rendered.files


# Of an upstream and of all: what a change of endpoints, of the default backend or of the options comes to in a table.
V6, V4, NAME = Peer("2001:db8::1", 80), Peer("192.0.2.1", 80), Peer("elsewhere.example", 80)
PEERS = ((), (), (V6,), (V6, V4), (NAME,))
OTHERWISE = Options(relative_redirects=True, keepalive=7)
changes = st.tuples(st.integers(0, 50), st.sampled_from((*PEERS, "default", "no default", OTHERWISE, Options())))


def changed(table: RoutingTable, which: int, how: object) -> RoutingTable:
    """With other peers of one of the upstreams, with another one by default, which is never one without peers, or with
    other options.
    """
    if isinstance(how, Options):
        return evolve(table, options=how)
    names = sorted(table.upstreams)
    if not names or how == "no default":
        return evolve(table, default_upstream=None)
    name = names[which % len(names)]
    upstream = table.upstreams[name]
    if how == "default":
        return evolve(table, default_upstream=name if upstream.peers else None)
    assert isinstance(how, tuple)
    peers = how if upstream.external or all(each.is_address for each in how) else ()
    default = None if name == table.default_upstream and not peers else table.default_upstream
    upstreams = table.upstreams.set(name, evolve(upstream, peers=peers))
    return evolve(table, upstreams=upstreams, default_upstream=default)


@pytest.mark.slow
@BOTH
@example_settings(max_examples=60)
@given(settings, histories(bursts=1, most=1), st.lists(changes, min_size=1, max_size=10))
def test_whatever_changes_in_a_table_the_text_is_that_of_a_new_renderer(
    capabilities: Capabilities, settings: RoutingSettings, history: History, changes: list[tuple[int, object]]
) -> None:
    state, _ = started(settings, history[0])
    renderer, table = new(capabilities), state.table
    written(renderer, table, frozenset())
    for which, how in changes:
        table = changed(table, which, how)
        assert new(capabilities).render(table) == written(renderer, table, frozenset())


def written(renderer: Renderer, table: RoutingTable, without: frozenset[str]) -> Rendered:
    """Twice: what comes of the same table is the same object where it can be."""
    rendered = renderer.render(table, without)
    assert rendered.files is renderer.render(table, without).files
    return rendered


# The same by example: one thing is other than before, and the host's site is the same object.

LOCATION = Location(
    path="/a",
    match=Match.PREFIX,
    source=Source(ingress=ObjectKey("shop", "one"), service="web", port="80"),
    policies=Policies(),
    upstream="u1",
)
SITE = Site(host="a.example", locations=(LOCATION,))
DIVIDED = Site(
    host="a.example",
    locations=(evolve(LOCATION, canary=Canary(rule=CanaryRule(weight=30), upstream="u2")),),
)


def upstream(name: str, *peers: str) -> Upstream:
    return Upstream(
        id=name, service=ObjectKey("shop", name), port="80", peers=tuple(Peer(each, 8080) for each in peers)
    )


def table_of(*upstreams: Upstream, site: Site = SITE, default: bool = False) -> RoutingTable:
    """A host with a path that is not `/`. What stands behind it is perhaps the default backend, too."""
    return RoutingTable(
        sites=Map({site.host: site}),
        upstreams=Map({each.id: each for each in upstreams}),
        default_upstream="u1" if default else None,
    )


def test_a_host_answers_503_while_nobody_stands_behind_it() -> None:
    renderer = new(Capabilities())
    for peers in (("2001:db8::1",), (), ("2001:db8::1",)):
        table = table_of(upstream("u1", *peers))
        rendered = renderer.render(table)
        assert (not peers) is ("return 503;" in rendered.text)
        assert new(Capabilities()).render(table) == rendered


@BOTH
def test_a_canary_gets_its_part_while_it_has_peers(capabilities: Capabilities) -> None:
    renderer = new(capabilities)
    for peers in (("2001:db8::2",), (), ("2001:db8::2",)):
        table = table_of(upstream("u1", "2001:db8::1"), upstream("u2", *peers), site=DIVIDED)
        rendered = renderer.render(table)
        assert bool(peers) is ("split_clients" in rendered.text)
        assert new(capabilities).render(table) == rendered


@BOTH
def test_a_sticky_host_is_written_alike_by_who_saw_its_last_peer_go_and_who_did_not(capabilities: Capabilities) -> None:
    affinity = Affinity(persistent=True)
    location = evolve(LOCATION, policies=Policies(affinity=affinity))
    renderer, site = new(capabilities), evolve(SITE, locations=(location,))
    for peers in (("2001:db8::1",), (), ("2001:db8::1",)):
        table = table_of(evolve(upstream("u1", *peers), affinity=affinity), site=site)
        assert new(capabilities).render(table) == renderer.render(table)


def with_a_name(name: str) -> RoutingTable:
    """The default backend is an ExternalName, and no host's."""
    table = table_of(upstream("u1", "2001:db8::1"), evolve(upstream("u2", name), external=True))
    return evolve(table, default_upstream="u2")


@BOTH
def test_another_name_of_the_default_backend_is_noticed(capabilities: Capabilities) -> None:
    renderer = new(capabilities)
    for name in ("elsewhere.example", "other.example"):
        rendered = renderer.render(with_a_name(name))
        assert f"{name}:8080" in rendered.text
        assert new(capabilities).render(with_a_name(name)) == rendered


@pytest.mark.needs("nginx")
def test_a_default_backend_that_is_a_name_is_looked_up_for_each_request(tmp_path: Path) -> None:
    places = evolve(PLACES, folder=str(tmp_path), http_port=8080, https_port=8443)
    rendered = evolve(new(Capabilities()), places=places).render(with_a_name("elsewhere.example"))
    assert "" == refusal(rendered, tmp_path)  # as the server of an upstream nginx would refuse a name that is not there


@BOTH
def test_new_peers_stand_in_the_text_or_are_told_to_lua(capabilities: Capabilities) -> None:
    renderer = new(capabilities)
    for peer in ("2001:db8::1", "192.0.2.1", "2001:db8::1"):
        rendered = renderer.render(table_of(upstream("u1", peer)))
        told = [each.host for known in rendered.dynamic.values() for each in known.peers]
        assert ([peer] if capabilities.lua else []) == told
        assert (not capabilities.lua) is (str(Peer(peer, 8080)) in rendered.text)


@BOTH
def test_what_no_path_is_for_is_asked_of_the_default_backend_while_there_is_one(capabilities: Capabilities) -> None:
    renderer = new(capabilities)
    for default in (False, True, False):
        table = table_of(upstream("u1", "2001:db8::1"), default=default)
        rendered = renderer.render(table)
        # By the host's server and the one of all others; Lua's own answers so besides.
        assert (0 if default else 2) + bool(capabilities.lua) == rendered.text.count("return 404;")
        assert new(capabilities).render(table) == rendered


def test_other_options_are_those_of_every_host_and_upstream() -> None:
    renderer, table = new(Capabilities()), table_of(upstream("u1", "2001:db8::1"))
    for options in (Options(), OTHERWISE, Options()):
        rendered = renderer.render(evolve(table, options=options))
        found = {text for text in ("absolute_redirect off;", "keepalive 7;") if text in rendered.text}
        assert (2 if options == OTHERWISE else 0) == len(found)
