"""The blocks that every spec is built of: base model, bounded types, markers, secrets."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Base of everything a user writes: camelCase in YAML, snake_case in Python.

    The string under a field is its documentation for the reader and for `kubectl explain`.
    Unknown keys are ignored: the API server has pruned what the CRD does not know, and what is
    left over from an older version must not make an object unreadable.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    one_of: ClassVar[tuple[str, ...]] = ()
    """Fields (Python names) of which exactly one must be set; the CRD says so in CEL."""
    at_most_one_of: ClassVar[tuple[str, ...]] = ()
    """Fields (Python names) of which no more than one may be set."""
    rules: ClassVar[tuple["Rule", ...]] = ()
    """Further CEL rules on this object, enforced by the API server."""

    @model_validator(mode="after")
    def _choices(self) -> Self:
        cls = type(self)
        for fields, least in ((cls.one_of, 1), (cls.at_most_one_of, 0)):
            if fields:
                given = [name for name in fields if getattr(self, name) is not None]
                if not least <= len(given) <= 1:
                    names = ", ".join(alias_of(cls, name) for name in fields)
                    few = "exactly" if least else "at most"
                    raise ValueError(f"{few} one of {names} must be set")
        return self


def alias_of(model: type[BaseModel], name: str) -> str:
    """The YAML name of a model's field."""
    return model.model_fields[name].alias or name


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the CRD: `rule` must be true of `self`, else `message` is shown."""

    rule: str
    message: str
    field: str | None = None
    """YAML path below the object (such as `.scaling.max`) that the message points at."""


@dataclass(frozen=True, slots=True)
class Marker:
    """How the engine and the API server treat a field; put into `Annotated[...]`."""

    name: str


IMMUTABLE: Final = Marker("immutable")
"""Cannot change after creation: the API server refuses the edit, the engine never sends it."""
WRITE_ONLY: Final = Marker("writeOnly")
"""The vendor never tells the value; written again when the declared value or the vendor's own
version of it (`Observed.versions`) differs from what was recorded at the last write."""
CREATE_ONLY: Final = Marker("createOnly")
"""Sent at creation, then left to others."""
SHARED: Final = Marker("shared")
"""A map in which others may hold entries too: only the declared keys are compared, and a key is
removed at the vendor only if this object had set it."""
ENGINE: Final = Marker("engine")
"""Filled in by the engine, never part of the CRD."""
UNVERSIONED: Final = Marker("unversioned")
"""For kinds with revisions: belongs to the object as a whole, or can change while it serves. A new
value makes no new revision; `update` brings it, to all revisions where each has its own."""
GOVERNS: Final = Marker("governs")
"""Says how the engine keeps the object, and is nothing that the vendor has: it is never compared,
and a new value makes no new revision."""
DESTRUCTIVE: Final = Marker("destructive")
"""Changing it can lose data or break users: with `approval: Destructive` it waits for approval."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A list whose items are told apart by one field (its Python name), like a map."""

    field: str = "name"


@dataclass(frozen=True, slots=True)
class Deprecated:
    """A field on its way out: its description and a warning at admission say so.

    Not pydantic's own `deprecated`, which warns of every look at the field.
    """

    advice: str
    """What to do instead, such as `use scaling.max`."""


@cache
def deprecation(model: type[BaseModel], name: str) -> str | None:
    """What to do instead of setting a field that is on its way out; None for any other field."""
    found = (item for item in model.model_fields[name].metadata if isinstance(item, Deprecated))
    return next((item.advice for item in found), None)


@cache
def marked(model: type[BaseModel], name: str, marker: Marker) -> bool:
    """Whether a field carries a marker."""
    return marker in model.model_fields[name].metadata


@cache
def key_field(model: type[BaseModel], name: str) -> str | None:
    """The key of a keyed list field, or None for any other field."""
    for item in model.model_fields[name].metadata:
        if isinstance(item, Keyed):
            return item.field
    return None


ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
]
"""The name of a Kubernetes object."""
Namespace = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
ShortText = Annotated[str, Field(min_length=1, max_length=63)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
LongText = Annotated[str, Field(max_length=65536)]
Url = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$")]
Duration = Annotated[
    str, Field(min_length=2, max_length=32, pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")
]
"""A Go duration such as `90s`, `10m` or `1h30m`; `seconds()` reads it."""
TextMap = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(max_length=256)]
    ],
    Field(max_length=50),
]
"""Tags, labels and the like: at most 50 entries."""


