"""Google's Vertex AI: endpoints, the model registry, Model Garden and tuning jobs, as of 2026-11.

What it knows beyond the discovery document: operations take their time, one at a time with an
endpoint; ids are taken; a split of the traffic is 100 over what is deployed; what has traffic is
not undeployed, what is deployed not deleted; etags; a failed deployment leaves nothing but its
error; names are answered with the project's number.
"""

import itertools
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, ClassVar

from aiohttp import web

from auterity.engine.contract import Provider
from auterity.providers.vertex.endpoint import VertexEndpoint
from auterity.providers.vertex.tuning import VertexTuning
from auterity.transport.labels import owner_labels
from tests.conformance.meter import Meter, minutes
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.google import (
    JSON,
    LOCATION,
    NUMBER,
    PROJECT,
    GoogleFake,
    Operations,
    Refused,
    absent,
    invalid,
    key_of_a_service_account,
    precondition,
)
from tests.fakes.server import ServedVendor

PARENT = f"projects/{NUMBER}/locations/{LOCATION}"
IMAGE = f"{LOCATION}-docker.pkg.dev/{PROJECT}/serving/churn:1"
KEY = key_of_a_service_account()
OTHER_KEY = key_of_a_service_account()
PAGE = 2
PATCHABLE = {
    "displayName",
    "description",
    "labels",
    "trafficSplit",
    "predictRequestResponseLoggingConfig",
}
MUTABLE = {"minReplicaCount", "maxReplicaCount", "requiredReplicaCount", "autoscalingMetricSpecs"}
RESOURCES = {"dedicatedResources", "automaticResources"}
GARDEN: dict[str, JSON] = {
    "publishers/google/models/gemma3@gemma-3-1b-it": {
        "artifactUri": "gs://vertex-model-garden-public-eu/gemma3/gemma-3-1b-it",
        "containerSpec": {
            "imageUri": "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/vllm:1",
            "args": ["--max-model-len=32768"],
            "env": [{"name": "DEPLOY_SOURCE", "value": "UI_NATIVE_MODEL"}],
            "ports": [{"containerPort": 8080}],
        },
        "dedicatedResources": {
            "machineSpec": {
                "machineType": "g2-standard-12",
                "acceleratorType": "NVIDIA_L4",
                "acceleratorCount": 1,
            }
        },
    },
    "publishers/hf-acme/models/tiny-chat": {
        "containerSpec": {
            "imageUri": "us-docker.pkg.dev/deeplearning-platform-release/tgi:3",
            "env": [{"name": "MODEL_ID", "value": "acme/tiny-chat"}],
        },
        "dedicatedResources": {"machineSpec": {"machineType": "g2-standard-12"}},
    },
}
BASE_MODELS = ("gemini-2.5-flash", "gemini-2.5-pro")


