"""What is special of Vector Search: failed deployments, other machines, foreign deployments."""

from tests.conformance.harness import Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.vertex_vector_search import VectorSearch, VectorSearchVendor

STAND_IN = VectorSearchVendor


def behind(harness: Harness) -> VectorSearch:
    assert isinstance(harness.vendor, VectorSearchVendor)
    return harness.vendor.search


def spec(**block: object) -> JSON:
    return merged(VectorSearchVendor.spec, {"vertexVectorSearch": block})


async def test_a_deployment_that_fails_is_told_and_not_tried_again_unchanged(harness: Harness):
    behind(harness).breaks = {
        "code": 8,
        "message": "The following quotas are exceeded: MatchingEngineDeployedIndexNodes",
    }
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected"
    assert harness.ready["message"].endswith(
        "Vertex AI could not deploy it: The following quotas are exceeded: "
        "MatchingEngineDeployedIndexNodes; ask Google to raise the quota; change the spec to try "
        "again"
    )
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []
    harness.apply(spec(maxReplicas=1))
    assert (await harness.converge()).outcome == "Ready"


async def test_a_machine_that_does_not_fit_is_told_in_googles_words(harness: Harness):
    harness.apply(spec(shardSize="Medium"))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected"
    assert "e2-standard-2 does not fit the shard size" in harness.ready["message"]


async def test_another_machine_is_brought_by_deploying_anew(harness: Harness):
    await harness.make()
    host = harness.subject.status["outputs"]["host"]
    harness.forget_faults()
    harness.apply(spec(machineType="e2-standard-16"))
    assert (await harness.converge()).outcome == "Ready"
    assert harness.vendor_writes() == ["UndeployIndex", "UpdateIndexEndpoint", "DeployIndex"]
    assert harness.subject.status["outputs"]["host"] == host


async def test_without_a_machine_google_chooses(harness: Harness):
    harness.apply(spec(machineType=None, minReplicas=None, maxReplicas=None))
    assert (await harness.converge()).outcome == "Ready"
    (endpoint,) = behind(harness).endpoints.values()
    (live,) = endpoint["deployedIndexes"]
    assert "automaticResources" in live


async def test_what_others_have_deployed_keeps_an_index_from_being_deleted(harness: Harness):
    id = await harness.make()
    fake = behind(harness)
    index = fake.indexes[id]["name"]
    fake.endpoints["7"] = {
        "name": "projects/1/locations/l/indexEndpoints/7",
        "deployedIndexes": [{"id": "theirs", "index": index}],
    }
    harness.cluster.delete(harness.key)
    await harness.converge()
    assert "is deployed: undeploy it first" in harness.ready["message"]
    assert list(fake.endpoints) == ["7"], "ours is gone, theirs is left alone"
    del fake.endpoints["7"]
    await harness.remove()
    assert await harness.vendor.count() == 0
