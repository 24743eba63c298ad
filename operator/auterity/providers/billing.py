"""What is paid for by the hour, where several vendors count it in the same way."""

from collections.abc import Sequence

from auterity.api.model_deployment import Scaling
from auterity.api.tuning_job import Method, TuningJob
from auterity.engine.contract import Billed

Bill = Sequence[Billed] | None
"""What `Provider.billed` tells."""


def of_replicas(item: str, scaling: Scaling, each: int = 1, *, spot: bool = False) -> Billed:
    """Every replica has `each` of it.

    Spot machines may be taken away at any time, and cost no more than the price that is listed.
    """
    most = (scaling.max or scaling.min) * each
    return Billed(item, 0 if spot else scaling.min * each, most)


def of_machines(item: str, count: int, *, spot: bool = False) -> Billed:
    """So many of it while a job runs, where nothing scales."""
    return Billed(item, 0 if spot else count, count)


def by_tokens(want: TuningJob) -> Bill:
    """A job that is paid for by the tokens that it learns from.

    Except where it learns from a grader: that takes time, which is paid for, on machines of the
    vendor's choice.
    """
    return None if want.method is Method.REINFORCEMENT else ()
