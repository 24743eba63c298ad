"""Azure Machine Learning: online endpoints, deployments, their autoscaling, as of 2026-11.

Requests are held against the models of azure-ai-ml 1.35 (API 2025-12-01) and azure-mgmt-monitor
7.0. What it knows beyond them: states that take their time, that nothing in an endpoint can be
changed while it is, that traffic goes to deployments that there are and sums up to 0 or 100, that a
deployment with traffic stays, that what a deployment is made of stays, why an operation failed.
Texts of refusals are those that Azure's documentation and users' reports show.
"""

import json
import re
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.azure_ml.endpoint import AzureMLEndpoint
from auterity.transport.azure import OWNER_TAG
from tests.conformance.meter import Meter, minutes
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.azure import GROUP, JSON, SECRETS, WRONG_SECRETS, Azure, Refused, connection
from tests.fakes.server import ServedVendor

WORKSPACE = "churn-ml"
KEY = "amlkey-9Fh3fakeFAKE72bQz"
REGISTRY = "azureml://registries/azureml/models/"
MODEL = f"{REGISTRY}churn/versions/4"
HARDWARE = ("Standard_DS3_v2", "Standard_F4s_v2", "Standard_NC6s_v3")
PREFIX = (
    "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.MachineLearningServices"
    "/workspaces/{workspace}"
)
SETTINGS = "/subscriptions/{s}/resourcegroups/{g}/providers/Microsoft.Insights/autoscalesettings"
FIXED = ("endpointComputeType", "instanceType", "egressPublicNetworkAccess")
IN_BETWEEN = ("Creating", "Updating", "Deleting", "Scaling")


