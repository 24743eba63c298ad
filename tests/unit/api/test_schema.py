"""Every rule by which a model becomes a structural schema, and every refusal."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, SecretStr

from auterity.api.fields import (
    ENGINE,
    IMMUTABLE,
    Deprecated,
    Keyed,
    Model,
    Resolved,
    Rule,
    SecretValue,
    ShortText,
    TextMap,
    Value,
)
from auterity.api.schema import RULES, SchemaError, structural

Short = Annotated[str, Field(max_length=8)]


class Size(StrEnum):
    """How big it is."""

    SMALL = "small"
    LARGE = "large"


class Part(Model):
    """A part of it."""

    part_name: ShortText
    """Its name."""
    weight: Annotated[int, Field(ge=0, le=9)] | None = None
    """Its weight."""


def schema(model: type[Model]) -> dict[str, Any]:
    return structural(model, "spec")


def field(model: type[Model], name: str = "f") -> dict[str, Any]:
    found: dict[str, Any] = schema(model)["properties"][name]
    return found


def refusal(model: type[Model]) -> str:
    with pytest.raises(SchemaError) as told:
        structural(model, "spec")
    return str(told.value)


def rule_about(node: dict[str, Any], words: str) -> dict[str, Any]:
    (found,) = [rule for rule in node[RULES] if words in rule["message"]]
    return dict(found)


def test_a_field_keeps_its_type_bounds_default_and_documentation() -> None:
    class M(Model):
        f: Annotated[int, Field(ge=1, le=5)] = 2
        """What it is for,
        on two lines.

        And another paragraph."""

    assert field(M) == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "default": 2,
        "description": "What it is for, on two lines.\n\nAnd another paragraph.",
    }


def test_names_are_camel_case_and_required_ones_are_listed() -> None:
    made = schema(Part)

    assert made["required"] == ["partName"]
    assert set(made["properties"]) == {"partName", "weight"}


def test_references_are_inlined_and_the_fields_own_text_wins() -> None:
    class M(Model):
        f: Part
        """Where it is used."""
        g: Part

    assert field(M)["properties"]["partName"]["maxLength"] == 63
    assert field(M)["description"] == "Where it is used."
    assert field(M, "g")["description"] == "A part of it."
    assert "$" not in str(schema(M))


def test_an_optional_field_is_its_type_and_may_be_left_out() -> None:
    class M(Model):
        f: Short | None = None
        """Text."""

    assert field(M) == {"type": "string", "maxLength": 8, "description": "Text."}
    assert "required" not in schema(M)


def test_enumerations_and_literals_become_enums() -> None:
    class M(Model):
        f: Size = Size.SMALL
        """Size."""
        g: Literal["a", "b"] | None = None
        """Choice."""
        h: Literal["only"] = "only"
        """One."""

    assert field(M)["enum"] == ["small", "large"]
    assert field(M)["default"] == "small"
    assert field(M, "g")["enum"] == ["a", "b"]
    assert field(M, "h")["enum"] == ["only"]


def test_containers_and_objects_get_no_default() -> None:
    class M(Model):
        f: Annotated[list[Short], Field(max_length=3)] = Field(default=["a"])
        """List."""
        g: TextMap = Field(default_factory=dict)
        """Map."""
        h: Part = Part(part_name="x")
        """Object."""

    assert not [name for name, node in schema(M)["properties"].items() if "default" in node]


def test_sets_and_keyed_lists_say_so() -> None:
    class M(Model):
        f: Annotated[set[Short], Field(max_length=3)]
        """Set."""
        h: Annotated[list[Part] | None, Keyed("part_name"), Field(max_length=3)] = None
        """Keyed."""

    assert field(M)["x-kubernetes-list-type"] == "set"
    assert field(M, "h")["x-kubernetes-list-type"] == "map"
    assert field(M, "h")["x-kubernetes-list-map-keys"] == ["partName"]


def test_maps_are_bounded_and_their_keys_checked_by_a_rule() -> None:
    class M(Model):
        f: TextMap
        """Tags."""
        g: Annotated[
            dict[Annotated[str, Field(pattern=r"^\w+'$")], Short],
            Field(max_length=2),
        ]
        """Matching keys."""

    assert field(M)["additionalProperties"] == {"type": "string", "maxLength": 256}
    assert field(M)["maxProperties"] == 50
    assert field(M)[RULES] == [
        {
            "rule": "self.all(k, size(k) >= 1 && size(k) <= 128)",
            "message": "every key has at least 1 characters and at most 128 characters",
        }
    ]
    assert field(M, "g")[RULES][0]["rule"] == r"self.all(k, k.matches('^\\w+\'$'))"
    assert field(M, "g")["additionalProperties"]["maxLength"] == 8


def test_a_fractional_minimum_is_also_a_rule() -> None:
    class M(Model):
        f: Annotated[float, Field(ge=0.25)]
        """Fraction."""
        g: Annotated[float, Field(ge=1)]
        """Whole."""

    assert field(M)[RULES] == [{"rule": "self >= 0.25", "message": "must be at least 0.25"}]
    assert RULES not in field(M, "g")


def test_what_the_engine_fills_in_is_left_out() -> None:
    class M(Model):
        name: Annotated[str, ENGINE]
        f: bool = False
        """Shown."""

    assert set(schema(M)["properties"]) == {"f"}
    assert "required" not in schema(M)


def test_looked_up_values_stay_out_of_the_schema() -> None:
    class M(Model):
        f: Value
        """Value."""
        g: SecretValue
        """Secret."""

    assert set(field(M)["properties"]) == {"value", "secretKeyRef", "outputRef"}
    assert set(field(M, "g")["properties"]) == {"secretKeyRef"}
    assert issubclass(Value, Resolved)


def test_choices_become_rules_that_name_the_fields() -> None:
    class M(Model):
        one_of = ("first_one", "namespace")
        at_most_one_of = ("f", "g")

        first_one: bool | None = None
        """A."""
        namespace: bool | None = None
        """B, a reserved word."""
        f: bool | None = None
        """C."""
        g: bool | None = None
        """D."""

    exactly, at_most = schema(M)[RULES]
    assert exactly == {
        "rule": "[has(self.firstOne), has(self.__namespace__)].filter(x, x).size() == 1",
        "message": "exactly one of firstOne, namespace must be set",
    }
    assert at_most == {
        "rule": "[has(self.f), has(self.g)].filter(x, x).size() <= 1",
        "message": "at most one of f, g must be set",
    }


def test_rules_of_a_model_are_kept_with_their_field() -> None:
    class M(Model):
        rules = (Rule("self.f > 1", "f is too small", ".f"), Rule("true", "never"))

        f: int
        """Number."""

    assert schema(M)[RULES] == [
        {"rule": "self.f > 1", "message": "f is too small", "fieldPath": ".f"},
        {"rule": "true", "message": "never"},
    ]


def test_immutability_is_a_rule_of_the_parent() -> None:
    class M(Model):
        f: Annotated[Short | None, IMMUTABLE] = None
        """Fixed."""

    assert schema(M)[RULES] == [
        {
            "rule": "!has(oldSelf.f) || (has(self.f) && self.f == oldSelf.f)",
            "message": "f cannot change",
            "fieldPath": ".f",
        }
    ]
    assert RULES not in field(M)


def test_an_object_that_holds_an_immutable_field_cannot_be_removed() -> None:
    class Inner(Model):
        """Inner."""

        fixed: Annotated[Short | None, IMMUTABLE] = None
        """Fixed."""

    class Outer(Model):
        """Outer."""

        inner: Inner | None = None

    class M(Model):
        outer: Outer | None = None
        always: Inner

    (rule,) = schema(M)[RULES]
    assert rule == {
        "rule": "!has(oldSelf.outer) || "
        "!(has(oldSelf.outer.inner) && has(oldSelf.outer.inner.fixed)) || has(self.outer)",
        "message": "outer cannot be removed: outer.inner.fixed cannot change",
        "fieldPath": ".outer",
    }
    assert rule_about(field(M, "outer"), "inner cannot be removed")["fieldPath"] == ".inner"


def test_only_what_a_model_adds_to_its_base_is_told() -> None:
    class Base(Model):
        rules: ClassVar[tuple[Rule, ...]] = (Rule("true", "base"),)

        f: Annotated[int, IMMUTABLE]
        """Portable."""

    class Derived(Base):
        """The vendor's."""

        rules = (*Base.rules, Rule("true", "own"))

        g: Annotated[int, IMMUTABLE]
        """Own."""

    made = structural(Derived, "spec.acme", beyond=Base)
    assert set(made["properties"]) == {"g"} == set(made["required"])
    assert [rule["message"] for rule in made[RULES]] == ["own", "g cannot change"]


