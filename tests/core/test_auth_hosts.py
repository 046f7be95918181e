"""An authentication service at `$host` is one of the site's own names, or nobody is served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.annotations.table import PREFIX, read
from lbcore.events import IngressSeen
from lbcore.ingress import Backend, Ingress, IngressPath, IngressRule, ObjectKey, PathType
from lbcore.proxy import Url, Variable
from lbcore.routing import RoutingSettings
from traffic import started

OWN = Url(scheme="https", host=Variable("host"), path=("/oauth2/auth",))


def served(host: str, auth: str) -> tuple[str, ...]:
    """Why the locations of an Ingress of this host and with this auth-url are denied, if they are."""
    path = IngressPath(path="/", type=PathType.PREFIX, backend=Backend("web", "80"))
    rule = IngressRule(host=host, paths=(path,))
    ingress = Ingress(key=ObjectKey("shop", "a"), annotations={f"{PREFIX}/auth-url": auth}, rules=(rule,))
    state, _ = started(RoutingSettings(without_class=True), [IngressSeen(ingress)])
    return tuple(each.policies.denied for each in state.table.sites[host].locations)


@pytest.mark.parametrize("text", ["https://$host/oauth2/auth", "https://${host}/oauth2/auth"])
def test_the_host_may_be_the_one_that_was_asked_for(text: str) -> None:
    auth = read({f"{PREFIX}/auth-url": text}, "shop")[0].external_auth
    assert auth is not None
    assert OWN == auth.url


@given(st.sampled_from(["$http_host", "$arg_x", "a$host", "$host.evil.example", "${hos}t", "$hosts", "u@$host"]))
def test_no_other_variable_may_be_one(host: str) -> None:
    policies, _ = read({f"{PREFIX}/auth-url": f"https://{host}/x"}, "shop")
    assert policies.denied.startswith("auth-url")


@pytest.mark.parametrize("host", ["shop.example", "*.shop.example"])
def test_where_a_rule_has_a_host_it_is_asked_there(host: str) -> None:
    assert {""} == set(served(host, "https://$host/oauth2/auth"))


def test_where_none_does_any_client_could_name_a_server_that_lets_him_in_so_nobody_is_served() -> None:
    assert all("$host is whatever a client says" in each for each in served("", "https://$host/oauth2/auth"))
    assert {""} == set(served("", "https://auth.example/oauth2/auth"))
