"""What a binding holds at GitHub, noted down in the repository itself."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from pydantic import Field, ValidationError

from auterity.api.fields import Model
from auterity.engine.errors import Conflict
from auterity.providers.github_actions.params import (
    PREFIX,
    Dispatch,
    GitHubActionsBinding,
    Key,
    branches_of,
    plain,
)


class Sent(Model):
    """The dispatches of a workflow."""

    sending: Dispatch | None = None
    """About to be sent; or sent, and the answer lost."""
    after: int = 0
    """The workflow's last run before that."""
    sent: Dispatch | None = None
    """The last one that was sent for sure."""
    run: int | None = None
    """The run that it started."""


class Ledger(Model):
    """What a binding holds, as a variable of the repository tells it.

    Written before anything is made and removed after all of it is gone, so that whatever happens
    in between, nothing is left behind unknown.
    """

    owner: str | None = None
    holds: list[Key] = Field(default_factory=list)
    branches: dict[str, str] = Field(default_factory=dict)
    """Branches of workflow files that are not on the default branch."""
    dispatches: dict[str, Sent] = Field(default_factory=dict)

    def holding(self, keys: Iterable[Key], want: GitHubActionsBinding) -> "Ledger":
        """With these keys, as they are spelled there, besides its own."""
        spelled = {plain(key): key for key in (*self.holds, *keys)}
        return self.model_copy(
            deep=True,
            update={
                "holds": sorted(spelled.values()),
                "branches": {**self.branches, **branches_of(want)},
            },
        )

    def names(self, kind: str) -> list[str]:
        """The names of environments, protected environments (`protection`) or workflows."""
        return [key[1] for key in self.holds if key == (kind, key[1])]

    def text(self) -> str:
        """As it is noted down."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    @classmethod
    def noted(cls, name: str, variables: dict[str, dict[str, Any]]) -> "Ledger | None":
        """The ledger of a binding among a repository's variables.

        Raises Conflict if someone has spoilt it.
        """
        note = variables.get(note_of(name))
        if note is None:
            return None
        try:
            return cls.model_validate_json(note["value"])
        except ValidationError:
            raise Conflict(
                f"the variable {note_of(name)} no longer tells what this binding holds; restore "
                "its value, or delete it and take over what is there by policy Adopt"
            ) from None


def note_of(name: str) -> str:
    """The name of the variable that a binding is noted down in."""
    return PREFIX + re.sub(r"[^A-Z0-9_]", "_", name.upper())


def unclaimed(id: str, keys: Iterable[Key]) -> str:
    """The id of what exists under these keys without being any binding's."""
    return f"{id}?{','.join('/'.join(quote(part, safe='') for part in key) for key in keys)}"


def parsed(id: str) -> tuple[str, str, list[Key]]:
    """An id's repository, the binding's name, and the keys of what is unclaimed."""
    repository, _, rest = id.partition("#")
    name, _, keys = rest.partition("?")
    unclaimed_keys = [key.split("/") for key in keys.split(",") if key]
    return repository, name, [tuple(unquote(part) for part in key) for key in unclaimed_keys]
