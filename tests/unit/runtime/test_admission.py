"""Reviews are answered, and what the API server trusts is kept."""

import asyncio
import base64
import ssl
from typing import Any

import aiohttp
import pytest

from auterity.api import API_VERSION
from auterity.engine.advice import Advice, Adviser
from auterity.engine.declared import connectors
from auterity.runtime import admission
from auterity.runtime.admission import LONGEST, MOST_TOLD, Webhook, served_names
from auterity.runtime.kube import Kube
from tests.conformance.cluster import MemoryCluster
from tests.unit.engine.shelf import ShelfIndex
from tests.unit.runtime.conftest import ApiServer

JSON = dict[str, Any]
PROVIDERS = {("VectorIndex", "shelf"): ShelfIndex}
SPEC: JSON = {
    "connectionRef": {"name": "vendor"},
    "deletionPolicy": "Retain",
    "dimension": 8,
    "shelf": {},
}


def hook(kube: Kube, port: int = 9443, cluster: MemoryCluster | None = None) -> Webhook:
    adviser = Adviser(cluster or MemoryCluster(), PROVIDERS, connectors(PROVIDERS))
    return Webhook(kube, adviser, "hook", "ops", f"127.0.0.1:{port}")


def review(spec: JSON | None, old: JSON | None = None, operation: str = "CREATE", **more) -> JSON:
    def whole(spec: JSON | None) -> JSON | None:
        if spec is None:
            return None
        meta = {"name": "docs", "namespace": "team"}
        return {"apiVersion": API_VERSION, "kind": "VectorIndex", "metadata": meta, "spec": spec}

    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "integrations.auterity.io", "kind": "VectorIndex"},
            "operation": operation,
            "namespace": "team",
            "name": "docs",
            "object": whole(spec),
            "oldObject": whole(old),
            **more,
        },
    }


async def asked(kube: Kube, told: JSON) -> JSON:
    answer = await hook(kube).answer(told)
    assert answer["kind"] == "AdmissionReview"
    assert answer["response"]["uid"] == "u-1"
    return answer["response"]


async def test_routes_are_reviewed_too(kube: Kube):
    told = review({"candidates": [{"name": "absent"}]})
    told["request"]["kind"]["kind"] = told["request"]["object"]["kind"] = "ModelRoute"
    answer = await asked(kube, told)
    assert answer["allowed"]
    assert answer["warnings"] == ["spec.candidates[0]: there is no ModelDeployment 'absent' yet"]


async def test_a_review_is_answered_with_refusals_and_warnings(kube: Kube):
    good = await asked(kube, review(SPEC))
    assert good == {
        "uid": "u-1",
        "allowed": True,
        "warnings": ["spec.connectionRef: Connection 'vendor' does not exist yet"],
    }
    bad = await asked(kube, review({**SPEC, "dimension": "many"}))
    assert bad == {
        "uid": "u-1",
        "allowed": False,
        "status": {
            "code": 422,
            "reason": "Invalid",
            "message": "spec.dimension: input should be a valid integer, unable to parse string "
            "as an integer",
        },
    }


async def test_an_edit_of_no_spec_and_a_deletion_are_never_refused(kube: Kube):
    wrong = {"dimension": "many"}
    assert await asked(kube, review(wrong, wrong, "UPDATE")) == {"uid": "u-1", "allowed": True}
    assert await asked(kube, review(None, wrong, "DELETE")) == {"uid": "u-1", "allowed": True}
    status = review(wrong, SPEC, "UPDATE", subResource="status")
    assert await asked(kube, status) == {"uid": "u-1", "allowed": True}
    pod = review(SPEC, kind={"group": "", "kind": "Pod"})
    assert await asked(kube, pod) == {"uid": "u-1", "allowed": True}


