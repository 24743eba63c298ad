"""What an object declares: its spec, read with the provider's own model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from auterity.api.common import CommonSpec, DeletionPolicy
from auterity.api.fields import Params, alias_of
from auterity.api.kinds import KINDS, Kind
from auterity.engine.contract import Connector, Provider
from auterity.engine.errors import Rejected
from auterity.engine.subject import JSON, Subject

Providers = Mapping[tuple[str, str], type[Provider[Any, Any]]]


@dataclass(frozen=True, slots=True)
class Declared:
    """A spec that has been read."""

    kind: Kind
    common: CommonSpec
    provider: type[Provider[Any, Any]]
    want: Params
    """Secrets and references are not looked up yet."""

    @property
    def retains(self) -> bool:
        """Whether the vendor's object outlives this one."""
        policy = self.common.deletion_policy or self.kind.deletion_policy
        return policy is DeletionPolicy.RETAIN

    @property
    def name_path(self) -> str:
        """Where its name at the vendor stands in the manifest."""
        return "metadata.name" if self.common.external_name is None else "spec.externalName"

    @property
    def blocks(self) -> dict[str, str]:
        """The vendor's own fields (Python names), and the block that they stand in."""
        own = self.provider.params.model_fields.keys() - self.kind.params.model_fields.keys()
        return dict.fromkeys(own, f"spec.{self.provider.vendor}")

    def objections(self, want: Params, *, named: bool = False) -> list[str]:
        """What the provider objects to, by the fields' paths in the manifest.

        What is `named` already has a name that the vendor took.
        """
        return [
            f"{self._path(field)}: {text}"
            for field, text in self.provider.objections(want).items()
            if not (named and field == "name")
        ]

    def refuse(self, want: Params, *, named: bool = False) -> None:
        """Raises Rejected with all that the provider objects to."""
        if told := self.objections(want, named=named):
            raise Rejected("; ".join(told))

    def _path(self, field: str) -> str:
        if field == "name":
            return self.name_path
        alias = alias_of(self.provider.params, field)
        return f"{self.blocks.get(field, 'spec')}.{alias}"


def connectors(providers: Providers) -> dict[str, type[Connector]]:
    """The connection classes that the providers need, by the name of their block.

    Raises TypeError if two classes claim the same name.
    """
    found: dict[str, type[Connector]] = {}
    for provider in providers.values():
        cls = provider.connection
        if found.setdefault(cls.vendor, cls) is not cls:
            raise TypeError(f"two connections are called {cls.vendor}")
    return found


def vendor_of(kind: str, spec: JSON, providers: Providers) -> str | None:
    """The vendor whose block a spec has; None unless there is exactly one."""
    found = [name for name in spec if (kind, name) in providers]
    return found[0] if len(found) == 1 else None


def read(subject: Subject, providers: Providers) -> Declared:
    """Read an object's spec.

    Raises Rejected with the field's name if the spec is not what this version of the operator
    expects, which the API server would have refused: an object older than an upgrade.
    """
    kind = KINDS[subject.key.kind]
    vendor = vendor_of(kind.name, subject.spec, providers)
    if vendor is None:
        known = ", ".join(sorted(v for k, v in providers if k == kind.name)) or "none is installed"
        raise Rejected(f"spec must have exactly one vendor block, of: {known}")
    provider = providers[kind.name, vendor]
    block = subject.spec[vendor]
    try:
        common = CommonSpec.model_validate(subject.spec)
        portable = {k: v for k, v in subject.spec.items() if k != vendor}
        name = common.external_name or subject.key.name
        want = provider.params.model_validate({**portable, **(block or {}), "name": name})
    except ValidationError as error:
        raise Rejected(first_problem(error, _where(error, kind, vendor))) from None
    return Declared(kind, common, provider, want)


def first_problem(error: ValidationError, where: Sequence[str]) -> str:
    """The first problem that validation found, by the field's path in the manifest."""
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    path = ".".join([*where, *(str(part) for part in first["loc"])])
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _where(error: ValidationError, kind: Kind, vendor: str) -> list[str]:
    path = error.errors(include_url=False, include_input=False)[0]["loc"]
    portable = {info.alias for info in kind.params.model_fields.values()}
    common = {info.alias for info in CommonSpec.model_fields.values()}
    return ["spec"] if not path or path[0] in portable | common else ["spec", vendor]
