"""Marks in labels."""

import pytest

from auterity.transport.labels import owner_labels, owner_of


@pytest.mark.parametrize(
    "owner",
    ["kind/models/churn", "a.b+c/Team_1/x--y", f"{'c' * 60}/{'n' * 50}/x", "ü/é/ß"],
)
def test_a_mark_survives_labels(owner: str):
    labels = owner_labels(owner)
    assert all(len(value) <= 63 for value in labels.values())
    assert owner_of({"team": "a", **labels}) == owner
    assert owner_of({"team": "a"}) is None