class VertexAI:
    """One project and location."""

    def __init__(self) -> None:
        self.operations = Operations("google.cloud.aiplatform.v1")
        self.endpoints: dict[str, JSON] = {}
        self.models: dict[str, JSON] = {}
        self.jobs: dict[str, JSON] = {}
        self.breaks: JSON | None = None
        """The error of the next deployment."""
        self.unreadable: str | None = None
        """Why the next upload fails."""
        self.answers: dict[str, int] = {}
        """Status with which the container of an image answers, other than 200."""
        self.unmakable: JSON | None = None
        """The error of the next creation of an endpoint."""
        self.unscalable: JSON | None = None
        """The error of the next change of a deployed model."""
        self.quota: int | None = None
        """Most models that may be deployed."""
        self.numbers = itertools.count(5_000_000_001)
        self.meter = Meter()
        self.fake = GoogleFake("aiplatform.v1", KEY, "monitoring.v3")
        where = "/v1/projects/{project}/locations/{location}"
        for method, path, answer in (
            ("GET", "/endpoints", self._list_endpoints),
            ("POST", "/endpoints", self._create_endpoint),
            ("GET", "/endpoints/{id}", self._get_endpoint),
            ("PATCH", "/endpoints/{id}", self._patch_endpoint),
            ("DELETE", "/endpoints/{id}", self._delete_endpoint),
            ("POST", "/endpoints/{id}:deployModel", self._deploy),
            ("POST", "/endpoints/{id}:undeployModel", self._undeploy),
            ("POST", "/endpoints/{id}:mutateDeployedModel", self._mutate),
            ("GET", "/models", self._list_models),
            ("POST", "/models:upload", self._upload),
            ("GET", "/models/{id}", self._get_model),
            ("PATCH", "/models/{id}", self._patch_model),
            ("DELETE", "/models/{id}", self._delete_model),
            ("GET", "/{collection}/{id}/operations", self._list_operations),
            ("GET", "/tuningJobs", self._list_jobs),
            ("POST", "/tuningJobs", self._create_job),
            ("GET", "/tuningJobs/{id}", self._get_job),
            ("POST", "/tuningJobs/{id}:cancel", self._cancel_job),
        ):
            self.fake.route(method, f"{where}{path}", answer)
        self.fake.route("GET", "/v3/projects/{project}/timeSeries", self._measured)
        self.fake.route("GET", "/v1/publishers/{publisher}/models/{model}", self._garden)
        self.fake.server.route("POST", f"{where}/endpoints/{{id}}:rawPredict", self._predict)

    def reset(self) -> None:
        for held in (self.endpoints, self.models, self.jobs, self.operations):
            held.clear()
        self.operations.slow = False
        self.breaks = self.unreadable = self.quota = self.unmakable = self.unscalable = None

    def make_endpoint(self, id: str, body: JSON) -> JSON:
        """An endpoint as it is once it has been created."""
        endpoint = {
            **body,
            "name": f"{PARENT}/endpoints/{id}",
            "createTime": "2026-11-01T00:00:00Z",
        }
        if body.get("dedicatedEndpointEnabled"):
            endpoint["dedicatedEndpointDns"] = f"{id}.{LOCATION}-{NUMBER}.prediction.vertexai.goog"
        self.endpoints[id] = endpoint
        return self._touch(endpoint)

    def make_model(self, id: str, body: JSON) -> JSON:
        """A model as it is once it has been uploaded."""
        self.models[id] = {
            **body,
            "name": f"{PARENT}/models/{id}",
            "versionId": "1",
            "versionAliases": ["default"],
        }
        return self.models[id]

    def deployed(self, endpoint: JSON, model: JSON) -> JSON:
        """Deploy a model at once."""
        endpoint.setdefault("deployedModels", []).append(model)
        return self._touch(endpoint)

    def _touch(self, endpoint: JSON) -> JSON:
        endpoint["etag"] = f"AMEw{next(self.numbers)}"
        return endpoint

    def _found(self, request: web.Request) -> tuple[str, JSON]:
        id = request.match_info["id"]
        if id not in self.endpoints:
            raise absent(f"{PARENT}/endpoints/{id}")
        return id, self.endpoints[id]

    def _list_endpoints(self, request: web.Request, _: Any) -> JSON:
        return page("endpoints", list(self.endpoints.values()), request)

    def _create_endpoint(self, request: web.Request, body: JSON) -> JSON:
        id = request.query.get("endpointId", str(next(self.numbers)))
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}|0", id):
            raise invalid(f"Endpoint id {id} is not valid.")
        if not 1 <= len(body.get("displayName", "")) <= 128:
            raise invalid("displayName must be 1 to 128 characters long.")
        check_labels(body.get("labels", {}))
        name = f"{PARENT}/endpoints/{id}"
        if id in self.endpoints or self.operations.running(name):
            raise Refused(409, "ALREADY_EXISTS", f"Endpoint {name} already exists.")
        error, self.unmakable = self.unmakable, None
        return self.operations.start(
            "CreateEndpoint", name, lambda: self.make_endpoint(id, deepcopy(body)), error
        )

    def _get_endpoint(self, request: web.Request, _: Any) -> JSON:
        _, endpoint = self._found(request)
        return deepcopy(endpoint)

    def _patch_endpoint(self, request: web.Request, body: JSON) -> JSON:
        _, endpoint = self._found(request)
        mask = request.query["updateMask"].split(",")
        if not set(mask) <= PATCHABLE:
            raise invalid(f"updateMask may only name {sorted(PATCHABLE)}.")
        if body.get("etag", endpoint["etag"]) != endpoint["etag"]:
            raise Refused(409, "ABORTED", "The etag does not match that of the endpoint.")
        if "trafficSplit" in mask:
            self._check_split(endpoint, body.get("trafficSplit", {}), set())
        check_labels(body.get("labels", {}))
        for field in mask:
            endpoint.pop(field, None)
            if field in body:
                endpoint[field] = body[field]
        return deepcopy(self._touch(endpoint))

    def _delete_endpoint(self, request: web.Request, _: Any) -> JSON:
        id, endpoint = self._found(request)
        self._idle(endpoint)
        if endpoint.get("deployedModels"):
            raise precondition(f"Endpoint {endpoint['name']} has deployed models: undeploy them.")

        def done() -> JSON:
            self.endpoints.pop(id, None)
            return {}

        return self.operations.start("Delete", endpoint["name"], done)

    def _deploy(self, request: web.Request, body: JSON) -> JSON:
        _, endpoint = self._found(request)
        self._idle(endpoint)
        model = deepcopy(body["deployedModel"])
        there = endpoint.get("deployedModels", [])
        model.setdefault("id", str(next(self.numbers)))
        if not re.fullmatch(r"[0-9]{1,10}", model["id"]):
            raise invalid("DeployedModel id must be 1 to 10 digits.")
        if any(one["id"] == model["id"] for one in there):
            raise invalid(f"DeployedModel ID {model['id']} already exists.")
        name, _, version = model["model"].partition("@")
        found = self.models.get(name.rpartition("/")[2])
        if found is None or version not in ("", found["versionId"], *found["versionAliases"]):
            raise absent(model["model"])
        _check_resources(model)
        if "trafficSplit" in body:
            self._check_split(endpoint, body["trafficSplit"], {"0"})
        total = sum(len(one.get("deployedModels", ())) for one in self.endpoints.values())
        if self.quota is not None and total >= self.quota:
            raise Refused(
                429,
                "RESOURCE_EXHAUSTED",
                "The following quotas are exceeded: CustomModelServingCPUsPerProjectPerRegion",
            )
        model |= {"model": found["name"], "modelVersionId": found["versionId"]}

        def done() -> JSON:
            self.deployed(endpoint, model)
            if split := body.get("trafficSplit"):
                endpoint["trafficSplit"] = {
                    (model["id"] if k == "0" else k): v for k, v in split.items() if v
                }
            return {"deployedModel": model}

        error, self.breaks = self.breaks, None
        return self.operations.start("DeployModel", endpoint["name"], done, error)

    def _undeploy(self, request: web.Request, body: JSON) -> JSON:
        _, endpoint = self._found(request)
        self._idle(endpoint)
        number, split = body["deployedModelId"], endpoint.get("trafficSplit", {})
        there = [one["id"] for one in endpoint.get("deployedModels", [])]
        if number not in there:
            raise invalid(f"DeployedModel ID(s) [{number}] do not exist.")
        if split.get(number) and len(there) > 1:
            raise precondition(f"DeployedModel {number} has traffic: set its split to 0 first.")

        def done() -> JSON:
            endpoint["deployedModels"] = [
                one for one in endpoint["deployedModels"] if one["id"] != number
            ]
            endpoint.get("trafficSplit", {}).pop(number, None)
            self._touch(endpoint)
            return {}

        return self.operations.start("UndeployModel", endpoint["name"], done)

    def _mutate(self, request: web.Request, body: JSON) -> JSON:
        _, endpoint = self._found(request)
        self._idle(endpoint)
        wanted = body["deployedModel"]
        live = next(
            (one for one in endpoint.get("deployedModels", []) if one["id"] == wanted["id"]), None
        )
        if live is None:
            raise invalid(f"DeployedModel ID(s) [{wanted['id']}] do not exist.")
        paths = [path.split(".") for path in body["updateMask"].split(",")]
        if any(len(p) != 2 or p[0] not in RESOURCES or p[1] not in MUTABLE for p in paths):
            raise invalid(f"updateMask names what cannot change: {body['updateMask']}")

        def done() -> JSON:
            for kind, field in paths:
                live[kind].pop(field, None)
                if field in wanted[kind]:
                    live[kind][field] = wanted[kind][field]
            self._touch(endpoint)
            return {"deployedModel": live}

        error, self.unscalable = self.unscalable, None
        return self.operations.start("MutateDeployedModel", endpoint["name"], done, error)

    def _idle(self, endpoint: JSON) -> None:
        if self.operations.running(endpoint["name"]):
            raise precondition(f"Another operation is in progress on {endpoint['name']}.")

    def _check_split(self, endpoint: JSON, split: JSON, new: set[str]) -> None:
        known = {one["id"] for one in endpoint.get("deployedModels", [])} | new
        if unknown := sorted(set(split) - known):
            raise invalid(f"DeployedModel ID(s) {unknown} do not exist.")
        if split and sum(split.values()) != 100:
            raise invalid("The traffic split must add up to 100.")

    def _list_operations(self, request: web.Request, _: Any) -> JSON:
        name = f"{PARENT}/{request.match_info['collection']}/{request.match_info['id']}"
        told = deepcopy(self.operations.on(name))
        self.operations.looked()
        return {"operations": told} if told else {}

    def _list_models(self, request: web.Request, _: Any) -> JSON:
        wanted = re.fullmatch(r'labels\.([\w-]+)="([^"]*)"', request.query.get("filter", ""))
        found = [
            one
            for one in self.models.values()
            if wanted is None or one.get("labels", {}).get(wanted[1]) == wanted[2]
        ]
        return page("models", found, request)

    def _upload(self, _: web.Request, body: JSON) -> JSON:
        id, model = body.get("modelId", str(next(self.numbers))), body["model"]
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", id):
            raise invalid(f"Model id {id} is not valid.")
        check_labels(model.get("labels", {}))
        if not model.get("containerSpec", {}).get("imageUri"):
            raise invalid("containerSpec.imageUri is required.")
        if not model.get("artifactUri", "gs://").startswith("gs://"):
            raise invalid(f"{model['artifactUri']} is not a Cloud Storage URI.")
        name = f"{PARENT}/models/{id}"
        if id in self.models or self.operations.running(name):
            raise Refused(409, "ALREADY_EXISTS", f"Model {name} already exists.")
        error = None
        if self.unreadable is not None:
            error, self.unreadable = {"code": 7, "message": self.unreadable}, None
        started = self.operations.start(
            "UploadModel", name, lambda: {"model": self.make_model(id, model)["name"]}, error
        )
        self.operations.looked()
        return started

    def _get_model(self, request: web.Request, _: Any) -> JSON:
        id, _, version = request.match_info["id"].partition("@")
        model = self.models.get(id)
        if model is None or version not in ("", model["versionId"], *model["versionAliases"]):
            raise absent(f"{PARENT}/models/{id}")
        return deepcopy(model)

    def _patch_model(self, request: web.Request, body: JSON) -> JSON:
        id, mask = request.match_info["id"], request.query["updateMask"].split(",")
        if id not in self.models:
            raise absent(f"{PARENT}/models/{id}")
        if not set(mask) <= {"displayName", "description", "labels", "versionDescription"}:
            raise invalid("updateMask names what cannot change.")
        check_labels(body.get("labels", {}))
        for field in mask:
            self.models[id].pop(field, None)
            if field in body:
                self.models[id][field] = body[field]
        return deepcopy(self.models[id])

    def _delete_model(self, request: web.Request, _: Any) -> JSON:
        id = request.match_info["id"]
        if id not in self.models:
            raise absent(f"{PARENT}/models/{id}")
        name = self.models[id]["name"]
        live = [m for e in self.endpoints.values() for m in e.get("deployedModels", ())]
        if any(one["model"] == name for one in live):
            raise precondition(f"Model {name} is deployed: undeploy it first.")

        def done() -> JSON:
            self.models.pop(id, None)
            return {}

        started = self.operations.start("Delete", name, done)
        self.operations.looked()
        return started

    def _garden(self, request: web.Request, _: Any) -> JSON:
        name = f"publishers/{request.match_info['publisher']}/models/{request.match_info['model']}"
        if name not in GARDEN:
            raise absent(f"Publisher Model `{name}`")
        ways = [deepcopy(GARDEN[name])]
        actions = {"multiDeployVertex": {"multiDeployVertex": ways}}
        return {"name": name, "supportedActions": actions}

    def _create_job(self, _: web.Request, body: JSON) -> JSON:
        specs = [k for k in ("supervisedTuningSpec", "preferenceOptimizationSpec") if k in body]
        if len(specs) != 1:
            raise invalid("Set exactly one tuning spec.")
        if ("baseModel" in body) == ("preTunedModel" in body):
            raise invalid("Set either baseModel or preTunedModel.")
        if body.get("baseModel", BASE_MODELS[0]) not in BASE_MODELS:
            raise invalid(f"Base model {body['baseModel']} is not supported.")
        if not body[specs[0]].get("trainingDatasetUri", "").startswith("gs://"):
            raise invalid("trainingDatasetUri must be a Cloud Storage URI.")
        check_labels(body.get("labels", {}))
        if self.quota is not None and len(self.jobs) >= self.quota:
            raise Refused(
                429,
                "RESOURCE_EXHAUSTED",
                "Quota exceeded for aiplatform.googleapis.com/global_concurrent_tuning_jobs",
            )
        id = str(next(self.numbers))
        name = f"{PARENT}/tuningJobs/{id}"
        self.jobs[id] = {**deepcopy(body), "name": name, "state": "JOB_STATE_PENDING"}
        return deepcopy(self.jobs[id])

    def _list_jobs(self, request: web.Request, _: Any) -> JSON:
        return page("tuningJobs", list(self.jobs.values()), request)

    def _get_job(self, request: web.Request, _: Any) -> JSON:
        job = self._job(request)
        told = deepcopy(job)
        if not self.operations.slow:
            self.advance(job)
        return told

    def _cancel_job(self, request: web.Request, _: Any) -> JSON:
        job = self._job(request)
        if job["state"] not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
            raise precondition(f"The job is {job['state']} and cannot be cancelled.")
        job["state"] = "JOB_STATE_CANCELLING"
        return {}

    def _job(self, request: web.Request) -> JSON:
        id = request.match_info["id"]
        if id not in self.jobs:
            raise absent(f"{PARENT}/tuningJobs/{id}")
        return self.jobs[id]

    def advance(self, job: JSON) -> None:
        """The next state of a job."""
        error, self.breaks = self.breaks, None
        match job["state"]:
            case "JOB_STATE_CANCELLING":
                job["state"] = "JOB_STATE_CANCELLED"
            case "JOB_STATE_PENDING" if error is not None:
                job |= {"state": "JOB_STATE_FAILED", "error": error}
            case "JOB_STATE_PENDING":
                job |= {"state": "JOB_STATE_SUCCEEDED", "tunedModel": self._tuned(job)}

    def _tuned(self, job: JSON) -> JSON:
        number, labels = str(next(self.numbers)), job.get("labels", {})
        title = {"displayName": job["tunedModelDisplayName"], "labels": labels}
        model = self.make_model(number, dict(title))
        endpoint = self.make_endpoint(number, dict(title))
        self.deployed(endpoint, {"id": number, "model": model["name"], "modelVersionId": "1"})
        endpoint["trafficSplit"] = {number: 100}
        return {"model": f"{model['name']}@1", "endpoint": endpoint["name"]}

    async def _predict(self, request: web.Request, _: Any) -> web.StreamResponse:
        _, endpoint = self._found(request)
        split = endpoint.get("trafficSplit", {})
        live = [one for one in endpoint.get("deployedModels", []) if split.get(one["id"])]
        if not live:
            return precondition("The endpoint has no deployed model with traffic.").response()
        model = self.models[live[0]["model"].rpartition("/")[2]]
        status = self.answers.get(model["containerSpec"]["imageUri"], 200)
        return web.json_response({"predictions": [live[0]["displayName"]]}, status=status)

    def _measured(self, request: web.Request, _: Any) -> JSON:
        """Time series of a deployed model, with one point each."""
        query = request.query
        told = dict(re.findall(r'([a-z_.]+) = "([^"]*)"', query["filter"]))
        assert query["filter"] == " AND ".join(f'{k} = "{v}"' for k, v in told.items())
        endpoint = self.endpoints.get(told["resource.labels.endpoint_id"], {})
        names = {one["id"]: one["displayName"] for one in endpoint.get("deployedModels", ())}
        number = told["metric.labels.deployed_model_id"]
        here = told["resource.labels.location"] == LOCATION and number in names
        if told["resource.type"] != "aiplatform.googleapis.com/Endpoint" or not here:
            return {"unit": "1"}
        times = [query[f"interval.{end}"] for end in ("startTime", "endTime")]
        start, end = (datetime.fromisoformat(at).timestamp() for at in times)
        if query["aggregation.alignmentPeriod"] != f"{end - start:.0f}s":
            raise invalid("The alignment period is not the whole of the time.")
        flow = self.meter.of(names[number], start, end)
        interval = {"startTime": times[0], "endTime": times[1]}
        how = query["aggregation.perSeriesAligner"], query["aggregation.crossSeriesReducer"]
        series: list[tuple[JSON, JSON]] = []
        if told["metric.type"].endswith("/response_count"):
            assert how == ("ALIGN_SUM", "REDUCE_SUM")
            assert query["aggregation.groupByFields"] == "metric.labels.response_code"
            shares = {"4xx": flow.refused, "5xx": flow.errors}
            shares["2xx"] = 100 - sum(shares.values())
            count = flow.requests * len(minutes(start, end))
            for code, share in shares.items():
                value = {"int64Value": str(round(count * share / 100))}
                series.append(({"response_code": code}, value))
        else:
            assert told["metric.type"].endswith("/prediction_latencies")
            assert told["metric.labels.latency_type"] == "total"
            assert how[0] == "ALIGN_DELTA"
            percent = int(how[1].removeprefix("REDUCE_PERCENTILE_"))
            series.append(({}, {"doubleValue": flow.percentile(percent)}))
        return {
            "timeSeries": [
                {
                    "metric": {"type": told["metric.type"], "labels": labels},
                    "points": [{"interval": interval, "value": value}],
                }
                for labels, value in series
                if flow.requests
            ]
        }


