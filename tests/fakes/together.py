"""Together AI as of 2026-11: a project with its models, dedicated endpoints and deployments.

Requests of API v2 are held against a description derived from Together's SDK 3.1.1 (an official one
is not public), those of v1 against the official description of April 2026. What neither says (which
names are taken, that a deployment is deleted once it has stopped, that an endpoint goes after its
deployments) is as Together's own command line and documentation have it; the words are this fake's.
"""

import itertools
import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.together.deployment import TogetherDeployment
from tests.conformance.vendor import Edit, Refusal, merged
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
KEY = "tgp_v1_8sKfakeFAKEq2Zx7Lw0Pm"
OTHER_KEY = "tgp_v1_3bNwrongWRONG9Tc4Hy1R"
PROJECT, SLUG = "proj_4f1c", "acme-prod"
QWEN, LLAMA = "projects/proj_public/models/ml_qwen9b", "projects/proj_public/models/ml_llama8b"
CONFIGS = {
    QWEN: [
        "projects/proj_public/configs/cr_qwen_h100",
        "projects/proj_public/configs/cr_qwen_b200",
    ],
    LLAMA: ["projects/proj_public/configs/cr_llama_h100"],
}
REGIONS = ("us-east-1", "eu-west-1")
MOST_CONCURRENT = 63
PAGE = 2
"""Small, so that lists have several pages."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, message: str, type_: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.message, self.type = status, message, type_

    def response(self) -> web.Response:
        error = {"message": self.message, "type": self.type, "param": None, "code": None}
        return web.json_response({"error": error}, status=self.status)


def absent(what: str) -> Refused:
    return Refused(404, f"{what} not found", "not_found_error")


class Descriptions(Description):
    """That of API v2, and the official one for v1. Inference and whoami are in neither."""

    older: Description

    @classmethod
    def of_together(cls) -> "Descriptions | None":
        newer = cls.load("togetherai-v2-derived.openapi.json")
        older = Description.load("togetherai.openapi.json")
        if newer is None or older is None:
            return None
        document = deepcopy(older.document)
        # A boolean that is "auto" by default, and that the SDK sends as "auto".
        inputs = document["components"]["schemas"]["TrainingMethodSFT"]["properties"]
        del inputs["train_on_inputs"]["type"]
        newer.older = Description(document)
        return newer

    def check(self, method: str, path: str, **request: Any) -> Violation | None:
        if path.startswith("/v2/"):
            return super().check(method, path, **request)
        if path.startswith("/v1/f"):
            return self.older.check(method, path.removeprefix("/v1"), **request)
        return None


class Project:
    """A project behind the API."""

    def __init__(self) -> None:
        self.server = FakeServer(Descriptions.of_together())
        self.server.authorize = _authorize
        self.ids = itertools.count(1)
        self.models: dict[str, JSON] = {}
        self.reset()
        endpoints = f"/v2/projects/{PROJECT}/endpoints"
        deployments = f"{endpoints}/{{endpoint}}/deployments"
        for method, path, handler in (
            ("GET", "/v3/whoami", self._whoami),
            ("POST", endpoints, self._create_endpoint),
            ("GET", endpoints, self._list_endpoints),
            ("GET", f"{endpoints}/{{endpoint}}", self._get_endpoint),
            ("PATCH", f"{endpoints}/{{endpoint}}", self._change_endpoint),
            ("DELETE", f"{endpoints}/{{endpoint}}", self._delete_endpoint),
            ("POST", deployments, self._create_deployment),
            ("GET", deployments, self._list_deployments),
            ("PATCH", f"{deployments}/{{deployment}}", self._change_deployment),
            ("DELETE", f"{deployments}/{{deployment}}", self._delete_deployment),
            ("DELETE", f"/v2/projects/{PROJECT}/models/{{model}}", self._delete_model),
            ("POST", "/inference/chat/completions", self._chat),
        ):
            self.route(method, path, handler)

    def route(self, method: str, path: str, handler: Callable[..., Any]) -> None:
        self.server.route(method, path, _answering(handler))

    def reset(self) -> None:
        self.slow = False
        self.breaks: str | None = None
        """What the next deployment fails with."""
        self.answers: dict[str, int] = {}
        """Status with which a model answers, other than 200."""
        self.endpoints: dict[str, JSON] = {}
        self.deployments: dict[str, JSON] = {}

    def settle(self) -> None:
        """What is under way comes to its end."""
        for one in self.deployments.values():
            self._finish(one)

    # Endpoints

    def make_endpoint(self, body: JSON) -> JSON:
        name = _checked_name(body["name"])
        if any(one["name"] == f"{SLUG}/{name}" for one in self.endpoints.values()):
            raise Refused(409, f"endpoint {name} already exists", "conflict_error")
        id = f"ep_{next(self.ids):04d}"
        self.endpoints[id] = {
            "id": id,
            "name": f"{SLUG}/{name}",
            "projectId": PROJECT,
            "visibility": body.get("visibility", "VISIBILITY_PRIVATE"),
            "trafficSplit": [],
            "endpointType": "ENDPOINT_TYPE_DEDICATED",
            "etag": "1",
            "createdAt": "2026-11-24T10:00:00Z",
            "updatedAt": "2026-11-24T10:00:00Z",
        }
        return self.told(id)

    def told(self, id: str) -> JSON:
        endpoint = deepcopy(self._endpoint(id))
        endpoint["deployments"] = [
            {"id": one["id"], "name": one["name"], "state": one["status"]["state"]}
            for one in self.below(id)
        ]
        return endpoint

    def below(self, endpoint: str) -> list[JSON]:
        return [one for one in self.deployments.values() if one["endpointId"] == endpoint]

    def change_endpoint(self, id: str, body: JSON, mask: list[str]) -> JSON:
        endpoint = self._endpoint(id)
        mask = mask or list(body)
        if "trafficSplit" in mask:
            if endpoint.get("activeRolloutId"):
                raise Refused(409, "a rollout is active", "conflict_error")
            ids = {one["id"] for one in self.below(id)}
            for entry in body.get("trafficSplit", []):
                if entry["deploymentId"] not in ids or entry["weight"] < 0:
                    raise Refused(400, f"trafficSplit: no deployment {entry['deploymentId']}")
            endpoint["trafficSplit"] = [e for e in body["trafficSplit"] if e["weight"]]
        if "visibility" in mask:
            endpoint["visibility"] = body["visibility"]
        _touch(endpoint)
        return self.told(id)

    def delete_endpoint(self, id: str) -> None:
        self._endpoint(id)
        if self.below(id):
            raise Refused(409, "endpoint has deployments; delete them first", "conflict_error")
        del self.endpoints[id]

    # Deployments

    def make_deployment(self, endpoint: str, body: JSON) -> JSON:
        parent, name = self._endpoint(endpoint), _checked_name(body["name"])
        model, _, revision = body.get("model", "").partition("/revisions/")
        configs = CONFIGS.get(model) or self._own(model)
        if not configs or revision not in ("", "rv_1", "rv_2"):
            raise Refused(400, f"model {body.get('model')} does not exist")
        if body.get("config", configs[0]) not in configs:
            raise Refused(400, f"config {body['config']} is not compatible with {model}")
        if "config" not in body and len(configs) > 1:
            raise Refused(400, f"{model} has several configs; choose one")
        placement = body.get("placement", {})
        for region in placement.get("inline", {}).get("regions", []):
            if region not in REGIONS:
                raise Refused(400, f"region {region} has no such hardware")
        if any(one["name"] == f"{parent['name']}/{name}" for one in self.below(endpoint)):
            raise Refused(409, f"deployment {name} already exists", "conflict_error")
        id = f"dep_{next(self.ids):04d}"
        deployment: JSON = {
            "id": id,
            "name": f"{parent['name']}/{name}",
            "endpointId": endpoint,
            "projectId": PROJECT,
            "model": f"{model}/revisions/{revision or 'rv_2'}",
            "config": body.get("config", configs[0]),
            "hardware": "1x H100 80GB",
            "autoscaling": _checked_autoscaling({"scaleDownWindow": "300s", **body["autoscaling"]}),
            "inactiveTimeout": _checked_timeout(body.get("inactiveTimeout", 0)),
            "trafficMode": "TRAFFIC_MODE_LIVE",
            "etag": "1",
            "status": {"state": "DEPLOYMENT_STATE_PROVISIONING", "message": "starting"},
        }
        if placement:
            deployment["placement"] = placement
        _limit(deployment, body)
        if self.breaks is not None:
            deployment["_fails"], self.breaks = self.breaks, None
        self.deployments[id] = deployment
        if not self.slow:
            self._finish(deployment)
        return deployment

    def change_deployment(self, id: str, body: JSON, mask: list[str]) -> JSON:
        deployment = self._deployment(id)
        changed = deepcopy(deployment)
        for path in mask or list(body):
            _set(changed, body, path.split("."))
        if "name" in (mask or body):
            endpoint = self._endpoint(deployment["endpointId"])
            changed["name"] = f"{endpoint['name']}/{_checked_name(body['name'])}"
            others = [o for o in self.below(deployment["endpointId"]) if o["id"] != id]
            if any(one["name"] == changed["name"] for one in others):
                raise Refused(409, f"{changed['name']} already exists", "conflict_error")
        _checked_autoscaling(changed["autoscaling"])
        _checked_timeout(changed["inactiveTimeout"])
        _limit(changed, changed)
        _touch(changed)
        before, after = (one["autoscaling"]["maxReplicas"] for one in (deployment, changed))
        if not after and before:
            changed["status"] |= {"state": "DEPLOYMENT_STATE_STOPPING", "message": "stopping"}
        elif after and not before:
            state = {"state": "DEPLOYMENT_STATE_PROVISIONING", "message": "starting"}
            changed["status"] = state
        elif deployment["autoscaling"] != changed["autoscaling"]:
            changed["status"] |= {"state": "DEPLOYMENT_STATE_SCALING", "message": "scaling"}
        self.deployments[id] = changed
        if after and not self.slow:
            self._finish(changed)
        return changed

    def delete_deployment(self, id: str) -> None:
        deployment = self._deployment(id)
        endpoint = self._endpoint(deployment["endpointId"])
        if any(e["deploymentId"] == id and e["weight"] for e in endpoint["trafficSplit"]):
            raise Refused(409, "deployment is in the live traffic split", "conflict_error")
        if deployment["autoscaling"]["maxReplicas"] or not deployment["status"]["state"].endswith(
            ("STOPPED", "FAILED")
        ):
            raise Refused(409, "deployment must be stopped first", "conflict_error")
        del self.deployments[id]

    def _finish(self, deployment: JSON) -> None:
        most = deployment["autoscaling"]["maxReplicas"]
        least = deployment["autoscaling"]["minReplicas"]
        state = {"state": "DEPLOYMENT_STATE_READY", "message": "", "readyReplicas": least}
        if not most:
            state = {"state": "DEPLOYMENT_STATE_STOPPED", "message": "stopped", "readyReplicas": 0}
        elif "_fails" in deployment:
            state = {"state": "DEPLOYMENT_STATE_FAILED", "message": deployment["_fails"]}
        deployment["status"] = state

    def _own(self, path: str) -> list[str]:
        """Configs for a model of the project's own."""
        id = path.removeprefix(f"projects/{PROJECT}/models/")
        return CONFIGS[self.models[id]["base"]] if id in self.models else []

    def _endpoint(self, id: str) -> JSON:
        if id not in self.endpoints:
            raise absent(f"endpoint {id}")
        return self.endpoints[id]

    def _deployment(self, id: str) -> JSON:
        if id not in self.deployments:
            raise absent(f"deployment {id}")
        return self.deployments[id]

    # Handlers

    async def _whoami(self, _: web.Request, __: Any) -> JSON:
        return {
            "type": "project_api_key",
            "api_key": {"id": "key_1"},
            "organization": {"id": "org_1", "name": "Acme"},
            "project": {"id": PROJECT, "name": "Acme production", "slug": SLUG},
        }

    async def _create_endpoint(self, _: web.Request, body: JSON) -> JSON:
        return self.make_endpoint(body)

    async def _list_endpoints(self, request: web.Request, _: Any) -> JSON:
        found = re.fullmatch(r'name:"(.*)"', request.query.get("filter", 'name:""'))
        if found is None:
            raise Refused(400, "filter cannot be parsed")
        ids = [id for id, one in self.endpoints.items() if found[1] in one["name"]]
        return _page(request, [self.told(id) for id in ids])

    async def _get_endpoint(self, request: web.Request, _: Any) -> JSON:
        return self.told(request.match_info["endpoint"])

    async def _change_endpoint(self, request: web.Request, body: JSON) -> JSON:
        return self.change_endpoint(request.match_info["endpoint"], body, _mask(request))

    async def _delete_endpoint(self, request: web.Request, _: Any) -> JSON:
        self.delete_endpoint(request.match_info["endpoint"])
        return {}

    async def _create_deployment(self, request: web.Request, body: JSON) -> JSON:
        return _shown(self.make_deployment(request.match_info["endpoint"], body))

    async def _list_deployments(self, request: web.Request, _: Any) -> JSON:
        endpoint = self._endpoint(request.match_info["endpoint"])
        return _page(request, [_shown(one) for one in self.below(endpoint["id"])])

    async def _change_deployment(self, request: web.Request, body: JSON) -> JSON:
        return _shown(
            self.change_deployment(request.match_info["deployment"], body, _mask(request))
        )

    async def _delete_deployment(self, request: web.Request, _: Any) -> JSON:
        self.delete_deployment(request.match_info["deployment"])
        return {}

    async def _delete_model(self, request: web.Request, _: Any) -> JSON:
        id = request.match_info["model"]
        if id not in self.models:
            raise absent(f"model {id}")
        if any(f"/models/{id}/" in one["model"] for one in self.deployments.values()):
            raise Refused(409, f"model {id} is used by a deployment", "conflict_error")
        del self.models[id]
        return {}

    async def _chat(self, _: web.Request, body: JSON) -> JSON:
        name = body["model"]
        for endpoint in self.endpoints.values():
            for one in self.below(endpoint["id"]):
                weights = {e["deploymentId"]: e["weight"] for e in endpoint["trafficSplit"]}
                if one["name"] == name or (endpoint["name"] == name and weights.get(one["id"])):
                    model = one["model"].partition("/revisions/")[0]
                    if (status := self.answers.get(model, 200)) != 200:
                        raise Refused(status, "the model has failed", "server_error")
                    return {"model": name, "choices": [{"message": {"content": model}}]}
        raise absent(f"model {name}")


