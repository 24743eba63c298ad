"""The policy that sets our finalizer while an integration is being created."""

import time

import pytest
import yaml

from auterity.api.annotations import FINALIZER
from auterity.api.kinds import KINDS
from tests.crds.conftest import Api, Refused, integration
from tools.manifests import POLICY_NAME, finalizer_policy


@pytest.fixture(scope="module", autouse=True)
def policy(api: Api) -> None:
    if "mutatingadmissionpolicies" not in api.kubectl("api-resources", "-o", "name"):
        pytest.skip("this API server has no MutatingAdmissionPolicy v1")
    policies = finalizer_policy(kind.plural for kind in KINDS.values())
    api.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(policies))
    deadline = time.monotonic() + 30
    while not in_effect(api):
        assert time.monotonic() < deadline, "the policy never took effect"
        time.sleep(0.5)


def in_effect(api: Api) -> bool:
    """For 5 seconds after a CRD the API server does not know the kind in policies: it answers 503.

    It looks for new schemas that often, and failurePolicy has no say in it.
    """
    try:
        return "finalizers" in api.create(integration("VectorIndex"))["metadata"]
    except Refused as error:
        if "There can be a delay between when CustomResourceDefinitions" not in str(error):
            raise
        return False


@pytest.mark.parametrize("kind", ["VectorIndex", "AlertRoute", "ModelDeployment"])
def test_an_integration_is_born_with_our_finalizer(api: Api, kind: str) -> None:
    made = api.create(integration(kind))

    assert made["metadata"]["finalizers"] == [FINALIZER]
    assert made["metadata"]["generation"] == 1


def test_finalizers_of_others_are_kept(api: Api) -> None:
    manifest = integration("VectorIndex")
    manifest["metadata"]["finalizers"] = ["example.org/other"]

    made = api.create(manifest)
    assert made["metadata"]["finalizers"] == ["example.org/other", FINALIZER]


def test_ours_is_not_added_twice(api: Api) -> None:
    manifest = integration("VectorIndex")
    manifest["metadata"]["finalizers"] = [FINALIZER]

    assert api.create(manifest)["metadata"]["finalizers"] == [FINALIZER]


def test_it_comes_back_on_no_update(api: Api) -> None:
    made = api.create(integration("VectorIndex"))

    freed = {**made, "metadata": {**made["metadata"], "finalizers": []}}
    assert "finalizers" not in api.replace(freed)["metadata"]


def test_the_policy_may_be_absent_or_fail(api: Api) -> None:
    assert finalizer_policy([])[0]["spec"]["failurePolicy"] == "Ignore"
    api.kubectl("get", "mutatingadmissionpolicybinding", POLICY_NAME)
