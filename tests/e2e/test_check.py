"""`lbcore check`: one line for each problem, the exit status, and the same words as the daemons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet import advertisement, pool, service
from lbcore.cli.main import cli

BAD = Path(__file__).parent.parent / "data" / "bad"
TOGETHER = BAD.parent / "together"  # objects of which each is sound, and that do not go together
PEER = """---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: spine, namespace: metallb-system}
spec: {myASN: 64500, peerASN: 64501, peerAddress: "2001:db8::1"%s}
"""


def check(*arguments: str | Path, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], input=given, catch_exceptions=False)


def problems(*arguments: str | Path, given: str | bytes | None = None) -> list[dict[str, str]]:
    result = check(*arguments, "-o", "json", given=given)
    whole = json.loads(result.stdout)
    assert ["problems"] == list(whole)
    assert bool(whole["problems"]) is (result.exit_code == 1)
    return list(whole["problems"])


def places(found: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(each["source"], each["object"], each["field"]) for each in found]


def written(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_sound_manifests_are_passed_without_a_word(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        pools=pool("six", "2001:db8:5::/64") + pool("four", "10.0.0.0/24") + advertisement(),
        services=service("web", ipFamilies=["IPv6"]),
        peers=PEER % "",
    )
    result = check(folder)
    assert (0, "", "") == (result.exit_code, result.stdout, result.stderr)
    assert '{\n  "problems": []\n}\n' == check(folder, "-o", "json").stdout


def test_each_problem_is_a_line_with_file_object_field_and_cure(tmp_path: Path) -> None:
    folder = written(tmp_path, pools=pool("six", "2001:db8:5::/64", "2001:db8:6::1"), peers=PEER % ", holdTime: 1s")
    result = check(folder)
    assert 1 == result.exit_code
    assert [
        f"{folder}/peers.yaml: BGPPeer metallb-system/spine: spec.holdTime: must be 0s, or 3s and more, not 1s",
        f"{folder}/pools.yaml: IPAddressPool metallb-system/six: spec.addresses[1]: '2001:db8:6::1' has no mask; "
        "for one address write 2001:db8:6::1/128",
    ] == result.stdout.splitlines()


def test_json_has_the_four_words_of_a_problem_and_no_other(tmp_path: Path) -> None:
    folder = written(tmp_path, pools=pool("six", "ff02::/64"))
    (problem,) = problems(folder)
    assert {"source", "object", "field", "message"} == problem.keys()
    assert "multicast" in problem["message"]


def test_what_stands_in_different_files_is_joined(tmp_path: Path) -> None:
    """Overlaps and unknown names show only when all is together, whichever way the files are named."""
    folder = written(
        tmp_path, one=pool("a", "10.0.0.0/24"), two=pool("b", "10.0.0.128/25"), peers=PEER % ", bfdProfile: x"
    )
    expected = [
        (f"{folder}/peers.yaml", "BGPPeer metallb-system/spine", "spec.bfdProfile"),
        (f"{folder}/two.yaml", "IPAddressPool metallb-system/b", "spec.addresses[0]"),
    ]
    assert expected == places(problems(folder))
    assert expected == sorted(places(problems(folder / "two.yaml", folder / "one.yaml", folder / "peers.yaml")))
    assert [] == problems(folder / "two.yaml")


def test_an_object_in_two_files_is_told_with_the_other_file(tmp_path: Path) -> None:
    folder = written(tmp_path, one=pool("a", "10.0.0.0/24"), two=service("web") + pool("a", "10.0.0.0/33"))
    found = problems(folder)
    assert [
        (f"{folder}/two.yaml#2", "IPAddressPool metallb-system/a", "metadata.name"),
        (f"{folder}/two.yaml#2", "IPAddressPool metallb-system/a", "spec.addresses[0]"),
    ] == places(found)
    assert f"is defined here and in {folder}/one.yaml" in found[0]["message"]
    twice = problems("-", given=service("web") + service("web"))
    assert [("standard input#2", "Service default/web", "metadata.name")] == places(twice)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (service("web", clusterIP="None"), "spec.clusterIP"),
        (service("web", clusterIPs=["fd00::1", "fd00::2"]), "spec.clusterIPs"),
        (service("web", loadBalancerIP="web.example.com"), "spec.loadBalancerIP"),
        (service("web", loadBalancerIP="2001:db8::1"), "spec.loadBalancerIP"),
        (service("web", clusterIPs=["fd00::1"], ipFamilyPolicy="RequireDualStack"), "spec.ipFamilyPolicy"),
    ],
)
def test_a_service_that_no_pool_could_serve_is_a_problem(given: str, field: str) -> None:
    assert [("standard input", "Service default/web", field)] == places(problems("-", given=given))


@pytest.mark.parametrize("prefix", ["metallb.io/", "metallb.universe.tf/"])
def test_the_annotation_that_asks_for_too_much_is_named(prefix: str) -> None:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": {f"{prefix}loadBalancerIPs": "2001:db8::1,2001:db8::2"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    (problem,) = problems("-", given=json.dumps(document))
    assert f"metadata.annotations['{prefix}loadBalancerIPs']" == problem["field"]
    assert "ask for one, or for one of each family" in problem["message"]


def test_a_service_that_asks_for_no_address_is_not_judged() -> None:
    assert [] == problems("-", given=service("web", type="ClusterIP", clusterIP="None"))


def test_json_and_lists_are_read_from_standard_input() -> None:
    broken = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"}}
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": [broken]}, indent="\t")
    expected = [("standard input items[0]", "IPAddressPool default/a", "spec")]
    assert expected == places(problems("-", given=given))
    assert expected == places(problems("-", given=yaml.safe_dump(json.loads(given), default_flow_style=True)))


def test_bytes_that_are_no_text_are_a_problem_and_no_traceback(tmp_path: Path) -> None:
    assert ["is not UTF-8 text (byte 1); save it as UTF-8"] == [
        each["message"] for each in problems("-", given=b"a\xff")
    ]
    (tmp_path / "broken.yaml").write_bytes(b"\xff")
    assert [(f"{tmp_path}/broken.yaml", "", "")] == places(problems(tmp_path))
    assert ["is not UTF-8 text (byte 0); save it as UTF-8"] == [each["message"] for each in problems(tmp_path)]


@pytest.mark.parametrize("name", sorted(path.name for path in BAD.iterdir() if path.suffix != ".tsv"))
def test_every_bad_manifest_has_a_problem(name: str) -> None:
    expected = [row.split("\t") for row in (BAD / "TABLE.tsv").read_text("utf-8").splitlines()]
    fields = [
        "" if path == "-" else path for file, path, _ in (row for row in expected if len(row) == 3) if file == name
    ]
    found = [each["field"] for each in problems(BAD / name)]
    assert set(fields) <= set(found)


def test_a_path_that_cannot_be_read_is_told_apart_from_what_is_wrong(tmp_path: Path) -> None:
    folder = written(tmp_path, pools=pool("a", "10.0.0.0/33"))
    result = check(folder, tmp_path / "nowhere")
    assert 2 == result.exit_code
    assert f"lbcore: cannot read {tmp_path}/nowhere: No such file or directory\n" == result.stderr
    assert "spec.addresses[0]" in result.stdout
    assert {"problems": []} == json.loads(check(tmp_path / "nowhere", "-o", "json").stdout)


def test_a_file_in_a_folder_that_cannot_be_read_is_no_sound_file(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").symlink_to(tmp_path / "nowhere.yaml")
    result = check(tmp_path)
    assert (2, f"lbcore: cannot read {tmp_path}/pools.yaml: No such file or directory\n") == (
        result.exit_code,
        result.stderr,
    )


def test_a_folder_is_read_as_the_daemons_read_it(tmp_path: Path) -> None:
    """Folders below it and links count, hidden files, editors' files and other suffixes do not."""
    wrong = pool("a", "10.0.0.0/33")
    below = tmp_path / "below"
    below.mkdir()
    (below / "loop").symlink_to(tmp_path)
    (below / "pool.yml").write_text(wrong, encoding="utf-8")
    (tmp_path / "link.json").symlink_to(below / "pool.yml")
    for name in (".hidden.yaml", "#pool.yaml", "pool.yaml~", "notes.txt"):
        (tmp_path / name).write_text(wrong, encoding="utf-8")
    (tmp_path / ".lbcore").mkdir()
    (tmp_path / ".lbcore" / "status.yaml").write_text(wrong, encoding="utf-8")
    assert [f"{tmp_path}/below/pool.yml", f"{tmp_path}/link.json"] == [each["source"] for each in problems(tmp_path)]
    assert 1 == check(tmp_path / "notes.txt").exit_code  # who names a file means it


