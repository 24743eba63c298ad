"""What a visit does while the object is to exist."""

from dataclasses import replace
from typing import Any

import pytest

from auterity.api.annotations import FINALIZER, REQUESTED_AT
from auterity.engine.contract import Phase
from auterity.engine.errors import Rejected, Unauthorized, Unavailable
from auterity.engine.reconcile import visit
from auterity.engine.verdict import Again
from tests.conformance.cluster import NAMESPACE
from tests.conformance.faults import Killed
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import PASSWORD, TOKEN, WORLDS, Listing, ShelfIndex, World

SECRET = {"secretKeyRef": {"name": "inside", "key": "password"}}
REPORT = {"driftPolicy": "Report"}


def fields(world: World) -> Any:
    return world.things[NAME].fields


def edit_when(harness: Harness, world: World, verb: str, **spec: Any) -> None:
    """A person edits the spec at the moment of a vendor call."""
    world.before[verb] = lambda: harness.apply(**spec)


async def test_an_edit_during_the_visit_is_not_taken_for_done(harness: Harness, world: World):
    harness.apply(shelf={"replicas": 1})
    edit_when(harness, world, "get", shelf={"replicas": 2})
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert harness.subject.generation == 2
    assert harness.subject.status["observedGeneration"] == 1
    assert harness.ready["observedGeneration"] == 1
    assert harness.subject.status["syncedGeneration"] == 1
    assert not harness.subject.ready


async def test_an_edit_during_the_visit_is_no_drift(harness: Harness, world: World):
    harness.apply(shelf={"replicas": 1}, **REPORT)
    edit_when(harness, world, "get", shelf={"replicas": 2}, **REPORT)
    await harness.visit()
    assert (await harness.visit()).outcome == "Ready"
    assert fields(world)["replicas"] == 2
    assert harness.recorder.drift == []


async def test_a_request_is_echoed_once_and_not_before_it_was_seen(harness: Harness, world: World):
    await harness.make()
    harness.subject.annotations[REQUESTED_AT] = "one"
    await harness.visit()
    assert harness.subject.status["lastHandledReconcileAt"] == "one"
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []


async def test_a_request_during_the_visit_is_not_echoed(harness: Harness, world: World):
    harness.apply()

    def ask() -> None:
        harness.subject.annotations = {REQUESTED_AT: "later"}

    world.before["create"] = ask
    await harness.visit()
    assert "lastHandledReconcileAt" not in harness.subject.status
    await harness.visit()
    assert harness.subject.status["lastHandledReconcileAt"] == "later"


async def test_a_request_is_echoed_on_failure_too(harness: Harness, world: World):
    world.trouble["get"] = [Rejected("no")]
    harness.apply()
    harness.subject.annotations[REQUESTED_AT] = "one"
    await harness.visit()
    assert harness.subject.status["lastHandledReconcileAt"] == "one"
    assert harness.subject.status["observedGeneration"] == 1


async def test_of_a_shared_map_only_our_keys_are_removed(harness: Harness, world: World):
    await harness.make(shelf={"tags": {"a": "1", "b": "2"}})
    fields(world)["tags"]["theirs"] = "x"
    harness.apply(shelf={"tags": {"a": "1"}})
    assert (await harness.visit()).outcome == "Ready"
    assert fields(world)["tags"] == {"a": "1", "theirs": "x"}
    harness.apply(shelf={})
    await harness.visit()
    assert fields(world)["tags"] == {"theirs": "x"}
    assert "owned" not in harness.subject.status


async def test_of_a_map_of_our_own_every_other_key_is_drift(harness: Harness, world: World):
    await harness.make(shelf={"labels": {"a": "1"}})
    fields(world)["labels"]["theirs"] = "x"
    await harness.visit()
    assert fields(world)["labels"] == {"a": "1"}
    assert harness.recorder.drift == ["shelf.labels.theirs"]


