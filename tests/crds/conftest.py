"""A real API server with every CRD: the catalogue's and two test vendors."""

import copy
import itertools
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from auterity.api import API_VERSION, crd
from auterity.api.connection import ConnectionParams
from auterity.api.kinds import KINDS, LOCAL
from auterity.providers.catalogue import catalogue
from auterity.runtime.cluster import collection
from tests.crds.acme import AcmeConnection, ZenithConnection, acme, zenith
from tools import cache
from tools.controlplane import Controlplane, Kubectl, build
from tools.generate import connectors, vendors_of

JSON = dict[str, Any]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave for last what the API server is ready for seconds after it has got the CRDs."""
    items.sort(key=lambda item: item.path.name == "test_admission.py")


class Refused(Exception):  # noqa: N818 - as the API server refuses
    """What the API server says against a request."""


@dataclass(frozen=True)
class Api:
    """The API server as a user meets it.

    Our own objects go to it directly, and are held to the schema as strictly as by kubectl, which
    takes ten times as long to start as the API server to answer.
    """

    kubectl: Kubectl
    http: httpx.Client

    def create(self, manifest: JSON, *, dry_run: bool = False) -> JSON:
        """Create an object; what the API server made of it."""
        return self._sent("POST", _collection(manifest), manifest, dry_run=dry_run)

    def read(self, manifest: JSON) -> JSON:
        """An object as it is stored."""
        return self._answered(self.http.get(_path(manifest)))

    def replace(self, manifest: JSON, *, dry_run: bool = False, of: str = "") -> JSON:
        """Write an object as it is given, with what is missing removed; or a subresource `of` it.

        As with kubectl, it may have been changed in between.
        """
        newest = self.read(manifest)["metadata"]["resourceVersion"]
        metadata = {"resourceVersion": newest, **manifest["metadata"]}
        return self._sent(
            "PUT", _path(manifest) + of, {**manifest, "metadata": metadata}, dry_run=dry_run
        )

    def replace_status(self, manifest: JSON) -> JSON:
        """Write an object's status."""
        return self.replace(manifest, of="/status")

    def refusal(self, verb: str, manifest: JSON) -> str:
        """What the API server says against it."""
        with pytest.raises(Refused) as told:
            getattr(self, verb)(manifest)
        return str(told.value)

    def _sent(self, method: str, path: str, manifest: JSON, *, dry_run: bool) -> JSON:
        how = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._answered(self.http.request(method, path, params=how, json=manifest))

    def _answered(self, answer: httpx.Response) -> JSON:
        told: JSON = answer.json()
        if answer.is_error:
            raise Refused(told["message"])
        return told

    def refuses_change(self, before: JSON, after: JSON) -> str:
        """Create an object, change its spec, and tell what the API server says against that."""
        self.create(before)
        try:
            return self.refusal("replace", {**before, "spec": after["spec"]})
        finally:
            self._answered(self.http.delete(_path(before)))


def _collection(manifest: JSON) -> str:
    spread = "" if manifest["kind"].startswith("Cluster") else "default"
    return collection(manifest["kind"], spread)


def _path(manifest: JSON) -> str:
    return f"{_collection(manifest)}/{manifest['metadata']['name']}"


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
def api(controlplane: Controlplane) -> Iterator[Api]:
    with httpx.Client(
        base_url=controlplane.url,
        verify=ssl.create_default_context(cafile=str(controlplane.ca)),
        headers={"Authorization": f"Bearer {controlplane.token}"},
        trust_env=False,
        timeout=60,
    ) as http:
        yield Api(controlplane.kubectl, http)


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
