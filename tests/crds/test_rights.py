"""The operator's rights, as the chart grants them, are enough and no more."""

import pytest
import yaml

from auterity.api import GROUP
from auterity.api.kinds import KINDS
from auterity.api.rights import rules
from tests.crds.conftest import JSON, Api
from tools.controlplane import KubectlError

ACCOUNT = "system:serviceaccount:default:operator"


def granted(name: str, rights: list[JSON]) -> list[JSON]:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rights,
    }
    binding = {
        **role,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "default"}],
    }
    del binding["rules"]
    return [role, binding]


@pytest.fixture(scope="module", autouse=True)
def roles(api: Api) -> None:
    made = rules(kind.plural for kind in KINDS.values())
    documents = [document for name, rights in made.items() for document in granted(name, rights)]
    api.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))


def allowed(api: Api, verb: str, resource: str, *more: str) -> bool:
    try:
        return api.kubectl("auth", "can-i", verb, resource, *more, f"--as={ACCOUNT}") == "yes\n"
    except KubectlError:
        return False


PLURALS = [*(kind.plural for kind in KINDS.values()), "connections", "clusterconnections"]


@pytest.mark.parametrize("plural", PLURALS)
def test_integrations_are_watched_and_marked_and_never_deleted(api: Api, plural: str) -> None:
    resource = f"{plural}.{GROUP}"

    assert all(allowed(api, verb, resource, "-A") for verb in ("get", "list", "watch", "patch"))
    assert allowed(api, "patch", resource, "--subresource=status", "-A")
    assert not any(allowed(api, verb, resource) for verb in ("create", "delete", "update"))
    assert not allowed(api, "update", resource, "--subresource=status")


def test_secrets_are_read_and_written_and_never_deleted(api: Api) -> None:
    wanted = ("get", "list", "watch", "create", "patch")

    assert all(allowed(api, verb, "secrets", "-A") for verb in wanted)
    assert not allowed(api, "delete", "secrets")


def test_events_are_recorded(api: Api) -> None:
    assert allowed(api, "create", "events", "-A")
    assert not allowed(api, "list", "events")


def test_of_namespaces_only_kube_system_is_looked_at(api: Api) -> None:
    assert allowed(api, "get", "namespaces/kube-system")
    assert not allowed(api, "get", "namespaces/default")
    assert not allowed(api, "list", "namespaces")


def test_kinds_that_come_later_are_noticed(api: Api) -> None:
    assert allowed(api, "list", "customresourcedefinitions.apiextensions.k8s.io")
    assert allowed(api, "watch", "customresourcedefinitions.apiextensions.k8s.io")
    assert not allowed(api, "patch", "customresourcedefinitions.apiextensions.k8s.io")


@pytest.mark.parametrize("resource", ["pods", "configmaps", "deployments.apps", "clusterroles"])
def test_nothing_else_is_reached(api: Api, resource: str) -> None:
    assert not any(allowed(api, verb, resource) for verb in ("get", "create", "patch"))