class Workspace:
    """One workspace; endpoints and their deployments by name."""

    def __init__(self, azure: Azure) -> None:
        self.azure = azure
        azure.keys.add(KEY)
        self.endpoints: dict[str, JSON] = {}
        self.deployments: dict[tuple[str, str], JSON] = {}
        self.settings: dict[str, JSON] = {}
        self.meter = Meter()
        self.answers: dict[str, int] = {}
        """Status with which a model answers, other than 200."""
        endpoint = f"{PREFIX}/onlineEndpoints/{{name}}"
        deployment = f"{endpoint}/deployments/{{deployment}}"
        for method, path, handler in (
            ("GET", PREFIX, self._workspace),
            ("GET", endpoint, self._get),
            ("PUT", endpoint, self._put),
            ("DELETE", endpoint, self._delete),
            ("POST", f"{endpoint}/listKeys", self._keys),
            ("GET", f"{endpoint}/deployments", self._list),
            ("GET", deployment, self._get_deployment),
            ("PUT", deployment, self._put_deployment),
            ("PATCH", deployment, self._scale),
            ("DELETE", deployment, self._delete_deployment),
            ("GET", f"{SETTINGS}/{{setting}}", self._get_setting),
            ("PUT", f"{SETTINGS}/{{setting}}", self._put_setting),
            ("DELETE", f"{SETTINGS}/{{setting}}", self._delete_setting),
            ("GET", f"{endpoint}/providers/Microsoft.Insights/metrics", self._measured),
            ("POST", "/score", self._score),
        ):
            azure.route(method, path, handler)

    def settle(self) -> None:
        """Finish everything that is under way."""
        for name in list(self.endpoints):
            self.advance(name)

    def advance(self, name: str) -> None:
        """The next state of an endpoint and its deployments."""
        endpoint = self.endpoints[name]
        if endpoint["properties"]["provisioningState"] == "Deleting":
            del self.endpoints[name]
            self.deployments = {k: v for k, v in self.deployments.items() if k[0] != name}
            return
        self._end(endpoint)
        for key, one in list(self.deployments.items()):
            if key[0] != name:
                continue
            if one["properties"]["provisioningState"] == "Deleting":
                del self.deployments[key]
            else:
                self._end(one)

    def make(self, name: str, body: JSON) -> JSON:
        """An endpoint as the API makes or changes it. Raises Refused."""
        now = self.endpoints.get(name)
        properties = deepcopy(body["properties"])
        if now is not None:
            self._not_in_between("update", name)
            before = now["properties"]
            for key in ("authMode", "publicNetworkAccess"):
                if properties.get(key, before[key]) != before[key]:
                    raise _bad(f"The property {key} of an endpoint cannot be changed.")
        traffic = properties.get("traffic") or {}
        for deployment in traffic:
            if (name, deployment) not in self.deployments:
                raise _bad(f"Traffic names deployment {deployment}, which does not exist.")
        if sum(traffic.values()) not in (0, 100):
            raise _bad("The sum of the traffic of all deployments must be 0 or 100.")
        where = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
        operation, address = self.azure.begun("Microsoft.MachineLearningServices")
        self.endpoints[name] = {
            "id": f"{where}/onlineEndpoints/{name}",
            "name": name,
            "location": "".join(body["location"].lower().split()),
            "identity": body.get("identity"),
            "tags": body.get("tags") or {},
            **{key: body[key] for key in ("kind", "sku") if key in body},
            "properties": {
                "publicNetworkAccess": "Enabled",
                "scoringUri": f"{self.azure.server.url}/score",
                **properties,
                "traffic": traffic,
                "provisioningState": "Creating" if now is None else "Updating",
            },
            "_operation": operation,
            "_address": address,
        }
        return self.endpoints[name]

    def add(self, endpoint: str, name: str, body: JSON) -> JSON:
        """A deployment as the API makes it. Raises Refused."""
        self._not_in_between(
            "create", endpoint, f"Cannot create a deployment in endpoint {endpoint}"
        )
        properties = deepcopy(body["properties"])
        now = self.deployments.get((endpoint, name))
        if now is not None:
            for key in FIXED:
                if properties.get(key) != now["properties"].get(key):
                    raise _bad(f"The property {key} of a deployment cannot be changed.")
        if properties.get("instanceType") not in HARDWARE:
            told = properties.get("instanceType")
            raise _bad(f"The SKU {told} is not available in region westeurope.")
        if not str(properties.get("model", "")).startswith(REGISTRY):
            raise _bad(f"The model {properties.get('model')} could not be found.")
        operation, address = self.azure.begun("Microsoft.MachineLearningServices")
        self.deployments[endpoint, name] = {
            "id": f"{self.endpoints[endpoint]['id']}/deployments/{name}",
            "name": name,
            "location": body["location"],
            "tags": body.get("tags") or {},
            "sku": {"name": "Default", "capacity": 1, **(body.get("sku") or {})},
            "properties": {
                "egressPublicNetworkAccess": "Enabled",
                "livenessProbe": {"initialDelay": "PT10S", "period": "PT10S", "timeout": "PT2S"},
                "scaleSettings": {"scaleType": "Default"},
                **properties,
                "requestSettings": {
                    "requestTimeout": "PT5S",
                    "maxConcurrentRequestsPerInstance": 1,
                    **(properties.get("requestSettings") or {}),
                },
                "provisioningState": "Creating",
            },
            "_operation": operation,
            "_address": address,
        }
        return self.deployments[endpoint, name]

    def _end(self, resource: JSON) -> None:
        if resource["properties"]["provisioningState"] in ("Creating", "Updating", "Scaling"):
            new = "instanceType" in resource["properties"]
            well = self.azure.ended(resource["_operation"]) if new else True
            resource["properties"]["provisioningState"] = "Succeeded" if well else "Failed"

    def _not_in_between(self, verb: str, name: str, words: str = "") -> None:
        state = self.endpoints[name]["properties"]["provisioningState"]
        if state in IN_BETWEEN:
            said = words or f"Cannot {verb} endpoint {name}"
            raise _bad(f"{said} because it is in {state} provisioning state.")
        for key, one in self.deployments.items():
            state = one["properties"]["provisioningState"]
            if key[0] == name and state in IN_BETWEEN:
                text = f"Another operation is running: deployment {key[1]} is {state}."
                raise Refused(409, "Conflict", text)

    def _found(self, request: web.Request) -> str:
        name: str = request.match_info["name"]
        self._workspace(request, None)
        if name not in self.endpoints:
            raise Refused(404, "ResourceNotFound", f"The endpoint {name} was not found.")
        return name

    def _found_deployment(self, request: web.Request) -> tuple[str, str]:
        key = (self._found(request), str(request.match_info["deployment"]))
        if key not in self.deployments:
            raise Refused(404, "ResourceNotFound", f"The deployment {key[1]} was not found.")
        return key

    def _workspace(self, request: web.Request, body: Any) -> Any:
        name = request.match_info["workspace"]
        if name.lower() != WORKSPACE:
            raise Refused(404, "ResourceNotFound", f"The workspace {name} was not found.")
        return 200, {"name": WORKSPACE, "location": "westeurope", "properties": {}}

    def _get(self, request: web.Request, body: Any) -> Any:
        name = self._found(request)
        told = _plain(self.endpoints[name])
        return 200, told

    def _put(self, request: web.Request, body: Any) -> Any:
        self._workspace(request, None)
        return _begun(self.make(request.match_info["name"], body), 201)

    def _delete(self, request: web.Request, body: Any) -> Any:
        name: str = request.match_info["name"]
        if name not in self.endpoints:
            return 204, None
        self._not_in_between("delete", name)
        self.endpoints[name]["properties"]["provisioningState"] = "Deleting"
        return 202, None

    def _keys(self, request: web.Request, body: Any) -> Any:
        if self.endpoints[self._found(request)]["properties"]["authMode"] != "Key":
            raise _bad("Keys are for endpoints with key authentication only.")
        return 200, {"primaryKey": KEY, "secondaryKey": f"{KEY}-2"}

    def _list(self, request: web.Request, body: Any) -> Any:
        name = self._found(request)
        value = [_plain(one) for key, one in self.deployments.items() if key[0] == name]
        if not self.azure.slow:
            self.advance(name)
        return 200, {"value": value}

    def _get_deployment(self, request: web.Request, body: Any) -> Any:
        return 200, _plain(self.deployments[self._found_deployment(request)])

    def _put_deployment(self, request: web.Request, body: Any) -> Any:
        made = self.add(self._found(request), request.match_info["deployment"], body)
        return _begun(made, 201)

    def _scale(self, request: web.Request, body: Any) -> Any:
        key = self._found_deployment(request)
        self._not_in_between("scale", key[0])
        one = self.deployments[key]
        one["sku"] |= body["sku"]
        one["properties"]["provisioningState"] = "Scaling"
        return 202, None

    def _delete_deployment(self, request: web.Request, body: Any) -> Any:
        name = self._found(request)
        key = (name, str(request.match_info["deployment"]))
        if key not in self.deployments:
            return 204, None
        self._not_in_between("delete", name)
        if (self.endpoints[name]["properties"]["traffic"] or {}).get(key[1]):
            raise _bad(f"Deployment {key[1]} has traffic, and cannot be deleted.")
        self.deployments[key]["properties"]["provisioningState"] = "Deleting"
        return 202, None

    def _get_setting(self, request: web.Request, body: Any) -> Any:
        name = request.match_info["setting"]
        if name not in self.settings:
            raise Refused(404, "ResourceNotFound", f"The setting {name} was not found.")
        return 200, self.settings[name]

    def _put_setting(self, request: web.Request, body: Any) -> Any:
        target = body["properties"]["targetResourceUri"]
        if all(one["id"] != target for one in self.deployments.values()):
            raise Refused(400, "BadRequest", f"The target {target} does not exist.")
        for name, one in self.settings.items():
            another = name != request.match_info["setting"]
            if another and one["properties"]["targetResourceUri"] == target:
                raise Refused(409, "Conflict", "The target has a setting already.")
        capacity = body["properties"]["profiles"][0]["capacity"]
        if not 1 <= int(capacity["minimum"]) <= int(capacity["maximum"]) <= 50:
            raise Refused(400, "BadRequest", "The capacity is not from 1 to 50.")
        self.settings[request.match_info["setting"]] = body
        return 201, body

    def _delete_setting(self, request: web.Request, body: Any) -> Any:
        self._get_setting(request, None)
        del self.settings[request.match_info["setting"]]
        return 200, None

    def _measured(self, request: web.Request, body: Any) -> Any:
        name, query = self._found(request), request.query
        asked = re.fullmatch(
            r"deployment eq '([^']+)'( and statusCodeClass eq '\*')?", query["$filter"]
        )
        assert asked, query["$filter"]
        if query["aggregation"] != "Average" or query["interval"] != "PT1M":
            raise _bad("Only averages of each minute are told.")
        times = [datetime.fromisoformat(at).timestamp() for at in query["timespan"].split("/")]
        if (name, asked[1]) not in self.deployments:
            return 200, {"value": [_metric(one, {}) for one in query["metricnames"].split(",")]}
        flow = self.meter.of(asked[1], *times)
        shares = {"4xx": flow.refused, "5xx": flow.errors}
        shares["2xx"] = 100 - sum(shares.values())
        value = []
        for metric in query["metricnames"].split(","):
            if (percent := metric.partition("RequestLatency_P")[2]) and not asked[2]:
                series = {"": flow.percentile(int(percent))}
            elif metric == "RequestsPerMinute":
                series = {code: flow.requests * share / 100 for code, share in shares.items()}
            else:
                raise _bad(f"The metric {metric} is not valid with these dimensions.")
            told = {code: dict.fromkeys(minutes(*times), each) for code, each in series.items()}
            value.append(_metric(metric, told if flow.requests else {}))
        return 200, {"cost": 0, "timespan": query["timespan"], "interval": "PT1M", "value": value}

    def _score(self, request: web.Request, body: Any) -> Any:
        ((name, endpoint),) = self.endpoints.items()
        traffic = endpoint["properties"]["traffic"]
        chosen = request.headers.get("azureml-model-deployment") or max(
            traffic, key=traffic.__getitem__, default=""
        )
        if (name, chosen) not in self.deployments:
            return 404, {"message": "no such deployment"}
        model = self.deployments[name, chosen]["properties"]["model"]
        return self.answers.get(model, 200), {"deployment": chosen}


