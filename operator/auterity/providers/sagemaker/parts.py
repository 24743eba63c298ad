"""Models and endpoint configurations: what an endpoint is made of."""

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from auterity.api import GROUP
from auterity.engine.errors import Busy, Conflict, NotFound
from auterity.providers.sagemaker.definition import (
    configuration,
    model_name,
    model_of,
    prefix,
    variant_of,
)
from auterity.providers.sagemaker.params import SageMakerEndpointParams
from auterity.transport.aws import JSON, OWNER_TAG, AwsSession

ENDPOINT_TAG: Final = f"{GROUP}/endpoint"
"""On a model or an endpoint configuration: the endpoint that it was made for."""


@dataclass(frozen=True, slots=True)
class Made:
    """A model or an endpoint configuration of ours."""

    kind: str
    name: str
    owner: str | None
    created: float = 0.0


class EndpointParts:
    """Makes, finds and removes them. They cannot be changed, and are named by what they hold."""

    def __init__(self, session: AwsSession) -> None:
        self.session = session

    async def find(self, operation: str, **parameters: Any) -> JSON | None:
        """The answer; None if there is no such thing."""
        try:
            return await self.session.call("sagemaker", operation, **parameters)
        except NotFound:
            return None

    async def tags(self, arn: str) -> dict[str, str]:
        """Whatever has this ARN is tagged so."""
        tags = await self.session.pages("sagemaker", "ListTags", "Tags", ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for tag in tags}

    async def made_for(
        self, id: str, owner: str | None = None, besides: Container[str | None] = ()
    ) -> list[Made]:
        """Endpoint configurations, then models, that were made for an endpoint."""
        begins = prefix(id)
        ours = re.compile(rf"{re.escape(begins)}[0-9a-f]{{10}}")
        found = []
        for kind, operation in (("EndpointConfig", "ListEndpointConfigs"), ("Model", "ListModels")):
            listed = await self.session.pages(
                "sagemaker", operation, f"{kind}s", NameContains=begins, MaxResults=100
            )
            for item in listed:
                name = item[f"{kind}Name"]
                if not ours.fullmatch(name) or name in besides:
                    continue
                try:
                    tags = await self.tags(item[f"{kind}Arn"])
                except NotFound:
                    continue
                if tags.get(ENDPOINT_TAG) == id and owner in (None, tags.get(OWNER_TAG)):
                    created = item["CreationTime"].timestamp()
                    found.append(Made(kind, name, tags.get(OWNER_TAG), created))
        return found

    async def in_use(self, endpoint: JSON) -> set[str]:
        """Names of the configuration and the models that an endpoint serves by."""
        name = endpoint["EndpointConfigName"]
        config = await self.find("DescribeEndpointConfig", EndpointConfigName=name) or {}
        return {name, *(v["ModelName"] for v in config.get("ProductionVariants", ()))}

    async def variants_in(self, made: Made) -> dict[str, JSON]:
        """The variants of a configuration of ours, by name; none of a model."""
        if made.kind != "EndpointConfig":
            return {}
        config = await self.find("DescribeEndpointConfig", EndpointConfigName=made.name) or {}
        return {one["VariantName"]: one for one in config.get("ProductionVariants", ())}

    async def remove(self, made: list[Made]) -> None:
        """Remove them; absent is fine."""
        for item in made:
            await self.find(f"Delete{item.kind}", **{f"{item.kind}Name": item.name})

    async def variant(self, want: SageMakerEndpointParams, owner: str, name: str) -> JSON:
        """Make the model, where it is not there yet; the variant that serves it."""
        model = model_name(want, owner)
        tags = listed({**(want.tags or {}), OWNER_TAG: owner, ENDPOINT_TAG: want.name})
        content = model_of(want, {v.name: v.reveal() for v in want.environment})
        await self._once("CreateModel", ModelName=model, Tags=tags, **content)
        return variant_of(want, model, name)

    async def configure(
        self, want: SageMakerEndpointParams, owner: str, variants: list[JSON], settings: JSON
    ) -> str:
        """Make the endpoint configuration, where it is not there yet; its name."""
        name, config = configuration(want.name, owner, variants, settings)
        await self.make_configuration(want.name, owner, want.tags or {}, name, config)
        return name

    async def make_configuration(
        self, endpoint: str, owner: str, tags: dict[str, str], name: str, config: JSON
    ) -> None:
        """Make one of this content, where it is not there yet."""
        marks = {OWNER_TAG: owner, ENDPOINT_TAG: endpoint}
        await self._once(
            "CreateEndpointConfig",
            EndpointConfigName=name,
            Tags=listed({**tags, **marks}),
            **config,
        )

    async def after_definition(self, operation: str, **parameters: Any) -> None:
        """An operation that names what was made a moment ago."""
        try:
            await self.session.call("sagemaker", operation, **parameters)
        except NotFound as failure:
            # SageMaker does not show it everywhere yet.
            raise Busy(failure.message) from failure

    async def _once(self, operation: str, **parameters: Any) -> None:
        """Create; one that is there already has the same name because it is the same."""
        try:
            await self.after_definition(operation, **parameters)
        except Conflict:
            return


def listed(tags: dict[str, str]) -> list[JSON]:
    """Tags as SageMaker's requests have them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
