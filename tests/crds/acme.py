"""A vendor of this test's own, so that every rule of the schema has something to refuse."""

from typing import Annotated, ClassVar

from pydantic import Field

from auterity.api.connection import ConnectionParams
from auterity.api.fields import IMMUTABLE, Keyed, Model, Params, SecretValue, ShortText, TextMap
from auterity.api.kinds import Kind


class Encryption(Model):
    """How data is encrypted."""

    key: Annotated[ShortText | None, IMMUTABLE] = None
    """Key. Cannot change."""
    rotate: bool = False
    """Whether the key is rotated."""


class Shard(Model):
    """A shard."""

    name: ShortText
    """Name."""
    zone: Annotated[ShortText, IMMUTABLE]
    """Zone. Cannot change."""


class Extras(Model):
    """What Acme adds to every kind."""

    one_of: ClassVar[tuple[str, ...]] = ("tier", "pods")

    tier: ShortText | None = None
    """Serverless tier."""
    pods: Annotated[int, Field(ge=1, le=10)] | None = None
    """Pods."""
    region: Annotated[ShortText, IMMUTABLE] = "eu"
    """Region. Cannot change."""
    note: Annotated[ShortText | None, IMMUTABLE] = None
    """Note. Cannot change."""
    encryption: Encryption | None = None
    shards: Annotated[list[Shard], Keyed("name"), Field(max_length=5)] = Field(default_factory=list)
    """Shards."""
    tags: TextMap = Field(default_factory=dict)
    """Tags."""
    peers: Annotated[set[ShortText], Field(max_length=3)] = Field(default_factory=set)
    """Peers."""


def acme(kind: Kind) -> type[Params]:
    """Acme's params for a kind."""
    return type(f"Acme{kind.name}", (Extras, kind.params), {"__doc__": "What only Acme has."})


def zenith(kind: Kind) -> type[Params]:
    """The params of another vendor, which adds nothing."""
    return type(f"Zenith{kind.name}", (kind.params,), {"__doc__": "What only Zenith has."})


class AcmeConnection(ConnectionParams):
    """An account at Acme."""

    vendor = "acme"

    api_key: SecretValue
    """Its key."""


class ZenithConnection(ConnectionParams):
    """An account at Zenith."""

    vendor = "zenith"
