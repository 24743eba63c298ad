"""Notices when Secrets change: a watch that carries nothing but their metadata."""

import asyncio
import logging
from collections.abc import Callable

from auterity.engine.cluster import ClusterUnavailable
from auterity.runtime.kube import JSON, Kube, KubeError

log = logging.getLogger("auterity.runtime")
AGAIN_AFTER = 1.0
REFUSED_AGAIN_AFTER = 300.0
"""At most."""
REFUSALS_TO_TELL = 4
"""In a row, before they are taken for a missing right."""
TOO_OLD = 410
"""HTTP status: the server no longer knows what has changed since a version."""


async def watch(kube: Kube, namespace: str, changed: Callable[[str, str], None]) -> None:
    """Tell of every change of a Secret in a namespace (all if empty), for ever.

    Where the operator may not watch Secrets, connections still notice at their interval.
    """
    path = f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"
    news = _News(kube, path, changed)
    refused = 0
    while True:
        pause = AGAIN_AFTER
        try:
            await news.follow()
            refused = 0
        except ClusterUnavailable as error:
            log.debug("watch of Secrets ended: %s", error)
            refused = 0
        except KubeError as error:
            # An API server that has just started refuses what it will allow in a moment.
            refused += 1
            pause = min(AGAIN_AFTER * 2.0 ** min(refused, 20), REFUSED_AGAIN_AFTER)
            if refused == REFUSALS_TO_TELL:
                log.warning(
                    "may not watch Secrets (%s): rotations are noticed at each connection's "
                    "interval only",
                    error.message,
                )
        await asyncio.sleep(pause)


class _News:
    """Goes on where it was interrupted, so that no change is missed.

    But deletions, where the interruption was so long that the server has forgotten.
    """

    def __init__(self, kube: Kube, path: str, changed: Callable[[str, str], None]) -> None:
        self._kube, self._path, self._changed = kube, path, changed
        self._version: str | None = None

    async def follow(self) -> None:
        """Until the server ends the watch."""
        if self._version is None:
            await self._list(since=None)
        assert self._version is not None  # noqa: S101 - the list has set it
        try:
            async for type_, raw in self._kube.watch_metadata(self._path, self._version):
                self._version = str(raw["metadata"]["resourceVersion"])
                if type_ != "BOOKMARK":
                    self._tell(raw)
        except KubeError as error:
            if error.status != TOO_OLD:
                raise
            await self._list(since=int(self._version))

    async def _list(self, since: int | None) -> None:
        found = await self._kube.metadata(self._path)
        for raw in found.get("items") or ():
            if since is not None and int(raw["metadata"]["resourceVersion"]) > since:
                self._tell(raw)
        self._version = str(found["metadata"]["resourceVersion"])

    def _tell(self, raw: JSON) -> None:
        self._changed(raw["metadata"]["namespace"], raw["metadata"]["name"])