def _metric(name: str, series: dict[str, dict[int, float]]) -> JSON:
    """A metric as Azure Monitor tells it: names of dimensions come back in small letters."""
    return {
        "name": {"value": name, "localizedValue": name},
        "timeseries": [
            {
                "metadatavalues": [{"name": {"value": "statuscodeclass"}, "value": code}]
                if code
                else [],
                "data": [
                    {"timeStamp": f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"}
                    | {"average": value}
                    for at, value in figures.items()
                ],
            }
            for code, figures in series.items()
        ],
    }


def _plain(resource: JSON) -> JSON:
    return deepcopy({k: v for k, v in resource.items() if not k.startswith("_")})


def _begun(resource: JSON, status: int) -> web.Response:
    headers = {"Azure-AsyncOperation": resource["_address"]}
    return web.json_response(_plain(resource), status=status, headers=headers)


def _bad(message: str) -> Refused:
    return Refused(400, "BadArgument", message)


class AzureMLVendor(ServedVendor):
    """Azure Machine Learning behind the provider of endpoints."""

    provider = AzureMLEndpoint
    spec: ClassVar[JSON] = {
        "model": {"name": MODEL},
        "hardware": "Standard_DS3_v2",
        "scaling": {"min": 1, "max": 3, "target": {"metric": "CPUUtilization", "value": 60}},
        "environment": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "TOKEN", "secretKeyRef": {"name": "model", "key": "token"}},
        ],
        "azureML": {
            "workspace": WORKSPACE,
            "requestTimeoutSeconds": 60,
            "livenessProbe": {"initialDelaySeconds": 90},
            "tags": {"team": "search", "stage": "test"},
            "publishKey": True,
        },
    }
    edits = (
        Edit("another model", {"model": {"name": f"{REGISTRY}churn/versions/5"}}),
        Edit("one variable less", {"environment": spec["environment"][1:]}),
        Edit(
            "one variable more",
            {"environment": [*spec["environment"], {"name": "WORKERS", "value": "4"}]},
        ),
        Edit("other hardware", {"hardware": "Standard_F4s_v2"}),
        Edit("other bounds", {"scaling": {"min": 2, "max": 5}}),
        Edit("another target", {"scaling": {"target": {"metric": "MemoryUtilization"}}}),
        Edit("a fixed number", {"scaling": {"min": 2, "max": None, "target": None}}),
        Edit(
            "an environment and code",
            {
                "azureML": {
                    "environmentId": "azureml://registries/azureml/environments/e/versions/1",
                    "codeConfiguration": {"codeId": "/code/1", "scoringScript": "score.py"},
                }
            },
        ),
        Edit(
            "other settings",
            {
                "azureML": {
                    "requestTimeoutSeconds": 120,
                    "concurrentRequests": 4,
                    "appInsightsEnabled": True,
                    "modelMountPath": "/models",
                    "egressPublicNetworkAccess": "Disabled",
                    "readinessProbe": {"periodSeconds": 30, "failureThreshold": 5},
                }
            },
        ),
        Edit("a tag more and one less", {"azureML": {"tags": {"stage": None, "cost": "42"}}}),
        Edit("no key", {"azureML": {"publishKey": False}}),
    )
    immutable: ClassVar[JSON] = {"azureML": {"authMode": "AADToken"}}
    refusal = Refusal({"hardware": "Standard_Moon"}, "not available in region")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        **SECRETS,
        "model": {"token": "tok-2d7e9c41fa6b4083"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = WRONG_SECRETS
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "model": {"token": "tok-new-60c1b7e25d9f4a38"}
    }
    has_pending = True
    fast = False  # An update is some forty calls over several visits: one fault at each is enough.

    def __init__(self) -> None:
        self.azure = Azure()
        self.workspace = Workspace(self.azure)
        super().__init__(self.azure.server, self.azure)
        self.meter = self.workspace.meter

    async def reset(self) -> None:
        self.workspace.endpoints.clear()
        self.workspace.deployments.clear()
        self.workspace.settings.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return connection(endpoint)

    async def count(self) -> int:
        it = self.workspace
        return len(it.endpoints) + len(it.deployments) + len(it.settings)

    async def tamper(self, id: str) -> str:
        (setting,) = self.workspace.settings.values()
        setting["properties"]["profiles"][0]["capacity"]["maximum"] = "9"
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        # What scaled its deployments stays.
        self.workspace.endpoints.clear()
        self.workspace.deployments.clear()

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        tags = {"made-by": "hand", **({OWNER_TAG: owner} if owner else {})}
        body: JSON = {
            "location": "West Europe",
            "identity": {"type": "SystemAssigned"},
            "tags": tags,
            "properties": {"authMode": "Key"},
        }
        self.workspace.make(name, body)
        self.workspace.settle()
        self.workspace.add(
            name,
            "blue",
            {
                "location": "westeurope",
                "properties": {
                    "endpointComputeType": "Managed",
                    "model": spec["model"]["name"],
                    "instanceType": spec["hardware"],
                },
            },
        )
        self.workspace.settle()
        self.workspace.endpoints[name]["properties"]["traffic"] = {"blue": 100}

    async def break_next_revision(self) -> None:
        self.azure.breaks = ("ResourceNotReady", "The container did not become ready in time.")

    def written(self, method: str) -> bool:
        return method != "GetAnswer" and super().written(method)

    async def settle(self) -> None:
        if not self.slow:
            self.workspace.settle()

    async def told(self, id: str) -> str:
        it = self.workspace
        return json.dumps([_plain(one) for one in it.deployments.values()])
