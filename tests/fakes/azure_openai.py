"""Azure OpenAI accounts and their deployments (API 2025-09-01), as of 2026-11.

Requests are held against the models of azure-mgmt-cognitiveservices 14.1. What it knows beyond
them: one change of an account at a time, quota by model and sku, models and their versions, that a
deployment's model and sku stay, that Azure fills in version, filter and upgrade option, states.
Texts of refusals are those that Azure's documentation and users' reports show.
"""

import json
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.azure_openai.deployment import AzureOpenAIDeployment
from auterity.transport.azure import OWNER_TAG
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.azure import (
    GROUP,
    JSON,
    SECRETS,
    WRONG_SECRETS,
    Azure,
    Refused,
    connection,
)
from tests.fakes.server import ServedVendor

ACCOUNT = "search"
KEY = "azoai-4f9c2Dk81fakeKEYmZ0q7"
MODELS = {
    "gpt-4.1": ["2025-04-14", "2025-09-09"],
    "gpt-4.1-mini": ["2025-04-14"],
    "text-embedding-3-large": ["1"],
}
SKUS = ("GlobalStandard", "Standard", "DataZoneStandard", "ProvisionedManaged", "GlobalBatch")
QUOTA = 500
PATH = (
    "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.CognitiveServices/accounts/{account}"
)
FILTERS = ("Microsoft.DefaultV2", "strict")