@pytest.mark.parametrize("verb", ["create", "update"])
async def test_keys_written_before_a_crash_are_known_to_be_ours(
    harness: Harness, world: World, verb: str
):
    if verb == "update":
        await harness.make()
    world.lost[verb] = [Killed()]
    harness.apply(shelf={"tags": {"a": "1"}})
    with pytest.raises(Killed):
        await harness.visit()
    harness.restart()
    assert (await harness.converge()).outcome == "Ready"
    harness.apply(shelf={})
    await harness.converge()
    assert fields(world)["tags"] == {}


async def test_a_secret_is_sent_again_when_it_changes_and_only_then(harness: Harness, world: World):
    await harness.make(shelf={"password": SECRET})
    assert fields(world)["password"] == PASSWORD
    world.calls.clear()
    await harness.visit()
    assert world.calls == [f"get {NAME}"]
    harness.cluster.put_secret("inside", {"password": "another-one-Lq8"})
    await harness.visit()
    assert fields(world)["password"] == "another-one-Lq8"
    assert harness.recorder.drift == []
    assert not any(reason == "DriftReverted" for _, reason, _ in harness.cluster.events)


async def test_the_end_of_a_long_write_only_text_counts(harness: Harness, world: World):
    await harness.make(shelf={"script": "x" * 1000 + "a"})
    harness.apply(shelf={"script": "x" * 1000 + "b"})
    await harness.visit()
    assert fields(world)["script"].endswith("b")
    assert all(len(value) <= 256 for value in harness.subject.status["written"].values())


async def test_drift_is_reported_and_an_edit_is_still_carried_out(harness: Harness, world: World):
    await harness.make(shelf={"replicas": 1, "note": "a"}, **REPORT)
    fields(world)["replicas"] = 9
    assert (await harness.visit()).outcome == "Drifted"
    assert harness.ready["status"] == "True"
    drift = [{"field": "shelf.replicas", "want": "1", "actual": "9"}]
    assert harness.subject.status["drift"] == drift
    harness.apply(shelf={"replicas": 1, "note": "b"}, **REPORT)
    verdict = await harness.visit()
    assert verdict.outcome == "Drifted"
    assert fields(world)["note"] == "b"
    assert fields(world)["replicas"] == 9, "what was reported is left, whatever else is edited"
    assert harness.subject.status["drift"] == drift
    assert harness.subject.ready
    harness.cluster.writes.clear()
    assert (await harness.visit()).outcome == "Drifted"
    assert harness.cluster.writes == []


async def test_an_edit_of_a_reported_field_is_carried_out(harness: Harness, world: World):
    await harness.make(shelf={"replicas": 1}, **REPORT)
    fields(world)["replicas"] = 9
    await harness.visit()
    harness.apply(shelf={"replicas": 2}, **REPORT)
    assert (await harness.visit()).outcome == "Ready"
    assert fields(world)["replicas"] == 2
    assert "drift" not in harness.subject.status


async def test_a_rotated_secret_is_sent_while_drift_is_reported(harness: Harness, world: World):
    await harness.make(shelf={"replicas": 1, "password": SECRET}, **REPORT)
    fields(world)["replicas"] = 9
    await harness.visit()
    harness.cluster.put_secret("inside", {"password": "another-one-Lq8"})
    assert (await harness.visit()).outcome == "Drifted"
    assert fields(world)["password"] == "another-one-Lq8"
    assert fields(world)["replicas"] == 9


async def test_switching_to_revert_undoes_what_was_reported(harness: Harness, world: World):
    await harness.make(shelf={"replicas": 1}, **REPORT)
    fields(world)["replicas"] = 9
    await harness.visit()
    harness.apply(shelf={"replicas": 1})
    assert (await harness.visit()).outcome == "Ready"
    assert fields(world)["replicas"] == 1
    assert "drift" not in harness.subject.status


