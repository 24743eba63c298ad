"""Which declared fields differ, how they are shown, and what is remembered of them."""

import copy
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from auterity.api.fields import (
    CREATE_ONLY,
    IMMUTABLE,
    SHARED,
    WRITE_ONLY,
    Keyed,
    Model,
    Params,
    SecretKeyRef,
    SecretValue,
    Value,
)
from auterity.engine.drift import (
    CUT,
    LONGEST_TEXT,
    Difference,
    Memory,
    compare,
    digest,
    fingerprints,
    shared_entries,
    text,
    unknown_paths,
)
from auterity.engine.redaction import HIDDEN, private, remember

SECRET = "s3cret-Value-91"


class Scaling(Model):
    """Inner model."""

    least: int = 1
    most: int | None = None
    zones: set[str] = Field(default_factory=set)


class Item(Model):
    """Item of a keyed list."""

    name: str
    size: int = 1
    value: Value | None = None


class Thing(Params):
    """Every shape of a field."""

    count: Annotated[int, IMMUTABLE] = 1
    note: str | None = None
    timeout: str | None = None
    scaling: Scaling = Field(default_factory=Scaling)
    zones: set[str] = Field(default_factory=set)
    steps: list[str] = Field(default_factory=list)
    labels: dict[str, str] | None = None
    tags: Annotated[dict[str, str] | None, SHARED] = None
    items: Annotated[list[Item], Keyed("name")] = Field(default_factory=list)
    password: Annotated[SecretValue | None, WRITE_ONLY] = None
    script: Annotated[str | None, WRITE_ONLY] = None
    seed: Annotated[int | None, CREATE_ONLY] = None
    host: Value | None = None


def secret(value: str = SECRET, version: str = "uid/1") -> SecretValue:
    it = SecretValue(secret_key_ref=SecretKeyRef(name="s", key="k"))
    it.resolve(value, version)
    return it


def literal(value: str) -> Value:
    it = Value(value=value)
    it.resolve(value, digest(value))
    return it


def paths(want: Thing, actual: Thing, memory: Memory | None = None, **versions: str) -> list[str]:
    return [d.path for d in compare(want, actual, memory or Memory(), versions)]


def only(want: Thing, actual: Thing, memory: Memory | None = None) -> Difference:
    (found,) = compare(want, actual, memory or Memory(), {})
    return found


things = st.builds(
    Thing,
    count=st.integers(1, 3),
    note=st.none() | st.text(max_size=5),
    timeout=st.none() | st.sampled_from(["60s", "1m", "90s"]),
    scaling=st.builds(
        Scaling,
        least=st.integers(0, 2),
        most=st.none() | st.integers(0, 2),
        zones=st.sets(st.sampled_from("abc")),
    ),
    zones=st.sets(st.sampled_from("abc")),
    steps=st.lists(st.sampled_from("abc"), max_size=3),
    labels=st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
    tags=st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
    items=st.lists(
        st.builds(Item, name=st.sampled_from("abc"), size=st.integers(1, 2)),
        max_size=3,
        unique_by=lambda item: item.name,
    ),
)


def as_seen(want: Thing) -> Thing:
    told = copy.deepcopy({n: getattr(want, n) for n in Thing.model_fields})
    for name in ("name", "password", "script", "seed"):
        del told[name]
    return Thing.seen(**told)


@given(things)
def test_a_vendor_that_has_what_is_wanted_has_no_drift(want: Thing):
    assert compare(want, as_seen(want), Memory(), {}) == []


@given(things, things)
def test_differences_are_silent_once_they_are_applied(want: Thing, other: Thing):
    actual = as_seen(other)
    for difference in compare(want, actual, Memory(owned=shared_entries(other)), {}):
        _apply(want, actual, difference.path)
    assert compare(want, actual, Memory(owned=shared_entries(other)), {}) == []


def _apply(want: Any, actual: Any, path: str) -> None:
    """Make one path of the actual model as wanted, as a provider is told to."""
    name, _, rest = path.partition(".")
    if not rest:
        setattr(actual, name, copy.deepcopy(getattr(want, name)))
    elif name == "scaling":
        _apply(want.scaling, actual.scaling, rest)
    elif name == "items":
        wanted = {item.name: item for item in want.items}
        held = {item.name: item for item in actual.items or ()}
        entry = rest.partition(".")[0]
        if entry in wanted:
            held[entry] = copy.deepcopy(wanted[entry])
        else:
            del held[entry]
        actual.items = list(held.values())
    else:
        held = dict(getattr(actual, name) or {})
        if rest in (getattr(want, name) or {}):
            held[rest] = getattr(want, name)[rest]
        else:
            del held[rest]
        setattr(actual, name, held)


@given(things, things)
def test_every_difference_names_a_field_and_shows_two_values(want: Thing, other: Thing):
    for difference in compare(want, as_seen(other), Memory(), {}):
        assert difference.path.partition(".")[0] in Thing.model_fields
        assert difference.want != difference.actual or CUT in (difference.want or "")


