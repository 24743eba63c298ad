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


async def test_a_change_of_a_deployment_that_fails_is_told_and_not_tried_again_unchanged(
    harness: Harness,
):
    await harness.make()
    behind(harness).breaks = {
        "code": 8,
        "message": "The following quotas are exceeded: MatchingEngineDeployedIndexNodes",
    }
    harness.apply(spec(maxReplicas=9))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    assert harness.ready["message"].endswith(
        "Vertex AI could not change its deployment: The following quotas are exceeded: "
        "MatchingEngineDeployedIndexNodes; ask Google to raise the quota; change the spec to try "
        "again"
    )
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []
    harness.apply(spec(maxReplicas=3))
    assert (await harness.converge()).outcome == "Ready"


async def test_an_index_that_is_not_shown_until_it_is_made_is_waited_for(harness: Harness):
    fake = behind(harness)
    fake.late = harness.vendor.slow = True
    harness.apply()
    for _ in range(3):
        await harness.visit()
        assert harness.ready["reason"] == "Progressing", harness.ready
        assert "is being created" in harness.ready["message"]
    assert len(fake.indexes) == 1
    harness.vendor.slow = False
    assert (await harness.converge()).outcome == "Ready"


async def test_an_update_of_the_contents_that_fails_leaves_the_index_ready(harness: Harness):
    id = await harness.make()
    fake = behind(harness)
    broken = {"code": 3, "message": "gs://acme-vectors/more has no file that can be read"}
    fake.operations.start("UpdateIndex", fake.indexes[id]["name"], dict, broken)
    fake.operations.settle()
    assert (await harness.visit()).outcome == "Ready", harness.ready
    assert harness.subject.status["summary"] == {"failedUpdate": broken["message"]}


async def test_records_that_google_cannot_read_are_told_without_what_they_hold(harness: Harness):
    id = await harness.make()
    fake = behind(harness)
    (made,) = fake.operations.on(fake.indexes[id]["name"])
    made["metadata"]["genericMetadata"]["partialFailures"] = [
        {"code": 3, "message": "gs://acme-vectors/documents/b.csv cannot be read"}
    ]
    error = {
        "errorType": "EMBEDDING_SIZE_MISMATCH",
        "errorMessage": "The record [0.5, 0.25] has 2 dimensions",
        "rawRecord": "[0.5, 0.25]",
        "sourceGcsUri": "gs://acme-vectors/documents/a.json",
    }
    made["metadata"]["nearestNeighborSearchOperationMetadata"] = {
        "contentValidationStats": [
            {"validRecordCount": "7", "invalidRecordCount": "2", "partialErrors": [error]},
            {"invalidRecordCount": "1"},
        ]
    }
    assert (await harness.visit()).outcome == "Ready", harness.ready
    assert harness.subject.status["summary"] == {
        "invalidRecords": "3",
        "invalidRecord": "EMBEDDING_SIZE_MISMATCH in gs://acme-vectors/documents/a.json",
        "unreadFile": "gs://acme-vectors/documents/b.csv cannot be read",
    }


async def test_of_two_endpoints_it_is_the_one_that_serves(harness: Harness):
    await harness.make()
    fake = behind(harness)
    ((id, serving),) = fake.endpoints.items()
    other = {"name": serving["name"].replace(id, "1"), "labels": serving["labels"]}
    fake.endpoints = {"1": other, id: serving}
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready", harness.ready
    assert harness.subject.status["outputs"]["indexEndpoint"] == serving["name"]
    assert harness.vendor_writes() == []
    await harness.remove()
    assert await harness.vendor.count() == 0


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
