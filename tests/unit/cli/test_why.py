"""`auterity why`: every way in which an object can be stuck, made by the engine itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from auterity.api.annotations import FORGET, REQUESTED_AT
from auterity.cli.commands import Commands
from auterity.cli.reasons import LABEL, Answer, as_json, explain, lines
from auterity.engine.contract import Phase
from auterity.engine.errors import Rejected, Throttled, Unauthorized, Unavailable
from auterity.engine.subject import Key
from tests.conformance.harness import Harness
from tests.unit.cli.world import COMMANDS, look, replica, route, snapshot, team, why
from tests.unit.engine.shelf import TOKEN, Unfindable, World

CONNECTION = team("Connection", "vendor")
SHELF = {"shelf": {"replicas": 1}, "dimension": 8}


@dataclass(frozen=True)
class Case:
    """What is broken, the chain that must come of it, and the first command."""

    broken: Callable[[Harness, World], Any]
    chain: tuple[str, ...]
    command: str
    says: str = ""


def _wrong_key(harness: Harness, world: World) -> None:
    harness.cluster.put_secret("shelf", {"password": TOKEN})
    harness.apply()


def _no_secret(harness: Harness, world: World) -> None:
    del harness.cluster.secrets["team", "shelf"]
    harness.apply()


def _no_secret_of_its_own(harness: Harness, world: World) -> None:
    ref = {"secretKeyRef": {"name": "elsewhere", "key": "password"}}
    harness.apply({"dimension": 8, "shelf": {"password": ref}})


def _wrong_credentials(harness: Harness, world: World) -> None:
    world.token = "another-one-Zp4"
    harness.apply()


def _no_connection(harness: Harness, world: World) -> None:
    harness.apply(connectionRef={"name": "absent"})


def _not_allowed(harness: Harness, world: World) -> None:
    block = harness.cluster.subjects[harness.connection].spec
    spec = {**block, "secretNamespace": "team", "allowedNamespaces": ["other-*"]}
    harness.cluster.put("ClusterConnection", "shared", spec, namespace="")
    harness.apply(connectionRef={"kind": "ClusterConnection", "name": "shared"})


def _invalid_connection(harness: Harness, world: World) -> None:
    harness.cluster.put("Connection", "vendor", {"shelf": {"token": {}}})
    harness.apply()


def _no_dependency(harness: Harness, world: World) -> None:
    harness.apply(dependsOn=[{"kind": "AlertRoute", "name": "absent"}])


def _no_labels(harness: Harness, world: World) -> None:
    selector = {"matchLabels": {"app": "search"}}
    harness.apply(dependsOn=[{"kind": "VectorIndex", "selector": selector}])


def _waits_for_approval(harness: Harness, world: World) -> None:
    harness.apply(approval="Always")


def _depends_on_what_waits(harness: Harness, world: World) -> None:
    spec = {"connectionRef": {"name": "vendor"}, **SHELF, "approval": "Always"}
    harness.cluster.put("VectorIndex", "first", spec)
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "first"}])


def _takes_from(output: str, **ref: Any) -> Callable[[Harness, World], None]:
    def broken(harness: Harness, world: World) -> None:
        for name in ("first", "second"):
            spec = {"connectionRef": {"name": "vendor"}, **SHELF}
            labels = {"app": "search", "name": name}
            harness.cluster.put("VectorIndex", name, spec, labels=labels)
        peer = {"outputRef": {"kind": "VectorIndex", "output": output, **ref}}
        harness.apply({"dimension": 8, "shelf": {"peer": peer}})

    return broken


def _circle(harness: Harness, world: World) -> None:
    for name, other in (("first", "conformant"),):
        depends = [{"kind": "VectorIndex", "name": other}]
        spec = {"connectionRef": {"name": "vendor"}, **SHELF, "dependsOn": depends}
        harness.cluster.put("VectorIndex", name, spec)
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "first"}])


def _another_s(harness: Harness, world: World) -> None:
    world.put("conformant", "elsewhere/team/conformant")
    harness.apply()


def _unmarked(harness: Harness, world: World) -> None:
    world.put("conformant")
    harness.apply()


def _foreign_secret(harness: Harness, world: World) -> None:
    harness.cluster.put_secret("taken", {"a": "b"})
    harness.apply(outputs={"secretName": "taken"})


def _invalid(harness: Harness, world: World) -> None:
    harness.apply(createOnly=["nothing.of.the.kind"])


def _refused(harness: Harness, world: World) -> None:
    world.trouble["create"] = [Rejected("the name is taken by a planet")] * 9
    harness.apply()


def _forbidden(harness: Harness, world: World) -> None:
    world.trouble["get"] = [Unauthorized("may not look at indexes")] * 9
    harness.apply()


def _throttled(harness: Harness, world: World) -> None:
    world.trouble["get"] = [Throttled("asked too often", 60)] * 9
    harness.apply()


def _away(harness: Harness, world: World) -> None:
    world.trouble["get"] = [Unavailable("no answer")] * 9
    harness.apply()


def _bug(harness: Harness, world: World) -> None:
    world.trouble["get"] = [ZeroDivisionError()] * 9
    harness.apply()


def _broken_at_the_vendor(harness: Harness, world: World) -> None:
    world.phase, world.message = Phase.FAILED, "out of disk"
    harness.apply()


def _working(harness: Harness, world: World) -> None:
    world.phase = Phase.PENDING
    harness.apply()


def _observed_and_absent(harness: Harness, world: World) -> None:
    harness.apply(policy="Observe")


def _suspended(harness: Harness, world: World) -> None:
    harness.apply(suspend=True)


def _expired(harness: Harness, world: World) -> None:
    harness.apply(ttl="1m")
    harness.cluster.pass_(minutes=2)


PATCH = 'kubectl patch vectorindex conformant --type=merge \'--patch={"spec":'
CASES = {
    "a key of its connection's Secret is missing": Case(
        _wrong_key,
        (
            "VectorIndex conformant DependencyNotReady",
            "Connection vendor DependencyNotReady",
            "Secret shelf NoSuchKey",
        ),
        "kubectl patch secret shelf --type=merge "
        '\'--patch={"stringData":{"token":"..."}}\' --namespace=team',
        "has no key 'token'; it has: password",
    ),
    "its connection's Secret is missing": Case(
        _no_secret,
        (
            "VectorIndex conformant DependencyNotReady",
            "Connection vendor DependencyNotReady",
            "Secret shelf Missing",
        ),
        "kubectl create secret generic shelf --from-file=token=/dev/stdin --namespace=team",
    ),
    "a Secret of its own is missing": Case(
        _no_secret_of_its_own,
        ("VectorIndex conformant DependencyNotReady", "Secret elsewhere Missing"),
        "kubectl create secret generic elsewhere --from-file=password=/dev/stdin --namespace=team",
        "spec.shelf.password takes key 'password'",
    ),
    "wrong credentials": Case(
        _wrong_credentials,
        (
            "VectorIndex conformant DependencyNotReady",
            "Connection vendor CredentialsRejected",
        ),
        'kubectl patch secret shelf --type=merge \'--patch={"stringData":{"token":"..."}}\'',
        "the vendor refuses",
    ),
    "no such connection": Case(
        _no_connection,
        ("VectorIndex conformant DependencyNotReady", "Connection absent Missing"),
        "kubectl edit vectorindex conformant --namespace=team",
        "there are: vendor",
    ),
    "a connection that is not for its namespace": Case(
        _not_allowed,
        ("VectorIndex conformant DependencyNotReady", "ClusterConnection shared NotAllowed"),
        "kubectl patch clusterconnection shared --type=merge "
        '\'--patch={"spec":{"allowedNamespaces":["other-*","team"]}}\'',
    ),
    "a connection whose spec is refused": Case(
        _invalid_connection,
        ("VectorIndex conformant DependencyNotReady", "Connection vendor SpecRejected"),
        "kubectl edit connection vendor --namespace=team",
    ),
    "a dependency is missing": Case(
        _no_dependency,
        ("VectorIndex conformant DependencyNotReady", "AlertRoute absent Missing"),
        "kubectl edit vectorindex conformant --namespace=team",
    ),
    "nothing has the labels": Case(
        _no_labels,
        ("VectorIndex conformant DependencyNotReady", "VectorIndex  Missing"),
        "kubectl edit vectorindex conformant --namespace=team",
        "no VectorIndex with app=search exists; spec.dependsOn[0] waits for one",
    ),
    "a plan waits": Case(
        _waits_for_approval,
        ("VectorIndex conformant AwaitingApproval",),
        "kubectl auterity approve VectorIndex/conformant --namespace=team",
        "Create waits for approval",
    ),
    "what it depends on has a plan that waits": Case(
        _depends_on_what_waits,
        ("VectorIndex conformant DependencyNotReady", "VectorIndex first AwaitingApproval"),
        "kubectl auterity approve VectorIndex/first --namespace=team",
    ),
    "an output that there is not": Case(
        _takes_from("port", name="first"),
        ("VectorIndex conformant DependencyNotReady", "VectorIndex first NoSuchOutput"),
        "kubectl edit vectorindex conformant --namespace=team",
        "has no output 'port'; it has: host",
    ),
    "an output of several": Case(
        _takes_from("host", selector={"matchLabels": {"app": "search"}}),
        ("VectorIndex conformant DependencyNotReady", "VectorIndex conformant Ambiguous"),
        "kubectl edit vectorindex conformant --namespace=team",
        "spec.shelf.peer: 2 match (first, second), not one",
    ),
    "two that wait for each other": Case(
        _circle,
        (
            "VectorIndex conformant DependencyNotReady",
            "VectorIndex first DependencyNotReady",
            "VectorIndex conformant Circle",
        ),
        "kubectl edit vectorindex first --namespace=team",
    ),
    "another's object": Case(
        _another_s,
        ("VectorIndex conformant Conflict",),
        "kubectl describe vectorindex conformant --namespace=team",
        "belongs to elsewhere/team/conformant",
    ),
    "nobody's object": Case(
        _unmarked,
        ("VectorIndex conformant Conflict",),
        PATCH + '{"policy":"Adopt"}}\' --namespace=team',
    ),
    "a Secret for outputs that is taken": Case(
        _foreign_secret,
        ("VectorIndex conformant Conflict",),
        PATCH + '{"outputs":{"secretName":"conformant-outputs"}}}\' --namespace=team',
    ),
    "a spec that the engine refuses": Case(
        _invalid,
        ("VectorIndex conformant SpecRejected",),
        "kubectl edit vectorindex conformant --namespace=team",
    ),
    "a spec that the vendor refuses": Case(
        _refused,
        ("VectorIndex conformant SpecRejected",),
        "kubectl edit vectorindex conformant --namespace=team",
        "planet",
    ),
    "credentials that may not do this": Case(
        _forbidden,
        ("VectorIndex conformant CredentialsRejected", "Connection vendor Ready"),
        "kubectl auterity reconcile VectorIndex/conformant --namespace=team",
        "its credentials are good, but may not do this",
    ),
    "too many calls": Case(
        _throttled,
        ("VectorIndex conformant RateLimited", "Connection vendor RateLimited"),
        "kubectl wait --for=condition=Ready vectorindex/conformant --namespace=team",
        "budget: burst 10000, concurrent 50, perSecond 10000; shared by 1 integration",
    ),
    "the vendor is away": Case(
        _away,
        ("VectorIndex conformant ProviderUnavailable",),
        "kubectl auterity reconcile VectorIndex/conformant --namespace=team",
    ),
    "a bug": Case(
        _bug,
        ("VectorIndex conformant InternalError",),
        "kubectl logs --selector=app.kubernetes.io/name=auterity --tail=-1 "
        "--namespace=auterity-system",
    ),
    "broken at the vendor": Case(
        _broken_at_the_vendor, ("VectorIndex conformant ProviderFailed",), "", "out of disk"
    ),
    "the vendor is at work": Case(
        _working,
        ("VectorIndex conformant Progressing",),
        "kubectl wait --for=condition=Ready vectorindex/conformant --namespace=team",
    ),
    "nothing to observe": Case(
        _observed_and_absent,
        ("VectorIndex conformant NotFound",),
        PATCH + '{"policy":"Manage"}}\' --namespace=team',
    ),
    "suspended": Case(
        _suspended,
        ("VectorIndex conformant Suspended",),
        "kubectl auterity resume VectorIndex/conformant --namespace=team",
    ),
    "its time is over": Case(
        _expired,
        ("VectorIndex conformant Expired",),
        "kubectl delete vectorindex conformant --namespace=team",
    ),
}


def chain(answer: Answer) -> tuple[str, ...]:
    return tuple(f"{link.key.kind} {link.key.name} {link.state}" for link in answer.chain)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_the_cause_is_found_and_the_next_command_is_told(
    harness: Harness, world: World, case: Case
):
    case.broken(harness, world)
    await look(harness)
    answer = why(harness)
    assert chain(answer) == case.chain
    assert not answer.ready
    assert answer.steps[0].command.startswith(case.command), answer.steps
    assert case.says in answer.chain[-1].says
    told = repr(as_json(answer)) + repr(lines(answer))
    assert TOKEN not in told


async def test_a_plan_is_shown_with_its_changes(harness: Harness):
    await harness.make()
    harness.apply({"dimension": 8, "shelf": {"replicas": 3}}, approval="Always")
    await look(harness)
    answer = why(harness)
    assert answer.chain[-1].says == "Update waits for approval"
    assert answer.chain[-1].details == ("shelf.replicas: 1 -> 3",)
    assert lines(answer)[1] == ("", "", "  shelf.replicas: 1 -> 3")


async def test_what_was_made_anew_at_the_vendor_is_had_made_on_demand(
    harness: Harness, world: World
):
    await harness.make(driftPolicy="Report")
    world.things.clear()
    await look(harness)
    answer = why(harness)
    assert chain(answer) == ("VectorIndex conformant NotFound",)
    assert answer.steps[0].command.startswith(PATCH + '{"driftPolicy":"Revert"}}')


async def test_what_is_ready_needs_nothing(harness: Harness):
    await harness.make()
    answer = why(harness)
    assert answer.ready
    assert answer.steps == ()
    assert as_json(answer)["ready"] is True


async def test_reported_drift_is_shown_and_can_be_undone(harness: Harness, world: World):
    await harness.make(driftPolicy="Report")
    world.things["conformant"].fields["replicas"] = 9
    await look(harness)
    answer = why(harness)
    assert answer.ready
    assert answer.chain[0].details == ("shelf.replicas: 9 at the vendor, 1 here",)
    assert answer.steps[0].command.startswith(PATCH + '{"driftPolicy":"Revert"}}')


async def test_a_visit_that_was_asked_for_and_not_made_is_told(harness: Harness):
    await harness.make()
    harness.subject.annotations[REQUESTED_AT] = "now"
    assert why(harness).chain[0].details == ("the visit that was asked for has not been made yet",)


async def test_a_cause_that_is_gone_by_now_is_not_made_up(harness: Harness):
    harness.apply(dependsOn=[{"kind": "VectorIndex", "name": "first"}])
    await look(harness)
    harness.cluster.put("VectorIndex", "first", {"connectionRef": {"name": "vendor"}, **SHELF})
    await look_at_the_first(harness)
    answer = why(harness)
    assert chain(answer) == ("VectorIndex conformant DependencyNotReady",)
    assert answer.steps[0].command.startswith("kubectl auterity reconcile VectorIndex/conformant")


async def look_at_the_first(harness: Harness) -> None:
    from auterity.engine.reconcile import visit

    await visit(harness.engine, harness.cluster.subjects[team("VectorIndex", "first")])


@pytest.mark.parametrize(
    ("replicas", "says", "command"),
    [
        ((), "no operator runs in this cluster", "kubectl get pods"),
        (
            (replica("one", alive=False),),
            "no replica of the operator is alive; one was last seen 300 s ago",
            f"kubectl get pods --selector={LABEL} --namespace=auterity-system",
        ),
        (
            (replica("one", alive=False), replica("two", serves=("other", "third"))),
            "no replica serves namespace team; served: other, third",
            "kubectl get deployments",
        ),
        (
            (replica("two", without=("VectorIndex",)),),
            "the operator runs with --without-kind=VectorIndex",
            "",
        ),
        (
            (replica("one", alive=False), replica("two", serves=("team",))),
            "it is in the operator's queue",
            "kubectl wait --for=condition=Ready vectorindex/conformant",
        ),
    ],
)
async def test_whether_an_operator_looks_is_told_by_its_leases(
    harness: Harness, replicas, says: str, command: str
):
    harness.apply()
    answer = explain(snapshot(harness, replicas=replicas), harness.key, COMMANDS)
    assert chain(answer) == ("VectorIndex conformant NotLookedAt",)
    assert says in answer.chain[0].says
    assert answer.steps[0].command.startswith(command)


async def test_an_edit_that_nobody_looked_at_is_not_explained_by_the_past(harness: Harness):
    await harness.make()
    harness.apply({"dimension": 8, "shelf": {"replicas": 4}})
    answer = why(harness, None, replica(alive=False))
    assert answer.chain[0].says.startswith("was edited, and not looked at since: no replica")


async def test_without_the_right_to_see_leases_nothing_is_claimed(harness: Harness):
    harness.apply()
    answer = why(harness, replicas=None)
    assert "not for you to see" in answer.chain[0].says


async def test_what_is_ready_and_looked_after_by_nobody_is_told(harness: Harness):
    await harness.make()
    answer = why(harness, None, replica(alive=False))
    assert answer.ready
    assert answer.chain[0].details[0].startswith("but nobody looks after it: no replica")
    assert answer.steps


async def test_secrets_that_may_not_be_read_are_not_called_missing(harness: Harness):
    harness.cluster.put_secret("shelf", {"password": TOKEN})
    harness.apply()
    await look(harness)
    answer = why(harness, secrets={})
    assert chain(answer)[-1] == "Connection vendor DependencyNotReady"
    assert "has no key 'token'" in answer.chain[-1].says


async def test_kinds_that_may_not_be_read_are_not_called_missing(harness: Harness):
    harness.apply(dependsOn=[{"kind": "AlertRoute", "name": "absent"}])
    await look(harness)
    answer = why(harness, unread=frozenset({"AlertRoute"}))
    assert chain(answer) == ("VectorIndex conformant DependencyNotReady",)


def test_an_object_that_is_not_there(harness: Harness):
    answer = why(harness, team("Connection", "vendro"))
    assert answer.chain[0].says == "does not exist; there are: vendor"
    assert answer.steps[0].command == "kubectl get connection --all-namespaces"


async def test_a_deletion_that_the_vendor_hinders_can_be_let_go_of(harness: Harness, world: World):
    await harness.make()
    world.trouble["get"] = [Unavailable("no answer")] * 9
    harness.cluster.delete(harness.key)
    harness.subject.generation += 1
    await look(harness)
    answer = why(harness)
    assert chain(answer) == ("VectorIndex conformant ProviderUnavailable",)
    assert answer.steps[-1].command.startswith("kubectl auterity forget VectorIndex/conformant")


async def test_a_deletion_that_waits_for_approval(harness: Harness):
    await harness.make()
    harness.apply(approval="Always")
    harness.cluster.delete(harness.key)
    await look(harness)
    answer = why(harness)
    assert answer.chain[0].says == "Delete waits for approval"
    assert answer.steps[0].command.startswith("kubectl auterity approve")


async def test_a_deletion_held_up_by_someone_else_names_them(harness: Harness):
    await harness.make()
    subject = harness.subject
    harness.cluster.subjects[harness.key] = replace(
        subject, deleting=True, finalizers=["example.com/backup"]
    )
    answer = why(harness)
    assert answer.chain[0].says == "our part is done; kept by example.com/backup"


async def test_what_lost_its_mark_can_only_be_let_go_of(harness: Harness, world: World):
    await harness.make()
    world.things["conformant"].owner = None
    harness.cluster.delete(harness.key)
    await look(harness)
    answer = why(harness)
    assert chain(answer) == ("VectorIndex conformant Conflict",)
    assert FORGET in answer.chain[0].says
    assert answer.steps[0].command.startswith("kubectl auterity forget")


async def test_a_connection_in_use_leads_to_what_keeps_its_user(harness: Harness, world: World):
    await harness.make()
    harness.apply(approval="Always")
    await look(harness)
    harness.cluster.delete(CONNECTION)
    await look(harness)
    answer = why(harness, CONNECTION)
    assert chain(answer) == ("Connection vendor InUse",)
    assert answer.steps[0].command == "kubectl delete vectorindex conformant --namespace=team"
    harness.cluster.delete(harness.key)
    await look(harness)
    assert chain(why(harness, CONNECTION)) == (
        "Connection vendor InUse",
        "VectorIndex conformant AwaitingApproval",
    )


@pytest.mark.parametrize("harness", [Unfindable], indirect=True)
async def test_a_creation_with_a_lost_answer_needs_a_look_at_the_vendor(
    harness: Harness, world: World
):
    world.lost["create"] = [Unavailable("the answer was lost")]
    harness.apply()
    await look(harness)
    answer = why(harness)
    assert chain(answer) == ("VectorIndex conformant Conflict",)
    assert answer.steps[0].command == (
        "kubectl annotate vectorindex conformant integrations.auterity.io/create-pending- "
        "--namespace=team"
    )


def test_commands_name_the_context_where_it_was_named():
    commands = Commands("auterity", "other cluster")
    key = Key("VectorIndex", "team", "docs")
    assert commands.own("resume", key) == (
        "auterity resume VectorIndex/docs --namespace=team '--context=other cluster'"
    )


async def test_a_route_that_nobody_serves_leads_to_what_keeps_its_best_candidate(harness: Harness):
    key = await route(harness, first="Progressing", second=None)
    subject = harness.cluster.subjects[team("ModelDeployment", "first")]
    del subject.status["outputs"]
    await route(harness, second=None)
    harness.cluster.subjects[key].status["candidates"][0]["since"] = "2026-01-01T00:00:00Z"
    answer = why(harness, key)
    assert chain(answer) == (
        "ModelRoute chat DependencyNotReady",
        "ModelDeployment first Progressing",
    )
    assert answer.chain[0].details[0] == "first: Missing since 2026-01-01T00:00:00Z (Progressing)"
    assert answer.chain[0].details[1].startswith("second: Missing since ")
    assert answer.steps[0].command.startswith("kubectl wait --for=condition=Ready")


async def test_a_route_to_what_is_not_there_names_it(harness: Harness):
    key = await route(harness, first=None)
    answer = why(harness, key)
    assert chain(answer) == ("ModelRoute chat DependencyNotReady", "ModelDeployment first Missing")
    assert answer.steps[0].command == "kubectl edit modelroute chat --namespace=team"


async def test_a_route_that_uses_its_second_choice_tells_why_and_how_to_see_more(harness: Harness):
    key = await route(harness, first="Ready", second="Ready")
    assert why(harness, key).steps == ()
    await route(harness, first="ProbeFailing")
    harness.cluster.pass_(seconds=30)
    await route(harness, first="ProbeFailing")
    answer = why(harness, key)
    assert answer.ready
    assert answer.chain[0].says == "Uses second at fleet, instead of first"
    assert [detail.partition(" since")[0] for detail in answer.chain[0].details] == [
        "first: Out",
        "second: Serving",
    ]
    assert answer.chain[0].details[0].endswith("(ProbeFailing)")
    assert [step.command for step in answer.steps] == [
        "kubectl auterity why ModelDeployment/first --namespace=team"
    ]


async def test_a_route_is_left_alone_with_the_kind_that_it_leads_to(harness: Harness):
    harness.cluster.put("ModelRoute", "chat", {"candidates": [{"name": "first"}]})
    alone = replica(without=("ModelDeployment",))
    answer = why(harness, team("ModelRoute", "chat"), alone)
    assert chain(answer) == ("ModelRoute chat NotLookedAt",)
    assert "--without-kind=ModelDeployment" in answer.chain[0].says
    assert alone.keeps(team("VectorIndex", "docs"))
    assert not replica(without=("ModelRoute",)).keeps(team("ModelRoute", "chat"))


def test_a_rollout_that_waits_tells_where_it_stands(harness: Harness):
    key = team("ModelDeployment", "chat")
    harness.cluster.put(key.kind, key.name, {})
    revisions = [
        {"name": "r-new", "weight": 20, "phase": "Ready"},
        {"name": "r-old", "weight": 80, "phase": "Ready"},
    ]
    change = {"field": "rollout.weight", "from": "r-new: 20 %", "to": "r-new: 60 %"}
    harness.cluster.subjects[key].status = {
        "observedGeneration": 1,
        "plan": {"hash": "abc", "action": "Promote", "changes": [change]},
        "rollout": {"phase": "AwaitingApproval", "revision": "r-new", "revisions": revisions},
        "conditions": [{"type": "Ready", "status": "False", "reason": "AwaitingApproval"}],
    }
    answer = why(harness, key)
    assert answer.chain[0].says == "r-new has 20 % of the traffic; Promote waits for approval"
    assert answer.chain[0].details == ("rollout.weight: r-new: 20 % -> r-new: 60 %",)
    assert answer.steps[0].command.startswith("kubectl auterity approve ModelDeployment/chat")


def over_budget(harness: Harness, kind: str, name: str, message: str, **status: object) -> Key:
    key = harness.cluster.put(kind, name, {"hourly": 1} if kind == "Budget" else {})
    told = {"type": "Ready", "status": "False", "reason": "OverBudget", "message": message}
    subject = harness.cluster.subjects[key]
    subject.status = {"observedGeneration": 1, "conditions": [told], **status}
    return key


def test_what_a_budget_has_no_room_for_leads_to_the_budget(harness: Harness):
    says = "it would cost up to 2.00 USD an hour, and Budget 'all' allows 1.00: it is not made"
    key = over_budget(harness, "ModelDeployment", "chat", says)
    over_budget(harness, "Budget", "all", "Up to 1.20 of 1.00 USD an hour is used", most=1.2)
    over_budget(harness, "Budget", "other", "Up to 0.00 of 9.00 USD an hour is used")
    answer = why(harness, key)
    assert chain(answer) == ("ModelDeployment chat OverBudget", "Budget all OverBudget")
    assert [step.command for step in answer.steps] == [
        "kubectl edit modeldeployment chat --namespace=team",
        "kubectl get modeldeployments,tuningjobs --output=wide --namespace=team",
        "kubectl edit budget all --namespace=team",
    ]


def test_what_is_beyond_its_own_budget_or_has_no_price_says_what_to_do(harness: Harness):
    says = "it would cost what is not known, so that spec.budget cannot hold: no price is known"
    answer = why(harness, over_budget(harness, "ModelDeployment", "chat", says))
    assert chain(answer) == ("ModelDeployment chat OverBudget",)
    assert [step.does.partition(" ")[0] for step in answer.steps] == ["have", "ask", "or"]
    assert "raise spec.budget" in answer.steps[-1].does


def test_a_budget_that_is_exceeded_tells_how_much_would_be_enough(harness: Harness):
    key = over_budget(harness, "Budget", "all", "Up to 1.234 of 1.00 USD is used", most=1.234)
    answer = why(harness, key)
    assert answer.steps[0].command.startswith("kubectl get modeldeployments,tuningjobs")
    assert '{"spec":{"hourly":1.24}}' in answer.steps[1].command
