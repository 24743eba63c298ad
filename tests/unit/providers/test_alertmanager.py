"""What is special of Alertmanager: a document of many owners, slow files, refusals, delivery."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from auterity.engine.reconcile import visit
from auterity.engine.subject import Key
from auterity.engine.verdict import Again
from auterity.transport.alertmanager_document import Document, Unreadable, carries, duration
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import Harness
from tests.fakes.alertmanager import AUTHORIZATION, KEY, OTHERS, SECRET, AlertmanagerVendor, Loader
from tools.loopback import request
from tools.servers.mailpit import Mailpit

JSON = dict[str, Any]
TEAM = {"label": "team", "value": "shop"}


class Routes:
    """Several routes of one Alertmanager, visited as the schedule would, one round at a time."""

    def __init__(self, harness: Harness, vendor: AlertmanagerVendor) -> None:
        self.harness, self.vendor, self.cluster = harness, vendor, harness.cluster

    def apply(self, name: str, **spec: Any) -> None:
        spec.setdefault("alertmanager", {})
        spec.setdefault("matchers", [TEAM])
        spec.setdefault("receivers", [webhook("https://hooks.example.com/1")])
        self.cluster.put("AlertRoute", name, {"connectionRef": {"name": "vendor"}, **spec})

    async def visit(self, name: str) -> str:
        verdict = await visit(self.harness.engine, self.subject(name))
        return "gone" if verdict.gone else verdict.outcome

    async def rounds(self, number: int, *, settle: bool = True) -> dict[str, str]:
        """Visits of all routes that do not rest, `number` times; the last outcomes."""
        outcomes: dict[str, str] = {}
        for _ in range(number):
            for key in [k for k in self.cluster.subjects if k.kind == "AlertRoute"]:
                verdict = await visit(self.harness.engine, self.cluster.subjects[key])
                outcomes[key.name] = verdict.outcome
                assert verdict.again is not Again.RETRY
            if settle:
                await self.vendor.settle()
        return outcomes

    def subject(self, name: str):
        return self.cluster.subjects[Key("AlertRoute", NAMESPACE, name)]

    def message(self, name: str) -> str:
        return self.subject(name).condition("Ready")["message"]

    @property
    def secret(self) -> dict[str, str]:
        return self.cluster.secrets[NAMESPACE, SECRET]

    @property
    def document(self) -> JSON:
        return yaml.load(self.secret[KEY], Loader)

    def write(self, text: str) -> None:
        """As a person with kubectl."""
        self.cluster.put_secret(SECRET, {**self.secret, KEY: text})


def webhook(url: str, name: str = "hook") -> JSON:
    return {"name": name, "webhook": {"url": {"value": url}}}


async def start(vendor: AlertmanagerVendor) -> Routes:
    await vendor.start()
    await vendor.reset()
    harness = Harness(vendor)
    await harness.start()
    return Routes(harness, vendor)


async def stop(routes: Routes) -> None:
    await routes.harness.stop()
    await routes.vendor.stop()


@pytest.fixture(scope="module", autouse=True)
def _alertmanager() -> None:
    if (reason := AlertmanagerVendor.missing()) is not None:
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture
async def routes() -> AsyncIterator[Routes]:
    it = await start(AlertmanagerVendor())
    try:
        yield it
    finally:
        await stop(it)


async def test_what_others_have_in_the_document_stays_as_it_is(routes: Routes):
    before = yaml.load(OTHERS, Loader)
    routes.apply("page")
    routes.apply("ticket")
    assert await routes.rounds(2) == {"page": "Ready", "ticket": "Ready"}
    after = routes.document
    ours = [r["receiver"] for r in after["route"]["routes"][:2]]
    assert ours == [f"auterity:testcluster/{NAMESPACE}/{n}:{n}" for n in ("page", "ticket")]
    assert list(after) == list(before)
    del after["route"]["routes"][:2]
    assert [r["name"] for r in after["receivers"][2:]] == [
        f"auterity:testcluster/{NAMESPACE}/page:page",
        "page/hook",
        f"auterity:testcluster/{NAMESPACE}/ticket:ticket",
        "ticket/hook",
    ]
    del after["receivers"][2:]
    assert after == before
    assert routes.secret["page.tmpl"] == AlertmanagerVendor.secrets[SECRET]["page.tmpl"]


async def test_a_bad_route_among_many_written_at_once_is_found_and_blocks_nobody(routes: Routes):
    routes.vendor.slow = True
    for name in "abcdef":
        routes.apply(name, alertmanager={"muteTimeIntervals": ["never"]} if name == "d" else {})
    assert set((await routes.rounds(1, settle=False)).values()) == {"Progressing"}
    outcomes = await routes.rounds(20)
    assert outcomes == {**dict.fromkeys("abcef", "Ready"), "d": "SpecRejected"}
    assert 'undefined time interval "never"' in routes.message("d")
    assert "d/hook" not in routes.secret[KEY]
    routes.apply("d")
    assert (await routes.rounds(3))["d"] == "Ready"


async def test_a_refusal_that_shows_only_when_the_file_arrives_is_withdrawn(routes: Routes):
    routes.vendor.slow = True
    routes.apply("page")
    await routes.rounds(3)
    good = routes.secret[KEY]
    routes.apply("page", groupInterval="0s")
    await routes.visit("page")
    assert "group_interval: 0s" in routes.secret[KEY]
    await routes.vendor.settle()
    assert await routes.visit("page") == "SpecRejected"
    assert "group_interval cannot be zero" in routes.message("page")
    assert routes.secret[KEY] == good
    routes.harness.forget_faults()
    assert await routes.visit("page") == "SpecRejected"
    assert routes.harness.vendor_writes() == [], "what was refused is not written again"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("ftp://{}", "unsupported scheme"),
        ("https://user:leakyLEAKY77/{}", "invalid port"),
        ("https://a b.{}", "invalid character"),
    ],
)
async def test_a_secret_that_alertmanager_refuses_is_noticed_and_not_told(
    routes: Routes, bad: str, words: str
):
    leaky = "hooks.example.com/services/T0/B0/leakyLEAKY77"
    chat = {"webhookUrl": {"secretKeyRef": {"name": "chat", "key": "url"}}}
    routes.cluster.put_secret("chat", {"url": f"https://{leaky}"})
    routes.apply("page", receivers=[{"name": "chat", "slack": chat}])
    assert (await routes.rounds(2))["page"] == "Ready"
    routes.cluster.put_secret("chat", {"url": bad.format(leaky)})
    assert (await routes.rounds(2))["page"] == "SpecRejected"
    assert words in routes.message("page")
    assert "leakyLEAKY77" not in routes.harness.everything_told()
    assert f"https://{leaky}" in routes.secret[KEY]


async def test_an_alertmanager_that_cannot_start_with_a_change_gets_back_what_it_had(
    routes: Routes,
):
    routes.vendor.slow = True
    routes.apply("page")
    await routes.rounds(3)
    good, server = routes.secret[KEY], routes.vendor.server
    routes.apply("bad", groupInterval="0s")
    assert await routes.visit("bad") == "Progressing"
    server._end()
    assert [await routes.visit("page") for _ in range(2)] == ["ProviderUnavailable"] * 2
    assert "bad/hook" in routes.secret[KEY], "it may be away for a moment only"
    assert await routes.visit("bad") == "ProviderUnavailable"
    assert routes.secret[KEY] == good
    server._launch()
    await routes.vendor.bring()
    await routes.vendor._reload()
    routes.harness.forgive()
    assert await routes.rounds(3) == {"page": "Ready", "bad": "SpecRejected"}


async def test_an_outage_takes_nothing_back_that_was_loaded(routes: Routes):
    routes.apply("page")
    routes.apply("other")
    await routes.rounds(2)
    held = routes.secret[KEY]
    routes.vendor.server._end()
    for _ in range(5):
        assert await routes.visit("page") == "ProviderUnavailable"
    assert routes.secret[KEY] == held


async def test_an_edit_by_a_person_that_is_refused_stops_changes_and_is_not_ours_to_undo(
    routes: Routes,
):
    routes.apply("page")
    await routes.rounds(2)
    broken = routes.secret[KEY].replace("receiver: nobody", "receiver: missing")
    routes.write(broken)
    await routes.vendor.settle()
    assert await routes.visit("page") == "Ready", "what was loaded still works"
    routes.apply("other")
    assert await routes.visit("other") == "Progressing"
    assert 'undefined receiver "missing"' in routes.message("other")
    assert routes.secret[KEY] == broken
    routes.write(broken.replace("receiver: missing", "receiver: nobody"))
    assert await routes.rounds(3) == {"page": "Ready", "other": "Ready"}


async def test_a_secret_that_is_not_what_alertmanager_has_loaded_is_not_written(routes: Routes):
    routes.vendor.slow = True
    routes.write(OTHERS.replace("watchdog", "stray"))
    routes.apply("page")
    assert await routes.visit("page") == "Progressing"
    assert "mounted as the configuration" in routes.message("page")
    assert "page/hook" not in routes.secret[KEY]


async def test_a_configuration_rewritten_on_its_way_counts_as_loaded():
    class Rewritten(AlertmanagerVendor):
        """As prometheus-operator does: other order and spelling, receivers of its own."""

        async def bring(self) -> None:
            document = await self._document()
            document["receivers"].insert(0, {"name": "from-elsewhere"})
            self.server.config_file.write_text(yaml.safe_dump(document, sort_keys=True))

    it = await start(Rewritten())
    try:
        it.apply("page", groupWait="90s", alertmanager={"continue": False})
        assert (await it.rounds(2))["page"] == "Ready"
        it.apply("page", groupWait="2m", groupBy=["team"])
        assert (await it.rounds(2))["page"] == "Ready"
        it.cluster.delete(Key("AlertRoute", NAMESPACE, "page"))
        await it.rounds(1)
        assert await it.vendor.count() == 2 * 3 + 1
    finally:
        await stop(it)


async def test_a_route_goes_while_the_configuration_is_refused_for_another_reason(routes: Routes):
    routes.apply("page")
    routes.apply("stays")
    await routes.rounds(2)
    broken = routes.secret[KEY].replace("receiver: nobody", "receiver: missing")
    routes.write(broken)
    routes.cluster.delete(Key("AlertRoute", NAMESPACE, "page"))
    assert await routes.visit("page") == "Deleting"
    assert 'undefined receiver "missing"' in routes.message("page")
    assert "page/hook" not in routes.secret[KEY]
    routes.write(routes.secret[KEY].replace("receiver: missing", "receiver: nobody"))
    assert await routes.visit("page") == "gone"
    assert await routes.visit("stays") == "Ready"


def test_words_about_a_file_that_is_no_longer_the_present_one_show_no_secret():
    words = 'parse "https://hooks.example.com/old\\"er": bad; `abc-def`; ftp://old.example.com/x'
    assert Document(OTHERS).hide(words) == "parse <secret>: bad; <secret>; <secret>"


async def test_a_receiver_of_that_name_is_not_overwritten(routes: Routes):
    routes.write(OTHERS.replace("watchdog\n", "page/hook\n"))
    await routes.vendor.settle()
    routes.apply("page")
    assert await routes.visit("page") == "Conflict"
    assert "page/hook" in routes.message("page")


async def test_a_receiver_that_another_route_leads_to_outlives_its_route(routes: Routes):
    routes.apply("page")
    await routes.rounds(2)
    routes.write(routes.secret[KEY].replace("receiver: watchdog", "receiver: page/hook"))
    await routes.vendor.settle()
    await routes.rounds(2)
    routes.cluster.delete(Key("AlertRoute", NAMESPACE, "page"))
    await routes.rounds(2)
    assert [r["name"] for r in routes.document["receivers"]] == ["nobody", "watchdog", "page/hook"]


async def test_an_update_leaves_fields_that_are_left_to_others(routes: Routes):
    routes.apply("page", createOnly=["groupWait"])
    await routes.rounds(2)
    await routes.vendor.tamper("page")
    routes.apply("page", createOnly=["groupWait"], repeatInterval="8h")
    assert (await routes.rounds(2))["page"] == "Ready"
    route = routes.document["route"]["routes"][0]
    assert (route["group_wait"], route["repeat_interval"]) == ("7m", "8h")


async def test_an_unreadable_document_is_told_without_quoting_it(routes: Routes):
    routes.write("route: {receiver: nobody\npassword-12345: [")
    routes.apply("page")
    assert await routes.visit("page") == "DependencyNotReady"
    assert "not YAML (line" in routes.message("page")
    assert "password-12345" not in routes.message("page")


async def test_of_two_writers_the_slower_one_looks_again(routes: Routes):
    for name in "abcdefgh":
        routes.apply(name)
    other = Harness.__new__(Harness)
    other.__dict__.update(routes.harness.__dict__)
    other.restart()
    both = (routes.harness, other)
    subjects = [routes.subject(name) for name in "abcdefgh"]
    await asyncio.gather(
        *(visit(both[i % 2].engine, subject) for i, subject in enumerate(subjects))
    )
    await other.connections.close()
    assert set((await routes.rounds(3)).values()) == {"Ready"}
    assert len(routes.document["route"]["routes"]) == 8 + 1


@pytest.mark.parametrize(
    ("told", "written", "same"),
    [
        ("<secret>", "https://x", True),
        ("1m30s", "90s", True),
        ("1d", "24h", True),
        ("2m", "90s", False),
        (None, [], True),
        ({"a": "1", "b": "2"}, {"a": "1"}, True),
        ({"a": ["1"]}, {"a": ["1", "2"]}, False),
        (None, "x", False),
    ],
)
def test_what_alertmanager_tells_is_compared_with_what_was_written(told, written, same):
    assert carries(told, written) is same


def test_durations_of_alertmanager_are_read():
    assert duration("1w2d") == 9 * 86400
    assert duration("soon") is None


@pytest.mark.parametrize("text", ["", "[]", "route: x", "a: [", "receivers: []"])
def test_what_is_no_configuration_is_unreadable(text: str):
    with pytest.raises(Unreadable):
        Document(text)


def test_anchors_comments_and_quirks_of_yaml_survive_as_far_as_they_mean_something():
    text = (
        "x-hook: &hook {url: 'https://a.example.com'}\n"
        "route: {receiver: nobody, routes: [{receiver: a, match: {on: yes}}]}\n"
        "receivers: [{name: nobody}, {name: a, webhook_configs: [*hook]}]\n"
        "time_intervals: [{name: n, time_intervals: [{times: [{start_time: 17:30}]}]}]\n"
    )
    document = Document(text)
    document.put("new", {"receiver": "new", "routes": []}, {"new": {"name": "new"}})
    document.remove("new")
    assert yaml.load(document.text(), Loader) == yaml.load(text, Loader)


async def test_an_alert_reaches_every_kind_of_receiver(routes: Routes):
    if (reason := Mailpit.available()) is not None:
        pytest.skip(reason)
    got: dict[str, Any] = {}

    async def receive(request: web.Request) -> web.Response:
        body = await request.json()
        name = request.match_info["name"]
        problem = CHECKS[name](body, request)
        got[name] = problem or body
        return web.Response(
            status=400 if problem else {"teams": 202, "discord": 204}.get(name, 200)
        )

    app = web.Application()
    app.router.add_post("/{name}", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    hooks = {name: f"{url}/{name}" for name in ("slack", "teams", "discord")}
    routes.cluster.put_secret("receivers", {**hooks, "token": "bearer-delivered-1"})

    def chat(name: str, **more: str) -> JSON:
        ref = {"secretKeyRef": {"name": "receivers", "key": name}}
        return {"name": name, name: {"webhookUrl": ref, "title": "{{ .Status }}", **more}}

    token = {"secretKeyRef": {"name": "receivers", "key": "token"}}
    hook = {"url": {"value": f"{url}/webhook"}, "bearerToken": token}
    with Mailpit() as mailpit:
        routes.apply(
            "delivered",
            groupWait="0s",
            groupInterval="1s",
            receivers=[
                chat("slack", channel="#alerts", text="{{ .CommonAnnotations.summary }}"),
                chat("teams", text="{{ .CommonAnnotations.summary }}"),
                chat("discord", text="{{ .CommonAnnotations.summary }}"),
                {"name": "webhook", "webhook": hook},
                {"name": "mail", "email": {"to": ["a@example.com", "b@example.com"]}},
            ],
            alertmanager={
                "smtp": {
                    "smarthost": f"127.0.0.1:{mailpit.smtp_port}",
                    "from": "pager@example.com",
                    "requireTls": False,
                }
            },
        )
        try:
            assert (await routes.rounds(2))["delivered"] == "Ready"
            await alert(routes, {"alertname": "Down", "team": "shop"}, "the shop is shut")
            mails = await delivered(mailpit, got, len(CHECKS))
        finally:
            await runner.cleanup()
    assert set(got) == set(CHECKS)
    assert not [problem for problem in got.values() if isinstance(problem, str)], got
    assert [mail["From"]["Address"] for mail in mails] == ["pager@example.com"]
    assert sorted(to["Address"] for to in mails[0]["To"]) == ["a@example.com", "b@example.com"]
    assert "Down" in mails[0]["Subject"]


async def alert(routes: Routes, labels: JSON, summary: str) -> None:
    body = [{"labels": labels, "annotations": {"summary": summary}}]
    url = f"{routes.vendor.server.url}/api/v2/alerts"
    async with (
        ClientSession(headers={"Authorization": AUTHORIZATION}) as session,
        session.post(url, json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def delivered(mailpit: Mailpit, got: JSON, number: int) -> list[JSON]:
    for _ in range(200):
        found = await asyncio.to_thread(request, "GET", f"{mailpit.url}/api/v1/messages")
        mails: list[JSON] = json.loads(found)["messages"]
        if mails and len(got) == number:
            return mails
        await asyncio.sleep(0.05)
    raise AssertionError(f"delivered only to {sorted(got)}")


def slack_problem(body: JSON, _: web.Request) -> str | None:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/."""
    text = (body.get("attachments") or [{}])[0].get("text")
    return None if (body.get("channel"), text) == ("#alerts", "the shop is shut") else "no_text"


