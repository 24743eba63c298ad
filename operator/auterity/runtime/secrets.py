"""Notices when Secrets change: a watch that carries nothing but their metadata."""

import asyncio
import logging
from collections.abc import Callable

from auterity.engine.cluster import ClusterUnavailable
from auterity.runtime.kube import Kube, KubeError

log = logging.getLogger("auterity.runtime")
AGAIN_AFTER = 1.0
REFUSED_AGAIN_AFTER = 300.0


async def watch(kube: Kube, namespace: str, changed: Callable[[str, str], None]) -> None:
    """Tell of every change of a Secret in a namespace (all if empty), for ever.

    Where the operator may not watch Secrets, connections still notice at their interval.
    """
    path = f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"
    warned = False
    while True:
        pause = AGAIN_AFTER
        try:
            async for _, raw in kube.watch_metadata(path):
                changed(raw["metadata"]["namespace"], raw["metadata"]["name"])
        except ClusterUnavailable as error:
            log.debug("watch of Secrets ended: %s", error)
        except KubeError as error:
            pause = REFUSED_AGAIN_AFTER
            if not warned:
                log.warning(
                    "may not watch Secrets (%s): rotations are noticed at each connection's "
                    "interval only",
                    error.message,
                )
                warned = True
        await asyncio.sleep(pause)
