"""The API server refuses what a kind's schema forbids, and names the field."""

from typing import Any

import pytest

from auterity.api import API_VERSION
from auterity.api.common import by_alias
from auterity.api.rollout import (
    EarlierRevision,
    FailedRevision,
    ProbeStatus,
    RevisionStatus,
    RolloutStatus,
)
from tests.crds.conftest import JSON, Api, integration


def connection(kind: str, **spec: Any) -> JSON:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": "acme"},
        "spec": {"acme": {"apiKey": {"secretKeyRef": {"name": "acme", "key": "key"}}}, **spec},
    }


def test_defaults_are_filled_in(api: Api) -> None:
    made = api.create(integration("VectorIndex"))

    spec = made["spec"]
    assert spec["metric"] == "cosine"
    assert spec["policy"] == "Manage"
    assert spec["deletionPolicy"] == "Retain"
    assert spec["interval"] == "10m"
    assert spec["connectionRef"]["kind"] == "Connection"
    assert spec["acme"]["region"] == "eu"
    assert made["status"] == {"observedGeneration": -1}


def test_only_the_status_subresource_writes_status(api: Api) -> None:
    made = api.create({**integration("VectorIndex"), "status": {"id": "forged"}})

    assert made["status"] == {"observedGeneration": -1}


VECTOR_INDEX_REFUSALS = [
    ({"acme": None}, "exactly one vendor must be given: acme"),
    ({"zenith": {}}, "exactly one vendor must be given: acme"),
    ({"nonesuch": {}}, 'unknown field "spec.nonesuch"'),
    ({"acme": {"tier": "s", "nonesuch": 1}}, 'unknown field "spec.acme.nonesuch"'),
    ({"connectionRef": None}, "spec.connectionRef: Required value"),
    ({"dimension": 0}, "spec.dimension: Invalid value"),
    ({"dimension": 65537}, "spec.dimension: Invalid value"),
    ({"metric": "manhattan"}, 'spec.metric: Unsupported value: "manhattan"'),
    ({"externalName": "x" * 513}, "spec.externalName: Too long"),
    ({"interval": "soon"}, "spec.interval: Invalid value"),
    ({"createOnly": ["a"] * 33}, "spec.createOnly: Too many"),
    ({"acme": {}}, "exactly one of tier, pods must be set"),
    ({"acme": {"tier": "s", "pods": 1}}, "spec.acme: Invalid value"),
    ({"acme": {"pods": 11}}, "spec.acme.pods: Invalid value"),
    (
        {"acme": {"pods": 1, "tags": {"k" * 129: "v"}}},
        "every key has at least 1 characters and at most 128",
    ),
    ({"acme": {"pods": 1, "tags": {f"k{i}": "" for i in range(51)}}}, "spec.acme.tags: Too many"),
    ({"acme": {"pods": 1, "peers": ["a", "a"]}}, "spec.acme.peers[1]: Duplicate value"),
    (
        {"acme": {"pods": 1, "shards": [{"name": "a", "zone": "x"}, {"name": "a", "zone": "y"}]}},
        "spec.acme.shards[1]: Duplicate value",
    ),
    (
        {"dependsOn": [{"kind": "VectorIndex"}]},
        "spec.dependsOn[0]: Invalid value: exactly one of name, selector must be set",
    ),
]


@pytest.mark.parametrize(("spec", "words"), VECTOR_INDEX_REFUSALS)
def test_a_wrong_spec_is_refused(api: Api, spec: JSON, words: str) -> None:
    assert words in api.refusal("create", integration("VectorIndex", **spec))


SHARDED = {"tier": "s", "shards": [{"name": "a", "zone": "x"}]}
CHANGES = [
    ({}, {"dimension": 4}, "dimension cannot change"),
    ({"metric": "euclidean"}, {"metric": "cosine"}, "spec.metric: Invalid value"),
    ({"metric": "euclidean"}, {"metric": None}, "metric cannot change"),
    ({"externalName": "a"}, {"externalName": "b"}, "externalName cannot change"),
    ({"externalName": "a"}, {"externalName": None}, "externalName cannot change"),
    ({}, {"externalName": "b"}, "externalName cannot be set later"),
    ({}, {"acme": None, "zenith": {}}, "the vendor cannot change: delete and create anew"),
    ({}, {"acme": {"tier": "s", "region": "us"}}, "region cannot change"),
    ({"acme": {"tier": "s", "note": "a"}}, {"acme": {"tier": "s"}}, "note cannot change"),
    (
        {"acme": {"tier": "s", "encryption": {"key": "a"}}},
        {"acme": {"tier": "s"}},
        "encryption cannot be removed: encryption.key cannot change",
    ),
    (
        {"acme": {"tier": "s", "encryption": {"key": "a"}}},
        {"acme": {"tier": "s", "encryption": {"rotate": True}}},
        "key cannot change",
    ),
    (
        {"acme": SHARDED},
        {"acme": {**SHARDED, "shards": [{"name": "a", "zone": "y"}]}},
        "spec.acme.shards[0].zone: Invalid value",
    ),
]


