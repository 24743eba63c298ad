"""Values that nobody expects: they are told, or cut, and never take the object out of service."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from auterity.api.annotations import REQUESTED_AT
from auterity.api.common import Status
from auterity.engine.errors import Throttled
from auterity.engine.verdict import Again
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import World

AGES = "9" * 31 + "h"
"""As long as a duration may be."""


def fits(harness: Harness) -> None:
    """The API server would take the status."""
    TypeAdapter(Status).validate_python(harness.subject.status)


async def test_a_request_of_any_length_is_handled_and_echoed_as_far_as_it_fits(harness: Harness):
    await harness.make()
    harness.subject.annotations[REQUESTED_AT] = "now " * 1000
    assert (await harness.visit()).outcome == "Ready"
    fits(harness)
    assert harness.subject.status["lastHandledReconcileAt"].startswith("now now")
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []


@pytest.mark.parametrize("field", ["ttl", "interval"])
async def test_a_time_beyond_all_calendars_is_one_that_does_not_come(harness: Harness, field: str):
    harness.apply(**{field: AGES})
    verdict = await harness.converge()
    assert (verdict.outcome, verdict.again) == ("Ready", Again.AFTER)


@pytest.mark.parametrize("interval", ["0s", "0ms", "1ms", "0.0001ms"])
async def test_no_interval_is_so_short_that_nothing_else_is_done(harness: Harness, interval: str):
    await harness.make(interval=interval)
    assert (await harness.visit(urgent=False)).seconds >= 1


async def test_the_vendor_may_have_entries_of_any_length(harness: Harness, world: World):
    labels: Any = {"dimension": 8, "shelf": {"labels": {"a": "b"}}}
    harness.apply(labels, driftPolicy="Report")
    await harness.converge()
    world.things[NAME].fields["labels"]["x" * 2000] = "y" * 2000
    assert (await harness.visit(urgent=False)).outcome == "Drifted"
    fits(harness)
    (drift,) = harness.subject.status["drift"]
    assert drift["field"].startswith("shelf.labels.xxx")
    harness.cluster.writes.clear()
    assert (await harness.visit(urgent=False)).outcome == "Drifted"
    assert harness.cluster.writes == []


async def test_a_vendor_that_asks_for_ages_of_patience_is_asked_again_before(
    harness: Harness, world: World
):
    # Some tell the second of the epoch where they should tell how many are left.
    world.trouble["get"] = [Throttled("slow", 1_764_000_000.0)]
    harness.apply()
    verdict = await harness.visit()
    assert verdict.outcome == "RateLimited"
    assert verdict.seconds <= 24 * 3600
    (budget,) = harness.connections.budgets.values()
    assert budget.held_for <= 24 * 3600


async def test_more_than_can_be_remembered_is_refused_before_anything_is_written(
    harness: Harness, world: World
):
    def variables(count: int) -> Any:
        told = [{"name": f"V{n}", "value": {"value": "v"}} for n in range(count)]
        return {"dimension": 8, "shelf": {"variables": told}}

    harness.apply(variables(501))
    assert (await harness.visit()).outcome == "SpecRejected"
    assert "501 values" in harness.ready["message"]
    assert not world.things
    harness.apply(variables(500))
    await harness.converge()
    fits(harness)
    harness.apply(variables(501))
    assert (await harness.visit()).outcome == "SpecRejected"
    assert len(world.things[NAME].fields["variables"]) == 500
