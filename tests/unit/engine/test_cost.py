"""What integrations cost by the hour, and what budgets refuse or warn of."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any, ClassVar

import pytest

from auterity.api.cost import BudgetSpec, Limit
from auterity.api.kinds import BUDGET, KINDS, LOCAL, PRICED
from auterity.api.model_deployment import ModelDeployment
from auterity.api.tuning_job import TuningJob
from auterity.cli.output import Table
from auterity.cli.plan import _parts, exit_code
from auterity.engine import reconcile
from auterity.engine.advice import Adviser
from auterity.engine.budgets import Budgeting, dearest, money
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.contract import Billed, Observed, Phase, Provider
from auterity.engine.cost import STANDS_BACK, Estimate, estimate, excess
from auterity.engine.declared import connectors
from auterity.engine.errors import Unavailable
from auterity.engine.plan import Action, DraftCluster, Planner
from auterity.engine.prices import PriceList, Prices
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.tally import Use
from auterity.engine.verdict import Verdict, Waits
from auterity.engine.visit import Engine
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import Harness
from tests.unit.engine.shelf import WORLDS, Shelf, ShelfConnection, ShelfSession, Thing, World
from tests.unit.engine.test_runs import Runs, ShelfRun, ShelfRunParams

PRICES = Prices(
    [
        PriceList(
            vendor="shelf",
            as_of=date(2026, 11, 9),
            source="the shelf's page",
            region="north",
            items={"small": 0.1, "large": 1.5, "run": 2},
        )
    ]
)


class ShelfModelParams(ModelDeployment):
    """A model on the shelf."""

    by_use: bool = False


class ShelfModel(Provider[ShelfModelParams, ShelfSession]):
    """Paid for by its replicas."""

    kind, vendor = "ModelDeployment", "shelf"
    params, connection = ShelfModelParams, ShelfConnection

    async def read(self, id: str) -> Observed[ShelfModelParams] | None:
        def seen() -> Observed[ShelfModelParams] | None:
            if (thing := self.session.world.things.get(id)) is None:
                return None
            return Observed(id, self.params.seen(**thing.fields), thing.phase, thing.owner)

        return await self.session.call("GET", id, seen)

    async def create(self, want: ShelfModelParams, owner: str) -> str:
        await self.session.call("create", want.name, lambda: self._keep(want, owner))
        return want.name

    async def update(
        self, id: str, want: ShelfModelParams, changed: frozenset[str], owner: str
    ) -> None:
        await self.session.call("update", id, lambda: self._keep(want, owner))

    async def delete(self, id: str) -> None:
        await self.session.call("delete", id, lambda: self.session.world.things.pop(id, None))

    def _keep(self, want: ShelfModelParams, owner: str) -> None:
        fields = {name: getattr(want, name) for name in ("hardware", "scaling")}
        self.session.world.things[want.name] = Thing(want.name, fields, owner)

    @classmethod
    def billed(cls, want: ShelfModelParams) -> Sequence[Billed] | None:
        if want.by_use:
            return ()
        if want.hardware is None:
            return None
        return [Billed(want.hardware, want.scaling.min, want.scaling.max or 1)]


class Models(Shelf):
    provider = ShelfModel
    spec: ClassVar[JSON] = {"model": {"name": "m"}, "hardware": "small", "shelf": {}}


class Town:
    """A namespace with models and budgets, visited one by one."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.cluster = harness, harness.cluster
        self.restart()

    def restart(self) -> None:
        """A new process of the operator."""
        self.harness.restart()
        old = self.harness.engine
        self.engine = Engine(
            cluster=old.cluster,
            connections=old.connections,
            providers=old.providers,
            listings=old.listings,
            observer=old.observer,
            changes=old.changes,
            prices=PRICES,
        )

    @property
    def world(self) -> World:
        return WORLDS[self.harness.vendor.address]  # type: ignore[attr-defined]  # it is a Shelf

    def declare(self, name: str, replicas: int = 1, **more: Any) -> Key:
        spec = {
            "connectionRef": {"name": "vendor"},
            **Models.spec,
            "scaling": {"min": min(replicas, 1), "max": max(replicas, 1)},
            "deletionPolicy": "Delete",
            **more,
        }
        return self.cluster.put("ModelDeployment", name, spec)

    def budget(self, hourly: float, name: str = "all", **more: Any) -> Key:
        return self.cluster.put(BUDGET, name, {"hourly": hourly, **more})

    def of(self, name: str, kind: str = "ModelDeployment") -> Subject:
        return self.cluster.subjects[Key(kind, NAMESPACE, name)]

    def cost(self, name: str) -> JSON:
        return self.of(name).status.get("cost") or {}

    def said(self, name: str, kind: str = "ModelDeployment") -> str:
        return (self.of(name, kind).condition("Ready") or {})["message"]

    async def visit(self, name: str) -> Verdict:
        return await reconcile.visit(self.engine, self.of(name))

    async def settle(self, name: str) -> str:
        for _ in range(10):
            verdict = await self.visit(name)
            if verdict.outcome != "Progressing":
                break
        return verdict.outcome

    async def reckon(self, name: str = "all") -> Verdict:
        return await Budgeting(self.cluster, self.of(name, BUDGET)).visit()

    @property
    def warned(self) -> list[str]:
        return [text for type_, reason, text in self.cluster.events if reason == "OverBudget"]


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    vendor = Models()
    harness = Harness(vendor)
    await harness.start()
    yield Town(harness)
    await harness.stop()
    await vendor.stop()