@pytest.mark.parametrize(("before", "after", "words"), CHANGES)
def test_what_is_fixed_cannot_change(api: Api, before: JSON, after: JSON, words: str) -> None:
    told = api.refuses_change(
        integration("VectorIndex", **before), integration("VectorIndex", **{**before, **after})
    )

    assert words in told


ALLOWED = [
    ({}, {"interval": "5m", "acme": {"pods": 2}}),
    ({}, {"acme": {"tier": "s", "note": "set later: the vendor's choice is stated"[:63]}}),
    ({"acme": {"tier": "s", "encryption": {}}}, {"acme": {"tier": "s"}}),
    ({"acme": SHARDED}, {"acme": {**SHARDED, "shards": [{"name": "b", "zone": "y"}]}}),
]


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_everything_else_can_change(api: Api, before: JSON, after: JSON) -> None:
    made = integration("VectorIndex", **before)
    api.create(made)

    api.replace({**made, "spec": integration("VectorIndex", **{**before, **after})["spec"]})


def test_a_models_own_rules_are_enforced(api: Api) -> None:
    route = integration("AlertRoute", receivers=[{"name": "nowhere"}])
    told = api.refusal("create", route)
    assert "spec.receivers[0]: Invalid value: exactly one of slack, teams, discord" in told

    deployment = integration("ModelDeployment", scaling={"min": 3, "max": 2})
    assert "spec.scaling: Invalid value: min is more than max" in api.refusal("create", deployment)

    target = {"metric": "CPUUtilization", "value": 50}
    deployment = integration("ModelDeployment", scaling={"target": target})
    assert "spec.scaling.target: Invalid value: target needs max" in api.refusal(
        "create", deployment
    )


ROLLOUT_REFUSALS: list[tuple[JSON, str]] = [
    ({"strategy": "Canary"}, "strategy: Invalid value: steps: strategy Canary needs at least one"),
    (
        {"strategy": "Canary", "steps": [{"weight": 50}, {"weight": 20}]},
        "steps: Invalid value: steps: the weight must grow from step to step",
    ),
    (
        {"strategy": "Canary", "steps": [{"weight": 50}, {"weight": 50}]},
        "steps: Invalid value: steps: the weight must grow from step to step",
    ),
    ({"strategy": "Canary", "steps": [{"weight": 101}]}, "steps[0].weight: Invalid value"),
    ({"strategy": "Canary", "steps": [{"weight": 0}]}, "steps[0].weight: Invalid value"),
    (
        {"strategy": "Canary", "steps": [{"weight": 5, "pause": "soon"}]},
        "steps[0].pause: Invalid value",
    ),
    ({"steps": [{"weight": 5}]}, "steps: Invalid value: steps are for strategy Canary only"),
    ({"preview": "5m"}, "preview: Invalid value: preview is for strategy BlueGreen only"),
    (
        {"checks": [{"metric": "ErrorRate", "max": 1}]},
        "checks: Invalid value: checks are for strategies Canary and BlueGreen",
    ),
    (
        {"strategy": "BlueGreen", "checks": [{"metric": "LatencyP95", "maxIncrease": 20}]},
        "checks: Invalid value: checks: with BlueGreen, where two never share the traffic, each",
    ),
    (
        {"strategy": "BlueGreen", "checks": [{"metric": "ErrorRate"}]},
        "checks[0]: Invalid value: a check needs max, maxIncrease, or both",
    ),
    (
        {"strategy": "BlueGreen", "checks": [{"metric": "ErrorRate", "max": 101}]},
        "checks[0].max: Invalid value: max: a rate is in percent, and never more than 100",
    ),
    (
        {"strategy": "BlueGreen", "checks": [{"metric": "ErrorRate", "max": n} for n in (1, 2)]},
        'checks[1]: Duplicate value: {"metric":"ErrorRate"}',
    ),
    (
        {"strategy": "BlueGreen", "checks": [{"metric": "Throughput", "max": 1}]},
        'checks[0].metric: Unsupported value: "Throughput"',
    ),
    ({"promotion": "Probe"}, "promotion: Invalid value: rollout.promotion: Probe needs spec.probe"),
]