def teams_problem(body: JSON, _: web.Request) -> str | None:
    """What the trigger of a Teams workflow takes: a message with an adaptive card."""
    (card,) = body["attachments"]
    kinds = (body["type"], card["contentType"], card["content"]["type"])
    if kinds != ("message", "application/vnd.microsoft.card.adaptive", "AdaptiveCard"):
        return f"not a card: {kinds}"
    return None if "the shop is shut" in json.dumps(card["content"]["body"]) else "no text"


def discord_problem(body: JSON, _: web.Request) -> str | None:
    """https://docs.discord.com/developers/resources/webhook#execute-webhook."""
    (embed,) = body["embeds"]
    if len(body.get("content") or "") > 2000 or len(embed["title"]) > 256:
        return "too long"
    return None if embed["description"] == "the shop is shut" else "no text"


def webhook_problem(body: JSON, request: web.Request) -> str | None:
    if request.headers.get("Authorization") != "Bearer bearer-delivered-1":
        return "no token"
    if body["receiver"] != "delivered/webhook" or body["version"] != "4":
        return "not Alertmanager's"
    return None if body["alerts"][0]["labels"]["team"] == "shop" else "not the alert"


CHECKS = {
    "slack": slack_problem,
    "teams": teams_problem,
    "discord": discord_problem,
    "webhook": webhook_problem,
}
