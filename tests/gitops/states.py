"""Every state that an object of ours can be in, and what GitOps tools are to make of it.

Each is brought about in the real engine, and recorded as the API server would show it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from auterity.api import API_VERSION
from auterity.engine.contract import Phase
from auterity.engine.errors import Rejected, Throttled, Unavailable
from auterity.engine.subject import Key, Subject
from e2e.kstatus import Kstatus
from tests.conformance.harness import NAME, Harness
from tests.conformance.rolling import CANARY, Roller, spec_of
from tests.unit.engine.fleet import FleetDeployment, Sea, fleet_of
from tests.unit.engine.shelf import Shelf, World

JSON = dict[str, Any]
Drive = Callable[[Harness, Any], Awaitable[Key | None]]
"""Gets the harness and the vendor's side of it."""

CURRENT, IN_PROGRESS = Kstatus.CURRENT, Kstatus.IN_PROGRESS
FAILED, TERMINATING = Kstatus.FAILED, Kstatus.TERMINATING
HEALTHY, PROGRESSING, SUSPENDED, DEGRADED = "Healthy", "Progressing", "Suspended", "Degraded"


@dataclass(frozen=True)
class State:
    """A state, how it comes about, and the verdicts that it must get."""

    title: str
    drive: Drive
    kstatus: Kstatus
    argocd: str
    revisions: bool
    """Whether it is about a vendor that keeps several revisions of an object."""

    @property
    def waited_for(self) -> bool:
        """Whether `kubectl wait --for=condition=Ready` is content."""
        return self.kstatus is CURRENT


STATES: list[State] = []


def state(
    title: str, kstatus: Kstatus, argocd: str, *, revisions: bool = False
) -> Callable[[Drive], Drive]:
    """Register what brings a state about: it returns the object's key if it is no integration."""

    def register(drive: Drive) -> Drive:
        STATES.append(State(title, drive, kstatus, argocd, revisions))
        return drive

    return register


async def record(one: State) -> JSON:
    """The object in that state."""
    shelf, fleet = Shelf(), fleet_of(FleetDeployment)
    harness = Harness(fleet if one.revisions else shelf)
    await harness.start()
    try:
        key = await one.drive(harness, fleet.sea if one.revisions else shelf.world) or harness.key
        return manifest(harness.cluster.subjects[key])
    finally:
        await harness.stop()
        await shelf.stop()
        await fleet.stop()


def manifest(subject: Subject) -> JSON:
    """An object as the API server shows it."""
    meta: JSON = {
        "name": subject.key.name,
        "uid": subject.uid,
        "generation": subject.generation,
        "creationTimestamp": subject.created_at,
        "finalizers": subject.finalizers,
    }
    if subject.key.namespace:
        meta["namespace"] = subject.key.namespace
    if subject.deleting:
        meta["deletionTimestamp"] = subject.created_at
    return {
        "apiVersion": API_VERSION,
        "kind": subject.key.kind,
        "metadata": meta,
        "spec": subject.spec,
        "status": subject.status,
    }


@state("just made, not seen by the operator yet", IN_PROGRESS, PROGRESSING)
async def _fresh(harness: Harness, world: World) -> None:
    harness.apply()


@state("edited, the edit not seen yet", IN_PROGRESS, PROGRESSING)
async def _edited(harness: Harness, world: World) -> None:
    await harness.make()
    harness.apply(shelf={"replicas": 3})


@state("the vendor is still working on it", IN_PROGRESS, PROGRESSING)
async def _pending(harness: Harness, world: World) -> None:
    world.phase = Phase.PENDING
    harness.apply()
    await harness.visit()


@state("made, and not shown by the vendor yet", IN_PROGRESS, PROGRESSING)
async def _not_shown(harness: Harness, world: World) -> None:
    harness.apply()
    # The vendor makes it and forgets it before it is read back.
    world.before["get"] = lambda: world.before.update(get=world.things.clear)
    await harness.visit()


@state("the vendor has what the spec says", CURRENT, HEALTHY)
async def _ready(harness: Harness, world: World) -> None:
    await harness.make()


@state("`policy: Observe`, it exists", CURRENT, HEALTHY)
async def _observed(harness: Harness, world: World) -> None:
    world.put(NAME)
    harness.apply(policy="Observe")
    await harness.visit()


@state("`policy: Observe`, there is none", FAILED, DEGRADED)
async def _observed_nothing(harness: Harness, world: World) -> None:
    harness.apply(policy="Observe")
    await harness.visit()


