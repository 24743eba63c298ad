"""`auterity approve`, `reconcile`, `suspend`, `resume`, `forget`: what a person has to say."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

from cyclopts import Parameter

from auterity.api.annotations import APPROVE, FORGET, REQUESTED_AT
from auterity.api.kinds import CONNECTIONS, LOCAL
from auterity.cli.cluster import CONFLICT, Cluster, ItsName, TheObject, Where, named, perform
from auterity.cli.commands import named as called
from auterity.cli.output import Problem, Table, show, write
from auterity.engine.subject import JSON, Key, Subject
from auterity.runtime.kube import KubeError

ATTEMPTS: Final = 20
"""Writes that may be overtaken by those of others."""
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative=(), help="Do not ask.")]


def approve(
    kind: TheObject, name: ItsName = None, /, *, yes: Yes = False, where: Where | None = None
) -> None:
    """Approve the plan that waits, after showing it: exactly this plan, once."""
    perform(_approve(kind, name, where or Where(), yes=yes))


async def _approve(kind: str, name: str | None, where: Where, *, yes: bool) -> None:
    async with Cluster.reached(where) as cluster:
        subject = await cluster.required(_held(kind, name, cluster.namespace))
        plan = _waiting(subject)
        table = Table(
            ("Field", "From", "To"),
            [(c["field"], c.get("from", ""), c.get("to", "")) for c in plan.get("changes") or ()],
            title=f"{plan['action']} {called(subject.key)}",
            empty=f"{plan['action']} {called(subject.key)}",
        )
        show(plan, table)
        _ask("Approve this plan?", yes=yes)

        def approved(newest: Subject) -> JSON:
            if _waiting(newest)["hash"] != plan["hash"]:
                raise Problem("another plan waits by now: look at it and approve that one")
            return {"metadata": {"annotations": {APPROVE: plan["hash"]}}}

        await _change(cluster, subject, approved)
        write(f"{called(subject.key)}: plan {plan['hash']} is approved")


def _waiting(subject: Subject) -> JSON:
    plan = subject.status.get("plan")
    reason = (subject.condition("Ready") or {}).get("reason")
    if not plan or reason != "AwaitingApproval":
        raise Problem(f"{called(subject.key)} has no plan that waits for approval")
    if subject.status.get("observedGeneration") != subject.generation:
        raise Problem(f"{called(subject.key)} was edited: the plan is made anew, try again")
    found: JSON = plan
    return found


def reconcile(kind: TheObject, name: ItsName = None, /, *, where: Where | None = None) -> None:
    """Have an object looked at now, and wait until that has been done."""
    perform(_reconcile(kind, name, where or Where()))


async def _reconcile(kind: str, name: str | None, where: Where) -> None:
    async with Cluster.reached(where) as cluster:
        subject = await cluster.required(named(kind, name, cluster.namespace))
        asked = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        note = {"metadata": {"annotations": {REQUESTED_AT: asked}}}
        subject = await _change(cluster, subject, lambda _: note)
        for _ in range(60):
            if subject.status.get("lastHandledReconcileAt") == asked:
                ready = subject.condition("Ready") or {}
                write(f"{called(subject.key)}: {ready.get('reason')}: {ready.get('message')}")
                return
            await asyncio.sleep(0.5)
            subject = await cluster.required(subject.key)
        why = cluster.commands.own("why", subject.key)
        raise Problem(f"it was asked for, and not done within 30 s; to see why: {why}")


def suspend(kind: TheObject, name: ItsName = None, /, *, where: Where | None = None) -> None:
    """Have the vendor left alone until the object is resumed."""
    perform(_suspend(kind, name, where or Where(), suspended=True))


def resume(kind: TheObject, name: ItsName = None, /, *, where: Where | None = None) -> None:
    """Have the vendor looked after again."""
    perform(_suspend(kind, name, where or Where(), suspended=False))


async def _suspend(kind: str, name: str | None, where: Where, *, suspended: bool) -> None:
    async with Cluster.reached(where) as cluster:
        subject = await cluster.required(_integration(kind, name, cluster.namespace))
        state = "suspended" if suspended else "resumed"
        if bool(subject.spec.get("suspend")) is suspended:
            write(f"{called(subject.key)} is {'' if suspended else 'not '}suspended already")
            return
        spec = {"spec": {"suspend": suspended}}
        await _change(cluster, subject, lambda _: spec)
        write(f"{called(subject.key)} is {state}")
        if suspended:
            write(
                "What keeps its manifest, such as a GitOps tool, may resume it: set it there too."
            )


def forget(
    kind: TheObject, name: ItsName = None, /, *, yes: Yes = False, where: Where | None = None
) -> None:
    """Let go of an object on its deletion, without a call to its vendor.

    What exists at the vendor stays there, with nobody to look after it.
    """
    perform(_forget(kind, name, where or Where(), yes=yes))


async def _forget(kind: str, name: str | None, where: Where, *, yes: bool) -> None:
    async with Cluster.reached(where) as cluster:
        subject = await cluster.required(_held(kind, name, cluster.namespace))
        left = subject.status.get("id")
        vendor = subject.status.get("vendor", "its vendor")
        write(
            f"{left} stays at {vendor}, and nobody looks after it or deletes it there."
            if left
            else f"Whatever it may have made at {vendor} stays there, with nobody to delete it."
        )
        if subject.status.get("url"):
            write(f"See {subject.status['url']}")
        _ask(f"Let go of {called(subject.key)}?", yes=yes)
        await _change(cluster, subject, lambda _: {"metadata": {"annotations": {FORGET: "true"}}})
        key = subject.key
        if subject.deleting:
            write(f"{called(key)} is let go of")
        else:
            delete = cluster.commands.kubectl("delete", key.kind.lower(), key.name, of=key)
            write(f"{called(key)} is let go of once it is deleted:\n  {delete}")


def _integration(kind: str, name: str | None, namespace: str) -> Key:
    key = named(kind, name, namespace)
    if key.kind in CONNECTIONS:
        raise Problem(f"a {key.kind} makes nothing at its vendor: this is for integrations")
    return key


def _held(kind: str, name: str | None, namespace: str) -> Key:
    """The same of what a vendor holds."""
    key = _integration(kind, name, namespace)
    if key.kind in LOCAL:
        raise Problem(f"a {key.kind} makes nothing at any vendor: this is for integrations")
    return key


async def _change(cluster: Cluster, subject: Subject, body: Callable[[Subject], JSON]) -> Subject:
    """Change an object as it is when the change arrives: what others write meanwhile is seen."""
    for _ in range(ATTEMPTS):
        try:
            return await cluster.patch(subject, body(subject))
        except KubeError as error:
            if error.status != CONFLICT:
                raise
        newest = await cluster.required(subject.key)
        if newest.uid != subject.uid:
            raise Problem(f"{called(subject.key)} was deleted and made anew meanwhile")
        subject = newest
    raise Problem(f"{called(subject.key)} is written to all the time: try again")


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Problem("there is nobody to ask: give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - standard output has the answer only
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Problem("nothing was done")
