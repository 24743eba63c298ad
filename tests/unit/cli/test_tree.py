"""`auterity tree`: what belongs together, drawn from what the engine has made."""

from typing import Any

from auterity.cli.family import Node, as_json, of_namespace, of_object, rows
from auterity.cli.output import Styled
from auterity.cli.snapshot import SecretSeen
from tests.conformance.harness import Harness
from tests.unit.cli.world import look, route, snapshot, team
from tests.unit.engine.shelf import TOKEN, World

SPEC: dict[str, Any] = {"connectionRef": {"name": "vendor"}, "dimension": 8, "shelf": {}}


def drawn(*nodes: Node) -> list[str]:
    return [
        " ".join(cell.text if isinstance(cell, Styled) else cell for cell in row if cell)
        for row in rows(nodes)
    ]


async def family(harness: Harness) -> None:
    """One index that takes from another and publishes outputs; a third waits for it."""
    harness.cluster.put("VectorIndex", "first", SPEC)
    peer = {"outputRef": {"kind": "VectorIndex", "name": "first", "output": "host"}}
    password = {"secretKeyRef": {"name": "inside", "key": "password"}}
    harness.apply(
        {"dimension": 8, "shelf": {"peer": peer, "password": password}},
        outputs={"secretName": "published"},
    )
    selector = {"matchLabels": {"app": "none"}}
    depends = [
        {"kind": "VectorIndex", "name": "conformant"},
        {"kind": "VectorIndex", "selector": selector},
    ]
    harness.cluster.put("VectorIndex", "third", {**SPEC, "dependsOn": depends})
    await look(harness)


async def test_an_object_stands_above_what_it_needs_publishes_and_is_needed_by(harness: Harness):
    await family(harness)
    assert drawn(of_object(snapshot(harness), harness.key)) == [
        "VectorIndex team/conformant True Ready",
        "├─ Connection team/vendor connection True Ready",
        "│  └─ Secret team/shelf secret of shelf.token True",
        "├─ VectorIndex team/first takes output host True Ready",
        "│  └─ Connection team/vendor connection True Ready",
        "├─ Secret team/inside secret of shelf.password True",
        "├─ Secret team/published outputs True",
        "└─ VectorIndex team/third needed by: dependsOn[0] False DependencyNotReady",
    ]


async def test_a_namespace_is_its_connections_and_what_uses_them(harness: Harness):
    await family(harness)
    harness.cluster.put("VectorIndex", "lost", {**SPEC, "connectionRef": {"name": "gone"}})
    harness.cluster.put("VectorIndex", "far", SPEC, namespace="elsewhere")
    assert drawn(*of_namespace(snapshot(harness), "team")) == [
        "Connection team/gone False Missing",
        "└─ VectorIndex team/lost used by False NotLookedAt",
        "Connection team/vendor True Ready",
        "├─ Secret team/shelf secret of shelf.token True",
        "├─ VectorIndex team/conformant used by True Ready",
        "│  ├─ VectorIndex team/first takes output host True Ready",
        "│  │  └─ Connection team/vendor connection True Ready",
        "│  ├─ Secret team/inside secret of shelf.password True",
        "│  └─ Secret team/published outputs True",
        "├─ VectorIndex team/first used by True Ready",
        "└─ VectorIndex team/third used by False DependencyNotReady",
        "   ├─ VectorIndex team/conformant depends on True Ready",
        "   └─ VectorIndex team/app=none depends on False Missing",
    ]
    everywhere = drawn(*of_namespace(snapshot(harness), None))
    assert "└─ VectorIndex elsewhere/far used by False NotLookedAt" in everywhere


async def test_two_that_wait_for_each_other_are_drawn_once(harness: Harness):
    for name, other in (("first", "second"), ("second", "first")):
        depends = [{"kind": "VectorIndex", "name": other}]
        harness.cluster.put("VectorIndex", name, {**SPEC, "dependsOn": depends})
    await look(harness)
    lines = drawn(of_object(snapshot(harness), team("VectorIndex", "first")))
    assert len(lines) < 8
    assert lines[0].startswith("VectorIndex team/first")


async def test_secrets_are_told_by_name_and_state_only(harness: Harness, world: World):
    harness.cluster.put_secret("shelf", {"other": TOKEN})
    harness.cluster.put_secret("taken", {"a": "b"})
    missing = {"secretKeyRef": {"name": "elsewhere", "key": "password"}}
    harness.apply({"dimension": 8, "shelf": {"password": missing}}, outputs={"secretName": "taken"})
    await look(harness)
    node = of_object(snapshot(harness), harness.key)
    lines = drawn(node)
    assert "│  └─ Secret team/shelf secret of shelf.token False NoSuchKey: token" in lines
    assert "├─ Secret team/elsewhere secret of shelf.password False Missing" in lines
    assert "└─ Secret team/taken outputs False Foreign" in lines
    hidden = SecretSeen(None, readable=False)
    seen = snapshot(harness, secrets={("team", "shelf"): hidden, ("team", "taken"): hidden})
    lines = drawn(of_object(seen, harness.key))
    assert "│  └─ Secret team/shelf secret of shelf.token ?" in lines
    assert "└─ Secret team/taken outputs ?" in lines
    assert TOKEN not in repr(as_json(node))


async def test_what_was_edited_and_not_looked_at_is_not_called_ready(harness: Harness):
    await harness.make()
    harness.apply({"dimension": 8, "shelf": {"replicas": 5}})
    assert drawn(of_object(snapshot(harness), harness.key))[0] == (
        "VectorIndex team/conformant False NotLookedAt"
    )


async def test_programs_get_the_same_tree(harness: Harness):
    await harness.make()
    told = as_json(of_object(snapshot(harness), harness.key))
    assert told["object"] == {
        "apiVersion": "integrations.auterity.io/v1alpha1",
        "kind": "VectorIndex",
        "name": "conformant",
        "namespace": "team",
    }
    assert told["children"][0]["relation"] == "connection"
    assert told["children"][0]["children"][0]["object"]["kind"] == "Secret"


async def test_kinds_that_may_not_be_read_are_not_called_missing(harness: Harness):
    harness.apply(dependsOn=[{"kind": "AlertRoute", "name": "routes"}])
    await look(harness)
    node = of_object(snapshot(harness, unread=frozenset({"AlertRoute"})), harness.key)
    assert "└─ AlertRoute team/routes depends on ?" in drawn(node)


async def test_a_route_stands_above_its_candidates_and_their_secrets(harness: Harness):
    key = await route(harness, first="ProbeFailing", second="Ready", third=None)
    harness.cluster.put_secret("first", {"apiKey": "x"})
    expected = [
        "ModelRoute team/chat True Ready",
        "├─ ModelDeployment team/first candidate False ProbeFailing",
        "│  └─ Secret team/first outputs False Foreign",
        "├─ ModelDeployment team/second in use True Ready",
        "│  └─ Secret team/second outputs ?",
        "├─ ModelDeployment team/third candidate False Missing",
        "└─ Secret team/chat outputs True",
    ]
    assert drawn(of_object(snapshot(harness), key)) == expected
    # It has no connection to stand below.
    assert drawn(*of_namespace(snapshot(harness), "team"))[-len(expected) :] == expected
    needed = drawn(of_object(snapshot(harness), team("ModelDeployment", "second")))
    assert needed[-1] == "└─ ModelRoute team/chat needed by: candidates[1] True Ready"
