"""A real Alertmanager 0.31.1 (2026-11-24), fed from a Secret as a kubelet does it.

In front of it stands a door of our own that holds every call of the API against the official
description (`alertmanager.openapi.json`) and then lets Alertmanager answer.
"""

import base64
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import yaml
from aiohttp import web

from auterity.engine.contract import SecretStore
from auterity.providers.alertmanager import AlertmanagerRoute
from tests.conformance.faults import Spoil
from tests.conformance.vendor import Edit, Refusal, Vendor
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer
from tools.loopback import answers
from tools.process import Process
from tools.servers.alertmanager import Alertmanager

JSON = dict[str, Any]
USER, PASSWORD = "operator", "alertmanager-password-4417"
BCRYPT = "$2b$04$9Pcr1GDDKyOFkeG/Od6xfu/6PSxqzmkr0yoGTljn9Z24QdFnsQ5ti"
"""The hash of the password, as Alertmanager's web configuration wants it."""
SECRET, KEY = "alertmanager-config", "alertmanager.yaml"
OTHERS = """\
# Kept by people: nothing of it may change.
global:
  smtp_smarthost: mail.example.com:587
  smtp_from: alerts@example.com
  smtp_auth_password: "others-smtp-password-9921"
  resolve_timeout: 5m
route:
  receiver: nobody
  group_by: ['alertname']
  routes:
    - receiver: watchdog
      matchers: [alertname="Watchdog"]
      repeat_interval: 1h
receivers:
  - name: nobody
  - name: watchdog
    webhook_configs:
      - url: "https://watchdog.example.com/ping/others-token-55120"
inhibit_rules:
  - source_matchers: [severity="page"]
    target_matchers: [severity="ticket"]
    equal: [service]
time_intervals:
  - name: nights
    time_intervals:
      - times: [{start_time: 17:30, end_time: 24:00}]
        weekdays: ['monday:friday']
  - name: holidays
    time_intervals: [{months: ['december'], days_of_month: ['24:26', '-1']}]
"""
AUTHORIZATION = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


