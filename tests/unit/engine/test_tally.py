"""Sums that are kept as things change are those of all that there is."""

from hypothesis import given
from hypothesis import strategies as st

from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.tally import Tally, Use, use_of


def subject(name: str, status: JSON, **spec: str) -> Subject:
    key = Key("ModelDeployment", "team", name)
    return Subject(key, f"uid-{name}", 1, "1", "2026-01-01", False, {}, {}, [], spec, status)


amounts = st.none() | st.integers(0, 50).map(lambda cents: cents / 100)
changes = st.tuples(
    st.sampled_from("abcd"), amounts, amounts, st.booleans(), st.sampled_from(["Manage", "Observe"])
)


@given(st.lists(changes | st.sampled_from("abcd")))
def test_sums_are_those_of_what_there_is_whatever_has_changed(steps):
    tally = Tally()
    there: dict[str, Subject] = {}
    for step in steps:
        if isinstance(step, str):
            there.pop(step, None)
            tally.drop(Key("ModelDeployment", "team", step))
            continue
        name, most, asking, runs, policy = step
        status: JSON = {"cost": {"most": most}} if most is not None else {}
        status |= {"asking": asking} if asking is not None else {}
        status |= {"id": name} if runs else {}
        there[name] = subject(name, status, policy=policy)
        tally.put(there[name])
    anew = Tally(there.values())
    assert sorted(tally.uses, key=lambda use: use.key) == sorted(anew.uses, key=lambda use: use.key)
    for name in "abcd":
        but = Key("ModelDeployment", "team", name)
        others = [use for use in anew.uses if use.key != but]
        assert tally.granted(but) == round(sum(use.granted for use in others), 6)
        assert tally.taken(but) == round(sum(use.taken for use in others), 6)


def test_what_takes_nothing_is_none_and_what_has_no_price_is_told_apart():
    assert use_of(subject("a", {})) is None
    assert use_of(subject("a", {"cost": {"most": 1}}, policy="Observe")) is None
    assert use_of(subject("a", {"id": "a", "completed": True})) is None
    turn = ("2026-01-01", "uid-a")
    key = Key("ModelDeployment", "team", "a")
    assert use_of(subject("a", {"id": "a"})) == Use(key, most=None, turn=turn)
    assert use_of(subject("a", {"asking": 0.5})) == Use(key, most=0.0, asking=0.5, turn=turn)
