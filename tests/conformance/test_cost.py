"""Budgets hold, and are no edit of what a vendor has; at every vendor of a kind that may cost."""

import pytest

from auterity.api.cost import Priced
from tests.conformance.harness import Harness
from tests.conformance.selection import of_what_lasts

TINY = {"hourly": 0.0001}
of_what_costs = pytest.mark.vendors(that=lambda vendor: issubclass(vendor.provider.params, Priced))


@of_what_costs
async def test_what_is_beyond_its_budget_is_not_made_and_is_once_it_may_cost_more(
    harness: Harness,
):
    harness.apply(budget=TINY)
    harness.forget_faults()
    await harness.converge()
    if harness.ready["reason"] != "OverBudget":
        assert harness.subject.status["cost"]["most"] == 0, "it is paid for by use"
        return
    assert await harness.vendor.count() == harness.baseline
    assert harness.vendor_writes() == []
    known = (harness.subject.status.get("cost") or {}).get("most")
    assert known is None, "nothing was granted"
    harness.apply(budget={**TINY, "onExceed": "Warn"})
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert [text for _, reason, text in harness.cluster.events if "it may cost" in text]
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []


@of_what_costs
@of_what_lasts
async def test_a_budget_is_no_edit_of_what_the_vendor_has(harness: Harness):
    await harness.make()
    harness.forget_faults()
    harness.apply(budget={**TINY, "onExceed": "Warn"})
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert harness.vendor_writes() == []
