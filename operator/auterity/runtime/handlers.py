"""Kopf: three functions and a loop. An event only puts the newest object into the store."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any, cast

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from auterity.api import GROUP, VERSION
from auterity.api.kinds import PLURALS
from auterity.runtime.echoes import Login
from auterity.runtime.operator import Operator


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """Kopf's registry for one operator; nothing is registered globally."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found, id="login")(Login(operator.store.knows).login)
    kopf.on.startup(registry=found, id="settings")(_settings)

    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        # Not `body`, a view: reading all of it through the view costs more than all else here.
        operator.observe(event["object"], deleted=event["type"] == "DELETED")

    for kind in operator.kinds:
        kopf.on.event(GROUP, VERSION, PLURALS[kind], registry=found, id="observe")(observe)
    return found


class NoMemories(ResourceMemories):
    """What Kopf remembers of each object, switched off: nothing here asks for it.

    Kopf forgets an object when the watch tells that it is gone. Of what went while a watch was
    interrupted none tells, and it would be remembered for ever.
    """

    async def recall(
        self, raw_body: kopf.RawBody, *, ephemeral: bool = True, **options: Any
    ) -> ResourceMemory:
        return await super().recall(raw_body, **{**options, "ephemeral": True})


async def _settings(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    # Not ours: Kopf drops its own finalizer from every object that none of its handlers keeps.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoEssence()
    # The server ends each watch before a silent network can: https://github.com/nolar/kopf/issues/585
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 270
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    # Of a new object nothing more is told soon, since echoes are left out: its task need not stay.
    settings.queueing.idle_timeout = 1.0
    # Else it asks for rights that we do not have, and waits a minute for them: to list namespaces
    # (with --namespace), and to watch for new CRDs.
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Patience()


class _Patience(Iterable[float]):
    """Seconds between attempts, without end.

    After the last one Kopf gives up the whole operator, and an API server may be away for longer
    than any number of them.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0), repeat(8.0))


class _NoEssence(kopf.DiffBaseStorage):
    """Kopf's change detection, switched off: it would copy and compare every object."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Kopf's handlers here have no progress to keep: an event is taken in at once."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence
