"""The report on Ingresses: a verdict for each annotation and each object, by the brain that would serve them."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from lbcore import routing
from lbcore.annotations.table import NOT_SUPPORTED, PREFIX, RULES
from lbcore.daemons.planning import settle
from lbcore.daemons.reporting import IngressReport, Verdict, judge, report
from lbcore.events import ConfigMapSeen, Event, IngressClassSeen, IngressSeen, Listed
from lbcore.ingress import Backend, ConfigMap, Ingress, IngressClass, IngressPath, IngressRule, ObjectKey, PathType
from lbcore.routing import RoutingSettings, RoutingState

OPTIONS = ObjectKey("ingress-nginx", "controller")
OURS = IngressClassSeen(IngressClass(name="nginx", controller="k8s.io/ingress-nginx"))
OTHERS = IngressClassSeen(IngressClass(name="traefik", controller="traefik.io/ingress-controller"))


def ingress(path: str = "/", class_name: str | None = "nginx", **annotations: str) -> IngressSeen:
    rule = IngressRule(
        host="shop.example", paths=(IngressPath(path=path, type=PathType.PREFIX, backend=Backend("web", "80")),)
    )
    named = {f"{PREFIX}/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return IngressSeen(Ingress(key=ObjectKey("shop", "web"), class_name=class_name, rules=(rule,), annotations=named))


def told(*events: Event, secrets: bool = True, options: Mapping[str, str] | None = None) -> IngressReport:
    settings = RoutingSettings(config_map=OPTIONS if options is not None else None)
    maps = [ConfigMapSeen(ConfigMap(key=OPTIONS, data=options))] if options is not None else []
    lists = [Listed(kind) for kind in sorted(routing.needs(settings), key=str)]
    state, _ = settle(routing.step, RoutingState(settings=settings), [*events, *maps, *lists], lambda it: it.settled)
    (found,) = report(state, secrets=secrets)
    return found


def verdicts(found: IngressReport) -> dict[str, Verdict]:
    return {each.name: each.verdict for each in found.annotations}


def test_what_holds_is_supported() -> None:
    found = told(OURS, ingress(proxy_body_size="8m", ssl_redirect="false"))
    assert (Verdict.SUPPORTED, ()) == (found.verdict, found.problems)
    assert {Verdict.SUPPORTED} == set(verdicts(found).values())


def test_each_annotation_has_its_verdict_and_the_worst_one_counts() -> None:
    found = told(
        OURS,
        ingress(
            proxy_body_size="8 m", mirror_target="https://x.example", upstream_hash_by="$host", no_such="x",
            enable_modsecurity="true", server_snippet="return 200;",
        ),
    )  # fmt: skip
    assert Verdict.DANGEROUS is found.verdict
    assert {
        "proxy-body-size": Verdict.IGNORED,
        "mirror-target": Verdict.IGNORED,
        "upstream-hash-by": Verdict.PARTIAL,
        "no-such": Verdict.IGNORED,
        "enable-modsecurity": Verdict.DANGEROUS,
        "server-snippet": Verdict.DANGEROUS,
    } == verdicts(found)
    hows = {each.name: each.how for each in found.annotations}
    assert "answered 503" in hows["enable-modsecurity"]
    assert all(how for how in hows.values())


def test_of_a_snippet_is_said_what_would_be_taken_and_by_which_option() -> None:
    text = "add_header X-A b; lua_code_cache off;"
    (off,) = told(OURS, ingress(configuration_snippet=text)).annotations
    assert Verdict.DANGEROUS is off.verdict
    assert "allow-snippet-annotations, by which this would be taken: add_header; never: lua_code_cache" in off.how
    (on,) = told(OURS, ingress(configuration_snippet=text), options={"allow-snippet-annotations": "true"}).annotations
    assert (Verdict.PARTIAL, "taken: add_header; never: lua_code_cache") == (on.verdict, on.how)


def test_an_ingress_that_is_not_served_says_why() -> None:
    for event, why in (
        (ingress(class_name="traefik"), "controller traefik.io"),
        (ingress(class_name="nobody"), "no IngressClass nobody"),
        (ingress(class_name=None), "--watch-ingress-without-class"),
    ):
        found = told(OURS, OTHERS, event)
        assert (Verdict.IGNORED, ()) == (found.verdict, found.annotations)
        assert why in found.problems[0]


def test_a_path_that_cannot_be_served_makes_it_partial() -> None:
    found = told(OURS, ingress("/(a+)+$", use_regex="true"))
    assert Verdict.PARTIAL is found.verdict
    assert "no usable pattern" in found.problems[0]


def test_what_a_secret_lacks_is_in_the_report_only_where_secrets_were_read() -> None:
    event = ingress(auth_type="basic", auth_secret="users")
    assert "Secret shop/users" in told(OURS, event).problems[0]
    assert Verdict.SUPPORTED is told(OURS, event, secrets=False).verdict


def test_manifests_are_judged_without_their_class_and_those_of_another_controller_are_not() -> None:
    assert Verdict.DANGEROUS is judge([ingress(class_name="somewhere", limit_rps="many")])[0].verdict
    assert Verdict.IGNORED is judge([OTHERS, ingress(class_name="traefik", limit_rps="many")])[0].verdict


@given(st.dictionaries(st.sampled_from(sorted({*RULES, *NOT_SUPPORTED})), st.text(max_size=9), max_size=6))
def test_no_annotation_is_passed_over(annotations: dict[str, str]) -> None:
    found = told(OURS, ingress(**{name.replace("-", "_"): text for name, text in annotations.items()}))
    assert set(annotations) <= set(verdicts(found))
