"""Alertmanager: the Secret that its configuration is kept in, and its HTTP interface.

https://prometheus.io/docs/alertmanager/latest/configuration/ and, for the calls,
https://prometheus.io/docs/alertmanager/latest/management_api/
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import httpx

from auterity.api.connection import RateLimit
from auterity.api.fields import Model, ObjectName, SecretKey, SecretValue, Text
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Identity, SecretStore
from auterity.engine.errors import Busy, DependencyNotReady, Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.alertmanager_document import Document, Part, Unreadable, carries
from auterity.transport.rest import RestConnector, RestSession

LAST_GOOD: Final = ".last-good"
"""Ending of the Secret's key that keeps the configuration Alertmanager had loaded last."""
ONE_BY_ONE: Final = ".one-by-one"
"""Ending of the Secret's key that says how many changes are to be tried one at a time."""
LARGEST_SECRET: Final = 1_000_000
"""Bytes; Kubernetes refuses Secrets above 1 MiB."""
SILENCES: Final = 3
"""Calls in a row without an answer after which a change is taken for the reason."""
MOST_REFUSALS: Final = 256
MOST_DOCUMENTS: Final = 4
"""Parsed documents that are kept: the present one, the last good one, and their successors."""
_REFUSED: Final = "failed to reload config"
NOT_LOADED: Final = (
    "Alertmanager has not loaded the change yet: the kubelet takes a minute or two to bring a "
    "changed Secret to its file"
)


class ConfigSecret(Model):
    """The Secret that holds Alertmanager's configuration and is mounted into it."""

    name: ObjectName
    """Name of the Secret, in the Connection's own namespace."""
    key: SecretKey = "alertmanager.yaml"
    """Key of the configuration within it."""


class BasicAuth(Model):
    """A user and password."""

    username: Text
    """Name of the user."""
    password: SecretValue
    """Its password."""


