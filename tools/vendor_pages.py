"""The pages about vendors: rights, budgets, traps and proof, from the catalogue."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from auterity.api.connection import RateLimit
from auterity.api.schema import Node
from auterity.engine.contract import Provider
from tools import reference
from tools.reference import NOTE, code, plain, table

Providers = Sequence[type[Provider[Any, Any]]]

_ABOUT_PROVIDERS: Final = (
    "A provider keeps one kind at one vendor. The budget is what a Connection allows unless it "
    "says otherwise in `spec.rateLimit`, for all its integrations together."
)
_NO_MARK: Final = "Carries no mark of its owner: the id in status is the proof."
_NOT_FINDABLE: Final = (
    "If the answer to a creation is lost, the operator stops for a person: what was made cannot be "
    "found by its name."
)
_LISTED: Final = "One list serves the drift checks of all objects of a connection."


def providers_page(providers: Providers) -> str:
    """One row a provider."""
    rows = [
        (
            f"[{provider.kind}](reference/{reference.page_of(provider.kind)})",
            f"[{provider.vendor}](vendors/{provider.vendor}.md)",
            provider.maturity,
            provider.connection.vendor,
            _budget(provider.connection.rate_limit),
            plain(provider.proof),
        )
        for provider in providers
    ]
    titles = ("Kind", "Vendor", "Maturity", "Connection", "Budget", "How it is tested")
    return "\n".join([NOTE, "# Providers\n", f"{_ABOUT_PROVIDERS}\n", table(titles, rows)])


def vendor_page(
    providers: Providers,
    kinds: Mapping[str, Node],
    connections: Node,
    samples: Mapping[str, tuple[str, str]],
) -> str:
    """Everything of one vendor: what it keeps, then how it is reached.

    `kinds` are CRDs by kind; `samples` by kind a path in the repository, and its text.
    """
    parts = [NOTE, f"# {providers[0].vendor}\n"]
    for provider in providers:
        parts += _provider(provider, kinds[provider.kind], *samples[provider.kind])
    spec = connections["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for connector in dict.fromkeys(provider.connection for provider in providers):
        block = spec["properties"][connector.vendor]
        parts += [
            f"## Connection: {connector.vendor}\n",
            (
                "In a [Connection or ClusterConnection](../reference/connection.md) under "
                f"`spec.{connector.vendor}`.\n"
            ),
            f"Budget, unless `spec.rateLimit` says otherwise: {_budget(connector.rate_limit)}.\n",
            reference.connection_block(block),
        ]
    return "\n".join(parts)


def _provider(provider: type[Provider[Any, Any]], crd: Node, path: str, sample: str) -> list[str]:
    page = f"../reference/{reference.page_of(provider.kind)}"
    parts = [f"## {provider.kind}\n", f"{plain(_about(provider))}\n"]
    facts = [
        (
            f"- Fields: [{provider.kind}]({page}#spec), "
            f"[`spec.{provider.vendor}`]({page}#spec{provider.vendor.lower()})"
        ),
        (
            f"- Connection: [{provider.connection.vendor}]"
            f"(#connection-{provider.connection.vendor.lower()})"
        ),
        f"- Maturity: {provider.maturity}",
        f"- Proof: {plain(provider.proof)}",
    ]
    if provider.docs:
        facts.append(f"- The vendor's own reference: <{provider.docs}>")
    parts.append("\n".join(facts) + "\n")
    quirks = [*provider.quirks]
    quirks += [_NO_MARK] * (not provider.marks_owner)
    quirks += [_NOT_FINDABLE] * (not provider.findable)
    quirks += [_LISTED] * provider.lists
    if quirks:
        parts += ["### What to know\n", "".join(f"- {plain(quirk)}\n" for quirk in quirks)]
    if provider.publishes:
        parts += ["### Outputs\n", outputs_table(provider)]
    if provider.permissions:
        needs = "".join(f"- {plain(right)}\n" for right in provider.permissions)
        parts += ["### Rights that the credentials need\n", needs]
    if fixed := reference.immutable(crd, provider.vendor):
        paths = ", ".join(f"`{field}`" for field in fixed)
        parts += [
            "### What cannot change\n",
            (
                f"The vendor, and {paths}. To change one, delete the object and create it anew; "
                "with `deletionPolicy: Retain` what is at the vendor stays, so give the new object "
                "another name there.\n"
            ),
        ]
    if sample:
        parts += ["### Sample\n", f"`{path}`:\n", code(sample)]
    return parts


def outputs_table(provider: type[Provider[Any, Any]]) -> str:
    """What it publishes."""
    rows = [(f"`{name}`", plain(text)) for name, text in provider.publishes]
    return table(("Output", "What it is"), rows)


def _about(provider: type[Provider[Any, Any]]) -> str:
    """The first paragraph of the provider's documentation."""
    return " ".join((inspect.getdoc(provider) or "").split("\n\n")[0].split())


def _budget(limit: RateLimit) -> str:
    shown = []
    if limit.per_second is not None:
        shown.append(f"{limit.per_second:g}/s")
    if limit.burst is not None:
        shown.append(f"burst {limit.burst}")
    if limit.concurrent is not None:
        shown.append(f"{limit.concurrent} at once")
    return ", ".join(shown)
