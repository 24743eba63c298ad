"""What the operator may have of a cluster besides its CRDs and rights: a finalizer at admission."""

from collections.abc import Iterable
from typing import Any, Final

from auterity.api import GROUP, VERSION
from auterity.api.annotations import FINALIZER

Manifest = dict[str, Any]

POLICY_NAME: Final = f"finalizer.{GROUP}"


def finalizer_policy(plurals: Iterable[str]) -> list[Manifest]:
    """Sets our finalizer when an integration is created, which saves the operator a write."""
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": POLICY_NAME},
            "spec": {
                # The operator sets a missing finalizer itself: no failure of this policy matters.
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": [GROUP],
                            "apiVersions": [VERSION],
                            "operations": ["CREATE"],
                            "resources": sorted(plurals),
                        }
                    ]
                },
                "matchConditions": [
                    {
                        "name": "finalizer-is-absent",
                        "expression": "!has(object.metadata.finalizers) || "
                        f"!('{FINALIZER}' in object.metadata.finalizers)",
                    }
                ],
                "mutations": [
                    {
                        "patchType": "JSONPatch",
                        "jsonPatch": {
                            "expression": "has(object.metadata.finalizers)"
                            " ? [JSONPatch{op: 'add', path: '/metadata/finalizers/-',"
                            f" value: '{FINALIZER}'}}]"
                            " : [JSONPatch{op: 'add', path: '/metadata/finalizers',"
                            f" value: ['{FINALIZER}']}}]"
                        },
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY_NAME},
            "spec": {"policyName": POLICY_NAME},
        },
    ]
