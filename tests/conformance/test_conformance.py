"""What every provider must do, whatever its vendor; with faults at every call."""

import pytest

from auterity.engine.subject import Key
from tests.conformance.cluster import NAMESPACE
from tests.conformance.faults import RETRY_AFTER, Fault
from tests.conformance.harness import NAME, Harness
from tests.conformance.selection import of_runs, of_what_lasts
from tests.conformance.thoroughness import calls_to_try
from tests.conformance.vendor import merged

FAULTS = list(Fault)


def test_every_provider_has_a_stand_in_and_every_stand_in_a_provider(all_vendors):
    from auterity.providers import catalogue

    assert set(catalogue()) == {
        (cls.provider.kind, cls.provider.vendor) for cls in all_vendors.values()
    }
    assert {f"{kind}-{vendor}" for kind, vendor in catalogue()} <= set(all_vendors)


async def test_absent_is_none(harness: Harness):
    provider = await harness.opened()
    want = provider.params.seen(**_want_fields(harness))
    located = await provider.locate(want)
    assert located is None or await provider.read(located) is None


async def test_a_created_object_is_ready_and_the_next_visit_writes_nothing(harness: Harness):
    await harness.make()
    assert await harness.vendor.count() > harness.baseline
    harness.cluster.writes.clear()
    harness.forget_faults()
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert harness.cluster.writes == []
    assert harness.vendor_writes() == []


async def test_a_creation_takes_at_most_two_writes_to_the_api_server(harness: Harness):
    harness.apply()
    await harness.converge()
    if not harness.vendor.has_pending and harness.provider.marks_owner:
        assert harness.cluster.writes == ["metadata", "status"]
    assert harness.cluster.writes.count("metadata") <= 2


async def test_a_drift_check_by_list_sees_what_a_read_sees(harness: Harness):
    if not harness.provider.lists:
        pytest.skip(f"{harness.provider.vendor} has no list with all that a comparison needs")
    await harness.make()
    provider = await harness.opened()
    read = await provider.read(harness.subject.status["id"])
    listed = [seen async for seen in provider.read_all()]
    assert read is not None
    assert [seen for seen in listed if seen.id == read.id] == [read]


@of_what_lasts
async def test_every_edit_converges_and_is_silent_after(harness: Harness):
    await harness.make()
    before = await harness.read()
    assert before is not None
    for edit in harness.vendor.edits:
        harness.apply(merged(type(harness.vendor).spec, edit.patch))
        await harness.converge()
        assert harness.ready["status"] == "True", (edit.name, harness.ready)
        harness.cluster.writes.clear()
        harness.forget_faults()
        verdict = await harness.visit()
        assert (verdict.outcome, harness.vendor_writes()) == ("Ready", []), edit.name
        assert harness.cluster.writes == [], edit.name
        after = await harness.read()
        assert after is not None
        assert after.owner == before.owner, f"{edit.name} lost the owner's mark"
    harness.apply()
    await harness.converge()
    assert harness.ready["status"] == "True", ("back to the first spec", harness.ready)


@of_what_lasts
async def test_an_edit_is_in_the_change_log(harness: Harness):
    await harness.make()
    edit = harness.vendor.edits[0]
    harness.apply(merged(type(harness.vendor).spec, edit.patch))
    await harness.converge()
    records = {(r.action, r.cause) for r in harness.recorder.changes if r.outcome == "Succeeded"}
    assert {("Create", "Spec"), ("Update", "Spec")} <= records
    update = next(r for r in harness.recorder.changes if r.action == "Update")
    assert update.fields
    assert update.calls
    assert update.owner == f"testcluster/{NAMESPACE}/{NAME}"


@of_what_lasts
async def test_an_outside_change_is_seen_and_undone(harness: Harness):
    id = await harness.make()
    field = await harness.vendor.tamper(id)
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready
    assert any(_within(seen, field) for seen in harness.recorder.drift), harness.recorder.drift
    assert any(reason == "DriftReverted" for _, reason, _ in harness.cluster.events)
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []


@of_what_lasts
async def test_an_outside_change_is_only_reported_if_asked(harness: Harness):
    id = await harness.make(driftPolicy="Report")
    field = await harness.vendor.tamper(id)
    harness.forget_faults()
    verdict = await harness.converge()
    assert verdict.outcome == "Drifted", harness.ready
    assert harness.ready["status"] == "True"
    assert harness.vendor_writes() == []
    assert any(_within(d["field"], field) for d in harness.subject.status["drift"])
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []


@of_what_lasts
async def test_what_vanished_is_made_anew(harness: Harness):
    id = await harness.make()
    full = await harness.vendor.count()
    await harness.vendor.vanish(id)
    await harness.converge()
    assert harness.ready["status"] == "True"
    assert await harness.vendor.count() == full
    assert any(reason == "Vanished" for _, reason, _ in harness.cluster.events)


@of_runs
async def test_a_run_that_vanished_is_not_repeated(harness: Harness):
    id = await harness.make()
    outputs = harness.subject.status["outputs"]
    await harness.vendor.vanish(id)
    harness.forget_faults()
    verdict = await harness.converge()
    assert verdict.outcome == "Ready"
    assert harness.subject.status["outputs"] == outputs
    assert harness.vendor_writes() == []


@of_runs
async def test_a_run_is_stopped_when_it_is_let_go_of(harness: Harness):
    assert harness.vendor.has_pending
    harness.vendor.slow = True
    harness.apply(deletionPolicy="Retain")
    assert (await harness.visit()).outcome == "Progressing"
    harness.forget_faults()
    await harness.remove()
    assert harness.vendor_writes()
    assert {(r.action, r.outcome) for r in harness.recorder.changes} >= {("Cancel", "Succeeded")}
    assert any(reason == "Retained" for _, reason, _ in harness.cluster.events)


async def test_an_immutable_field_is_refused_without_any_write(harness: Harness):
    patch = harness.vendor.immutable
    if patch is None:
        pytest.skip(f"{harness.provider.vendor} has no immutable field")
    await harness.make()
    harness.apply(merged(type(harness.vendor).spec, patch))
    harness.forget_faults()
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected", harness.ready
    assert harness.condition("Stalled")
    assert harness.vendor_writes() == []


async def test_an_object_of_another_owner_is_left_alone(harness: Harness):
    if not harness.provider.marks_owner:
        pytest.skip(f"objects at {harness.provider.vendor} cannot carry an owner's mark")
    for policy in ("Manage", "Adopt"):
        await harness.vendor.reset()
        await harness.vendor.foreign(type(harness.vendor).spec, NAME, "other/cluster/object")
        harness.forget_faults()
        harness.apply(policy=policy)
        verdict = await harness.converge()
        assert verdict.outcome == "Conflict", (policy, harness.ready)
        assert "other/cluster/object" in harness.ready["message"]
        assert harness.vendor_writes() == []


async def test_an_object_without_a_mark_is_left_alone_unless_adopted(harness: Harness):
    await harness.vendor.foreign(type(harness.vendor).spec, NAME, None)
    harness.forget_faults()
    harness.apply()
    verdict = await harness.converge()
    assert verdict.outcome == "Conflict", harness.ready
    assert "Adopt" in harness.ready["message"]
    assert harness.vendor_writes() == []
    harness.apply(policy="Adopt")
    shown = await harness.visit()
    assert shown.outcome == "Adopting"
    assert harness.subject.status["plan"]["action"] == "Adopt"
    assert harness.vendor_writes() == []
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready
    observed = await harness.read()
    assert observed is not None
    if harness.provider.marks_owner:
        assert observed.owner == f"testcluster/{NAMESPACE}/{NAME}"


async def test_observe_only_reads(harness: Harness):
    harness.apply(policy="Observe")
    verdict = await harness.converge()
    assert verdict.outcome == "NotFound"
    await harness.vendor.foreign(type(harness.vendor).spec, NAME, None)
    verdict = await harness.converge()
    assert verdict.outcome == "Observed", harness.ready
    held = await harness.vendor.count()
    await harness.remove()
    assert harness.vendor_writes() == []
    assert await harness.vendor.count() == held