def test_what_is_not_declared_and_what_is_not_told_is_not_compared():
    assert paths(Thing(note=None), Thing.seen(note="theirs")) == []
    assert paths(Thing(note="ours"), Thing.seen()) == []
    assert paths(Thing(note="ours"), Thing.seen(note=None)) == ["note"]
    assert paths(Thing(seed=1), Thing.seen(seed=2)) == []


def test_a_duration_may_be_spelt_otherwise():
    assert paths(Thing(timeout="1m30s"), Thing.seen(timeout="90s")) == []
    assert paths(Thing(timeout="1m30s"), Thing.seen(timeout="91s")) == ["timeout"]
    assert paths(Thing(timeout="soon"), Thing.seen(timeout="later")) == ["timeout"]


def test_sets_have_no_order_and_lists_have():
    assert paths(Thing(zones={"a", "b"}), Thing.seen(zones=["b", "a"])) == []
    assert paths(Thing(steps=["a", "b"]), Thing.seen(steps=["b", "a"])) == ["steps"]


def test_keyed_lists_are_compared_by_name():
    want = Thing(items=[Item(name="a", size=1), Item(name="b", size=2), Item(name="d")])
    actual = Thing.seen(
        items=[Item(name="c"), Item.model_construct(name="b", size=3), Item(name="a", size=1)]
    )
    found = {d.path: (d.want, d.actual) for d in compare(want, actual, Memory(), {})}
    assert set(found) == {"items.b.size", "items.c", "items.d"}
    assert found["items.b.size"] == ("2", "3")
    assert found["items.c"][0] is None
    assert found["items.d"][1] is None


def test_inner_models_carry_their_outer_markers_and_names():
    class Outer(Params):
        """Outer."""

        scaling: Annotated[Scaling, IMMUTABLE] = Field(default_factory=Scaling)

    want, actual = Outer(scaling=Scaling(least=2)), Outer.seen(scaling=Scaling(least=1))
    (found,) = compare(want, actual, Memory(vendor="acme"), {})
    assert (found.path, found.shown) == ("scaling.least", "acme.scaling.least")
    assert found.has(IMMUTABLE)


def test_paths_are_shown_as_they_stand_in_the_manifest():
    memory = Memory(vendor="acme", portable={"count"})
    want, actual = Thing(count=2, note="x"), Thing.seen(count=1, note="y")
    assert [d.shown for d in compare(want, actual, memory, {})] == ["count", "acme.note"]


def test_of_a_shared_map_only_owned_keys_go():
    actual = Thing.seen(tags={"ours": "1", "theirs": "2"})
    owned = Memory(owned=["tags.ours"])
    assert paths(Thing(), actual) == []
    assert paths(Thing(), actual, owned) == ["tags.ours"]
    assert paths(Thing(tags={"ours": "1"}), actual, owned) == []
    assert shared_entries(Thing(tags={"b": "1", "a": "2"})) == ["tags.a", "tags.b"]


def test_what_an_entry_of_a_shared_map_does_not_declare_is_not_compared():
    class Shared(Params):
        """A shared map of models."""

        pools: Annotated[dict[str, Scaling] | None, SHARED] = None

    theirs = Scaling.model_construct(least=9, most=9, zones=set())
    actual = Shared.seen(pools={"a": Scaling.model_construct(least=2, most=5), "b": theirs})
    assert compare(Shared(pools={"a": Scaling(least=2)}), actual, Memory(), {}) == []
    (found,) = compare(Shared(pools={"a": Scaling(least=3)}), actual, Memory(), {})
    assert found.path == "pools.a.least"


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("acme.note", ["labels.a", "labels.b", "scaling.least"]),
        ("acme.labels", ["note", "scaling.least"]),
        ("acme.labels.a", ["note", "labels.b", "scaling.least"]),
        ("acme.scaling.least", ["note", "labels.a", "labels.b"]),
        ("acme.label", ["note", "labels.a", "labels.b", "scaling.least"]),
    ],
)
def test_create_only_paths_are_left_to_others(left: str, expected: list[str]):
    want = Thing(note="x", labels={"a": "1", "b": "2"}, scaling=Scaling(least=3))
    actual = Thing.seen(note="y", labels={"a": "9", "b": "9"}, scaling=Scaling(least=9))
    memory = Memory(vendor="acme", create_only=(left,))
    assert sorted(paths(want, actual, memory)) == sorted(expected)


def test_unknown_create_only_paths_are_named():
    given_ = ("count", "note", "acme.note", "acme.scaling.least", "acme.colour", "acme", "size")
    memory = Memory(vendor="acme", portable={"count"}, create_only=given_)
    assert unknown_paths(Thing, memory) == ["note", "acme.colour", "acme", "size"]