# What it costs


def test_an_estimate_is_of_the_fewest_and_the_most_replicas():
    want = ShelfModelParams.model_validate(
        {**Models.spec, "scaling": {"min": 0, "max": 3}, "name": "m"}
    )
    told = estimate(ShelfModel, want, PRICES, "north")
    assert told == Estimate(0.0, 0.3, "prices in north of 2026-11-09, the shelf's page")


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("south", "prices in north, since none is known for south, of 2026-11-09"),
        (None, "prices in north, since the connection names no region, of 2026-11-09"),
    ],
)
def test_prices_of_another_region_are_told_to_be_so(region, words):
    want = ShelfModelParams.model_validate({**Models.spec, "name": "m"})
    told = estimate(ShelfModel, want, PRICES, region)
    assert told is not None
    assert words in told.basis


def test_what_has_no_price_is_named():
    want = ShelfModelParams.model_validate({**Models.spec, "hardware": "huge", "name": "m"})
    told = estimate(ShelfModel, want, PRICES, "north")
    assert told == Estimate(None, None, "no price is known for huge at shelf in north")


def test_what_is_paid_by_use_costs_nothing_by_the_hour():
    want = ShelfModelParams.model_validate({**Models.spec, "byUse": True, "name": "m"})
    told = estimate(ShelfModel, want, PRICES, "north")
    assert told is not None
    assert (told.least, told.most) == (0.0, 0.0)
    assert excess(told, Limit(hourly=0.1), "spec.budget", "shelf", [Use(_KEY, most=9.0)]) is None


_KEY = Key("ModelDeployment", NAMESPACE, "other")


@pytest.mark.parametrize(
    ("amount", "told"),
    [(0, "0.00"), (2, "2.00"), (0.115, "0.115"), (0.0052, "0.0052"), (1234.5, "1234.50")],
)
def test_amounts_have_two_digits_and_more_where_they_count(amount, told):
    assert money(amount) == told


def test_a_message_names_the_dearest_first_and_not_all():
    used = [Use(Key("ModelDeployment", NAMESPACE, f"m{n}"), most=float(n)) for n in range(6)]
    told = "ModelDeployment m5 (5.00), ModelDeployment m4 (4.00), ModelDeployment m3 (3.00)"
    assert dearest(used) == f"{told} and 2 more"


def test_every_kind_that_has_a_budget_tells_its_cost_and_no_other_does():
    assert set(PRICED) == {"ModelDeployment", "TuningJob"}
    for kind in KINDS.values():
        priced = kind.name in PRICED
        assert ("cost" in kind.status.model_fields) is priced
        assert ("budget" in kind.params.model_fields) is priced
    assert LOCAL[BUDGET].about == PRICED


async def test_the_cost_is_in_the_status_and_a_visit_at_rest_writes_nothing(town: Town):
    town.declare("a", 3)
    assert await town.settle("a") == "Ready"
    assert town.cost("a") == {
        "currency": "USD",
        "least": 0.1,
        "most": 0.3,
        "basis": "prices in north, since the connection names no region, of 2026-11-09, "
        "the shelf's page",
        "generation": 1,
    }
    town.cluster.writes.clear()
    await town.visit("a")
    assert town.cluster.writes == []


async def test_without_any_budget_an_unknown_price_stops_nothing(town: Town):
    town.declare("a", hardware="huge")
    assert await town.settle("a") == "Ready"
    assert "most" not in town.cost("a")
    assert town.cost("a")["basis"] == "no price is known for huge at shelf"
    town.declare("b", hardware=None)
    assert await town.settle("b") == "Ready"
    assert town.cost("b") == {}