async def test_deletion_leaves_nothing_and_can_be_repeated(harness: Harness):
    id = await harness.make()
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline
    provider = await harness.opened()
    await provider.delete(id)
    assert await harness.vendor.count() == harness.baseline


async def test_retain_leaves_it_at_the_vendor_and_says_so(harness: Harness):
    id = await harness.make(deletionPolicy="Retain")
    held = await harness.vendor.count()
    harness.forget_faults()
    await harness.remove()
    assert harness.vendor_writes() == []
    assert await harness.vendor.count() == held
    assert any(r == "Retained" and id in message for _, r, message in harness.cluster.events)


async def test_nothing_is_changed_while_pending(harness: Harness):
    if not harness.vendor.has_pending:
        pytest.skip(f"{harness.provider.vendor} finishes everything at once")
    harness.vendor.slow = True
    harness.apply()
    verdict = await harness.visit()
    assert verdict.outcome == "Progressing", harness.ready
    assert harness.condition("Reconciling")
    if harness.vendor.edits:
        harness.apply(merged(type(harness.vendor).spec, harness.vendor.edits[0].patch))
    harness.forget_faults()
    verdict = await harness.visit()
    assert verdict.outcome == "Progressing"
    assert harness.vendor_writes() == []
    harness.vendor.slow = False
    await harness.vendor.settle()
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready


async def test_a_refusal_is_shown_in_the_vendors_words(harness: Harness):
    refusal = harness.vendor.refusal
    if refusal is None:
        pytest.skip(f"{harness.provider.vendor} refuses nothing that the schema allows")
    harness.apply(merged(type(harness.vendor).spec, refusal.patch))
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected", harness.ready
    assert refusal.words.lower() in harness.ready["message"].lower()
    assert harness.condition("Stalled")
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == [], "the same refusal must give the same status"
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_wrong_credentials_are_told_and_new_ones_work(harness: Harness):
    right = {n: dict(d) for n, d in harness.vendor.secrets.items()}
    for name, data in harness.vendor.wrong_secrets.items():
        harness.cluster.put_secret(name, {**right.get(name, {}), **data})
    harness.apply()
    verdict = await harness.converge()
    assert verdict.outcome == "CredentialsRejected", harness.ready
    assert harness.condition("Stalled")
    for name, data in right.items():
        harness.cluster.put_secret(name, data)
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready


async def test_the_connection_tells_who_we_are(harness: Harness):
    verdict = await harness.connections.visit(harness.cluster.subjects[harness.connection])
    assert verdict.outcome == "Ready"
    status = harness.cluster.subjects[harness.connection].status
    assert status["identity"]
    harness.cluster.writes.clear()
    await harness.connections.visit(harness.cluster.subjects[harness.connection])
    assert harness.cluster.writes == []


async def test_a_rotated_secret_reaches_the_vendor(harness: Harness):
    if not harness.vendor.rotated_secrets:
        pytest.skip(f"the spec of {harness.provider.vendor} has no secrets")
    id = await harness.make()
    for name, data in harness.vendor.rotated_secrets.items():
        harness.cluster.put_secret(name, {**harness.vendor.secrets[name], **data})
    await harness.converge()
    assert harness.ready["status"] == "True"
    told = await harness.vendor.told(id)
    for data in harness.vendor.rotated_secrets.values():
        for value in data.values():
            assert value in told
    harness.forget_faults()
    harness.cluster.writes.clear()
    await harness.visit()
    assert (harness.vendor_writes(), harness.cluster.writes) == ([], [])


async def test_a_missing_secret_is_waited_for(harness: Harness):
    if not harness.vendor.secrets:
        pytest.skip(f"{harness.provider.vendor} needs no Secret here")
    kept = dict(harness.cluster.secrets)
    harness.cluster.secrets.clear()
    harness.apply()
    verdict = await harness.visit()
    assert verdict.outcome == "DependencyNotReady", harness.ready
    assert "Secret" in harness.ready["message"]
    assert harness.condition("Reconciling")
    harness.cluster.secrets.update(kept)
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready


