"""What `doctor` concludes from what it found: each check is good, doubtful or bad, with the fix."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from auterity import __version__
from auterity.api.kinds import CONNECTIONS
from auterity.api.rights import Manifest
from auterity.api.schema import RULES, Node
from auterity.cli.commands import Commands, named
from auterity.cli.reasons import LABEL
from auterity.cli.snapshot import Replica, Snapshot

SKEW: Final = 5.0
"""Seconds that clocks may differ without a word."""
WORST_SKEW: Final = 300.0
"""Seconds after which vendors refuse what is signed with a time, as AWS does."""
MOST_SHOWN: Final = 10
_BELOW: Final = {"properties", "items", "additionalProperties", "description"}


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    about: str
    level: Level
    says: str
    fix: str = ""


class Ask(NamedTuple):
    """One right: may somebody do this?"""

    verb: str
    group: str
    resource: str
    """With its subresource, such as `vectorindexes/status`."""
    namespace: str
    """Empty: in all of them."""
    name: str = ""

    def __str__(self) -> str:
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {whole}{f'/{self.name}' if self.name else ''}{where}"


def asks(rules: Iterable[Manifest], namespace: str = "") -> list[Ask]:
    """Every right that some RBAC rules give."""
    return [
        Ask(verb, group, resource, namespace, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or ("",)
    ]


def clock(here: datetime, server: datetime) -> Check:
    """This machine's clock against the API server's."""
    ahead = (here - server).total_seconds()
    if abs(ahead) < SKEW:
        return Check("clock here", Level.OK, "agrees with the API server's")
    return Check("clock here", Level.WARN, _apart(ahead), "set this machine's clock (NTP)")


def definitions(
    wanted: Sequence[Node], installed: Mapping[str, Node] | None, releases: Iterable[str]
) -> Iterator[Check]:
    """The CRDs that are there against those of this version."""
    install = "auterity crds | kubectl apply --server-side --force-conflicts -f -"
    about = "CRDs"
    if installed is None:
        yield Check(about, Level.WARN, "may not be read by you", "ask an administrator to look")
        return
    others = sorted(set(releases) - {__version__})
    bad = Level.WARN if others else Level.FAIL
    if others:
        fix = f"this command is {__version__}: use that of the operator ({', '.join(others)})"
    else:
        fix = install
    good = 0
    for crd in wanted:
        kind = crd["spec"]["names"]["kind"]
        there = installed.get(crd["metadata"]["name"])
        if there is None:
            yield Check(about, bad, f"{kind} is not installed", fix)
            continue
        version = crd["spec"]["versions"][0]
        found = [v for v in there["spec"]["versions"] if v["name"] == version["name"]]
        conditions = (there.get("status") or {}).get("conditions") or ()
        broken = [
            c["message"] for c in conditions if (c["type"], c["status"]) == ("Established", "False")
        ]
        if not found or broken:
            says = broken[0] if broken else f"has no version {version['name']}"
            yield Check(about, Level.FAIL, f"{kind}: {says}", install)
            continue
        missing, different = _compared(_schema(version), _schema(found[0]))
        if missing:
            says = f"{kind} lacks {_some(missing)}: what is written there is dropped"
            yield Check(about, bad, says, fix)
        elif different:
            says = f"{kind} checks {_some(different)} otherwise than this version"
            yield Check(about, Level.WARN, says, fix)
        else:
            good += 1
    if good:
        yield Check(
            about, Level.OK, f"{good} of {len(wanted)} are as version {__version__} needs them"
        )


def rights(about: str, denied: Sequence[Ask] | None, *, level: Level, fix: str) -> Check:
    """What somebody may not do (None: nobody here may ask)."""
    if denied is None:
        return Check(
            about, Level.WARN, "may not be asked for by you", "ask an administrator to look"
        )
    if not denied:
        return Check(about, Level.OK, "all that is needed")
    verbs: dict[Ask, list[str]] = {}
    for ask in denied:
        verbs.setdefault(ask._replace(verb=""), []).append(ask.verb)
    told = [str(of._replace(verb="/".join(each))) for of, each in verbs.items()]
    return Check(about, level, f"may not {_some(told)}", fix)


def replicas(found: Sequence[Replica] | None, now: datetime, commands: Commands) -> Iterator[Check]:
    """The operator's processes: alive, of one version, of one mind, with right clocks."""
    about = "operator"
    if found is None:
        yield Check(about, Level.WARN, "its Leases may not be read by you", "ask an administrator")
        return
    alive = [replica for replica in found if replica.alive]
    pods = commands.kubectl("get", "pods", "--all-namespaces", f"--selector={LABEL}")
    for lost in (replica for replica in found if not replica.alive):
        ago = int((now - lost.renewed).total_seconds())
        says = f"replica {lost.name} in {lost.namespace} was last seen {ago} s ago"
        yield Check(about, Level.WARN, says, pods)
    if not alive:
        yield Check(about, Level.FAIL, "no replica is alive", f"install it, or see why not: {pods}")
        return
    names = frozenset(replica.name for replica in alive)
    served = sorted({namespace for replica in alive for namespace in replica.serves})
    where = f"namespaces {', '.join(served)}" if served else "all namespaces"
    one = len(alive) == 1
    says = (
        f"{len(alive)} replica{'' if one else 's'} {'is' if one else 'are'} alive, serving {where}"
    )
    yield Check(about, Level.OK, says)
    releases = sorted({replica.release for replica in alive if replica.release})
    if len(releases) > 1:
        says = f"replicas of versions {', '.join(releases)} run side by side"
        yield Check(about, Level.WARN, says, "wait until the rollout has ended")
    elif releases and releases[0] != __version__:
        says = f"is version {releases[0]}, this command {__version__}"
        yield Check(about, Level.WARN, says, "use the command of the operator's version")
    if any(replica.goes_by != names for replica in alive):
        says = "the replicas do not agree yet on who is there, and visit nothing meanwhile"
        yield Check(about, Level.WARN, says, "look again in some seconds")
    yield from _clocks(alive, now)


