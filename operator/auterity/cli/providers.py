"""`auterity providers`: which kinds are offered at which vendors, and how that is proven."""

from typing import Annotated

from cyclopts import Parameter

from auterity.cli.output import Problem, Rendered, Table, show


def providers(
    kind: str | None = None,
    *,
    vendor: str | None = None,
    wide: Annotated[bool, Parameter(name=["--wide", "-w"], negative=())] = False,
    output: Rendered = "table",
) -> None:
    """List which kinds are offered at which vendors, and how that is proven.

    Parameters
    ----------
    kind
        Only this kind, such as VectorIndex or vidx.
    vendor
        Only this vendor, such as pinecone.
    wide
        Also rights, quirks and links.
    output
        How it is printed.
    """
    from auterity.api.kinds import KINDS
    from auterity.providers import catalogue

    if kind is not None:
        names = {w.lower(): k.name for k in KINDS.values() for w in (k.name, k.plural, k.short)}
        if kind.lower() not in names:
            raise Problem(f"there is no kind {kind!r}; there are: {', '.join(sorted(KINDS))}")
        kind = names[kind.lower()]
    data = []
    for (name, offered), provider in catalogue().items():
        if kind not in (None, name) or vendor not in (None, offered):
            continue
        data.append(
            {
                "kind": name,
                "vendor": offered,
                "connection": provider.connection.vendor,
                "maturity": provider.maturity,
                "proof": provider.proof,
                "marksOwner": provider.marks_owner,
                "lists": provider.lists,
                "permissions": list(provider.permissions),
                "quirks": list(provider.quirks),
                "docs": provider.docs,
            }
        )
    if not data:
        raise Problem(f"{kind or 'no kind'} is not offered at {vendor or 'any vendor'}")
    columns = ["Kind", "Vendor", "Connection", "Maturity", "Proof"]
    fields = ["kind", "vendor", "connection", "maturity", "proof"]
    if wide:
        columns += ["Permissions", "Quirks", "Docs"]
        fields += ["permissions", "quirks", "docs"]
    rows = [[_text(one[field]) for field in fields] for one in data]
    show(data, Table(columns, rows), output=output)


def _text(value: object) -> str:
    return "; ".join(value) if isinstance(value, list) else str(value)
