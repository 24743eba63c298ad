"""Why an object is not ready: from what was read of a cluster to one reason and the next step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from auterity.api.annotations import CREATE_PENDING, FINALIZER, FORGET, REQUESTED_AT
from auterity.api.kinds import BUDGET, CONNECTIONS, PLURALS, PRICED, ROUTE
from auterity.cli.commands import Commands, named
from auterity.cli.snapshot import (
    ObjectUse,
    SecretUse,
    Snapshot,
    connection_of,
    outputs_secret,
    secret_uses,
    uses,
)
from auterity.engine.conditions import LONGEST_REQUEST, Reason
from auterity.engine.subject import JSON, Key, Subject

MOST_SHOWN = 20
"""Most changes of a plan that are shown."""
NOT_SEEN = "NotLookedAt"
"""The state of an object whose newest spec no replica has looked at."""
LABEL = "app.kubernetes.io/name=auterity"


@dataclass(frozen=True, slots=True)
class Link:
    """One object in the chain of causes: what it waits for is the next one."""

    key: Key
    state: str
    """A reason of its Ready condition, or a word such as Missing."""
    says: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and the command for it (empty if there is none)."""

    does: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The chain ends with the cause; the first step is the one to take."""

    ready: bool
    chain: tuple[Link, ...]
    steps: tuple[Step, ...] = ()


def explain(snapshot: Snapshot, key: Key, commands: Commands) -> Answer:
    """Why an object is not ready (or that it is): follows what it waits for to the end."""
    return _Explainer(snapshot, commands).object(key, ())


class _Explainer:
    def __init__(self, snapshot: Snapshot, commands: Commands) -> None:
        self.snapshot = snapshot
        self.commands = commands

    def object(self, key: Key, above: tuple[Link, ...]) -> Answer:  # noqa: PLR0911 - one a state
        subject = self.snapshot.find(key)
        if subject is None:
            return self._missing(key, above)
        if any(link.key == key for link in above):
            here = Link(key, "Circle", "waits for itself")
            return self._end(
                above, here, Step("take one dependency out", self._edit(above[-1].key))
            )
        ready = subject.condition("Ready") or {}
        if subject.deleting and not subject.kept:
            return self._kept_by_others(subject, above)
        if subject.status.get("observedGeneration") != subject.generation:
            return self._not_seen(subject, above)
        here = Link(key, str(ready.get("reason", "")), str(ready.get("message", "")))
        if subject.spec.get("suspend") is True and not subject.deleting:
            step = Step("let it go on", self.commands.own("resume", key))
            return self._end(above, here, step)
        if ready.get("status") == "True" and not subject.deleting:
            return self._ready(subject, here, above)
        return self._by_reason(subject, here, above)

    def _by_reason(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:  # noqa: PLR0911 - one return a reason
        match here.state:
            case Reason.DEPENDENCY_NOT_READY:
                return self._dependency(subject, here, above)
            case Reason.CREDENTIALS_REJECTED:
                return self._credentials(subject, here, above)
            case Reason.AWAITING_APPROVAL:
                return self._approval(subject, here, above)
            case Reason.CONFLICT:
                return self._end(above, here, *self._conflict(subject, here.says))
            case Reason.RATE_LIMITED:
                return self._rate_limited(subject, here, above)
            case Reason.PROVIDER_UNAVAILABLE:
                return self._unavailable(subject, here, above)
            case Reason.IN_USE:
                return self._in_use(subject, here, above)
            case Reason.OVER_BUDGET:
                return self._over_budget(subject, here, above)
            case _:
                return self._end(above, here, *self._simple(subject, here.state))

    def _simple(self, subject: Subject, reason: str) -> list[Step]:  # noqa: PLR0911 - one return a reason
        """What to do where the object itself says it all."""
        key, commands = subject.key, self.commands
        again = Step("then have it looked at again", commands.own("reconcile", key))
        match reason:
            case Reason.SPEC_REJECTED if subject.deleting:
                return [
                    Step("put right what the message names", self._edit(key)),
                    self._forget(key),
                ]
            case Reason.SPEC_REJECTED:
                return [Step("put right what the message names", self._edit(key))]
            case Reason.PROVIDER_FAILED:
                where = subject.status.get("url")
                does = f"mend it at the vendor: {where}" if where else "mend it at the vendor"
                return [Step(does), again]
            case Reason.NOT_FOUND if subject.spec.get("policy") == "Observe":
                return [
                    Step(
                        "make it at the vendor, or have it made",
                        commands.patch(key, policy="Manage"),
                    )
                ]
            case Reason.NOT_FOUND:
                return [Step("have it made anew", commands.patch(key, driftPolicy="Revert"))]
            case Reason.EXPIRED:
                return [
                    Step(
                        "delete it", commands.kubectl("delete", key.kind.lower(), key.name, of=key)
                    ),
                    Step("or let it live on", commands.patch(key, ttl=None)),
                ]
            case Reason.INTERNAL_ERROR:
                return [Step("read the operator's log and report the bug", self._logs(key))]
            case Reason.PROGRESSING | Reason.ADOPTING | Reason.DELETING:
                return [self._wait(subject)]
            case _:
                return [Step("look at its history", self._describe(key))]

    def _ready(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        steps, details = [], []
        if here.state == Reason.DRIFTED:
            details = [
                f"{one['field']}: {_shown(one.get('actual'))} at the vendor, "
                f"{_shown(one.get('want'))} here"
                for one in (subject.status.get("drift") or ())[:MOST_SHOWN]
            ]
            steps = [Step("have it undone", self.commands.patch(subject.key, driftPolicy="Revert"))]
        if subject.key.kind == ROUTE:
            details += _candidates(subject)
            steps += self._passed_over(subject)
        asked = subject.annotations.get(REQUESTED_AT)
        handled = subject.status.get("lastHandledReconcileAt")
        late = asked is not None and asked[:LONGEST_REQUEST] != handled
        if (trouble := self._no_replica(subject.key)) is not None:
            says, step = trouble
            details.append(f"but nobody looks after it: {says}")
            steps.append(step)
        elif late:
            details.append("the visit that was asked for has not been made yet")
        here = Link(here.key, here.state, here.says, tuple(details))
        return Answer(ready=True, chain=(*above, here), steps=tuple(steps))

    def _dependency(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        if subject.key.kind == ROUTE:
            here = Link(here.key, here.state, here.says, _candidates(subject))
        chain = (*above, here)
        for answer in self._causes(subject, chain):
            return answer
        return self._end(
            above,
            here,
            Step(
                "nothing is missing by now: it is looked at again by itself, or at once",
                self.commands.own("reconcile", subject.key),
            ),
        )

    def _passed_over(self, route: Subject) -> list[Step]:
        """What to do about candidates that are better than the one in use, and do not serve."""
        steps = []
        for one in route.status.get("candidates") or ():
            if one["name"] == route.status.get("active"):
                break
            if one["state"] != "Serving":
                key = Key("ModelDeployment", route.key.namespace, one["name"])
                command = self.commands.own("why", key)
                steps.append(Step(f"see why {one['name']} does not serve", command))
        return steps

    def _causes(self, subject: Subject, chain: tuple[Link, ...]) -> Iterator[Answer]:
        """What keeps an object waiting, in the order in which the engine looks."""
        key = subject.key
        if (connection := connection_of(subject)) is not None:
            yield from self._connection(connection, key, chain)
        references = uses(subject)
        for use in (u for u in references if u.output is None):
            yield from self._reference(use, key, chain)
        for secret in secret_uses(subject):
            yield from self._secret(secret, chain)
        for use in (u for u in references if u.output is not None):
            yield from self._reference(use, key, chain)

    def _connection(self, connection: Key, user: Key, chain: tuple[Link, ...]) -> Iterator[Answer]:
        found = self.snapshot.find(connection)
        if found is None:
            if connection.kind not in self.snapshot.unread:
                yield self.object(connection, chain)
            return
        allowed = [str(a) for a in found.spec.get("allowedNamespaces", ["*"])]
        if not any(fnmatchcase(user.namespace, pattern) for pattern in allowed):
            says = f"may be used from {', '.join(allowed)}, not from {user.namespace}"
            patch = self.commands.patch(connection, allowedNamespaces=[*allowed, user.namespace])
            link = Link(connection, "NotAllowed", says)
            yield self._end(chain, link, Step("have its owner allow the namespace", patch))
            return
        if (found.condition("Ready") or {}).get("status") == "False":
            yield self.object(connection, chain)

    def _reference(self, use: ObjectUse, user: Key, chain: tuple[Link, ...]) -> Iterator[Answer]:
        found = self.snapshot.meant(use, user.namespace)
        first = Key(use.kind, user.namespace, use.name or "")
        if not found and use.kind in self.snapshot.unread:
            return
        if not found and use.name is None:
            link = Link(first, "Missing", f"no {use} exists; spec.{use.path} waits for one")
            yield self._end(
                chain, link, Step("make one, or put the labels right", self._edit(user))
            )
        elif not found:
            yield self.object(first, chain)
        elif use.output is not None and len(found) > 1:
            names = ", ".join(subject.key.name for subject in found[:5])
            link = Link(
                user, "Ambiguous", f"spec.{use.path}: {len(found)} match ({names}), not one"
            )
            yield self._end(chain, link, Step("make the labels fit one only", self._edit(user)))
        for subject in found:
            if not subject.ready:
                yield self.object(subject.key, chain)
        if use.output is not None and len(found) == 1 and found[0].ready:
            outputs = found[0].status.get("outputs") or {}
            if use.output not in outputs:
                known = ", ".join(sorted(outputs)) or "none"
                says = f"has no output {use.output!r}; it has: {known}"
                link = Link(found[0].key, "NoSuchOutput", says)
                yield self._end(
                    chain, link, Step(f"name another in spec.{use.path}", self._edit(user))
                )

    def _secret(self, use: SecretUse, chain: tuple[Link, ...]) -> Iterator[Answer]:
        key = Key("Secret", use.namespace, use.name)
        seen = self.snapshot.secret(use.namespace, use.name)
        if not seen.readable:
            return
        if seen.keys is None:
            link = Link(key, "Missing", f"does not exist; spec.{use.path} takes key {use.key!r}")
            yield self._end(
                chain,
                link,
                Step(
                    "make it; the value is read from standard input",
                    self.commands.kubectl(
                        *("create", "secret", "generic", use.name),
                        f"--from-file={use.key}=/dev/stdin",
                        of=key,
                    ),
                ),
            )
        elif use.key not in seen.keys:
            known = ", ".join(sorted(seen.keys)) or "none"
            link = Link(key, "NoSuchKey", f"has no key {use.key!r}; it has: {known}")
            yield self._end(chain, link, self._write_key(use, "add the key"))

    def _write_key(self, use: SecretUse, does: str) -> Step:
        patch = f'{{"stringData":{{"{use.key}":"..."}}}}'
        return Step(
            f"{does}, with its value in place of the dots; it is taken up at once",
            self.commands.kubectl(
                *("patch", "secret", use.name, "--type=merge", f"--patch={patch}"),
                of=Key("Secret", use.namespace, use.name),
            ),
        )

    def _credentials(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        chain = (*above, here)
        if (connection := connection_of(subject)) is not None:
            for answer in self._connection(connection, subject.key, chain):
                return answer
            says = "its credentials are good, but may not do this"
            rights = _rights(subject)
            link = Link(connection, Reason.READY, says, tuple(f"needed: {r}" for r in rights))
            again = self.commands.own("reconcile", subject.key)
            return self._end(chain, link, Step("grant them the right at the vendor; then", again))
        secrets = secret_uses(subject)
        if not secrets:
            again = self.commands.own("reconcile", subject.key)
            return self._end(
                above, here, Step("grant the operator's own identity access; then", again)
            )
        steps = [self._write_key(use, f"write the right {use.path}") for use in secrets]
        places = tuple(f"{u.path}: key {u.key!r} of Secret {u.namespace}/{u.name}" for u in secrets)
        return self._end(above, Link(here.key, here.state, here.says, places), *steps)

    def _approval(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        plan = subject.status.get("plan") or {}
        says = f"{_at_step(subject)}{plan.get('action')} waits for approval"
        link = Link(here.key, here.state, says, plan_lines(plan))
        approve = self.commands.own("approve", subject.key)
        return self._end(above, link, Step("approve the plan", approve))

    def _conflict(self, subject: Subject, message: str) -> list[Step]:
        key, commands = subject.key, self.commands
        if CREATE_PENDING in message:
            remove = commands.kubectl(
                "annotate", key.kind.lower(), key.name, f"{CREATE_PENDING}-", of=key
            )
            return [Step("look at the vendor; if there is nothing", remove)]
        if FORGET in message:
            return [self._forget(key)]
        if "spec.policy" in message:
            return [
                Step("if it shall be taken over", commands.patch(key, policy="Adopt")),
                Step(
                    "else delete this object and make it with another spec.externalName",
                    commands.kubectl("delete", key.kind.lower(), key.name, of=key),
                ),
            ]
        if outputs_secret(subject) and "spec.outputs.secretName" in message:
            name = f"{key.name}-outputs"
            return [
                Step("publish to another Secret", commands.patch(key, outputs={"secretName": name}))
            ]
        return [Step("settle whose it is; the message names both", self._describe(key))]

    def _rate_limited(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        connection = connection_of(subject)
        wait = self._wait(subject)
        if connection is None or (found := self.snapshot.find(connection)) is None:
            return self._end(above, here, wait)
        limit = found.spec.get("rateLimit") or {}
        told = (
            ", ".join(f"{name} {limit[name]}" for name in sorted(limit)) or "the vendor's default"
        )
        users = len(self.snapshot.users(connection))
        says = f"budget: {told}; shared by {users} integration{'s' * (users != 1)}"
        state = str((found.condition("Ready") or {}).get("reason", ""))
        slower = max(0.01, float(limit.get("perSecond", 10)) / 2)
        less = self.commands.patch(connection, rateLimit={"perSecond": slower})
        return self._end(
            (*above, here),
            Link(connection, state, says),
            wait,
            Step("if it stays so, ask less often", less),
        )

    def _unavailable(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        connection = connection_of(subject)
        if connection is not None:
            for answer in self._connection(connection, subject.key, (*above, here)):
                return answer
        again = self.commands.own("reconcile", subject.key)
        steps = [Step("it is tried again by itself; at once, if the vendor is back", again)]
        if subject.deleting and subject.key.kind not in CONNECTIONS:
            steps.append(self._forget(subject.key))
        return self._end(above, here, *steps)

    def _in_use(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        users = self.snapshot.users(subject.key)
        waiting = [user for user in users if user.deleting]
        if waiting:
            return self.object(waiting[0].key, (*above, here))
        if not users:
            return self._end(above, here, self._wait(subject))
        first = users[0].key
        delete = self.commands.kubectl("delete", first.kind.lower(), first.name, of=first)
        return self._end(above, here, Step("delete what uses it, or let it use another", delete))

    def _over_budget(self, subject: Subject, here: Link, above: tuple[Link, ...]) -> Answer:
        key, commands = subject.key, self.commands
        plurals = ",".join(PLURALS[kind] for kind in PRICED)
        look = commands.kubectl("get", plurals, "--output=wide", of=key)
        if key.kind == BUDGET:
            enough = math.ceil(float(subject.status.get("most") or 0) * 100) / 100
            return self._end(
                above,
                here,
                Step("see what costs how much, and make it less", look),
                Step("or allow more", commands.patch(key, hourly=enough)),
            )
        steps = [Step("ask for less, such as fewer replicas", self._edit(key))]
        if "no price is known" in here.says:
            steps.insert(0, Step("have its price added to the operator's (`prices` of the chart)"))
        if "spec.budget" in here.says:
            steps.append(Step("or let it cost more: raise spec.budget", self._edit(key)))
        for other, budget in sorted(self.snapshot.objects.items()):
            named_there = f"Budget {other.name!r}" in here.says
            if (other.kind, other.namespace) != (BUDGET, key.namespace) or not named_there:
                continue
            steps.append(Step("or see what else costs how much", look))
            steps.append(Step("or have the namespace allowed more", self._edit(other)))
            ready = budget.condition("Ready") or {}
            link = Link(other, str(ready.get("reason", NOT_SEEN)), str(ready.get("message", "")))
            return self._end((*above, here), link, *steps)
        return self._end(above, here, *steps)

    def _kept_by_others(self, subject: Subject, above: tuple[Link, ...]) -> Answer:
        others = [name for name in subject.finalizers if name != FINALIZER]
        says = f"our part is done; kept by {', '.join(others)}" if others else "it is about to go"
        link = Link(subject.key, "Terminating", says)
        step = Step("see to those who set the finalizer", self._describe(subject.key))
        return self._end(above, link, *([step] if others else []))

    def _not_seen(self, subject: Subject, above: tuple[Link, ...]) -> Answer:
        key, seen = subject.key, subject.status.get("observedGeneration", -1)
        what = "was not looked at yet" if seen == -1 else "was edited, and not looked at since"
        if subject.deleting:
            what = "is to be deleted, and was not looked at since"
        if self.snapshot.replicas is None:
            look = self.commands.kubectl(
                "get", "leases", "--all-namespaces", "--selector=integrations.auterity.io/member"
            )
            link = Link(key, NOT_SEEN, f"{what}; whether an operator runs is not for you to see")
            return self._end(above, link, Step("have someone look for its replicas", look))
        if (trouble := self._no_replica(key)) is not None:
            says, step = trouble
            return self._end(above, Link(key, NOT_SEEN, f"{what}: {says}"), step)
        link = Link(key, NOT_SEEN, f"{what}; it is in the operator's queue")
        return self._end(above, link, self._wait(subject))

    def _no_replica(self, key: Key) -> tuple[str, Step] | None:
        """Why no replica of the operator keeps an object; None if one does, or nobody knows."""
        replicas = self.snapshot.replicas
        if replicas is None:
            return None
        pods = ("get", "pods", f"--selector={LABEL}")
        if not replicas:
            look = self.commands.kubectl(*pods, "--all-namespaces")
            return "no operator runs in this cluster", Step("install it, or see why it ended", look)
        alive = [replica for replica in replicas if replica.alive]
        if not alive:
            last = max(replicas, key=lambda replica: replica.renewed)
            ago = int((self.snapshot.now - last.renewed).total_seconds())
            says = f"no replica of the operator is alive; {last.name} was last seen {ago} s ago"
            look = self.commands.kubectl(*pods, of=Key("Lease", last.namespace, last.name))
            return says, Step("see why it ended", look)
        if any(replica.keeps(key) for replica in alive):
            return None
        left_out = [replica.leaves_out(key.kind) for replica in alive]
        if all(left_out):
            says = f"the operator runs with --without-kind={left_out[0]}"
            return says, Step("run it without that option")
        served = sorted({namespace for replica in alive for namespace in replica.serves})
        says = f"no replica serves namespace {key.namespace}; served: {', '.join(served)}"
        release = self.commands.kubectl(
            *("get", "deployments", f"--selector={LABEL}", "--output=yaml"),
            of=Key("Lease", alive[0].namespace, alive[0].name),
        )
        return says, Step("add the namespace to watchNamespaces of the chart; it is now", release)

    def _missing(self, key: Key, above: tuple[Link, ...]) -> Answer:
        like = [
            other
            for other in self.snapshot.objects
            if other.kind == key.kind and other.namespace == key.namespace
        ]
        names = ", ".join(sorted(other.name for other in like)[:5])
        says = f"does not exist; there are: {names}" if names else "does not exist"
        scope = ["--all-namespaces"] if key.namespace else []
        look = self.commands.kubectl("get", key.kind.lower(), *scope)
        if not above:
            return self._end(above, Link(key, "Missing", says), Step("see what there is", look))
        step = Step("make it, or refer to another", self._edit(above[-1].key))
        return self._end(above, Link(key, "Missing", says), step)

    def _wait(self, subject: Subject) -> Step:
        key = subject.key
        until = "--for=delete" if subject.deleting else "--for=condition=Ready"
        wait = self.commands.kubectl("wait", until, f"{key.kind.lower()}/{key.name}", of=key)
        return Step("wait: it goes on by itself", wait)

    def _forget(self, key: Key) -> Step:
        return Step(
            "or let go of it, which leaves what is at the vendor", self.commands.own("forget", key)
        )

    def _edit(self, key: Key) -> str:
        return self.commands.kubectl("edit", key.kind.lower(), key.name, of=key)

    def _describe(self, key: Key) -> str:
        return self.commands.kubectl("describe", key.kind.lower(), key.name, of=key)

    def _logs(self, key: Key) -> str:
        alive = [replica for replica in self.snapshot.replicas or () if replica.alive]
        of = Key("Lease", alive[0].namespace, "") if alive else None
        return self.commands.kubectl("logs", f"--selector={LABEL}", "--tail=-1", of=of)

    @staticmethod
    def _end(above: tuple[Link, ...], cause: Link, *steps: Step) -> Answer:
        return Answer(ready=False, chain=(*above, cause), steps=steps)


def plan_lines(plan: JSON) -> tuple[str, ...]:
    """A plan's changes, one a line. Secrets stand in it hidden."""
    changes = plan.get("changes") or ()
    lines = [
        f"{one['field']}: {_shown(one.get('from'))} -> {_shown(one.get('to'))}"
        for one in changes[:MOST_SHOWN]
    ]
    if len(changes) > MOST_SHOWN:
        lines.append(f"and {len(changes) - MOST_SHOWN} more: see status.plan")
    return tuple(lines)


