"""Tags of what Bedrock has."""

from collections.abc import Mapping
from typing import Final

from auterity.api import GROUP
from auterity.engine.errors import Busy, NotFound
from auterity.transport.aws import JSON, OWNER_TAG, AwsSession

SOURCE_TAG: Final = f"{GROUP}/model"
"""The model that was declared, where Bedrock tells only what it leads to."""


async def tags_of(session: AwsSession, arn: str) -> dict[str, str]:
    """All tags. Raises Busy if what carries them is coming or going."""
    try:
        told = await session.call("bedrock", "ListTagsForResource", resourceARN=arn)
    except NotFound as failure:
        raise Busy(failure.message) from failure
    return {tag["key"]: tag["value"] for tag in told.get("tags", ())}


def listed(tags: Mapping[str, str]) -> list[JSON]:
    """Tags as Bedrock takes them."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def of_users(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that are neither ours nor AWS's."""
    return {k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))}


async def retag(
    session: AwsSession,
    arn: str,
    tags: Mapping[str, str],
    changed: frozenset[str],
    owner: str,
) -> None:
    """Write the mark and the declared tags; remove those that are no longer declared."""
    await session.call(
        "bedrock", "TagResource", resourceARN=arn, tags=listed({**tags, OWNER_TAG: owner})
    )
    named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
    if gone := sorted(named - set(tags)):
        await session.call("bedrock", "UntagResource", resourceARN=arn, tagKeys=gone)
