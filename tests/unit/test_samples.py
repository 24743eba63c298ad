"""Every manifest under samples/, as the operator reads it: found by folder, listed nowhere."""

from pathlib import Path

import pytest

from auterity.api.fields import OutputRef, Resolved, resolvables
from auterity.api.kinds import KINDS
from auterity.providers.catalogue import catalogue
from tests.manifests import Manifest, check, namespace_of, read
from tools.generate import ROOT, sample_path
from tools.samples import every, parts

SAMPLES = ROOT / "samples"
FILES = every(SAMPLES)
FOLDERS = sorted({path.parent for path in (SAMPLES / "use-cases").rglob("*.yaml")})


def short(path: Path) -> str:
    return str(path.relative_to(SAMPLES))


def documents(*paths: Path) -> list[Manifest]:
    return [document for path in paths for _, document in parts(path.read_text())]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_a_sample_is_what_the_operator_takes(path: Path) -> None:
    for document in documents(path):
        check(document)


def test_every_provider_has_a_sample_and_every_sample_a_provider() -> None:
    wanted = {sample_path(kind, vendor) for kind, vendor in catalogue()}
    there = {str(path.relative_to(ROOT)) for path in FILES if "use-cases" not in path.parts}

    assert there == wanted


@pytest.mark.parametrize("folder", FOLDERS, ids=short)
def test_a_use_case_is_whole(folder: Path) -> None:
    """What its manifests refer to is in it: connections, Secrets and their keys, integrations."""
    found = documents(*every(folder))
    names = {(d["kind"], namespace_of(d), d["metadata"]["name"]) for d in found}
    cluster = {d["metadata"]["name"]: d["spec"] for d in found if d["kind"] == "ClusterConnection"}
    keys = {
        (namespace_of(d), d["metadata"]["name"], key)
        for d in found
        if d["kind"] == "Secret"
        for key in d["stringData"]
    }
    for document in found:
        if document["kind"] not in KINDS:
            continue
        namespace, declared = namespace_of(document), read(document)
        reference = declared.common.connection_ref
        if reference.kind == "ClusterConnection":
            assert namespace in cluster[reference.name]["allowedNamespaces"]
        else:
            assert ("Connection", namespace, reference.name) in names
        for value in resolvables(declared.want):
            refers(value, namespace, names, keys)


def refers(
    value: Resolved,
    namespace: str,
    names: set[tuple[str, str, str]],
    keys: set[tuple[str, str, str]],
) -> None:
    secret = getattr(value, "secret_key_ref", None)
    output: OutputRef | None = getattr(value, "output_ref", None)
    if secret is not None:
        assert (namespace, secret.name, secret.key) in keys
    if output is not None:
        assert (output.kind, namespace, output.name) in names