class AlertmanagerConnection(RestConnector):
    """An Alertmanager, and the Secret that its configuration is kept in."""

    vendor = "alertmanager"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=50, burst=100, concurrent=8)
    at_most_one_of = ("bearer_token", "basic")

    config_secret: ConfigSecret
    """The Secret that holds Alertmanager's configuration. Routes are written into it, so nothing
    else, such as Helm or Argo CD, may reset it."""
    bearer_token: SecretValue | None = None
    """Sent as Authorization: Bearer, for an Alertmanager behind a proxy."""
    basic: BasicAuth | None = None
    """User and password, as in Alertmanager's web configuration file."""

    def headers(self) -> Mapping[str, str]:
        if self.bearer_token is not None:
            return {"Authorization": f"Bearer {self.bearer_token.reveal()}"}
        if self.basic is not None:
            pair = f"{self.basic.username}:{self.basic.password.reveal()}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    async def identify(self, session: RestSession) -> Identity:
        status = await session.call("GET", "/api/v2/status")
        try:
            version = status["versionInfo"]["version"]
        except (KeyError, TypeError) as error:
            raise Unavailable("the answer is not that of Alertmanager's API v2") from error
        return Identity(f"Alertmanager {version} at {session.client.base_url.host}")

    async def open(self, access: Access) -> "AlertmanagerSession":
        rest = await super().open(access)
        return AlertmanagerSession(access.door, rest.client, self, access.secrets)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the Secret holds and what Alertmanager has loaded."""

    data: Mapping[str, str]
    """The whole Secret."""
    version: str
    document: Document
    good: Document | None
    """The configuration that was loaded before `document` was written, unless `document` is."""
    active: Document
    """What Alertmanager has loaded: `document`, `good`, or what it tells, with secrets masked."""
    accepted: bool
    """Whether Alertmanager took the last file that it was told to load."""
    one_by_one: int
    words: str = ""
    """Why Alertmanager refuses to load it, if it does and there is nothing to go back to."""

    def part(self, name: str) -> Part | None:
        """What is declared of a route."""
        return self.document.part(name)

    def pending(self, name: str) -> bool:
        """Whether Alertmanager has something else loaded of this route than is declared."""
        if self.active is self.document:
            return False
        declared, loaded = self.document.part(name), self.active.part(name)
        if declared is None or loaded is None or self.known:
            return declared != loaded
        if not carries([loaded.route, loaded.receivers], [declared.route, declared.receivers]):
            return True
        # Only its secrets may differ, and those are not told.
        return not self.accepted and self.good is not None and declared != self.good.part(name)

    @property
    def known(self) -> bool:
        """Whether it is known to the letter what is loaded, secrets included."""
        return self.active in (self.document, self.good)

    @property
    def strange(self) -> bool:
        """Whether Alertmanager has a configuration that does not come from this Secret."""
        return not self.known and not (
            self.document.receiver_names() <= self.active.receiver_names()
        )


class AlertmanagerSession(RestSession):
    """Changes the configuration, has it loaded, and goes back where Alertmanager refuses it."""

    def __init__(
        self,
        door: Door,
        client: httpx.AsyncClient,
        connector: AlertmanagerConnection,
        secrets: SecretStore,
    ) -> None:
        super().__init__(door, client, connector)
        self._secrets = secrets
        self._secret, self._key = connector.config_secret.name, connector.config_secret.key
        self._writing = asyncio.Lock()
        self._documents: dict[str, Document] = {}
        self._seen = ""
        """The last document that Alertmanager was seen to have loaded."""
        self._silences = 0
        self._refusals: dict[str, str] = {}
        """Why Alertmanager refused a route, by a digest of all that this depends on."""

    @property
    def url(self) -> str:
        """Where a person sees the loaded configuration."""
        return f"{str(self.client.base_url).rstrip('/')}/#/status"

    async def look(self) -> Configuration:
        """The Secret and what is loaded. Raises DependencyNotReady if there is no configuration."""
        data, version, document = await self._read()
        try:
            loaded, accepted = await self._loaded()
        except Unavailable:
            await self._survive(data, version, document)
            raise
        self._silences = 0
        good, active = None, document
        if loaded != _hash(data[self._key]):
            good = self._former(former := data.get(self._key + LAST_GOOD))
            from_secret = former is not None and loaded == _hash(former)
            active = good if good is not None and from_secret else await self._told()
        if active is document:
            self._seen = data[self._key]
        tries = data.get(self._key + ONE_BY_ONE, "")
        return Configuration(
            data, version, document, good, active, accepted, int(tries) if tries.isdigit() else 0
        )

    async def settled(self, name: str) -> Configuration:
        """The same, after having a route loaded that is not; withdrawn if it was refused."""
        now = await self.look()
        return await self._load(name) if now.pending(name) else now

    async def change(
        self, name: str, edit: Callable[[Document], None], *, removes: bool = False
    ) -> Configuration:
        """Edit the document, write it if it differs, and have it loaded.

        Raises Rejected with Alertmanager's words if it refuses the new configuration (the former
        one is then back in the Secret), and Busy while it is not the time for changes.
        """
        async with self._writing:
            now = await self.look()
            digest = await self._write_edited(name, now, edit, removes=removes)
        if digest is None:
            return await self.settled(name)
        after = await self._load(name)
        self._refuse(digest)
        return after

    async def _write_edited(
        self, name: str, now: Configuration, edit: Callable[[Document], None], *, removes: bool
    ) -> str | None:
        """Write an edited document; a digest of the edited route, None if nothing changes."""
        draft = now.document.copy()
        edit(draft)
        if draft.text() == now.document.text():
            return None
        digest = _digest(draft, name)
        self._refuse(digest)
        if not removes:
            turn = await self._turn(now)
            if turn is not now:
                now, draft = turn, turn.document.copy()
                edit(draft)
        former = self._key if now.active is not now.good else self._key + LAST_GOOD
        left = now.one_by_one if removes else max(0, now.one_by_one - 1)
        await self._write(now, draft, now.data[former], left)
        return digest

    async def _turn(self, now: Configuration) -> Configuration:
        """What is there once Alertmanager has taken what it was given before; else raises Busy.

        Only then is a later refusal the fault of a later change.
        """
        if now.active is not now.document or not now.accepted:
            words = await self._reload()
            if words is not None:
                raise Busy(
                    f"Alertmanager refuses the configuration in Secret {self._secret}: "
                    f"{now.document.hide(words)}; changes wait until it is mended"
                )
            now = await self.look()
            if now.strange:
                raise Busy(
                    f"Alertmanager has not loaded what is in Secret {self._secret}; if this "
                    f"lasts, see whether its key {self._key} is mounted as the configuration"
                )
        if now.one_by_one and now.active is not now.document:
            raise Busy("several routes are tried one at a time: Alertmanager refuses one of them")
        return now

    async def _load(self, name: str) -> Configuration:
        """Have Alertmanager read its file; a refusal of changes of ours takes them back."""
        words = await self._reload()
        if words is None:
            return await self.look()
        async with self._writing:
            now = await self.look()
            if not now.pending(name):
                return now
            words = now.document.hide(words)
            # What was taken out is never the reason: nothing else leads to it.
            changed = [each for each in sorted(now.document.names()) if now.pending(each)]
            if now.good is None or name not in changed:
                told = f"waits, as Alertmanager refuses the configuration: {words}"
                return replace(now, words=told)
            if len(changed) == 1:
                self._remember(_digest(now.document, name), words)
            async with self.door.call("WriteSecret"):
                await self._withdraw(now.data, now.version, now.document, now.good, changed)
            return await self.look()

    async def _read(self) -> tuple[dict[str, str], str, Document]:
        found = await self._secrets.read(self._secret)
        where = f"Secret {self._secret}"
        if found is None:
            raise DependencyNotReady(f"{where}, Alertmanager's configuration, does not exist")
        data, version = found
        if self._key not in data:
            raise DependencyNotReady(
                f"{where} has no key {self._key}, Alertmanager's configuration"
            )
        try:
            return data, version, self._document(data[self._key])
        except Unreadable as error:
            raise DependencyNotReady(
                f"key {self._key} of {where} is no configuration of Alertmanager: {error}; mend it"
            ) from None

    async def _write(self, now: Configuration, draft: Document, good: str, one_by_one: int) -> None:
        data = {**now.data, self._key: draft.text(), self._key + LAST_GOOD: good}
        data = self._counted(data, one_by_one)
        if sum(len(value.encode()) for value in data.values()) > LARGEST_SECRET:
            raise Rejected(
                f"Secret {self._secret} would become larger than Kubernetes allows (1 MiB); "
                "remove routes, or use another Alertmanager"
            )
        async with self.door.call("WriteSecret"):
            await self._secrets.write(self._secret, data, now.version)
        self._keep(draft.text(), draft)

    async def _withdraw(
        self,
        data: Mapping[str, str],
        version: str,
        document: Document,
        good: Document,
        changed: Sequence[str],
    ) -> None:
        """Take back what these routes have changed since the last good document."""
        draft = document.copy()
        for each in changed:
            draft.restore(each, good)
        several = len(changed) if len(changed) > 1 else 0
        await self._secrets.write(
            self._secret, self._counted({**data, self._key: draft.text()}, several), version
        )

    async def _survive(self, data: Mapping[str, str], version: str, document: Document) -> None:
        """Where Alertmanager is silent since a change, the change may be why it cannot start.

        It comes back with the last good configuration, and the change is then tried again. Not
        through the door, which an unanswering Alertmanager closes.
        """
        self._silences += 1
        good = self._former(data.get(self._key + LAST_GOOD))
        if self._silences < SILENCES or data[self._key] == self._seen or good is None:
            return
        ours = sorted(document.names())
        if changed := [each for each in ours if document.part(each) != good.part(each)]:
            with suppress(Busy):
                await self._withdraw(data, version, document, good, changed)

    def _counted(self, data: Mapping[str, str], one_by_one: int) -> dict[str, str]:
        key = self._key + ONE_BY_ONE
        rest = {name: value for name, value in data.items() if name != key}
        return {**rest, key: str(one_by_one)} if one_by_one else rest

    def _document(self, text: str) -> Document:
        """The document, parsed once for all who look at it."""
        document = self._documents.get(text) or Document(text)
        self._keep(text, document)
        return document

    def _keep(self, text: str, document: Document) -> None:
        self._documents.pop(text, None)
        self._documents[text] = document
        while len(self._documents) > MOST_DOCUMENTS:
            del self._documents[next(iter(self._documents))]

    def _former(self, text: str | None) -> Document | None:
        try:
            return None if text is None else self._document(text)
        except Unreadable:
            return None

    async def _loaded(self) -> tuple[float, bool]:
        """The hash of what is loaded, and whether the last load succeeded."""
        metrics = str(await self.call("GET", "/metrics"))
        told = dict(
            line.rsplit(" ", 1)
            for line in metrics.splitlines()
            if line.startswith("alertmanager_config_")
        )
        try:
            loaded = float(told["alertmanager_config_hash"])
            return loaded, float(told["alertmanager_config_last_reload_successful"]) == 1
        except (KeyError, ValueError) as error:
            raise Unavailable(
                "/metrics does not tell which configuration is loaded; is the endpoint right?"
            ) from error

    async def _told(self) -> Document:
        """What Alertmanager tells of its configuration: secrets are masked."""
        status = await self.call("GET", "/api/v2/status")
        try:
            return Document(status["config"]["original"])
        except (KeyError, TypeError, Unreadable) as error:
            raise Unavailable("the answer is not that of Alertmanager's API v2") from error

    async def _reload(self) -> str | None:
        """Have the file loaded; Alertmanager's words if it refuses it and keeps what it has."""
        answer = await http.send(
            self.door, self.client, "POST", "/-/reload", label="Reload", concerns_all=_unreachable
        )
        if _is_refusal(answer):
            return " ".join(str(answer.body).removeprefix(f"{_REFUSED}:").split())
        if (failure := self.connector.failure(answer)) is not None:
            raise failure
        return None

    def _remember(self, digest: str, words: str) -> None:
        while len(self._refusals) >= MOST_REFUSALS:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[digest] = words

    def _refuse(self, digest: str) -> None:
        if (words := self._refusals.get(digest)) is not None:
            raise Rejected(f"Alertmanager refuses it: {words[: http.LONGEST_REASON]}")


def _is_refusal(answer: http.Answer) -> bool:
    return answer.status == 500 and str(answer.body).startswith(_REFUSED)


def _unreachable(answer: http.Answer) -> Failure | None:
    return None if _is_refusal(answer) else http.held(answer)


def _digest(document: Document, name: str) -> str:
    return hashlib.sha256(document.essence(name).encode()).hexdigest()


def _hash(text: str) -> float:
    """As Alertmanager's metric alertmanager_config_hash: the first 48 bits of an MD5 sum."""
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return float(int.from_bytes(digest[:6], "little"))
