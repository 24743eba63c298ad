"""Models on Amazon Bedrock: reserved throughput, custom models on demand, inference profiles."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from auterity.api.model_deployment import ModelSource, Scaling
from auterity.api.rollout import Probe
from auterity.engine.contract import Answer, Observed, Phase, Provider
from auterity.engine.errors import NotFound, Rejected
from auterity.providers.bedrock.forms import FORMS, Form, behind, declared, source
from auterity.providers.bedrock.params import BedrockDeploymentParams
from auterity.providers.bedrock.tags import of_users, retag, tags_of
from auterity.providers.billing import Bill, of_machines
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

LONGEST_NAME: Final = 63
NAME: Final = re.compile(r"([0-9a-zA-Z][_-]?)+")
BY_NAME: Final = "Bedrock takes a model by its id or ARN: set model.name or model.modelRef only"
CUSTOM: Final = "Bedrock names custom models by their ARN: set model.name to it"
CUSTOM_MODEL: Final = "custom-model"
"""What price lists call a unit for a model that a TuningJob has made."""
CONVERSE: Final = "converse"
PATHS: Final = ("invoke", CONVERSE)


class BedrockDeployment(Provider[BedrockDeploymentParams, AwsSession]):
    """One model that can be invoked by an ARN of its own, which is the id."""

    kind = "ModelDeployment"
    vendor = "bedrock"
    params = BedrockDeploymentParams
    connection = AwsConnection
    docs = (
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock.html"
    )
    permissions = (
        "bedrock:CreateProvisionedModelThroughput",
        "bedrock:GetProvisionedModelThroughput",
        "bedrock:UpdateProvisionedModelThroughput",
        "bedrock:DeleteProvisionedModelThroughput",
        "bedrock:CreateCustomModelDeployment",
        "bedrock:GetCustomModelDeployment",
        "bedrock:UpdateCustomModelDeployment",
        "bedrock:DeleteCustomModelDeployment",
        "bedrock:CreateInferenceProfile",
        "bedrock:GetInferenceProfile",
        "bedrock:ListInferenceProfiles",
        "bedrock:DeleteInferenceProfile",
        "bedrock:GetFoundationModel",
        "bedrock:TagResource",
        "bedrock:UntagResource",
        "bedrock:ListTagsForResource",
        "bedrock:InvokeModel",
    )
    proof = (
        "all three forms against a stateful fake that holds requests and its own answers against "
        "botocore's service models and checks signatures; provisioned throughput and inference "
        "profiles also against ministack 1.5.33"
    )
    publishes = (
        ("model", "What to give as modelId: the ARN."),
        ("url", "Where requests are sent; /converse or /invoke is added."),
        ("region", "Region of the model."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A call to try it with, without the key."),
    )
    quirks = (
        (
            "Provisioned throughput is paid for by the hour from its creation on, used or not. "
            "With a commitment Bedrock does not delete it before the end of it: set deletionPolicy "
            "to Retain, or the object stays until then."
        ),
        "The default quota of committed model units is 0: ask AWS to raise it.",
        (
            "Another model is brought by Bedrock's own update, while the one before goes on to "
            "serve. Provisioned throughput only takes the model that a custom one was made of, or "
            "another one made of it; an inference profile takes no other at all."
        ),
        (
            "If Bedrock cannot deploy another custom model, it goes on with the one before. The "
            "same one is not tried again. What has failed from the start is deleted by an edit of "
            "the model, and made anew."
        ),
        "Custom models are named by their ARN, as TuningJobs tell it; foundation models by id.",
        (
            "Which custom models can be served on demand, and in which regions, Bedrock decides by "
            "the base model."
        ),
        (
            "Of an adopted inference profile that is routed over regions, Bedrock does not tell "
            "which one it was made of: model is not compared."
        ),
        (
            "bedrock:InvokeModel is needed for spec.probe only. Its path is invoke (the default) "
            "or converse, with a body as InvokeModel or Converse takes it."
        ),
        "Only the rights for the form that is used are needed.",
    )
    poll_after = 15.0
    probes = True

    @classmethod
    def objections(cls, want: BedrockDeploymentParams) -> Mapping[str, str]:
        found, model = {}, want.model
        if not NAME.fullmatch(want.name) or len(want.name) > LONGEST_NAME:
            found["name"] = (
                f"Bedrock takes 1 to {LONGEST_NAME} letters and digits, with single hyphens or "
                "underscores between them"
            )
        if model.image or model.artifact or model.version or not (model.name or model.model_ref):
            found["model"] = BY_NAME
        elif model.name and not model.name.startswith("arn:") and _custom(want, model.name):
            found["model"] = CUSTOM
        if want.hardware:
            found["hardware"] = "Bedrock has no choice of hardware"
        if want.environment:
            found["environment"] = "Bedrock runs no container of yours"
        if not _unscaled(want.scaling):
            found["scaling"] = (
                "Bedrock scales by itself; reserve throughput by provisionedThroughput.modelUnits"
            )
        return found

    @classmethod
    def billed(cls, want: BedrockDeploymentParams) -> Bill:
        if (throughput := want.provisioned_throughput) is None:
            return ()
        # Committed units are an item of their own, and cost less.
        parts = (want.model.name or CUSTOM_MODEL, throughput.commitment)
        return (of_machines("/".join(filter(None, parts)), throughput.model_units),)

    async def locate(self, want: BedrockDeploymentParams) -> str | None:
        return await declared(want)(self.session).find(want.name)

    async def read(self, id: str) -> Observed[BedrockDeploymentParams] | None:
        form = self._behind(id)
        if (seen := await form.read(id)) is None:
            return None
        tags = await tags_of(self.session, id)
        fields: dict[str, Any] = dict.fromkeys(one.field for one in FORMS)
        fields[form.field] = seen.form
        if (model := source(seen, tags)) is not None:
            fields["model"] = ModelSource.told(model, image=None, version=None)
        fields |= {"hardware": None, "environment": [], "scaling": Scaling()}
        region = self.session.region
        url = _url(id, region)
        reason = f": {seen.message}" if seen.message and seen.phase is not Phase.READY else ""
        return Observed(
            id=id,
            actual=BedrockDeploymentParams.seen(**fields, tags=of_users(tags)),
            phase=seen.phase,
            owner=tags.get(OWNER_TAG),
            outputs={
                "model": id,
                "url": url,
                "region": region,
                "authentication": "signed for the service bedrock, or a Bedrock API key as bearer",
                "curl": _curl(url),
            },
            url=(
                f"https://{region}.console.aws.amazon.com/bedrock/home?region={region}"
                f"#/{form.console}"
            ),
            message=f"it is {seen.status}{reason}",
        )

    async def create(self, want: BedrockDeploymentParams, owner: str) -> str:
        tags = {**(want.tags or {}), OWNER_TAG: owner}
        return await declared(want)(self.session).create(want, tags)

    async def update(
        self, id: str, want: BedrockDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        if any(path.startswith("model.") for path in changed):
            await self._behind(id).change(id, want.model.reference or "")
        await retag(self.session, id, want.tags or {}, changed, owner)

    async def delete(self, id: str) -> None:
        await self._behind(id).delete(id)

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        if request.path not in (None, *PATHS):
            raise Rejected(f"probe.path: Bedrock has {' and '.join(PATHS)}")
        body = request.body or "{}"
        conversation = _members(body) if request.path == CONVERSE else None
        try:
            if conversation is not None:
                told = await self._call("Converse", modelId=id, **conversation)
                told.pop("ResponseMetadata", None)
                return Answer(200, json.dumps(told, default=str))
            told = await self._call(
                "InvokeModel", modelId=id, body=body.encode(), contentType=request.content_type
            )
        except NotFound:
            raise
        except Rejected as failure:
            # What the model does not take, and what it fails at: both are the model's answers.
            return Answer(400, failure.message)
        return Answer(200, told["body"].decode(errors="replace"))

    async def _call(self, operation: str, **parameters: Any) -> JSON:
        return await self.session.call("bedrock-runtime", operation, **parameters)

    def _behind(self, id: str) -> Form:
        if (form := behind(id)) is None:
            raise Rejected(f"{id} is no ARN of what Bedrock serves models by")
        return form(self.session)


def _members(body: str) -> JSON:
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise Rejected("probe.body: Converse takes a JSON object")
    return members


def _custom(want: BedrockDeploymentParams, name: str) -> bool:
    """Whether it names a custom model: ids of foundation models have a dot."""
    return want.custom_model_deployment is not None or "." not in name


def _unscaled(scaling: Scaling) -> bool:
    return (scaling.min, scaling.max, scaling.target) == (1, 1, None)


def _url(arn: str, region: str) -> str:
    domain = "amazonaws.com.cn" if arn.startswith("arn:aws-cn:") else "amazonaws.com"
    return f"https://bedrock-runtime.{region}.{domain}/model/{quote(arn, safe='')}"


def _curl(url: str) -> str:
    body = '{"messages":[{"role":"user","content":[{"text":"Hello"}]}]}'
    return (
        f"curl {url}/converse -H 'Content-Type: application/json' "
        f"-H \"Authorization: Bearer $AWS_BEARER_TOKEN_BEDROCK\" -d '{body}'"
    )