def _authorize(request: web.Request) -> web.Response | None:
    if request.headers.get("Authorization") == f"Bearer {KEY}":
        return None
    return Refused(401, "Invalid API key provided", "invalid_request_error").response()


def _answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        try:
            return web.json_response(await handler(request, body))
        except Refused as refused:
            return refused.response()

    return answer


def _page(request: web.Request, items: list[JSON]) -> JSON:
    start = int(request.query.get("after", "0"))
    size = min(int(request.query.get("limit", "50")), PAGE)
    following = str(start + size) if start + size < len(items) else None
    return {"object": "list", "data": items[start : start + size], "next_cursor": following}


def _mask(request: web.Request) -> list[str]:
    return [path for path in request.query.get("updateMask", "").split(",") if path]


def _shown(deployment: JSON) -> JSON:
    return {name: value for name, value in deployment.items() if not name.startswith("_")}


def _set(target: JSON, source: JSON, path: list[str]) -> None:
    """What a field mask names takes the value of the body, or is cleared."""
    first, *rest = path
    if rest:
        _set(target.setdefault(first, {}), source.get(first, {}), rest)
    elif first in source:
        target[first] = source[first]
    else:
        target.pop(first, None)


def _touch(thing: JSON) -> None:
    thing["etag"] = str(int(thing["etag"]) + 1)


