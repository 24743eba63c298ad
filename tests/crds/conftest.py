"""A real API server with every CRD: the catalogue's and two test vendors."""

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from auterity.api import API_VERSION, crd
from auterity.api.connection import ConnectionParams
from auterity.api.kinds import KINDS, LOCAL
from auterity.providers.catalogue import catalogue
from tests.crds.acme import AcmeConnection, ZenithConnection, acme, zenith
from tools import cache
from tools.controlplane import Controlplane, Kubectl, KubectlError, build
from tools.generate import connectors, vendors_of

JSON = dict[str, Any]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Api:
    """The API server as a user meets it."""

    kubectl: Kubectl

    def create(self, manifest: JSON) -> JSON:
        """Create an object; what the API server made of it."""
        return self._sent("create", manifest)

    def replace(self, manifest: JSON) -> JSON:
        """Write an object as it is given, with what is missing removed."""
        return self._sent("replace", manifest)

    def replace_status(self, manifest: JSON) -> JSON:
        """Write an object's status."""
        return self._sent("replace", manifest, "--subresource=status")

    def refusal(self, verb: str, manifest: JSON) -> str:
        """What the API server says against it."""
        with pytest.raises(KubectlError) as told:
            self._sent(verb, manifest)
        return str(told.value)

    def _sent(self, verb: str, manifest: JSON, *more: str) -> JSON:
        text = json.dumps(manifest)
        answer: JSON = json.loads(self.kubectl(verb, "-f", "-", "-o", "json", *more, input=text))
        return answer

    def refuses_change(self, before: JSON, after: JSON) -> str:
        """Create an object, change its spec, and tell what the API server says against that."""
        self.create(before)
        try:
            return self.refusal("replace", {**before, "spec": after["spec"]})
        finally:
            self.kubectl("delete", before["kind"], before["metadata"]["name"], "--wait=false")


@pytest.fixture(scope="session")
def controlplane() -> Iterator[Controlplane]:
    try:
        build()
    except cache.InstallError as reason:
        pytest.skip(f"no control plane on this machine: {reason}")
    with Controlplane() as running:
        found = catalogue()
        definitions = [
            crd.integration(
                kind,
                {
                    **{name: p.params for name, p in vendors_of(kind, found).items()},
                    "acme": acme(kind),
                    "zenith": zenith(kind),
                },
            )
            for kind in KINDS.values()
        ]
        mine: dict[str, type[ConnectionParams]] = {
            "acme": AcmeConnection,
            "zenith": ZenithConnection,
        }
        definitions += map(crd.local, LOCAL.values())
        definitions += crd.connections({**connectors(found.values()), **mine})
        text = yaml.safe_dump_all(definitions)
        running.kubectl("apply", "--server-side", "-f", "-", input=text)
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.fixture(scope="session")
def api(controlplane: Controlplane) -> Api:
    return Api(controlplane.kubectl)


def integration(kind: str, **spec: Any) -> JSON:
    """A valid object of the test's own vendor with these fields of its spec changed."""
    required: dict[str, JSON] = {
        "VectorIndex": {"dimension": 3},
        "ModelDeployment": {"model": {"artifact": "s3://bucket/model.tar.gz"}},
        "AlertRoute": {
            "matchers": [{"label": "team", "value": "db"}],
            "receivers": [{"name": "mail", "email": {"to": ["team@example.org"]}}],
        },
    }
    base = {"connectionRef": {"name": "acme"}, "acme": {"tier": "small"}, **required[kind]}
    merged = {key: value for key, value in {**base, **spec}.items() if value is not None}
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": f"it-{next(_numbers)}", "namespace": "default"},
        "spec": copy.deepcopy(merged),
    }
