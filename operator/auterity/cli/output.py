"""The one way to print: tables for people, JSON and YAML for programs, Markdown for a review.

Standard output has the answer and nothing else; complaints go to standard error. Exit codes:
OK, FAILED, and CHANGES where a command's whole answer is whether something would change.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple

from cyclopts import Parameter

OK: Final = 0
FAILED: Final = 1
CHANGES: Final = 2

Output = Annotated[Literal["table", "json", "yaml"], Parameter(name=["--output", "-o"])]
"""How a command prints."""
Rendered = Annotated[
    Literal["table", "json", "yaml", "markdown"], Parameter(name=["--output", "-o"])
]
"""The same, where the answer may be posted for people to read."""


class Problem(Exception):  # noqa: N818 - not a bug, but what a person is told
    """A command cannot do what it should: shown without a traceback, exit code FAILED."""


class Styled(NamedTuple):
    """A cell in a colour, such as red."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows. `title` stands above, `empty` in its place where there are no rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    empty: str = ""


def show(data: Any, *parts: Table | str, output: str = "table") -> None:
    """Print `data` as JSON or YAML, or else `parts`: tables and lines of text.

    `data` is plain JSON; both must say the same.
    """
    match output:
        case "json":
            write(as_json(data))
        case "yaml":
            write(as_yaml(data))
        case "markdown":
            write("\n\n".join(_markdown(part) for part in parts))
        case _:
            _print(parts)


def as_json(data: Any) -> str:
    """JSON, indented."""
    import json

    return json.dumps(data, indent=2, ensure_ascii=False)


def as_yaml(*documents: Any) -> str:
    """YAML as people write it, one document or several."""
    import re

    import yaml

    class Plain(yaml.SafeDumper):
        """Without references (`&id001`), and with lists indented."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - as PyYAML declares it
            super().increase_indent(flow, indentless=False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Plain.add_representer(str, text)
    # Numbers to kubectl and not to PyYAML, such as 4e-4: text that looks so must stand in quotes.
    number = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|0o[0-7]+$")
    Plain.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    parts = [
        yaml.dump(document, Dumper=Plain, sort_keys=False, allow_unicode=True, width=100)
        for document in documents
    ]
    return "---\n".join(parts).rstrip("\n")


def write(text: str) -> None:
    """Print text as it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(message: str, kind: str = "error") -> None:
    """Tell of an error or a warning, on standard error."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(
        Text.assemble(
            (f"{kind}: ", "bold red" if kind == "error" else "bold yellow"), safe(message)
        )
    )


def safe(text: str) -> str:
    """Without control characters: what a vendor or a manifest says must not steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _print(parts: Sequence[Table | str]) -> None:
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    # Into a file or a pipe no line is cut to a width that nobody has.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100_000)
    for number, part in enumerate(parts):
        if number:
            console.print()
        if isinstance(part, str):
            console.print(Text(safe(part)), soft_wrap=True)
            continue
        if part.title:
            console.print(Text(safe(part.title), "bold"), soft_wrap=True)
        if not part.rows:
            console.print(Text(safe(part.empty)), soft_wrap=True)
            continue
        grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column in part.columns:
            grid.add_column(Text(column.upper()), overflow="fold")
        for row in part.rows:
            grid.add_row(*(_styled(cell) for cell in row))
        if console.is_terminal:
            console.print(grid)
            continue
        with console.capture() as captured:
            console.print(grid)
        write("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _styled(cell: Cell) -> Any:
    from rich.text import Text

    if isinstance(cell, Styled):
        return Text(safe(cell.text), cell.style)
    return Text(safe(cell))


def _markdown(part: Table | str) -> str:
    if isinstance(part, str):
        return safe(part)
    lines = [f"### {_in_a_line(part.title)}", ""] if part.title else []
    if not part.rows:
        return "\n".join([*lines, safe(part.empty)]).rstrip()
    lines.append("| " + " | ".join(part.columns) + " |")
    lines.append("|" + " --- |" * len(part.columns))
    for row in part.rows:
        cells = (cell.text if isinstance(cell, Styled) else cell for cell in row)
        lines.append("| " + " | ".join(_in_a_line(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _in_a_line(text: str) -> str:
    """Text that ends no cell, starts no tag and mentions nobody."""
    text = safe(text).replace("\n", " ")
    for character in "\\`*_[]<>|@":
        text = text.replace(character, f"\\{character}" if character != "@" else "@\N{WORD JOINER}")
    return text
