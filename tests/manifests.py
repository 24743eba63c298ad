"""Manifests as the operator itself reads them."""

from typing import Any

from auterity.api import API_VERSION
from auterity.api.connection import ClusterConnectionSpec, ConnectionSpec
from auterity.api.kinds import KINDS, LOCAL
from auterity.engine import declared
from auterity.engine.declared import Declared
from auterity.engine.subject import Key, Subject
from auterity.providers.catalogue import catalogue
from tools.generate import connectors

Manifest = dict[str, Any]

BLOCKS = connectors(catalogue().values())
"""The connection blocks by vendor."""
OTHERS = {
    "Deployment",
    "Namespace",
    "Secret",
    "Service",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
"""What stands beside our own kinds."""


def check(document: Manifest) -> None:
    """Fail unless the operator takes it."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind in KINDS:
        assert document["apiVersion"] == API_VERSION
        assert read(document).want.name
    elif kind in LOCAL:
        assert LOCAL[kind].spec.model_validate(spec)
    elif kind in ("Connection", "ClusterConnection"):
        model = ConnectionSpec if kind == "Connection" else ClusterConnectionSpec
        assert model.model_validate(spec)
        (vendor,) = spec.keys() & BLOCKS.keys()
        assert BLOCKS[vendor].model_validate(spec[vendor])
    else:
        assert kind in OTHERS, f"{kind} is neither ours nor known to be needed"


def read(document: Manifest) -> Declared:
    """What an integration declares."""
    meta = document["metadata"]
    subject = Subject(
        key=Key(document["kind"], namespace_of(document), meta["name"]),
        uid="uid",
        generation=1,
        resource_version="1",
        created_at="2026-01-01T00:00:00Z",
        deleting=False,
        labels=meta.get("labels", {}),
        annotations={},
        finalizers=[],
        spec=document["spec"],
        status={},
    )
    return declared.read(subject, catalogue())


def namespace_of(document: Manifest) -> str:
    """Where it goes if nobody says otherwise."""
    return str(document["metadata"].get("namespace", "default"))
