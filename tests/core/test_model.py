"""Label selectors as Kubernetes means them, and which endpoints take traffic."""

from __future__ import annotations

import pytest
from hypothesis import given

from lbcore.model import (
    Endpoint,
    EndpointSlice,
    LabelRequirement,
    LabelSelector,
    Operator,
    Port,
    Service,
    ServiceKey,
    SliceKey,
    matches_any,
)
from strategies import label_selectors, labels, requirements


@pytest.mark.parametrize(
    ("operator", "values", "given_labels", "expected"),
    [
        (Operator.IN, ("gold", "tin"), {"tier": "tin"}, True),
        (Operator.IN, ("gold",), {"tier": "tin"}, False),
        (Operator.IN, ("gold",), {}, False),
        (Operator.IN, ("",), {}, False),
        (Operator.NOT_IN, ("gold",), {"tier": "tin"}, True),
        (Operator.NOT_IN, ("gold",), {"tier": "gold"}, False),
        (Operator.NOT_IN, ("gold",), {}, True),  # Kubernetes: an absent key is not in any set
        (Operator.EXISTS, (), {"tier": ""}, True),
        (Operator.EXISTS, (), {"team": "a"}, False),
        (Operator.DOES_NOT_EXIST, (), {"team": "a"}, True),
        (Operator.DOES_NOT_EXIST, (), {"tier": ""}, False),
    ],
)
def test_a_requirement_holds(
    operator: Operator, values: tuple[str, ...], given_labels: dict[str, str], expected: bool
) -> None:
    assert expected == LabelRequirement("tier", operator, values).matches(given_labels)


@given(requirements, labels)
def test_each_operator_is_the_contrary_of_another(requirement: LabelRequirement, some: dict[str, str]) -> None:
    contrary = {
        Operator.IN: Operator.NOT_IN,
        Operator.NOT_IN: Operator.IN,
        Operator.EXISTS: Operator.DOES_NOT_EXIST,
        Operator.DOES_NOT_EXIST: Operator.EXISTS,
    }[requirement.operator]
    assert requirement.matches(some) != LabelRequirement(requirement.key, contrary, requirement.values).matches(some)


@given(label_selectors, label_selectors, labels)
def test_a_selector_is_all_of_its_requirements_and_a_list_is_any_of_its_selectors(
    one: LabelSelector, other: LabelSelector, some: dict[str, str]
) -> None:
    joined = LabelSelector(one.requirements + other.requirements)
    assert (one.matches(some) and other.matches(some)) == joined.matches(some)
    assert (one.matches(some) or other.matches(some)) == matches_any((one, other), some)
    assert LabelSelector(other.requirements + one.requirements) == joined
    assert LabelSelector().matches(some)
    assert not matches_any((), some)


def test_selectors_print_as_kubectl_writes_them() -> None:
    of = LabelRequirement
    selector = LabelSelector(
        (
            of("z", Operator.DOES_NOT_EXIST),
            of("a", Operator.IN, ("1",)),
            of("b", Operator.IN, ("1", "2")),
            of("c", Operator.NOT_IN, ("3",)),
            of("d", Operator.EXISTS),
        )
    )
    assert "a=1,b in (1,2),c notin (3),d,!z" == str(selector)
    assert "everything" == str(LabelSelector())
    assert LabelSelector.of(a="1") == LabelSelector.of_labels({"a": "1"})


@pytest.mark.parametrize(
    ("ready", "serving", "usable"),
    [
        (None, None, True),
        (True, None, True),
        (True, False, True),
        (False, True, True),  # terminating, but still serving
        (False, False, False),
        (False, None, False),
        (None, False, True),
        (True, True, True),
    ],
)
def test_which_endpoints_take_traffic(ready: bool | None, serving: bool | None, usable: bool) -> None:
    assert usable == Endpoint(ready=ready, serving=serving).usable


def test_keys_print_and_read_as_namespace_and_name() -> None:
    assert ServiceKey("red", "web") == ServiceKey.parse("red/web")
    assert ServiceKey("default", "web") == ServiceKey.parse("web")
    assert ("red/web", "red/web-1", "TCP/80") == (
        str(ServiceKey("red", "web")),
        str(SliceKey("red", "web-1")),
        str(Port("TCP", 80)),
    )
    assert ServiceKey("red", "web") == EndpointSlice(key=SliceKey("red", "web-1"), service="web").service_key


@pytest.mark.parametrize("type_", ["ClusterIP", "NodePort", "ExternalName", "LoadBalancer"])
def test_only_a_service_of_type_load_balancer_asks_for_an_address(type_: str) -> None:
    service = Service(key=ServiceKey("red", "web"), type=type_)
    assert (type_ == "LoadBalancer") is service.is_load_balancer
