"""Advice on what users declare, while the API server still holds it: refusals and warnings.

Only what the schema cannot say. Nothing here asks a vendor or reads a Secret: it knows the spec,
the other objects and the providers' own rules.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from auterity.api.annotations import FORGET
from auterity.api.common import Approval, DriftPolicy, Policy
from auterity.api.connection import ClusterConnectionSpec, ConnectionSpec
from auterity.api.cost import OnExceed, Priced
from auterity.api.fields import (
    DESTRUCTIVE,
    OutputRef,
    Reference,
    deprecation,
    resolvables,
)
from auterity.api.kinds import CONNECTIONS, KINDS, LOCAL, ROUTE
from auterity.api.model_route import ModelRouteSpec
from auterity.api.rollout import Revisioned
from auterity.engine import declared as declaration
from auterity.engine.budgets import budgets_of
from auterity.engine.cluster import Cluster
from auterity.engine.connections import connection_key, mismatch
from auterity.engine.contract import Connector, Provider
from auterity.engine.cost import asks_for_more, estimate, excess
from auterity.engine.declared import Declared, Providers, first_problem
from auterity.engine.drift import Memory, compare, unknown_paths
from auterity.engine.errors import Rejected
from auterity.engine.expiry import Expiry
from auterity.engine.prices import Prices
from auterity.engine.revisions import unsupported
from auterity.engine.subject import Key, Subject

MOST_NAMED: Final = 5
"""Most objects or fields that one message names."""


@dataclass(slots=True)
class Advice:
    """What to tell whoever writes an object; with a refusal it is not written."""

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Adviser:
    """Looks at an object as it is to be, beside what else is declared."""

    def __init__(
        self,
        cluster: Cluster,
        providers: Providers,
        connectors: Mapping[str, type[Connector]],
        prices: Prices | None = None,
    ) -> None:
        self._cluster = cluster
        self._prices = prices or Prices()
        self._providers = providers
        self._connectors = connectors

    def on_write(self, new: Subject, old: Subject | None) -> Advice:
        """Advice on a creation, or on an edit of `old`.

        What was wrong with it already is told and not refused, so that every other edit of it is
        still possible; what was warned of already is not repeated.
        """
        if new.deleting or (old is not None and old.spec == new.spec):
            return Advice()
        after, before = self._look(new), self._look(old) if old is not None else Advice()
        advice = Advice(
            [text for text in after.refusals if text not in before.refusals],
            [text for text in after.refusals if text in before.refusals],
        )
        advice.warnings += [text for text in after.warnings if text not in before.warnings]
        if old is not None:
            advice.warnings += self._on_change(new, old)
        return advice

    def on_deletion(self, subject: Subject) -> Advice:
        """Warnings before an object is deleted; a deletion is never refused."""
        if subject.deleting:
            return Advice()
        if subject.key.kind in CONNECTIONS:
            users = self._cluster.users(subject.key)
            kept = f"{_said(subject.key)} is kept until nothing uses it any more: {_named(users)}"
            return Advice(warnings=[kept] if users else [])
        return Advice(warnings=list(self._on_deletion(subject)))

    def _look(self, subject: Subject) -> Advice:
        if subject.key.kind in CONNECTIONS:
            return self._on_connection(subject)
        if subject.key.kind in LOCAL:
            return self._on_local(subject)
        try:
            declared = declaration.read(subject, self._providers)
        except Rejected as problem:
            return Advice([problem.message])
        common, namespace = declared.common, subject.key.namespace
        references = [*_references(declared)]
        unknown = unknown_paths(type(declared.want), _memory(declared))
        refusals = [
            *(f"spec.createOnly: {path} is no field of this kind" for path in unknown),
            *self._against_connection(declared, namespace),
            *(f"{path}: {text}" for path, text in self._against(subject.key, references)),
            *declared.objections(declared.want),
            *_not_to_be_rolled_out(declared),
        ]
        warnings = [
            *self._absent(declared, namespace),
            *(f"{path}: {text}" for path, text in self._unmet(subject.key, references)),
            *_deprecated(common, "spec"),
            *_deprecated(declared.want, "spec", declared.blocks),
            *_risks(declared),
        ]
        for text, certain in (*self._rivals(subject, declared), *self._spent(subject, declared)):
            (refusals if certain else warnings).append(text)
        return Advice(refusals, warnings)

    def _against_connection(self, declared: Declared, namespace: str) -> Iterator[str]:
        ref = declared.common.connection_ref
        subject = self._cluster.find(connection_key(namespace, ref))
        if subject is None:
            return
        needed = declared.provider.connection.vendor
        there = [name for name in subject.spec if name in self._connectors]
        if there and needed not in there:
            words = mismatch(ref, there[0], declared.provider.vendor, needed)
            yield f"spec.connectionRef: {words}"
        allowed = subject.spec.get("allowedNamespaces", ["*"])
        if not any(fnmatchcase(namespace, pattern) for pattern in allowed):
            yield (
                f"spec.connectionRef: {ref.kind} {ref.name!r} may not be used from namespace "
                f"{namespace!r}: it is not in its spec.allowedNamespaces"
            )

    def _absent(self, declared: Declared, namespace: str) -> Iterator[str]:
        ref = declared.common.connection_ref
        subject = self._cluster.find(connection_key(namespace, ref))
        if subject is None:
            yield f"spec.connectionRef: {ref.kind} {ref.name!r} does not exist yet"
        elif subject.deleting:
            yield f"spec.connectionRef: {ref.kind} {ref.name!r} is being deleted"

    @staticmethod
    def _against(
        key: Key, references: Iterable[tuple[str, Reference]]
    ) -> Iterator[tuple[str, str]]:
        for path, ref in references:
            if ref.kind not in (*KINDS, *LOCAL):
                known = ", ".join(sorted(KINDS))
                yield path, f"there is no kind of integration called {ref.kind!r}; known: {known}"
            elif (ref.kind, ref.name) == (key.kind, key.name):
                yield path, "an object cannot wait for itself"

    def _unmet(
        self, key: Key, references: Iterable[tuple[str, Reference]]
    ) -> Iterator[tuple[str, str]]:
        for path, ref in references:
            if ref.kind not in (*KINDS, *LOCAL):
                continue
            found = self._referred(key.namespace, ref)
            if not found:
                which = repr(ref.name) if ref.name is not None else "with these labels"
                yield path, f"there is no {ref.kind} {which} yet"
            elif not isinstance(ref, OutputRef):
                continue
            elif len(found) > 1:
                told = f"the selector matches {_named(s.key for s in found)}; it must match one"
                yield path, told
            elif found[0].ready and ref.output not in (outputs := _outputs(found[0])):
                has = ", ".join(sorted(outputs)) or "none"
                yield (
                    path,
                    f"{ref.kind} {found[0].key.name!r} has no output {ref.output!r}; it has: {has}",
                )

    def _referred(self, namespace: str, ref: Reference) -> list[Subject]:
        if ref.name is not None:
            found = self._cluster.find(Key(ref.kind, namespace, ref.name))
            return [] if found is None else [found]
        labels = ref.selector.match_labels if ref.selector else {}
        return self._cluster.select(ref.kind, namespace, labels)

    def _rivals(self, subject: Subject, declared: Declared) -> Iterator[tuple[str, bool]]:
        """Others that claim the same name over the same connection; whether both would have it.

        Only told as long as the mark decides whose it is: an object that moves to another name or
        namespace is declared there before it goes here, and a refusal would stop it for ever.
        """
        if declared.common.policy is Policy.OBSERVE:
            return
        kind, vendor = subject.key.kind, declared.provider.vendor
        mine = declared.want.name
        connection = connection_key(subject.key.namespace, declared.common.connection_ref)
        found = []
        for key in self._cluster.users(connection):
            other = self._cluster.find(key)
            if other is None or key == subject.key or key.kind != kind or vendor not in other.spec:
                continue
            name = other.spec.get("externalName") or key.name
            if name == mine and other.spec.get("policy") != Policy.OBSERVE:
                found.append(other)
        if not found:
            return
        provider = declared.provider
        by_name = provider.locate is Provider.locate
        takes = declared.common.policy is Policy.ADOPT and not provider.marks_owner
        certain = by_name and takes and not all(other.deleting for other in found)
        owners = _named(other.key for other in found)
        held = "only one of them can have it" if by_name else "they may be in each other's way"
        yield (
            f"{declared.name_path}: {mine!r} at {vendor} is claimed by {owners}: {held}",
            certain,
        )

    def _spent(self, subject: Subject, declared: Declared) -> Iterator[tuple[str, bool]]:
        """Budgets that would not allow it; whether it is sure to be refused.

        By a Budget of the namespace it is not: there may be room by then.
        """
        want, namespace = declared.want, subject.key.namespace
        if not isinstance(want, Priced) or declared.common.policy is Policy.OBSERVE:
            return
        budgets = budgets_of(self._cluster, namespace)
        if want.budget is None and not budgets:
            return
        vendor, region = declared.provider.vendor, self._region(declared, namespace)
        try:
            found = estimate(declared.provider, want, self._prices, region)
        except LookupError:
            # It depends on what is looked up only later.
            return
        if want.budget is not None:
            words = excess(found, want.budget, "spec.budget", vendor)
            refuses = want.budget.on_exceed is OnExceed.REFUSE
            if words is not None:
                yield f"spec.budget: it would {words}", refuses and asks_for_more(subject, found)
        used = self._cluster.tally(namespace).uses
        others = [use for use in used if use.key != subject.key]
        for name, limit in budgets:
            if (words := excess(found, limit, f"Budget {name!r}", vendor, others)) is not None:
                yield f"it would {words}", False

    def _region(self, declared: Declared, namespace: str) -> str | None:
        subject = self._cluster.find(connection_key(namespace, declared.common.connection_ref))
        connector = declared.provider.connection
        if subject is None or connector.vendor not in subject.spec:
            return None
        try:
            block = connector.model_validate(subject.spec[connector.vendor] or {})
        except ValidationError:
            return None
        return block.billing_region

    def _on_change(self, new: Subject, old: Subject) -> Iterator[str]:
        if new.key.kind in CONNECTIONS:
            yield from self._shut_out(new, old)
            return
        if new.key.kind in LOCAL:
            return
        try:
            now = declaration.read(new, self._providers)
            was = declaration.read(old, self._providers)
        except Rejected:
            return
        if now.provider is not was.provider:
            return
        id, ref = old.status.get("id"), was.common.connection_ref
        if id is not None and now.common.connection_ref != ref:
            yield (
                f"spec.connectionRef: {id} was made over {ref.kind} {ref.name!r}; at another "
                "account it is made anew, and what is there is left behind"
            )
        yield from self._expired(new, now, was)
        if now.kind.holds_data and now.common.approval is Approval.AUTOMATIC:
            differing = compare(now.want, was.want, _memory(now), {})
            risky = [d.shown for d in differing if d.has(DESTRUCTIVE) or d.want is None]
            if risky:
                yield (
                    f"spec.approval: Automatic carries out at once what can lose data: "
                    f"{_few(risky)}; Destructive asks first"
                )

    def _expired(self, new: Subject, now: Declared, was: Declared) -> Iterator[str]:
        if now.common.ttl == was.common.ttl:
            return
        if Expiry.of(now.common.ttl, new.created_at, self._cluster.now()).passed:
            yield (
                f"spec.ttl: {now.common.ttl} after its creation is past already: it is deleted at "
                f"{now.provider.vendor} now"
            )

    def _shut_out(self, new: Subject, old: Subject) -> Iterator[str]:
        """Users of a ClusterConnection that an edit takes it from."""
        before, after = (s.spec.get("allowedNamespaces", ["*"]) for s in (old, new))
        lost = [
            user
            for user in self._cluster.users(new.key)
            if _matches(user.namespace, before) and not _matches(user.namespace, after)
        ]
        if lost:
            yield f"spec.allowedNamespaces: no longer usable by: {_named(lost)}"

    def _on_connection(self, subject: Subject) -> Advice:
        spec = subject.spec
        model = ClusterConnectionSpec if subject.key.kind == "ClusterConnection" else ConnectionSpec
        vendors = [name for name in spec if name in self._connectors]
        if len(vendors) != 1:
            known = ", ".join(sorted(self._connectors))
            return Advice([f"spec must have exactly one vendor block, of: {known}"])
        where = ["spec"]
        try:
            common = model.model_validate(spec)
            where = ["spec", vendors[0]]
            block = self._connectors[vendors[0]].model_validate(spec[vendors[0]] or {})
        except ValidationError as error:
            return Advice([first_problem(error, where)])
        warnings = [*_deprecated(common, "spec"), *_deprecated(block, f"spec.{vendors[0]}")]
        if "*" in spec.get("allowedNamespaces", ()):
            warnings.append(
                "spec.allowedNamespaces: * lets every namespace of the cluster use these "
                "credentials"
            )
        warnings += [
            f"{path}: http sends credentials and data unencrypted; use https"
            for path in _insecure(spec[vendors[0]], f"spec.{vendors[0]}")
        ]
        return Advice(warnings=warnings)

    def _on_local(self, subject: Subject) -> Advice:
        try:
            spec = LOCAL[subject.key.kind].spec.model_validate(subject.spec)
        except ValidationError as error:
            return Advice([first_problem(error, ["spec"])])
        return self._on_route(subject, spec) if isinstance(spec, ModelRouteSpec) else Advice()

    def _on_route(self, subject: Subject, spec: ModelRouteSpec) -> Advice:
        advice = Advice()
        for number, one in enumerate(spec.candidates):
            found = self._cluster.find(Key("ModelDeployment", subject.key.namespace, one.name))
            if found is None:
                told = f"there is no ModelDeployment {one.name!r} yet"
                advice.warnings.append(f"spec.candidates[{number}]: {told}")
                continue
            published = (found.spec.get("outputs") or {}).get("secretName")
            if spec.outputs is not None and spec.outputs.secret_name == published:
                advice.warnings.append(
                    f"spec.outputs.secretName: Secret {published!r} is that of {_said(found.key)}; "
                    "a route needs one of its own"
                )
        return advice

    def _on_deletion(self, subject: Subject) -> Iterator[str]:
        if subject.key.kind in LOCAL:
            return
        for route in self._cluster.select(ROUTE, subject.key.namespace, {}):
            used = route.status.get("active")
            if (subject.key.kind, subject.key.name) == ("ModelDeployment", used):
                yield f"{_said(route.key)} uses it, and goes over to another that serves"
        try:
            declared = declaration.read(subject, self._providers)
        except Rejected:
            return
        vendor = declared.provider.vendor
        id = subject.status.get("id")
        if id is None or declared.common.policy is Policy.OBSERVE:
            return
        if subject.annotations.get(FORGET) == "true":
            yield f"{id} is left at {vendor}, and nothing keeps it any more"
        elif declared.kind.holds_data and not declared.retains:
            approved = declared.common.approval is Approval.AUTOMATIC
            when = "" if approved else " once the deletion is approved"
            yield f"spec.deletionPolicy: Delete deletes {id} and its data at {vendor}{when}"


def _risks(declared: Declared) -> Iterator[str]:
    """Settings that are allowed and may surprise."""
    common, vendor = declared.common, declared.provider.vendor
    if common.policy is Policy.OBSERVE:
        return
    if declared.kind.holds_data and not declared.retains:
        yield f"spec.deletionPolicy: Delete deletes the data at {vendor} with this object"
    if declared.kind.holds_data and common.ttl is not None:
        yield (
            f"spec.ttl: the data at {vendor} is deleted {common.ttl} after creation, whatever "
            "deletionPolicy says"
        )
    if common.drift_policy is DriftPolicy.REPORT:
        yield (
            "spec.driftPolicy: Report leaves changes made at the vendor as they are, with "
            "Ready=True; watch status.drift"
        )


def _not_to_be_rolled_out(declared: Declared) -> Iterator[str]:
    if isinstance(declared.want, Revisioned):
        yield from unsupported(declared.provider, declared.want)


def _memory(declared: Declared) -> Memory:
    return Memory(
        create_only=declared.common.create_only,
        vendor=declared.provider.vendor,
        portable=declared.kind.params.model_fields.keys(),
    )


def _references(declared: Declared) -> Iterator[tuple[str, Reference]]:
    """Every other integration that a spec refers to, and where."""
    for number, ref in enumerate(declared.common.depends_on):
        yield f"spec.dependsOn[{number}]", ref
    seen = set()
    for value in resolvables(declared.want):
        output: OutputRef | None = getattr(value, "output_ref", None)
        if output is not None and (shown := output.model_dump_json()) not in seen:
            seen.add(shown)
            yield f"outputRef to {output.kind} {output.output!r}", output


def _deprecated(
    model: BaseModel, path: str, elsewhere: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Fields below a model that are set and on their way out."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name, None)
        here = f"{(elsewhere or {}).get(name, path)}.{info.alias or name}"
        advice = deprecation(type(model), name)
        # The API server fills in defaults: those nobody has written.
        if advice is not None and value != info.get_default(call_default_factory=True):
            yield f"{here}: is deprecated: {advice}"
        yield from _deprecated_below(value, here)


def _deprecated_below(value: object, path: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from _deprecated(value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _deprecated_below(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _deprecated_below(item, f"{path}.{key}")


def _insecure(value: object, path: str) -> Iterator[str]:
    """Where addresses stand that are http."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _insecure(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _insecure(item, f"{path}[{number}]")
    elif isinstance(value, str) and value.lower().startswith("http://"):
        yield path


def _outputs(subject: Subject) -> dict[str, Any]:
    return subject.status.get("outputs") or {}


def _matches(namespace: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(namespace, pattern) for pattern in patterns)


def _said(key: Key) -> str:
    return f"{key.kind} {key.name!r}"


def _named(keys: Iterable[Key]) -> str:
    return _few([f"{key.kind} {key.namespace}/{key.name}" for key in keys])


def _few(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