@pytest.mark.parametrize("fault", [Fault.THROTTLED_SECONDS, Fault.THROTTLED_DATE])
async def test_throttling_pauses_the_connection_as_long_as_the_vendor_asks(
    harness: Harness, fault: Fault
):
    _only_over_http(harness)
    harness.apply()
    await harness.opened()
    harness.proxy.clear()
    harness.proxy.plan = {0: fault}
    verdict = await harness.visit()
    assert verdict.outcome == "RateLimited", harness.ready
    assert RETRY_AFTER - 2 <= verdict.seconds <= RETRY_AFTER
    seen = harness.proxy.seen
    verdict = await harness.visit()
    assert (verdict.outcome, harness.proxy.seen) == ("RateLimited", seen), "paused means no call"
    await harness.converge()
    assert harness.ready["status"] == "True"


async def test_any_fault_at_any_call_of_a_creation_is_survived(harness: Harness):
    full = await _calls_of_creation(harness)
    await _with_faults(harness, full, "creation", harness.make, harness.remove)


@of_what_lasts
async def test_any_fault_at_any_call_of_an_update_is_survived(harness: Harness):
    await harness.make()
    full = await harness.vendor.count()
    first = type(harness.vendor).spec
    edited = merged(first, harness.vendor.edits[0].patch)

    async def edit() -> None:
        harness.apply(edited)
        await harness.converge()
        assert harness.ready["status"] == "True", harness.ready

    async def back() -> None:
        harness.apply(first)
        await harness.converge()
        assert await harness.vendor.count() == full

    harness.forget_faults()
    await edit()
    calls = harness.proxy.seen if harness.endpoint else harness.script.seen
    await back()
    await _with_faults(harness, calls, "update", edit, back)


async def test_any_fault_at_any_call_of_a_deletion_is_survived(harness: Harness):
    await harness.make()
    harness.forget_faults()
    await harness.remove()
    calls = harness.proxy.seen if harness.endpoint else harness.script.seen

    async def delete() -> None:
        harness.cluster.delete(harness.key)
        while harness.key in harness.cluster.subjects:
            await harness.converge()
            if harness.key not in harness.cluster.subjects:
                break
            assert harness.subject.kept
        assert await harness.vendor.count() == harness.baseline, "the finalizer was dropped early"

    async def make() -> None:
        await harness.make()

    for number, faults in _faults_at(harness, calls, "deletion"):
        for fault in faults:
            harness.forget_faults()
            await make()
            harness.forget_faults()
            _plan(harness, number, fault)
            await delete()


async def test_death_between_any_two_calls_leaks_nothing(harness: Harness):
    await harness.make()
    full = await harness.vendor.count()
    await harness.remove()
    harness.forget_faults()
    await harness.make()
    calls = harness.script.seen
    await harness.remove()
    for number in calls_to_try(harness.vendor, calls, "death"):
        for when in _deaths(harness):
            harness.forget_faults()
            setattr(harness.script, when, number)
            harness.apply()
            await harness.converge_in_spite_of_death()
            assert harness.ready["status"] == "True", (number, when, harness.ready)
            assert await harness.vendor.count() == full, (number, when)
            harness.forget_faults()
            await harness.remove()
            assert await harness.vendor.count() == harness.baseline, (number, when)


async def test_death_in_a_deletion_leaks_nothing(harness: Harness):
    await harness.make()
    harness.forget_faults()
    await harness.remove()
    calls = harness.script.seen
    for number in calls_to_try(harness.vendor, calls, "death in a deletion"):
        for when in _deaths(harness):
            harness.forget_faults()
            await harness.make()
            harness.forget_faults()
            setattr(harness.script, when, number)
            harness.cluster.delete(harness.key)
            while harness.key in harness.cluster.subjects:
                await harness.converge_in_spite_of_death()
            assert await harness.vendor.count() == harness.baseline, (number, when)


