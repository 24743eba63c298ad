"""What the gauges are read off is what they tell."""

from types import SimpleNamespace
from typing import cast

from auterity.engine.subject import Key
from auterity.runtime.metrics import Metrics, State
from auterity.runtime.store import Store


def state(*objects: dict) -> State:
    store = Store()
    for number, raw in enumerate(objects):
        metadata: dict = {"namespace": "team", "uid": f"uid-{number}", "resourceVersion": "1"}
        metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata |= {"generation": 1, **raw.pop("metadata")}
        store.put({"metadata": metadata, "spec": {}, **raw})
    found = SimpleNamespace(
        store=store,
        schedule=SimpleNamespace(depth=dict, oldest_age=lambda: 0.0, running=0),
        connections=SimpleNamespace(budgets={}, vendor=lambda _: "shelf"),
        members=SimpleNamespace(live=(), acting=False, mine=lambda uid: uid != "uid-2"),
        providers={},
    )
    return cast("State", found)


def connection(name: str, **status: object) -> dict:
    return {"kind": "Connection", "metadata": {"name": name}, "status": status}


def test_objects_are_counted_by_the_reason_they_give():
    metrics = Metrics()
    waits = [{"type": "Ready", "status": "False", "reason": "CredentialsRejected"}]
    metrics.watch(
        state(
            connection("a", conditions=waits),
            connection("b"),
            connection("c", conditions=waits),  # another replica's
        )
    )
    value = metrics.registry.get_sample_value
    labels = {"kind": "Connection", "vendor": "shelf"}
    told = {"ready": "False", "reason": "CredentialsRejected"}
    assert value("auterity_objects", {**labels, **told}) == 1
    assert value("auterity_objects", {**labels, "ready": "Unknown", "reason": "none"}) == 1


def test_the_end_of_credentials_is_told_in_seconds_where_it_is_known():
    metrics = Metrics()
    metrics.watch(
        state(
            connection("a", expiresAt="1970-01-02T00:00:00Z"),
            connection("b", expiresAt="1970-01-03T00:00:00"),
            connection("c", expiresAt="1970-01-04T00:00:00Z"),  # another replica's
            connection("d", expiresAt="some day"),
            connection("e"),
        )
    )
    (family,) = [
        f for f in metrics.registry.collect() if f.name.startswith("auterity_credentials_expiry")
    ]
    assert {sample.labels["connection"]: sample.value for sample in family.samples} == {
        str(Key("Connection", "team", "a")): 86400.0,
        str(Key("Connection", "team", "b")): 172800.0,
    }


def test_a_route_has_no_vendor():
    metrics = Metrics()
    metrics.watch(state({"kind": "ModelRoute", "metadata": {"name": "chat"}}))
    labels = {"kind": "ModelRoute", "vendor": "", "ready": "Unknown", "reason": "none"}
    assert metrics.registry.get_sample_value("auterity_objects", labels) == 1


def test_costs_are_summed_by_namespace_and_what_is_only_observed_is_left_out():
    metrics = Metrics()

    def model(name: str, id: str | None = "m", **spec: str) -> dict[str, object]:
        status = {"vendor": "acme", "cost": {"least": 0.5, "most": 2.0}}
        told = {**status, "id": id} if id else status
        return {
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": spec,
            "status": told,
        }

    metrics.watch(
        state(
            model("a"),
            model("b"),
            model("another replica's"),
            model("c", policy="Observe"),
            model("d", id=None),
            {"kind": "Budget", "metadata": {"name": "all"}, "spec": {"hourly": 3}},
        )
    )
    labels = {"kind": "ModelDeployment", "vendor": "acme", "namespace": "team", "currency": "USD"}
    value = metrics.registry.get_sample_value
    assert value("auterity_cost_per_hour", {**labels, "bound": "most"}) == 4.0
    assert value("auterity_cost_per_hour", {**labels, "bound": "least"}) == 1.0
    limit = {"namespace": "team", "budget": "all", "currency": "USD"}
    assert value("auterity_cost_limit_per_hour", limit) == 3.0


def test_a_connection_that_is_no_more_has_no_series():
    metrics = Metrics()
    for number in range(100):
        metrics.waited("shelf", f"Connection team/account-{number}", 0.1)
        metrics.forget(f"Connection team/account-{number}")
    metrics.waited("shelf", "Connection team/kept", 0.1)
    metrics.forget("Connection team/never-called")
    (family,) = [f for f in metrics.registry.collect() if f.name == "auterity_budget_wait_seconds"]
    assert [sample.labels["connection"] for sample in family.samples] == ["Connection team/kept"]
