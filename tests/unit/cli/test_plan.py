"""`auterity plan` tells what would change at a vendor, which sees nothing but reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from auterity.api import API_VERSION
from auterity.cli.plan import MARKER
from auterity.engine.contract import Observed
from auterity.engine.plan import Action, DraftCluster, Planner
from tests.conformance.harness import Harness
from tests.conformance.vendor import JSON, merged
from tests.example.provider import ExampleIndex, ExampleIndexParams
from tests.example.vendor import Example
from tests.fakes.pinecone import Pinecone
from tests.unit.cli.conftest import Run
from tests.unit.cli.stand_in import Beside, writes

FLAGS = ("--no-cluster", "--allow-insecure-endpoints")


@pytest.fixture
def files(tmp_path: Path, pinecone: tuple[Pinecone, Beside]) -> Callable[..., str]:
    """Writes a Connection, its Secret and an index into files; where they are."""
    vendor, _ = pinecone

    def put(*patches: JSON, secrets: JSON = Pinecone.secrets) -> str:
        connection = {"pinecone": vendor.connection(vendor.url)}
        documents = [{"kind": "Connection", "metadata": {"name": "pinecone"}, "spec": connection}]
        for number, patch in enumerate(patches or ({},)):
            spec = merged({"connectionRef": {"name": "pinecone"}, **Pinecone.spec}, patch)
            name = "docs" if number == 0 else f"docs-{number}"
            documents.append({"kind": "VectorIndex", "metadata": {"name": name}, "spec": spec})
        text = [yaml.safe_dump({"apiVersion": API_VERSION, **one}) for one in documents]
        for name, data in secrets.items():
            meta = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            text.append(yaml.safe_dump({**meta, "stringData": data}))
        (tmp_path / "all.yaml").write_text("---\n".join(text))
        return str(tmp_path)

    return put


def planned(run: Run, *args: str) -> tuple[int, list[JSON]]:
    code, out, err = run("plan", *args, *FLAGS, "-o", "json")
    for data in (*Pinecone.secrets.values(), *Pinecone.wrong_secrets.values()):
        assert not [value for value in data.values() if value in out + err]
    return code, json.loads(out)["objects"]


def test_what_is_to_be_created_is_told_and_the_vendor_sees_only_reads(run, files, pinecone):
    code, (index,) = planned(run, "-f", files())
    assert (code, index["action"]) == (2, "Create")
    assert {"field": "dimension", "to": "1024"} in index["changes"]
    requests = pinecone[0].server.requests
    assert requests
    assert writes(requests) == []


def test_what_is_as_declared_changes_nothing_and_an_edit_only_its_fields(run, files, pinecone):
    vendor, there = pinecone
    there(lambda: vendor.foreign(Pinecone.spec, "docs", "prod/default/docs"))
    there(vendor.settle)
    named = ("--cluster-name", "prod")
    code, (index,) = planned(run, "-f", files(less()), *named)
    assert (code, index["action"], index["id"]) == (0, "None", "docs"), index

    tags: JSON = {"pinecone": {"tags": {"stage": None, "team": "ranking"}}}
    tags["pinecone"]["deletionProtection"] = "disabled"
    code, (index,) = planned(run, "-f", files(tags), *named)
    assert (code, index["action"]) == (2, "Update")
    assert [change["field"] for change in index["changes"]] == ["pinecone.tags.team"]
    assert writes(vendor.server.requests) == []


def less() -> JSON:
    """What the stand-in makes for an outsider."""
    return {"pinecone": {"tags": None, "deletionProtection": "disabled"}}


def test_what_others_own_fails_and_says_what_would_help(run, files, pinecone):
    vendor, there = pinecone
    there(lambda: vendor.foreign(Pinecone.spec, "docs", "prod/default/docs"))
    there(vendor.settle)
    code, (index,) = planned(run, "-f", files(less()))
    assert (code, index["action"], index["reason"]) == (1, "Fail", "Conflict")
    _, out, _ = run("plan", "-f", files(less()), *FLAGS)
    assert "--cluster-name" in out


def test_what_exists_is_taken_over_where_the_policy_says_so(run, files, pinecone):
    vendor, there = pinecone
    there(lambda: vendor.foreign(Pinecone.spec, "docs", None))
    there(vendor.settle)
    code, (index,) = planned(run, "-f", files(merged(less(), {"policy": "Adopt"})))
    assert (code, index["action"], index["changes"]) == (2, "Adopt", [])
    assert writes(vendor.server.requests) == []


def test_refused_credentials_fail(run, files):
    code, (index,) = planned(run, "-f", files(secrets=Pinecone.wrong_secrets))
    assert (code, index["action"], index["reason"]) == (1, "Fail", "CredentialsRejected")


def test_a_missing_secret_and_a_missing_connection_are_waited_for(run, files):
    code, (index,) = planned(run, "-f", files(secrets={}))
    assert (code, index["action"]) == (2, "Wait")
    assert "does not exist" in index["message"]
    code, (index,) = planned(run, "-f", files({"connectionRef": {"name": "nonesuch"}}))
    assert (code, index["action"]) == (2, "Wait")


def test_what_depends_on_another_waits_until_that_exists(run, files, pinecone):
    vendor, there = pinecone
    # In the file's order the second depends on the third.
    depends = {"dependsOn": [{"kind": "VectorIndex", "name": "docs-2"}]}
    both = files(less(), depends, less())
    code, indexes = planned(run, "-f", both, "--cluster-name", "prod")
    assert [one["action"] for one in indexes] == ["Create", "Wait", "Create"]

    there(lambda: vendor.foreign(Pinecone.spec, "docs-2", "prod/default/docs-2"))
    there(vendor.settle)
    code, indexes = planned(run, "-f", both, "--cluster-name", "prod")
    assert [one["action"] for one in indexes] == ["Create", "Create", "None"]
    assert code == 2


def test_invalid_manifests_are_not_planned(run, files, pinecone):
    code, out, err = run("plan", "-f", files({"dimension": 0}), *FLAGS)
    assert (code, out) == (1, "")
    assert "spec.dimension" in err
    assert pinecone[0].server.requests == []


def test_plain_http_is_refused_unless_allowed(run, files, pinecone):
    code, out, _ = run("plan", "-f", files(), "--no-cluster")
    assert code == 2
    assert "DependencyNotReady" in out
    assert pinecone[0].server.requests == []


def test_a_plan_for_a_comment(run, files, pinecone):
    code, out, _ = run("plan", "-f", files(), *FLAGS, "-o", "markdown")
    assert code == 2
    lines = out.splitlines()
    assert lines[0] == MARKER
    assert lines[1] == "### Plan: 1 to create."
    assert "| Object | Action | Field | At the vendor | Declared |" in lines
    assert "| VectorIndex default/docs | Create | dimension |  | 1024 |" in lines


def test_a_plan_for_a_terminal(run, files, pinecone):
    code, out, _ = run("plan", files(), *FLAGS, "-n", "search")
    assert code == 2
    assert out.splitlines()[1].split() == [
        "VectorIndex",
        "search/docs",
        "Create",
        "dimension",
        "1024",
    ]
    assert out.splitlines()[-1] == "Plan: 1 to create."


class Meddling(ExampleIndex):
    """Breaks the contract: its read changes what it reads."""

    vendor = "example"

    async def read(self, id: str) -> Observed[ExampleIndexParams] | None:
        await self.session.call("PATCH", self.path(id), json={"replicas": 9, "tags": {}})
        return await super().read(id)


@pytest.mark.parametrize("verb", ["read", "locate"])
async def test_no_call_that_could_change_anything_passes_the_door(verb: str):
    class Breaking(Meddling):
        async def locate(self, want: Any) -> str | None:
            if verb == "locate":
                await self.session.call("POST", "/indexes", json={"name": "stolen"})
            return want.name

    vendor = Example()
    await vendor.start()
    it = Harness(vendor)
    await it.start()
    try:
        it.apply()
        draft = DraftCluster("here", dict(it.cluster.subjects), it.cluster.secret)
        planner = Planner(draft, {("VectorIndex", "example"): Breaking}, allow_insecure=True)
        (plan,) = await planner.plans([it.key])
        await planner.close()
        assert plan.action is Action.FAIL
        assert "a plan only looks, and refuses the call" in plan.message
        assert writes(vendor.server.requests) == []
        assert vendor.indexes == {}
    finally:
        await it.stop()
        await vendor.stop()


async def test_a_plan_writes_no_secret():
    draft = DraftCluster("here", {}, lambda _namespace, _name: _nothing())
    store = draft.secret_store("team")
    assert await store.read("config") is None
    with pytest.raises(Exception, match="does not write Secret team/config"):
        await store.write("config", {"a": "b"}, None)


async def _nothing() -> None:
    return None
