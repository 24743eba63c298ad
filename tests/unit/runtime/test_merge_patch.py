"""The patch that makes one status into another."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auterity.runtime.cluster import difference

names = st.sampled_from(["id", "plan", "outputs", "a.b", ""])
leaves = st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
objects = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=4),
    max_leaves=12,
)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


@given(objects, objects)
def test_the_patch_makes_the_old_into_the_new(old: dict[str, Any], new: dict[str, Any]):
    before = copy.deepcopy((old, new))
    assert merge(old, difference(old, new)) == new
    assert (old, new) == before


@given(objects)
def test_nothing_changed_is_an_empty_patch(status: dict[str, Any]):
    assert difference(status, copy.deepcopy(status)) == {}


@given(objects, objects)
def test_what_stays_is_not_sent(old: dict[str, Any], new: dict[str, Any]):
    patch = difference(old, new)
    assert not [name for name in patch if name in old and name in new and old[name] == new[name]]