class VertexVendor(ServedVendor):
    """Vertex AI behind the provider of endpoints."""

    provider: ClassVar[type[Provider[Any, Any]]] = VertexEndpoint
    spec: ClassVar[JSON] = {
        "model": {"image": IMAGE, "artifact": "gs://acme-models/churn/1"},
        "hardware": "n1-standard-4",
        "scaling": {"min": 1, "max": 3, "target": {"metric": "CPUUtilization", "value": 70}},
        "environment": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "TOKEN", "secretKeyRef": {"name": "model", "key": "token"}},
        ],
        "vertexAI": {
            "container": {"predictRoute": "/predict", "healthRoute": "/health", "port": 9000},
            "acceleratorType": "NVIDIA_TESLA_T4",
            "acceleratorCount": 1,
            "serviceAccount": f"serving@{PROJECT}.iam.gserviceaccount.com",
            "labels": {"team": "growth", "stage": "test"},
        },
    }
    edits: ClassVar[Sequence[Edit]] = (
        Edit("another image", {"model": {"image": IMAGE.replace(":1", ":2")}}),
        Edit("another artifact", {"model": {"artifact": "gs://acme-models/churn/2"}}),
        Edit("one variable less", {"environment": spec["environment"][1:]}),
        Edit(
            "one variable more",
            {"environment": [*spec["environment"], {"name": "WORKERS", "value": "4"}]},
        ),
        Edit("other bounds", {"scaling": {"min": 2, "max": 5}}),
        Edit(
            "another target",
            {"scaling": {"target": {"metric": "AcceleratorUtilization", "value": 50}}},
        ),
        Edit("other hardware", {"hardware": "n1-standard-8"}),
        Edit("other accelerators", {"vertexAI": {"acceleratorCount": 2}}),
        Edit("none", {"vertexAI": {"acceleratorType": None, "acceleratorCount": None}}),
        Edit("another route", {"vertexAI": {"container": {"predictRoute": "/v2"}}}),
        Edit("arguments", {"vertexAI": {"container": {"args": ["--fast"], "command": ["serve"]}}}),
        Edit("spot", {"vertexAI": {"spot": True, "accessLogging": True}}),
        Edit(
            "requests are kept",
            {"vertexAI": {"requestLogging": {"destination": "bq://p.d.t", "samplingRate": 0.5}}},
        ),
        Edit("a label more and one less", {"vertexAI": {"labels": {"stage": None, "cost": "42"}}}),
        Edit(
            "a model of Model Garden",
            {
                "model": {
                    "image": None,
                    "artifact": None,
                    "name": "publishers/google/models/gemma3@gemma-3-1b-it",
                },
                "hardware": None,
                "vertexAI": {"acceleratorType": None, "acceleratorCount": None, "container": None},
            },
        ),
        Edit(
            "a model of Hugging Face",
            {
                "model": {"image": None, "artifact": None, "name": "acme/tiny-chat"},
                "hardware": "g2-standard-12",
                "vertexAI": {"acceleratorType": None, "acceleratorCount": None},
            },
        ),
        Edit(
            "a model of the registry",
            {
                "model": {
                    "image": None,
                    "artifact": None,
                    "name": "in-registry",
                    "version": "default",
                },
                "environment": None,
                "vertexAI": {"container": None},
            },
        ),
        Edit("what is superseded stays", {"vertexAI": {"keepSuperseded": True}}),
    )
    immutable: ClassVar[JSON] = {"vertexAI": {"dedicatedEndpoint": True}}
    refusal = Refusal(
        {"hardware": "z9-imaginary-4"}, "Machine type z9-imaginary-4 is not supported"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "google": {"key": KEY},
        "model": {"token": "tok-5f0c2b7a9d314e66"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"google": {"key": OTHER_KEY}}
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "model": {"token": "tok-new-81be3f60c2d94a7f"}
    }
    has_pending = True
    fast = False  # A revision is some fifty calls over many visits: one fault at each is enough.

    def __init__(self) -> None:
        self.vertex = VertexAI()
        super().__init__(self.vertex.fake.server, self.vertex.operations)
        self.meter = self.vertex.meter

    async def reset(self) -> None:
        self.vertex.reset()
        self.vertex.make_model(
            "in-registry", {"displayName": "x", "containerSpec": {"imageUri": IMAGE}}
        )

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "project": PROJECT,
            "location": LOCATION,
            "serviceAccountKey": {"secretKeyRef": {"name": "google", "key": "key"}},
            "endpoint": endpoint,
        }

    async def count(self) -> int:
        live = sum(len(one.get("deployedModels", ())) for one in self.vertex.endpoints.values())
        return len(self.vertex.endpoints) + len(self.vertex.models) + live

    async def tamper(self, id: str) -> str:
        (live,) = self.vertex.endpoints[id]["deployedModels"]
        live["dedicatedResources"]["maxReplicaCount"] = 9
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        slow = self.slow
        await self.reset()
        self.slow = slow

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        fake = self.vertex
        model = fake.make_model(
            "by-hand",
            {
                "displayName": "by hand",
                "containerSpec": {
                    "imageUri": spec["model"]["image"],
                    "env": [{"name": "LEFT", "value": "over"}],
                },
            },
        )
        labels = owner_labels(owner) if owner else {}
        endpoint = fake.make_endpoint(name, {"displayName": name, "labels": labels})
        resources = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1}
        fake.deployed(
            endpoint,
            {
                "id": "77",
                "displayName": "by hand",
                "model": model["name"],
                "modelVersionId": "1",
                "dedicatedResources": resources,
            },
        )
        endpoint["trafficSplit"] = {"77": 100}

    async def settle(self) -> None:
        self.vertex.operations.looked()

    async def break_next_revision(self) -> None:
        self.vertex.breaks = {
            "code": 9,
            "message": "Model server exited unexpectedly. See the logs of the container.",
        }

    async def told(self, id: str) -> str:
        return json.dumps([self.vertex.endpoints, self.vertex.models])


