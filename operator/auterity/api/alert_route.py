"""AlertRoute: which alerts go where."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import Duration, Keyed, Model, Params, SecretValue, ShortText, Text, Value

LabelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class Matcher(Model):
    """A condition on one label of an alert."""

    label: LabelName
    """Name of the label."""
    operator: Literal["=", "!=", "=~", "!~"] = "="
    """Equal, not equal, matches a regular expression, does not match one."""
    value: Annotated[str, Field(max_length=1024)] = ""
    """The value or regular expression."""


class Webhook(Model):
    """An HTTP endpoint."""

    url: Value
    """Where alerts are posted."""
    bearer_token: SecretValue | None = None
    """Sent as Authorization: Bearer."""


class Chat(Model):
    """A chat channel's incoming webhook."""

    webhook_url: SecretValue
    """The channel's incoming webhook; whoever knows it can post, so it is a secret."""
    title: Text | None = None
    """Title, in the vendor's template language."""
    text: Annotated[str, Field(max_length=4096)] | None = None
    """Text, in the vendor's template language."""


class Slack(Chat):
    """A Slack channel."""

    channel: ShortText | None = None
    """Channel such as #alerts, where the webhook allows a choice."""


class Email(Model):
    """A mailbox."""

    to: Annotated[
        list[Annotated[str, Field(min_length=3, max_length=320)]],
        Field(min_length=1, max_length=20),
    ]
    """Addresses."""


class Receiver(Model):
    """Where alerts of a route go."""

    one_of = ("slack", "teams", "discord", "email", "webhook")

    name: ShortText
    """Name within this route."""
    send_resolved: bool = True
    """Also tell when the alert is over."""
    slack: Slack | None = None
    """A Slack channel."""
    teams: Chat | None = None
    """A Microsoft Teams channel (Workflows webhook)."""
    discord: Chat | None = None
    """A Discord channel."""
    email: Email | None = None
    """Mailboxes."""
    webhook: Webhook | None = None
    """An HTTP endpoint."""


class AlertRoute(Params):
    """Which alerts go where: matching, grouping, repetition and receivers."""

    matchers: Annotated[list[Matcher], Field(min_length=1, max_length=20)]
    """An alert takes this route if every matcher holds."""
    group_by: Annotated[list[LabelName], Field(max_length=20)] = Field(default_factory=list)
    """Alerts with the same values of these labels become one message."""
    group_wait: Duration = "30s"
    """How long the first message of a group waits for more alerts."""
    group_interval: Duration = "5m"
    """How long a changed group waits before the next message."""
    repeat_interval: Duration = "4h"
    """How long an unchanged group waits before it is sent again."""
    receivers: Annotated[list[Receiver], Keyed("name"), Field(min_length=1, max_length=20)]
    """Where the alerts go; every receiver gets them."""
