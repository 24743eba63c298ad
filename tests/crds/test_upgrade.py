"""Objects that an older schema has let in, under a newer one, on a real API server.

Nothing of this may be released (see tools/compatibility.py); whatever is, an object that the
operator can no longer read is told of by its field's name, and is neither lost nor deleted.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from auterity.api import API_VERSION, crd
from auterity.api.annotations import FINALIZER
from auterity.api.fields import Params, Rule, ShortText
from auterity.api.kinds import KINDS
from auterity.api.vector_index import VectorIndex
from auterity.engine.connections import Connections
from auterity.engine.contract import Access, Connector, Identity, Observed, Provider, Session
from auterity.engine.listings import Listings
from auterity.engine.reconcile import visit
from auterity.engine.subject import Key, Subject
from auterity.engine.visit import Engine
from auterity.runtime.cluster import KubeCluster, collection
from auterity.runtime.kube import Kube
from auterity.runtime.store import Store
from tests.conformance.cluster import Recorder
from tools import cache
from tools.compatibility import breaks
from tools.controlplane import Controlplane, KubectlError, build

JSON = dict[str, Any]
KIND = KINDS["VectorIndex"]
THINGS: dict[str, tuple[JSON, str]] = {}
"""What the vendor holds: fields and owner by id."""
CALLS: list[str] = []


class DrawerSession(Session):
    async def verify(self) -> Identity:
        return Identity("me")


class DrawerConnection(Connector):
    """A drawer."""

    vendor = "drawer"

    async def open(self, access: Access) -> Session:
        return DrawerSession()


class Older(VectorIndex):
    """An index in a drawer."""

    colour: ShortText | None = None
    """Colour."""
    replicas: Annotated[int, Field(ge=1, le=10)] = 1
    """Replicas."""
    mode: Literal["fast", "slow"] = "fast"
    """Mode."""
    code: ShortText | None = None
    """Code."""


class Newer(VectorIndex):
    """An index in a drawer."""

    rules = (Rule("self.replicas != 3", "three is one too many"),)

    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Replicas."""
    mode: Literal["fast"] = "fast"
    """Mode."""
    code: Annotated[ShortText | None, Field(pattern=r"^x")] = None
    """Code."""


class Newest(Newer):
    """An index in a drawer."""

    place: ShortText
    """Place."""


class Drawer(Provider[Any, DrawerSession]):
    """Keeps everything."""

    kind, vendor = "VectorIndex", "drawer"
    params: type[Params] = Older
    connection = DrawerConnection

    async def read(self, id: str) -> Observed[Any] | None:
        if id not in THINGS:
            return None
        fields, owner = THINGS[id]
        known = {k: v for k, v in fields.items() if k in self.params.model_fields}
        return Observed(id, self.params.seen(**known), owner=owner)

    async def create(self, want: Any, owner: str) -> str:
        CALLS.append(f"create {want.name}")
        THINGS[want.name] = (want.model_dump(), owner)
        return str(want.name)

    async def update(self, id: str, want: Any, changed: frozenset[str], owner: str) -> None:
        CALLS.append(f"update {id}")
        THINGS[id] = (want.model_dump(), owner)

    async def delete(self, id: str) -> None:
        CALLS.append(f"delete {id}")
        THINGS.pop(id, None)


class NewerDrawer(Drawer):
    params = Newer


class NewestDrawer(Drawer):
    params = Newest


def definition(params: type[Params]) -> JSON:
    return crd.integration(KIND, {"drawer": params})


def index(name: str, **block: Any) -> JSON:
    return {
        "apiVersion": API_VERSION,
        "kind": "VectorIndex",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "connectionRef": {"name": "drawer"},
            "deletionPolicy": "Delete",
            "dimension": 8,
            "drawer": block,
        },
    }


