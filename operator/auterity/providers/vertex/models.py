"""The models that an endpoint serves: those in the registry, and those uploaded for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from auterity.api.fields import SecretKeyRef
from auterity.api.model_deployment import EnvironmentVariable, ModelSource
from auterity.engine.errors import Conflict, NotFound, Rejected
from auterity.providers.vertex.params import Container, VertexEndpointParams
from auterity.transport.google import JSON, VERTEX, GoogleSession, kind_of, meaning
from auterity.transport.labels import owner_labels

ENDPOINT_LABEL: Final = "auterity-endpoint"
"""On a model: the endpoint that it was uploaded for."""
REMOVED_LABEL: Final = "auterity-removed"
"""On a model: the revision was removed, so that the model is left over, and not on its way."""
REVISION_LABEL: Final = "auterity-revision"
"""On a model: the revision that it was uploaded for."""
VARIABLES_LABEL: Final = "auterity-variables"
"""On a model: how many variables at the end of its environment were declared; those before them
come from Model Garden."""
LONGEST_BEGIN: Final = 40
PUBLISHED: Final = re.compile(r"publishers/[^/@]+/models/[^/@]+(@[^/@]+)?")
ON_A_HUB: Final = re.compile(r"[\w.-]+/[\w.-]+")
"""A model at Hugging Face, which Model Garden takes models from."""


class Spelt(str):
    """A name as Google tells it, equal to every other way of writing the same."""

    __slots__ = ("others",)

    others: frozenset[str]

    @classmethod
    def of(cls, name: str, *others: str) -> "Spelt":
        made = cls(name)
        made.others = frozenset((name, *others))
        return made

    def __eq__(self, other: object) -> bool:
        return other in self.others

    def __ne__(self, other: object) -> bool:
        return other not in self.others

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass(frozen=True, slots=True)
class Served:
    """A model that can be deployed."""

    name: str
    machine: JSON
    """The machine that Model Garden recommends for it."""


class Models:
    """The model registry, and Model Garden."""

    def __init__(self, session: GoogleSession) -> None:
        self.session = session

    async def serve(self, want: VertexEndpointParams, owner: str) -> Served | None:
        """The model to deploy, uploaded where it has to be; None while that is under way."""
        reference, image = want.model.reference, want.model.image
        garden = _publisher(reference or "")
        if reference and not garden and not image and "://" not in reference:
            return Served(self._registered(want, reference), {})
        if want.model.version is not None:
            raise Rejected("model.version: only a model in Vertex AI's registry has versions")
        recipe = await self._recipe(want, garden) if garden else {}
        container = _container(want, recipe.get("containerSpec", {}))
        if not container.get("imageUri"):
            raise Rejected("model: an artifact needs an image that serves it: set model.image")
        machine = recipe.get("dedicatedResources", {}).get("machineSpec", {})
        body: JSON = {
            "displayName": f"{want.name} {want.revision}"[:128],
            "description": reference or "",
            "labels": {
                **(want.labels or {}),
                **owner_labels(owner),
                ENDPOINT_LABEL: want.name,
                REVISION_LABEL: want.revision,
                VARIABLES_LABEL: str(len(want.environment)),
            },
            "containerSpec": container,
        }
        artifact = reference if reference and not garden else recipe.get("artifactUri")
        if artifact:
            body["artifactUri"] = artifact
        if garden:
            source = {"publicModelName": garden.partition("@")[0]}
            body["baseModelSource"] = {"modelGardenSource": source}
        if want.kms_key:
            body["encryptionSpec"] = {"kmsKeyName": want.kms_key}
        name = await self._uploaded(model_id(want.name, want.revision), want.name, body)
        return Served(name, machine) if name else None

    async def find(self, name: str) -> JSON | None:
        """A model; None if there is none."""
        try:
            return await self.session.call(VERTEX, "ModelService", "GetModel", name=name)
        except NotFound:
            return None

    async def made_for(self, endpoint: str) -> list[JSON]:
        """The models that were uploaded for an endpoint."""
        listed = await self.session.pages(
            VERTEX,
            "ModelService",
            "ListModels",
            "models",
            parent=self.session.parent,
            filter=f'labels.{ENDPOINT_LABEL}="{endpoint}"',
            pageSize=100,
        )
        return [one for one in listed if one.get("labels", {}).get(ENDPOINT_LABEL) == endpoint]

    async def remove(self, model: JSON) -> None:
        """Delete a model; absent is fine."""
        try:
            await self.session.call(
                VERTEX, "ModelService", "DeleteModel", name=plain(model["name"])
            )
        except NotFound:
            return

    async def leave(self, endpoint: str, revision: str) -> None:
        """Note that the model of a revision is left over from now on."""
        name = f"{self.session.parent}/models/{model_id(endpoint, revision)}"
        labels = (await self.find(name) or {}).get("labels", {})
        if labels.get(ENDPOINT_LABEL) == endpoint and REMOVED_LABEL not in labels:
            await self._label(name, labels | {REMOVED_LABEL: "true"})

    async def _taken_back(self, model: JSON, name: str) -> bool:
        """Use a model that was left over again, unless it is being deleted."""
        labels = model["labels"]
        if REMOVED_LABEL not in labels:
            return True
        running = [o for o in await self.session.operations(VERTEX, name) if not o.get("done")]
        if not running:
            await self._label(name, {k: v for k, v in labels.items() if k != REMOVED_LABEL})
        return not running

    async def _label(self, name: str, labels: dict[str, str]) -> None:
        await self.session.call(
            VERTEX,
            "ModelService",
            "UpdateModel",
            model={"name": name, "labels": labels},
            updateMask="labels",
        )

    def _registered(self, want: VertexEndpointParams, reference: str) -> str:
        if want.environment or want.container:
            raise Rejected(
                "environment and container belong to models that are uploaded here; that of a "
                "model in the registry is fixed"
            )
        name = reference if "/" in reference else f"{self.session.parent}/models/{reference}"
        return f"{name}@{want.model.version}" if want.model.version else name

    async def _recipe(self, want: VertexEndpointParams, garden: str) -> JSON:
        """How Model Garden deploys a model: on the declared hardware, or what comes first."""
        # As it is told: the client library does not know multiDeployVertex yet.
        model = await self.session.get(
            VERTEX,
            "GetPublisherModel",
            garden,
            view="PUBLISHER_MODEL_VIEW_FULL",
            isHuggingFaceModel=str(garden.startswith("publishers/hf-")).lower(),
        )
        actions = model.get("supportedActions", {})
        ways = actions.get("multiDeployVertex", {}).get("multiDeployVertex") or []
        ways = ways or [actions[key] for key in ("deploy",) if key in actions]
        if not ways:
            raise Rejected(f"model.name: Model Garden does not offer to deploy {garden}")
        declared = {"machineType": want.hardware, "acceleratorType": want.accelerator_type}

        def fitting(way: JSON) -> int:
            machine = way.get("dedicatedResources", {}).get("machineSpec", {})
            return sum(bool(v) and machine.get(k) == v for k, v in declared.items())

        best: JSON = max(ways, key=fitting)
        return best

    async def _uploaded(self, id: str, endpoint: str, body: JSON) -> str | None:
        """Upload a model under an id of ours, so that it can be repeated; its name once there."""
        name = f"{self.session.parent}/models/{id}"
        if (there := await self.find(name)) is not None:
            if there.get("labels", {}).get(ENDPOINT_LABEL) != endpoint:
                raise Conflict(f"model {id} exists in the registry and was made for something else")
            return name if await self._taken_back(there, name) else None
        before = await self.session.operations(VERTEX, name)
        uploads = (one for one in before if kind_of(one) == "UploadModel")
        last: JSON = next(uploads, {"done": True})
        if not last.get("done"):
            return None
        try:
            started = await self.session.call(
                VERTEX,
                "ModelService",
                "UploadModel",
                parent=self.session.parent,
                modelId=id,
                model=body,
            )
        except Conflict:
            return None
        if (error := started.get("error") or last.get("error")) is not None:
            raise Rejected(f"the model could not be uploaded: {meaning(error)}")
        return name if await self.find(name) is not None else None


def model_id(endpoint: str, revision: str) -> str:
    """The id of the model of a revision."""
    digest = sha256(endpoint.encode()).hexdigest()[:6]
    begin = (
        endpoint if len(endpoint) <= LONGEST_BEGIN else f"{endpoint[: LONGEST_BEGIN - 7]}-{digest}"
    )
    return f"{'' if begin[0].isalpha() else 'm-'}{begin}-{revision}"[:63]


def plain(name: str) -> str:
    """A model's name without its version."""
    return name.partition("@")[0]