def as_json(answer: Answer) -> JSON:
    """The answer for programs."""
    from auterity.cli.commands import reference

    return {
        "object": reference(answer.chain[0].key),
        "ready": answer.ready,
        "chain": [
            {
                "object": reference(link.key),
                "state": str(link.state),
                "says": link.says,
                "details": list(link.details),
            }
            for link in answer.chain
        ],
        "next": [{"do": step.does, "command": step.command} for step in answer.steps],
    }


def lines(answer: Answer) -> list[tuple[str, str, str]]:
    """The chain as rows: object, state, why."""
    rows = []
    for depth, link in enumerate(answer.chain):
        indent = f"{'   ' * (depth - 1)}└─ " if depth else ""
        rows.append((f"{indent}{named(link.key)}", str(link.state), link.says))
        rows += [("", "", f"  {detail}") for detail in link.details]
    return rows


def _shown(value: str | None) -> str:
    return "nothing" if value is None else value


def _candidates(route: Subject) -> tuple[str, ...]:
    """How each candidate of a route is."""
    return tuple(
        f"{one['name']}: {one['state']} since {one['since']}"
        + (f" ({one['reason']})" if one["state"] != "Serving" and one.get("reason") else "")
        for one in route.status.get("candidates") or ()
    )


def _at_step(subject: Subject) -> str:
    """What a rollout that waits has come to; empty if none does."""
    rollout = subject.status.get("rollout") or {}
    if rollout.get("phase") != "AwaitingApproval":
        return ""
    shares = {one["name"]: one["weight"] for one in rollout.get("revisions") or ()}
    new = rollout.get("revision")
    return f"{new} has {shares.get(new, 0)} % of the traffic; "


def _rights(subject: Subject) -> tuple[str, ...]:
    from auterity.providers import catalogue

    provider = catalogue().get((subject.key.kind, str(subject.status.get("vendor"))))
    return () if provider is None else provider.permissions