async def test_a_bug_stops_nobody_and_tells_nothing_of_the_object(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> Advice:
        raise RuntimeError("secret-kR93")

    monkeypatch.setattr(Adviser, "on_write", fail)
    assert (await asked(kube, review(SPEC)))["allowed"]
    assert "admission failed: RuntimeError" in caplog.text
    assert "secret-kR93" not in caplog.text


async def test_long_and_many_warnings_are_cut(kube: Kube, monkeypatch: pytest.MonkeyPatch):
    many = Advice(warnings=["x" * 1000] * 50)
    monkeypatch.setattr(Adviser, "on_write", lambda *_: many)
    told = (await asked(kube, review(SPEC)))["warnings"]
    assert len(told) == MOST_TOLD
    assert {len(text) for text in told} == {LONGEST}


CONFIGURATION: JSON = {
    "metadata": {"name": "hook", "resourceVersion": "7"},
    "webhooks": [
        {"name": "a", "clientConfig": {"service": {"name": "hook", "namespace": "ops"}}},
        {"name": "b", "clientConfig": {"url": "https://127.0.0.1:9443/x"}},
    ],
}


def test_the_certificate_is_for_what_the_api_server_calls():
    assert served_names(CONFIGURATION) == ["hook.ops.svc", "127.0.0.1"]
    assert served_names({}) == []


async def test_it_serves_once_there_is_a_configuration_and_writes_what_to_trust(
    server: ApiServer, kube: Kube, unused_tcp_port_factory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admission, "AGAIN_AFTER", 0.01)
    server.refuses(404, "no configuration yet")
    server.says(CONFIGURATION)
    server.refuses(404, "no secret yet")
    server.says({"metadata": {"resourceVersion": "1"}})
    server.says({})
    port = unused_tcp_port_factory()
    task = asyncio.create_task(hook(kube, port).run())
    try:
        for _ in range(500):
            if len(server.bodies) >= 5:
                break
            await asyncio.sleep(0.01)
        kept, patch = server.bodies[3], server.bodies[4]
        bundles = {one["clientConfig"]["caBundle"] for one in patch["webhooks"]}
        assert patch["metadata"] == {"resourceVersion": "7"}
        assert bundles == {kept["data"]["ca.crt"]}
        trusting = ssl.create_default_context(
            cadata=base64.b64decode(kept["data"]["ca.crt"]).decode()
        )
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                try:
                    async with session.post(
                        f"https://127.0.0.1:{port}/x", json=review(SPEC), ssl=trusting
                    ) as answer:
                        told = await answer.json()
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        assert told["response"]["allowed"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_at_rest_nothing_is_written(
    server: ApiServer, kube: Kube, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    server.says(CONFIGURATION)
    server.refuses(404, "no secret yet")
    server.says({"metadata": {"resourceVersion": "1"}})
    server.says({})
    it = hook(kube)
    assert await it._renew(tmp_path)
    kept, patched = server.bodies[2], server.bodies[3]
    server.answers.clear()
    meta = {"uid": "uid-of-it", "resourceVersion": "1"}
    secret = {"metadata": meta, "data": kept["data"]}
    server.says({**CONFIGURATION, "webhooks": patched["webhooks"]})
    server.says(secret)
    before = len(server.requests)
    assert await it._renew(tmp_path)
    assert [method for method, _ in server.requests[before:]] == ["GET", "GET"]


async def test_a_spoilt_certificate_is_told_of_and_not_served(
    server: ApiServer, kube: Kube, tmp_path, caplog: pytest.LogCaptureFixture
):
    server.says(CONFIGURATION)
    server.refuses(404, "no secret yet")
    server.says({"metadata": {"resourceVersion": "1"}})
    server.says({})
    it = hook(kube)
    assert await it._renew(tmp_path)
    kept, patched = server.bodies[2], server.bodies[3]
    served = (tmp_path / "tls.crt").read_text()
    server.answers.clear()
    server.says({**CONFIGURATION, "webhooks": patched["webhooks"]})
    spoilt = {**kept["data"], "tls.crt": base64.b64encode(b"nothing").decode()}
    server.says({"metadata": {"uid": "uid-of-it", "resourceVersion": "2"}, "data": spoilt})
    assert not await it._renew(tmp_path)
    assert "Secret 'hook-admission' holds no certificate with its key: delete it" in caplog.text
    assert (tmp_path / "tls.crt").read_text() == served


async def test_a_bug_in_the_look_is_told_and_looked_at_again(
    server: ApiServer, kube: Kube, tmp_path, caplog: pytest.LogCaptureFixture
):
    server.says({"metadata": {"resourceVersion": "1"}, "webhooks": [{"secret-kR93": "x"}]})
    assert not await hook(kube)._renew(tmp_path)
    assert "KeyError at runtime/admission.py" in caplog.text


async def test_what_it_waits_for_is_told_once(
    server: ApiServer, kube: Kube, tmp_path, caplog: pytest.LogCaptureFixture
):
    server.refuses(403, "may not read it")
    it = hook(kube)
    for _ in range(3):
        assert not await it._renew(tmp_path)
    assert caplog.text.count("may not read it") == 1
