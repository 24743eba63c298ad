"""A plan is what the visit then does, and making it changes nothing; at every vendor."""

from copy import deepcopy

from auterity.engine.plan import Action, DraftCluster, Plan, Planner
from tests.conformance.harness import Harness
from tests.conformance.selection import of_what_lasts
from tests.conformance.vendor import merged


async def planned(harness: Harness) -> Plan:
    """The plan of the harness's object; nothing is written anywhere while it is made."""

    async def state() -> tuple[int, list[str], list[str]]:
        written = harness.vendor_writes()
        return await harness.vendor.count(), list(harness.cluster.writes), list(written)

    before = await state()
    draft = DraftCluster(
        harness.cluster.identity, deepcopy(harness.cluster.subjects), harness.cluster.secret
    )
    provider = harness.provider
    planner = Planner(draft, {(provider.kind, provider.vendor): provider}, allow_insecure=True)
    try:
        return (await planner.plans([harness.key]))[0]
    finally:
        await planner.close()
        assert await state() == before


async def test_a_plan_foresees_a_creation(harness: Harness):
    harness.apply()
    plan = await planned(harness)
    assert plan.action is Action.CREATE, plan
    assert plan.changes
    await harness.converge()
    assert next(record.action for record in harness.recorder.changes) == "Create"


async def test_a_plan_foresees_nothing_where_all_is_well(harness: Harness):
    await harness.make()
    harness.forget_faults()
    assert (await planned(harness)).action is Action.NONE


@of_what_lasts
async def test_a_plan_foresees_the_very_fields_of_an_edit(harness: Harness):
    await harness.make()
    edit = harness.vendor.edits[0]
    harness.apply(merged(type(harness.vendor).spec, edit.patch))
    plan = await planned(harness)
    assert plan.action is Action.UPDATE, plan
    harness.recorder.changes.clear()
    await harness.converge()
    update = next(r for r in harness.recorder.changes if r.action == "Update")
    assert update.fields == tuple(change["field"] for change in plan.changes)


@of_what_lasts
async def test_a_plan_foresees_that_drift_is_undone_or_left(harness: Harness):
    id = await harness.make()
    await harness.vendor.tamper(id)
    harness.forget_faults()
    plan = await planned(harness)
    assert plan.action is Action.UPDATE, plan
    harness.apply(driftPolicy="Report")
    harness.subject.status["syncedGeneration"] = harness.subject.generation
    plan = await planned(harness)
    assert (plan.action, bool(plan.drift)) == (Action.NONE, True), plan


@of_what_lasts
async def test_a_plan_foresees_that_what_vanished_is_made_anew(harness: Harness):
    id = await harness.make()
    await harness.vendor.vanish(id)
    await harness.vendor.settle()
    harness.cluster.pass_(hours=1)
    harness.forget_faults()
    plan = await planned(harness)
    assert plan.action is Action.CREATE, plan


async def test_a_plan_tells_no_secret(harness: Harness):
    harness.apply()
    told = repr(await planned(harness))
    for data in type(harness.vendor).secrets.values():
        assert not [value for value in data.values() if value in told]
