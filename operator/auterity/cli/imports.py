"""`auterity import`: manifests of what exists at a vendor already."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from cyclopts import App, Parameter
from pydantic import ValidationError

from auterity.api.common import ConnectionRef
from auterity.api.fields import Params, alias_of
from auterity.api.kinds import KINDS
from auterity.cli.check import inspected, refuse
from auterity.cli.cluster import kind_of, perform
from auterity.cli.files import JSON, Files, load
from auterity.cli.imported import Imported, imported
from auterity.cli.output import FAILED, OK, Problem, complain, write
from auterity.cli.sources import Reach, gathered, planner
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Failure
from auterity.engine.redaction import hide, private, remember
from auterity.providers import catalogue

EXIT_CODES: Final = (
    "Nothing is touched at the vendor. The manifests have policy Adopt, and placeholders called "
    "replace-me where secrets belong.\n\n"
    "Exit codes: 0 written, 1 nothing was found, or something failed."
)

app = App(name="import", help_epilogue=EXIT_CODES)


@app.default
def import_(  # noqa: PLR0913 - the command's options
    kind: str,
    vendor: str,
    /,
    *,
    connection: Annotated[str, Parameter(name=["--connection", "-c"])],
    name: Annotated[list[str] | None, Parameter(negative=())] = None,
    set: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,  # noqa: A002 - kubectl's and helm's word
    filename: Files | None = None,
    directory: Annotated[Path | None, Parameter(name=["--directory", "-d"])] = None,
    reach: Reach | None = None,
) -> int:
    """Write manifests of what exists at a vendor, to be taken over. Nothing is touched.

    They have policy Adopt: the operator shows in status.plan what taking over changes, and then
    does so. Secrets are left as placeholders called replace-me; what they have to be, what a
    manifest cannot say and what taking over would change stands above each as a comment.

    Parameters
    ----------
    kind
        The kind, such as VectorIndex or vidx.
    vendor
        The vendor's block in the spec, such as pinecone.
    connection
        The Connection to look through, or ClusterConnection/NAME.
    name
        Only what has this name at the vendor; repeat for several. Needed where the vendor cannot
        list.
    set
        A field of the spec that the vendor needs to find it by, such as repository=acme/shop;
        repeat for several.
    filename
        Files or folders with the Connection and its Secret; what they do not have comes from the
        cluster.
    directory
        Write one file an object into this folder, instead of all to standard output.
    """
    found = kind_of(kind)
    provider = catalogue().get((found, vendor))
    if provider is None:
        known = ", ".join(v for k, v in catalogue() if k == found)
        raise Problem(f"{found} is not offered at {vendor!r}; it is at: {known}")
    manifests, faults = load(filename or ())
    reach = reach or Reach()
    inside = inspected(manifests, reach.namespace or "default")
    refuse([*faults, *(fault for fault in inside if fault.severity == "error")])
    given = _given(set or [], provider)
    ref = _reference(connection)

    async def look() -> list[tuple[Imported, str]]:
        made = []
        async with gathered(manifests, reach) as sources, planner(sources, reach) as it:
            opened = await it.connections.session(sources.namespace, ref)
            ready = provider(opened.session)
            async for called, seen in _found(ready, name or [], given):
                one = imported(
                    provider,
                    seen,
                    name=called,
                    namespace=reach.namespace,
                    connection=ref,
                    given=given,
                )
                await _confirm(ready, one, seen)
                for value in seen.secrets.values():
                    remember(value.get_secret_value())
                made.append((one, hide(one.text())))
        return made

    with private():
        try:
            made = perform(look())
        except Failure as failure:
            raise Problem(hide(failure.message)) from None
    if not made:
        complain(f"nothing that is free to be taken over was found at {vendor}")
        return FAILED
    _write(made, directory)
    return OK


def _reference(text: str) -> ConnectionRef:
    kind, _, name = text.rpartition("/")
    try:
        return ConnectionRef.model_validate({"kind": kind or "Connection", "name": name})
    except ValidationError:
        raise Problem(f"--connection {text}: write NAME or ClusterConnection/NAME") from None


def _write(made: list[tuple[Imported, str]], directory: Path | None) -> None:
    if directory is None:
        write("\n---\n".join(text for _, text in made))
        return
    directory.mkdir(parents=True, exist_ok=True)
    for one, text in made:
        path = directory / f"{one.manifest['metadata']['name']}.yaml"
        if path.exists():
            complain(f"{path} exists and is left as it is", "warning")
            continue
        path.write_text(f"{text}\n")
        write(f"wrote {path}")


def _given(assignments: list[str], provider: type[Provider[Any, Any]]) -> JSON:
    """Fields by their YAML names. Raises Problem."""
    known = {alias_of(provider.params, name) for name in provider.params.model_fields}
    given: JSON = {}
    for text in assignments:
        field, sign, value = text.partition("=")
        field = field.removeprefix("spec.").removeprefix(f"{provider.vendor}.")
        if not sign or field not in known:
            raise Problem(
                f"--set {text}: write FIELD=VALUE; fields are: {', '.join(sorted(known))}"
            )
        try:
            given[field] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise Problem(f"--set {field}: the value is not YAML") from None
    return given


async def _found(
    provider: Provider[Any, Any], names: list[str], given: JSON
) -> AsyncIterator[tuple[str, Observed[Any]]]:
    """What there is, by its name at the vendor."""
    if names:
        for name in names:
            seen = await _named(provider, name, given)
            if seen is None:
                raise Problem(f"there is no {name} at {provider.vendor}")
            yield name, seen
        return
    if not provider.lists:
        raise Problem(
            f"what exists of {provider.kind} at {provider.vendor} cannot be listed: give --name"
        )
    async for seen in provider.read_all():
        if seen.owner is not None:
            complain(f"{seen.id} is left out: it belongs to {seen.owner}", "note")
        elif seen.phase in (Phase.DELETING, Phase.PENDING):
            complain(f"{seen.id} is left out: its phase is {seen.phase}", "note")
        else:
            told = seen.actual.name if "name" in seen.actual.model_fields_set else ""
            yield told or seen.outputs.get("name") or seen.id, seen


async def _named(provider: Provider[Any, Any], name: str, given: JSON) -> Observed[Any] | None:
    want = _sought(provider.params, name, given)
    try:
        id = await provider.locate(want)
        return None if id is None else await provider.read(id)
    except (AttributeError, TypeError, ValueError) as error:
        required = ", ".join(
            alias_of(provider.params, field)
            for field, info in provider.params.model_fields.items()
            if info.is_required() and alias_of(provider.params, field) not in given
        )
        raise Problem(
            f"{provider.vendor} finds nothing by its name alone: give --set FIELD=VALUE for what "
            f"it is found by, perhaps of: {required} ({type(error).__name__})"
        ) from None


def _sought(params: type[Params], name: str, given: JSON) -> Params:
    """As much of a spec as is known: for `locate`, which looks at what it needs."""
    fields = {field: None for field, info in params.model_fields.items() if info.is_required()}
    by_alias = {alias_of(params, field): field for field in params.model_fields}
    known = {by_alias[alias]: value for alias, value in given.items()}
    return params.model_construct(set(known), **{**fields, **known, "name": name})


async def _confirm(provider: Provider[Any, Any], one: Imported, seen: Observed[Any]) -> None:
    """Whether the manifest leads back to what it was made from."""
    if one.missing:
        return
    spec = one.manifest["spec"]
    portable = {
        alias_of(KINDS[provider.kind].params, f) for f in KINDS[provider.kind].params.model_fields
    }
    fields = {**{k: v for k, v in spec.items() if k in portable}, **spec[provider.vendor]}
    name = spec.get("externalName") or one.manifest["metadata"]["name"]
    try:
        want = provider.params.model_validate({**fields, "name": name})
        located = await provider.locate(want)
    except ValueError:
        return
    if located != seen.id:
        one.notes.append(
            f"CAUTION: by this manifest {located or 'nothing'} would be found, not {seen.id}: "
            "give spec.externalName, or the fields that it is found by"
        )
