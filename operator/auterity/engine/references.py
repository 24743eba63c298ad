"""Secrets, outputs of other integrations and dependencies that a visit needs first."""

import hashlib
from collections.abc import Iterable

from auterity.api.fields import OutputRef, Reference, Resolved, SecretKeyRef, resolvables
from auterity.api.kinds import KINDS, LOCAL
from auterity.engine.cluster import Cluster
from auterity.engine.errors import DependencyNotReady
from auterity.engine.redaction import remember
from auterity.engine.subject import Key, SecretData, Subject
from auterity.engine.verdict import Waits


class References:
    """Looks up what one object refers to, and remembers what it would be woken by."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._secrets: dict[str, SecretData | None] = {}
        self.waits: set[Waits] = set()

    def ready(self, references: Iterable[Reference]) -> None:
        """Raises DependencyNotReady unless everything referred to is ready."""
        for reference in references:
            for subject in self._subjects(reference):
                _must_be_ready(subject)

    async def resolve(self, model: object) -> None:
        """Fill in every value below a model that is to be looked up.

        Raises DependencyNotReady if a Secret, a key, an integration or an output is missing.
        """
        for field in resolvables(model):
            await self._fill(field)

    async def _fill(self, field: Resolved) -> None:
        literal = getattr(field, "value", None)
        secret: SecretKeyRef | None = getattr(field, "secret_key_ref", None)
        output = field if isinstance(field, OutputRef) else getattr(field, "output_ref", None)
        if secret is not None:
            value, version = await self._secret(secret)
            remember(value)
            field.resolve(value, version)
        elif output is not None:
            value = self._output(output)
            field.resolve(value, _digest(value))
        elif literal is not None:
            field.resolve(literal, _digest(literal))

    async def _secret(self, ref: SecretKeyRef) -> tuple[str, str]:
        self.waits.add(Waits("Secret", self._namespace, ref.name))
        if ref.name not in self._secrets:
            self._secrets[ref.name] = await self._cluster.secret(self._namespace, ref.name)
        found = self._secrets[ref.name]
        where = f"Secret {ref.name!r} in namespace {self._namespace!r}"
        if found is None:
            raise DependencyNotReady(f"{where} does not exist")
        if ref.key not in found.data:
            raise DependencyNotReady(f"{where} has no key {ref.key!r}")
        return found.data[ref.key], found.version

    def _output(self, ref: OutputRef) -> str:
        subjects = self._subjects(ref)
        if len(subjects) > 1:
            names = ", ".join(sorted(s.key.name for s in subjects)[:5])
            raise DependencyNotReady(
                f"output {ref.output!r}: the selector matches {len(subjects)} {ref.kind} objects "
                f"({names}); it must match one"
            )
        subject = subjects[0]
        _must_be_ready(subject)
        outputs = subject.status.get("outputs") or {}
        if ref.output not in outputs:
            known = ", ".join(sorted(outputs)) or "none"
            raise DependencyNotReady(
                f"{ref.kind} {subject.key.name!r} has no output {ref.output!r}; it has: {known}"
            )
        return str(outputs[ref.output])

    def _subjects(self, ref: Reference) -> list[Subject]:
        if ref.kind not in (*KINDS, *LOCAL):
            raise DependencyNotReady(f"there is no kind of integration called {ref.kind!r}")
        if ref.name is not None:
            self.waits.add(Waits(ref.kind, self._namespace, ref.name))
            found = self._cluster.find(Key(ref.kind, self._namespace, ref.name))
            if found is None:
                raise DependencyNotReady(f"{ref.kind} {ref.name!r} does not exist")
            return [found]
        labels = ref.selector.match_labels if ref.selector else {}
        self.waits.add(Waits(ref.kind, self._namespace, labels=tuple(sorted(labels.items()))))
        selected = self._cluster.select(ref.kind, self._namespace, labels)
        if not selected:
            shown = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
            raise DependencyNotReady(f"no {ref.kind} has the labels {shown}")
        return selected


def _digest(value: str) -> str:
    """Tells versions of a value apart that is no secret."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def _must_be_ready(subject: Subject) -> None:
    if not subject.ready:
        condition = subject.condition("Ready") or {}
        reason = condition.get("reason", "not looked at yet")
        raise DependencyNotReady(f"{subject.key.kind} {subject.key.name!r} is not ready: {reason}")
