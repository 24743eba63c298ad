"""What a visit does besides for an object of a kind that has revisions."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, cast

from pydantic import ValidationError

from auterity.api.annotations import APPROVE
from auterity.api.common import DriftPolicy, by_alias
from auterity.api.fields import ENGINE, GOVERNS, UNVERSIONED, alias_of, marked
from auterity.api.rollout import (
    LONGEST_CONTENT,
    ChecksStatus,
    EarlierRevision,
    FailedRevision,
    MeasuredFigure,
    ProbeStatus,
    Revisioned,
    RevisionStatus,
    RolloutStatus,
    Strategy,
)
from auterity.engine import rollout
from auterity.engine.conditions import Reason
from auterity.engine.contract import Observed, Phase, Provider, Revision
from auterity.engine.drift import Difference, Memory, compare, digest, fingerprints
from auterity.engine.errors import Rejected
from auterity.engine.measure import Findings, Place
from auterity.engine.probe import Health
from auterity.engine.probe import Verdict as ProbeVerdict
from auterity.engine.redaction import hide
from auterity.engine.verdict import Again, Verdict
from auterity.engine.visit import Visit

PREFIX: Final = "r-"
MOST_DECISIONS: Final = 8
"""In one visit: more would mean that decisions do not lead to acts."""
NOT_IN_A_REVISION: Final = (UNVERSIONED, GOVERNS, ENGINE)


@cache
def versioned(params: type[Revisioned]) -> tuple[str, ...]:
    """The fields (Python names) that make a revision."""
    return tuple(
        name
        for name in params.model_fields
        if name != "name" and not any(marked(params, name, marker) for marker in NOT_IN_A_REVISION)
    )


def name_of(want: Revisioned) -> str:
    """The name of the revision that these params make: another one if anything in it is."""
    given = {name: getattr(want, name) for name in versioned(type(want))}
    said = {k: v for k, v in given.items() if k in want.model_fields_set and v is not None}
    return f"{PREFIX}{digest(said)[:10]}"


def unsupported(provider: type[Provider[Any, Any]], want: Revisioned) -> Iterator[str]:
    """What a spec asks of a rollout that the vendor cannot do."""
    strategy, vendor = want.rollout.strategy, provider.vendor
    if strategy is not Strategy.ROLLING and not provider.revisions:
        yield (
            f"spec.rollout.strategy: {vendor} cannot keep two revisions beside each other, so "
            f"{strategy} is not possible there; Rolling is"
        )
    elif strategy is Strategy.CANARY and not provider.traffic_split:
        yield (
            f"spec.rollout.strategy: {vendor} cannot divide the traffic between revisions, so "
            "Canary is not possible there; BlueGreen and Rolling are"
        )
    if want.probe is not None and not provider.probes:
        yield f"spec.probe: there is no way to send a request through {vendor}"
    yield from _unmeasured(provider, want)


def _unmeasured(provider: type[Provider[Any, Any]], want: Revisioned) -> Iterator[str]:
    vendor, told = provider.vendor, sorted(provider.measures)
    checks = want.rollout.checks or []
    if checks and not told:
        yield (
            f"spec.rollout.checks: {vendor} tells no figures of single revisions, so checks are "
            "not possible there" + ("; spec.probe is" if provider.probes else "")
        )
        return
    for check in checks:
        if check.metric not in told:
            yield (
                f"spec.rollout.checks: {vendor} does not tell {check.metric} of a revision; it "
                f"tells {', '.join(told)}"
            )


class Revisions:
    """The revisions of one object, during one visit."""

    def __init__(self, visit: Visit, provider: Provider[Any, Any], want: Revisioned) -> None:
        assert visit.declared is not None  # noqa: S101 - the connection was looked up for it
        self.visit, self.provider = visit, provider
        self.vendor = provider.vendor
        self.declared = visit.declared
        self.rules = want.rollout
        for problem in unsupported(type(provider), want):
            raise Rejected(problem)
        told = visit.status.get("rollout")
        self.told = RolloutStatus.model_validate(told) if told else None
        self.position = _position(self.told)
        self.want = self._rolled_back(want) if want.rollout.rollback_to else want
        self.content = self._content_of(self.want)
        self.base = ""

    def name(self) -> Revisioned:
        """What is wanted, with everything looked up and the revision named."""
        self.base = name_of(self.want)
        self.want = self.want.model_copy(update={"revision": self.base})
        return self.want

    @property
    def under_way(self) -> bool:
        """Whether what differs comes of a rollout of ours."""
        return self.position is not None and self.position.step is not None

    @property
    def _known(self) -> bool:
        """Whether just this has been in service already: what differs then is not our doing."""
        history = self.told.history if self.told else []
        quiet = self.position is not None and self.position.failed is None and not self.under_way
        return quiet and bool(history) and history[0].name == self.base

    # What differs

    def as_one(self, observed: Observed[Any]) -> bool:
        """Whether `update` is to bring everything, as for an object without revisions."""
        if not self.provider.revisions or observed.phase is Phase.FAILED:
            return True
        rolling = self.rules.strategy is Strategy.ROLLING or self.rules.rollback_to is not None
        return self.provider.in_place and rolling and len(observed.revisions) == 1

    def compare(
        self, observed: Observed[Any], memory: Memory, *, everything: bool = False
    ) -> list[Difference]:
        """What `update` is to bring; with `everything` also what new revisions would."""
        if everything or self.as_one(observed):
            return compare(self.want, _merged(observed), memory, observed.versions)
        found = compare(self.want, observed.actual, memory, observed.versions)
        for revision in observed.revisions:
            if revision.phase is Phase.READY:
                found += compare(self.want, revision.actual, memory, observed.versions)
        of_the_whole = {d.path: d for d in reversed(found) if d.has(UNVERSIONED)}
        return sorted(of_the_whole.values(), key=lambda d: d.path)

    def by_update(self, observed: Observed[Any], difference: Difference) -> bool:
        """Whether `update` is to bring it."""
        return difference.has(UNVERSIONED) or self.as_one(observed)

    def written(self, observed: Observed[Any], before: Mapping[str, str] | None) -> dict[str, str]:
        """What to remember after an update of what cannot be read back."""
        now = fingerprints(self.want, observed.versions)
        if self.as_one(observed):
            return now
        mine = {p: v for p, v in now.items() if _top(p) not in versioned(type(self.want))}
        left = {p: v for p, v in (before or {}).items() if _top(p) in versioned(type(self.want))}
        return {**left, **mine}

    def _differences(self, revision: Revision[Any], observed: Observed[Any]) -> list[Difference]:
        status = self.visit.status
        named = revision.name == self.base or revision.name.startswith(f"{self.base}-")
        # Its name says where what cannot be read back came from.
        written = fingerprints(self.want, observed.versions) if named else status.get("written")
        memory = Memory(
            written=written,
            create_only=self._create_only,
            vendor=self.vendor,
            portable=self._portable,
        )
        found = compare(self.want, revision.actual, memory, observed.versions)
        return [d for d in found if not d.has(UNVERSIONED)]

    @property
    def _create_only(self) -> tuple[str, ...]:
        return tuple(self.declared.common.create_only)

    @property
    def _portable(self) -> frozenset[str]:
        return frozenset(self.declared.kind.params.model_fields)

    # One visit of a rollout

    async def advance(self, observed: Observed[Any]) -> Verdict | None:
        """Go one step further; None once what is wanted serves alone."""
        if self.as_one(observed):
            self._complete(observed, self.base)
            return None
        target = self._target(observed)
        for _ in range(MOST_DECISIONS):
            decision = self._decide(observed, target)
            self.show(observed)
            if isinstance(decision, rollout.Done):
                if self.under_way:
                    await self._tell("Normal", "Promoted", f"{target} has all of the traffic")
                self._complete(observed, target)
                if written := fingerprints(self.want, observed.versions):
                    self.visit.status["written"] = written
                return None
            if (verdict := await self._carry_out(decision, observed, target)) is not None:
                return verdict
        raise AssertionError(f"no act after {MOST_DECISIONS} decisions")

    def _target(self, observed: Observed[Any]) -> str:
        by_name = {one.name: one for one in observed.revisions}
        plain = set(versioned(type(self.want)))
        return rollout.choose(
            self.base,
            _seen(observed),
            self.position.revision if self.position else None,
            lambda name: bool(self._differences(by_name[name], observed)),
            lambda name: bool(by_name[name].actual.model_fields_set & plain),
        )

    def _decide(self, observed: Observed[Any], target: str) -> rollout.Decision:
        return rollout.decide(
            self.position,
            _seen(observed),
            target=target,
            way=rollout.stages(self.rules, at_once=self.rules.rollback_to is not None),
            generation=self.visit.generation,
            now=datetime.fromisoformat(self.visit.cluster.now()),
        )

    async def _carry_out(
        self, decision: rollout.Undone, observed: Observed[Any], target: str
    ) -> Verdict | None:
        """One decision; None if the next one may follow."""
        match decision:
            case rollout.Move() | rollout.Add() | rollout.Shift() | rollout.Remove():
                return await self._act(decision, observed, target)
            case rollout.Gate():
                return await self._gate(decision, observed, target)
            case rollout.Broken(message=message, back=back):
                return await self._broken(observed, target, message, back=back)
            case rollout.GoneBack(failed=failed):
                self._set_phase("RolledBack")
                return await self.visit.settle(
                    Reason.ROLLED_BACK,
                    f"revision {failed.name} failed, and the one before it serves again; edit the "
                    f"spec to try another: {failed.message}",
                )
            case rollout.Wait(message=message):
                return await self._rolling(message)

    async def _act(
        self,
        decision: rollout.Move | rollout.Add | rollout.Shift | rollout.Remove,
        observed: Observed[Any],
        target: str,
    ) -> Verdict | None:
        starts = not self._failed(target) and target not in {r.name for r in observed.revisions}
        differences = self._changes(observed, target, decision)
        foreign = self._known and not self.visit.observes
        if foreign and self.declared.common.drift_policy is DriftPolicy.REPORT:
            return await self._report(differences)
        if foreign:
            self._drifted(differences)
        if starts:
            self.declared.refuse(self.want, named=True)
        if starts and not self.visit.approved("Update", observed.id, differences):
            return await self.visit.await_approval()
        if isinstance(decision, rollout.Move):
            await self._move(decision.position, observed)
            return None
        cause = "Drift" if foreign else "Spec"
        return await self._change(decision, observed, target, cause, differences)

    async def _change(
        self,
        decision: rollout.Add | rollout.Shift | rollout.Remove,
        observed: Observed[Any],
        target: str,
        cause: str,
        changes: list[Difference],
    ) -> Verdict:
        await self._hold()
        doing = _told(decision, target, observed)[0]
        async with self.visit.change("Update", cause, observed.id, changes):
            match decision:
                case rollout.Add():
                    want = self.want.model_copy(update={"revision": target})
                    await self.provider.add_revision(observed.id, want, self.visit.owner)
                case rollout.Shift(weights=weights):
                    await self.provider.set_traffic(observed.id, weights)
                case rollout.Remove(name=name):
                    await self.provider.remove_revision(observed.id, name)
        if self.visit.opened is not None:
            self.visit.engine.listings.changed(self.visit.opened.key, self.provider, observed.id)
        if (now := await self.provider.read(observed.id)) is not None:
            self.show(now)
        return await self._rolling(doing)

    async def _hold(self) -> None:
        if not self.visit.subject.kept:
            self.visit.subject = await self.visit.cluster.patch_metadata(
                self.visit.subject, finalizer=True
            )

    async def _gate(
        self, gate: rollout.Gate, observed: Observed[Any], target: str
    ) -> Verdict | None:
        position, probe = self.position, self.want.probe
        assert position is not None  # noqa: S101 - a gate is a place on the way
        where = f"{target} has {gate.stage.weight} % of the traffic"
        health = await self._ask(observed.id, (position.step,), target) if probe else None
        if health is not None and health.verdict is ProbeVerdict.UNSURE:
            return await self._rolling(f"{where}; its probe is asked again", after=health.due)
        problem, found = "", None
        if health is not None and health.verdict is ProbeVerdict.FAILING:
            problem = f"its probe fails: {health.message}"
        elif (found := await self._measure(gate, observed, target)) is not None:
            failing = found.verdict is ProbeVerdict.FAILING
            problem = f"its checks fail: {found.message}" if failing else ""
        if problem:
            return await self._broken(observed, target, problem, back=self._way_back(observed))
        due = min([one.due for one in (health, found) if one is not None], default=None)
        if gate.left > timedelta():
            self._set_phase("Paused")
            after = gate.left.total_seconds()
            return await self.visit.settle(
                Reason.ROLLING_OUT,
                f"{where}, and stays at that for {_span(gate.stage.pause)}",
                after=after if due is None else min(after, due),
            )
        if found is not None and found.verdict is ProbeVerdict.UNSURE:
            self._set_phase("Measuring")
            return await self.visit.settle(
                Reason.ROLLING_OUT,
                f"{where}, and its checks have no verdict: {found.message}",
                after=due,
            )
        if gate.stage.approval and not self._approved(gate, observed, target):
            self._set_phase("AwaitingApproval")
            self.visit.sooner = due
            return await self.visit.await_approval()
        return await self._act(gate.onward, observed, target)

    def _approved(self, gate: rollout.Gate, observed: Observed[Any], target: str) -> bool:
        """Whether a person lets it go on. The time it got here makes each question another one."""
        position = self.position
        assert position is not None  # noqa: S101 - a gate is a place on the way
        assert position.since is not None  # noqa: S101 - it was reached
        next_ = position.weights[(position.step or 0) + 1 : (position.step or 0) + 2]
        asked = Difference(
            path=f"rollout.{target}.{position.step}.{position.since.isoformat()}",
            shown="rollout.weight",
            want=f"{target}: {next_[0]} %" if next_ else f"only {target}",
            actual=f"{target}: {gate.stage.weight} %",
        )
        plan = self.visit.plan("Promote", observed.id, [asked])
        if self.visit.subject.annotations.get(APPROVE) == plan.hash:
            self.visit.approval = plan.hash
            self.visit.use_approval()
            self.visit.status.pop("plan", None)
            return True
        self.visit.status["plan"] = by_alias(plan)
        return False

    async def _broken(
        self, observed: Observed[Any], target: str, message: str, *, back: bool
    ) -> Verdict | None:
        message = hide(message)
        if not back or not self.rules.auto_rollback:
            left = "" if not back else "; autoRollback is false, so it is left as it is"
            return await self.visit.settle(
                Reason.PROVIDER_FAILED, f"revision {target} has failed{left}: {message}"
            )
        self.visit.status.pop("plan", None)
        # Whoever approved it did not approve of a second attempt.
        self.visit.use_approval()
        position = rollout.fail(self.position, target, self.visit.generation, message)
        await self._move(position, observed)
        await self._tell("Warning", "RollingBack", f"{target} has failed: {message}")
        return None

    def _way_back(self, observed: Observed[Any]) -> bool:
        stable = self.position.stable if self.position else None
        return any(r.name == stable and r.phase is Phase.READY for r in observed.revisions)

    async def _move(self, position: rollout.Position, observed: Observed[Any]) -> None:
        """Decide, for good: known to whoever comes after a crash."""
        before, self.position = self.position, position
        if self.told is not None and position.step is not None and position.since is None:
            # What the checks said was about another step.
            self.told.checks = None
        self.show(observed)
        await self.visit.save()
        if position.step == 0 and position.since is None and position.failed is None:
            old = f" beside {position.stable}" if position.stable else ""
            await self._tell("Normal", "RolloutStarted", f"{position.revision} is added{old}")
        elif before is not None and position.step is not None and position.since is None:
            weight = position.weights[position.step]
            await self._tell("Normal", "RolloutStep", f"{position.revision} gets {weight} %")

    async def _rolling(self, message: str, *, after: float | None = None) -> Verdict:
        started = self.under_way or (self.position is not None and self.position.failed)
        reason = Reason.ROLLING_OUT if started else Reason.PROGRESSING
        return await self.visit.settle(reason, message, again=Again.POLL, after=after)

    async def _tell(self, type_: str, reason: str, message: str) -> None:
        await self.visit.cluster.event(self.visit.subject, type_, reason, f"Revision {message}")

    # What someone else has done

    def _changes(
        self, observed: Observed[Any], target: str, decision: rollout.Decision
    ) -> list[Difference]:
        """What a rollout is about, as a plan or a drift report tells it."""
        by_name = {one.name: one for one in observed.revisions}
        found: list[Difference] = []
        if target not in by_name:
            known = self.position.stable if self.position else None
            serving = by_name.get(known or "") or _heaviest(observed)
            if serving is not None:
                found = self._differences(serving, observed)
        return found or _told(decision, target, observed)[1]

    def _drifted(self, differences: list[Difference]) -> None:
        self.visit.engine.observer.drifted(
            self.visit.subject.key.kind, self.vendor, (d.shown for d in differences)
        )

    async def _report(self, differences: list[Difference]) -> Verdict:
        self.visit.report(differences)
        self.visit.status["syncedGeneration"] = self.visit.generation
        fields = ", ".join(d.shown for d in differences[:5])
        return await self.visit.settle(
            Reason.DRIFTED,
            f"Changed at {self.vendor} by someone else: {fields}; driftPolicy is Report, so it is "
            "left: see status.drift",
            ready=True,
        )

    # The probe

    async def unwell(self, id: str) -> str | None:
        """What the probe says is wrong with what serves; None if nothing is."""
        if self.want.probe is None:
            self.visit.status.pop("probe", None)
            return None
        health = await self._ask(id, (), None)
        self.visit.sooner = health.due
        told = self.visit.status.get("probe") or {}
        if health.verdict is ProbeVerdict.UNSURE and told:
            # One bad answer changes nothing yet.
            return told["message"] if told["verdict"] == "Failing" else None
        failing = health.verdict is not ProbeVerdict.PASSING
        verdict = "Failing" if failing else "Passing"
        if told.get("verdict") != verdict:
            now = ProbeStatus(verdict=cast("Any", verdict), message=health.message[:512])
            told = self.visit.status["probe"] = by_alias(now)
        return told["message"] if failing else None

    async def _ask(self, id: str, about: tuple[object, ...], revision: str | None) -> Health:
        assert self.want.probe is not None  # noqa: S101 - asked for where one is declared
        health, took = await self.visit.engine.probes.ask(
            self.visit.subject.uid, self.provider, id, self.want.probe, about, revision
        )
        if took is not None:
            self.visit.engine.observer.probed(
                self.visit.subject.key.kind, self.vendor, took, passed=not health.message
            )
        return replace(health, message=hide(health.message))

    # The checks

    async def _measure(
        self, gate: rollout.Gate, observed: Observed[Any], target: str
    ) -> Findings | None:
        """What the checks say of this step; None if there is nothing to check."""
        position, weight = self.position, gate.stage.weight
        assert position is not None  # noqa: S101 - a gate is a place on the way
        assert position.since is not None  # noqa: S101 - it was reached
        if not self.rules.checks or not weight:
            return None
        stable = position.stable if weight < rollout.ALL else None
        found, asked = await self.visit.engine.measures.ask(
            self.visit.subject.uid,
            self.provider,
            observed.id,
            self.rules,
            Place(target, stable, position.since),
            datetime.fromisoformat(self.visit.cluster.now()),
        )
        if asked:
            self.visit.engine.observer.checked(
                self.visit.subject.key.kind, self.vendor, found.verdict.name.capitalize()
            )
        return self._remembered(found, weight)

    def _remembered(self, found: Findings, weight: int) -> Findings:
        """With what was said at this step before: silence takes nothing of it back."""
        told = self.told.checks if self.told else None
        if told is not None and found.verdict is ProbeVerdict.UNSURE:
            return replace(found, verdict=_verdict(told.verdict), message=told.message)
        verdict = found.verdict.name.capitalize()
        if self.told is None or found.verdict is ProbeVerdict.UNSURE or not found.figures:
            return found
        if told is not None and told.verdict == verdict:
            # The same text as long as the same is wrong.
            return replace(found, message=told.message)
        self.told.checks = ChecksStatus(
            verdict=cast("Any", verdict),
            message=found.message[:512],
            weight=weight,
            requests=found.requests,
            figures=[
                MeasuredFigure(
                    metric=one.metric,
                    value=round(one.value, 3),
                    stable=None if one.stable is None else round(one.stable, 3),
                )
                for one in found.figures
            ],
        )
        self.visit.status["rollout"] = by_alias(self.told)
        return found

    # What the status tells

    def show(self, observed: Observed[Any]) -> None:
        """Draft status.rollout."""
        position = self.position
        if position is None:
            return
        failed = position.failed and FailedRevision(
            name=position.failed.name,
            generation=position.failed.generation,
            message=position.failed.message,
        )
        told = RolloutStatus(
            phase="Progressing",
            revision=position.revision,
            stable=position.stable,
            weights=list(position.weights) or None,
            step=position.step,
            since=position.since.strftime("%Y-%m-%dT%H:%M:%SZ") if position.since else None,
            failed=failed,
            checks=self.told.checks if self.told else None,
            revisions=[
                RevisionStatus(name=one.name[:63], weight=one.weight, phase=str(one.phase))
                for one in sorted(observed.revisions, key=lambda r: r.name)[:32]
            ],
            history=self.told.history if self.told else [],
        )
        if position.failed is not None:
            told.phase = "RollingBack"
        elif position.step is None:
            told.phase = "Complete"
        self.told = told
        self.visit.status["rollout"] = by_alias(told)

    def _set_phase(self, phase: Any) -> None:
        if self.told is not None:
            self.told.phase = phase
            self.visit.status["rollout"] = by_alias(self.told)

    def _complete(self, observed: Observed[Any], revision: str) -> None:
        """It serves alone: remember it, to go back to it one day."""
        self.position = rollout.Position(revision, revision)
        self.show(observed)
        assert self.told is not None  # noqa: S101 - just shown
        if observed.phase is Phase.READY:
            this = EarlierRevision(name=self.base, content=self.content)
            others = [one for one in self.told.history if one.name != self.base]
            self.told.history = [this, *others][: self.rules.revision_history_limit + 1]
        self.visit.status["rollout"] = by_alias(self.told)

    def _failed(self, target: str) -> bool:
        failed = self.position.failed if self.position else None
        return failed is not None and (failed.name, failed.generation) == (
            target,
            self.visit.generation,
        )

    # Rolling back by hand

    def _rolled_back(self, want: Revisioned) -> Revisioned:
        name = want.rollout.rollback_to
        history = self.told.history if self.told else []
        found = next((one for one in history if one.name == name), None)
        if found is None or not found.content:
            known = ", ".join(one.name for one in history if one.content) or "none"
            raise Rejected(
                f"spec.rollout.rollbackTo: there is no earlier revision {name!r} to go back to; "
                f"there is: {known}"
            )
        cls = type(want)
        aliases = {alias_of(cls, field) for field in versioned(cls)}
        said = want.model_dump(mode="json", by_alias=True, exclude_unset=True)
        kept = {key: value for key, value in said.items() if key not in aliases}
        try:
            return cls.model_validate({**kept, **json.loads(found.content), "name": want.name})
        except ValidationError:
            raise Rejected(
                f"spec.rollout.rollbackTo: revision {name!r} is of an older version of the "
                "operator, and says what this one does not know"
            ) from None

    @staticmethod
    def _content_of(want: Revisioned) -> str:
        said = want.model_dump(
            mode="json",
            by_alias=True,
            exclude_unset=True,
            exclude_none=True,
            include=set(versioned(type(want))),
        )
        content = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return content if len(content) <= LONGEST_CONTENT else ""


def _verdict(told: str) -> ProbeVerdict:
    return ProbeVerdict.PASSING if told == "Passing" else ProbeVerdict.FAILING


def _position(told: RolloutStatus | None) -> rollout.Position | None:
    if told is None:
        return None
    failed = None
    if told.failed is not None:
        failed = rollout.Failed(told.failed.name, told.failed.generation, told.failed.message)
    return rollout.Position(
        revision=told.revision,
        stable=told.stable,
        weights=tuple(told.weights or ()),
        step=told.step,
        since=datetime.fromisoformat(told.since) if told.since else None,
        failed=failed,
    )


def _seen(observed: Observed[Any]) -> list[rollout.Seen]:
    return [rollout.Seen(r.name, r.weight, r.phase, r.message) for r in observed.revisions]


def _heaviest(observed: Observed[Any]) -> Revision[Any] | None:
    return max(observed.revisions, key=lambda one: (one.weight, one.name), default=None)


def _merged(observed: Observed[Any]) -> Any:
    """What the whole object has, with what the revision has that serves."""
    serving = _heaviest(observed)
    if serving is None:
        return observed.actual
    told = {name: getattr(serving.actual, name) for name in serving.actual.model_fields_set}
    return observed.actual.model_copy(update=told)


def _told(
    decision: rollout.Decision, target: str, observed: Observed[Any]
) -> tuple[str, list[Difference]]:
    """An act in words, and as the change log has it."""
    weights = {one.name: one.weight for one in observed.revisions}
    match decision:
        case rollout.Shift(weights=wanted):
            changes = [
                _change_of(name, f"{weight} %", f"{weights[name]} %")
                for name, weight in sorted(wanted.items())
                if weights.get(name) != weight
            ]
            shares = ", ".join(f"{name} {weight} %" for name, weight in sorted(wanted.items()))
            return f"the traffic moves: {shares}", changes
        case rollout.Remove(name=name):
            return f"revision {name} is removed", [_change_of(name, None, f"{weights[name]} %")]
        case _:
            return f"revision {target} is added", [_change_of(target, "0 %", None)]


def _change_of(name: str, want: str | None, actual: str | None) -> Difference:
    path = f"revisions.{name}"
    return Difference(path, path, want, actual)


def _top(path: str) -> str:
    return path.partition(".")[0]


def _span(time: timedelta) -> str:
    left, words = int(time.total_seconds()), []
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"
