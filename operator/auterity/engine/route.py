"""Routes: which of several deployments is used, and when another takes over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from auterity.api.common import by_alias
from auterity.api.fields import seconds
from auterity.api.model_route import CandidateStatus, Failback, Failover, ModelRouteSpec
from auterity.engine.conditions import Reason, reason_of
from auterity.engine.errors import Failure
from auterity.engine.local import LocalVisit
from auterity.engine.subject import Key, Subject
from auterity.engine.verdict import Verdict, Waits

OUT: Final = frozenset(
    {
        Reason.PROBE_FAILING,
        Reason.PROVIDER_FAILED,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.NOT_FOUND,
        Reason.EXPIRED,
    }
)
"""Reasons for which a deployment that has served is out of service. All others are about what is
being changed or may be looked at: what served before goes on serving."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A candidate, and since when it is so."""

    name: str
    state: Literal["Serving", "Out", "Missing"]
    since: datetime
    reason: str | None = None

    @property
    def serves(self) -> bool:
        """Whether it can be used."""
        return self.state == "Serving"


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate to use, and when that may change without anything happening."""

    name: str | None
    """None if none serves and none was in use."""
    wait: float | None = None
    """Seconds until it is to be reckoned again."""


def choose(
    active: str | None, candidates: Sequence[Seen], failover: Failover, now: datetime
) -> Choice:
    """Which candidate is used; `active` is the one that was so far."""
    used = next((one for one in candidates if one.name == active), None)
    first = next((one for one in candidates if one.serves), None)
    if used is None or used.state == "Missing":
        return Choice(first.name if first else None)
    if not used.serves:
        left = seconds(failover.after) - (now - used.since).total_seconds()
        if left > 0:
            return Choice(used.name, left)
        # Where nobody serves, nothing is won by naming another.
        return Choice(first.name if first else used.name)
    if failover.failback is Failback.NEVER:
        return Choice(used.name)
    waits = []
    for better in candidates[: candidates.index(used)]:
        if better.serves:
            left = seconds(failover.failback_after) - (now - better.since).total_seconds()
            if left <= 0:
                return Choice(better.name)
            waits.append(left)
    return Choice(used.name, min(waits, default=None))


class Routing(LocalVisit[ModelRouteSpec]):
    """One visit of a ModelRoute: choose, publish, tell."""

    async def run(self, spec: ModelRouteSpec) -> Verdict:
        if spec.suspend:
            before = (self.subject.condition("Ready") or {}).get("status")
            ready = {"True": True, "False": False}.get(str(before))
            return await self.told(
                Reason.SUSPENDED, "spec.suspend is true: the route stays", ready=ready, wait=None
            )
        before = self.status.get("active")
        now = datetime.fromisoformat(self.cluster.now())
        seen = [self._seen(one.name, now) for one in spec.candidates]
        self.status["candidates"] = [by_alias(_told(one)) for one in seen]
        choice = choose(before, seen, spec.failover, now)
        if choice.name is None:
            self._forget()
            names = ", ".join(f"{one.name} ({one.reason or one.state})" for one in seen)
            return await self.told(
                Reason.DEPENDENCY_NOT_READY, f"no candidate has served yet: {names}", ready=False
            )
        used = next(one for one in seen if one.name == choice.name)
        try:
            await self._use(spec, used)
        except Failure as failure:
            return await self.told(reason_of(failure), failure.message, ready=False)
        if before not in (None, used.name):
            await self._tell_of_change(spec, seen, str(before), used)
        return await self._settled(spec, seen, used, choice)

    async def _settled(
        self, spec: ModelRouteSpec, seen: Sequence[Seen], used: Seen, choice: Choice
    ) -> Verdict:
        which = f"{used.name} at {self.status.get('vendor')}"
        if not used.serves:
            others = "" if len(seen) == 1 else ", and no other candidate serves"
            message = f"{which} is out of service: {used.reason}{others}"
            if choice.wait is not None:
                message = f"{which} is out of service: {used.reason}; another may take over"
            return await self.told(
                Reason.DEPENDENCY_NOT_READY, message, ready=False, wait=choice.wait
            )
        better = [one for one in seen[: seen.index(used)] if not one.serves]
        instead = f", instead of {', '.join(one.name for one in better)}" if better else ""
        return await self.told(Reason.READY, f"Uses {which}{instead}", ready=True, wait=choice.wait)

    async def _use(self, spec: ModelRouteSpec, used: Seen) -> None:
        """Publish what the candidate publishes. Raises Conflict if the Secret is someone else's."""
        found = self.cluster.find(self._key(used.name))
        if found is None:
            return
        outputs = dict(found.status.get("outputs") or {})
        self.status |= {"active": used.name, "vendor": found.status.get("vendor")}
        if outputs:
            self.status["outputs"] = outputs
        if spec.outputs is None:
            return
        data = {**outputs, "deployment": used.name}
        published = (found.spec.get("outputs") or {}).get("secretName")
        if published is not None:
            self.waits.add(Waits("Secret", self.subject.key.namespace, published))
            secret = await self.cluster.secret(self.subject.key.namespace, published)
            if secret is not None and secret.owner_uid == found.uid:
                data = {**secret.data, **data}
        await self.cluster.publish(self.subject, spec.outputs.secret_name, data, exactly=True)

    async def _tell_of_change(
        self, spec: ModelRouteSpec, seen: Sequence[Seen], before: str, used: Seen
    ) -> None:
        names = [one.name for one in spec.candidates]
        old = next((one for one in seen if one.name == before), None)
        if before in names and names.index(used.name) < names.index(before):
            told = ("Normal", "FailedBack", f"{used.name} serves again and is used")
        else:
            why = (old.reason or old.state) if old else "no longer a candidate"
            told = ("Warning", "FailedOver", f"{used.name} takes over from {before}: {why}")
        await self.cluster.event(self.subject, *told)

    def _seen(self, name: str, now: datetime) -> Seen:
        self.waits.add(Waits("ModelDeployment", self.subject.key.namespace, name))
        told = self.subject.status.get("candidates") or ()
        old = next((one for one in told if one["name"] == name), None)
        state, reason = _state(self.cluster.find(self._key(name)), old and old["state"])
        if old is not None and old["state"] == state:
            return Seen(name, state, datetime.fromisoformat(old["since"]), reason)
        return Seen(name, state, now, reason)

    def _key(self, name: str) -> Key:
        return Key("ModelDeployment", self.subject.key.namespace, name)

    def _forget(self) -> None:
        for field in ("active", "vendor", "outputs"):
            self.status.pop(field, None)


def _state(
    subject: Subject | None, before: str | None
) -> tuple[Literal["Serving", "Out", "Missing"], str | None]:
    if subject is None:
        return "Missing", None
    ready: dict[str, Any] = subject.condition("Ready") or {}
    reason = str(ready["reason"]) if "reason" in ready else None
    if subject.deleting or not subject.status.get("outputs"):
        return "Missing", reason
    if ready.get("status") == "True":
        return "Serving", None
    if reason in OUT or before == "Out":
        # Being mended is not yet to be well.
        return "Out", reason
    # Outputs may be known long before anything serves.
    served = before == "Serving" or "syncedGeneration" in subject.status
    return ("Serving", None) if served else ("Missing", reason)


def _told(seen: Seen) -> CandidateStatus:
    since = seen.since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return CandidateStatus(name=seen.name, state=seen.state, since=since, reason=seen.reason)
