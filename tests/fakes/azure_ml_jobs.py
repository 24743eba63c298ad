"""Jobs of Azure Machine Learning, and the models that they register, as of 2026-11.

Requests are held against the models of azure-ai-ml 1.35 (API 2025-12-01). What it knows beyond
them: that a job is made once, states, that one which has ended cannot be cancelled and one under
way cannot be deleted, that a model is registered at the end under the next number. Texts of
refusals are those that Azure's documentation and users' reports show.
"""

import json
from copy import deepcopy
from typing import Any, ClassVar

from auterity.providers.azure_ml.tuning import AzureMLJob
from auterity.transport.azure import OWNER_TAG
from tests.conformance.vendor import Refusal
from tests.fakes.azure import GROUP, JSON, SECRETS, WRONG_SECRETS, Azure, Refused, connection
from tests.fakes.azure_ml import PREFIX, WORKSPACE
from tests.fakes.server import ServedVendor

REGISTRIES = "azureml://registries/"
STORE = "azureml://datastores/workspaceblobstore/paths/"
BASE = f"{REGISTRIES}azureml-meta/models/Llama-3-8B/versions/2"
ENVIRONMENT = f"{REGISTRIES}azureml/environments/acpt-pytorch/versions/20"
ENDED = ("Completed", "Failed", "Canceled")
WHERE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"


class Jobs:
    """The jobs of one workspace, and its models by name and version."""

    def __init__(self, azure: Azure) -> None:
        self.azure = azure
        self.jobs: dict[str, JSON] = {}
        self.models: dict[tuple[str, str], JSON] = {}
        self.breaks = False
        """Whether the next job fails."""
        job = f"{PREFIX}/jobs/{{id}}"
        versions = f"{PREFIX}/models/{{model}}/versions"
        azure.route("GET", job, self._get)
        azure.route("PUT", job, self._put)
        azure.route("DELETE", job, self._delete)
        azure.route("POST", f"{job}/cancel", self._cancel)
        azure.route("GET", versions, self._versions)
        azure.route("DELETE", f"{versions}/{{version}}", self._delete_version)

    def settle(self) -> None:
        """Run every job to its end."""
        for id in self.jobs:
            self.advance(id)
            self.advance(id)

    def advance(self, id: str) -> None:
        """The next state of a job."""
        job = self.jobs[id]["properties"]
        if job["status"] == "NotStarted":
            job["status"] = "Running"
        elif job["status"] == "CancelRequested":
            job["status"] = "Canceled"
        elif job["status"] == "Running":
            job["status"] = "Failed" if self.breaks else "Completed"
            self.breaks = False
            if job["status"] == "Completed":
                self._register(id, job)

    def make(self, id: str, body: JSON) -> JSON:
        """A job as the API makes it. Raises Refused."""
        properties = deepcopy(body["properties"])
        if id in self.jobs:
            raise Refused(409, "Conflict", f"A job of the name {id} exists already.")
        if not str(properties.get("environmentId", REGISTRIES)).startswith(REGISTRIES):
            told = properties["environmentId"]
            raise Refused(400, "UserError", f"The environment {told} could not be found.")
        if properties.get("computeId"):
            raise Refused(400, "UserError", f"Unknown compute target '{properties['computeId']}'.")
        self.jobs[id] = {
            "id": f"{WHERE}/jobs/{id}",
            "name": id,
            "properties": {
                "experimentName": "Default",
                "tags": {},
                **properties,
                "status": "NotStarted",
                "services": {"Studio": {"endpoint": f"https://ml.azure.com/runs/{id}"}},
            },
        }
        return self.jobs[id]

    def _register(self, id: str, job: JSON) -> None:
        for output in job.get("outputs", {}).values():
            if name := output.get("assetName"):
                number = str(1 + sum(1 for key in self.models if key[0] == name))
                properties = {"jobName": id, "modelType": output["jobOutputType"]}
                self.models[name, number] = {"name": number, "properties": properties}

    def _found(self, request: Any) -> JSON:
        if request.match_info["workspace"] != WORKSPACE:
            raise Refused(404, "ResourceNotFound", "The workspace was not found.")
        id = request.match_info["id"]
        if id not in self.jobs:
            raise Refused(404, "UserError", f"Not found: job {id}.")
        return self.jobs[id]

    def _get(self, request: Any, body: Any) -> Any:
        told = deepcopy(self._found(request))
        if not self.azure.slow:
            self.advance(told["name"])
        return 200, told

    def _put(self, request: Any, body: Any) -> Any:
        if request.match_info["workspace"] != WORKSPACE:
            raise Refused(404, "ResourceNotFound", "The workspace was not found.")
        return 201, deepcopy(self.make(request.match_info["id"], body))

    def _cancel(self, request: Any, body: Any) -> Any:
        job = self._found(request)["properties"]
        if job["status"] in ENDED:
            raise Refused(400, "UserError", "The job has ended and cannot be cancelled.")
        job["status"] = "CancelRequested"
        return 202, None

    def _delete(self, request: Any, body: Any) -> Any:
        job = self._found(request)
        if job["properties"]["status"] not in ENDED:
            raise Refused(400, "UserError", "A job that is under way cannot be deleted.")
        del self.jobs[job["name"]]
        return 202, None

    def _versions(self, request: Any, body: Any) -> Any:
        name = request.match_info["model"]
        value = [one for key, one in self.models.items() if key[0] == name]
        if not value:
            raise Refused(404, "UserError", f"The model {name} was not found.")
        return 200, {"value": value}

    def _delete_version(self, request: Any, body: Any) -> Any:
        key = (request.match_info["model"], request.match_info["version"])
        return (204, None) if self.models.pop(key, None) is None else (200, None)


