"""The validating webhook: the API server asks, the adviser answers, Kopf's server carries it."""

import asyncio
import base64
import logging
import ssl
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import kopf

from auterity.api.kinds import PLURALS
from auterity.engine.advice import Advice, Adviser
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.errors import Failure
from auterity.engine.redaction import frames_of
from auterity.engine.subject import JSON, Subject
from auterity.runtime import certificates
from auterity.runtime.certificates import Certificate
from auterity.runtime.cluster import KubeSecrets
from auterity.runtime.kube import MERGE_PATCH, Kube, KubeError
from auterity.runtime.store import trimmed

log = logging.getLogger("auterity.runtime")
LOOK_AGAIN: Final = 60.0
"""Seconds between two looks at the certificate and at what the API server trusts."""
AGAIN_AFTER: Final = 3.0
"""Seconds until the next attempt where a look failed."""
SEEN_AFTER: Final = 5.0
"""Seconds that an API server gets to notice a new authority before it is served with."""
LONGEST: Final = 240
"""The API server may cut longer warnings."""
MOST_TOLD: Final = 12
"""It ignores warnings beyond 4096 characters of all together."""
CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Webhook:
    """Serves one ValidatingWebhookConfiguration and keeps what it trusts.

    Kopf's own handling of configurations is not used: it takes the webhooks out when a replica
    stops, though others still answer, and knows no timeout or namespaceSelector of ours.
    """

    def __init__(
        self, kube: Kube, adviser: Adviser, configuration: str, namespace: str, listen: str
    ) -> None:
        certificates.must_be_installed()
        self._kube = kube
        self._adviser = adviser
        self._path = f"{CONFIGURATIONS}/{configuration}"
        self._secrets = KubeSecrets(kube, namespace)
        self._secret = f"{configuration}-admission"
        host, _, port = listen.rpartition(":")
        self._host, self._port = host or None, int(port)
        self._served: Certificate | None = None
        self._told: str | None = None

    async def run(self, serves: Callable[[], None] = lambda: None) -> None:
        """Serve for ever; `serves` is called once it does. Raises OSError if the port is taken."""
        with tempfile.TemporaryDirectory(prefix="auterity-") as name:
            folder = Path(name)
            while True:
                if await self._renew(folder):
                    break
                await asyncio.sleep(AGAIN_AFTER)
            keeper = asyncio.create_task(self._keep(folder))
            try:
                # It starts anew when the files change.
                server = kopf.WebhookServer(
                    addr=self._host,
                    port=self._port,
                    certfile=folder / "tls.crt",
                    pkeyfile=folder / "tls.key",
                    file_check_interval=LOOK_AGAIN / 4,
                )
                async with server:
                    async for _ in server(cast("Any", self.answer)):
                        log.info("admission is served at port %d", self._port)
                        serves()
            finally:
                keeper.cancel()

    async def _keep(self, folder: Path) -> None:
        good = True
        while True:
            await asyncio.sleep(LOOK_AGAIN if good else AGAIN_AFTER)
            good = await self._renew(folder)

    async def _renew(self, folder: Path) -> bool:
        """One look at certificate and configuration; whether both are as they should be."""
        try:
            problem = await self._look(folder)
        except (KubeError, ClusterUnavailable, Failure) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - to be looked at again all the same
            # What it says might quote a key.
            problem = f"{type(error).__name__} at {frames_of(error)[-1]}"
        if problem is not None and problem != self._told:
            log.warning("admission waits: %s", problem)
        self._told = problem
        return problem is None

    async def _look(self, folder: Path) -> str | None:
        found = await self._kube.find(self._path)
        if found is None:
            name = self._path.rpartition("/")[2]
            return f"there is no ValidatingWebhookConfiguration {name!r}"
        names = served_names(found)
        if not names:
            return "its configuration names neither a service nor a url"
        certificate = await certificates.shared(self._secrets, self._secret, names)
        renewed = await self._trust(found, certificate)
        if certificate != self._served:
            if renewed and self._served is not None:
                await asyncio.sleep(SEEN_AFTER)
            if not _fits(certificate):
                return f"Secret {self._secret!r} holds no certificate with its key: delete it"
            _write(folder, certificate)
            self._served = certificate
        return None

    async def _trust(self, found: JSON, certificate: Certificate) -> bool:
        """Write the authorities into the configuration, if it has others."""
        bundle = base64.b64encode(certificate.authorities.encode()).decode()
        webhooks = found.get("webhooks") or []
        if all(one["clientConfig"].get("caBundle") == bundle for one in webhooks):
            return False
        trusting = [
            {**one, "clientConfig": {**one["clientConfig"], "caBundle": bundle}} for one in webhooks
        ]
        version = found["metadata"]["resourceVersion"]
        await self._kube.call(
            "PATCH",
            self._path,
            {"metadata": {"resourceVersion": version}, "webhooks": trusting},
            resource="validatingwebhookconfigurations",
            content_type=MERGE_PATCH,
        )
        return True

    async def answer(self, request: Mapping[str, Any], **_: Any) -> JSON:
        """The answer to an AdmissionReview. Never fails: a bug here must stop nobody."""
        asked = request["request"]
        try:
            advice = self._advice(asked)
        except Exception as error:  # noqa: BLE001 - as above
            log.error(  # noqa: TRY400 - a traceback may quote what is declared
                "admission failed: %s",
                type(error).__name__,
                extra={
                    "object": f"{asked.get('namespace', '')}/{asked.get('name', '')}",
                    "frames": frames_of(error),
                },
            )
            advice = Advice()
        response: JSON = {"uid": asked["uid"], "allowed": not advice.refusals}
        if advice.refusals:
            told = "; ".join(advice.refusals)
            response["status"] = {"code": 422, "reason": "Invalid", "message": told}
        if advice.warnings:
            response["warnings"] = [_short(text) for text in advice.warnings[:MOST_TOLD]]
        return {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }

    def _advice(self, asked: JSON) -> Advice:
        kind = asked["kind"]["kind"]
        if asked.get("subResource") or kind not in PLURALS:
            return Advice()
        old = _subject(asked.get("oldObject"), asked)
        if asked["operation"] == "DELETE":
            return Advice() if old is None else self._adviser.on_deletion(old)
        new = _subject(asked.get("object"), asked)
        return Advice() if new is None else self._adviser.on_write(new, old)