CENTURY: Final = 100 * 365 * 24 * 3600.0
"""What is longer would end beyond all calendars."""


def seconds(duration: str) -> float:
    """Read a duration such as `1h30m` (validated by `Duration`) as seconds, a century at most."""
    factors = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    total, number, unit = 0.0, "", ""
    for char in [*duration, "0"]:
        if char.isdigit() or char == ".":
            if unit:
                total += float(number) * factors[unit]
                number, unit = "", ""
            number += char
        else:
            unit += char
    return min(total, CENTURY)


class SecretKeyRef(Model):
    """A key of a Secret in the object's own namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: SecretKey
    """Key within the Secret."""


class LabelSelector(Model):
    """Selects objects of one kind in the same namespace by their labels."""

    match_labels: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=317)],
            Annotated[str, Field(max_length=63)],
        ],
        Field(min_length=1, max_length=16),
    ]
    """Every label must be there with exactly this value."""


KindName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]


class Reference(Model):
    """Another integration in the same namespace, by name or by labels."""

    one_of = ("name", "selector")

    kind: KindName
    """Kind of the integration, such as VectorIndex."""
    name: ObjectName | None = None
    """Its name."""
    selector: LabelSelector | None = None
    """Labels it carries; every integration that matches counts."""


class OutputRef(Reference):
    """An output that another integration publishes in `status.outputs`."""

    output: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the output, such as host or url. A selector must match exactly one integration."""


class Resolved(Model):
    """A field whose value the engine looks up before a provider sees it.

    A provider reads it by `reveal()`; printing, comparing or dumping the model never shows it.
    """

    _value: SecretStr | None = PrivateAttr(default=None)
    _version: str = PrivateAttr(default="")

    def resolve(self, value: str, version: str) -> None:
        """Set the looked-up value and where it came from (an opaque version of the source)."""
        self._value, self._version = SecretStr(value), version

    def reveal(self) -> str:
        """The value itself. Raises LookupError if the engine has not resolved it."""
        if self._value is None:
            raise LookupError("the value was not resolved")
        return self._value.get_secret_value()

    @property
    def version(self) -> str:
        """Changes whenever the source of the value changes; tells nothing of the value."""
        return self._version


class SecretValue(Resolved):
    """A value taken from a Secret."""

    secret_key_ref: SecretKeyRef
    """Where the value is kept."""


class Value(Resolved):
    """A value: written here, taken from a Secret, or from another integration's outputs."""

    one_of = ("value", "secret_key_ref", "output_ref")

    value: Annotated[str, Field(max_length=49152)] | None = None
    """The value itself; not for secrets."""
    secret_key_ref: SecretKeyRef | None = None
    """Taken from a Secret in the same namespace."""
    output_ref: OutputRef | None = None
    """Taken from another integration's outputs; waits until it is ready."""


def is_secret(field: Resolved) -> bool:
    """Whether the value may be shown to nobody: it comes from a Secret."""
    return getattr(field, "secret_key_ref", None) is not None


def resolvables(value: Any) -> Iterator[Resolved]:
    """Every `Resolved` field below a model, list or map."""
    if isinstance(value, Resolved):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from resolvables(getattr(value, name, None))
    elif isinstance(value, dict):
        for item in value.values():
            yield from resolvables(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from resolvables(item)


class Params(Model):
    """What a provider is asked to keep: a kind's portable fields and the vendor's own.

    A kind's portable model derives from this; a provider's params derive from the kind's model
    and add the vendor's fields, which users write under `spec.<vendor>`.
    """

    name: Annotated[str, Field(max_length=512), ENGINE] = ""
    """The name at the vendor: `spec.externalName`, else the object's own name."""

    @classmethod
    def seen(cls, **fields: Any) -> Self:
        """What a vendor answered, in the desired model's own type, without validation.

        Fields left out are unknown: they are not compared. A field given as None is known to be
        absent at the vendor.
        """
        return cast("Self", cls.model_construct(set(fields), **fields))
