"""CIPipelineBinding: what a repository's pipelines need, kept at its CI system."""

from typing import Annotated

from pydantic import Field

from auterity.api.fields import IMMUTABLE, Keyed, Model, Params, Value

EntryName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Entry(Value):
    """A named value for pipelines."""

    name: EntryName
    """Name that pipelines use."""


Entries = Annotated[list[Entry], Keyed("name"), Field(max_length=100)]


class Environment(Model):
    """A deployment environment with its own secrets and variables."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    """Name of the environment, such as production."""
    secrets: Entries = Field(default_factory=list)
    """Secrets that only jobs of this environment see."""
    variables: Entries = Field(default_factory=list)
    """Variables that only jobs of this environment see."""


class CIPipelineBinding(Params):
    """Secrets, variables, environments and workflows of a repository at a CI system."""

    repository: Annotated[
        Annotated[str, Field(min_length=3, max_length=512, pattern=r"^[^/\s]+(/[^/\s]+)+$")],
        IMMUTABLE,
    ]
    """Path of the repository, such as acme/shop. Cannot change."""
    secrets: Entries = Field(default_factory=list)
    """Secrets for every pipeline of the repository; the vendor never tells their values."""
    variables: Entries = Field(default_factory=list)
    """Variables for every pipeline of the repository."""
    environments: Annotated[list[Environment], Keyed("name"), Field(max_length=20)] = Field(
        default_factory=list
    )
    """Deployment environments."""