class VertexTuningVendor(VertexVendor):
    """Vertex AI behind the provider of tuning jobs."""

    provider: ClassVar[type[Provider[Any, Any]]] = VertexTuning
    spec: ClassVar[JSON] = {
        "baseModel": "gemini-2.5-flash",
        "trainingData": "gs://acme-models/support/train.jsonl",
        "validationData": "gs://acme-models/support/check.jsonl",
        "method": "Supervised",
        "epochs": 3,
        "hyperparameters": {
            "adapterSize": "ADAPTER_SIZE_FOUR",
            "learningRateMultiplier": "1.0",
        },
        "vertexAI": {"labels": {"team": "growth"}, "lastCheckpointOnly": True},
    }
    edits: ClassVar[Sequence[Edit]] = ()
    immutable: ClassVar[JSON] = {"baseModel": "gemini-2.5-pro"}
    refusal = Refusal({"baseModel": "gemini-0.1-none"}, "gemini-0.1-none is not supported")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"google": {"key": KEY}}
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {}

    async def count(self) -> int:
        ended = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
        running = [one for one in self.vertex.jobs.values() if one["state"] not in ended]
        return await super().count() + len(running)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        del self.vertex.jobs[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        id = str(next(self.vertex.numbers))
        job: JSON = {
            "name": f"{PARENT}/tuningJobs/{id}",
            "state": "JOB_STATE_PENDING",
            "baseModel": spec["baseModel"],
            "tunedModelDisplayName": name,
            "labels": owner_labels(owner) if owner else {},
        }
        self.vertex.jobs[id] = job
        self.vertex.advance(job)

    async def settle(self) -> None:
        if not self.slow:
            for job in self.vertex.jobs.values():
                self.vertex.advance(job)
        await super().settle()


def check_labels(labels: JSON) -> None:
    """Refuse labels that Google would."""
    if len(labels) > 64:
        raise invalid("A resource has at most 64 labels.")
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key):
            raise invalid(f"Label key {key} is not valid.")
        if not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise invalid(f"Value {value} of label {key} is not valid.")