class Accounts:
    """One account, with its deployments by lower-case name."""

    def __init__(self, azure: Azure) -> None:
        self.azure = azure
        self.deployments: dict[str, JSON] = {}
        self.tuned: dict[str, str] = {}
        """Models that tuning has made, and their base."""
        for method, path, handler in (
            ("GET", "", self._account),
            ("POST", "/listKeys", self._keys),
            ("GET", "/deployments", self._list),
            ("GET", "/deployments/{name}", self._get),
            ("PUT", "/deployments/{name}", self._put),
            ("DELETE", "/deployments/{name}", self._delete),
        ):
            azure.route(method, PATH + path, handler)
        azure.route("GET", PATH.removesuffix("/{account}"), self._accounts)
        azure.route("POST", "/openai/v1/chat/completions", self._chat)
        azure.route("GET", "/openai/v1/models", self._models)

    def settle(self) -> None:
        """Finish everything that is under way."""
        for name in list(self.deployments):
            self.advance(name)

    def advance(self, name: str) -> None:
        """The next state of a deployment that is in between."""
        deployment = self.deployments[name]
        state, operation = deployment["properties"]["provisioningState"], deployment["_operation"]
        if state == "Deleting":
            del self.deployments[name]
        elif state in ("Accepted", "Creating"):
            well = self.azure.ended(operation)
            deployment["properties"]["provisioningState"] = "Succeeded" if well else "Failed"

    def make(self, name: str, body: JSON) -> JSON:
        """A deployment as the API makes or changes it. Raises Refused."""
        self._only_one(name)
        now = self.deployments.get(name.lower())
        properties, sku = deepcopy(body.get("properties") or {}), body.get("sku") or {}
        model = properties.get("model") or {}
        if not model.get("name") or sku.get("name") not in SKUS:
            raise _invalid(f"The specified SKU '{sku.get('name')}' is not supported.")
        self._check_model(model)
        if now is not None:
            before = now["properties"]["model"]
            if now["sku"]["name"] != sku["name"] or before["name"] != model["name"]:
                raise _invalid("The model name and the SKU name of a deployment cannot change.")
        used = sum(
            one["sku"]["capacity"]
            for key, one in self.deployments.items()
            if key != name.lower() and one["properties"]["model"]["name"] == model["name"]
        )
        capacity = sku.get("capacity", 1)
        if used + capacity > QUOTA:
            raise Refused(
                400,
                "InsufficientQuota",
                f"This operation require {capacity} new capacity in quota Tokens Per Minute "
                f"(thousands) - {model['name']}, which is bigger than the current available "
                f"capacity {QUOTA - used}. The current quota usage is {used} and the quota limit "
                f"is {QUOTA} for quota Tokens Per Minute (thousands) - {model['name']}.",
            )
        if properties.get("raiPolicyName", FILTERS[0]) not in FILTERS:
            raise Refused(400, "InvalidRaiPolicy", "The RAI policy does not exist.")
        if "spilloverDeploymentName" in properties and sku["name"] != "ProvisionedManaged":
            raise _invalid("Spillover is for provisioned deployments only.")
        operation, address = self.azure.begun("Microsoft.CognitiveServices")
        versions = MODELS.get(model["name"], ["1"])
        self.deployments[name.lower()] = {
            "id": f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/{ACCOUNT}/deployments/"
            f"{name}",
            "name": name,
            "type": "Microsoft.CognitiveServices/accounts/deployments",
            "etag": f'"{operation["id"]}"',
            "sku": {"capacity": 1, **sku},
            "tags": body.get("tags") or {},
            "properties": {
                "versionUpgradeOption": "OnceNewDefaultVersionAvailable",
                "raiPolicyName": FILTERS[0],
                **properties,
                "model": {"version": versions[0], **model},
                "provisioningState": "Creating" if now is None else "Accepted",
                "capabilities": {"chatCompletion": "true"},
                "rateLimits": [{"key": "token", "renewalPeriod": 60, "count": capacity * 1000}],
            },
            "_operation": operation,
            "_address": address,
        }
        return self.deployments[name.lower()]

    def upgrade(self, name: str) -> None:
        """Azure replaces the version by itself."""
        model = self.deployments[name.lower()]["properties"]["model"]
        model["version"] = MODELS[model["name"]][-1]

    def _check_model(self, model: JSON) -> None:
        name, version = model["name"], model.get("version")
        if name in self.tuned:
            if version not in (None, "1"):
                raise _unsupported(f"The model 'Format: OpenAI, Name: {name}, Version: {version}'")
            return
        if name not in MODELS or (version is not None and version not in MODELS[name]):
            told = f"Format: {model.get('format')}, Name: {name}, Version: {version or ''}"
            raise _unsupported(f"The model '{told}'")

    def _only_one(self, name: str) -> None:
        for key, one in self.deployments.items():
            if one["properties"]["provisioningState"] in ("Accepted", "Creating", "Deleting"):
                raise Refused(
                    409,
                    "RequestConflict",
                    "Another operation is being performed on the parent resource "
                    f"'{GROUP}/providers/Microsoft.CognitiveServices/accounts/{ACCOUNT}' "
                    f"(deployment {key if key != name.lower() else name}). Please try again later.",
                )

    def _there(self, request: web.Request) -> None:
        if request.match_info["account"].lower() != ACCOUNT:
            raise Refused(
                404,
                "ParentResourceNotFound",
                "Failed to perform 'write' on resource(s) of type 'accounts/deployments', because "
                f"the parent resource '{request.match_info['account']}' could not be found.",
            )

    def _found(self, request: web.Request) -> str:
        self._there(request)
        name: str = request.match_info["name"]
        if name.lower() not in self.deployments:
            raise Refused(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.CognitiveServices/accounts/{ACCOUNT}/deployments/{name}' "
                "under resource group 'models' was not found.",
            )
        return name.lower()

    def _told(self) -> JSON:
        return {
            "id": f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/{ACCOUNT}",
            "name": ACCOUNT,
            "kind": "OpenAI",
            "location": "westeurope",
            "sku": {"name": "S0"},
            "properties": {
                "endpoint": f"{self.azure.server.url}/",
                "provisioningState": "Succeeded",
            },
        }

    def _accounts(self, request: web.Request, body: Any) -> Any:
        speech = {"name": "voices", "kind": "SpeechServices", "properties": {}}
        return 200, {"value": [speech, self._told()]}

    def _account(self, request: web.Request, body: Any) -> Any:
        if request.match_info["account"].lower() != ACCOUNT:
            raise Refused(404, "ResourceNotFound", "The account was not found.")
        return 200, self._told()

    def _keys(self, request: web.Request, body: Any) -> Any:
        self._there(request)
        return 200, {"key1": KEY, "key2": f"{KEY}-2"}

    def _list(self, request: web.Request, body: Any) -> Any:
        self._there(request)
        value = [_plain(one) for one in self.deployments.values()]
        return 200, {"value": value}

    def _get(self, request: web.Request, body: Any) -> Any:
        name = self._found(request)
        told = _plain(self.deployments[name])
        if not self.azure.slow:
            self.advance(name)
        return 200, told

    def _put(self, request: web.Request, body: Any) -> Any:
        self._there(request)
        name: str = request.match_info["name"]
        fresh = name.lower() not in self.deployments
        made = self.make(name, body)
        headers = {"Azure-AsyncOperation": made["_address"]}
        return web.json_response(_plain(made), status=201 if fresh else 200, headers=headers)

    def _delete(self, request: web.Request, body: Any) -> Any:
        self._there(request)
        name: str = request.match_info["name"]
        if name.lower() not in self.deployments:
            return 204, None
        self._only_one("")
        self.deployments[name.lower()]["properties"]["provisioningState"] = "Deleting"
        return 202, None

    def _chat(self, request: web.Request, body: Any) -> Any:
        if str(body.get("model")).lower() not in self.deployments:
            text = "The API deployment for this resource does not exist."
            raise Refused(404, "DeploymentNotFound", text)
        return 200, {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}

    def _models(self, request: web.Request, body: Any) -> Any:
        return 200, {"object": "list", "data": []}


