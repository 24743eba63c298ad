"""ModelDeployment at Fleet, which keeps revisions beside each other, and at Solo, which has one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import SecretStr

from auterity.api.connection import RateLimit
from auterity.api.fields import SHARED, UNVERSIONED, SecretValue, Text, TextMap
from auterity.api.model_deployment import ModelDeployment, ModelSource
from auterity.api.rollout import Metric, Probe
from auterity.engine.contract import (
    Answer,
    Billed,
    Identity,
    Measured,
    Observed,
    Phase,
    Revision,
    Span,
)
from auterity.engine.errors import NotFound
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestProvider, RestSession

PHASES = {"starting": Phase.PENDING, "ready": Phase.READY, "failed": Phase.FAILED}


class FleetConnection(RestConnector):
    """An account at Fleet."""

    vendor = "fleet"
    rate_limit = RateLimit(per_second=100, burst=100, concurrent=50)

    token: SecretValue
    """API token."""

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        return Identity(name=str((await session.call("GET", "/whoami"))["account"]))


class SoloConnection(FleetConnection):
    """An account at Solo."""

    vendor = "solo"


class FleetParams(ModelDeployment):
    """A model at Fleet."""

    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Tags."""


class SoloParams(ModelDeployment):
    """A model at Solo."""

    note: Text | None = None
    """A text that is kept with it."""


async def _ask(session: RestSession, path: str, **query: str) -> Answer:
    """Send the model a request, as its users do."""
    answer = await http.send(
        session.door,
        session.client,
        "POST",
        path,
        label="Ask",
        # What a model answers is no failure of the vendor's.
        concerns_all=lambda _: None,
        params=query,
    )
    return Answer(answer.status, str(answer.body))


class FleetDeployment(RestProvider[FleetParams]):
    """One model. It is made without a revision, and each image is one."""

    kind, vendor = "ModelDeployment", "fleet"
    params, connection = FleetParams, FleetConnection
    collection = "/deployments"
    revisions = True
    probes = True
    measures = frozenset({Metric.ERROR_RATE})
    measured_every = 1.0
    measured_after = 0.1
    poll_after = 0.2

    @classmethod
    def billed(cls, want: FleetParams) -> Sequence[Billed] | None:
        if want.hardware is None:
            return None
        return [Billed(want.hardware, want.scaling.min, want.scaling.max or 1)]

    def encode(self, want: FleetParams, owner: str) -> dict[str, Any]:
        return {"name": want.name, "tags": dict(want.tags or {}), "owner": owner}

    def encode_changes(
        self, want: FleetParams, changed: frozenset[str], owner: str
    ) -> dict[str, Any]:
        keys = {path.removeprefix("tags.") for path in changed if path.startswith("tags.")}
        return {"tags": {key: (want.tags or {}).get(key) for key in keys}, "owner": owner}

    def decode(self, body: dict[str, Any]) -> Observed[FleetParams]:
        return Observed(
            id=body["name"],
            actual=FleetParams.seen(tags=body["tags"]),
            owner=body["owner"],
            outputs={"url": body["url"]},
            secrets={"apiKey": SecretStr(body["apiKey"])},
            revisions=[
                Revision(
                    name=one["name"],
                    weight=one["weight"],
                    phase=PHASES[one["state"]],
                    message="no such image" if one["state"] == "failed" else None,
                    actual=FleetParams.seen(model=ModelSource.told(None, image=one["image"])),
                )
                for one in body["revisions"]
            ],
        )

    async def add_revision(self, id: str, want: FleetParams, owner: str) -> None:
        body = {"image": want.model.image}
        await self.session.call("PUT", self._revision(id, want.revision), json=body)

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        await self.session.call("PUT", f"{self.path(id)}/traffic", json=dict(weights))

    async def remove_revision(self, id: str, revision: str) -> None:
        try:
            await self.session.call("DELETE", self._revision(id, revision))
        except NotFound:
            return

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        query = {} if revision is None else {"revision": revision}
        return await _ask(self.session, f"{self.path(id)}/answers", **query)

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        told = await self.session.call(
            "GET",
            f"{self._revision(id, revision)}/figures",
            params={"start": span.start.timestamp(), "end": span.end.timestamp()},
        )
        count = told["requests"]
        return Measured(count, {Metric.ERROR_RATE: 100 * told["errors"] / count} if count else {})

    def _revision(self, id: str, revision: str) -> str:
        return f"{self.path(id)}/revisions/{quote(revision, safe='')}"


class SoloDeployment(RestProvider[SoloParams]):
    """One model, and whatever image it was given last."""

    kind, vendor = "ModelDeployment", "solo"
    params, connection = SoloParams, SoloConnection
    collection = "/models"
    probes = True

    def encode(self, want: SoloParams, owner: str) -> dict[str, Any]:
        return {"name": want.name, "image": want.model.image, "note": want.note, "owner": owner}

    def decode(self, body: dict[str, Any]) -> Observed[SoloParams]:
        return Observed(
            id=body["name"],
            actual=SoloParams.seen(
                model=ModelSource.told(None, image=body["image"]), note=body["note"]
            ),
            owner=body["owner"],
            outputs={"address": body["address"]},
            secrets={"password": SecretStr(body["password"])},
        )

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        return await _ask(self.session, f"{self.path(id)}/answers")
