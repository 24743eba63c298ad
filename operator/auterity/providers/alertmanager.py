"""Prometheus' Alertmanager: routes and receivers in its configuration.

https://prometheus.io/docs/alertmanager/latest/configuration/
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import Field

from auterity.api.alert_route import (
    AlertRoute,
    Chat,
    Email,
    Matcher,
    Receiver,
    Slack,
    Webhook,
)
from auterity.api.fields import Model, Resolved, SecretValue, ShortText, Text, Value, seconds
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict
from auterity.transport.alertmanager import (
    NOT_LOADED,
    AlertmanagerConnection,
    AlertmanagerSession,
    Configuration,
)
from auterity.transport.alertmanager_document import JSON, Document, Part, duration, marker

M = TypeVar("M", bound=Model)
R = TypeVar("R", bound=Resolved)
MATCHER: Final = re.compile(r'\s*"?([^"=~!\s]+)"?\s*(=~|!~|!=|=)\s*(.*?)\s*', re.DOTALL)
ESCAPED: Final = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
CHANGED_KEYS: Final = {
    "matchers": ("matchers", "match", "match_re"),
    "group_by": ("group_by",),
    "group_wait": ("group_wait",),
    "group_interval": ("group_interval",),
    "repeat_interval": ("repeat_interval",),
    "continue_": ("continue",),
    "mute_time_intervals": ("mute_time_intervals",),
}
"""Keys of a route by the field that sets them."""
WEBHOOKS: Final = {"slack": "api_url", "teams": "webhook_url", "discord": "webhook_url"}
CONFIGS: Final = {
    "slack": "slack_configs",
    "teams": "msteamsv2_configs",
    "discord": "discord_configs",
    "email": "email_configs",
    "webhook": "webhook_configs",
}


class Smtp(Model):
    """How e-mail is sent."""

    smarthost: Annotated[
        str,
        Field(min_length=3, max_length=261, pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[^\s]+\]:[0-9]+$"),
    ]
    """Mail server as host:port; port 465 means TLS from the start."""
    from_: Annotated[str, Field(min_length=3, max_length=320, alias="from")]
    """Address of the sender."""
    username: Text | None = None
    """User at the mail server."""
    password: SecretValue | None = None
    """Its password."""
    require_tls: bool = True
    """Refuse to send without TLS."""


class AlertmanagerRouteParams(AlertRoute):
    """A route below the root, and its receivers."""

    continue_: Annotated[bool, Field(alias="continue")] = True
    """Whether routes after this one get the alert too. As the routes of Auterity come first, false
    keeps its alerts from every other route."""
    mute_time_intervals: Annotated[list[ShortText], Field(max_length=20)] = Field(
        default_factory=list
    )
    """Time intervals of Alertmanager's configuration in which nothing is sent."""
    smtp: Smtp | None = None
    """How this route's e-mail is sent; as the global section of the configuration says if left
    out."""


class AlertmanagerRoute(Provider[AlertmanagerRouteParams, AlertmanagerSession]):
    """A route in Alertmanager's configuration, which many share a document of."""

    kind = "AlertRoute"
    vendor = "alertmanager"
    params = AlertmanagerRouteParams
    connection = AlertmanagerConnection
    lists = True
    docs = "https://prometheus.io/docs/alertmanager/latest/configuration/"
    permissions = (
        "HTTP: GET /api/v2/status, GET /metrics, POST /-/reload",
        "Kubernetes: get and update of the Secret that holds the configuration",
    )
    proof = "A real Alertmanager 0.31, alerts delivered to chats, a webhook and a real mail server"
    quirks = (
        (
            "The configuration stays in the Secret that is mounted into Alertmanager. The kubelet "
            "takes a minute or two to bring a change to the file, and the route is Progressing "
            "until Alertmanager has loaded it. A Secret mounted by subPath is never updated."
        ),
        (
            "No reloading sidecar is needed: while a change is not loaded, each look at the route "
            "calls POST /-/reload, which only reads the file again. Of several replicas only the "
            "one that answers at the endpoint is reloaded: the others need a sidecar."
        ),
        (
            "A configuration that Alertmanager refuses is withdrawn: the Secret gets back what was "
            "loaded before (kept under the key's name with .last-good), and the route shows "
            "Alertmanager's words."
        ),
        (
            "A new route stands before those of others and lets them have the alert too, unless "
            "continue is false. Comments in the configuration are lost when a route is written."
        ),
        (
            "Alertmanager repeats a notification only after a 5xx answer: one that Slack, Discord "
            "or Teams refuses for its rate limit is lost."
        ),
    )
    poll_after = 5.0

    async def read(self, id: str) -> Observed[AlertmanagerRouteParams] | None:
        return self._observed(await self.session.settled(id), id)

    async def read_all(self) -> AsyncIterator[Observed[AlertmanagerRouteParams]]:
        now = await self.session.look()
        for name, part in now.document.parts():
            yield self._observed_part(now, name, part)

    async def create(
        self, want: AlertmanagerRouteParams, owner: str
    ) -> Observed[AlertmanagerRouteParams] | str:
        def edit(document: Document) -> None:
            if document.part(want.name) is not None:
                raise Conflict(f"Alertmanager's configuration has a route {want.name} already")
            document.put(want.name, *_rendered(want, owner))

        now = await self.session.change(want.name, edit)
        return self._observed(now, want.name) or want.name

    async def update(
        self, id: str, want: AlertmanagerRouteParams, changed: frozenset[str], owner: str
    ) -> None:
        def edit(document: Document) -> None:
            document.put(id, *_merged(id, document.part(id), want, changed, owner))

        await self.session.change(id, edit)

    async def delete(self, id: str) -> None:
        await self.session.change(id, lambda document: document.remove(id), removes=True)

    def _observed(self, now: Configuration, id: str) -> Observed[AlertmanagerRouteParams] | None:
        part = now.document.part(id) or now.active.part(id)
        return None if part is None else self._observed_part(now, id, part)

    def _observed_part(
        self, now: Configuration, id: str, part: Part
    ) -> Observed[AlertmanagerRouteParams]:
        phase, message = Phase.READY, None
        if now.pending(id):
            gone = now.document.part(id) is None
            phase = Phase.DELETING if gone else Phase.PENDING
            message = now.words or f"{'taken out' if gone else 'written'}; {NOT_LOADED}"
        return Observed(
            id=id,
            actual=_decoded(id, part),
            phase=phase,
            owner=part.owner,
            url=self.session.url,
            message=message,
        )


