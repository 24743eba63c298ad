"""Manifests in files: read with the lines on which everything stands."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from cyclopts import Parameter

from auterity.api import GROUP
from auterity.cli.output import Problem
from auterity.engine.prices import BadPrices, PriceList, read

JSON = dict[str, Any]
Step = str | int
Where = tuple[Step, ...]

Files = Annotated[
    # A hyphen alone is standard input.
    list[str], Parameter(name=["--filename", "-f"], negative=(), allow_leading_hyphen=True)
]
"""Files, folders, or - for standard input."""
ENDINGS: Final = (".yaml", ".yml", ".json")
LARGEST: Final = 16 * 1024 * 1024
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a manifest."""

    file: str
    line: int
    object: str
    """Kind and name, such as VectorIndex search/docs; empty for what is not readable."""
    field: str
    """Path in the manifest, such as spec.dimension."""
    message: str
    severity: str = "error"
    """error or warning."""
    where: Where = dataclasses.field(default=(), repr=False)
    """The same path in steps."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file."""

    file: str
    data: JSON = dataclasses.field(repr=False)
    """It may hold secrets."""
    lines: dict[Where, int] = dataclasses.field(repr=False)
    """Where everything stands, counted from 1."""

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.data.get("kind") or "")

    @property
    def group(self) -> str:
        """Its API group; empty for Kubernetes' own core."""
        version = str(self.data.get("apiVersion") or "")
        return version.rpartition("/")[0]

    @property
    def ours(self) -> bool:
        """Whether it is of our API group, whatever its kind and version."""
        return self.group == GROUP

    @property
    def metadata(self) -> JSON:
        """Its metadata."""
        found = self.data.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace as it is written; empty if none is."""
        return str(self.metadata.get("namespace") or "")

    @property
    def label(self) -> str:
        """What people call it."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}".strip()

    def line(self, where: Where) -> int:
        """The line of a field, or of the nearest there is around it."""
        while where not in self.lines:
            where = where[:-1]
        return self.lines[where]

    def fault(self, where: Where, message: str, severity: str = "error") -> Fault:
        """Something wrong with a field of it."""
        return Fault(
            self.file, self.line(where), self.label, dotted(where), message, severity, where
        )


def dotted(where: Sequence[Step]) -> str:
    """A path as users write it: spec.receivers[0].name."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def load(paths: Iterable[str]) -> tuple[list[Manifest], list[Fault]]:
    """Every object in files and folders, and what could not be read.

    Raises Problem for a path that does not exist.
    """
    manifests: list[Manifest] = []
    faults: list[Fault] = []
    for file, text in _texts(paths):
        found, broken = parse(file, text)
        manifests += found
        faults += broken
    return manifests, faults


def parse(file: str, text: str) -> tuple[list[Manifest], list[Fault]]:
    """Every object in a text, and what could not be read."""
    manifests: list[Manifest] = []
    faults: list[Fault] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101 - check_node says so
            lines: dict[Where, int] = {}
            twins = [
                Fault(file, line, "", dotted(where), "is given twice")
                for where, line in _survey(node, (), lines)
            ]
            faults += twins
            data = loader.construct_document(node)
            if isinstance(data, dict):
                manifests += _objects(Manifest(file, data, lines))
            elif data is not None:
                faults.append(Fault(file, lines[()], "", "", "is not an object of Kubernetes"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What PyYAML says quotes nothing; the line it would show may hold a secret.
        line = mark.line + 1 if mark else 1
        faults.append(Fault(file, line, "", "", f"is not YAML: {error.problem or 'unreadable'}"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(Fault(file, 1, "", "", f"is not YAML ({type(error).__name__})"))
    finally:
        loader.dispose()
    return manifests, faults


def _texts(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for given in paths:
        if given == "-":
            yield "standard input", sys.stdin.read()
            continue
        path = Path(given)
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix in ENDINGS)
        elif path.is_file():
            found = [path]
        else:
            raise Problem(f"{given} does not exist")
        for one in found:
            if one.stat().st_size > LARGEST:
                raise Problem(f"{one} has more than {LARGEST >> 20} MiB")
            try:
                yield str(one), one.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise Problem(f"{one} cannot be read ({type(error).__name__})") from error


def _survey(node: yaml.Node, where: Where, lines: dict[Where, int]) -> Iterator[tuple[Where, int]]:
    """Note the line of everything below a node; what is given twice."""
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            if here in lines:
                yield here, key.start_mark.line + 1
                continue
            lines[here] = key.start_mark.line + 1
            yield from _survey(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _survey(value, (*where, index), lines)


def _objects(manifest: Manifest) -> Iterator[Manifest]:
    """It, or what it is a list of."""
    items = manifest.data.get("items")
    if not (manifest.kind.endswith("List") and isinstance(items, list)):
        yield manifest
        return
    for index, item in enumerate(items):
        if isinstance(item, dict):
            above = ("items", index)
            lines = {w[2:]: line for w, line in manifest.lines.items() if w[:2] == above}
            yield Manifest(manifest.file, item, lines)


def price_lists(files: Iterable[Path]) -> tuple[PriceList, ...]:
    """The price lists in files. Raises Problem."""
    try:
        return tuple(one for file in files for one in read(file))
    except BadPrices as error:
        raise Problem(f"--prices: {error}") from None
