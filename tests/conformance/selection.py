"""Marks of tests that are about some of the vendors: for the others they are not collected."""

import pytest

from auterity.api.kinds import KINDS

of_runs = pytest.mark.vendors(that=lambda vendor: KINDS[vendor.provider.kind].runs_once)
of_what_lasts = pytest.mark.vendors(that=lambda vendor: not KINDS[vendor.provider.kind].runs_once)
"""A run is made once: nothing of it is ever changed."""
