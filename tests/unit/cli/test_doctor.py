"""`auterity doctor`: what is concluded from what was found."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auterity import __version__
from auterity.api.kinds import KINDS
from auterity.api.rights import rules
from auterity.cli import checks, schema
from auterity.cli.checks import Ask, Check, Level
from auterity.cli.snapshot import Replica
from tests.conformance.harness import Harness
from tests.unit.cli.world import COMMANDS, look, snapshot
from tests.unit.engine.shelf import World

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def of(name: str, **more: Any):
    found = {"goes_by": frozenset({name}), "release": __version__, **more}
    return Replica(name, "auterity-system", **{"alive": True, "renewed": NOW, **found})


def told(found: list[Check]) -> list[tuple[str, str]]:
    return [(str(check.level), check.says) for check in found]


@pytest.mark.parametrize(
    ("ahead", "level", "says"),
    [
        (0, Level.OK, "agrees with the API server's"),
        (-4, Level.OK, "agrees with the API server's"),
        (60, Level.WARN, "is 60 s ahead of the API server's"),
        (-3600, Level.WARN, "is 3600 s behind the API server's"),
    ],
)
def test_this_machines_clock(ahead: float, level: Level, says: str):
    check = checks.clock(NOW + timedelta(seconds=ahead), NOW)
    assert (check.level, check.says) == (level, says)
    assert bool(check.fix) is (level is not Level.OK)


class TestReplicas:
    def test_all_is_well(self):
        both = frozenset({"a", "b"})
        found = list(checks.replicas([of("a", goes_by=both), of("b", goes_by=both)], NOW, COMMANDS))
        assert told(found) == [
            ("ok", "2 replicas are alive, serving all namespaces"),
            ("ok", "agrees with the API server's"),
            ("ok", "agrees with the API server's"),
        ]

    def test_none_is_alive(self):
        dead = of("a", alive=False, renewed=NOW - timedelta(minutes=2))
        assert told(list(checks.replicas([dead], NOW, COMMANDS))) == [
            ("warn", "replica a in auterity-system was last seen 120 s ago"),
            ("fail", "no replica is alive"),
        ]
        assert told(list(checks.replicas([], NOW, COMMANDS))) == [("fail", "no replica is alive")]

    def test_some_namespaces_are_served(self):
        found = list(checks.replicas([of("a", serves=("y", "x"))], NOW, COMMANDS))
        assert found[0].says == "1 replica is alive, serving namespaces x, y"

    def test_versions_differ(self):
        both = frozenset({"a", "b"})
        two = [of("a", goes_by=both, release="1"), of("b", goes_by=both, release="2")]
        assert ("warn", "replicas of versions 1, 2 run side by side") in told(
            list(checks.replicas(two, NOW, COMMANDS))
        )
        one = list(checks.replicas([of("a", release="9.9")], NOW, COMMANDS))
        assert ("warn", f"is version 9.9, this command {__version__}") in told(one)

    def test_they_do_not_agree(self):
        found = list(checks.replicas([of("a"), of("b")], NOW, COMMANDS))
        assert any("do not agree yet" in says for _, says in told(found))

    @pytest.mark.parametrize(("ahead", "level"), [(-60, "warn"), (30, "warn"), (400, "fail")])
    def test_a_clock_is_wrong(self, ahead: float, level: str):
        wrong = of("a", renewed=NOW + timedelta(seconds=ahead))
        found = list(checks.replicas([wrong], NOW, COMMANDS))
        assert told(found)[-1][0] == level
        assert found[-1].about == "clock of a"

    def test_leases_that_may_not_be_read_prove_nothing(self):
        assert [c.level for c in checks.replicas(None, NOW, COMMANDS)] == [Level.WARN]


class TestDefinitions:
    @pytest.fixture
    def wanted(self):
        return schema.crds()

    @pytest.fixture
    def installed(self, wanted):
        return {crd["metadata"]["name"]: copy.deepcopy(crd) for crd in wanted}

    @staticmethod
    def spec(installed) -> dict[str, Any]:
        crd = installed["vectorindexes.integrations.auterity.io"]
        found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return found["properties"]["spec"]

    def check(self, wanted, installed, *releases: str) -> list[tuple[str, str]]:
        return told(list(checks.definitions(wanted, installed, releases)))

    def good(self, wanted, number: int) -> tuple[str, str]:
        says = f"{number} of {len(wanted)} are as version {__version__} needs them"
        return ("ok", says)

    def test_all_are_there(self, wanted, installed):
        assert self.check(wanted, installed) == [self.good(wanted, len(wanted))]

    def test_one_is_missing(self, wanted, installed):
        del installed["vectorindexes.integrations.auterity.io"]
        assert self.check(wanted, installed) == [
            ("fail", "VectorIndex is not installed"),
            self.good(wanted, len(wanted) - 1),
        ]

    def test_a_field_is_missing_and_would_be_dropped(self, wanted, installed):
        spec = self.spec(installed)["properties"]
        del spec["ttl"], spec["pinecone"]
        says = "VectorIndex lacks spec.pinecone, spec.ttl: what is written there is dropped"
        assert self.check(wanted, installed)[0] == ("fail", says)

    def test_an_operator_of_another_version_needs_other_definitions(self, wanted, installed):
        del self.spec(installed)["properties"]["ttl"]
        assert self.check(wanted, installed, "9.9")[0][0] == "warn"
        assert self.check(wanted, installed, __version__)[0][0] == "fail"

    def test_a_bound_differs(self, wanted, installed):
        self.spec(installed)["properties"]["dimension"]["maximum"] = 7
        says = "VectorIndex checks spec.dimension otherwise than this version"
        assert self.check(wanted, installed)[0] == ("warn", says)

    def test_a_number_is_the_same_however_the_api_server_writes_it(self, wanted, installed):
        def written(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: written(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [written(inner) for inner in value]
            return int(value) if isinstance(value, float) and value.is_integer() else value

        stored = written(installed)
        assert json.dumps(stored) != json.dumps(installed)
        assert self.check(wanted, stored) == [self.good(wanted, len(wanted))]

    def test_words_and_vendors_that_only_the_cluster_has_are_no_matter(self, wanted, installed):
        spec = self.spec(installed)
        spec["properties"]["dimension"]["description"] = "Otherwise."
        spec["properties"]["acme"] = {"type": "object", "properties": {"a": {"type": "string"}}}
        spec["x-kubernetes-validations"] = [{"rule": "true", "message": "of acme too"}]
        assert self.check(wanted, installed) == [self.good(wanted, len(wanted))]

    def test_the_api_server_has_refused_one(self, wanted, installed):
        broken = {"type": "Established", "status": "False", "message": "names are taken"}
        installed["vectorindexes.integrations.auterity.io"]["status"] = {"conditions": [broken]}
        assert self.check(wanted, installed)[0] == ("fail", "VectorIndex: names are taken")

    def test_they_may_not_be_read(self, wanted):
        assert self.check(wanted, None) == [("warn", "may not be read by you")]


def test_every_rule_of_the_chart_is_asked_for_where_it_counts():
    needed = rules(kind.plural for kind in KINDS.values())
    own = checks.asks(needed["own"], "auterity-system")
    assert Ask("patch", "coordination.k8s.io", "leases", "auterity-system") in own
    cluster = checks.asks(needed["cluster"])
    assert Ask("get", "", "namespaces", "", "kube-system") in cluster
    many = checks.asks(needed["namespaced"], "team")
    rule = [(v, r) for one in needed["namespaced"] for v in one["verbs"] for r in one["resources"]]
    assert sorted((a.verb, a.resource) for a in many) == sorted(rule)
    assert {a.namespace for a in many} == {"team"}


def test_rights_that_are_missing_are_listed():
    denied = [
        Ask("get", "", "secrets", "team"),
        Ask("list", "coordination.k8s.io", "leases", ""),
        Ask("list", "", "secrets", "team"),
        Ask("get", "", "namespaces", "", "kube-system"),
    ]
    check = checks.rights("your rights", denied, level=Level.WARN, fix="ask")
    assert check.says == (
        "may not get/list secrets in team, list leases.coordination.k8s.io, "
        "get namespaces/kube-system"
    )
    assert checks.rights("x", [], level=Level.FAIL, fix="ask").level is Level.OK
    assert checks.rights("x", None, level=Level.FAIL, fix="ask").level is Level.WARN


async def test_a_connection_that_is_not_ready_fails_and_a_stalled_object_warns(
    harness: Harness, world: World
):
    harness.apply()
    await look(harness)
    seen = snapshot(harness)
    assert told(list(checks.connections(seen, COMMANDS))) == [("ok", "1 of 1 are ready")]
    assert told(list(checks.integrations(seen, COMMANDS))) == [
        ("ok", "1 of 1 are ready, none is stalled")
    ]
    world.things["conformant"].owner = "another/team/x"
    await look(harness)
    seen = snapshot(harness)
    (check,) = checks.integrations(seen, COMMANDS)
    assert (check.level, check.says) == (
        Level.WARN,
        "VectorIndex team/conformant is stalled: Conflict",
    )
    assert check.fix == "kubectl auterity why VectorIndex/conformant --namespace=team"
    world.token = "another-one-Rt6"
    harness.cluster.put_secret("shelf", {"token": "wrong-Ab3"})
    await look(harness)
    (check,) = checks.connections(snapshot(harness), COMMANDS)
    assert check.level is Level.FAIL
    assert check.says.startswith("Connection team/vendor: CredentialsRejected: ")
    assert check.fix == "kubectl auterity why Connection/vendor --namespace=team"
    assert "wrong-Ab3" not in repr(checks.as_json([check]))


@pytest.mark.parametrize(
    ("available", "installed", "words"),
    [
        (False, None, "has no MutatingAdmissionPolicy"),
        (True, True, "set at admission"),
        (True, False, "not in use"),
        (True, None, "not for you to see"),
    ],
)
def test_the_finalizer_policy_is_never_a_fault(available, installed, words: str):
    check = checks.policy(available=available, installed=installed)
    assert check.level is Level.OK
    assert words in check.says