def test_without_a_path_the_help_is_near() -> None:
    result = check()
    assert 2 == result.exit_code
    assert "Name a PATH, or an API server" in result.stderr


@pytest.mark.parametrize(
    ("name", "about", "field", "cure"),
    [
        ("pool-overlaps-itself", "IPAddressPool metallb-system/prod", "spec.addresses[1]", "take it out of one"),
        ("pools-overlap", "IPAddressPool metallb-system/b", "spec.addresses[0]", "take it out of one"),
        ("pool-overlaps-across-zero-borders", "IPAddressPool metallb-system/b", "spec.addresses[0]", "pool 'a'"),
        ("peer-unknown-profile", "BGPPeer metallb-system/tor", "spec.bfdProfile", "create it, or name one of"),
        ("advert-unknown-community", "BGPAdvertisement metallb-system/all", "spec.communities[0]", "write 65000:100"),
        ("community-twice", "Community metallb-system/two", "spec.communities[0].name", "rename one"),
        (
            "advert-aggregates-past-the-pool",
            "BGPAdvertisement metallb-system/wide",
            "spec.aggregationLength",
            "write 28 or more",
        ),
        ("adverts-disagree-on-local-pref", "BGPAdvertisement metallb-system/two", "spec.localPref", "use one value"),
    ],
)
def test_objects_that_do_not_go_together_are_told_where_and_what_to_do(
    name: str, about: str, field: str, cure: str
) -> None:
    (problem,) = problems(TOGETHER / f"{name}.yaml")
    assert (about, field) == (problem["object"], problem["field"])
    assert cure in problem["message"]


