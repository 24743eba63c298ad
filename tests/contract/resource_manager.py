"""What requests to Azure are held against: the models and paths of Azure's own SDKs.

Resource Manager's descriptions are not at hand; its SDKs (azure-mgmt-cognitiveservices and
-monitor, and what azure-ai-ml has of it) are generated from them, and tell them to `azure_sdk.py`.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.contract.openapi import FORM, Description, Violation
from tools import environments
from tools.cache import InstallError, once

JSON = dict[str, Any]
TEXT: JSON = {"type": "string"}


def _get(version: str) -> JSON:
    told = {"name": "api-version", "in": "query", "required": True, "schema": {"enum": [version]}}
    # Of the address of a list's next page.
    page = {"name": "$skiptoken", "in": "query", "schema": TEXT}
    return {"get": {"parameters": [told, page]}}


BESIDE: JSON = {
    # https://learn.microsoft.com/rest/api/resources/subscriptions/list
    "/subscriptions": _get("2022-12-01"),
    "/subscriptions/{s}/providers/{namespace}/locations/{l}/operations/{id}": _get("2025-09-01"),
    # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
    "/{tenant}/oauth2/v2.0/token": {
        "post": {
            "requestBody": {
                "required": True,
                "content": {
                    FORM: {
                        "schema": {
                            "type": "object",
                            "required": ["client_id", "scope", "grant_type"],
                            "properties": {
                                "client_id": TEXT,
                                "scope": {"type": "string", "pattern": r"^https?://.+/\.default$"},
                                "grant_type": {"enum": ["client_credentials"]},
                                "client_secret": TEXT,
                                "client_assertion": TEXT,
                                "client_assertion_type": TEXT,
                            },
                        }
                    }
                },
            }
        }
    },
}
"""What the SDKs above do not have."""


class AzureDescription(Description):
    """The SDKs' for Resource Manager, OpenAI's own for what is below /openai/v1."""

    open_ai: Description | None = None
    inference: Description | None = None

    def check(self, method: str, path: str, **request: Any) -> Violation | None:
        if path == "/score":
            # What the model's container takes.
            return None
        if path.startswith("/openai/v1"):
            below = path.removeprefix("/openai/v1")
            chats = below == "/chat/completions"
            description = self.inference if chats else self.open_ai
            if below == "/fine_tuning/jobs" and isinstance(request["body"], dict):
                # Azure's own.
                kept = {k: v for k, v in request["body"].items() if k != "trainingType"}
                request = {**request, "body": kept}
            return description.check(method, below, **request) if description else None
        return super().check(method, path, **request)


def load() -> AzureDescription | None:
    """The description; None where the SDKs cannot be installed."""
    try:
        document = _document()
    except InstallError as error:
        sys.stderr.write(f"requests to Azure are held against nothing: {error}\n")
        return None
    description = AzureDescription({**document, "paths": {**document["paths"], **BESIDE}})
    if (told := Description.load("openai.openapi.json")) is not None:
        description.open_ai = Description(_mended(told.document))
    description.inference = Description.load("openai-inference.openapi.json")
    return description


def _mended(value: Any) -> Any:
    """With bounds as OpenAPI 3.1 has them: the description has them as 3.0 did."""
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if not isinstance(value, dict):
        return value
    mended = {key: _mended(item) for key, item in value.items()}
    if mended.get("exclusiveMinimum") is True:
        mended["exclusiveMinimum"] = mended.pop("minimum")
    return mended


def by_the_sdk(script: str, *args: str) -> JSON:
    """What a script beside this one tells, run where Azure's SDKs are. Raises InstallError."""
    python = environments.install("azure") / "bin" / "python"
    path = Path(__file__).with_name(script)
    told = subprocess.run([python, str(path), *args], capture_output=True, check=False)
    if told.returncode:
        raise RuntimeError(told.stderr.decode()[-2000:])
    document: JSON = json.loads(told.stdout)
    return document


@cache
def _document() -> JSON:
    """Told once on a machine: to load the SDKs takes seconds."""
    script = "azure_sdk.py"

    def make(folder: Path) -> None:
        (folder / "told.json").write_text(json.dumps(by_the_sdk(script)))

    inputs = [environments.install("azure").name, Path(__file__).with_name(script).read_text()]
    document: JSON = json.loads((once("azure-told", inputs, make) / "told.json").read_text())
    return document
