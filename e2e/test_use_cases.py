"""The use cases under samples/, applied as they are, at vendors that run on this machine."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator

import boto3
import pytest

from tests.conformance.vendor import merged
from tests.fakes.keycloak import KeycloakRealms
from tools.demo.stage import JSON, Stage, stage, until
from tools.generate import ROOT
from tools.samples import every, parts

USE_CASES = ROOT / "samples/use-cases"
READY = "--for=condition=Ready"

pytestmark = pytest.mark.timeout(400)  # Keycloak alone may take minutes to start


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage() as running:
        yield running


@pytest.fixture(scope="module")
def keycloak() -> Iterator[JSON]:
    """Address and credentials of a Keycloak."""
    if (reason := KeycloakRealms.missing()) is not None:
        pytest.skip(reason)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.serve", "keycloak"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
    ) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()


def documents(folder: str, local: JSON, secrets: dict[tuple[str, str], str]) -> list[JSON]:
    """A use case's manifests, with the addresses and credentials of this machine.

    `local` has what a connection's block gets by vendor, `secrets` values by Secret and key.
    """
    found = [d for path in every(USE_CASES / folder) for _, d in parts(path.read_text())]
    for document in found:
        if document["kind"] in ("Connection", "ClusterConnection"):
            block = document["spec"]
            vendor = next(name for name in local if name in block)
            document["spec"] = merged(block, {vendor: local[vendor]})
        elif document["kind"] == "Secret":
            name = document["metadata"]["name"]
            data = document["stringData"]
            document["stringData"] = {k: secrets.get((name, k), v) for k, v in data.items()}
    return found


def outputs(it: Stage, namespace: str, name: str) -> dict[str, str]:
    """What is in a Secret of outputs."""
    raw = json.loads(it.kubectl("get", "secret", name, "-n", namespace, "-o", "json"))
    return {key: b64decode(value).decode() for key, value in raw["data"].items()}


def message(it: Stage, kind: str, name: str) -> str:
    """Why an object of the default namespace is not ready."""
    path = '{.status.conditions[?(@.type=="Ready")].message}'
    return it.kubectl("get", kind, name, "-o", f"jsonpath={path}")


def test_the_parts_of_the_retrieval_stack_find_each_other(it: Stage) -> None:
    aws, _ = it.local("sageMaker")
    postgresql, _ = it.local("pgvector")
    keys = {
        ("passages-database", "password"): it.postgres.password,
        ("aws", "secretAccessKey"): "demo-secret-key",
    }
    found = documents("rag-stack", aws | postgresql, keys)
    index = [d for d in found if d["kind"] == "VectorIndex"]

    it.apply(*[d for d in found if d not in index])
    until(
        "the model waiting for the index",
        lambda: "VectorIndex 'passages' does not exist" in message(it, "mdep", "embedder"),
    )
    it.apply(*index)
    it.kubectl("wait", READY, "vectorindex/passages", "--timeout=60s")
    it.kubectl("wait", READY, "modeldeployment/embedder", "--timeout=120s", timeout=150)

    wanted = {
        ref["secretKeyRef"]["name"]: ref["secretKeyRef"]["key"]
        for deployment in found
        if deployment["kind"] == "Deployment"
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for ref in (variable["valueFrom"] for variable in container["env"])
    }
    assert wanted.keys() == {"passages-index", "embedder-endpoint", "passages-database"}
    for name, key in wanted.items():
        assert outputs(it, "default", name)[key]
    sagemaker = boto3.client(
        "sagemaker",
        region_name="eu-west-1",
        endpoint_url=it.moto.url,
        aws_access_key_id="demo",
        aws_secret_access_key="demo-secret-key",
    )
    (model,) = [m["ModelName"] for m in sagemaker.list_models()["Models"]]
    made = sagemaker.describe_model(ModelName=model)
    environment = made["PrimaryContainer"]["Environment"]
    assert environment == {"DIMENSION": "1024", "INDEX_TABLE": "passages"}


def test_the_service_is_served_by_the_platforms_connections(it: Stage, keycloak: JSON) -> None:
    alertmanager, _ = it.local("alertmanager")
    local = {**keycloak["connection"], **it.github["connection"], **alertmanager}
    told = keycloak["secrets"] | it.github["secrets"]
    keys = {(name, key): value for name, data in told.items() for key, value in data.items()}

    it.apply(*documents("service", local, keys))
    for kind in ("identityprovider", "cipipelinebinding", "alertroute"):
        it.kubectl("wait", READY, f"{kind}/shop", "-n", "shop", "--timeout=90s", timeout=120)

    sign_in = outputs(it, "shop", "shop-sign-in")
    assert sign_in.keys() == {"issuer", "discoveryUrl", "web.clientId", "web.clientSecret"}
    assert "receiver: shop" in it.alertmanager.config_file.read_text()
