"""Connection and ClusterConnection: endpoint, credentials and budget for one vendor account."""

from typing import Annotated, ClassVar

from pydantic import Field

from auterity.api.common import ConditionedStatus
from auterity.api.fields import Duration, Model, Namespace, Text


class RateLimit(Model):
    """How hard the vendor may be asked, by all integrations of this connection together."""

    per_second: Annotated[float, Field(ge=0.01, le=10000)] | None = None
    """Calls a second on average; the vendor's documented limit if left out."""
    burst: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Calls that may be made at once after a quiet time."""
    concurrent: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Calls in flight at the same time."""


class ConnectionParams(Model):
    """What is needed to reach one vendor account; the block `spec.<vendor>` of a Connection.

    A subclass is declared where the vendor's transport is, and names its block by `vendor`.
    """

    vendor: ClassVar[str]
    """Name of the block in the Connection's spec, such as pinecone or aws."""
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=10, burst=20, concurrent=8)
    """The budget where the Connection declares none: the vendor's documented limits."""

    @property
    def billing_region(self) -> str | None:
        """The region whose prices hold for what it leads to; None: the connection does not say."""
        return None


class ConnectionSpec(Model):
    """Endpoint, credentials and budget for one vendor account."""

    rate_limit: RateLimit | None = None
    """Budget of calls shared by every integration that uses this connection."""
    interval: Duration = "10m"
    """How often the credentials are verified."""


class ClusterConnectionSpec(ConnectionSpec):
    """A connection for several namespaces."""

    secret_namespace: Namespace
    """Namespace of the Secrets named below."""
    allowed_namespaces: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63)]],
        Field(min_length=1, max_length=100),
    ]
    """Namespaces whose integrations may use it; `*` at the end matches any ending."""


class ConnectionStatus(ConditionedStatus):
    """Whether the connection works, and who we are there."""

    vendor: Annotated[str, Field(max_length=63)] | None = None
    """The vendor."""
    identity: Text | None = None
    """Who the credentials belong to, as the vendor tells."""
    expires_at: Annotated[str, Field(max_length=64)] | None = None
    """When the credentials expire, if the vendor tells."""