def source_of(deployed: JSON, model: JSON, project: tuple[str, str]) -> ModelSource:
    """Where a deployed model comes from. `project` is the session's, and as Google writes it."""
    image = model.get("containerSpec", {}).get("imageUri")
    if ENDPOINT_LABEL in model.get("labels", {}):
        reference = model.get("description") or model.get("artifactUri")
        return ModelSource.told(reference, image=image, version=None)
    name = plain(deployed.get("model", ""))
    told = deployed.get("modelVersionId") or model.get("versionId") or "1"
    versions = (told, *model.get("versionAliases", ()))
    ours, theirs = project
    names = [name, name.replace(f"projects/{theirs}/", f"projects/{ours}/")]
    if names[-1].startswith(f"projects/{ours}/"):
        names.append(name.rpartition("/")[2])
    spelt = [*names, *(f"{one}@{version}" for one in names for version in versions)]
    return ModelSource.told(
        Spelt.of(f"{name}@{told}", *spelt), image=image, version=Spelt.of(*versions)
    )


def content_of(model: JSON) -> JSON:
    """What else a model that was uploaded here holds, as fields of the params."""
    labels, spec = model.get("labels", {}), model.get("containerSpec", {})
    if ENDPOINT_LABEL not in labels:
        return {}
    env = spec.get("env", [])
    own = int(labels.get(VARIABLES_LABEL, len(env)))
    size = spec.get("sharedMemorySizeMb")
    return {
        "environment": [
            _variable(one["name"], one.get("value", "")) for one in env[len(env) - own :]
        ],
        "container": Container.model_construct(
            command=spec.get("command"),
            args=spec.get("args"),
            port=next((one["containerPort"] for one in spec.get("ports", ())), None),
            predict_route=spec.get("predictRoute"),
            health_route=spec.get("healthRoute"),
            shared_memory_size_mb=int(size) if size else None,
        ),
    }


