"""Runs last (see conftest): everything that was told during all tests is searched for secrets."""

import base64
import json
from datetime import datetime

from e2e.conftest import Installation
from e2e.vendors import Vendors


def test_nothing_tells_a_secret(
    installation: Installation, vendors: Vendors, new_team, the_operator, told, witness, figure
):
    the_operator.kill()
    installation.bury()
    loud = installation.operator("loud", installation.rights("auterity"), "--log-level=debug")
    loud.start()
    try:
        loud.wait_until_ready()
        team, account = new_team(), vendors.open()
        team.connect(account)
        team.index("docs")
        team.until_ready("docs")
        account.ask("repeat_credentials")
        team.edit("docs", example={"replicas": 2})
        message = team.until_reason("docs", "SpecRejected")
        assert message == "the vendor refused the request (400): not with Bearer <secret>"
        team.secret(token=account.token, touched="yes")
        team.until_reason("vendor", "SpecRejected", "Connection", words="Bearer <secret>")
        told.append(loud.metrics_text())
    finally:
        loud.kill()

    texts = {
        **{path.name: path.read_text() for path in installation.folder.glob("*.log")},
        "objects and events": "\n".join(witness.lines),
        "metrics": "\n".join(told),
    }
    assert '"change"' in texts["loud.log"]
    assert "not with Bearer" in texts["objects and events"]
    assert "auterity_visits_total" in texts["metrics"]
    secrets = {*vendors.secrets, *installation.tokens}
    spellings = [
        spelling
        for secret in secrets
        for spelling in (secret, base64.b64encode(secret.encode()).decode())
    ]
    leaks = [(where, s) for where, text in texts.items() for s in spellings if s in text]
    figure(
        f"{len(secrets)} secret values searched for in "
        f"{sum(map(len, texts.values())) // 1024} KiB of logs, objects, events and metrics"
    )
    assert leaks == []


def test_nothing_tells_of_a_bug_or_a_missing_right(installation: Installation):
    logs = {path.name: path.read_text() for path in installation.folder.glob("*.log")}
    del logs["vendors.log"], logs["kubectl-proxy.log"]
    words = ("Traceback", "InternalError", "forbidden", "visit failed")
    controlplane = installation.cluster.controlplane
    restarts = controlplane.restarts if controlplane else []
    assert [
        (name, line)
        for name, log in logs.items()
        for line in log.splitlines()
        if any(word in line for word in words)
        and not ("forbidden" in line and _while_the_api_server_starts(line, restarts))
    ] == []


def _while_the_api_server_starts(line: str, restarts: list[float]) -> bool:
    """It refuses then what it will allow in a moment."""
    at = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    return any(restart <= at < restart + 60 for restart in restarts)