class AzureMLJobVendor(ServedVendor):
    """Azure Machine Learning behind the provider of jobs."""

    provider = AzureMLJob
    spec: ClassVar[JSON] = {
        "baseModel": BASE,
        "trainingData": f"{STORE}train.jsonl",
        "validationData": f"{STORE}validation/",
        "epochs": 2,
        "seed": 42,
        "modelName": "support",
        "hyperparameters": {"learning_rate": "0.0002"},
        "azureML": {
            "workspace": WORKSPACE,
            "command": {
                "command": "python train.py ${{inputs.train}} ${{outputs.model}}",
                "environmentId": ENVIRONMENT,
                "environment": {"LOG_LEVEL": "info"},
            },
            "instanceType": "Standard_NC6s_v3",
            "jobTier": "Spot",
            "maxRuntime": "6h",
            "tags": {"team": "search"},
        },
    }
    immutable: ClassVar[JSON] = {"baseModel": f"{BASE}1"}
    refusal = Refusal(
        {"azureML": {"command": {"environmentId": "azureml:nobodys:1"}}}, "could not be found"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = SECRETS
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = WRONG_SECRETS
    has_pending = True

    def __init__(self) -> None:
        self.azure = Azure()
        self.workspace = Jobs(self.azure)
        super().__init__(self.azure.server, self.azure)

    async def reset(self) -> None:
        self.workspace.jobs.clear()
        self.workspace.models.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return connection(endpoint)

    async def count(self) -> int:
        """Records too, but of those that were cancelled: whoever deletes lets them be."""
        jobs = self.workspace.jobs.values()
        left = [one for one in jobs if one["properties"]["status"] != "Canceled"]
        return len(left) + len(self.workspace.models)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        del self.workspace.jobs[id.partition("/")[2]]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        tags = {"team": "search", **({OWNER_TAG: owner} if owner else {})}
        properties: JSON = {
            "jobType": "Command",
            "command": spec["azureML"]["command"]["command"],
            "environmentId": ENVIRONMENT,
            "environmentVariables": {"LOG_LEVEL": "info"},
            "resources": {"instanceType": "Standard_NC6s_v3", "instanceCount": 1},
            "queueSettings": {"jobTier": "Spot"},
            "inputs": {
                "train": {"jobInputType": "uri_file", "uri": spec["trainingData"]},
                "validation": {"jobInputType": "uri_folder", "uri": spec["validationData"]},
                "model": {"jobInputType": "mlflow_model", "uri": spec["baseModel"]},
            },
            "tags": tags,
        }
        self.workspace.make(name, {"properties": properties})
        self.workspace.settle()

    async def settle(self) -> None:
        if not self.slow:
            self.workspace.settle()

    async def told(self, id: str) -> str:
        return json.dumps(self.workspace.jobs[id.partition("/")[2]])
