"""A Secret at Modal, which Apps get their environment from (https://modal.com/docs/guide/secrets).

Modal tells the names of what is in it, and never a value.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from auterity.api.model_deployment import EnvironmentVariable
from auterity.engine.errors import NotFound
from auterity.transport.labels import OUR_LABELS
from auterity.transport.modal import JSON, ModalSession

LONGEST: Final = 64


def secret_name(app: str) -> str:
    """What the Secret of an App is called."""
    return f"{OUR_LABELS}{app}"


class ModalSecret:
    """One Secret, by its name."""

    def __init__(self, session: ModalSession, name: str) -> None:
        self.session, self.name = session, name

    async def read(self) -> list[str] | None:
        """The names of what is in it; None if there is no such Secret."""
        told = await self._find()
        return None if told is None else sorted(told.get("metadata", {}).get("keys", ()))

    async def create(self, variables: Sequence[EnvironmentVariable]) -> None:
        """Make it. Raises Conflict if there is one of that name."""
        await self._ask(
            object_creation_type="OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS",
            env_dict={one.name: one.reveal() for one in variables},
        )

    async def update(
        self, variables: Sequence[EnvironmentVariable], names: Collection[str]
    ) -> None:
        """Bring what these names have, and remove those that are not declared."""
        if (told := await self._find()) is None:
            await self.create(variables)
            return
        values = {one.name: one.reveal() for one in variables}
        # Without a value it is removed.
        updates: list[dict[str, Any]] = [
            {"key": name, "value": values[name]} if name in values else {"key": name}
            for name in sorted(names)
        ]
        await self.session.call("SecretUpdate", secret_id=told["secret_id"], updates=updates)

    async def delete(self) -> None:
        """Delete it; absent is fine."""
        if told := await self._find():
            with suppress(NotFound):
                await self.session.call("SecretDelete", secret_id=told["secret_id"])

    async def _find(self) -> JSON | None:
        try:
            return await self._ask()
        except NotFound:
            return None

    async def _ask(self, **how: Any) -> JSON:
        return await self.session.call(
            "SecretGetOrCreate",
            deployment_name=self.name,
            environment_name=self.session.environment,
            **how,
        )