@state("changed by someone else, `driftPolicy: Report`", CURRENT, HEALTHY)
async def _drifted(harness: Harness, world: World) -> None:
    await harness.make(driftPolicy="Report")
    world.things[NAME].fields["replicas"] = 9
    await harness.visit()


@state("deleted by someone else, `driftPolicy: Report`", FAILED, DEGRADED)
async def _vanished(harness: Harness, world: World) -> None:
    await harness.make(driftPolicy="Report")
    world.things.clear()
    await harness.visit()


@state("what it depends on is not ready", IN_PROGRESS, PROGRESSING)
async def _dependent(harness: Harness, world: World) -> None:
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "first"}])
    await harness.visit()


@state("its Connection is refused by the vendor", IN_PROGRESS, PROGRESSING)
async def _connection_refused(harness: Harness, world: World) -> None:
    await _refused_connection(harness, world)
    harness.apply()
    await harness.visit()


@state("a plan waits for approval", IN_PROGRESS, SUSPENDED)
async def _awaiting_approval(harness: Harness, world: World) -> None:
    harness.apply(approval="Always")
    await harness.visit()


@state("about to be taken over, `policy: Adopt`", IN_PROGRESS, PROGRESSING)
async def _adopting(harness: Harness, world: World) -> None:
    world.put(NAME)
    harness.apply(policy="Adopt")
    await harness.visit()


@state("the vendor refuses the spec", FAILED, DEGRADED)
async def _rejected(harness: Harness, world: World) -> None:
    world.trouble["create"] = [Rejected("name must start with a letter")]
    harness.apply()
    await harness.visit()


@state("the vendor refuses an edit", FAILED, DEGRADED)
async def _edit_rejected(harness: Harness, world: World) -> None:
    await harness.make()
    world.trouble["update"] = [Rejected("too many replicas")]
    harness.apply(shelf={"replicas": 99})
    await harness.visit()


@state("the vendor refuses the credentials", FAILED, DEGRADED)
async def _unauthorized(harness: Harness, world: World) -> None:
    await harness.make()
    world.token = "another-Kq27vb"
    await harness.visit()


@state("the vendor does not answer", IN_PROGRESS, PROGRESSING)
async def _unavailable(harness: Harness, world: World) -> None:
    world.trouble["get"] = [Unavailable("no answer")]
    harness.apply()
    await harness.visit()


@state("the vendor asks for fewer calls", IN_PROGRESS, PROGRESSING)
async def _throttled(harness: Harness, world: World) -> None:
    world.trouble["get"] = [Throttled("slow down", 7.0)]
    harness.apply()
    await harness.visit()


@state("it exists and is not ours", FAILED, DEGRADED)
async def _conflict(harness: Harness, world: World) -> None:
    world.put(NAME)
    harness.apply()
    await harness.visit()


@state("it is broken at the vendor", FAILED, DEGRADED)
async def _failed(harness: Harness, world: World) -> None:
    world.phase = Phase.FAILED
    harness.apply()
    await harness.visit()


@state("a new revision is on its way", IN_PROGRESS, PROGRESSING, revisions=True)
async def _rolling_out(harness: Harness, sea: Sea) -> None:
    await _roll_out(harness, CANARY)
    harness.apply(spec_of(harness, CANARY, {"model": {"image": "two"}}))
    while harness.ready["reason"] != "RollingOut":
        await harness.visit()


@state("a new revision failed, the one before serves", FAILED, DEGRADED, revisions=True)
async def _rolled_back(harness: Harness, sea: Sea) -> None:
    await _roll_out(harness, CANARY)
    sea.breaks = True
    await _roll_out(harness, CANARY, {"model": {"image": "two"}})


@state("it is there, and fails its `probe`", IN_PROGRESS, PROGRESSING, revisions=True)
async def _probe_failing(harness: Harness, sea: Sea) -> None:
    probe = {"body": "{}", "expect": {"json": {"path": "ok", "value": "true"}}, "failures": 1}
    await _roll_out(harness, CANARY, {"probe": probe})
    sea.answers["one"] = 503
    harness.engine.probes._streaks.clear()
    await harness.visit()


@state("a bug in the operator", IN_PROGRESS, PROGRESSING)
async def _bug(harness: Harness, world: World) -> None:
    world.trouble["get"] = [RuntimeError("oops")]
    harness.apply()
    await harness.visit()


