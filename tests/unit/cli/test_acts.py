"""`auterity approve` and the like, against an API server of a few lines."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiohttp import web

from auterity.api.annotations import APPROVE, FORGET
from auterity.cli import acts
from auterity.cli.cluster import Where, kind_of, named
from auterity.cli.output import Problem

HERE = "/apis/integrations.auterity.io/v1alpha1/namespaces/team/vectorindexes/docs"
PLAN = {
    "hash": "cafe",
    "action": "Update",
    "changes": [{"field": "pinecone.region", "from": "a", "to": "b"}],
}


class Server:
    """Holds one VectorIndex, and refuses what is not written to its newest version."""

    def __init__(self) -> None:
        self.patches: list[dict[str, Any]] = []
        self.overtaken: list[dict[str, Any]] = []
        """What others write into the status just before our writes, one a write."""
        self.handles = True
        self.it: dict[str, Any] = {
            "kind": "VectorIndex",
            "metadata": {
                "name": "docs",
                "namespace": "team",
                "uid": "uid-1",
                "generation": 2,
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {},
            },
            "spec": {"connectionRef": {"name": "vendor"}},
            "status": {
                "observedGeneration": 2,
                "id": "docs-1",
                "vendor": "pinecone",
                "plan": PLAN,
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "False",
                        "reason": "AwaitingApproval",
                        "message": "m",
                    }
                ],
            },
        }

    def start(self) -> str:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> str:
        app = web.Application()
        app.router.add_get(HERE, self._read)
        app.router.add_patch(HERE, self._patch)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return "http://{}:{}".format(*self._runner.addresses[0])

    async def _read(self, _: web.Request) -> web.Response:
        meta = self.it["metadata"]
        asked = meta["annotations"].get("integrations.auterity.io/requestedAt")
        if asked and self.handles:
            self.it["status"]["lastHandledReconcileAt"] = asked
        return web.json_response(self.it)

    async def _patch(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        meta = self.it["metadata"]
        if self.overtaken:
            self.it["status"].update(self.overtaken.pop(0))
            meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        if body["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            return web.json_response({"message": "the object has been modified"}, status=409)
        assert body["metadata"]["uid"] == "uid-1"
        self.patches.append(body)
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        meta["annotations"].update(body["metadata"].get("annotations", {}))
        self.it["spec"].update(body.get("spec", {}))
        return web.json_response(self.it)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": found.start()}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": "team"}}],
        "current-context": "c",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield found
    found.stop()


def answers(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """A person at a terminal."""
    said = iter(words)
    monkeypatch.setattr(
        "sys.stdin",
        type("Terminal", (), {"isatty": lambda _: True, "readline": lambda _: next(said)})(),
    )


def test_a_plan_is_shown_before_it_is_asked_about(server: Server, monkeypatch, capsys):
    answers(monkeypatch, "y\n")
    acts.approve("vidx/docs")
    told = capsys.readouterr()
    assert "Update VectorIndex team/docs" in told.out
    assert "pinecone.region" in told.out
    assert told.err == "Approve this plan? [y/N] "
    assert server.it["metadata"]["annotations"] == {APPROVE: "cafe"}


@pytest.mark.parametrize("word", ["\n", "no\n", ""])
def test_anything_but_yes_is_no(server: Server, monkeypatch, word: str):
    answers(monkeypatch, word)
    with pytest.raises(Problem, match="nothing was done"):
        acts.approve("vidx/docs")
    answers(monkeypatch, word)
    with pytest.raises(Problem, match="nothing was done"):
        acts.forget("vidx/docs")
    assert server.patches == []


def test_a_plan_that_changes_meanwhile_is_not_approved(server: Server):
    server.overtaken = [{"plan": {**PLAN, "hash": "beef"}}]
    with pytest.raises(Problem, match="another plan waits by now"):
        acts.approve("vidx/docs", yes=True)
    assert server.patches == []


def test_writes_of_others_that_leave_the_plan_do_not_hinder(server: Server):
    server.overtaken = [{"url": "https://one.example"}, {"url": "https://two.example"}]
    acts.approve("vidx/docs", yes=True)
    assert server.it["metadata"]["annotations"] == {APPROVE: "cafe"}


def test_a_plan_of_an_older_edit_is_not_approved(server: Server):
    server.it["metadata"]["generation"] = 3
    with pytest.raises(Problem, match="was edited: the plan is made anew"):
        acts.approve("vidx", "docs", yes=True)


def test_a_plan_that_does_not_wait_is_not_approved(server: Server):
    server.it["status"]["conditions"][0]["reason"] = "Adopting"
    with pytest.raises(Problem, match="has no plan that waits"):
        acts.approve("vidx/docs", yes=True)


def test_nothing_is_done_unasked(server: Server, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for act in (acts.approve, acts.forget):
        with pytest.raises(Problem, match="there is nobody to ask: give --yes"):
            act("vidx/docs")
    assert server.patches == []


def test_a_visit_that_was_asked_for_is_waited_for(server: Server, capsys):
    acts.reconcile("vidx/docs")
    assert capsys.readouterr().out == "VectorIndex team/docs: AwaitingApproval: m\n"


def test_a_visit_that_is_not_made_is_told(server: Server, monkeypatch):
    server.handles = False

    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr("auterity.cli.acts.asyncio.sleep", at_once)
    with pytest.raises(Problem, match=r"not done within 30 s; to see why: .* why VectorIndex/docs"):
        acts.reconcile("vidx/docs")


def test_suspension_is_in_the_spec_and_only_written_if_new(server: Server, capsys):
    acts.suspend("vidx/docs")
    acts.suspend("vidx/docs")
    acts.resume("vidx/docs")
    assert [patch["spec"] for patch in server.patches] == [{"suspend": True}, {"suspend": False}]
    assert "VectorIndex team/docs is suspended already" in capsys.readouterr().out


def test_what_is_forgotten_is_named_first(server: Server, capsys):
    acts.forget("vidx/docs", yes=True)
    told = capsys.readouterr().out
    assert told.startswith("docs-1 stays at pinecone, and nobody looks after it")
    assert "kubectl delete vectorindex docs --namespace=team" in told
    assert server.it["metadata"]["annotations"] == {FORGET: "true"}


def test_connections_are_not_approved_suspended_or_forgotten(server: Server):
    for act in (acts.approve, acts.suspend, acts.resume, acts.forget):
        with pytest.raises(Problem, match="this is for integrations"):
            act("conn/vendor")


def test_the_namespace_can_be_named(server: Server):
    with pytest.raises(Problem, match="does not exist in namespace other"):
        acts.suspend("vidx/docs", where=Where(namespace="other"))


@pytest.mark.parametrize(
    "word",
    [
        *("VectorIndex", "vectorindex", "vectorindexes", "vidx"),
        *(
            "vectorindexes.integrations.auterity.io",
            "vectorindexes.v1alpha1.integrations.auterity.io",
        ),
    ],
)
def test_kinds_are_named_as_with_kubectl(word: str):
    assert kind_of(word) == "VectorIndex"
    assert named(f"{word}/docs", None, "team") == named(word, "docs", "team")


def test_connections_of_the_cluster_have_no_namespace():
    assert named("cconn/shared", None, "team") == ("ClusterConnection", "", "shared")


@pytest.mark.parametrize("act", [acts.approve, acts.forget])
def test_a_route_has_nothing_at_a_vendor_to_approve_or_to_leave_there(server: Server, act):
    with pytest.raises(Problem, match="a ModelRoute makes nothing at any vendor"):
        act("mroute/chat", yes=True)
    assert server.patches == []