async def test_what_vanished_is_reported_and_needs_a_person(harness: Harness, world: World):
    await harness.make(**REPORT)
    world.things.clear()
    await harness.visit()
    assert harness.ready["status"] == "False"
    assert harness.condition("Stalled")
    assert "not made anew" in harness.ready["message"]
    assert not world.things


async def test_a_vendor_that_does_not_keep_what_was_sent_is_not_hammered(
    harness: Harness, world: World
):
    world.forgetful = {"replicas"}
    harness.apply(shelf={"replicas": 5})
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("Progressing", Again.POLL), "an update may bring it"
    assert "shelf.replicas" in harness.ready["message"]
    harness.cluster.writes.clear()
    for _ in range(2):
        assert (await harness.visit()).again is Again.RETRY
    assert harness.cluster.writes == [], "the same on every visit"


async def test_a_vendor_that_loses_what_was_kept_is_not_taken_for_someone_else(
    harness: Harness, world: World
):
    await harness.make(shelf={"replicas": 5})
    fields(world)["replicas"] = 1
    world.forgetful = {"replicas"}
    for _ in range(3):
        assert (await harness.visit()).again is Again.RETRY
    assert not any(reason == "DriftReverted" for _, reason, _ in harness.cluster.events)


async def test_an_edit_is_sent_again_while_it_is_not_kept(harness: Harness, world: World):
    await harness.make(shelf={"replicas": 1}, **REPORT)
    world.forgetful = {"replicas"}
    harness.apply(shelf={"replicas": 5}, **REPORT)
    await harness.visit()
    world.forgetful = set()
    assert (await harness.visit()).outcome == "Ready"
    assert fields(world)["replicas"] == 5


async def test_a_failed_thing_is_told_and_mended_by_an_edit(harness: Harness, world: World):
    world.phase, world.message = Phase.FAILED, "out of disk"
    harness.apply(shelf={"replicas": 1})
    assert (await harness.visit()).outcome == "ProviderFailed"
    assert harness.condition("Stalled")
    assert harness.ready["message"] == "out of disk"
    world.phase, world.message = Phase.READY, None
    harness.apply(shelf={"replicas": 2})
    assert (await harness.visit()).outcome == "Ready"


async def test_a_pending_thing_is_looked_at_soon_and_not_touched(harness: Harness, world: World):
    world.phase = Phase.PENDING
    harness.apply()
    verdict = await harness.visit()
    assert (verdict.again, verdict.seconds) == (Again.POLL, ShelfIndex.poll_after)
    world.calls.clear()
    harness.apply(shelf={"replicas": 4})
    assert (await harness.visit()).again is Again.POLL
    assert world.calls == [f"get {NAME}"]


@pytest.mark.parametrize("path", ["shelf.replicas", "shelf.tags.team", "shelf.labels"])
async def test_create_only_is_set_at_creation_and_then_left(
    harness: Harness, world: World, path: str
):
    spec = {"replicas": 2, "tags": {"team": "a"}, "labels": {"x": "1"}}
    await harness.make(shelf=spec, createOnly=[path])
    assert fields(world)["replicas"] == 2
    fields(world).update(replicas=7, tags={"team": "b"}, labels={"x": "9"})
    await harness.visit()
    left = {"shelf.replicas": 7, "shelf.tags.team": "b", "shelf.labels": {"x": "9"}}
    now = {
        "shelf.replicas": fields(world)["replicas"],
        "shelf.tags.team": fields(world)["tags"]["team"],
        "shelf.labels": fields(world)["labels"],
    }
    assert {p for p in left if now[p] == left[p]} == {path}


async def test_a_create_only_path_that_is_no_field_is_named(harness: Harness, world: World):
    harness.apply(createOnly=["shelf.replicas", "replicas", "shelf.colour"])
    verdict = await harness.visit()
    assert verdict.outcome == "SpecRejected"
    assert harness.ready["message"].endswith("of this kind: replicas, shelf.colour")
    assert world.calls == []


OUTPUTS = {"outputs": {"secretName": "out"}}