class Loader(yaml.SafeLoader):
    """Reads as Alertmanager does: a time such as 17:30 is text."""

    yaml_implicit_resolvers: ClassVar[Any] = {  # type: ignore[misc]  # declared on instances there
        first: [(tag, pattern) for tag, pattern in known if tag.endswith((":bool", ":null"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class GuardedAlertmanager(Alertmanager):
    """Asks for user and password at every call."""

    def prepare(self, installed: Path) -> Process:
        process = super().prepare(installed)
        guard = self.folder / "web.yml"
        guard.write_text(yaml.safe_dump({"basic_auth_users": {USER: BCRYPT}}))
        process.args.append(f"--web.config.file={guard}")
        return process

    def ready(self) -> bool:
        return answers(f"{self.url}/-/ready", {"Authorization": AUTHORIZATION})


class AlertmanagerVendor(Vendor):
    provider = AlertmanagerRoute
    takes_time = True
    has_pending = True
    spec: ClassVar[JSON] = {
        "matchers": [
            {"label": "severity", "value": "page"},
            {"label": "service", "operator": "=~", "value": 'shop|"cart"|a\\.b'},
        ],
        "groupBy": ["service", "cluster"],
        "groupWait": "45s",
        "groupInterval": "90s",
        "repeatInterval": "24h",
        "receivers": [
            {
                "name": "chat",
                "slack": {
                    "webhookUrl": {"secretKeyRef": {"name": "hooks", "key": "slack"}},
                    "channel": "#alerts",
                    "title": "{{ .CommonLabels.alertname }}",
                },
            },
            {
                "name": "on call",
                "sendResolved": False,
                "webhook": {
                    "url": {"value": "https://oncall.example.com/hook"},
                    "bearerToken": {"secretKeyRef": {"name": "hooks", "key": "token"}},
                },
            },
            {"name": "mail", "email": {"to": ["team@example.com", "boss@example.com"]}},
        ],
        "alertmanager": {
            "muteTimeIntervals": ["nights"],
            "smtp": {
                "smarthost": "smtp.example.com:465",
                "from": "pager@example.com",
                "username": "pager",
                "password": {"secretKeyRef": {"name": "hooks", "key": "smtp"}},
            },
        },
    }
    edits = (
        Edit("other matchers", {"matchers": [{"label": "team", "operator": "!=", "value": ""}]}),
        Edit("no grouping", {"groupBy": []}),
        Edit("group wait", {"groupWait": "1.5m"}),
        Edit("group interval", {"groupInterval": "10m"}),
        Edit("repeat interval", {"repeatInterval": "36h"}),
        Edit("keep its alerts", {"alertmanager": {"continue": False}}),
        Edit("mute at other times", {"alertmanager": {"muteTimeIntervals": ["holidays"]}}),
        Edit("never mute", {"alertmanager": {"muteTimeIntervals": []}}),
        Edit("another mail server", {"alertmanager": {"smtp": {"smarthost": "[::1]:25"}}}),
        Edit("mail without TLS", {"alertmanager": {"smtp": {"requireTls": False}}}),
        Edit("one receiver fewer", {"receivers": spec["receivers"][:2]}),
        Edit(
            "every kind of chat",
            {
                "receivers": [
                    *spec["receivers"],
                    {
                        "name": "teams",
                        "teams": {
                            "webhookUrl": {"secretKeyRef": {"name": "hooks", "key": "teams"}},
                            "text": "see {{ .ExternalURL }}",
                        },
                    },
                    {
                        "name": "discord",
                        "discord": {
                            "webhookUrl": {"secretKeyRef": {"name": "hooks", "key": "discord"}},
                            "title": "alerts",
                            "text": "{{ len .Alerts }} of them",
                        },
                    },
                ]
            },
        ),
        Edit(
            "another kind under the same name",
            {
                "receivers": [
                    {
                        "name": "chat",
                        "discord": {
                            "webhookUrl": {"secretKeyRef": {"name": "hooks", "key": "discord"}}
                        },
                    },
                    {
                        "name": "on call",
                        "webhook": {"url": {"value": "https://other.example.com/hook"}},
                    },
                    {"name": "mail", "email": {"to": ["boss@example.com"]}, "sendResolved": False},
                ]
            },
        ),
    )
    refusal = Refusal(
        {"alertmanager": {"muteTimeIntervals": ["no-such-interval"]}},
        'undefined time interval "no-such-interval" used in route',
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "login": {"password": PASSWORD},
        "hooks": {
            "slack": "https://hooks.slack.example.com/services/T0/B0/qW3eR5tY7uI9",
            "teams": "https://teams.example.com/workflows/1?sig=pL0oK9iJ8uH7",
            "discord": "https://discord.example.com/api/webhooks/1/zX2cV4bN6m",
            "token": "bearer-aS1dF3gH5jK7",
            "smtp": "smtp-lK8jH6gF4dS2",
        },
        SECRET: {KEY: OTHERS, "page.tmpl": '{{ define "page" }}others{{ end }}'},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"login": {"password": "not-the-password"}}
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "hooks": {
            "slack": "https://hooks.slack.example.com/services/T0/B1/mN1bV3cX5z",
            "token": "bearer-rotated-qA2wS4eD6",
            "smtp": "smtp-rotated-zX9cV7bN5",
        }
    }

    def __init__(self) -> None:
        super().__init__()
        self.server = GuardedAlertmanager()
        self.description = Description.load("alertmanager.openapi.json")
        self.front = FakeServer()
        self.front.route("*", "/{tail:.*}", self._forward)
        self.broken: list[Violation] = []
        self.store: SecretStore | None = None

    @property
    def violations(self) -> list[Violation]:
        return self.broken

    @classmethod
    def missing(cls) -> str | None:
        return Alertmanager.available()

    async def start(self) -> None:
        self.server.start()
        self.session = aiohttp.ClientSession()
        self.url = await self.front.start()

    async def spoiled(self, spoil: Spoil) -> str | None:
        return await self.front.spoiled(spoil)

    async def stop(self) -> None:
        await self.front.stop()
        await self.session.close()
        self.server.stop()

    async def reset(self) -> None:
        self.slow = False
        if self.store is None:
            self.server.config_file.write_text(OTHERS)
        else:
            await self._write(OTHERS)
        await self._reload()

    def mount(self, secrets: SecretStore) -> None:
        self.store = secrets

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "configSecret": {"name": SECRET},
            "basic": {
                "username": USER,
                "password": {"secretKeyRef": {"name": "login", "key": "password"}},
            },
        }

    async def count(self) -> int:
        """Routes and receivers, in the Secret and as loaded."""
        loaded = await self._ask("GET", "/api/v2/status")
        both = (await self._document(), yaml.safe_load(loaded["config"]["original"]))
        return sum(len(each["route"]["routes"]) + len(each["receivers"]) for each in both)

    async def tamper(self, id: str) -> str:
        document = await self._document()
        self._route(document, id)["group_wait"] = "7m"
        await self._write(yaml.safe_dump(document))
        await self._reload()
        return "groupWait"

    async def vanish(self, id: str) -> None:
        document = await self._document()
        route = self._route(document, id)
        gone = {route["receiver"], *(child["receiver"] for child in route["routes"])}
        document["route"]["routes"].remove(route)
        document["receivers"] = [r for r in document["receivers"] if r["name"] not in gone]
        await self._write(yaml.safe_dump(document))
        await self._reload()

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        document = await self._document()
        receiver = name if owner is None else f"auterity:{owner}:{name}"
        matchers = [f"{m['label']}{m.get('operator', '=')}{m['value']}" for m in spec["matchers"]]
        route = {"receiver": receiver, "matchers": matchers[:1], "continue": True}
        document["route"]["routes"].append(route)
        document["receivers"].append(
            {"name": receiver, "webhook_configs": [{"url": "https://foreign.example.com/"}]}
        )
        await self._write(yaml.safe_dump(document))
        await self._reload()

    async def settle(self) -> None:
        await self.bring()

    async def told(self, id: str) -> str:
        return (await self._data())[0][KEY]

    def written(self, method: str) -> bool:
        # A reload makes Alertmanager look at its file; what is in there is only changed by us here.
        return method == "WriteSecret"

    async def bring(self) -> None:
        """What the kubelet does after a while: the Secret's content comes to the file."""
        if self.store is not None and (found := await self.store.read(SECRET)) is not None:
            self.server.config_file.write_text(found[0][KEY])

    async def _forward(self, request: web.Request, body: Any) -> web.StreamResponse:
        if not self.slow:
            await self.bring()
        path = request.path
        if path.startswith("/api/v2") and self.description is not None:
            violation = self.description.check(
                request.method,
                path.removeprefix("/api/v2"),
                query=dict(request.query),
                content_type=request.content_type if body else None,
                body=body,
            )
            if violation is not None:
                self.broken.append(violation)
        url = f"{self.server.url}{request.path_qs}"
        headers = {k: v for k, v in request.headers.items() if k == "Authorization"}
        async with self.session.request(request.method, url, headers=headers) as answer:
            kind = answer.headers.get("Content-Type", "text/plain").split(";")[0]
            return web.Response(body=await answer.read(), status=answer.status, content_type=kind)

    async def _ask(self, method: str, path: str) -> Any:
        headers = {"Authorization": AUTHORIZATION}
        async with self.session.request(method, f"{self.server.url}{path}", headers=headers) as got:
            assert got.status == 200, await got.text()
            return await got.json() if got.content_type.endswith("json") else await got.text()

    async def _reload(self) -> None:
        await self._ask("POST", "/-/reload")

    async def _data(self) -> tuple[dict[str, str], str]:
        assert self.store is not None
        found = await self.store.read(SECRET)
        assert found is not None
        return found

    async def _document(self) -> JSON:
        document: JSON = yaml.load((await self._data())[0][KEY], Loader)
        return document

    async def _write(self, text: str) -> None:
        """As a person with kubectl, the kubelet's work included."""
        data, version = await self._data()
        assert self.store is not None
        await self.store.write(SECRET, {**data, KEY: text}, version)
        await self.bring()

    @staticmethod
    def _route(document: JSON, id: str) -> JSON:
        return next(r for r in document["route"]["routes"] if r["receiver"].split(":")[-1] == id)
