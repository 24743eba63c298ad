"""The client of the Kubernetes API: refusals, renewed credentials, pages, what is written."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import kopf
import pytest
from aiohttp import web

from auterity.api.annotations import FINALIZER
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.errors import Busy, Conflict, Fenced
from auterity.engine.subject import Subject
from auterity.runtime.cluster import KubeCluster, difference, identity
from auterity.runtime.kube import Kube, KubeError
from auterity.runtime.kube import login as kube_login
from auterity.runtime.store import Store, trimmed
from tests.unit.runtime.conftest import ApiServer

WHERE = "/apis/integrations.auterity.io/v1alpha1/namespaces/team/vectorindexes/docs"


def raw(version: int = 1, **meta: Any) -> dict[str, Any]:
    return {
        "kind": "VectorIndex",
        "metadata": {
            "name": "docs",
            "namespace": "team",
            "uid": "uid-1",
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **meta,
        },
        "spec": {"connectionRef": {"name": "account"}},
        "status": {"observedGeneration": 1},
    }


@pytest.fixture
def subject() -> Subject:
    return trimmed(raw())


@pytest.fixture
def cluster(kube: Kube) -> KubeCluster:
    return KubeCluster(kube, Store(), "here", lambda _: None)


async def test_a_refused_token_is_read_anew_once(server: ApiServer, kube: Kube):
    server.refuses(401, "expired")
    server.says({"fine": True})
    assert await kube.call("GET", "/api") == {"fine": True}
    server.answers.clear()
    server.refuses(401, "expired")
    with pytest.raises(KubeError):
        await kube.call("GET", "/api")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_unavailable_and_not_a_refusal(
    server: ApiServer, kube: Kube, status: int
):
    server.refuses(status, "overloaded")
    with pytest.raises(ClusterUnavailable, match=str(status)):
        await kube.call("GET", "/api")


async def test_no_server_is_unavailable(server: ApiServer, kube: Kube, monkeypatch):
    server.says({})
    await kube.call("GET", "/api")
    kube._server = "http://127.0.0.1:1"
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        await kube.call("GET", "/api")


async def test_a_collection_is_read_page_by_page(server: ApiServer, kube: Kube):
    server.says({"items": [{"n": 1}], "metadata": {"continue": "more"}})
    server.says({"items": [{"n": 2}], "metadata": {}})
    assert [item["n"] async for item in kube.list("/apis/x")] == [1, 2]
    assert "continue=more" in server.requests[1][1]


async def test_the_finalizer_is_set_beside_those_of_others_and_guarded(
    server: ApiServer, cluster: KubeCluster
):
    theirs = trimmed(raw(finalizers=["theirs"]))
    server.says(raw(2, finalizers=["theirs", FINALIZER]))
    kept = await cluster.patch_metadata(theirs, finalizer=True)
    assert kept.kept
    assert server.bodies == [
        {
            "metadata": {
                "uid": "uid-1",
                "resourceVersion": "1",
                "finalizers": ["theirs", FINALIZER],
            }
        }
    ]


async def test_a_finalizer_that_someone_else_changed_meanwhile_is_tried_on_the_newest(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.refuses(409, "the object has been modified")
    server.says(raw(7, finalizers=["theirs"]))
    server.says(raw(8, finalizers=["theirs", FINALIZER]))
    await cluster.patch_metadata(subject, finalizer=True)
    assert server.bodies[-1]["metadata"]["resourceVersion"] == "7"
    assert server.bodies[-1]["metadata"]["finalizers"] == ["theirs", FINALIZER]


async def test_a_successor_of_the_same_name_is_never_written_to(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.refuses(409, "Precondition failed: UID in precondition: uid-1, UID in object: uid-2")
    server.says(raw(9, uid="uid-2"))
    with pytest.raises(SubjectGone):
        await cluster.write_status(subject, {"observedGeneration": 2})
    server.answers.clear()
    server.refuses(404, "not found")
    with pytest.raises(SubjectGone):
        await cluster.write_status(subject, {"observedGeneration": 2})


async def test_a_status_is_written_only_over_what_is_known_if_that_is_asked_for(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.refuses(409, 'cannot be fulfilled on "fluid": the object has been modified; try again')
    server.says(raw(2))
    with pytest.raises(ClusterUnavailable, match="has been modified"):
        await cluster.write_status(subject, {"observedGeneration": 2}, unchanged=True)
    assert server.bodies[0] == {
        "metadata": {"uid": "uid-1", "resourceVersion": "1"},
        "status": {"observedGeneration": 2},
    }


async def test_all_of_a_kind_are_read_from_the_server_and_not_from_memory(
    server: ApiServer, cluster: KubeCluster
):
    made = raw(4)
    del made["kind"]
    server.says({"items": [made], "metadata": {}})
    (found,) = await cluster.read_all("VectorIndex", "team")
    assert (found.key.kind, found.resource_version) == ("VectorIndex", "4")
    method, path = server.requests[0]
    assert (method, path.partition("?")[0]) == ("GET", WHERE.rpartition("/")[0])
    assert "resourceVersion" not in path, "a version would allow the server to answer old news"
    server.answers.clear()
    server.refuses(404, "no such kind")
    assert await cluster.read_all("VectorIndex", "team") == []
    server.answers.clear()
    server.refuses(403, "forbidden")
    with pytest.raises(ClusterUnavailable, match="forbidden"):
        await cluster.read_all("VectorIndex", "team")


async def test_kinds_that_are_left_alone_are_not_even_looked_at(server: ApiServer, kube: Kube):
    cluster = KubeCluster(kube, Store(), "here", lambda _: None, kinds=["VectorIndex"])
    assert await cluster.read_all("TuningJob", "team") == []
    assert server.requests == []


async def test_a_status_that_says_the_same_is_not_written(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    assert await cluster.write_status(subject, dict(subject.status)) is subject
    assert server.requests == []


async def test_a_secret_of_someone_else_is_not_written_over(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.says({"metadata": {"uid": "u" * 8, "resourceVersion": "1"}, "data": {"host": "eA=="}})
    with pytest.raises(Conflict, match="was not made by this object"):
        await cluster.publish(subject, "docs", {"host": "x"})
    assert [method for method, _ in server.requests] == ["GET"]


async def test_outputs_that_are_there_are_not_written_again(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    owner = [{"uid": "uid-1", "controller": True}]
    meta = {"uid": "u" * 8, "resourceVersion": "1", "ownerReferences": owner}
    server.says({"metadata": meta, "data": {"host": "eA==", "once": "eQ=="}})
    await cluster.publish(subject, "docs", {"host": "x"})
    assert [method for method, _ in server.requests] == ["GET"]
    await cluster.publish(subject, "docs", {"host": "z"})
    assert server.requests[-1][0] == "PATCH"
    assert server.bodies[-1] == {"data": {"host": "eg=="}}


async def test_a_configuration_secret_that_was_changed_meanwhile_is_busy(
    server: ApiServer, cluster: KubeCluster
):
    server.refuses(409, "the object has been modified")
    with pytest.raises(Busy):
        await cluster.secret_store("team").write("config", {"a": "b"}, "1")


async def test_events_are_limited_and_never_fail_a_visit(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.refuses(403, "events is forbidden")
    for number in range(60):
        await cluster.event(subject, "Warning", "Trouble", f"number {number}")
    assert len(server.requests) == 25
    await cluster.event(trimmed({**raw(uid="another")}), "Normal", "Fine", "told")
    await cluster.event(trimmed({**raw(uid="another")}), "Normal", "Fine", "told")
    assert len(server.requests) == 26


async def test_a_cluster_without_a_readable_identity_says_what_to_do(server: ApiServer, kube: Kube):
    server.refuses(403, "namespaces is forbidden")
    with pytest.raises(ClusterUnavailable, match="start with --cluster-name"):
        await identity(kube, None)
    assert await identity(kube, "mine") == "mine"
    server.answers.clear()
    server.says({"metadata": {"uid": "0a1b2c3d-4e5f-6789-0000-000000000000"}})
    assert await identity(kube, None) == "0a1b2c3d4e5f"


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "z": 3}}, {"a": {"y": None, "z": 3}}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({}, {"a": {"x": None}}, {"a": {"x": None}}),
    ],
)
def test_a_patch_has_what_differs_and_nothing_else(old: Any, new: Any, patch: Any):
    assert difference(old, new) == patch


async def test_the_clock_of_the_server_comes_with_its_version(server: ApiServer, kube: Kube):
    server.says({"gitVersion": "v1.33.4"})
    version, now = await kube.version()
    assert version == {"gitVersion": "v1.33.4"}
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5
    assert server.requests == [("GET", "/version")]


async def test_outputs_that_are_to_be_all_there_is_take_others_away(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    owner = [{"uid": "uid-1", "controller": True}]
    meta = {"uid": "u" * 8, "resourceVersion": "1", "ownerReferences": owner}
    server.says({"metadata": meta, "data": {"host": "eA==", "key": "eQ=="}})
    await cluster.publish(subject, "docs", {"host": "x"}, exactly=True)
    assert server.bodies[-1] == {"data": {"host": "eA==", "key": None}}


@pytest.mark.parametrize("name", ["fluid", "druid", "guides"])
async def test_a_conflict_over_an_object_whose_name_has_uid_in_it_is_a_conflict(
    server: ApiServer, cluster: KubeCluster, name: str
):
    server.refuses(
        409,
        f'Operation cannot be fulfilled on vectorindexes.integrations.auterity.io "{name}": the '
        "object has been modified; please apply your changes to the latest version and try again",
    )
    server.says(raw(7, name=name))
    server.says(raw(8, name=name, finalizers=[FINALIZER]))
    kept = await cluster.patch_metadata(trimmed(raw(name=name)), finalizer=True)
    assert kept.kept


@pytest.mark.parametrize("status", [409, 422])
async def test_that_it_is_another_object_by_now_is_told_by_its_uid(
    server: ApiServer, cluster: KubeCluster, subject: Subject, status: int
):
    server.refuses(status, "metadata.uid: Invalid value: field is immutable")
    server.says(raw(9, uid="uid-2"))
    with pytest.raises(SubjectGone):
        await cluster.write_status(subject, {"observedGeneration": 2})


@pytest.mark.parametrize("status", [409, 422])
async def test_a_status_that_is_refused_for_an_object_that_is_there_is_tried_again(
    server: ApiServer, cluster: KubeCluster, subject: Subject, status: int
):
    server.refuses(status, "it does not fit")
    server.says(raw(9))
    with pytest.raises(ClusterUnavailable, match="it does not fit"):
        await cluster.write_status(subject, {"observedGeneration": 2})


async def test_a_look_that_is_refused_after_a_conflict_is_no_bug(
    server: ApiServer, cluster: KubeCluster, subject: Subject
):
    server.refuses(409, "the object has been modified")
    server.refuses(403, "get is forbidden")
    with pytest.raises(ClusterUnavailable, match="get is forbidden"):
        await cluster.patch_metadata(subject, finalizer=True)


async def test_a_configuration_secret_that_may_not_be_read_is_no_bug(
    server: ApiServer, cluster: KubeCluster
):
    server.refuses(403, "secrets is forbidden")
    with pytest.raises(ClusterUnavailable, match="Secret team/config: secrets is forbidden"):
        await cluster.secret_store("team").read("config")


async def test_a_token_that_runs_out_while_many_calls_are_on_their_way_breaks_none_of_them(
    server: ApiServer, kube: Kube
):
    logins = 0

    def login() -> kopf.ConnectionInfo:
        nonlocal logins
        logins += 1
        return kopf.ConnectionInfo(server=kube_login().server, token=f"token-{logins}")

    done = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal done
        number = int(request.query["n"])
        await asyncio.sleep(0.01 * (number % 7))
        # The last one that the old token was good for takes longest.
        if request.headers["Authorization"] == "Bearer token-1" and number:
            return web.json_response({"message": "expired"}, status=401)
        await asyncio.sleep(0.2 if number == 0 else 0.05)
        done += 1
        return web.json_response({"n": number})

    server.answers.append(answer)
    busy = Kube(login=login)
    try:
        calls = [busy.call("GET", "/api", params={"n": str(n)}) for n in range(300)]
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert [one for one in told if not isinstance(one, dict)] == []
        assert done == 300
        assert logins == 2
    finally:
        await busy.close()


async def test_a_replica_that_others_may_have_taken_over_from_writes_no_secret(
    server: ApiServer, kube: Kube, subject: Subject
):
    def fence() -> None:
        raise Fenced("this replica has lost touch with the cluster")

    overtaken = KubeCluster(kube, Store(), "here", lambda _: None, fence)
    owner = [{"uid": "uid-1", "controller": True}]
    meta = {"uid": "u" * 8, "resourceVersion": "1", "ownerReferences": owner}
    server.says({"metadata": meta, "data": {"host": "eA=="}})
    with pytest.raises(ClusterUnavailable, match="lost touch"):
        await overtaken.publish(subject, "docs", {"host": "y"})
    server.answers.clear()
    server.refuses(404, "not found")
    with pytest.raises(ClusterUnavailable, match="lost touch"):
        await overtaken.publish(subject, "docs", {"host": "y"})
    assert {method for method, _ in server.requests} == {"GET"}