async def test_outputs_go_to_a_secret_of_ours(harness: Harness):
    await harness.make(**OUTPUTS)
    assert harness.cluster.secrets[NAMESPACE, "out"] == {"host": f"{NAME}.shelf.example"}
    assert harness.cluster.owners[NAMESPACE, "out"] == harness.subject.uid
    assert harness.subject.status["outputs"] == {"host": f"{NAME}.shelf.example"}


async def test_a_foreign_secret_is_left_alone_and_nothing_is_made(harness: Harness, world: World):
    world.once = {"key": "shown-once-Kd83m"}
    harness.cluster.put_secret("out", {"theirs": "x"})
    harness.apply(**OUTPUTS)
    assert (await harness.visit()).outcome == "Conflict"
    assert "'out'" in harness.ready["message"]
    assert harness.condition("Stalled")
    assert harness.cluster.secrets[NAMESPACE, "out"] == {"theirs": "x"}
    assert not world.things, "its credentials, told only once, would be lost"


async def test_a_secret_that_turns_foreign_is_told(harness: Harness, world: World):
    await harness.make(**OUTPUTS)
    harness.cluster.owners[NAMESPACE, "out"] = "another"
    assert (await harness.visit()).outcome == "Conflict"


async def test_what_is_told_once_is_published_before_anything_else(harness: Harness, world: World):
    world.once = {"key": "shown-once-Kd83m"}
    world.phase = Phase.PENDING
    world.trouble["get"] = []
    harness.apply(**OUTPUTS)
    await harness.visit()
    assert harness.cluster.writes == ["metadata", "secret", "status"]
    assert harness.cluster.secrets[NAMESPACE, "out"]["key"] == "shown-once-Kd83m"
    world.things[NAME].phase = Phase.READY
    assert (await harness.visit()).outcome == "Ready"
    assert harness.cluster.secrets[NAMESPACE, "out"]["key"] == "shown-once-Kd83m"


async def test_an_id_is_kept_when_the_read_after_a_creation_fails(harness: Harness, world: World):
    harness.apply(**OUTPUTS)
    world.own_ids = True
    world.before["create"] = lambda: world.trouble.update(get=[Unavailable("down")])
    verdict = await harness.visit()
    assert verdict.outcome == "ProviderUnavailable"
    assert harness.subject.status["id"] == "id-1"
    assert (await harness.visit()).outcome == "Ready"
    assert len(world.things) == 1


async def test_what_was_made_and_is_not_shown_yet_is_not_made_twice(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch
):
    async def unseen(self: ShelfIndex, id: str) -> None:
        return None

    world.own_ids = True
    harness.apply()
    with monkeypatch.context() as patch:
        patch.setattr(ShelfIndex, "read", unseen)
        for _ in range(2):
            verdict = await harness.visit()
            assert (verdict.outcome, verdict.again) == ("Progressing", Again.POLL)
            assert "does not show id-1 yet" in harness.ready["message"]
    assert (await harness.visit()).outcome == "Ready"
    assert len(world.things) == 1


async def test_what_was_made_and_never_shows_is_made_anew_in_the_end(
    harness: Harness, world: World
):
    harness.apply()
    world.own_ids = True
    world.before["get"] = world.things.clear
    await harness.visit()
    assert harness.ready["status"] == "Unknown"
    assert (await harness.visit()).outcome == "Progressing"
    harness.cluster.pass_(minutes=2)
    assert (await harness.visit()).outcome == "Ready"


def declare_more(harness: Harness) -> None:
    """As many that a list is worth it."""
    for number in range(4):
        harness.cluster.put(
            harness.key.kind,
            f"more-{number}",
            {"connectionRef": {"name": "vendor"}, "dimension": 8, "shelf": {}},
        )