UNREADABLE: dict[str, tuple[JSON, str]] = {
    "bound": ({"replicas": 8}, "spec.drawer.replicas: input should be less than or equal to 5"),
    "enum": ({"mode": "slow"}, "spec.drawer.mode: input should be 'fast'"),
    "pattern": ({"code": "a"}, "spec.drawer.code: string should match pattern '^x'"),
}
READABLE: dict[str, JSON] = {
    "field": {"colour": "red"},
    "rule": {"replicas": 3},
    "plain": {"replicas": 2},
}
OBJECTS = {**READABLE, **{name: block for name, (block, _) in UNREADABLE.items()}}


@pytest.fixture(scope="module")
def server() -> Iterator[Controlplane]:
    """Every object is made, and kept, under the older schema."""
    try:
        build()
    except cache.InstallError as reason:
        pytest.skip(f"no control plane on this machine: {reason}")
    with Controlplane() as running:
        install(running, *crd.connections({"drawer": DrawerConnection}), definition(Older))
        connection = {
            "apiVersion": API_VERSION,
            "kind": "Connection",
            "metadata": {"name": "drawer", "namespace": "default"},
            "spec": {"drawer": {}},
        }
        documents = [connection, *(index(name, **block) for name, block in OBJECTS.items())]
        running.kubectl("create", "-f", "-", input=yaml.safe_dump_all(documents))
        yield running


def install(server: Controlplane, *definitions: JSON) -> None:
    text = yaml.safe_dump_all(definitions)
    server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def upgrade(server: Controlplane, params: type[Params], refused: JSON, words: str) -> None:
    """Install a newer schema and wait until it is in force."""
    install(server, definition(params))
    deadline = time.monotonic() + 60
    text, told = json.dumps(index("probe", **refused)), ""
    while not told:
        assert time.monotonic() < deadline, "the newer schema is not in force"
        time.sleep(0.2)
        try:
            server.kubectl("create", "--dry-run=server", "-f", "-", input=text)
        except KubectlError as error:
            told = str(error)
    assert words in told


class Operator:
    """The engine over the real API server, visiting on demand."""

    def __init__(self, kube: Kube, provider: type[Drawer]) -> None:
        self.kube, self.store = kube, Store()
        cluster = KubeCluster(kube, self.store, "test", lambda _: None)
        self.connections = Connections(cluster, {"drawer": DrawerConnection}, Recorder())
        self.engine = Engine(
            cluster=cluster,
            connections=self.connections,
            providers={("VectorIndex", "drawer"): provider},
            listings=Listings(),
            observer=Recorder(),
            changes=Recorder(),
        )

    async def look(self) -> None:
        for kind in ("Connection", "VectorIndex"):
            async for raw in self.kube.list(collection(kind)):
                self.store.put({"kind": kind, **raw})

    async def visit(self, name: str) -> tuple[str, str]:
        """Reason and message of what the API server then holds, after as many visits as needed."""
        for _ in range(4):
            await self.look()
            await visit(self.engine, self.subject(name))
        raw = await self.kube.find(f"{collection('VectorIndex', 'default')}/{name}")
        assert raw is not None
        ready = next(c for c in raw["status"]["conditions"] if c["type"] == "Ready")
        return ready["reason"], ready["message"]

    def subject(self, name: str) -> Subject:
        found = self.store.find(Key("VectorIndex", "default", name))
        assert found is not None
        return found


@asynccontextmanager
async def operator(
    server: Controlplane, monkeypatch: pytest.MonkeyPatch, provider: type[Drawer]
) -> AsyncIterator[Operator]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    kube = Kube()
    it = Operator(kube, provider)
    try:
        await it.look()
        yield it
    finally:
        await it.connections.close()
        await kube.close()


async def test_1_under_the_older_schema_all_is_well(server: Controlplane, monkeypatch):
    async with operator(server, monkeypatch, Drawer) as it:
        for name in OBJECTS:
            assert (await it.visit(name))[0] == "Ready"
    assert sorted(THINGS) == sorted(OBJECTS)