@state("`suspend: true` on one that is ready", CURRENT, SUSPENDED)
async def _suspended(harness: Harness, world: World) -> None:
    await harness.make()
    harness.apply(suspend=True)
    await harness.visit()


@state("`suspend: true` on one that is refused", IN_PROGRESS, SUSPENDED)
async def _suspended_refused(harness: Harness, world: World) -> None:
    await _rejected(harness, world)
    harness.apply(suspend=True)
    await harness.visit()


@state("`suspend: true` from the first", IN_PROGRESS, SUSPENDED)
async def _suspended_first(harness: Harness, world: World) -> None:
    harness.apply(suspend=True)
    await harness.visit()


@state("its `ttl` has passed", FAILED, DEGRADED)
async def _expired(harness: Harness, world: World) -> None:
    await harness.make(ttl="1h")
    harness.cluster.pass_(hours=2)
    await harness.visit()


@state("deleted, not seen by the operator yet", TERMINATING, PROGRESSING)
async def _deleted(harness: Harness, world: World) -> None:
    await harness.make()
    _delete(harness, harness.key)


@state("deleted, the vendor is at it", TERMINATING, PROGRESSING)
async def _deleting(harness: Harness, world: World) -> None:
    await harness.make()
    world.things[NAME].phase = Phase.DELETING
    _delete(harness, harness.key)
    await harness.visit()


@state("deleted, the vendor does not answer", TERMINATING, PROGRESSING)
async def _deleting_unavailable(harness: Harness, world: World) -> None:
    await harness.make()
    world.trouble["get"] = [Unavailable("no answer")]
    _delete(harness, harness.key)
    await harness.visit()


@state("deleted, the vendor refuses the credentials", TERMINATING, DEGRADED)
async def _deleting_unauthorized(harness: Harness, world: World) -> None:
    await _unauthorized(harness, world)
    _delete(harness, harness.key)
    await harness.visit()


@state("deleted, the deletion waits for approval", TERMINATING, SUSPENDED)
async def _deleting_unapproved(harness: Harness, world: World) -> None:
    await harness.make()
    harness.apply(approval="Destructive")
    _delete(harness, harness.key)
    await harness.visit()


@state("Connection: verified", CURRENT, HEALTHY)
async def _connected(harness: Harness, world: World) -> Key:
    return await _verify(harness)


@state("Connection: a Secret is missing", IN_PROGRESS, PROGRESSING)
async def _secretless(harness: Harness, world: World) -> Key:
    harness.cluster.secrets.clear()
    return await _verify(harness)


@state("Connection: the vendor refuses the credentials", FAILED, DEGRADED)
async def _refused_connection(harness: Harness, world: World) -> Key:
    world.token = "another-Kq27vb"
    return await _verify(harness)


@state("Connection: the vendor does not answer", IN_PROGRESS, PROGRESSING)
async def _unanswered(harness: Harness, world: World) -> Key:
    world.trouble["whoami"] = [Unavailable("no answer")]
    return await _verify(harness)


@state("Connection: the spec is wrong", FAILED, DEGRADED)
async def _wrong_connection(harness: Harness, world: World) -> Key:
    harness.cluster.put("Connection", "vendor", {"shelf": {"address": "no token"}})
    return await _verify(harness)


@state("Connection: deleted, still in use", TERMINATING, PROGRESSING)
async def _in_use(harness: Harness, world: World) -> Key:
    await _verify(harness)
    harness.apply()
    _delete(harness, harness.connection)
    return await _verify(harness)


async def _roll_out(harness: Harness, rollout: JSON, *patches: JSON) -> None:
    harness.apply(spec_of(harness, rollout, *patches))
    await Roller(harness).run()


def _delete(harness: Harness, key: Key) -> None:
    """As the API server does: with a finalizer, a deletion is a generation more."""
    harness.cluster.delete(key)
    subject = harness.cluster.subjects[key]
    harness.cluster.subjects[key] = replace(subject, generation=subject.generation + 1)


@state("it would cost more than its budget allows", FAILED, DEGRADED, revisions=True)
async def _over_budget(harness: Harness, sea: Sea) -> None:
    harness.apply(budget={"hourly": 1})
    await harness.visit()


async def _verify(harness: Harness) -> Key:
    await harness.connections.visit(harness.cluster.subjects[harness.connection])
    return harness.connection