def test_a_write_only_field_differs_until_its_source_is_remembered():
    want = Thing(password=secret(), script="run")
    assert paths(want, Thing.seen()) == ["password", "script"]
    memory = Memory(written=fingerprints(want, {}))
    assert paths(want, Thing.seen(), memory) == []
    rotated = Thing(password=secret("other-Value-22", "uid/2"), script="run")
    found = only(rotated, Thing.seen(), memory)
    assert (found.path, found.want, found.actual, found.edited) == (
        "password",
        HIDDEN,
        HIDDEN,
        True,
    )


def test_a_write_that_the_vendor_tells_of_and_that_was_not_ours_is_drift():
    want = Thing(password=secret())
    memory = Memory(written=fingerprints(want, {"password": "at-10"}))
    assert compare(want, Thing.seen(), memory, {"password": "at-10"}) == []
    (found,) = compare(want, Thing.seen(), memory, {"password": "at-99"})
    assert not found.edited


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=400),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.text(max_size=20),
)
def test_fingerprints_are_short_whatever_is_remembered(value: Any, version: str):
    want = Thing.model_construct({"script"}, script=value)
    for remembered in fingerprints(want, {"script": version}).values():
        assert len(remembered) <= 256
        # The vendor's version is remembered as it is told, and may happen to be the value.
        hidden = isinstance(value, str) and len(value) >= 20 and value != version
        assert not hidden or value not in remembered


def test_a_value_is_followed_by_its_source_where_the_vendor_does_not_tell_it():
    want = Thing(host=literal("a.example"))
    assert paths(want, Thing.seen()) == ["host"]
    memory = Memory(written=fingerprints(want, {}))
    assert paths(want, Thing.seen(), memory) == []
    assert paths(Thing(host=literal("b.example")), Thing.seen(), memory) == ["host"]


def test_a_value_is_compared_where_the_vendor_tells_it():
    told = Thing.seen(host=literal("a.example"))
    assert paths(Thing(host=literal("a.example")), told) == []
    found = only(Thing(host=literal("b.example")), told)
    assert (found.want, found.actual) == ("b.example", "a.example")


def test_no_value_that_comes_from_a_secret_is_shown():
    from_secret = Value(secret_key_ref=SecretKeyRef(name="s", key="k"))
    from_secret.resolve(SECRET, "uid/1")
    tampered = Thing.seen(host=literal("tampered-77"))
    found = only(Thing(host=from_secret), tampered)
    assert (found.want, found.actual) == (HIDDEN, HIDDEN)


def test_what_a_secret_has_left_behind_is_not_shown():
    from_secret = Value(secret_key_ref=SecretKeyRef(name="s", key="k"))
    from_secret.resolve(SECRET, "uid/1")
    before = Thing(host=from_secret, items=[Item(name="a", value=from_secret)])
    memory = Memory(written=fingerprints(before, {}))
    actual = Thing.seen(host=literal(SECRET), items=[Item(name="a", value=literal(SECRET))])
    for want in (Thing(host=literal("open")), Thing(items=[Item(name="a", value=literal("x"))])):
        shown = compare(want, actual, memory, {})
        assert shown
        assert SECRET not in repr(shown)


@pytest.mark.parametrize("value", [SecretStr(SECRET), secret(), [secret()], {"a": secret()}])
def test_secrets_have_no_text(value: Any):
    assert SECRET not in (text(value) or "")
    assert SECRET not in digest(value)


def test_text_is_short_and_hides_what_is_known():
    assert text(None) is None
    long = text("x" * 1000)
    assert long is not None
    assert len(long) == LONGEST_TEXT
    assert long.endswith(CUT)
    with private():
        remember(SECRET)
        assert text(f"a {SECRET} b") == f"a {HIDDEN} b"
        cut = text("x" * (LONGEST_TEXT - 5) + SECRET) or ""
        assert SECRET[:5] not in cut, "hidden before it is cut"


def test_the_digest_changes_with_secrets_and_ends_and_not_with_order():
    base = Thing(note="x" * 1000, labels={"a": "1", "b": "2"}, zones={"p", "q", "r"})
    same = Thing(note="x" * 1000, labels={"b": "2", "a": "1"}, zones={"r", "q", "p"})
    assert digest(base) == digest(same)
    assert digest(base) != digest(base.model_copy(update={"note": "x" * 1000 + "y"}))
    one, two = Thing(password=secret()), Thing(password=secret(version="uid/2"))
    assert digest(one) != digest(two)


def test_sets_inside_a_model_have_one_text():
    item = Thing(scaling=Scaling(zones=set("qwertyuiop")))
    assert text(item.scaling) == '{"zones":["e","i","o","p","q","r","t","u","w","y"]}'


def test_what_a_vendor_tells_in_another_type_is_shown_without_a_warning():
    odd = Item.model_construct({"name", "size"}, name="a", size="many")  # type: ignore[arg-type]  # odd
    found = only(Thing(items=[]), Thing.seen(items=[odd]))
    assert found.actual == '{"name":"a","size":"many"}'