def test_free_form_must_be_asked_for() -> None:
    class M(Model):
        f: Annotated[
            Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
        ] = None
        """Anything."""

    assert field(M) == {"x-kubernetes-preserve-unknown-fields": True, "description": "Anything."}


class Unbounded(Model):
    f: str
    """Text."""


class UnboundedItems(Model):
    f: Annotated[list[str], Field(max_length=3)]
    """List."""


class UnboundedList(Model):
    f: list[Short]
    """List."""


class UnboundedMap(Model):
    f: dict[str, Short]
    """Map."""


class UnboundedValues(Model):
    f: Annotated[dict[str, str], Field(max_length=3)]
    """Map."""


class AnyValues(Model):
    f: Annotated[dict[str, Any], Field(max_length=3)]
    """Map."""


class NamedKeys(Model):
    f: Annotated[dict[Literal["a", "b"], Short], Field(max_length=3)]
    """Map."""


class Anything(Model):
    f: Any
    """Anything."""


class Union(Model):
    f: int | Short
    """Union."""


class OptionalUnion(Model):
    f: int | Short | None = None
    """Union."""


class Cat(Model):
    """Cat."""

    kind: Literal["cat"]
    """Kind."""


class Dog(Model):
    """Dog."""

    kind: Literal["dog"]
    """Kind."""


