"""What a renderer remembers of earlier tables never shows: it writes what one writes that starts now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.render import Places, Rendered, Renderer
from lbcore.proxy import RoutingTable
from lbcore.routing import RoutingSettings
from rendering import FAKE
from traffic import HOSTS, History, histories, settings, settle, started

LUA = Capabilities(lua=("/usr/lib/nginx/modules/ngx_http_lua_module.so",))
PLACES = Places(folder="/run/x", resolvers=("127.0.0.1",))


def new(capabilities: Capabilities) -> Renderer:
    return Renderer(places=PLACES, capabilities=capabilities, fake=FAKE)


@pytest.mark.slow
@pytest.mark.parametrize("capabilities", [LUA, Capabilities()], ids=["with Lua", "without"])
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


def written(renderer: Renderer, table: RoutingTable, without: frozenset[str]) -> Rendered:
    """Twice: what comes of the same table is the same object where it can be."""
    rendered = renderer.render(table, without)
    assert rendered.files is renderer.render(table, without).files
    return rendered