def _rendered(want: AlertmanagerRouteParams, owner: str) -> tuple[JSON, dict[str, JSON]]:
    """The route and, by name, its receivers.

    The route's own receiver carries the owner's mark and gets no alert: below it is one route for
    each receiver, and all of them match. So the mark can change without a new notification.
    """
    mark = marker(owner, want.name)
    names = [f"{want.name}/{receiver.name}" for receiver in want.receivers]
    route = {
        "receiver": mark,
        "matchers": [_matcher(matcher) for matcher in want.matchers],
        "continue": want.continue_,
        "group_by": list(want.group_by),
        "group_wait": _duration(want.group_wait),
        "group_interval": _duration(want.group_interval),
        "repeat_interval": _duration(want.repeat_interval),
        "mute_time_intervals": list(want.mute_time_intervals),
        "routes": [{"receiver": name, "continue": True} for name in names],
    }
    configs = [_config(receiver, want.smtp) for receiver in want.receivers]
    receivers = {
        name: {"name": name, **config} for name, config in zip(names, configs, strict=True)
    }
    return route, {mark: {"name": mark}, **receivers}


def _merged(
    id: str,
    before: Part | None,
    want: AlertmanagerRouteParams,
    changed: frozenset[str],
    owner: str,
) -> tuple[JSON, dict[str, JSON]]:
    """What is there, with the changed fields as wanted."""
    route, receivers = _rendered(want.model_copy(update={"name": id}), owner)
    if before is None:
        return route, receivers
    told = {path.split(".")[0] for path in changed}
    stale = {key for field in told for key in CHANGED_KEYS.get(field, ())}
    kept = {key: value for key, value in before.route.items() if key not in stale}
    fresh = {key: value for key, value in route.items() if key in stale}
    for name in list(receivers):
        short = name.removeprefix(f"{id}/")
        path = f"receivers.{short}"
        mail = "smtp" in told and "email_configs" in receivers[name]
        if name in before.receivers and not mail and not _any_below(path, changed):
            receivers[name] = before.receivers[name]
    below = list(route["routes"])
    for name, config in before.receivers.items():
        short = name.removeprefix(f"{id}/")
        ours = name.startswith(f"{id}/") and name not in receivers
        if ours and not _any_below(f"receivers.{short}", changed):
            receivers[name] = config
            below.append({"receiver": name, "continue": True})
    if _names(before.route.get("routes")) == _names(below):
        below = before.route["routes"]
    return {**kept, **fresh, "receiver": route["receiver"], "routes": below}, receivers


def _any_below(path: str, changed: frozenset[str]) -> bool:
    return any(each == path or each.startswith(f"{path}.") for each in changed)


def _names(routes: Any) -> list[str]:
    return [route.get("receiver", "") for route in routes or () if isinstance(route, dict)]


def _config(receiver: Receiver, smtp: Smtp | None) -> JSON:
    """A receiver's one integration."""
    resolved = {"send_resolved": receiver.send_resolved}
    if (email := receiver.email) is not None:
        return {"email_configs": [{**resolved, "to": ", ".join(email.to), **_smtp(smtp)}]}
    if (webhook := receiver.webhook) is not None:
        config: JSON = {**resolved, "url": webhook.url.reveal()}
        if webhook.bearer_token is not None:
            token = webhook.bearer_token.reveal()
            config["http_config"] = {"authorization": {"type": "Bearer", "credentials": token}}
        return {"webhook_configs": [config]}
    kind = next(name for name in WEBHOOKS if getattr(receiver, name) is not None)
    chat: Chat = getattr(receiver, kind)
    text = {
        "channel": getattr(chat, "channel", None),
        "title": chat.title,
        "message" if kind == "discord" else "text": chat.text,
    }
    declared = {key: value for key, value in text.items() if value is not None}
    return {CONFIGS[kind]: [{**resolved, WEBHOOKS[kind]: chat.webhook_url.reveal(), **declared}]}