class Discriminated(Model):
    f: Annotated[Cat | Dog, Field(discriminator="kind")]
    """Union."""


class Above(Model):
    f: Annotated[int, Field(gt=0)]
    """Number."""


class Below(Model):
    f: Annotated[float, Field(lt=1)]
    """Number."""


class Undocumented(Model):
    f: int


class Secret(Model):
    f: SecretStr
    """Secret."""


class Recursive(Model):
    f: "Recursive | None" = None
    """Itself."""


class Mixed(Model):
    f: Literal["a", 1]
    """Mixed."""


class SetOfLists(Model):
    f: Annotated[set[tuple[Short, Short]], Field(max_length=3)]
    """Set."""


class OptionalKey(Model):
    f: Annotated[list[Part], Keyed("weight"), Field(max_length=3)]
    """List."""


class UnknownKey(Model):
    f: Annotated[list[Part], Keyed("colour"), Field(max_length=3)]
    """List."""


class Fixed(Model):
    """Fixed."""

    g: Annotated[int, IMMUTABLE]
    """Fixed."""


class ImmutableInList(Model):
    f: Annotated[list[Fixed], Field(max_length=3)]
    """List."""


class BuriedMarker(Model):
    f: Annotated[Short, IMMUTABLE] | None = None
    """Text."""


class DefaultedChoice(Model):
    one_of = ("f", "g")

    f: int | None = 1
    """A."""
    g: int | None = None
    """B."""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unbounded, "spec.f: a string needs max_length"),
        (UnboundedItems, "spec.f[]: a string needs max_length"),
        (UnboundedList, "spec.f: a list needs max_length"),
        (UnboundedMap, "spec.f: a map needs max_length"),
        (UnboundedValues, "spec.f.*: a string needs max_length"),
        (AnyValues, "spec.f: the type of its values is not given"),
        (NamedKeys, "spec.f: no rule is made of enum of its keys"),
        (Anything, "spec.f: no single type"),
        (Union, "spec.f: a union; use one optional field each, and one_of"),
        (OptionalUnion, "spec.f: a union"),
        (Discriminated, "spec.f: a union"),
        (Above, "spec.f: a bound that excludes its value; use ge"),
        (Below, "spec.f: a bound that excludes its value; use le"),
        (Undocumented, "spec.f: is not documented"),
        (Secret, "spec.f: a secret comes from a Secret; use SecretValue"),
        (Recursive, "contains itself"),
        (Mixed, "spec.f: no single type"),
        (SetOfLists, "spec.f"),
        (OptionalKey, "spec.f: the key weight must be required or have a default"),
        (UnknownKey, "UnknownKey.f: items have no colour"),
        (ImmutableInList, "spec.f[]: nothing in a list without Keyed(...) can be immutable"),
        (BuriedMarker, "BuriedMarker.f: markers belong around the whole type"),
        (DefaultedChoice, "DefaultedChoice.f: a choice must default to None"),
    ],
)
def test_what_a_crd_cannot_say_is_refused_with_its_path(model: type[Model], words: str) -> None:
    assert words in refusal(model)


def test_a_choice_among_fields_of_the_base_is_refused() -> None:
    class Base(Model):
        f: int | None = None
        """A."""

    class Derived(Base):
        one_of = ("f", "g")

        g: int | None = None
        """B."""

    with pytest.raises(SchemaError, match="Derived: no field of its own: f"):
        structural(Derived, "spec.acme", beyond=Base)


def test_an_immutable_field_in_a_keyed_list_is_allowed() -> None:
    class Item(Fixed):
        name: ShortText
        """Name."""

    class M(Model):
        f: Annotated[list[Item], Keyed(), Field(max_length=3)]
        """List."""

    assert rule_about(field(M)["items"], "g cannot change")


def test_a_field_on_its_way_out_says_so_in_its_description() -> None:
    class Spec(Model):
        """A spec."""

        size: Annotated[int | None, Deprecated("use scale")] = None
        """How large."""

    node = structural(Spec, "spec")
    assert node["properties"]["size"]["description"] == "Deprecated: use scale. How large."
