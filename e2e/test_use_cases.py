"""The use cases under samples/, applied as they are, at vendors that run on this machine."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator

import pytest

from tests.fakes.keycloak import KeycloakRealms
from tools.demo.retrieval import FOLDER, Retrieval
from tools.demo.stage import JSON, Stage, stage, until, use_case
from tools.generate import ROOT

PASSAGES = str(FOLDER / "passages.txt")
READY = "--for=condition=Ready"

pytestmark = pytest.mark.timeout(400)  # Keycloak alone may take minutes to start


@pytest.fixture(scope="module")
def it(starting: subprocess.Popen[str] | None) -> Iterator[Stage]:
    with stage() as running:
        yield running


@pytest.fixture(scope="module")
def starting() -> Iterator[subprocess.Popen[str] | None]:
    """A Keycloak, long before it answers: the others need not wait for it."""
    if KeycloakRealms.missing() is not None:
        yield None
        return
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.serve", "keycloak"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
    ) as server:
        try:
            yield server
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def keycloak(starting: subprocess.Popen[str] | None) -> JSON:
    """Address and credentials of a Keycloak."""
    if starting is None:
        pytest.skip(str(KeycloakRealms.missing()))
    assert starting.stdout is not None
    found: JSON = json.loads(starting.stdout.readline())
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
    retrieval = Retrieval(it)
    index = [d for d in retrieval.documents if d["kind"] == "VectorIndex"]

    it.apply(*[d for d in retrieval.documents if d not in index])
    until(
        "the model waiting for the index",
        lambda: "VectorIndex 'passages' does not exist" in message(it, "mdep", "embedder"),
    )
    it.apply(*index)
    it.kubectl("wait", READY, "vectorindex/passages", "--timeout=120s", timeout=150)
    it.kubectl("wait", READY, "modeldeployment/embedder", "--timeout=120s", timeout=150)

    for _ in range(2):
        assert retrieval.application("keep", PASSAGES) == "6 passages kept in passages\n"
    nearest, other = retrieval.application(
        "ask", "Until when can an order be cancelled?"
    ).splitlines()
    assert "An order can be cancelled" in nearest
    assert float(nearest.split()[0]) < float(other.split()[0])
    assert "Index Scan using passages_index" in retrieval.plan()


def test_the_service_is_served_by_the_platforms_connections(it: Stage, keycloak: JSON) -> None:
    alertmanager, _ = it.local("alertmanager")
    local = {**keycloak["connection"], **it.github["connection"], **alertmanager}
    told = keycloak["secrets"] | it.github["secrets"]
    keys = {(name, key): value for name, data in told.items() for key, value in data.items()}

    it.apply(*use_case("service", local, keys))
    for kind in ("identityprovider", "cipipelinebinding", "alertroute"):
        it.kubectl("wait", READY, f"{kind}/shop", "-n", "shop", "--timeout=120s", timeout=150)

    sign_in = outputs(it, "shop", "shop-sign-in")
    assert sign_in.keys() == {"issuer", "discoveryUrl", "web.clientId", "web.clientSecret"}
    until(
        "the route in the file of Alertmanager",
        lambda: "receiver: shop" in it.alertmanager.config_file.read_text(),
    )
