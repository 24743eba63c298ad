"""What an integration costs by the hour, and budgets: of one object, and of a namespace."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from auterity.api.common import ConditionedStatus, Status
from auterity.api.fields import GOVERNS, Model, Params, Text

Amount = Annotated[float, Field(ge=0, le=1_000_000_000)]
MOST_NAMED = 20
"""Most objects that a budget's status names."""


class OnExceed(StrEnum):
    """What happens to what would cost more than a budget allows."""

    REFUSE = "Refuse"
    WARN = "Warn"


class Limit(Model):
    """How much may be spent."""

    hourly: Annotated[float, Field(ge=0.0001, le=1_000_000)]
    """Most US dollars an hour, as status.cost.most estimates them."""
    on_exceed: OnExceed = OnExceed.REFUSE
    """Refuse: what would cost more, or has no known price, is neither made nor changed. Warn: it
    is, and the Ready condition and an Event say so. What runs already is never stopped."""


class Priced(Params):
    """Base of the portable models of kinds that may be paid for by the hour."""

    budget: Annotated[Limit | None, GOVERNS] = None
    """Most that this object may cost."""


class Cost(Model):
    """What it costs by the hour, by list prices: an estimate from what is declared."""

    currency: Annotated[str, Field(max_length=3)] = "USD"
    """What the amounts are in."""
    least: Amount | None = None
    """With the fewest replicas; not there where no price is known."""
    most: Amount | None = None
    """With the most replicas: what budgets go by. Not there where no price is known."""
    basis: Text
    """Which prices it is reckoned by, or what has no price."""
    generation: int
    """The generation of the spec that it is about, which is the last one that was not refused; -1
    where it is only observed, so that no budget was asked."""


class PricedStatus(Status):
    """The truth about an integration that may be paid for by the hour."""

    cost: Cost | None = None
    """What it costs by the hour; of what a budget refuses, what it cost before."""
    asking: Amount | None = None
    """What it asks the budgets of its namespace for, for a moment, until that is granted or
    refused. Only there where several replicas may ask at once."""


class BudgetSpec(Limit):
    """The most that the integrations of a namespace may cost by the hour, all together.

    Every integration that is paid for by the hour and not only observed counts, with what it costs
    at most. One that would be too much waits, and is made or changed once there is room.
    """


class BudgetStatus(ConditionedStatus):
    """The truth about a budget."""

    currency: Annotated[str, Field(max_length=3)] | None = None
    """What the amounts are in."""
    least: Amount | None = None
    """What the integrations cost by the hour at least, as far as prices are known."""
    most: Amount | None = None
    """What they cost by the hour at most, as far as prices are known; compared with hourly."""
    objects: int | None = None
    """How many of them are paid for by the hour."""
    unpriced: (
        Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=MOST_NAMED)] | None
    ) = None
    """Integrations whose price is not known, so that they do not count: kind and name of the first
    few."""