async def test_a_call_that_was_overtaken_on_its_way_does_not_go_out(harness: Harness):
    harness.apply()
    harness.script.overtaken = True
    await harness.visit()
    assert harness.proxy.seen == 0
    assert {call[2] for call in harness.recorder.calls} == {"fenced"}
    assert all(budget.breaker == "closed" for budget in harness.connections.budgets.values())
    harness.script.overtaken = False
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready


async def test_a_deleted_connection_does_not_lose_the_object(harness: Harness):
    await harness.make()
    connection = harness.cluster.subjects.pop(harness.connection)
    await harness.connections.close()
    harness.restart()
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert verdict.outcome == "DependencyNotReady"
    assert harness.subject.kept
    harness.cluster.subjects[Key(*connection.key)] = connection
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_the_operator_notices_an_object_of_an_older_schema(harness: Harness):
    old: dict[str, object] = {harness.provider.vendor: {"unheardOf": True}}
    if not any(field.is_required() for field in harness.provider.params.model_fields.values()):
        spec = type(harness.vendor).spec
        old |= {next(name for name, value in spec.items() if isinstance(value, str)): ["a", "list"]}
    harness.apply(old)
    verdict = await harness.visit()
    assert verdict.outcome == "SpecRejected", harness.ready
    assert "spec" in harness.ready["message"]
    assert harness.vendor_writes() == []


def _within(seen: str, field: str) -> bool:
    """Whether a path that was shown is the tampered field, with or without the vendor's block."""
    return f".{seen}.".find(f".{field}.") >= 0 or f".{field}.".find(f".{seen}.") >= 0


def _want_fields(harness: Harness) -> dict[str, object]:
    vendor = harness.provider.vendor
    spec = type(harness.vendor).spec
    flat = {**{k: v for k, v in spec.items() if k != vendor}, **spec.get(vendor, {}), "name": NAME}
    want = harness.provider.params.model_validate(flat)
    return {name: getattr(want, name) for name in type(want).model_fields}


def _only_over_http(harness: Harness) -> None:
    if harness.endpoint is None:
        pytest.skip(f"{harness.provider.vendor} does not speak HTTP; its faults come at the door")


async def _calls_of_creation(harness: Harness) -> int:
    await harness.make()
    await harness.remove()
    harness.forget_faults()
    await harness.make()
    calls = harness.proxy.seen if harness.endpoint else harness.script.seen
    await harness.remove()
    return calls


def _faults_at(harness: Harness, calls: int, test: str) -> list[tuple[int, list[Fault]]]:
    if harness.endpoint is None:
        pair = [Fault.LOST_REQUEST, Fault.LOST_ANSWER]
        return [(number, pair) for number in range(calls)]
    if type(harness.vendor).fast:
        return [(number, FAULTS) for number in range(calls)]
    numbers = calls_to_try(harness.vendor, calls, test)
    return [(number, [FAULTS[number % len(FAULTS)]]) for number in numbers]


def _deaths(harness: Harness) -> tuple[str, ...]:
    """A death after a call is, for the vendor, the one before the next: one will do if slow."""
    return ("kill_before", "kill_after") if type(harness.vendor).fast else ("kill_after",)


def _plan(harness: Harness, number: int, fault: Fault) -> None:
    if harness.endpoint is not None:
        harness.proxy.plan = {number: fault}
    elif fault is Fault.LOST_REQUEST:
        harness.script.fail_before = number
    else:
        harness.script.fail_after = number


async def _with_faults(harness: Harness, calls: int, test: str, act, undo) -> None:
    """Act with each fault at each call, and undo; the vendor must hold the same each time."""
    await act()
    full = await harness.vendor.count()
    await undo()
    for number, faults in _faults_at(harness, calls, test):
        for fault in faults:
            harness.forget_faults()
            _plan(harness, number, fault)
            await act()
            assert await harness.vendor.count() == full, f"{fault} at call {number}"
            harness.forget_faults()
            await undo()
