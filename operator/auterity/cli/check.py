"""`auterity check`: validates manifests, without a cluster or a vendor."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Annotated, Final

from cyclopts import App, Parameter

from auterity.api.kinds import ROUTE
from auterity.cli.files import Fault, Files, Manifest, Where, load
from auterity.cli.output import FAILED, OK, Problem, Rendered, Styled, Table, complain, show

PLACEHOLDER: Final = "replace-me"
"""What samples and imported manifests have where a person has to write something."""
EXIT_CODES: Final = "Exit codes: 0 valid (perhaps with warnings), 1 an error was found."

app = App(name="check", help_epilogue=EXIT_CODES)


@app.default
def check(  # noqa: PLR0913 - the command's options
    filename: Files,
    /,
    *,
    namespace: Annotated[str, Parameter(name=["--namespace", "-n"])] = "default",
    strict: Annotated[bool, Parameter(negative=())] = False,
    cluster: Annotated[bool, Parameter(negative=())] = False,
    context: str | None = None,
    output: Rendered = "table",
) -> int:
    """Validate manifests without a cluster, as the API server and the operator would.

    Parameters
    ----------
    filename
        Files, folders, or - for standard input. What is not of this operator's kinds is passed
        over.
    namespace
        Where objects belong that name no namespace.
    strict
        Take warnings, such as a connection that is not in the files, for errors.
    cluster
        Look in the cluster for what the files refer to.
    context
        Context of the kubeconfig; the current one if left out.
    output
        How it is printed.
    """
    if not filename:
        raise Problem("nothing to check: name files with -f")
    manifests, found = load(filename)
    ours = [one for one in manifests if one.ours]
    there = _in_cluster(manifests, namespace, context) if cluster or context else None
    found += inspected(manifests, namespace, there)
    errors = sum(strict or fault.severity == "error" for fault in found)
    summary = (
        f"{len(ours)} objects checked, {len(manifests) - len(ours)} of other kinds passed over"
    )
    data = {
        "checked": len(ours),
        "passedOver": len(manifests) - len(ours),
        "faults": [{k: v for k, v in asdict(one).items() if k != "where"} for one in found],
    }
    told = f"{summary}: {errors} errors, {len(found) - errors} warnings"
    parts = [table(found), told] if found else [f"{summary}: no fault found"]
    show(data, *parts, output=output)
    return FAILED if errors else OK


def inspected(
    manifests: list[Manifest], namespace: str, there: list[Manifest] | None = None
) -> list[Fault]:
    """What is wrong with objects of ours, each by itself and with what it refers to.

    `there`: what is in the cluster, if that was asked.
    """
    from auterity.cli.schema import faults

    ours = [one for one in manifests if one.ours]
    found = [fault for one in ours for fault in faults(one)]
    found += _twins(ours, namespace)
    found += _references(manifests, there, namespace)
    return found


def table(found: Iterable[Fault]) -> Table:
    """Faults for people."""
    colours = {"error": "red", "warning": "yellow"}
    rows = [
        (
            f"{fault.file}:{fault.line}",
            Styled(fault.severity, colours[fault.severity]),
            fault.object,
            f"{fault.field}: {fault.message}" if fault.field else fault.message,
        )
        for fault in found
    ]
    return Table(("Where", "Severity", "Object", "Message"), rows)


def refuse(found: Iterable[Fault]) -> None:
    """Complain of errors and warnings on standard error. Raises Problem if one is an error."""
    found = list(found)
    for fault in found:
        what = f"{fault.field}: {fault.message}" if fault.field else fault.message
        complain(f"{fault.file}:{fault.line}: {fault.object}: {what}", fault.severity)
    if any(fault.severity == "error" for fault in found):
        raise Problem("the manifests are not valid")


def _twins(ours: list[Manifest], namespace: str) -> Iterator[Fault]:
    seen: dict[tuple[str, str, str], Manifest] = {}
    for one in ours:
        if not one.name:
            continue
        where = "" if one.kind == "ClusterConnection" else one.namespace or namespace
        first = seen.setdefault((one.kind, where, one.name), one)
        if first is not one:
            place = f"{first.file}:{first.line(())}"
            severity = "error" if one.file == first.file else "warning"
            words = f"the same object stands in {place} too"
            yield one.fault(("metadata", "name"), words, severity)


def _in_cluster(manifests: list[Manifest], namespace: str, context: str | None) -> list[Manifest]:
    """Our objects in the namespaces of the manifests."""
    from auterity.cli.cluster import Cluster, Where, perform
    from auterity.cli.sources import live

    async def read() -> list[Manifest]:
        async with Cluster.reached(Where(namespace, context)) as reached:
            homes = {namespace, *(one.namespace for one in manifests if one.ours)} - {""}
            subjects = (await live(reached, homes)).values()
        return [
            Manifest(
                "cluster",
                {
                    "kind": subject.key.kind,
                    "metadata": {"name": subject.key.name, "namespace": subject.key.namespace},
                    "spec": subject.spec,
                },
                {(): 1},
            )
            for subject in subjects
        ]

    return perform(read())


def _references(
    manifests: list[Manifest], others: list[Manifest] | None, namespace: str
) -> Iterator[Fault]:
    """What refers to something that is not there; it may be in the cluster already."""
    missing = "is not in the files" if others is None else "is neither in the files nor the cluster"
    there = {
        (
            one.kind,
            "" if one.kind == "ClusterConnection" else one.namespace or namespace,
            one.name,
        ): one
        for one in (*(others or ()), *manifests)
    }
    for one in manifests:
        spec = one.data.get("spec")
        if not one.ours or not isinstance(spec, dict):
            continue
        home = one.namespace or namespace
        ref = spec.get("connectionRef")
        if isinstance(ref, dict) and isinstance(ref.get("name"), str):
            yield from _connection(one, ref, home, there, missing)
        if one.kind == ROUTE:
            yield from _candidates(one, home, there, missing)
        for where, found in _below(spec, ("spec",)):
            kind, name = found.get("kind"), found.get("name")
            if where[-1] == "connectionRef" or not isinstance(name, str):
                continue
            if isinstance(kind, str) and ("output" in found or where[1:2] == ("dependsOn",)):
                if (kind, home, name) not in there:
                    yield one.fault(where, f"{kind} {name} {missing}", "warning")
            elif where[-1] == "secretKeyRef" and PLACEHOLDER in (name, found.get("key")):
                yield one.fault(where, "is a placeholder: name the Secret and its key", "warning")


def _candidates(
    one: Manifest, home: str, there: Container[tuple[str, str, str]], missing: str
) -> Iterator[Fault]:
    candidates = one.data["spec"].get("candidates")
    for number, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
        name = candidate.get("name") if isinstance(candidate, dict) else None
        if isinstance(name, str) and ("ModelDeployment", home, name) not in there:
            where: Where = ("spec", "candidates", number, "name")
            yield one.fault(where, f"ModelDeployment {name} {missing}", "warning")


def _connection(
    one: Manifest,
    ref: dict[str, object],
    home: str,
    there: dict[tuple[str, str, str], Manifest],
    missing: str,
) -> Iterator[Fault]:
    kind, name = str(ref.get("kind") or "Connection"), str(ref["name"])
    where: Where = ("spec", "connectionRef", "name")
    target = there.get((kind, home if kind == "Connection" else "", name))
    if target is None:
        yield one.fault(where, f"{kind} {name} {missing}", "warning")
        return
    spec = target.data.get("spec")
    if not isinstance(spec, dict):
        return
    allowed = spec.get("allowedNamespaces", ["*"])
    if isinstance(allowed, list) and not any(fnmatchcase(home, str(one)) for one in allowed):
        yield one.fault(where, f"{kind} {name} does not allow namespace {home}", "warning")
    wanted = _wanted(one)
    if wanted and wanted not in spec:
        yield one.fault(where, f"{kind} {name} is for another vendor: it has no {wanted} block")


def _wanted(one: Manifest) -> str | None:
    """The block that its connection must have."""
    from auterity.engine.declared import vendor_of
    from auterity.providers import catalogue

    providers = catalogue()
    vendor = vendor_of(one.kind, one.data["spec"], providers)
    return providers[one.kind, vendor].connection.vendor if vendor else None


def _below(value: object, where: Where) -> Iterator[tuple[Where, dict[str, object]]]:
    if isinstance(value, dict):
        yield where, value
        for key, item in value.items():
            yield from _below(item, (*where, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, (*where, index))