def _check_resources(model: JSON) -> None:
    kinds = [kind for kind in (*RESOURCES, "sharedResources") if kind in model]
    if len(kinds) > 1:
        raise invalid("Set one kind of resources.")
    for kind in kinds:
        resources = model[kind]
        least = resources.get("minReplicaCount", 0)
        if kind == "dedicatedResources":
            machine = resources.get("machineSpec", {})
            type_ = machine.get("machineType", "")
            if not re.fullmatch(r"(n1|n2|e2|c2|g2|a2|a3)-[a-z]+-[0-9]+g?", type_):
                raise invalid(f"Machine type {type_} is not supported.")
            if bool(machine.get("acceleratorType")) != bool(machine.get("acceleratorCount")):
                raise invalid("acceleratorType and acceleratorCount go together.")
            if least < 1:
                raise invalid("minReplicaCount must be at least 1.")
        if resources.get("maxReplicaCount", least) < least:
            raise invalid("maxReplicaCount must not be less than minReplicaCount.")


def page(key: str, items: list[JSON], request: web.Request) -> JSON:
    """One page of a list."""
    first = int(request.query.get("pageToken", "0"))
    size = min(PAGE, int(request.query.get("pageSize", PAGE)))
    told: JSON = {key: deepcopy(items[first : first + size])}
    if first + size < len(items):
        told["nextPageToken"] = str(first + size)
    return told
