"""What kstatus and Argo CD make of objects that the real engine keeps."""

import pytest
import yaml

from auterity.api import API_VERSION
from auterity.api.kinds import PLURALS
from auterity.engine.conditions import Reason
from e2e.kstatus import kstatus
from tests.conformance.conftest import VENDORS
from tests.conformance.harness import Harness
from tests.conformance.vendor import Vendor
from tests.gitops import page
from tests.gitops.argocd import health
from tests.gitops.states import STATES, State, manifest, record
from tools import kstatus as real
from tools.cache import InstallError
from tools.generate import ROOT

by_title = pytest.mark.parametrize("one", STATES, ids=[one.title for one in STATES])


@by_title
async def test_each_tool_reads_each_state_rightly(one: State):
    found = await record(one)
    told = found["status"].get("conditions")
    assert kstatus(found) is one.kstatus, told
    status, message = health(found)
    assert status == one.argocd, told
    if told and found["status"]["observedGeneration"] == found["metadata"]["generation"]:
        assert message == f"{told[0]['reason']}: {told[0]['message']}"
    assert page.satisfies_wait(found) is one.waited_for, told


async def test_kstatus_itself_agrees():
    try:
        real.build()
    except InstallError as reason:
        pytest.skip(f"kstatus: {reason}")
    found = [await record(one) for one in STATES]
    assert real.judge(found) == [one.kstatus for one in STATES]


async def test_every_reason_is_among_the_states():
    shown = set()
    for one in STATES:
        found = await record(one)
        shown |= {condition["reason"] for condition in found["status"].get("conditions") or ()}
    assert shown == set(Reason)


def test_the_page_tells_what_is_so():
    assert page.PAGE.read_text() == page.page(), "run python -m tests.gitops.page"


@pytest.mark.parametrize("kind", list(PLURALS))
def test_an_object_that_was_never_looked_at_is_in_progress(kind: str):
    found = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": "new", "generation": 1},
        # As the API server defaults it.
        "status": {"observedGeneration": -1},
    }
    assert kstatus(found) == "InProgress"
    assert health(found) == ("Progressing", "Waits for the operator")
    assert health({**found, "status": {}})[0] == "Progressing"


@pytest.fixture
async def vendor(vendor_class: type[Vendor]):
    if (reason := vendor_class.missing()) is not None:
        pytest.skip(reason)
    made = vendor_class()
    await made.start()
    await made.reset()
    yield made
    await made.stop()


@pytest.mark.parametrize("vendor_class", VENDORS.values(), ids=list(VENDORS))
async def test_every_kind_is_read_rightly_through_its_life(vendor: Vendor):
    harness = Harness(vendor)
    await harness.start()
    seen = []

    def look() -> None:
        found = manifest(harness.subject)
        seen.append((kstatus(found).value, health(found)[0]))

    try:
        harness.apply()
        look()
        await harness.converge()
        look()
        harness.apply(interval="7m")
        look()
        await harness.converge()
        look()
        harness.cluster.delete(harness.key)
        look()
        await harness.remove()
    finally:
        await harness.stop()
    assert seen == [
        ("InProgress", "Progressing"),
        ("Current", "Healthy"),
        ("InProgress", "Progressing"),
        ("Current", "Healthy"),
        ("Terminating", "Progressing"),
    ]


def test_every_crd_starts_as_never_looked_at():
    for path in (ROOT / "crds").glob("*.yaml"):
        document = yaml.safe_load(path.read_text())
        if document["kind"] != "CustomResourceDefinition":
            continue
        (version,) = document["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        assert schema["default"] == {"observedGeneration": -1}, path.name