def test_every_file_of_objects_that_do_not_go_together_is_tried() -> None:
    (parameters,) = test_objects_that_do_not_go_together_are_told_where_and_what_to_do.pytestmark  # type: ignore[attr-defined]
    assert {path.stem for path in TOGETHER.iterdir()} == {row[0] for row in parameters.args[1]}


INGRESS = """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: default
  annotations: {%s}
spec:
  ingressClassName: nginx
  rules:
    - host: shop.example
      http: {paths: [{path: %s, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""


def ingress(path: str = "/", **annotations: str) -> str:
    named = {f"nginx.ingress.kubernetes.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return INGRESS % (json.dumps(named)[1:-1], json.dumps(path))


def test_annotations_of_an_ingress_that_are_refused_or_cannot_be_read_are_problems(tmp_path: Path) -> None:
    texts = ingress("/(a+)+$", use_regex="true", limit_rps="many", proxy_read_timeout="60s", server_snippet="x;")
    found = problems("-", given=texts)
    assert {
        ("standard input", "Ingress default/shop", f"metadata.annotations[{name}]")
        for name in ("limit-rps", "proxy-read-timeout", "server-snippet")
    } | {("standard input", "Ingress default/shop", "spec")} == set(places(found))


def test_what_has_no_effect_is_warned_of_and_changes_no_exit_status() -> None:
    result = check("-", given=ingress(mirror_target="https://x.example", proxy_body_size="8m"))
    assert (0, "") == (result.exit_code, result.stdout)
    (line,) = result.stderr.splitlines()
    assert (
        "warning: standard input: Ingress default/shop: metadata.annotations[mirror-target]: requests are not mirrored"
        == line
    )


def test_a_snippet_is_judged_by_the_option_that_lies_beside_it() -> None:
    text = ingress(configuration_snippet="add_header X-A b;")
    assert 1 == check("-", given=text).exit_code
    option = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndata: %s\n"
    assert 0 == check("-", given=text + option % '{allow-snippet-annotations: "true"}').exit_code
    assert 1 == check("-", given=text + option % '{allow-snippet-annotations: "false"}').exit_code


def test_an_ingress_of_another_controller_is_not_judged() -> None:
    other = (
        "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {controller: x}\n"
    )
    assert [] == problems("-", given=other + ingress(limit_rps="many"))


def test_an_entry_of_tcp_or_udp_services_that_cannot_be_read_is_named_where_the_config_map_is(tmp_path: Path) -> None:
    data = {"5432": "data/pg:5432", "53": "nonsense", "443": "data/pg:5432"}
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp", "namespace": "lb"}, "data": data}
    (tmp_path / "tcp.yaml").write_text(yaml.safe_dump(found))
    assert [] == problems(tmp_path)
    for option in ("--tcp-services-configmap", "--udp-services-configmap"):
        told = problems(tmp_path, option, "lb/tcp")
        source = str(tmp_path / "tcp.yaml")
        assert [(source, "ConfigMap lb/tcp", f"data.{port}") for port in (443, 53)] == places(told)
    assert [] == problems(tmp_path, "--tcp-services-configmap", "lb/other")
