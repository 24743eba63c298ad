"""ModelDeployment at Replicate (https://replicate.com/docs/reference/http#deployments.create)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from auterity.api.fields import seconds
from auterity.api.model_deployment import ModelDeployment, ModelSource, Scaling
from auterity.api.rollout import Probe
from auterity.engine.contract import Answer, Observed
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.replicate.connection import (
    ReplicateConnection,
    ReplicateSession,
    following,
    held,
)
from auterity.transport import http
from auterity.transport.rest import JSON, RestProvider

LONGEST_WAIT: Final = 25
"""Seconds that a prediction may be waited for within one call."""
NEAREST: Final = {"succeeded": 200, "starting": 202, "processing": 202}
"""A prediction's end as an HTTP status; Replicate answers 201 to all of them."""


class ReplicateDeploymentParams(ModelDeployment):
    """A deployment: a model's version on hardware of its own, at an address that stays."""


class ReplicateDeployment(RestProvider[ReplicateDeploymentParams]):
    """Deployments of the account, by `owner/name`."""

    kind = "ModelDeployment"
    vendor = "replicate"
    params = ReplicateDeploymentParams
    connection = ReplicateConnection
    collection = "/deployments"
    session: ReplicateSession
    marks_owner = False
    lists = True
    probes = True
    poll_after = 15.0
    docs = "https://replicate.com/docs/reference/http#deployments.create"
    permissions = ("API token of the user or organisation that the deployments belong to",)
    proof = "stateful fake; requests are held against Replicate's official description"
    publishes = (
        ("name", "Owner and name of the deployment."),
        ("url", "Where predictions are asked for, by POST."),
        ("model", "The model that it serves, with its version."),
        ("authentication", "The header that a request needs."),
        ("curl", "A call to try it with."),
    )
    quirks = (
        (
            "A deployment carries no tags: that it is ours is remembered in status.id only. If the "
            "status is lost, set policy: Adopt."
        ),
        (
            "Replicate tells no state: the object is Ready as soon as its release is what the spec "
            "says, though instances may still be starting."
        ),
        (
            "The model of a deployment cannot change, only its version. Without model.version the "
            "latest one at creation is taken, and then left."
        ),
        (
            "Replicate deletes a deployment only once it has been offline and unused for 15 "
            "minutes: it is scaled to zero first, and the object waits meanwhile."
        ),
        "scaling.min is 1 if left out, which is paid for also while idle; set 0 for cold starts.",
        (
            "spec.probe makes a prediction, which is paid for: its body is a prediction's, such as "
            '{"input": {"prompt": "hello"}}. One that succeeds counts as 200, one that has not '
            "ended within the time as 202, one that fails as 500."
        ),
    )

    @classmethod
    def objections(cls, want: ReplicateDeploymentParams) -> Mapping[str, str]:
        found = {}
        model, scaling = want.model, want.scaling
        if model.image is not None or model.artifact is not None:
            found["model"] = "Replicate serves models of its own registry: give name or modelRef"
        elif model.name is None and model.model_ref is None:
            found["model"] = "Replicate needs a name such as owner/name, or a modelRef"
        elif model.name is not None and ":" in model.name:
            found["model"] = "write what stands behind the colon into version"
        if want.hardware is None:
            found["hardware"] = "Replicate needs the SKU of its hardware, such as gpu-t4"
        if want.environment:
            found["environment"] = "a deployment at Replicate has no environment variables"
        if scaling.target is not None or scaling.to_zero_after is not None:
            found["scaling"] = "Replicate scales by its own measure: leave target, toZeroAfter out"
        return found

    @classmethod
    def billed(cls, want: ReplicateDeploymentParams) -> Bill:
        return (of_replicas(want.hardware, want.scaling),) if want.hardware else None

    async def locate(self, want: ReplicateDeploymentParams) -> str | None:
        return f"{await self.session.account()}/{want.name}"

    async def create(
        self, want: ReplicateDeploymentParams, owner: str
    ) -> Observed[ReplicateDeploymentParams]:
        body = self.encode(want, owner)
        body["version"] = body["version"] or await self.session.latest(body["model"])
        return self._decoded(await self.session.call("POST", self.collection, json=body))

    async def update(
        self, id: str, want: ReplicateDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        # Every change makes another release: what is the same already is not sent.
        body: JSON = {}
        if any(path.startswith("model") for path in changed):
            body["version"] = await self._version(id, want)
        if "hardware" in changed:
            body["hardware"] = want.hardware
        if "scaling.min" in changed:
            body["min_instances"] = want.scaling.min
        if "scaling.max" in changed:
            body["max_instances"] = want.scaling.max
        if body:
            await self.session.call("PATCH", self.path(id), json=body)

    async def delete(self, id: str) -> None:
        body = await self.session.find(self.path(id))
        if body is None:
            return
        instances = self._decoded(body).actual.scaling
        if (instances.min, instances.max) != (0, 0):
            # Requests must not wake it up either, or it would never have been offline long enough.
            zero = {"min_instances": 0, "max_instances": 0}
            await self.session.call("PATCH", self.path(id), json=zero)
        try:
            await self.session.call("DELETE", self.path(id))
        except NotFound:
            return
        except Rejected as failure:
            raise Busy(
                "Replicate deletes a deployment once it has been offline and unused for 15 "
                f"minutes; until then {failure.message}"
            ) from failure

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        if request.path is not None:
            raise Rejected("probe.path: a deployment at Replicate has one path")
        if request.body is None:
            raise Rejected('probe.body: Replicate needs a prediction, such as {"input": {}}')
        wait = min(LONGEST_WAIT, max(1, int(seconds(request.within))))
        answer = await http.send(
            self.session.door,
            self.session.client,
            "POST",
            f"{self.path(id)}/predictions",
            label="CreatePrediction",
            concerns_all=held,
            content=request.body.encode(),
            headers={"Content-Type": request.content_type, "Prefer": f"wait={wait}"},
        )
        if answer.status in (401, 402, 403, 404) and (
            failure := self.session.connector.failure(answer)
        ):
            raise failure
        status, body = answer.status, answer.body
        if status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED) and isinstance(body, dict):
            status = NEAREST.get(str(body.get("status")), 500)
        return Answer(status, body if isinstance(body, str) else json.dumps(body))

    def path(self, id: str) -> str:
        owner, _, name = id.partition("/")
        return f"{self.collection}/{quote(owner, safe='')}/{quote(name, safe='')}"

    def page(self, body: Any, params: JSON) -> tuple[list[JSON], JSON | None]:
        return body["results"], following(body)

    def encode(self, want: ReplicateDeploymentParams, owner: str) -> JSON:
        model, version = _named(want.model)
        return {
            "name": want.name,
            "model": model,
            "version": version,
            "hardware": want.hardware,
            "min_instances": want.scaling.min,
            "max_instances": want.scaling.max,
        }

    def decode(self, body: JSON) -> Observed[ReplicateDeploymentParams]:
        id, release = f"{body['owner']}/{body['name']}", body["current_release"]
        instances = release["configuration"]
        url = f"{str(self.session.client.base_url).rstrip('/')}{self.path(id)}/predictions"
        model = f"{release['model']}:{release['version']}"
        source = ModelSource.told(model, version=release["version"])
        source.name, source.artifact = release["model"], None
        return Observed(
            id=id,
            actual=ReplicateDeploymentParams.seen(
                model=source,
                hardware=instances["hardware"],
                scaling=Scaling.model_construct(
                    min=instances["min_instances"], max=instances["max_instances"]
                ),
                environment=[],
            ),
            outputs={
                "name": id,
                "url": url,
                "model": model,
                "authentication": "Authorization: Bearer <API token of Replicate>",
                "curl": (
                    f"curl -s {url} -H 'Authorization: Bearer <API token of Replicate>' "
                    "-H 'Content-Type: application/json' -H 'Prefer: wait' -d '{\"input\": {}}'"
                ),
            },
            url=f"https://replicate.com/deployments/{id}",
        )

    async def _version(self, id: str, want: ReplicateDeploymentParams) -> str:
        """The version that is wanted; refused if it is another model's."""
        model, version = _named(want.model)
        serving = self._decoded(await self.session.call("GET", self.path(id))).actual.model.name
        if model != serving:
            raise Rejected(
                f"spec.model: deployment {id} serves {serving}, and Replicate takes no other model "
                f"for it, only another version; declare another deployment for {model}"
            )
        return version or await self.session.latest(model)


def _named(source: ModelSource) -> tuple[str, str | None]:
    """Model and version; a training's output has both in one."""
    model, _, version = (source.reference or "").partition(":")
    return model, source.version or version or None
