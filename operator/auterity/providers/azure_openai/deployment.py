"""Deployments of an Azure OpenAI account.

https://learn.microsoft.com/rest/api/aiservices/accountmanagement/deployments
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr

from auterity.api.fields import IMMUTABLE, SHARED, UNVERSIONED, ShortText, Text, TextMap
from auterity.api.model_deployment import ModelDeployment, ModelSource, Scaling
from auterity.api.rollout import Probe
from auterity.engine.contract import Answer, Observed, Phase, Provider
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.azure_openai.account import VERSION, AccountName, address_of, id_of
from auterity.providers.billing import Bill, of_machines
from auterity.transport.azure import (
    JSON,
    KEY_TAG,
    OUR_TAGS,
    OWNER_TAG,
    AzureConnection,
    AzureSession,
    tags_after,
    user_tags,
)

VERSION_TAG: Final = f"{OUR_TAGS}version"
"""The version of the model that was asked for: Azure may have moved on since."""
PHASES: Final = {
    "Succeeded": Phase.READY,
    "Deleting": Phase.DELETING,
    "Failed": Phase.FAILED,
    "Canceled": Phase.FAILED,
    "Disabled": Phase.FAILED,
}
"""Of all other states a deployment leaves by itself."""
WRITABLE: Final = (
    *("model", "versionUpgradeOption", "raiPolicyName", "spilloverDeploymentName"),
    "parentDeploymentName",
)
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,63}")
KINDS: Final = ("OpenAI", "AIServices")
TRIAL: Final = "DeveloperTier"
HOSTING: Final = "tuned-model-hosting"
"""What price lists call the hour that a tuned model is hosted for."""


class AzureOpenAIDeploymentParams(ModelDeployment):
    """A model that an Azure OpenAI account serves under a name of its own."""

    account: Annotated[AccountName, IMMUTABLE]
    """Azure OpenAI (or AI Foundry) account, in the connection's resource group."""
    sku: Annotated[ShortText, IMMUTABLE] = "GlobalStandard"
    """Where requests are worked on and how it is paid for: GlobalStandard, DataZoneStandard,
    Standard, GlobalProvisionedManaged, ProvisionedManaged, GlobalBatch, DeveloperTier and so on."""
    capacity: Annotated[int, Field(ge=1, le=1_000_000), UNVERSIONED]
    """How much of the quota it gets: mostly thousands of tokens a minute, and provisioned
    throughput units for a provisioned sku."""
    model_format: Annotated[ShortText, IMMUTABLE] = "OpenAI"
    """Whose model it is, as Azure tells it; other than OpenAI for AI Foundry accounts only."""
    model_source: Annotated[Text | None, IMMUTABLE] = None
    """Resource id of the account in which the model was tuned, if that is another one."""
    version_upgrade_option: Annotated[
        Literal["OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade"]
        | None,
        UNVERSIONED,
    ] = None
    """When Azure replaces model.version by a newer one: as soon as there is a new default, once it
    is retired, or never (it then stops to serve)."""
    rai_policy_name: ShortText | None = None
    """Content filter (RAI policy) of the account; Azure's default if left out."""
    spillover_deployment_name: ShortText | None = None
    """Deployment of the account that gets the requests which are too many for this one; for
    provisioned skus only."""
    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Tags of the deployment."""
    publish_key: Annotated[bool, UNVERSIONED] = False
    """Put the account's first key into the Secret of spec.outputs. The key opens all of the
    account; better let clients use Entra ID."""


class AzureOpenAIDeployment(Provider[AzureOpenAIDeploymentParams, AzureSession]):
    """A deployment. Its id is `<account>/<name>`."""

    kind = "ModelDeployment"
    vendor = "azureOpenAI"
    params = AzureOpenAIDeploymentParams
    connection = AzureConnection
    docs = "https://learn.microsoft.com/rest/api/aiservices/accountmanagement/deployments"
    permissions = (
        "Microsoft.CognitiveServices/accounts/read",
        "Microsoft.CognitiveServices/accounts/deployments/read",
        "Microsoft.CognitiveServices/accounts/deployments/write",
        "Microsoft.CognitiveServices/accounts/deployments/delete",
        "Microsoft.CognitiveServices/accounts/listKeys/action",
        "Microsoft.CognitiveServices/accounts/OpenAI/*/action",
    )
    proof = (
        "against a stateful fake that holds requests against the models of "
        "azure-mgmt-cognitiveservices 14.1, and that this client of Azure's gets along with"
    )
    publishes = (
        ("url", "Base URL of the OpenAI API; the same as openaiBaseUrl."),
        ("openaiBaseUrl", "What an OpenAI client takes as its base URL."),
        ("model", "Name of the deployment: what goes into `model` of a request."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A request to try it with."),
        ("apiKey", "First key of the account, with publishKey."),
    )
    quirks = (
        (
            "A deployment has one model and no division of traffic: only strategy Rolling is "
            "possible, and a new model.version is Azure's own replacement. Another model, sku or "
            "account needs another deployment; a ModelRoute can lead from one to the other."
        ),
        (
            "Unless versionUpgradeOption is NoAutoUpgrade, Azure replaces the version by itself. "
            "That is no drift; status.summary.version tells which one serves."
        ),
        (
            "Azure takes one change at a time of each account; others wait. Up to five minutes may "
            "pass until a new deployment answers requests."
        ),
        "A deployment of a tuned model that nobody uses for 15 days is deleted by Azure.",
        "`hardware`, `scaling` and `environment` mean nothing here: capacity says how much.",
        (
            "accounts/listKeys is needed for publishKey only, and accounts/OpenAI for spec.probe "
            "(role Cognitive Services OpenAI User)."
        ),
        (
            "probe.path is taken below /openai/v1 (chat/completions if left out); `model` is added "
            "to a body that has none."
        ),
    )
    probes = True
    lists = True

    @classmethod
    def objections(cls, want: AzureOpenAIDeploymentParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name):
            found["name"] = "Azure takes 2 to 64 letters, digits, dots, hyphens and underscores"
        if want.model.image or want.model.artifact:
            found["model"] = "Azure OpenAI serves models by name; it takes no image or artifact"
        if want.hardware:
            found["hardware"] = "Azure OpenAI has no machines to choose; use capacity"
        if want.scaling != Scaling():
            found["scaling"] = "Azure OpenAI has no replicas to scale; use capacity"
        if want.environment:
            found["environment"] = "Azure OpenAI has no container of yours"
        return found

    @classmethod
    def billed(cls, want: AzureOpenAIDeploymentParams) -> Bill:
        if "Provisioned" in want.sku:
            return (of_machines(want.sku, want.capacity),)
        # Paid for by the token; a tuned model besides for being hosted, except for trials of it.
        # https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-cost-management
        model = want.model
        tuned = model.model_ref or want.model_source or ".ft-" in (model.name or "")
        return (of_machines(HOSTING, 1),) if tuned and want.sku != TRIAL else ()

    async def locate(self, want: AzureOpenAIDeploymentParams) -> str | None:
        return f"{want.account}/{want.name}"

    async def read(self, id: str) -> Observed[AzureOpenAIDeploymentParams] | None:
        path = self._path(id)
        body = await self.session.find(path, VERSION)
        if body is None:
            return None
        name = id.partition("/")[0]
        account = await self.session.find(id_of(self.session, name), VERSION)
        if account is None:
            raise Busy(f"account {name} is being deleted")
        return await self._observed(id, body, account)

    async def read_all(self) -> AsyncIterator[Observed[AzureOpenAIDeploymentParams]]:
        accounts = await self.session.pages(id_of(self.session), VERSION)
        for account in accounts:
            if account.get("kind") in KINDS:
                path = id_of(self.session, account["name"])
                for body in await self.session.pages(f"{path}/deployments", VERSION):
                    yield await self._observed(f"{account['name']}/{body['name']}", body, account)

    async def create(self, want: AzureOpenAIDeploymentParams, owner: str) -> str:
        id = f"{want.account}/{want.name}"
        # A PUT, which can be repeated: a deployment that is there already has just been looked for.
        await self._put(id, self._body(want, owner, {}, frozenset({"tags"})))
        return id

    async def update(
        self, id: str, want: AzureOpenAIDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        if changed & {"model.name", "model.model_ref", "model.artifact", "model.image"}:
            raise Rejected(
                "model: the model of a deployment cannot change; declare another deployment and "
                "lead requests there, or delete this one and declare it anew"
            )
        now = await self.session.find(self._path(id), VERSION)
        if now is None:
            await self.create(want, owner)
            return
        await self._put(id, self._body(want, owner, now, changed))

    async def delete(self, id: str) -> None:
        async with self.session.one_at_a_time(id.partition("/")[0]):
            try:
                await self.session.arm("DELETE", self._path(id), VERSION)
            except NotFound:
                return

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        name, _, deployment = id.partition("/")
        account = await self.session.find(id_of(self.session, name), VERSION)
        if account is None:
            raise NotFound(f"there is no account {name}")
        return await self.session.ask(
            address_of(self.session, account),
            self.session.cloud.cognitive,
            f"/openai/v1/{(request.path or 'chat/completions').lstrip('/')}",
            None if request.body is None else _with_model(request.body, deployment),
            request.content_type,
        )

    def _path(self, id: str) -> str:
        account, _, name = id.partition("/")
        return f"{id_of(self.session, account)}/deployments/{name}"

    async def _put(self, id: str, body: JSON) -> None:
        async with self.session.one_at_a_time(id.partition("/")[0]):
            await self.session.arm("PUT", self._path(id), VERSION, json=body)

    def _body(
        self, want: AzureOpenAIDeploymentParams, owner: str, now: JSON, changed: frozenset[str]
    ) -> JSON:
        """The whole deployment: what is there, with what has changed."""
        told = now.get("properties") or {}
        properties: JSON = {key: told[key] for key in WRITABLE if told.get(key) is not None}
        marks, tags = {OWNER_TAG: owner}, dict(now.get("tags") or {})
        if not now:
            properties["model"] = {"format": want.model_format, "name": want.model.reference}
            if want.model_source:
                properties["model"]["source"] = want.model_source
            if want.model.model_ref and want.model.version is None:
                # What a tuning makes has this one version.
                properties["model"]["version"] = "1"
        if want.model.version and (not now or "model.version" in changed):
            properties["model"] = {**properties["model"], "version": want.model.version}
            marks[VERSION_TAG] = want.model.version
        for field, key in (
            ("version_upgrade_option", "versionUpgradeOption"),
            ("rai_policy_name", "raiPolicyName"),
            ("spillover_deployment_name", "spilloverDeploymentName"),
        ):
            if (not now or field in changed) and (value := getattr(want, field)) is not None:
                properties[key] = value
        if not now or "publish_key" in changed:
            tags.pop(KEY_TAG, None)
            marks |= {KEY_TAG: "true"} if want.publish_key else {}
        sku = now.get("sku") or {"name": want.sku}
        if not now or "capacity" in changed:
            sku = {**sku, "capacity": want.capacity}
        if not now:
            changed = frozenset(f"tags.{name}" for name in want.tags or {})
        return {
            "sku": {key: sku[key] for key in ("name", "capacity") if key in sku},
            "tags": tags_after(tags, want.tags, changed, marks),
            "properties": properties,
        }

    async def _observed(
        self, id: str, body: JSON, account: JSON
    ) -> Observed[AzureOpenAIDeploymentParams]:
        told, sku, tags = body["properties"], body.get("sku") or {}, body.get("tags") or {}
        model, (owner, _, name) = told["model"], id.partition("/")
        state = told.get("provisioningState", "Succeeded")
        phase = PHASES.get(state, Phase.PENDING)
        message = f"the deployment is {state}"
        if phase is Phase.FAILED and (why := await self.session.why(self._path(id))):
            message = f"{message}: {why}"
        base = f"{address_of(self.session, account)}/openai/v1/"
        version, asked = model.get("version"), tags.get(VERSION_TAG)
        upgrade = told.get("versionUpgradeOption")
        published = tags.get(KEY_TAG) == "true"
        return Observed(
            id=id,
            actual=AzureOpenAIDeploymentParams.seen(
                model=ModelSource.told(
                    model.get("name"),
                    version=version if upgrade == "NoAutoUpgrade" else asked or version,
                ),
                account=owner,
                sku=sku.get("name"),
                capacity=sku.get("capacity"),
                model_format=model.get("format"),
                model_source=model.get("source"),
                version_upgrade_option=upgrade,
                rai_policy_name=told.get("raiPolicyName"),
                spillover_deployment_name=told.get("spilloverDeploymentName"),
                tags=user_tags(tags),
                publish_key=published,
            ),
            phase=phase,
            owner=tags.get(OWNER_TAG),
            outputs={
                "url": base,
                "openaiBaseUrl": base,
                "model": name,
                "authentication": (
                    "header api-key with a key of the account, or Authorization: Bearer with a "
                    f"token of Entra ID for {self.session.cloud.cognitive}"
                ),
                "curl": _curl(base, name, told.get("capabilities") or {}),
            },
            secrets=await self._key(owner) if published and phase is Phase.READY else {},
            url=f"{self.session.cloud.portal}/#resource{id_of(self.session, owner)}/overview",
            message=message,
            summary={"version": str(version)} if version else {},
        )

    async def _key(self, account: str) -> dict[str, SecretStr]:
        path = f"{id_of(self.session, account)}/listKeys"
        keys = await self.session.arm("POST", path, VERSION, label="ListKeys")
        return {"apiKey": SecretStr(keys["key1"])}


def _with_model(body: str, deployment: str) -> str:
    try:
        request = json.loads(body)
    except ValueError:
        return body
    if not isinstance(request, dict) or "model" in request:
        return body
    return json.dumps({"model": deployment, **request})


def _curl(base: str, model: str, capabilities: JSON) -> str:
    path, content = "chat/completions", '"messages": [{"role": "user", "content": "Hello"}]'
    if str(capabilities.get("embeddings")).lower() == "true":
        path, content = "embeddings", '"input": "Hello"'
    return (
        f'curl {base}{path} -H "api-key: $AZURE_OPENAI_API_KEY" -H "content-type: '
        f'application/json" -d \'{{"model": "{model}", {content}}}\''
    )