# A budget of one object


async def test_an_object_beyond_its_own_budget_is_not_made(town: Town):
    town.declare("a", 3, budget={"hourly": 0.2})
    verdict = await town.visit("a")
    assert verdict.outcome == "OverBudget"
    assert town.said("a") == (
        "it would cost up to 0.30 USD an hour, and spec.budget allows 0.20: it is not made"
    )
    assert (town.of("a").condition("Stalled") or {})["status"] == "True"
    assert town.world.things == {}
    assert town.cost("a") == {}
    town.declare("a", 2, budget={"hourly": 0.2})
    assert await town.settle("a") == "Ready"
    assert town.cost("a")["most"] == 0.2


async def test_what_runs_goes_on_as_it_was_when_it_asks_for_too_much(town: Town):
    town.declare("a", 2, budget={"hourly": 0.25})
    await town.settle("a")
    town.world.calls.clear()
    town.declare("a", 3, budget={"hourly": 0.25})
    assert await town.settle("a") == "OverBudget"
    assert town.world.calls == []
    assert town.said("a").endswith("spec.budget allows 0.25: it is left as it was")
    assert town.cost("a")["most"] == 0.2, "what was granted"
    assert "id" in town.of("a").status
    town.declare("a", 2, budget={"hourly": 0.25})
    assert await town.settle("a") == "Ready"


async def test_a_budget_that_is_lowered_later_stops_nothing_and_is_told_once(town: Town):
    town.declare("a", 2)
    await town.settle("a")
    town.declare("a", 2, budget={"hourly": 0.1})
    assert await town.settle("a") == "Ready"
    words = "it may cost up to 0.20 USD an hour, and spec.budget allows 0.10"
    assert town.said("a") == f"shelf has what the spec says; {words}"
    town.cluster.writes.clear()
    await town.visit("a")
    assert town.cluster.writes == []
    assert town.warned == [words]
    town.declare("a", 1, budget={"hourly": 0.1})
    assert await town.settle("a") == "Ready"
    assert town.said("a") == "shelf has what the spec says"


async def test_a_warning_stops_nothing_and_is_told_once(town: Town):
    town.declare("a", 3, budget={"hourly": 0.2, "onExceed": "Warn"})
    assert await town.settle("a") == "Ready"
    assert len(town.warned) == 1
    assert "spec.budget allows 0.20" in town.said("a")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"hardware": "huge"}, "no price is known for huge at shelf"),
        ({"hardware": None}, "cost what cannot be estimated at shelf"),
    ],
)
async def test_an_unknown_price_is_refused_by_a_budget_and_told_by_a_warning(town, more, words):
    town.declare("a", budget={"hourly": 5}, **more)
    assert await town.settle("a") == "OverBudget"
    assert words in town.said("a")
    town.declare("b", budget={"hourly": 5, "onExceed": "Warn"}, **more)
    assert await town.settle("b") == "Ready"
    assert words in town.said("b")


async def test_what_is_observed_is_estimated_and_never_refused(town: Town):
    town.world.things["a"] = Thing("a", {"hardware": "small"})
    town.budget(0.01)
    town.declare("a", 3, policy="Observe", budget={"hourly": 0.01})
    assert await town.settle("a") in ("Observed", "Ready")
    assert town.cost("a")["most"] == 0.3
    await town.reckon()
    assert town.of("all", BUDGET).status["most"] == 0, "it is someone else's"


async def test_a_suspended_object_is_left_alone(town: Town):
    town.declare("a", 3, suspend=True, budget={"hourly": 0.1})
    assert await town.settle("a") == "Suspended"
    assert town.cost("a") == {}


# A budget of a namespace


