"""What an object waits for, and what wakes it."""

from typing import Any

import pytest

from auterity.engine.subject import Key
from auterity.engine.verdict import Again, Verdict
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import World

BASE: dict[str, Any] = {"connectionRef": {"name": "vendor"}, "dimension": 8, "shelf": {}}
OTHER = Key("VectorIndex", NAMESPACE, "other")


def put(
    harness: Harness, name: str = "other", *, ready: bool = True, outputs: Any = None, **more: Any
) -> Key:
    key = harness.cluster.put("VectorIndex", name, BASE, **more)
    subject = harness.cluster.subjects[key]
    subject.status = {
        "observedGeneration": subject.generation,
        "outputs": outputs or {},
        "conditions": [{"type": "Ready", "status": str(ready), "reason": "Whatever"}],
    }
    return key


async def waits(harness: Harness, words: str) -> Verdict:
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("DependencyNotReady", Again.AFTER)
    assert words in harness.ready["message"]
    assert harness.condition("Reconciling")
    assert harness.vendor_writes() == []
    return verdict


def woken(verdict: Verdict, key: Key, labels: dict[str, str] | None = None) -> bool:
    return any(one.woken_by(key, labels or {}) for one in verdict.waits)


async def test_a_dependency_by_name(harness: Harness):
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "other"}])
    verdict = await waits(harness, "VectorIndex 'other' does not exist")
    assert woken(verdict, OTHER)
    assert not woken(verdict, OTHER._replace(name="another"))
    assert not woken(verdict, OTHER._replace(namespace="elsewhere"))
    put(harness, ready=False)
    await waits(harness, "VectorIndex 'other' is not ready: Whatever")
    put(harness)
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert woken(verdict, OTHER), "a change of it wakes the object later too"


async def test_a_dependency_of_an_older_generation_is_not_ready(harness: Harness):
    put(harness)
    harness.cluster.subjects[OTHER].generation = 2
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "other"}])
    await waits(harness, "not ready")


async def test_a_dependency_by_labels_means_all_that_match(harness: Harness):
    harness.apply(
        dependsOn=[{"kind": "VectorIndex", "selector": {"matchLabels": {"app": "x", "tier": "1"}}}]
    )
    verdict = await waits(harness, "no VectorIndex has the labels app=x,tier=1")
    assert woken(verdict, OTHER, {"app": "x", "tier": "1", "more": "y"})
    assert not woken(verdict, OTHER, {"app": "x"})
    labels = {"app": "x", "tier": "1"}
    put(harness, "one", labels=labels)
    put(harness, "two", ready=False, labels=labels)
    put(harness, "three", ready=False, labels={"app": "x"})
    await waits(harness, "VectorIndex 'two' is not ready")
    harness.cluster.subjects.pop(Key("VectorIndex", NAMESPACE, "two"))
    assert (await harness.visit()).outcome == "Ready"


def peer(**ref: Any) -> dict[str, Any]:
    return {"peer": {"outputRef": {"kind": "VectorIndex", "output": "host", **ref}}}


async def test_an_output_by_name(harness: Harness, world: World):
    harness.apply(shelf=peer(name="other"))
    verdict = await waits(harness, "does not exist")
    assert woken(verdict, OTHER)
    put(harness, ready=False, outputs={"host": "a"})
    await waits(harness, "is not ready")
    put(harness, outputs={"port": "1", "url": "b"})
    await waits(harness, "has no output 'host'; it has: port, url")
    put(harness, outputs={"host": "a.example"})
    assert (await harness.visit()).outcome == "Ready"
    assert world.things[NAME].fields["peer"] == "a.example"
    put(harness, outputs={"host": "b.example"})
    assert (await harness.visit()).outcome == "Ready"
    assert world.things[NAME].fields["peer"] == "b.example"


async def test_an_output_by_labels_must_match_one(harness: Harness, world: World):
    harness.apply(shelf=peer(selector={"matchLabels": {"app": "x"}}))
    await waits(harness, "no VectorIndex has the labels app=x")
    put(harness, "one", labels={"app": "x"}, outputs={"host": "1"})
    put(harness, "two", labels={"app": "x"}, outputs={"host": "2"})
    verdict = await waits(harness, "matches 2 VectorIndex objects (one, two)")
    assert woken(verdict, Key("VectorIndex", NAMESPACE, "three"), {"app": "x"})
    harness.cluster.subjects.pop(Key("VectorIndex", NAMESPACE, "two"))
    assert (await harness.visit()).outcome == "Ready"
    assert world.things[NAME].fields["peer"] == "1"


async def test_an_unknown_kind_is_named(harness: Harness):
    harness.apply(dependsOn=[{"kind": "Spaceship", "name": "other"}])
    await waits(harness, "there is no kind of integration called 'Spaceship'")


PASSWORD_REF = {"secretKeyRef": {"name": "mine", "key": "password"}}


@pytest.mark.parametrize(
    "shelf",
    [{"password": PASSWORD_REF}, {"variables": [{"name": "A", "value": PASSWORD_REF}]}],
    ids=["a secret field", "a value in a list"],
)
async def test_a_secret_and_its_key(harness: Harness, shelf: dict[str, Any]):
    harness.apply(shelf=shelf)
    verdict = await waits(harness, f"Secret 'mine' in namespace '{NAMESPACE}' does not exist")
    assert woken(verdict, Key("Secret", NAMESPACE, "mine"))
    harness.cluster.put_secret("mine", {"other": "x"})
    await waits(harness, "has no key 'password'")
    harness.cluster.put_secret("mine", {"password": "long-enough-Zm3"})
    assert (await harness.visit()).outcome == "Ready"


async def test_a_secret_in_a_list_is_sent_when_it_changes_and_never_told(
    harness: Harness, world: World
):
    harness.cluster.put_secret("mine", {"password": "long-enough-Zm3"})
    await harness.make(shelf={"variables": [{"name": "A", "value": PASSWORD_REF}]})
    assert world.things[NAME].fields["variables"] == {"A": "long-enough-Zm3"}
    world.things[NAME].fields["variables"]["A"] = "tampered-with-9"
    await harness.visit()
    assert world.things[NAME].fields["variables"] == {"A": "long-enough-Zm3"}
    harness.cluster.put_secret("mine", {"password": "another-one-Lq8"})
    await harness.visit()
    assert world.things[NAME].fields["variables"] == {"A": "another-one-Lq8"}
    told = harness.everything_told()
    assert not [v for v in ("long-enough-Zm3", "another-one-Lq8", "tampered-with-9") if v in told]


async def test_what_was_a_secret_is_not_told_when_it_is_no_longer_declared(
    harness: Harness, world: World
):
    harness.cluster.put_secret("mine", {"password": "long-enough-Zm3"})
    await harness.make(shelf={"variables": [{"name": "A", "value": PASSWORD_REF}]})
    harness.apply(
        shelf={"variables": [{"name": "A", "value": {"value": "open"}}]}, approval="Always"
    )
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["changes"]
    harness.apply(shelf={"variables": []}, approval="Always")
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["changes"]
    assert "long-enough-Zm3" not in harness.everything_told()
