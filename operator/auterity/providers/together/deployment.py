"""ModelDeployment at Together AI (https://docs.together.ai/docs/dedicated-endpoints/overview)."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from auterity.api.model_deployment import ModelSource
from auterity.api.rollout import Probe
from auterity.engine.contract import Answer, Observed, Phase, Provider
from auterity.engine.errors import Busy, Conflict, NotFound, Rejected
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.together.autoscaling import (
    STOPPED,
    TARGETS,
    autoscaling_changes,
    autoscaling_of,
)
from auterity.providers.together.connection import TogetherConnection, TogetherSession
from auterity.providers.together.params import MODEL, TogetherDeploymentParams, TogetherPlacement
from auterity.providers.together.seen import (
    AT_REST,
    CONSTRAINT,
    REMOVED,
    VISIBILITY,
    bare,
    name_of,
    percents,
    removed,
    revision_of,
    shadows,
    state_of,
)
from auterity.transport.rest import JSON, as_promised

CHAT: Final = "chat/completions"
LIMITS: Final = {
    "inactiveTimeout": "inactive_timeout",
    "maxConcurrentRequestsPerReplica": "max_concurrent_requests_per_replica",
}


class TogetherDeployment(Provider[TogetherDeploymentParams, TogetherSession]):
    """Dedicated endpoints of a project, by name; each revision is a deployment of one.

    Nothing there carries a mark: names are unique within the project, the ids are Together's. A
    deployment can be deleted only once it has stopped, so the first step is to stop it and to give
    its name away, which may be wanted again meanwhile.
    """

    kind = "ModelDeployment"
    vendor = "together"
    params = TogetherDeploymentParams
    connection = TogetherConnection
    marks_owner = False
    revisions = True
    probes = True
    poll_after = 15.0
    docs = "https://docs.together.ai/docs/dedicated-endpoints/overview"
    permissions = ("API key of the project",)
    proof = (
        "stateful fake; requests are held against a description derived from Together's SDK "
        "3.1.1, as no official one of API v2 is public"
    )
    publishes = (
        ("endpointId", "Id of the endpoint."),
        ("model", "What requests name as their model: <project>/<endpoint>."),
        ("url", "Where chats are completed."),
        ("openaiBaseUrl", "Base URL for clients of OpenAI."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A request to try, with a placeholder for the key."),
    )
    quirks = (
        (
            "The model is told by its path, projects/<project id>/models/<model id>, its revision "
            "by model.version. Without a version the newest one at the time is pinned. Together's "
            "list of models tells the paths, and the configs that spec.together.config takes."
        ),
        (
            "Together weighs every ready replica: revisions get the shares of a Canary only where "
            "they have as many replicas as each other. Without autoscaling (min equal to max) "
            "they do."
        ),
        (
            "scaling.min: 0 needs toZeroAfter: so long without a request, and a deployment stops. "
            "Together does not say that a request starts it again; an edit of scaling does."
        ),
        (
            "With toZeroAfter or inactiveTimeout a deployment that has stopped is left so, whoever "
            "has stopped it. Without them it is started again."
        ),
        (
            "A deployment that goes is stopped first, under a name that begins with removed-, and "
            "deleted once it has stopped, which takes minutes. Until then it is shown as failed "
            "or deleting, and the next rollout waits for it."
        ),
        (
            "Deployments that others add to the endpoint are removed, those for shadow traffic "
            "are not. While a rollout of Together's own is under way nothing is changed."
        ),
        "Missing capacity shows as a deployment that stays pending, with Together's words.",
        "Hardware is part of the config, so spec.hardware is refused.",
    )

    @classmethod
    def objections(cls, want: TogetherDeploymentParams) -> Mapping[str, str]:
        found = {}
        if want.hardware is not None:
            found["hardware"] = "Together has it in the config: use together.config"
        if want.environment:
            found["environment"] = "Together runs the model by a config, which takes no variables"
        if want.model.image is not None:
            found["model"] = "Together serves models, not images"
        elif want.model.model_ref is None and (problem := _no_path(want.model.reference)):
            found["model"] = problem
        target = want.scaling.target
        if target is not None and target.metric not in TARGETS:
            found["scaling"] = f"Together can follow {' and '.join(TARGETS)}, not {target.metric}"
        elif want.scaling.min == 0 and want.scaling.to_zero_after is None:
            found["scaling"] = "min: 0 needs toZeroAfter; Together stops after a time, if at all"
        return found

    @classmethod
    def billed(cls, want: TogetherDeploymentParams) -> Bill:
        # Only Together knows which GPUs a config has: what a replica costs can be put into a list.
        return (of_replicas(want.config, want.scaling),) if want.config else None

    async def locate(self, want: TogetherDeploymentParams) -> str | None:
        path = await self.session.under_project("endpoints")
        wanted = bare(want.name)
        async for endpoint in self.session.pages(path, filter=f"name:{json.dumps(wanted)}"):
            if bare(endpoint["name"]) == wanted:
                return str(endpoint["id"])
        return None

    async def read(self, id: str) -> Observed[TogetherDeploymentParams] | None:
        endpoint = await self.session.find(await self.session.under_project("endpoints", id))
        if endpoint is None:
            return None
        try:
            deployments = await self._deployments(id)
        except NotFound:
            return None
        with as_promised("Together's"):
            return self._seen(endpoint, deployments)

    async def create(self, want: TogetherDeploymentParams, owner: str) -> str:
        body = {"name": want.name}
        if want.visibility is not None:
            body["visibility"] = VISIBILITY[want.visibility]
        path = await self.session.under_project("endpoints")
        endpoint = await self.session.call("POST", path, json=body)
        return str(endpoint["id"])

    async def update(
        self, id: str, want: TogetherDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        if "visibility" in changed and want.visibility is not None:
            await self._change({"visibility": VISIBILITY[want.visibility]}, ["visibility"], id)
        if not changed - {"visibility"}:
            return
        for one in await self._deployments(id):
            if removed(one) or shadows(one):
                continue
            autoscaling, mask = autoscaling_changes(want, one["autoscaling"], changed)
            body: JSON = {"autoscaling": autoscaling} if mask else {}
            limits = {n: v for n, v in _limits(want).items() if LIMITS[n] in changed}
            mask += limits
            if mask:
                await self._change(body | limits, mask, id, "deployments", one["id"])

    async def delete(self, id: str) -> None:
        endpoint = await self.session.find(await self.session.under_project("endpoints", id))
        if endpoint is None:
            return
        if endpoint.get("trafficSplit"):
            await self._change({"trafficSplit": []}, ["trafficSplit"], id)
        deployments = await self._deployments(id)
        for one in deployments:
            await self._remove(id, one)
        if not deployments:
            with suppress(NotFound):
                path = await self.session.under_project("endpoints", id)
                await self.session.call("DELETE", path)

    async def add_revision(self, id: str, want: TogetherDeploymentParams, owner: str) -> None:
        body: JSON = {
            "name": want.revision,
            "model": _path_of(want.model),
            "autoscaling": autoscaling_of(want),
            **_limits(want),
        }
        if want.config is not None:
            body["config"] = want.config
        if want.placement is not None:
            body["placement"] = _placement(want.placement)
        path = await self.session.under_project("endpoints", id, "deployments")
        try:
            await self.session.call("POST", path, json=body)
        except Conflict:
            if all(name_of(one) != want.revision for one in await self._deployments(id)):
                raise

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        ids = {name_of(one): one["id"] for one in await self._deployments(id)}
        if missing := [name for name, weight in weights.items() if weight and name not in ids]:
            raise Busy(f"deployment {missing[0]} is no longer there")
        split = [
            {"deploymentId": ids[name], "weight": weight}
            for name, weight in sorted(weights.items())
            if weight
        ]
        await self._change({"trafficSplit": split}, ["trafficSplit"], id)

    async def remove_revision(self, id: str, revision: str) -> None:
        for one in await self._deployments(id):
            if name_of(one) == revision:
                await self._remove(id, one)

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        try:
            body = json.loads(request.body or "")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Rejected(
                "probe.body: Together needs a request as JSON, such as "
                '{"messages": [{"role": "user", "content": "Hello"}]}'
            )
        path = await self.session.under_project("endpoints", id)
        endpoint = await self.session.call("GET", path)
        asked = endpoint["name"] if revision is None else f"{endpoint['name']}/{revision}"
        return await self.session.ask(request.path or CHAT, {**body, "model": asked})

    async def _deployments(self, id: str) -> list[JSON]:
        path = await self.session.under_project("endpoints", id, "deployments")
        return [one async for one in self.session.pages(path)]

    async def _change(self, body: JSON, mask: list[str], id: str, *parts: str) -> None:
        path = await self.session.under_project("endpoints", id, *parts)
        query = {"updateMask": ",".join(mask)}
        await self.session.call("PATCH", path, params=query, json=body)

    async def _remove(self, id: str, deployment: JSON) -> None:
        """One step of it: stop it, or delete it once it has stopped."""
        path = await self.session.under_project("endpoints", id, "deployments", deployment["id"])
        with suppress(NotFound):
            if deployment["autoscaling"].get("maxReplicas"):
                name = f"{REMOVED}{deployment['id'].rpartition('_')[2].lower()}"
                query = {"updateMask": "name,autoscaling.minReplicas,autoscaling.maxReplicas"}
                body = {"name": name, "autoscaling": STOPPED}
                await self.session.call("PATCH", path, params=query, json=body)
            elif state_of(deployment) in AT_REST:
                await self.session.call("DELETE", path)

    def _seen(self, endpoint: JSON, deployments: list[JSON]) -> Observed[TogetherDeploymentParams]:
        name, inference = endpoint["name"], self.session.inference
        visible = {told: name for name, told in VISIBILITY.items()}.get(endpoint["visibility"])
        live = [one for one in deployments if not shadows(one)]
        weights = percents(
            {one["deploymentId"]: one["weight"] for one in endpoint.get("trafficSplit") or ()},
            [one["id"] for one in live],
        )
        rollout = endpoint.get("activeRolloutId")
        request = {"model": name, "messages": [{"role": "user", "content": "Hello"}]}
        return Observed(
            id=endpoint["id"],
            actual=TogetherDeploymentParams.seen(visibility=visible),
            phase=Phase.PENDING if rollout else Phase.READY,
            message=rollout
            and f"Together's own rollout {rollout} is under way; wait for it, or cancel it there",
            outputs={
                "endpointId": endpoint["id"],
                "model": name,
                "url": f"{inference}/{CHAT}",
                "openaiBaseUrl": inference,
                "authentication": "an API key of Together, as Authorization: Bearer <key>",
                "curl": (
                    f'curl {inference}/{CHAT} -H "Authorization: Bearer $TOGETHER_API_KEY" '
                    f"-H 'Content-Type: application/json' -d '{json.dumps(request)}'"
                ),
            },
            revisions=[revision_of(one, weights[one["id"]]) for one in live],
        )


def _limits(want: TogetherDeploymentParams) -> JSON:
    limits: JSON = {}
    if want.inactive_timeout is not None:
        limits["inactiveTimeout"] = want.inactive_timeout
    if want.max_concurrent_requests_per_replica is not None:
        # A 64-bit number, which protobuf's JSON has as text.
        limits["maxConcurrentRequestsPerReplica"] = str(want.max_concurrent_requests_per_replica)
    return limits


def _no_path(reference: str | None) -> str | None:
    if reference is not None and re.fullmatch(MODEL, reference):
        return None
    return (
        "Together takes projects/<project id>/models/<model id>; a revision goes into model.version"
    )


def _path_of(model: ModelSource) -> str:
    reference = model.reference
    if problem := _no_path(reference):
        raise Rejected(f"model: {problem}, not {reference}")
    return f"{reference}/revisions/{model.version}" if model.version else str(reference)


def _placement(want: TogetherPlacement) -> JSON:
    if want.profile is not None:
        return {"profile": want.profile}
    inline: JSON = {"regions": sorted(want.regions or ())}
    if want.constraint is not None:
        inline["constraint"] = CONSTRAINT[want.constraint]
    if want.hipaa is not None:
        inline["compliancePolicy"] = {"hipaa": want.hipaa}
    return {"inline": inline}