@pytest.mark.parametrize(("rollout", "words"), ROLLOUT_REFUSALS)
def test_a_rollout_that_makes_no_sense_is_refused_by_its_field(
    api: Api, rollout: JSON, words: str
) -> None:
    deployment = integration("ModelDeployment", rollout=rollout)
    assert f"spec.rollout.{words}" in api.refusal("create", deployment)


def test_a_rollout_with_growing_steps_is_taken(api: Api) -> None:
    steps = [{"weight": 5, "pause": "10m"}, {"weight": 50, "pause": "UntilApproved"}]
    rollout = {"strategy": "Canary", "steps": steps, "promotion": "Probe"}
    probe = {"body": "{}", "expect": {"json": {"path": "ok", "value": "true"}}}
    made = api.create(integration("ModelDeployment", rollout=rollout, probe=probe))
    assert made["spec"]["rollout"]["autoRollback"] is True


def test_what_is_told_of_a_rollout_is_kept_as_it_is(api: Api) -> None:
    failed = FailedRevision(name="r-2", generation=2, message="it broke")
    told = RolloutStatus(
        phase="RollingBack",
        revision="r-2",
        stable="r-1",
        weights=[0, 10, 100],
        step=1,
        since="2026-01-01T00:00:00Z",
        failed=failed,
        revisions=[RevisionStatus(name="r-1", weight=100, phase="Ready")],
        history=[EarlierRevision(name="r-1", content='{"hardware":"m"}')],
    )
    status: JSON = {"observedGeneration": 1, "rollout": by_alias(told)}
    status["probe"] = by_alias(ProbeStatus(verdict="Failing", message="no"))
    made = api.create(integration("ModelDeployment"))
    assert api.replace_status({**made, "status": status})["status"] == status


def test_a_model_comes_from_one_place(api: Api) -> None:
    ref = {"kind": "TuningJob", "name": "churn", "output": "model"}
    api.create(integration("ModelDeployment", model={"modelRef": ref}))
    both = integration("ModelDeployment", model={"modelRef": ref, "artifact": "s3://b/m"})
    assert "at most one of artifact, name, modelRef" in api.refusal("create", both)


def modal(**block: Any) -> JSON:
    return integration("ModelDeployment", acme=None, model={}, modal=block)


def test_an_app_at_modal_has_nothing_of_an_endpoint_and_stays_one(api: Api) -> None:
    app = {"function": "serve"}
    words = "only bufferContainers and scaleupWindow can be set besides"
    for block in ({"routingRegion": "us-east"}, {"computeRegions": ["eu"]}, {"colocated": True}):
        assert words in api.refusal("create", modal(app=app, **block))
    told = api.refusal("create", modal(app=app, baseModel="Qwen/Qwen3.5-4B"))
    assert "at most one of app, baseModel must be set" in told
    assert "an endpoint cannot become an App" in api.refuses_change(modal(), modal(app=app))
    assert "an endpoint cannot become an App" in api.refuses_change(modal(app=app), modal())

    made = modal(app=app)
    api.create(made)
    other = {"app": {"function": "Model.web", "tag": "v2"}, "bufferContainers": 1}
    api.replace({**made, "spec": {**made["spec"], "modal": other}})


def test_a_connection_has_one_vendor_for_good(api: Api) -> None:
    api.create(connection("Connection"))

    assert "exactly one vendor" in api.refusal("replace", connection("Connection", zenith={}))
    other = {**connection("Connection"), "spec": {"zenith": {}}}
    assert "the vendor cannot change" in api.refusal("replace", other)
    slow = connection("Connection", rateLimit={"perSecond": 0})
    assert "spec.rateLimit.perSecond: Invalid value" in api.refusal("replace", slow)


def test_a_cluster_connection_says_who_may_use_it(api: Api) -> None:
    told = api.refusal("create", connection("ClusterConnection"))
    assert "spec.secretNamespace: Required value" in told
    assert "spec.allowedNamespaces: Required value" in told
    where = {"secretNamespace": "vault", "allowedNamespaces": ["team-*"]}
    closed = connection("ClusterConnection", **{**where, "allowedNamespaces": []})
    assert "spec.allowedNamespaces" in api.refusal("create", closed)

    made = api.create(connection("ClusterConnection", **where))
    assert "namespace" not in made["metadata"]
