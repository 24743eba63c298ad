"""The three ways in which Bedrock serves a model that has been declared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from auterity.engine.contract import Phase
from auterity.engine.errors import Busy, Conflict, NotFound, Rejected
from auterity.providers.bedrock.params import (
    BedrockDeploymentParams,
    CustomModelDeployment,
    InferenceProfile,
    ProvisionedThroughput,
    short,
)
from auterity.providers.bedrock.tags import SOURCE_TAG, listed
from auterity.transport.aws import JSON, AwsSession


@dataclass(frozen=True, slots=True)
class Seen:
    """What Bedrock tells of one."""

    phase: Phase
    status: str
    model: str | None
    form: Any
    """As declared."""
    message: str | None = None


class Form(ABC):
    """One way of serving."""

    field: ClassVar[str]
    """The field that declares it."""
    part: ClassVar[str]
    """What its ARNs have in common."""
    console: ClassVar[str]

    def __init__(self, session: AwsSession) -> None:
        self.session = session

    @abstractmethod
    async def find(self, name: str) -> str | None:
        """The ARN of the one of that name."""

    @abstractmethod
    async def read(self, arn: str) -> Seen | None:
        """What is there."""

    @abstractmethod
    async def create(self, want: BedrockDeploymentParams, tags: dict[str, str]) -> str:
        """Make it; its ARN."""

    @abstractmethod
    async def change(self, arn: str, model: str) -> None:
        """Serve another model."""

    @abstractmethod
    async def delete(self, arn: str) -> None:
        """Delete it; absent is fine."""

    async def _anew(self, arn: str) -> None:
        """Clear the way for another one: what has failed has never served, and takes no update."""
        await self.delete(arn)
        raise Busy(f"{arn} had failed; it is made anew")

    async def _call(self, operation: str, **parameters: Any) -> JSON:
        given = {name: value for name, value in parameters.items() if value is not None}
        return await self.session.call("bedrock", operation, **given)

    async def _find(self, operation: str, **parameters: Any) -> JSON | None:
        """The answer; None if there is no such thing."""
        try:
            return await self._call(operation, **parameters)
        except NotFound:
            return None


class Throughput(Form):
    """Provisioned throughput."""

    field = "provisioned_throughput"
    part = ":provisioned-model/"
    console = "provisioned-throughput"
    phases: ClassVar = {"InService": Phase.READY, "Failed": Phase.FAILED}

    async def find(self, name: str) -> str | None:
        told = await self._find("GetProvisionedModelThroughput", provisionedModelId=name)
        return told["provisionedModelArn"] if told else None

    async def read(self, arn: str) -> Seen | None:
        told = await self._find("GetProvisionedModelThroughput", provisionedModelId=arn)
        if told is None:
            return None
        return Seen(
            self.phases.get(told["status"], Phase.PENDING),
            told["status"],
            short(told["desiredModelArn"]),
            ProvisionedThroughput.model_construct(
                model_units=told["desiredModelUnits"], commitment=told.get("commitmentDuration")
            ),
            told.get("failureMessage"),
        )

    async def create(self, want: BedrockDeploymentParams, tags: dict[str, str]) -> str:
        declared = want.provisioned_throughput
        assert declared is not None  # noqa: S101 - it is why this form was chosen
        made = await self._call(
            "CreateProvisionedModelThroughput",
            provisionedModelName=want.name,
            modelId=want.model.reference,
            modelUnits=declared.model_units,
            commitmentDuration=declared.commitment,
            tags=listed(tags),
        )
        return str(made["provisionedModelArn"])

    async def change(self, arn: str, model: str) -> None:
        # One that has another model than was asked for last has failed at an update, and not from
        # the start: what is paid for, perhaps for months, is not given back for it.
        told = await self._find("GetProvisionedModelThroughput", provisionedModelId=arn) or {}
        served = told.get("modelArn") != told.get("desiredModelArn")
        if told.get("status") == "Failed" and not served:
            await self._anew(arn)
        await self._call(
            "UpdateProvisionedModelThroughput", provisionedModelId=arn, desiredModelId=model
        )

    async def delete(self, arn: str) -> None:
        await self._find("DeleteProvisionedModelThroughput", provisionedModelId=arn)


class OnDemand(Form):
    """A custom model deployment."""

    field = "custom_model_deployment"
    part = ":custom-model-deployment/"
    console = "custom-model-on-demand"
    phases: ClassVar = {
        "Active": Phase.READY,
        "Failed": Phase.FAILED,
        # Not in the API reference, but in the user guide:
        # https://docs.aws.amazon.com/nova/latest/userguide/delete-custom-model-deployment.html
        "Deleting": Phase.DELETING,
    }

    async def find(self, name: str) -> str | None:
        told = await self._get(name)
        return told["customModelDeploymentArn"] if told else None

    async def read(self, arn: str) -> Seen | None:
        told = await self._get(arn)
        if told is None:
            return None
        phase, status = self.phases.get(told["status"], Phase.PENDING), told["status"]
        if told.get("updateDetails", {}).get("updateStatus") == "Updating":
            phase, status = Phase.PENDING, "Updating"
        form = CustomModelDeployment.model_construct(description=told.get("description"))
        return Seen(phase, status, told["modelArn"], form, told.get("failureMessage"))

    async def create(self, want: BedrockDeploymentParams, tags: dict[str, str]) -> str:
        declared = want.custom_model_deployment
        made = await self._call(
            "CreateCustomModelDeployment",
            modelDeploymentName=want.name,
            modelArn=want.model.reference,
            description=declared and declared.description,
            tags=listed(tags),
        )
        return str(made["customModelDeploymentArn"])

    async def change(self, arn: str, model: str) -> None:
        told = await self._get(arn) or {}
        if told.get("status") == "Failed":
            await self._anew(arn)
        tried = told.get("updateDetails", {})
        if (tried.get("modelArn"), tried.get("updateStatus")) == (model, "UpdateFailed"):
            # It goes on with the earlier model; the same again would end in the same.
            why = told.get("failureMessage") or "no reason is told"
            raise Rejected(f"Bedrock could not deploy {model}: {why}; declare another model")
        await self._call(
            "UpdateCustomModelDeployment", customModelDeploymentIdentifier=arn, modelArn=model
        )

    async def delete(self, arn: str) -> None:
        await self._find("DeleteCustomModelDeployment", customModelDeploymentIdentifier=arn)

    async def _get(self, identifier: str) -> JSON | None:
        return await self._find(
            "GetCustomModelDeployment", customModelDeploymentIdentifier=identifier
        )


class Profile(Form):
    """An application inference profile."""

    field = "inference_profile"
    part = ":application-inference-profile/"
    console = "inference-profiles"

    async def find(self, name: str) -> str | None:
        listed_ = await self.session.pages(
            "bedrock",
            "ListInferenceProfiles",
            "inferenceProfileSummaries",
            typeEquals="APPLICATION",
        )
        found = [
            one["inferenceProfileArn"] for one in listed_ if one["inferenceProfileName"] == name
        ]
        if len(found) > 1:
            raise Conflict(f"there are several inference profiles {name}: {', '.join(found)}")
        return found[0] if found else None

    async def read(self, arn: str) -> Seen | None:
        told = await self._find("GetInferenceProfile", inferenceProfileIdentifier=_id(arn))
        if told is None:
            return None
        models = told["models"]
        # One that is routed over regions leads to several: from which profile, is not told.
        model = short(models[0]["modelArn"]) if len(models) == 1 else None
        form = InferenceProfile.model_construct(description=told.get("description") or None)
        return Seen(Phase.READY, told["status"], model, form)

    async def create(self, want: BedrockDeploymentParams, tags: dict[str, str]) -> str:
        declared, model = want.inference_profile, want.model.reference or ""
        made = await self._call(
            "CreateInferenceProfile",
            inferenceProfileName=want.name,
            description=declared and declared.description,
            modelSource={"copyFrom": await self._arn(model)},
            tags=listed({**tags, SOURCE_TAG: model}),
        )
        return str(made["inferenceProfileArn"])

    async def change(self, arn: str, model: str) -> None:
        raise Rejected(
            f"model: the inference profile {_id(arn)} cannot lead to another model; declare "
            "another ModelDeployment for it"
        )

    async def delete(self, arn: str) -> None:
        await self._find("DeleteInferenceProfile", inferenceProfileIdentifier=_id(arn))

    async def _arn(self, model: str) -> str:
        if model.startswith("arn:"):
            return model
        if profile := await self._find("GetInferenceProfile", inferenceProfileIdentifier=model):
            return str(profile["inferenceProfileArn"])
        found = await self._call("GetFoundationModel", modelIdentifier=model)
        return str(found["modelDetails"]["modelArn"])


FORMS: Final[tuple[type[Form], ...]] = (Throughput, OnDemand, Profile)


def declared(want: BedrockDeploymentParams) -> type[Form]:
    """The form that is declared."""
    return next(form for form in FORMS if getattr(want, form.field) is not None)


def behind(arn: str) -> type[Form] | None:
    """The form that has such ARNs."""
    return next((form for form in FORMS if form.part in arn), None)


def source(seen: Seen, tags: Mapping[str, str]) -> str | None:
    """The model, as far as it is known."""
    return tags.get(SOURCE_TAG) or seen.model


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]