def _checked_name(name: str) -> str:
    bare = name.removeprefix(f"{SLUG}/")
    if not NAME.fullmatch(bare):
        raise Refused(400, f"name {bare} must be lower-case letters, digits and hyphens")
    return bare


def _checked_autoscaling(autoscaling: JSON) -> JSON:
    least = autoscaling.setdefault("minReplicas", 1)
    most = autoscaling.setdefault("maxReplicas", least)
    if least > most or (least == 0) != (most == 0):
        raise Refused(400, f"autoscaling: {least} to {most} replicas is not possible")
    for name in ("scaleUpWindow", "scaleDownWindow", "scaleToZeroWindow"):
        if name in autoscaling and not re.fullmatch(r"[0-9]+(\.[0-9]+)?s", autoscaling[name]):
            raise Refused(400, f"autoscaling.{name} is no duration: {autoscaling[name]}")
    names = [metric["name"] for metric in autoscaling.get("scalingMetrics", [])]
    if len(names) != len(set(names)):
        raise Refused(400, "autoscaling.scalingMetrics: a metric is there twice")
    return autoscaling


def _checked_timeout(minutes: int) -> int:
    if minutes and not 30 <= minutes <= 1440:
        raise Refused(400, f"inactiveTimeout must be 0 or 30 to 1440, not {minutes}")
    return minutes


