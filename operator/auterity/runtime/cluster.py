"""The engine's cluster over the Kubernetes API: statuses, finalizers, Secrets and Events."""

import asyncio
import base64
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time
from typing import Any

from auterity.api import API_VERSION, GROUP, VERSION
from auterity.api.annotations import FINALIZER
from auterity.api.kinds import PLURALS
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.contract import SecretStore
from auterity.engine.errors import Busy, Conflict, Unavailable
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.engine.tally import Tally
from auterity.runtime.kube import MERGE_PATCH, Kube, KubeError
from auterity.runtime.store import Put, Store, trimmed

log = logging.getLogger("auterity.runtime")
BURST, REFILL = 25, 300.0
"""Events of one object: so many at once, then one in so many seconds, as client-go does."""
REMEMBERED = 4096
"""Objects whose recent Events are remembered."""


def collection(kind: str, namespace: str = "") -> str:
    """The API path of a kind's collection; of all namespaces if none is given."""
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/{PLURALS[kind]}"


class KubeCluster:
    """Implements `engine.cluster.Cluster`. Every answer of a write goes into the store at once."""

    def __init__(  # noqa: PLR0913 - what it asks of its owner
        self,
        kube: Kube,
        store: Store,
        identity: str,
        learned: Callable[[Put], None],
        fence: Callable[[], None] = lambda: None,
        alone: Callable[[], bool] = lambda: True,
        kinds: Collection[str] = PLURALS.keys(),
    ) -> None:
        self._kube = kube
        self._store = store
        self._learned = learned
        self._fence = fence
        """Raises Fenced if another replica may have taken over."""
        self._alone = alone
        self._kinds = kinds
        """What is served; at other kinds we may not even have the right to look."""
        self.identity = identity
        self._events = _EventLimits()

    def now(self) -> str:
        return _told(int(time()))

    def find(self, key: Key) -> Subject | None:
        return self._store.find(key)

    def select(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Subject]:
        return self._store.select(kind, namespace, labels)

    def users(self, connection: Key) -> list[Key]:
        return self._store.users(connection)

    def tally(self, namespace: str) -> Tally:
        return self._store.tally(namespace)

    @property
    def shared(self) -> bool:
        return not self._alone()

    async def read_all(self, kind: str, namespace: str) -> list[Subject]:
        if kind not in self._kinds:
            return []
        try:
            found = self._kube.list(collection(kind, namespace))
            return [trimmed({"kind": kind, **raw}) async for raw in found]
        except KubeError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP
                # The kind has no CRD here.
                return []
            raise ClusterUnavailable(error.message) from None

    async def exists(self, subject: Subject) -> bool:
        """Ask the API server whether this very object is still there."""
        try:
            await self._newest(subject)
        except SubjectGone:
            return False
        return True

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        raw = await _find_secret(self._kube, namespace, name)
        return None if raw is None else _secret(raw)

    def secret_store(self, namespace: str) -> SecretStore:
        return KubeSecrets(self._kube, namespace)

    async def patch_metadata(
        self,
        subject: Subject,
        *,
        finalizer: bool | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Subject:
        meta: JSON = {"uid": subject.uid}
        if finalizer is not None:
            others = [f for f in subject.finalizers if f != FINALIZER]
            meta["finalizers"] = [*others, FINALIZER] if finalizer else others
            # Guards the list of finalizers against another writer: it is replaced as a whole.
            meta["resourceVersion"] = subject.resource_version
        if annotations:
            meta["annotations"] = dict(annotations)
        try:
            return await self._patch(subject, {"metadata": meta})
        except KubeError as error:
            raw = await self._newest(subject)
            if error.status != 409:  # noqa: PLR2004 - HTTP
                raise ClusterUnavailable(error.message) from error
        newest = self._learn(raw)
        return await self.patch_metadata(newest, finalizer=finalizer, annotations=annotations)

    async def write_status(
        self, subject: Subject, status: JSON, *, unchanged: bool = False
    ) -> Subject:
        patch = difference(subject.status, status)
        if not patch:
            return subject
        meta = {"uid": subject.uid}
        if unchanged:
            meta["resourceVersion"] = subject.resource_version
        try:
            return await self._patch(subject, {"metadata": meta, "status": patch}, "/status")
        except KubeError as error:
            await self._newest(subject)
            raise ClusterUnavailable(f"status was refused: {error.message}") from error

    async def publish(
        self, subject: Subject, name: str, data: Mapping[str, str], *, exactly: bool = False
    ) -> None:
        namespace = subject.key.namespace
        where = f"/api/v1/namespaces/{namespace}/secrets"
        coded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
        try:
            found = await self._kube.find(f"{where}/{name}")
            self._must_not_be_overtaken()
            if found is None:
                await self._kube.call("POST", where, _owned_secret(subject, name, coded))
                return
            if _secret(found).owner_uid != subject.uid:
                raise Conflict(
                    f"Secret {name!r} exists and was not made by this object; choose another "
                    "spec.outputs.secretName"
                )
            held = found.get("data") or {}
            if held == coded or (not exactly and held.items() >= coded.items()):
                return
            others = dict.fromkeys(held.keys() - coded.keys()) if exactly else {}
            await self._kube.call(
                "PATCH",
                f"{where}/{name}",
                {"data": {**others, **coded}},
                resource="secrets",
                content_type=MERGE_PATCH,
            )
        except KubeError as error:
            raise ClusterUnavailable(f"Secret {namespace}/{name}: {error.message}") from None

    async def event(self, subject: Subject, type_: str, reason: str, message: str) -> None:
        if not self._events.allow(subject.uid, f"{type_}/{reason}/{message}"):
            return
        namespace = subject.key.namespace or "default"
        now = self.now()
        body = {
            "metadata": {"generateName": f"{subject.key.name}.", "namespace": namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": subject.key.kind,
                "namespace": subject.key.namespace or None,
                "name": subject.key.name,
                "uid": subject.uid,
            },
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "auterity"},
            "reportingComponent": "auterity",
            "reportingInstance": "auterity",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.call("POST", f"/api/v1/namespaces/{namespace}/events", body)
        except (KubeError, ClusterUnavailable) as error:
            log.debug("an event was lost: %s", error, extra={"object": str(subject.key)})

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._events.forget(uid)

    async def _patch(self, subject: Subject, body: JSON, part: str = "") -> Subject:
        self._must_not_be_overtaken()
        try:
            raw = await self._kube.call(
                "PATCH",
                self._path(subject) + part,
                body,
                resource=PLURALS[subject.key.kind] + part,
                content_type=MERGE_PATCH,
            )
        except KubeError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP
                raise SubjectGone(str(subject.key)) from error
            raise
        return self._learn(raw)

    def _must_not_be_overtaken(self) -> None:
        try:
            self._fence()
        except Unavailable as failure:
            raise ClusterUnavailable(failure.message) from None

    async def _newest(self, subject: Subject) -> JSON:
        """This very object as it is now. Raises SubjectGone if there is none.

        Asked for after a refusal: another object of the same name refuses our uid, and says so by
        a status and in words that may as well be about something else.
        """
        try:
            raw = await self._kube.find(self._path(subject))
        except KubeError as error:
            raise ClusterUnavailable(error.message) from None
        if raw is None or raw["metadata"]["uid"] != subject.uid:
            raise SubjectGone(str(subject.key))
        return raw

    def _learn(self, raw: JSON) -> Subject:
        answered = trimmed(raw)
        known = self._store.find(answered.key)
        if known is None or known.uid != answered.uid:
            # Gone while we wrote, and perhaps made anew: it must not be brought back.
            return answered
        put = self._store.put(raw)
        self._learned(put)
        return put.subject

    def _path(self, subject: Subject) -> str:
        return f"{collection(subject.key.kind, subject.key.namespace)}/{subject.key.name}"


@dataclass(frozen=True)
class KubeSecrets:
    """The Secrets of one namespace, for vendors whose configuration is kept in one."""

    kube: Kube
    namespace: str

    async def read(self, name: str) -> tuple[dict[str, str], str] | None:
        raw = await _find_secret(self.kube, self.namespace, name)
        if raw is None:
            return None
        return _secret(raw).data, raw["metadata"]["resourceVersion"]

    async def write(self, name: str, data: Mapping[str, str], version: str | None) -> str:
        where = f"/api/v1/namespaces/{self.namespace}/secrets"
        coded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
        meta: JSON = {"name": name}
        try:
            if version is None:
                raw = await self.kube.call("POST", where, {"metadata": meta, "data": coded})
            else:
                meta["resourceVersion"] = version
                raw = await self.kube.call(
                    "PATCH",
                    f"{where}/{name}",
                    {"metadata": meta, "data": coded},
                    resource="secrets",
                    content_type=MERGE_PATCH,
                )
        except KubeError as error:
            if error.status == 409:  # noqa: PLR2004 - HTTP
                raise Busy(f"Secret {self.namespace}/{name} was changed by someone else") from error
            raise ClusterUnavailable(f"Secret {self.namespace}/{name}: {error.message}") from None
        return str(raw["metadata"]["resourceVersion"])


@lru_cache(maxsize=1)
def _told(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def difference(old: JSON, new: JSON) -> JSON:
    """The JSON merge patch that makes `old` into `new`."""
    patch: JSON = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if inner := difference(old[key], value):
                patch[key] = inner
        elif value != old[key]:
            patch[key] = value
    return patch


async def _find_secret(kube: Kube, namespace: str, name: str) -> JSON | None:
    try:
        return await kube.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except KubeError as error:
        raise ClusterUnavailable(f"Secret {namespace}/{name}: {error.message}") from None


def _secret(raw: JSON) -> SecretData:
    meta = raw["metadata"]
    owners = [o["uid"] for o in meta.get("ownerReferences") or () if o.get("controller")]
    coded = raw.get("data") or {}
    return SecretData(
        data={k: base64.b64decode(v).decode(errors="replace") for k, v in coded.items()},
        version=f"{meta['uid'][:8]}/{meta['resourceVersion']}",
        owner_uid=owners[0] if owners else None,
    )


def _owned_secret(subject: Subject, name: str, data: dict[str, str]) -> JSON:
    owner: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": subject.key.kind,
        "name": subject.key.name,
        "uid": subject.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "metadata": {
            "name": name,
            "ownerReferences": [owner],
            "labels": {"app.kubernetes.io/managed-by": "auterity"},
        },
        "type": "Opaque",
        "data": data,
    }


class _EventLimits:
    """Keeps one object from flooding the API server with Events."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[float, float, str]] = OrderedDict()

    def allow(self, uid: str, text: str) -> bool:
        now = monotonic()
        tokens, at, last = self._seen.pop(uid, (float(BURST), now, ""))
        tokens = min(float(BURST), tokens + (now - at) / REFILL)
        allowed = text != last and tokens >= 1.0
        self._seen[uid] = (tokens - 1.0 if allowed else tokens, now, text if allowed else last)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return allowed

    def forget(self, uid: str) -> None:
        self._seen.pop(uid, None)


async def identity(kube: Kube, configured: str | None) -> str:
    """What tells this cluster from others: the configured name, else from kube-system's uid.

    Raises ClusterUnavailable with what to do if neither is to be had.
    """
    if configured:
        return configured
    while True:
        try:
            raw = await kube.call("GET", "/api/v1/namespaces/kube-system")
        except KubeError as error:
            raise ClusterUnavailable(
                f"cannot read namespace kube-system to tell this cluster from others "
                f"({error.message}); start with --cluster-name"
            ) from None
        except ClusterUnavailable as error:
            log.warning("waiting for the Kubernetes API: %s", error)
            await asyncio.sleep(2)
        else:
            return str(raw["metadata"]["uid"]).replace("-", "")[:12]