def _plain(deployment: JSON) -> JSON:
    return deepcopy({k: v for k, v in deployment.items() if not k.startswith("_")})


def _invalid(message: str) -> Refused:
    return Refused(400, "InvalidResourceProperties", message)


def _unsupported(what: str) -> Refused:
    text = f"{what} of account deployment is not supported."
    return Refused(400, "DeploymentModelNotSupported", text)


class AzureOpenAIVendor(ServedVendor):
    """Azure OpenAI behind the provider of deployments."""

    provider = AzureOpenAIDeployment
    spec: ClassVar[JSON] = {
        "model": {"name": "gpt-4.1", "version": "2025-04-14"},
        "azureOpenAI": {
            "account": ACCOUNT,
            "sku": "GlobalStandard",
            "capacity": 50,
            "versionUpgradeOption": "NoAutoUpgrade",
            "tags": {"team": "search", "stage": "test"},
            "publishKey": True,
        },
    }
    edits = (
        Edit("another version", {"model": {"version": "2025-09-09"}}),
        Edit("more capacity", {"azureOpenAI": {"capacity": 80}}),
        Edit(
            "another upgrade option",
            {"azureOpenAI": {"versionUpgradeOption": "OnceCurrentVersionExpired"}},
        ),
        Edit("another filter", {"azureOpenAI": {"raiPolicyName": "strict"}}),
        Edit("a tag changed", {"azureOpenAI": {"tags": {"team": "ranking"}}}),
        Edit("a tag more and one less", {"azureOpenAI": {"tags": {"stage": None, "cost": "42"}}}),
        Edit("no key", {"azureOpenAI": {"publishKey": False}}),
    )
    immutable: ClassVar[JSON] = {"azureOpenAI": {"sku": "Standard"}}
    refusal = Refusal({"model": {"name": "gpt-99"}}, "Name: gpt-99")
    secrets: ClassVar[dict[str, dict[str, str]]] = SECRETS
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = WRONG_SECRETS
    has_pending = True

    def __init__(self) -> None:
        self.azure = Azure()
        self.accounts = Accounts(self.azure)
        super().__init__(self.azure.server, self.azure)

    async def reset(self) -> None:
        self.accounts.deployments.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return connection(endpoint)

    async def count(self) -> int:
        return len(self.accounts.deployments)

    async def tamper(self, id: str) -> str:
        self.accounts.deployments[id.partition("/")[2]]["sku"]["capacity"] = 7
        return "azureOpenAI.capacity"

    async def vanish(self, id: str) -> None:
        del self.accounts.deployments[id.partition("/")[2]]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        self.accounts.make(
            name,
            {
                "sku": {"name": "GlobalStandard", "capacity": 10},
                "tags": {"made-by": "hand", **({OWNER_TAG: owner} if owner else {})},
                "properties": {"model": {"format": "OpenAI", **spec["model"]}},
            },
        )
        self.accounts.settle()

    async def settle(self) -> None:
        if not self.slow:
            self.accounts.settle()

    async def told(self, id: str) -> str:
        return json.dumps(_plain(self.accounts.deployments[id.partition("/")[2]]))
