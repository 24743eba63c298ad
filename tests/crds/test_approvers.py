"""The sample of an admission policy: approval is for one group only."""

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from auterity.api.annotations import APPROVE
from tests.crds.conftest import Api, integration
from tools.controlplane import KubectlError
from tools.generate import ROOT
from tools.samples import parts

SAMPLE = ROOT / "samples/use-cases/approvers/policy.yaml"
SAYS = "only members of the group integration-approvers may approve plans"


@pytest.fixture(scope="module", autouse=True)
def policy(api: Api) -> Iterator[None]:
    found = [d for _, d in parts(SAMPLE.read_text()) if d["apiVersion"].startswith("admission")]
    text = yaml.safe_dump_all(found)
    api.kubectl("apply", "--server-side", "-f", "-", input=text)
    deadline = time.monotonic() + 30
    while not refused(api, integration("VectorIndex"), "integration-editors"):
        assert time.monotonic() < deadline, "the policy never took effect"
        time.sleep(0.5)
    yield
    api.kubectl("delete", "-f", "-", input=text)


def refused(api: Api, made: dict, group: str, **annotations: str) -> str:
    """What the API server has against someone's creating it approved; empty if nothing."""
    made["metadata"]["annotations"] = annotations or {APPROVE: "0123abcd"}
    who = ("--as=jo", "--as-group=system:masters", f"--as-group={group}")
    try:
        api.kubectl("create", "-f", "-", *who, input=json.dumps(made))
    except KubectlError as error:
        return str(error)
    return ""


def test_an_editor_cannot_approve(api: Api) -> None:
    made = integration("VectorIndex")
    name = made["metadata"]["name"]

    assert SAYS in refused(api, made, "integration-editors")
    assert refused(api, made, "integration-editors", other="note") == ""

    who = ("--as=jo", "--as-group=system:masters", "--as-group=integration-editors")
    with pytest.raises(KubectlError, match=SAYS):
        api.kubectl("annotate", "vidx", name, f"{APPROVE}=0123abcd", *who)
    api.kubectl("annotate", "vidx", name, "other=changed", "--overwrite", *who)


def test_an_approver_can_and_others_may_edit_afterwards(api: Api) -> None:
    made = integration("VectorIndex")
    name = made["metadata"]["name"]

    assert refused(api, made, "integration-approvers") == ""
    who = ("--as=jo", "--as-group=system:masters", "--as-group=integration-editors")
    api.kubectl("annotate", "vidx", name, "other=note", *who)
    api.kubectl("annotate", "vidx", name, f"{APPROVE}-", *who)