def _clocks(alive: Iterable[Replica], now: datetime) -> Iterator[Check]:
    for replica in alive:
        # Renewed some moments before it was read.
        ahead = (replica.renewed - now).total_seconds()
        about = f"clock of {replica.name}"
        if abs(ahead) < SKEW:
            yield Check(about, Level.OK, "agrees with the API server's")
            continue
        level = Level.WARN if abs(ahead) < WORST_SKEW else Level.FAIL
        fix = "set its node's clock (NTP): vendors refuse what is signed at a wrong time"
        yield Check(about, level, _apart(ahead), fix)


def policy(*, available: bool, installed: bool | None) -> Check:
    """Whether finalizers are set at admission, which saves a write for each object."""
    about = "finalizer policy"
    if not available:
        says = "this API server has no MutatingAdmissionPolicy; the operator sets finalizers itself"
        return Check(about, Level.OK, says)
    if installed is None:
        return Check(about, Level.OK, "is available; whether it is in use is not for you to see")
    if installed:
        return Check(about, Level.OK, "finalizers are set at admission")
    says = "is available and not in use; the chart's finalizerAtAdmission would save writes"
    return Check(about, Level.OK, says)


def connections(snapshot: Snapshot, commands: Commands) -> Iterator[Check]:
    """Connections through which nothing works."""
    all_ = [s for _, s in sorted(snapshot.objects.items()) if s.key.kind in CONNECTIONS]
    bad = [subject for subject in all_ if not subject.ready]
    for subject in bad[:MOST_SHOWN]:
        ready = subject.condition("Ready") or {}
        says = f"{named(subject.key)}: {ready.get('reason', 'not looked at yet')}"
        if ready.get("message"):
            says += f": {ready['message']}"
        yield Check("connections", Level.FAIL, says, commands.own("why", subject.key))
    if len(bad) > MOST_SHOWN:
        yield Check("connections", Level.FAIL, f"and {len(bad) - MOST_SHOWN} more are not ready")
    if all_ and not bad:
        yield Check("connections", Level.OK, f"{len(all_)} of {len(all_)} are ready")
    if not all_:
        yield Check("connections", Level.OK, "there are none")


def integrations(snapshot: Snapshot, commands: Commands) -> Iterator[Check]:
    """Integrations that only a person can mend."""
    all_ = [s for _, s in sorted(snapshot.objects.items()) if s.key.kind not in CONNECTIONS]
    stalled = [s for s in all_ if (s.condition("Stalled") or {}).get("status") == "True"]
    for subject in stalled[:MOST_SHOWN]:
        reason = (subject.condition("Ready") or {}).get("reason")
        says = f"{named(subject.key)} is stalled: {reason}"
        yield Check("integrations", Level.WARN, says, commands.own("why", subject.key))
    if len(stalled) > MOST_SHOWN:
        yield Check("integrations", Level.WARN, f"and {len(stalled) - MOST_SHOWN} more are stalled")
    ready = sum(subject.ready for subject in all_)
    if not stalled:
        says = f"{ready} of {len(all_)} are ready, none is stalled" if all_ else "there are none"
        yield Check("integrations", Level.OK, says)


def _compared(wanted: Node, found: Node) -> tuple[list[str], list[str]]:
    """Fields that are missing, and those that are there and otherwise."""
    ours, theirs = dict(_fields(wanted, "")), dict(_fields(found, ""))
    missing = sorted(ours.keys() - theirs.keys())
    # A vendor that only the cluster knows changes the rules of what it stands in.
    grown = {_parent(path) for path in ours.keys() ^ theirs.keys()}
    different = sorted(
        path
        for path in ours.keys() & theirs.keys()
        if _essence(ours[path], path in grown) != _essence(theirs[path], path in grown)
    )
    # A field that is missing tells of all below it.
    tops = [path for path in missing if _parent(path) not in missing]
    return tops, [path or "the whole" for path in different]


def _fields(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, inner in (node.get("properties") or {}).items():
        yield from _fields(inner, f"{path}.{name}" if path else name)
    for word, sign in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(node.get(word), dict):
            yield from _fields(node[word], f"{path}{sign}")


def _parent(path: str) -> str:
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def _essence(node: Node, grown: bool) -> Node:  # noqa: FBT001 - as above
    # To be compared as values, not as text: the API server writes 1 for 1.0.
    left: set[str] = _BELOW | ({RULES, "required"} if grown else set())
    return {k: v for k, v in node.items() if k not in left}


def _schema(version: Node) -> Node:
    schema: Node = version["schema"]["openAPIV3Schema"]
    return schema


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_SHOWN} more" if len(words) > MOST_SHOWN else ""
    return ", ".join(words[:MOST_SHOWN]) + more


def _apart(ahead: float) -> str:
    return f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API server's"


def as_json(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The report for programs."""
    return [{"check": c.about, "level": str(c.level), "says": c.says, "fix": c.fix} for c in checks]
