"""Several replicas of the operator."""

import time
from collections.abc import Callable

from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE

Start = Callable[..., OperatorProcess]
"""Starts a replica: the fixture `start`."""
TAKEN_OVER_WITHIN = 20.0
"""Seconds, on a slow machine too. Eight of them are the Lease's; 15 are promised."""


def agree(*replicas: OperatorProcess, seconds: float = PATIENCE) -> float:
    """Wait until all these and no others share the objects; how long it took."""
    begun = time.monotonic()
    for each in replicas:
        each.wait_until_ready()
    while any(each.metric("auterity_replicas") != len(replicas) for each in replicas):
        assert time.monotonic() - begun < seconds, "the replicas do not agree"
        time.sleep(0.1)
    return time.monotonic() - begun
