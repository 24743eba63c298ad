"""The page of verdicts, with the tools themselves: a real API server, kubectl and Argo CD."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.gitops.conftest import DOCS
from e2e.gitops.objects import Objects
from tests.gitops.page import satisfies_wait
from tests.gitops.states import STATES, State, record
from tools import argocd, crds, kstatus, samples
from tools.controlplane import Controlplane, KubectlError
from tools.generate import ROOT

pytestmark = pytest.mark.timeout(200)
SAMPLES = {
    "Connection": "vector-indexes/pinecone.yaml",
    "ModelDeployment": "model-deployments/sageMaker.yaml",
    "VectorIndex": "vector-indexes/pinecone.yaml",
}


def spec_of(kind: str) -> dict[str, Any]:
    """What the sample of a kind has: here it is of no account but to the API server."""
    text = (ROOT / "samples" / SAMPLES[kind]).read_text()
    spec: dict[str, Any] = yaml.safe_load(samples.part_of(text, kind))["spec"]
    return spec


@pytest.fixture(scope="module")
def controlplane():
    with Controlplane() as found:
        found.kubectl("apply", "--server-side", f"--kustomize={ROOT / 'crds'}")
        # The same once more without kustomize, which must not stumble over the base.
        crds.install(found.kubectl, [ROOT / "crds"])
        found.kubectl("api-resources", "--output=name")
        yield found


async def laid_down(objects: Objects, one: State, name: str) -> dict[str, Any]:
    """An object in that state in the API server: what it shows, without anything of ours."""
    recorded = await record(one)
    kind, meta = recorded["kind"], recorded["metadata"]
    made = {
        "apiVersion": recorded["apiVersion"],
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "finalizers": meta["finalizers"]},
        "spec": spec_of(kind),
    }
    deleted = "deletionTimestamp" in meta
    objects.apply(made)
    for number in range(2, meta["generation"] + (not deleted)):
        # Every edit is a generation more.
        objects.apply({**made, "spec": {**spec_of(kind), "interval": f"{number}h"}})
    if recorded["status"].get("conditions"):
        objects.status(kind, "default", name, recorded["status"])
    if deleted:
        objects.kubectl("delete", kind, name, "--wait=false")
    found = objects.find(kind, "default", name)
    assert found is not None
    assert found["metadata"]["generation"] == meta["generation"]
    return found


@pytest.mark.parametrize("number", range(len(STATES)), ids=[one.title for one in STATES])
async def test_the_tools_themselves_agree(objects: Objects, number: int, tmp_path: Path):
    one, name = STATES[number], f"state-{number}"
    found = await laid_down(objects, one, name)
    assert kstatus.judge([found]) == [one.kstatus]
    assert argocd.health(found, DOCS / "argocd-cm.yaml", tmp_path)[0] == one.argocd
    wait = ("wait", found["kind"], name, "--for=condition=Ready", "--timeout=0")
    if satisfies_wait(found):
        objects.kubectl(*wait)
    else:
        with pytest.raises(KubectlError, match="condition not met"):
            objects.kubectl(*wait)