async def test_the_second_is_refused_and_made_once_the_first_is_gone(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    town.declare("b", 2)
    assert await town.settle("a") == "Ready"
    verdict = await town.visit("b")
    assert verdict.outcome == "OverBudget"
    assert town.said("b") == (
        "it would cost up to 0.20 USD an hour, and Budget 'all' allows 0.30, of which too much is "
        "used: it is not made"
    )
    assert Waits(BUDGET, NAMESPACE) in verdict.waits
    assert set(town.world.things) == {"a"}
    told = await town.reckon()
    assert told.outcome == "Ready"
    assert Waits("ModelDeployment", NAMESPACE) in told.waits
    town.cluster.delete(Key("ModelDeployment", NAMESPACE, "a"))
    await town.visit("a")
    assert await town.settle("b") == "Ready"
    assert set(town.world.things) == {"b"}


async def test_two_at_once_are_not_both_granted_what_is_left(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    town.declare("b", 2)
    found = await asyncio.gather(town.visit("a"), town.visit("b"))
    assert sorted(verdict.outcome for verdict in found) == ["OverBudget", "Ready"]
    assert len(town.world.things) == 1


async def test_a_grant_is_written_before_anything_is_made(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    seen = []
    town.world.before["create"] = lambda: seen.append(town.cost("a").get("most"))
    await town.settle("a")
    assert seen == [0.2]


async def test_a_grant_that_cannot_be_written_is_none(town: Town, monkeypatch):
    town.budget(0.3)
    town.declare("a", 2)
    town.declare("b", 2)
    write = town.cluster.write_status

    async def down(subject: Subject, status: JSON, **_: bool) -> Subject:
        raise ClusterUnavailable("the API server is down")

    monkeypatch.setattr(town.cluster, "write_status", down)
    await town.visit("a")
    assert town.world.things == {}
    monkeypatch.setattr(town.cluster, "write_status", write)
    assert await town.settle("b") == "Ready"
    assert await town.settle("a") == "OverBudget"


async def test_a_death_after_a_grant_costs_nothing_and_gives_nothing_away(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    town.declare("b", 2)
    town.world.trouble["create"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        await town.visit("a")
    town.restart()
    assert await town.settle("b") == "OverBudget"
    assert await town.settle("a") == "Ready"


async def test_an_object_that_asks_for_less_is_never_refused(town: Town):
    town.declare("a", 4)
    await town.settle("a")
    town.budget(0.2)
    town.declare("a", 3)
    assert await town.settle("a") == "Ready"
    assert town.cost("a")["most"] == 0.3
    assert "Budget 'all' allows 0.20" in town.said("a")


async def test_what_costs_less_is_given_back_only_once_the_vendor_has_less(town: Town):
    town.budget(0.4)
    town.declare("a", 4)
    await town.settle("a")
    town.declare("a", 1)
    town.declare("b", 3)
    town.world.trouble["update"] = [Unavailable("the shelf is closed")]
    assert await town.settle("a") == "ProviderUnavailable"
    assert town.cost("a")["most"] == 0.4, "four of them stand there"
    assert await town.settle("b") == "OverBudget"
    town.harness.forgive()
    assert await town.settle("a") == "Ready"
    assert (town.cost("a")["most"], town.cost("a")["generation"]) == (0.1, 2)
    assert await town.settle("b") == "Ready"


async def test_what_was_only_observed_asks_when_it_is_to_be_managed(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    await town.settle("a")
    for there in (False, True):
        if there:
            town.world.things["b"] = Thing("b", {"hardware": "small"})
        town.declare("b", 2, policy="Observe")
        assert await town.settle("b") == ("Observed" if there else "NotFound")
        town.declare("b", 2, policy="Adopt")
        assert await town.settle("b") == "OverBudget"
    town.budget(0.4)
    assert await town.settle("b") == "Adopting"
    assert await town.settle("b") == "Ready"


async def test_a_refusal_says_the_same_whoever_else_takes_more(town: Town):
    town.budget(0.4)
    town.declare("a", 2)
    town.declare("b", 3)
    await town.settle("a")
    first = await town.visit("b")
    assert first.seconds == STANDS_BACK, "what changed since it looked has woken nobody"
    second = await town.visit("b")
    assert second.seconds > STANDS_BACK
    town.declare("c", 1)
    await town.settle("c")
    town.cluster.writes.clear()
    await town.visit("b")
    assert town.cluster.writes == []


async def test_what_is_only_being_granted_to_another_is_looked_at_again_soon(town: Town):
    town.budget(0.3)
    town.declare("a", 2)
    town.declare("b", 2)
    with town.engine.grants.held(town.of("a").key, 0.2):
        await town.visit("b")
        verdict = await town.visit("b")
    assert (verdict.outcome, verdict.seconds) == ("OverBudget", STANDS_BACK)
    assert await town.settle("b") == "Ready"
    assert not town.engine.grants


async def test_a_price_that_rises_stops_nothing_that_runs(town: Town):
    town.budget(0.25)
    town.declare("a", 2)
    await town.settle("a")
    dearer = PriceList(
        vendor="shelf", as_of=date(2026, 12, 1), source="a contract", items={"small": 0.2}
    )
    town.engine = Engine(
        cluster=town.engine.cluster,
        connections=town.engine.connections,
        providers=town.engine.providers,
        listings=town.engine.listings,
        observer=town.engine.observer,
        changes=town.engine.changes,
        prices=Prices([dearer]),
    )
    assert await town.settle("a") == "Ready"
    assert town.cost("a")["most"] == 0.4
    assert town.cost("a")["basis"] == "prices of 2026-12-01, a contract"
    assert "Budget 'all' allows 0.25" in town.said("a")
    await town.reckon()
    assert (town.of("all", BUDGET).condition("Ready") or {})["reason"] == "OverBudget"


async def test_every_budget_of_the_namespace_counts_and_the_strictest_decides(town: Town):
    town.budget(5, "wide")
    town.budget(0.1, "narrow", onExceed="Warn")
    town.declare("a", 2)
    assert await town.settle("a") == "Ready"
    assert "Budget 'narrow' allows 0.10" in town.said("a")
    town.cluster.put(BUDGET, "elsewhere", {"hourly": 0.01}, namespace="other")
    town.budget(0.15, "narrow")
    town.declare("a", 3)
    assert await town.settle("a") == "OverBudget"
    assert "elsewhere" not in town.said("a")


async def test_a_budget_tells_what_is_used_and_writes_only_what_is_new(town: Town):
    town.budget(1)
    await town.reckon()
    assert town.said("all", BUDGET) == "Up to 0.00 of 1.00 USD an hour is used"
    town.declare("a", 3)
    town.declare("b", hardware="huge")
    await town.settle("a")
    await town.settle("b")
    await town.reckon()
    status = town.of("all", BUDGET).status
    assert (status["least"], status["most"], status["objects"]) == (0.1, 0.3, 1)
    assert "unpriced" not in status, "it was refused"
    town.budget(1, onExceed="Warn")
    await town.settle("b")
    await town.reckon()
    assert town.of("all", BUDGET).status["unpriced"] == ["ModelDeployment b"]
    assert town.said("all", BUDGET) == (
        "Up to 0.30 of 1.00 USD an hour is used, by ModelDeployment a (0.30); no price is known "
        "for 1: see status.unpriced"
    )
    town.cluster.writes.clear()
    await town.reckon()
    assert town.cluster.writes == []


async def test_a_budget_that_is_exceeded_says_so_once_and_when_it_is_no_more(town: Town):
    town.declare("a", 3)
    await town.settle("a")
    town.budget(0.2)
    await town.reckon()
    ready = town.of("all", BUDGET).condition("Ready") or {}
    assert (ready["status"], ready["reason"]) == ("False", "OverBudget")
    assert ready["message"] == (
        "Up to 0.30 of 0.20 USD an hour is used, by ModelDeployment a (0.30); what would cost more "
        "is refused"
    )
    await town.reckon()
    assert len(town.warned) == 1
    town.budget(0.4)
    await town.reckon()
    assert [reason for _, reason, _ in town.cluster.events][-1] == "Recovered"


async def test_a_budget_that_cannot_be_read_refuses_nothing_and_says_so(town: Town):
    town.budget(-1)
    town.declare("a", 3)
    assert await town.settle("a") == "Ready"
    assert (await town.reckon()).outcome == "SpecRejected"


async def test_a_budget_goes_at_once(town: Town):
    key = town.budget(1)
    await town.reckon()
    town.cluster.subjects[key].deleting = True
    assert (await town.reckon()).gone


async def test_what_expires_costs_nothing_any_more(town: Town):
    town.declare("a", 3, ttl="1h")
    await town.settle("a")
    town.cluster.pass_(hours=2)
    assert await town.settle("a") == "Expired"
    assert town.cost("a") == {}


# Before anything is stored


async def test_a_plan_tells_what_it_would_cost_and_what_would_be_refused(town: Town):
    budget = town.budget(0.3)
    keys = [town.declare(name, 2) for name in ("a", "b")]
    draft = DraftCluster("testcluster", dict(town.cluster.subjects), town.cluster.secret)
    planner = Planner(draft, town.engine.providers, allow_insecure=True, prices=PRICES)
    found = sorted(await planner.plans(keys), key=lambda plan: plan.action)
    await planner.close()
    assert [plan.action for plan in found] == [Action.CREATE, Action.FAIL]
    assert found[0].cost is not None
    assert found[0].cost["most"] == 0.2
    assert f"Budget {budget.name!r} allows 0.30" in found[1].message
    assert exit_code(found) == 1
    tables = [part for part in _parts(found, [], "table") if isinstance(part, Table)]
    (costs,) = [table for table in tables if "Costs an hour" in table.columns]
    assert [row[1] for row in costs.rows] == ["0.10 to 0.20 USD"]
    assert town.world.things == {}


@pytest.fixture
def adviser(town: Town) -> Adviser:
    providers = town.engine.providers
    return Adviser(town.cluster, providers, connectors(providers), PRICES)


def test_admission_refuses_what_is_beyond_its_own_budget(town: Town, adviser: Adviser):
    town.declare("a", 3, budget={"hourly": 0.2})
    advice = adviser.on_write(town.of("a"), None)
    assert advice.refusals == [
        "spec.budget: it would cost up to 0.30 USD an hour, and spec.budget allows 0.20"
    ]
    town.declare("b", 3, budget={"hourly": 0.2, "onExceed": "Warn"})
    advice = adviser.on_write(town.of("b"), None)
    assert advice.refusals == []
    assert "spec.budget allows 0.20" in advice.warnings[0]
    town.declare("c", 3, policy="Observe", budget={"hourly": 0.2})
    assert adviser.on_write(town.of("c"), None).warnings == []


async def test_admission_lets_a_budget_be_lowered_and_warns(town: Town, adviser: Adviser):
    town.declare("a", 2, budget={"hourly": 1})
    await town.settle("a")
    old = town.of("a")
    town.declare("a", 2, budget={"hourly": 0.1})
    advice = adviser.on_write(town.of("a"), old)
    assert advice.refusals == []
    assert "spec.budget allows 0.10" in advice.warnings[0]
    town.declare("a", 3, budget={"hourly": 0.1})
    assert "spec.budget allows 0.10" in adviser.on_write(town.of("a"), old).refusals[0]


async def test_admission_warns_of_what_a_budget_has_no_room_for(town: Town, adviser: Adviser):
    town.budget(0.3)
    town.declare("a", 2)
    await town.settle("a")
    town.declare("b", 2)
    advice = adviser.on_write(town.of("b"), None)
    assert advice.refusals == []
    assert advice.warnings == [
        (
            "it would cost up to 0.20 USD an hour, and Budget 'all' allows 0.30, of which 0.20 is "
            "used by ModelDeployment a (0.20)"
        )
    ]
    assert adviser.on_write(town.of("all", BUDGET), None).refusals == []
    town.budget(-1)
    assert "spec.hourly" in adviser.on_write(town.of("all", BUDGET), None).refusals[0]


# Runs


class PaidRun(ShelfRun):
    """A run that is paid for by the hour."""

    @classmethod
    def billed(cls, want: ShelfRunParams) -> Sequence[Billed]:
        return [Billed("run")] if want.base_model else []


class PaidRuns(Runs):
    provider = PaidRun


@pytest.fixture
async def runs() -> AsyncIterator[Town]:
    vendor = PaidRuns()
    harness = Harness(vendor)
    await harness.start()
    yield Town(harness)
    await harness.stop()
    await vendor.stop()


@pytest.mark.parametrize(("phase", "outcome"), [("READY", "Ready"), ("FAILED", "ProviderFailed")])
async def test_a_run_that_has_ended_costs_nothing_any_more(runs: Town, phase: str, outcome: str):
    assert issubclass(PaidRun.params, TuningJob)
    runs.budget(2)
    spec = {"connectionRef": {"name": "vendor"}, "baseModel": "base", "shelf": {}}
    for name in ("a", "b"):
        runs.cluster.put("TuningJob", name, spec)

    async def visit(name: str) -> str:
        subject = runs.of(name, "TuningJob")
        return (await reconcile.visit(runs.engine, subject)).outcome

    assert await visit("a") == "Progressing"
    assert runs.of("a", "TuningJob").status["cost"]["most"] == 2
    assert await visit("b") == "OverBudget"
    runs.world.things["run-1"].phase = Phase[phase]
    assert await visit("a") == outcome
    assert runs.of("a", "TuningJob").status["cost"]["most"] == 0
    runs.cluster.writes.clear()
    assert await visit("a") == outcome
    assert runs.cluster.writes == []
    assert await visit("b") == "Progressing"


def test_a_budget_is_read_as_it_is_written():
    assert BudgetSpec.model_validate({"hourly": 2}).on_exceed == "Refuse"