def _publisher(reference: str) -> str | None:
    """The name of a model in Model Garden."""
    if PUBLISHED.fullmatch(reference):
        return reference
    if ON_A_HUB.fullmatch(reference):
        organisation, model = reference.split("/")
        return f"publishers/hf-{organisation}/models/{model}"
    return None


def _container(want: VertexEndpointParams, recipe: Mapping[str, Any]) -> JSON:
    spec: JSON = dict(recipe)
    if want.model.image:
        spec["imageUri"] = want.model.image
    declared = [{"name": one.name, "value": one.reveal()} for one in want.environment]
    names = {one["name"] for one in declared}
    kept = [one for one in spec.get("env", ()) if one["name"] not in names]
    if kept or declared:
        spec["env"] = [*kept, *declared]
    if (container := want.container) is not None:
        spec |= {
            name: value
            for name, value in (
                ("command", container.command),
                ("args", container.args),
                ("ports", container.port and [{"containerPort": container.port}]),
                ("predictRoute", container.predict_route),
                ("healthRoute", container.health_route),
                (
                    "sharedMemorySizeMb",
                    container.shared_memory_size_mb and str(container.shared_memory_size_mb),
                ),
            )
            if value is not None
        }
    return spec


def _variable(name: str, value: str) -> EnvironmentVariable:
    # Whether a value is a secret shows nowhere at Google, so each is taken for one.
    hidden = SecretKeyRef.model_construct(name="vertexAI", key=name)
    variable = EnvironmentVariable.model_construct(name=name, secret_key_ref=hidden)
    variable.resolve(value, "")
    return variable
