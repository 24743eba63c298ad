"""What a person sees of the CRDs through kubectl."""

import time

from auterity.api import GROUP
from auterity.api.kinds import SHORT_NAMES
from tests.crds.conftest import Api, integration
from tools.controlplane import KubectlError


def explained(api: Api, path: str) -> str:
    """Documentation is published a moment after the CRD."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return api.kubectl("explain", path)
        except KubectlError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_explain_shows_the_documentation_of_a_field(api: Api) -> None:
    assert "Number of dimensions of every vector." in explained(api, "vectorindex.spec.dimension")
    assert "What only Acme has." in explained(api, "vectorindex.spec.acme")
    assert "Where the value is kept." in explained(api, "connection.spec.acme.apiKey.secretKeyRef")


def test_every_integration_is_listed_together(api: Api) -> None:
    index = api.create(integration("VectorIndex"))["metadata"]["name"]
    route = api.create(integration("AlertRoute"))["metadata"]["name"]

    listed = api.kubectl("get", "integrations", "-o", "name")
    assert f"vectorindex.{GROUP}/{index}" in listed
    assert f"alertroute.{GROUP}/{route}" in listed


def test_columns_tell_the_state(api: Api) -> None:
    made = integration("VectorIndex")
    name = made["metadata"]["name"]
    api.create(made)
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "RateLimited",
        "message": "asked too often",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"conditions": [condition], "vendor": "acme", "id": "i-1", "observedGeneration": 1}
    api.replace_status({**made, "status": status})

    titles, row = api.kubectl("get", "vectorindex", name).splitlines()
    assert titles.split() == ["NAME", "READY", "REASON", "VENDOR", "ID", "AGE"]
    assert row.split()[:5] == [name, "False", "RateLimited", "acme", "i-1"]
    wide = api.kubectl("get", "vectorindex", name, "-o", "wide")
    assert wide.splitlines()[0].split()[-2:] == ["MESSAGE", "CONNECTION"]
    assert "asked too often" in wide


def test_kinds_have_short_names(api: Api) -> None:
    for short in SHORT_NAMES.values():
        api.kubectl("get", short)
