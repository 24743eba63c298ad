"""Logs: one JSON object a line, secrets hidden, a record of every change."""

import json
import logging

import pytest

from auterity.engine.changelog import ChangeRecord
from auterity.engine.redaction import private, remember
from auterity.engine.subject import Key
from auterity.runtime.logs import LoggedChanges, configure


def test_a_secret_is_hidden_wherever_it_stands(capsys: pytest.CaptureFixture[str]):
    configure("json", "debug")
    log = logging.getLogger("auterity.test")
    with private():
        remember("s3cr3t-value")
        log.warning("with %s in an argument", "s3cr3t-value", extra={"object": "s3cr3t-value"})
        log.warning("failed", exc_info=ValueError("s3cr3t-value in an exception"))
    told = capsys.readouterr().err
    assert "s3cr3t-value" not in told
    first, second = map(json.loads, told.splitlines())
    assert first["event"] == "with <secret> in an argument"
    assert first["object"] == "<secret>"
    assert "ValueError" in second["exception"]


def test_every_change_is_one_line_with_what_is_known(capsys: pytest.CaptureFixture[str]):
    configure("json", "warning")
    LoggedChanges().write(
        ChangeRecord(
            subject=Key("VectorIndex", "team", "docs"),
            uid="uid-1",
            generation=3,
            vendor="pinecone",
            connection=Key("Connection", "team", "account"),
            action="Update",
            cause="Drift",
            id=None,
            owner="here/team/docs",
            fields=("tags.team",),
            calls=("PATCH 200",),
        )
    )
    told = json.loads(capsys.readouterr().err)
    assert told["logger"] == "auterity.changes"
    assert told["subject"] == "VectorIndex/team/docs"
    assert told["fields"] == ["tags.team"]
    assert not {"id", "message", "approved", "request_ids"} & told.keys()