def _smtp(smtp: Smtp | None) -> JSON:
    if smtp is None:
        return {}
    login = {
        "auth_username": smtp.username,
        "auth_password": smtp.password.reveal() if smtp.password else None,
    }
    declared = {key: value for key, value in login.items() if value is not None}
    return {
        "smarthost": smtp.smarthost,
        "from": smtp.from_,
        "require_tls": smtp.require_tls,
        **declared,
    }


def _decoded(id: str, part: Part) -> AlertmanagerRouteParams:
    route, prefix = part.route, f"{id}/"
    names = [n for n in _names(route.get("routes")) if n.startswith(prefix)]
    configs = {name: part.receivers.get(name, {}) for name in names}
    fields: JSON = {
        "matchers": _matchers(route),
        "group_by": route.get("group_by"),
        "group_wait": _told_duration(route.get("group_wait")),
        "group_interval": _told_duration(route.get("group_interval")),
        "repeat_interval": _told_duration(route.get("repeat_interval")),
        "continue_": _true(route.get("continue")),
        "mute_time_intervals": route.get("mute_time_intervals") or [],
        "receivers": [
            _receiver(name.removeprefix(prefix), config) for name, config in configs.items()
        ],
    }
    mail = [_told_smtp(c) for config in configs.values() for c in config.get("email_configs") or ()]
    if mail:
        fields["smtp"] = mail[0] if all(each == mail[0] for each in mail) else None
    return AlertmanagerRouteParams.seen(**fields)


def _receiver(name: str, config: JSON) -> Receiver:
    told: JSON = {"name": name}
    for field, key in CONFIGS.items():
        one = next(iter(config.get(key) or ()), None)
        if one is None:
            told[field] = None
            continue
        told["send_resolved"] = _true(one.get("send_resolved"))
        told[field] = _integration(field, one)
    return _seen(Receiver, **told)


def _integration(field: str, config: JSON) -> Any:
    if field == "email":
        return _seen(Email, to=[to.strip() for to in str(config.get("to")).split(",")])
    if field == "webhook":
        authorization = (config.get("http_config") or {}).get("authorization") or {}
        token = authorization.get("credentials")
        return _seen(
            Webhook, url=_resolved(Value, str(config.get("url"))), bearer_token=_secret(token)
        )
    text = config.get("message" if field == "discord" else "text")
    told = {"title": config.get("title"), "text": text}
    told["webhook_url"] = _secret(config.get(WEBHOOKS[field]))
    if field == "slack":
        return _seen(Slack, channel=config.get("channel"), **told)
    return _seen(Chat, **told)


def _told_smtp(config: JSON) -> Smtp | None:
    if config.get("smarthost") is None and config.get("from") is None:
        return None
    return _seen(
        Smtp,
        smarthost=config.get("smarthost"),
        from_=config.get("from"),
        username=config.get("auth_username"),
        password=_secret(config.get("auth_password")),
        require_tls=_true(config.get("require_tls", "true")),
    )


def _seen(model: type[M], **fields: Any) -> M:
    return cast("M", model.model_construct(set(fields), **fields))


def _secret(text: str | None) -> SecretValue | None:
    return None if text is None else _resolved(SecretValue, text)


def _resolved(model: type[R], text: str) -> R:
    field = _seen(model)
    field.resolve(text, "")
    return field


def _matcher(matcher: Matcher) -> str:
    value = matcher.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{matcher.label}{matcher.operator}"{value}"'


def _matchers(route: JSON) -> list[Matcher]:
    told = [
        _seen(Matcher, label=label, operator=operator, value=value)
        for key, operator in (("match", "="), ("match_re", "=~"))
        for label, value in (route.get(key) or {}).items()
    ]
    for text in map(str, route.get("matchers") or ()):
        match = MATCHER.fullmatch(text)
        label, operator, value = match.groups() if match else (text, "=", "")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r'\\[\\"n]', lambda found: ESCAPED[found[0]], value[1:-1])
        told.append(_seen(Matcher, label=label, operator=operator, value=value))
    return told


def _true(text: object) -> bool:
    return text in ("true", "yes", "on")


def _duration(text: str) -> str:
    """Alertmanager knows no decimals."""
    return f"{round(seconds(text) * 1000)}ms" if "." in text else text


def _told_duration(text: object) -> object:
    """In the units that specs are written in."""
    told = duration(text)
    return text if told is None or not re.search("[dwy]", str(text)) else f"{told:.0f}s"
