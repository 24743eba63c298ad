"""Alertmanager: the Secret that its configuration is kept in, and its HTTP interface.

https://prometheus.io/docs/alertmanager/latest/configuration/ and, for the calls,
https://prometheus.io/docs/alertmanager/latest/management_api/
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
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
MOST_REFUSALS: Final = 256
_REFUSED: Final = "failed to reload config"
NOT_LOADED: Final = (
    "written; Alertmanager has not loaded it yet: the kubelet takes a minute or two to bring a "
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
    """The configuration loaded before the present one was written."""
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
        declared, loaded = self.document.part(name), self.active.part(name)
        if declared is None or loaded is None or self.known:
            return declared != loaded
        return not carries(loaded.route, declared.route) or not carries(
            loaded.receivers, declared.receivers
        )

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
        self._refusals: dict[str, str] = {}
        """Why Alertmanager refused a configuration, by its digest: it is not written again."""

    @property
    def url(self) -> str:
        """Where a person sees the loaded configuration."""
        return f"{str(self.client.base_url).rstrip('/')}/#/status"

    async def look(self) -> Configuration:
        """The Secret and what is loaded. Raises DependencyNotReady if there is no configuration."""
        data, version, document = await self._read()
        loaded, accepted = await self._loaded()
        good = _parsed(data.get(self._key + LAST_GOOD))
        if loaded == _hash(data[self._key]):
            active = document
        elif good is not None and loaded == _hash(data[self._key + LAST_GOOD]):
            active = good
        else:
            active = await self._told()
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
            digest = await self._write_edited(now, edit, removes=removes)
        if digest is None:
            return await self.settled(name)
        after = await self._load(name)
        self._refuse(digest)
        return after

    async def _write_edited(
        self, now: Configuration, edit: Callable[[Document], None], *, removes: bool
    ) -> str | None:
        """Write an edited document; its digest, or None if the edit changes nothing."""
        before = now.document.text()
        edit(now.document)
        text = now.document.text()
        if text == before:
            return None
        self._refuse(_digest(text))
        if not removes and (newer := await self._turn(now)) is not now:
            return await self._write_edited(newer, edit, removes=True)
        former = self._key if now.active is not now.good else self._key + LAST_GOOD
        await self._write(now, text, now.data[former], max(0, now.one_by_one - 1))
        return _digest(text)

    async def _turn(self, now: Configuration) -> Configuration:
        """What is there once Alertmanager has taken what it was given before; else raises Busy.

        Only then is a later refusal the fault of a later change.
        """
        if not now.known or not now.accepted:
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
            if now.good is None or now.active is not now.good:
                told = f"written, but Alertmanager refuses the configuration: {words}"
                return replace(now, words=told)
            self._remember(_digest(now.data[self._key]), words)
            ours = {*now.document.names(), *now.good.names()}
            changed = [each for each in sorted(ours) if now.pending(each)]
            for each in changed:
                now.document.restore(each, now.good)
            tries = len(changed) if len(changed) > 1 else 0
            await self._write(now, now.document.text(), now.data[self._key + LAST_GOOD], tries)
            return await self.look()

    async def _read(self) -> tuple[dict[str, str], str, Document]:
        async with self.door.call("ReadSecret"):
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
            return data, version, Document(data[self._key])
        except Unreadable as error:
            raise DependencyNotReady(
                f"key {self._key} of {where} is no configuration of Alertmanager: {error}; mend it"
            ) from None

    async def _write(self, now: Configuration, text: str, good: str, one_by_one: int) -> None:
        data = {**now.data, self._key: text, self._key + LAST_GOOD: good}
        data.pop(self._key + ONE_BY_ONE, None)
        if one_by_one:
            data[self._key + ONE_BY_ONE] = str(one_by_one)
        if sum(len(value.encode()) for value in data.values()) > LARGEST_SECRET:
            raise Rejected(
                f"Secret {self._secret} would become larger than Kubernetes allows (1 MiB); "
                "remove routes, or use another Alertmanager"
            )
        async with self.door.call("WriteSecret"):
            await self._secrets.write(self._secret, data, now.version)

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


def _parsed(text: str | None) -> Document | None:
    try:
        return None if text is None else Document(text)
    except Unreadable:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(text: str) -> float:
    """As Alertmanager's metric alertmanager_config_hash: the first 48 bits of an MD5 sum."""
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return float(int.from_bytes(digest[:6], "little"))
