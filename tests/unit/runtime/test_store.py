"""The newest state of every object, and who is concerned by a change of it."""

from typing import Any

from auterity.api.annotations import REQUESTED_AT
from auterity.engine.subject import Key
from auterity.engine.verdict import Waits
from auterity.runtime.store import Change, Store

DOCS = Key("VectorIndex", "team", "docs")
ACCOUNT = Key("Connection", "team", "account")


def raw(name: str = "docs", kind: str = "VectorIndex", version: int = 1, **more: Any) -> Any:
    meta = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-of-{name}",
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        **more.pop("meta", {}),
    }
    return {"kind": kind, "metadata": meta, "spec": {"connectionRef": {"name": "account"}}, **more}


def ready(status: str, message: str = "") -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "reason": "Some", "message": message}
    return {"observedGeneration": 1, "conditions": [condition]}


def test_older_news_than_known_changes_nothing():
    store = Store()
    assert store.put(raw(version=5)).change is Change.NEW
    stale = store.put(raw(version=4, meta={"generation": 9}))
    assert stale.change is Change.NOTHING
    assert store.find(DOCS) is stale.subject
    assert stale.subject.generation == 1


def test_versions_are_compared_as_numbers():
    store = Store()
    store.put(raw(version=9))
    assert store.put(raw(version=10, meta={"generation": 2})).change is Change.EDIT


def test_an_object_made_anew_under_the_same_name_is_new_whatever_its_version():
    store = Store()
    store.put(raw(version=5))
    assert store.put(raw(version=3, meta={"uid": "another"})).change is Change.NEW


def test_each_kind_of_news_is_told_apart():
    store = Store()
    store.put(raw(version=1))
    assert store.put(raw(version=2)).change is Change.NOTHING
    assert store.put(raw(version=3, status=ready("True"))).change is Change.STATE
    asked = {"annotations": {REQUESTED_AT: "now"}}
    assert store.put(raw(version=4, status=ready("True"), meta=asked)).change is Change.EDIT
    gone = {**asked, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert Change.EDIT in store.put(raw(version=5, meta=gone)).change


def test_what_ails_a_connection_is_news_even_if_only_the_words_change():
    store = Store()
    store.put(raw("account", "Connection", 1, status=ready("False", "no Secret")))
    put = store.put(raw("account", "Connection", 2, status=ready("False", "no key")))
    assert put.change is Change.STATE


def test_users_follow_the_connection_that_they_refer_to():
    store = Store()
    store.put(raw(version=1))
    assert store.users(ACCOUNT) == [DOCS]
    moved = raw(version=2, meta={"generation": 2})
    moved["spec"] = {"connectionRef": {"kind": "ClusterConnection", "name": "shared"}}
    store.put(moved)
    assert store.users(ACCOUNT) == []
    assert store.users(Key("ClusterConnection", "", "shared")) == [DOCS]
    store.remove(DOCS)
    assert store.users(Key("ClusterConnection", "", "shared")) == []


def test_removing_an_object_of_the_past_leaves_its_successor():
    store = Store()
    store.put(raw(version=5, meta={"uid": "second"}))
    assert store.remove(DOCS, "first") is None
    assert store.find(DOCS) is not None


def test_who_waits_is_woken_by_what_it_waits_for_and_nothing_else():
    store = Store()
    store.put(raw())
    by_name = Waits("VectorIndex", "team", "base")
    by_label = Waits("VectorIndex", "team", labels=(("tier", "base"),))
    store.wait(DOCS, frozenset({by_name}))
    base, other = Key("VectorIndex", "team", "base"), Key("VectorIndex", "team", "other")
    assert store.waiting(base, {}) == [DOCS]
    assert store.waiting(other, {}) == []
    assert store.waiting(Key("VectorIndex", "elsewhere", "base"), {}) == []
    store.wait(DOCS, frozenset({by_label}))
    assert store.waiting(base, {}) == []
    assert store.waiting(other, {"tier": "base", "more": "x"}) == [DOCS]
    store.wait(DOCS, frozenset())
    assert store.waiting(other, {"tier": "base"}) == []


def test_only_what_the_engine_looks_at_is_kept():
    store = Store()
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "{}", REQUESTED_AT: "now"}
    subject = store.put(raw(meta={"annotations": notes})).subject
    assert subject.annotations == {REQUESTED_AT: "now"}


def test_of_what_is_gone_nothing_is_left():
    store = Store()
    waits = frozenset({Waits("Secret", "team", "token")})
    for number in range(50):
        meta = {"namespace": f"team-{number}"}
        found = store.put(raw(meta=meta)).subject
        store.wait(found.key, waits)
        account = store.put(raw("account", "Connection", meta=meta)).subject
        store.remove(found.key)
        store.remove(account.key)
        # Its visit was still under way.
        store.wait(found.key, waits)
    kept = {name: len(held) for name, held in vars(store).items()}
    assert set(kept.values()) == {0}, kept