@pytest.mark.parametrize("harness", [Listing], indirect=True)
async def test_a_refused_list_does_not_stop_the_drift_check(harness: Harness, world: World):
    await harness.make()
    declare_more(harness)
    world.trouble["list"] = [Unauthorized("may not list"), Unauthorized("may not list")]
    world.calls.clear()
    assert (await harness.visit(urgent=False)).outcome == "Ready"
    assert (await harness.visit(urgent=False)).outcome == "Ready"
    assert world.calls == ["list", f"get {NAME}", f"get {NAME}"]


@pytest.mark.parametrize("harness", [Listing], indirect=True)
async def test_one_list_serves_the_drift_checks_of_all(harness: Harness, world: World):
    await harness.make()
    declare_more(harness)
    world.calls.clear()
    assert (await harness.visit(urgent=False)).outcome == "Ready"
    assert (await harness.visit(urgent=False)).outcome == "Ready"
    assert world.calls == ["list"]
    fields(world)["replicas"] = 9
    await harness.visit(urgent=True)
    assert fields(world)["replicas"] == 1
    assert (await harness.visit(urgent=False)).outcome == "Ready"
    assert world.calls[-1] == f"get {NAME}", "what the list said of it is no longer true"


@pytest.mark.parametrize("harness", [Listing], indirect=True)
async def test_a_list_over_other_credentials_is_not_gone_by(harness: Harness, world: World):
    await harness.make()
    declare_more(harness)
    await harness.visit(urgent=False)
    spec = harness.cluster.subjects[harness.connection].spec
    WORLDS["another"] = World()
    try:
        harness.cluster.put(
            "Connection", "vendor", {**spec, "shelf": {**spec["shelf"], "address": "another"}}
        )
        assert (await harness.visit(urgent=False)).outcome == "Ready"
        assert set(WORLDS["another"].things) == {NAME}
    finally:
        del WORLDS["another"]


async def test_what_is_quoted_in_a_summary_is_told_without_secrets(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    original = ShelfIndex._seen

    def seen(self: ShelfIndex, id: str) -> Any:
        found = original(self, id)
        return found and replace(found, summary={"last run": f"failed to log in with {TOKEN}"})

    monkeypatch.setattr(ShelfIndex, "_seen", seen)
    await harness.make()
    assert harness.subject.status["summary"] == {"last run": "failed to log in with <secret>"}


async def test_values_that_no_status_can_hold_do_not_spoil_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    original = ShelfIndex._seen

    def seen(self: ShelfIndex, id: str) -> Any:
        found = original(self, id)
        return found and replace(
            found,
            outputs={"empty": "", "long": "x" * 2000, "good": "y"},
            summary={"long": "z" * 1000},
        )

    monkeypatch.setattr(ShelfIndex, "_seen", seen)
    await harness.make(**OUTPUTS)
    assert harness.subject.status["outputs"] == {"good": "y"}
    assert len(harness.subject.status["summary"]["long"]) == 512
    assert harness.cluster.secrets[NAMESPACE, "out"]["long"] == "x" * 2000


async def test_what_vanished_is_not_made_for_an_object_that_is_gone_too(
    harness: Harness, world: World
):
    """As another replica lets go of it, and we have not heard of it."""
    await harness.make()
    stale = replace(harness.subject)
    harness.cluster.subjects.clear()
    world.things.clear()
    verdict = await visit(harness.engine, stale)
    assert verdict.gone
    assert not world.things
    assert world.made == 1


@pytest.mark.parametrize("then", ["nothing", "a namesake"])
async def test_what_was_made_for_an_object_that_was_gone_is_taken_back(
    harness: Harness, world: World, then: str
):
    namesake = then == "a namesake"
    harness.apply()
    harness.subject.finalizers.append(FINALIZER)
    stale = harness.subject

    def go() -> None:
        harness.cluster.subjects.clear()
        if namesake:
            harness.apply()

    world.before["create"] = go
    verdict = await visit(harness.engine, stale)
    assert verdict.gone
    assert bool(world.things) == namesake
    if namesake:
        await harness.converge()
        assert world.made == 1
