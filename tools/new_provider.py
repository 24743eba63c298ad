"""`python -m tools.new_provider KIND VENDOR [--rest]`: a provider, its fake and sample, all red."""

import re
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any, Final

import cyclopts
import yaml

from auterity.api import API_VERSION
from auterity.api.kinds import KINDS, Kind
from auterity.api.schema import Node, structural
from tools.generate import ROOT, sample_path

app = cyclopts.App(name="python -m tools.new_provider", help="Start a provider.")

REST: Final = Template('''"""$kind at $title (link to the API's reference)."""

from collections.abc import Mapping
from typing import Any

from auterity.api.fields import SecretValue
from auterity.api.$module import $kind
from auterity.engine.contract import Identity, Observed
from auterity.transport.rest import RestConnector, RestProvider, RestSession


class ${title}Connection(RestConnector):
    """An account at $title."""

    vendor = "$vendor"

    token: SecretValue
    """API token."""

    def headers(self) -> Mapping[str, str]:
        raise NotImplementedError

    async def identify(self, session: RestSession) -> Identity:
        raise NotImplementedError


class $title${kind}Params($kind):
    """What only $title has."""


class $title$kind(RestProvider[$title${kind}Params]):
    """$kind at $title."""

    kind = "$kind"
    vendor = "$vendor"
    params = $title${kind}Params
    connection = ${title}Connection
    collection = "/"

    def encode(self, want: $title${kind}Params, owner: str) -> dict[str, Any]:
        raise NotImplementedError

    def decode(self, body: dict[str, Any]) -> Observed[$title${kind}Params]:
        raise NotImplementedError
''')

PROVIDER: Final = Template('''"""$kind at $title (link to the API's reference)."""

from auterity.api.$module import $kind
from auterity.engine.contract import Observed, Provider
from auterity.transport.$file import ${title}Connection, ${title}Session


class $title${kind}Params($kind):
    """What only $title has."""


class $title$kind(Provider[$title${kind}Params, ${title}Session]):
    """$kind at $title."""

    kind = "$kind"
    vendor = "$vendor"
    params = $title${kind}Params
    connection = ${title}Connection

    async def read(self, id: str) -> Observed[$title${kind}Params] | None:
        raise NotImplementedError

    async def create(
        self, want: $title${kind}Params, owner: str
    ) -> Observed[$title${kind}Params] | str:
        raise NotImplementedError

    async def update(
        self, id: str, want: $title${kind}Params, changed: frozenset[str], owner: str
    ) -> None:
        raise NotImplementedError

    async def delete(self, id: str) -> None:
        raise NotImplementedError
''')

TRANSPORT: Final = Template('''"""Calls to $title by its SDK, imported inside the first call."""

from auterity.api.fields import SecretValue
from auterity.engine.contract import Access, Connector, Identity, Session


class ${title}Session(Session):
    """An account at $title."""

    async def verify(self) -> Identity:
        raise NotImplementedError


class ${title}Connection(Connector):
    """An account at $title."""

    vendor = "$vendor"

    token: SecretValue
    """API token."""

    async def open(self, access: Access) -> ${title}Session:
        raise NotImplementedError
''')

FAKE: Final = Template('''"""A stateful stand-in for $title."""

from typing import ClassVar

from auterity.providers.$file import $title$kind
from tests.conformance.vendor import JSON
from tests.fakes.server import FakeServer, ServedVendor


class $title(ServedVendor):
    """Answers as $title's description says (version and date of the description)."""

    provider = $title$kind
    spec: ClassVar[JSON] = $spec

    def __init__(self) -> None:
        # Its routes, and the description that every request is held against.
        super().__init__(FakeServer())

    async def reset(self) -> None:
        raise NotImplementedError

    def connection(self, endpoint: str | None) -> JSON:
        raise NotImplementedError

    async def count(self) -> int:
        raise NotImplementedError

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        raise NotImplementedError

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        raise NotImplementedError
''')


FIRST_PARTY: Final = "lint.isort.known-first-party = ['auterity', 'tests']"


class RefusedError(Exception):
    """Nothing was written; the text says why."""


def skeletons(kind: Kind, vendor: str, *, rest: bool) -> dict[str, str]:
    """The files of a new provider by path. Every verb and the fake are still to be written."""
    if not re.fullmatch(r"[a-z][A-Za-z0-9]*", vendor):
        raise RefusedError(f"{vendor} is not a name in camelCase, such as sageMaker")
    title = vendor[0].upper() + vendor[1:]
    file = vendor.lower()
    spec = {**_least(structural(kind.params, kind.name)), vendor: {}}
    words = {
        "kind": kind.name,
        "module": kind.params.__module__.rpartition(".")[2],
        "vendor": vendor,
        "file": file,
        "title": title,
        "spec": repr(spec),
    }
    made = {
        f"operator/auterity/providers/{file}.py": (REST if rest else PROVIDER).substitute(words),
        f"tests/fakes/{file}.py": FAKE.substitute(words),
        sample_path(kind.name, vendor): _sample(kind, vendor, spec, rest=rest),
    }
    if not rest:
        made[f"operator/auterity/transport/{file}.py"] = TRANSPORT.substitute(words)
    return made


def write(root: Path, made: dict[str, str]) -> list[Path]:
    """Write the files, all or none. Raises RefusedError if one of them exists."""
    if there := [path for path in made if (root / path).exists()]:
        raise RefusedError(f"exists already: {', '.join(there)}")
    written = []
    for path, text in made.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        written.append(target)
    code = [str(path) for path in written if path.suffix == ".py"]
    sort = ["check", "--quiet", "--isolated", "--select=I", "--fix", "--config", FIRST_PARTY]
    for command in (sort, ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *code], check=True)
    return written


def _least(node: Node) -> dict[str, Any]:
    """The required fields with values to be replaced."""
    return {name: _value(node["properties"][name]) for name in node.get("required", ())}


def _value(node: Node) -> Any:
    if "enum" in node:
        return node["enum"][0]
    match node["type"]:
        case "object":
            return _least(node)
        case "array":
            return [_value(node["items"])] if node.get("minItems") else []
        case "integer" | "number":
            return max(node.get("minimum", 1), 1)
        case "boolean":
            return False
        case _:
            return "change-me"


def _sample(kind: Kind, vendor: str, spec: dict[str, Any], *, rest: bool) -> str:
    account: dict[str, Any] = {"token": {"secretKeyRef": {"name": vendor.lower(), "key": "token"}}}
    if rest:
        account["endpoint"] = f"https://{vendor.lower()}.example"
    documents = [
        _manifest("Connection", vendor.lower(), {vendor: account}),
        _manifest(kind.name, "example", {"connectionRef": {"name": vendor.lower()}, **spec}),
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@app.default
def new_provider(kind: str, vendor: str, *, rest: bool = False) -> None:
    """Write a provider, its fake and its sample, for you to make green.

    Parameters
    ----------
    kind
        Such as VectorIndex.
    vendor
        The block in the spec, such as pinecone or sageMaker.
    rest
        The vendor has plain REST collections: start from RestProvider.
    """
    if kind not in KINDS:
        sys.exit(f"no such kind as {kind}; there are {', '.join(KINDS)}")
    try:
        written = write(ROOT, skeletons(KINDS[kind], vendor, rest=rest))
    except RefusedError as reason:
        sys.exit(str(reason))
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"now make it green: pytest tests/conformance -k {kind}-{vendor}")
    print("then: python -m tools.generate")


if __name__ == "__main__":
    app()
