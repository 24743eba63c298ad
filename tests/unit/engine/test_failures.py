"""What becomes of a failure: the reason shown, the next visit, and what is never told."""

from typing import Any

import pytest

from auterity.engine.calls import trail
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.errors import (
    Busy,
    Conflict,
    DependencyNotReady,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.verdict import Again
from tests.conformance.faults import Killed
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import PASSWORD, TOKEN, Fussy, ShelfIndex, World

TABLE: list[tuple[Exception, str, str, Again, float]] = [
    (Unavailable("down"), "ProviderUnavailable", "Reconciling", Again.RETRY, 600.0),
    (Throttled("slow", 7.0), "RateLimited", "Reconciling", Again.AFTER, 7.0),
    (Throttled("slow"), "RateLimited", "Reconciling", Again.AFTER, 30.0),
    (Unauthorized("no"), "CredentialsRejected", "Stalled", Again.AFTER, 600.0),
    (Rejected("bad"), "SpecRejected", "Stalled", Again.AFTER, 600.0),
    (NotFound("no such project"), "SpecRejected", "Stalled", Again.AFTER, 600.0),
    (Conflict("taken"), "Conflict", "Stalled", Again.AFTER, 600.0),
    (Busy("building"), "Progressing", "Reconciling", Again.POLL, 5.0),
    (DependencyNotReady("later"), "DependencyNotReady", "Reconciling", Again.AFTER, 600.0),
    (RuntimeError("oops"), "InternalError", "Reconciling", Again.RETRY, 600.0),
]


@pytest.mark.parametrize(
    ("failure", "reason", "also", "again", "seconds"), TABLE, ids=[repr(f) for f, *_ in TABLE]
)
async def test_every_failure_shows_its_reason_and_its_next_visit(
    harness: Harness,
    world: World,
    failure: Exception,
    reason: str,
    also: str,
    again: Again,
    seconds: float,
):
    world.trouble["get"] = [failure, failure]
    harness.apply()
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == (reason, again)
    if again is not Again.RETRY:
        assert verdict.seconds == seconds
    assert harness.ready["status"] == "False"
    assert {c["type"] for c in harness.subject.status["conditions"]} == {"Ready", also}
    assert harness.subject.status["observedGeneration"] == 1
    assert harness.recorder.visits[-1] == ("VectorIndex", "shelf", reason)
    assert not harness.subject.kept, "nothing was made"
    harness.cluster.writes.clear()
    harness.forgive()
    await harness.visit()
    assert harness.cluster.writes == [], "the same failure is told once"
    world.trouble.clear()
    assert (await harness.converge()).outcome == "Ready"
    assert {c["type"] for c in harness.subject.status["conditions"]} == {"Ready"}


@pytest.mark.parametrize("harness", [Fussy], indirect=True)
async def test_what_the_vendor_would_not_take_is_told_before_anything_is_made_or_changed(
    harness: Harness, world: World
):
    spec = type(harness.vendor).spec
    harness.apply({**spec, "shelf": {"note": "no"}, "externalName": "Docs"})
    assert (await harness.converge()).outcome == "SpecRejected"
    assert harness.ready["message"] == (
        "spec.externalName: it takes no capitals; spec.shelf.note: it takes no such note"
    )
    assert not harness.subject.kept
    harness.apply({**spec, "shelf": {"note": "yes"}})
    assert (await harness.converge()).outcome == "Ready"
    harness.apply({**spec, "shelf": {"note": "no"}})
    assert (await harness.converge()).outcome == "SpecRejected"
    assert [thing.fields["note"] for thing in world.things.values()] == ["yes"]


@pytest.mark.parametrize("harness", [Fussy], indirect=True)
async def test_a_name_that_was_taken_once_is_not_objected_to_again(harness: Harness, world: World):
    world.put("Docs", replicas=3)
    spec = {**type(harness.vendor).spec, "externalName": "Docs", "policy": "Adopt"}
    harness.apply(spec)
    assert (await harness.converge()).outcome == "Ready", harness.ready
    assert world.things["Docs"].fields["replicas"] == 1


async def test_a_problem_is_an_event_when_it_begins_and_when_it_ends(
    harness: Harness, world: World
):
    await harness.make()
    assert harness.cluster.events == []
    world.trouble["get"] = [Unavailable("down"), Unavailable("down"), Rejected("bad")]
    for _ in range(4):
        await harness.visit()
    assert [(t, r) for t, r, _ in harness.cluster.events] == [
        ("Warning", "ProviderUnavailable"),
        ("Warning", "SpecRejected"),
        ("Normal", "Recovered"),
    ]


class Odd(Exception):  # noqa: N818 - a bug of a provider
    """Tells what it should not."""


@pytest.mark.parametrize("where", ["get", "create"])
async def test_a_bug_is_told_without_any_of_its_words(
    harness: Harness, world: World, caplog: pytest.LogCaptureFixture, where: str
):
    world.trouble[where] = [Odd(f"{TOKEN} and {PASSWORD} in /usr/lib/python")]
    harness.apply(shelf={"password": {"secretKeyRef": {"name": "inside", "key": "password"}}})
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("InternalError", Again.RETRY)
    told = harness.everything_told()
    assert "A bug in the operator (Odd); its log has the details" in told
    for hidden in (TOKEN, PASSWORD, "Traceback", "/usr/lib", ".py"):
        assert hidden not in told
    assert "Odd" in caplog.text
    assert TOKEN not in caplog.text
    frames = [record.frames for record in caplog.records if hasattr(record, "frames")]
    assert any("shelf.py" in frame for frame in frames[-1])


async def test_a_secret_that_only_the_vendor_knows_is_in_no_log(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def read(self: ShelfIndex, id: str) -> Any:
        return self.params.model_validate({"dimension": "generated-by-vendor-Zz9"})

    monkeypatch.setattr(ShelfIndex, "read", read)
    harness.apply()
    assert (await harness.visit()).outcome == "InternalError"
    assert "ValidationError" in caplog.text
    assert "generated-by-vendor-Zz9" not in caplog.text + harness.everything_told()


async def test_a_failure_in_the_vendors_words_hides_secrets_in_every_spelling(
    harness: Harness, world: World
):
    odd = 'pa"ss/wörd %line one\nline two-9'
    harness.cluster.put_secret("inside", {"password": odd})
    words = (
        "refused: pa%22ss%2Fw%C3%B6rd%20%25line%20one%0Aline%20two-9, "
        r'{"password":"pa\"ss/w\u00f6rd %line one\nline two-9"}, '
        r'{"password":"pa\"ss/wörd %line one\nline two-9"}'
    )
    world.trouble["create"] = [Rejected(words)]
    harness.apply(shelf={"password": {"secretKeyRef": {"name": "inside", "key": "password"}}})
    await harness.visit()
    assert harness.ready["message"].count("<secret>") == 3
    told = harness.everything_told()
    assert not [part for part in ("ss/w", "line one", "ss%2F", "two-9") if part in told]


@pytest.mark.parametrize("write", ["patch_metadata", "write_status"])
async def test_a_cluster_that_does_not_answer_ends_the_visit_and_it_is_repeated(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch, write: str
):
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ClusterUnavailable("etcd has no leader")

    harness.apply()
    with monkeypatch.context() as patch:
        patch.setattr(harness.cluster, write, refuse)
        verdict = await harness.visit()
    assert verdict.again is Again.RETRY
    assert "conditions" not in harness.subject.status
    assert bool(world.things) is (write == "write_status"), "nothing is made without a finalizer"
    assert (await harness.visit()).outcome == "Ready"
    assert len(world.things) == 1
    await harness.remove()
    assert not world.things


@pytest.mark.parametrize("write", ["patch_metadata", "write_status", "publish"])
async def test_an_object_that_is_gone_is_let_go(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, write: str
):
    async def gone(*_: Any, **__: Any) -> Any:
        raise SubjectGone(NAME)

    harness.apply(outputs={"secretName": "out"})
    with monkeypatch.context() as patch:
        patch.setattr(harness.cluster, write, gone)
        assert (await harness.visit()).gone


async def test_no_visit_leaves_its_trail_to_the_next(harness: Harness, world: World):
    world.trouble["get"] = [Killed()]
    harness.apply()
    with pytest.raises(Killed):
        await harness.visit()
    assert trail.get() is None


async def test_a_change_that_failed_is_in_the_change_log_without_secrets(
    harness: Harness, world: World
):
    world.lost["create"] = [Unavailable(f"lost, said {TOKEN}")]
    harness.apply()
    await harness.visit()
    (record,) = harness.recorder.changes
    assert (record.action, record.outcome, record.message) == (
        "Create",
        "Unavailable",
        "lost, said <secret>",
    )
    assert record.calls == ("create 200",)


async def test_a_short_pause_is_not_told_while_calls_go_through(harness: Harness, world: World):
    await harness.make()
    (budget,) = harness.connections.budgets.values()
    budget._allowed = 50
    world.things[NAME].fields["replicas"] = 9
    world.trouble["update"] = [Throttled("slow down", 1.0)]
    harness.cluster.writes.clear()
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("RateLimited", Again.AFTER)
    assert harness.cluster.writes == []
    await harness.converge()
    assert world.things[NAME].fields["replicas"] == 1


async def test_a_short_pause_is_told_where_hardly_any_call_goes_through(
    harness: Harness, world: World
):
    harness.apply()
    for _ in range(10):
        world.trouble["get"] = [Throttled("slow down", 1.0)]
        await harness.visit()
        budget = next(iter(harness.connections.budgets.values()))
        budget._paused_until = 0.0
    assert harness.ready["reason"] == "RateLimited"


async def test_what_is_left_at_the_vendor_of_an_object_that_is_gone_is_told_without_secrets(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch, caplog
):
    async def gone(*_: Any, **__: Any) -> Any:
        del harness.cluster.subjects[harness.key]
        raise SubjectGone(NAME)

    world.trouble["delete"] = [Rejected(f"refused, said {TOKEN}")]
    harness.apply()
    with monkeypatch.context() as patch:
        patch.setattr(harness.cluster, "write_status", gone)
        assert (await harness.visit()).gone
    assert "is left there: refused, said <secret>" in caplog.text
    assert harness.recorder.changes[-1].message == "refused, said <secret>"


async def test_a_message_too_long_for_the_status_is_told_once(harness: Harness, world: World):
    world.trouble["get"] = [Rejected("no " * 2000), Rejected("no " * 2000)]
    harness.apply()
    await harness.visit()
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