def _limit(deployment: JSON, body: JSON) -> None:
    asked = int(body.get("maxConcurrentRequestsPerReplica", MOST_CONCURRENT))
    deployment["maxConcurrentRequestsPerReplica"] = str(min(asked, MOST_CONCURRENT))


class TogetherDeployments(ServedVendor):
    provider = TogetherDeployment
    fast = False  # A rollout is some fifty calls over many visits.
    spec: ClassVar[JSON] = {
        "model": {"name": QWEN},
        "scaling": {"min": 1, "max": 2, "target": {"metric": "ConcurrentRequests", "value": 8}},
        "together": {
            "config": CONFIGS[QWEN][0],
            "placement": {"regions": ["us-east-1"], "constraint": "Required"},
            "inactiveTimeout": 60,
            "metrics": [{"name": "ttft", "target": 400, "percentile": "p90"}],
        },
    }
    edits = (
        Edit("another model", {"model": {"name": LLAMA}, "together": {"config": None}}),
        Edit("an older revision of the model", {"model": {"version": "rv_1"}}),
        Edit("another config", {"together": {"config": CONFIGS[QWEN][1]}}),
        Edit("another region", {"together": {"placement": {"regions": ["eu-west-1"]}}}),
        Edit("more replicas", {"scaling": {"min": 2, "max": 4}}),
        Edit("another target", {"scaling": {"target": {"metric": "AcceleratorUtilization"}}}),
        Edit("down to zero", {"scaling": {"min": 0, "toZeroAfter": "30m"}}),
        Edit("windows", {"together": {"scaleUpWindow": "30s", "scaleDownWindow": "10m"}}),
        Edit(
            "another metric",
            {"together": {"metrics": [{"name": "token_utilization", "target": 70}]}},
        ),
        Edit(
            "one metric more",
            {
                "together": {
                    "metrics": [
                        {"name": "ttft", "target": 300, "percentile": "p50"},
                        {"name": "e2e_latency", "target": 9000},
                    ]
                }
            },
        ),
        Edit("no metrics", {"together": {"metrics": []}}),
        Edit(
            "slowly down",
            {
                "together": {
                    "scaleDown": {
                        "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
                        "select": "Least",
                    }
                }
            },
        ),
        Edit("never down", {"together": {"scaleDown": {"select": "Nothing"}}}),
        Edit("back to Together's policies", {"together": {"scaleDown": {"policies": []}}}),
        Edit("shared with the organization", {"together": {"visibility": "Internal"}}),
        Edit("never stopped", {"together": {"inactiveTimeout": 0}}),
        Edit(
            "more at once than the config allows",
            {"together": {"maxConcurrentRequestsPerReplica": 500}},
        ),
    )
    refusal = Refusal(
        {"model": {"name": "projects/proj_public/models/ml_none"}}, "ml_none does not exist"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"together": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"together": {"apiKey": OTHER_KEY}}
    has_pending = True

    def __init__(self) -> None:
        self.project = Project()
        super().__init__(self.project.server, self.project)

    async def reset(self) -> None:
        self.project.reset()

    async def settle(self) -> None:
        self.project.settle()

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "inferenceEndpoint": f"{endpoint}/inference",
            "apiKey": {"secretKeyRef": {"name": "together", "key": "apiKey"}},
        }

    async def count(self) -> int:
        return len(self.project.endpoints) + len(self.project.deployments)

    async def tamper(self, id: str) -> str:
        (one,) = self.project.below(id)
        body = {"autoscaling": {"minReplicas": 1, "maxReplicas": 7}}
        self.project.change_deployment(one["id"], body, ["autoscaling.maxReplicas"])
        self.project.settle()
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        for one in self.project.below(id):
            del self.project.deployments[one["id"]]
        del self.project.endpoints[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        spec = merged(spec, {})
        endpoint = self.project.make_endpoint({"name": name})
        placement = spec["together"]["placement"]
        deployment = self.project.make_deployment(
            endpoint["id"],
            {
                "name": "blue",
                "model": spec["model"]["name"],
                "config": spec["together"]["config"],
                "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
                "placement": {
                    "inline": {
                        "regions": placement["regions"],
                        "constraint": "ENFORCEMENT_REQUIRED",
                    }
                },
            },
        )
        split = [{"deploymentId": deployment["id"], "weight": 1.0}]
        self.project.change_endpoint(endpoint["id"], {"trafficSplit": split}, [])

    async def break_next_revision(self) -> None:
        self.project.breaks = "no capacity for 1x H100 80GB in us-east-1"

    async def told(self, id: str) -> str:
        return json.dumps([self.project.told(id), self.project.below(id)])