def _write(folder: Path, certificate: Certificate) -> tuple[Path, Path]:
    chain, key = folder / "tls.crt", folder / "tls.key"
    for file, text in ((key, certificate.key), (chain, certificate.chain)):
        file.touch(mode=0o600)
        file.write_text(text)
    return chain, key


def _fits(certificate: Certificate) -> bool:
    """Whether it can be served with: one that cannot would end the server."""
    with tempfile.TemporaryDirectory(prefix="auterity-") as name:
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*_write(Path(name), certificate))
        except ssl.SSLError:
            return False
    return True


def served_names(configuration: JSON) -> list[str]:
    """The names and addresses that the API server calls the webhooks by."""
    found: dict[str, None] = {}
    for webhook in configuration.get("webhooks") or ():
        client = webhook["clientConfig"]
        if service := client.get("service"):
            found[f"{service['name']}.{service['namespace']}.svc"] = None
        elif host := urlsplit(client.get("url") or "").hostname:
            found[host] = None
    return list(found)


def _subject(raw: JSON | None, asked: JSON) -> Subject | None:
    """The object of a review: one that is only being created has no version yet."""
    if not raw:
        return None
    unborn = {
        "name": asked.get("name") or "",
        "namespace": asked.get("namespace") if asked["kind"]["kind"] != "ClusterConnection" else "",
        "uid": "",
        "resourceVersion": "0",
        "creationTimestamp": "9999-01-01T00:00:00Z",
    }
    return trimmed({**raw, "metadata": {**unborn, **raw["metadata"]}})


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