def test_2_the_newer_one_would_not_be_released():
    told = breaks([definition(Older)], [definition(Newer)])
    at = "vectorindexes v1alpha1 spec.drawer"
    assert told == [
        f"{at}: new rule: self.replicas != 3 (three is one too many)",
        f"{at}.code: pattern was nothing, is ^x",
        f"{at}.colour: is gone",
        f"{at}.mode: the value slow is gone",
        f"{at}.replicas: maximum was 10, is 5",
    ]
    assert breaks([definition(Newer)], [definition(Newest)]) == [f"{at}.place: is now required"]


async def test_3_what_can_still_be_read_is_kept(server: Controlplane, monkeypatch):
    upgrade(server, Newer, {"replicas": 8}, "spec.drawer.replicas")
    before = dict(THINGS)
    CALLS.clear()
    async with operator(server, monkeypatch, NewerDrawer) as it:
        for name in READABLE:
            assert (await it.visit(name))[0] == "Ready", name
    assert CALLS == []
    assert before == THINGS


@pytest.mark.parametrize("name", UNREADABLE)
async def test_4_what_cannot_is_told_by_the_fields_name(
    server: Controlplane, monkeypatch, name: str
):
    """The status is written though the object is invalid: what an edit leaves alone is let be."""
    CALLS.clear()
    async with operator(server, monkeypatch, NewerDrawer) as it:
        assert await it.visit(name) == ("SpecRejected", UNREADABLE[name][1])
        subject = it.subject(name)
        assert subject.status["id"] == name
        assert subject.kept
        changed = await it.engine.cluster.patch_metadata(subject, annotations={"a": "b"})
        assert changed.resource_version != subject.resource_version
    assert CALLS == []
    assert name in THINGS


async def test_5_deleting_such_an_object_waits_for_a_person(server: Controlplane, monkeypatch):
    CALLS.clear()
    async with operator(server, monkeypatch, NewerDrawer) as it:
        server.kubectl("delete", "vectorindex", "enum", "--wait=false")
        assert (await it.visit("enum"))[0] == "SpecRejected"
        assert FINALIZER in it.subject("enum").finalizers
        assert CALLS == []
        # Mended, it goes as it was asked to.
        mended = '--patch={"spec": {"drawer": {"mode": "fast"}}}'
        server.kubectl("patch", "vectorindex", "enum", "--type=merge", mended)
        await it.look()
        await visit(it.engine, it.subject("enum"))
    assert CALLS == ["delete enum"]
    assert "enum" not in THINGS


async def test_6_an_edit_that_mends_it_is_carried_out(server: Controlplane, monkeypatch):
    CALLS.clear()
    async with operator(server, monkeypatch, NewerDrawer) as it:
        mended = '--patch={"spec": {"drawer": {"replicas": 4}}}'
        server.kubectl("patch", "vectorindex", "bound", "--type=merge", mended)
        assert (await it.visit("bound"))[0] == "Ready"
    assert CALLS == ["update bound"]
    worse = '--patch={"spec": {"drawer": {"code": "z"}}}'
    with pytest.raises(KubectlError, match=r"spec\.drawer\.code"):
        server.kubectl("patch", "vectorindex", "pattern", "--type=merge", worse)


async def test_7_a_field_that_became_required_bars_edits_beside_it(
    server: Controlplane, monkeypatch
):
    """What is unchanged as a whole may lack it: the status is written all the same."""
    upgrade(server, Newest, {}, "spec.drawer.place: Required value")
    CALLS.clear()
    async with operator(server, monkeypatch, NewestDrawer) as it:
        assert await it.visit("plain") == ("SpecRejected", "spec.drawer.place: field required")
        assert it.subject("plain").kept
    assert CALLS == []
    assert "plain" in THINGS

    def patch(spec: JSON) -> str:
        merged = f"--patch={json.dumps({'spec': spec})}"
        return server.kubectl("patch", "vectorindex", "plain", "--type=merge", merged)

    assert "patched" in patch({"interval": "5m"})
    with pytest.raises(KubectlError, match=r"spec\.drawer\.place: Required value"):
        patch({"drawer": {"replicas": 1}})
    assert "patched" in patch({"drawer": {"replicas": 1, "place": "here"}})
