"""Figures as tables: for the terminal and for the documentation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.goals import Goal, converged

Figures = dict[str, Any]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
QUIET = 0.15
"""Cores that others may use before figures count as measured under load."""


@dataclass(frozen=True)
class Row:
    """One figure of every operator."""

    text: str
    values: list[float | None]
    digits: int

    def cells(self) -> list[str]:
        return ["-" if v is None else f"{v:,.{self.digits}f}" for v in self.values]

    @property
    def ratio(self) -> str:
        """Auterity's to that of 50 workers in Go."""
        ours, fifty = self.values[0], self.values[1] if len(self.values) > 1 else None
        return f"{ours / fifty:.2f}x" if ours and fifty else ""


def rows(operators: Figures) -> list[Row]:
    """What was measured, figure by figure."""
    found = []
    runs = {(r["objects"], r["latency_ms"]) for f in operators.values() for r in f["converge"]}
    for objects, latency in sorted(runs):
        of = f"{objects:,} objects at {latency} ms"
        for text, name, digits in (
            ("seconds until all are ready", "seconds", 1),
            ("CPU ms an object", "cpu_ms_an_object", 2),
            ("API writes an object", "api_writes_an_object", 2),
            ("API reads", "api_reads", 0),
            ("vendor calls an object", "vendor_calls_an_object", 2),
            ("KiB an object", "kib_an_object", 1),
            ("cores that other programs used", "others_cores", 1),
        ):
            found.append(_row(f"{of}: {text}", operators, _run(objects, latency, name), digits))
    for text, part, name, digits in (
        ("memory at idle, KiB", "", "idle_kib", 0),
        ("drift checks: vendor calls a sweep", "rest", "vendor_calls_a_sweep", 1),
        ("drift checks: API writes", "rest", "api_writes", 0),
        ("drift checks: Lease writes a minute", "rest", "lease_writes_a_minute", 0),
        ("drift checks: CPU ms each", "rest", "cpu_ms_a_check", 2),
        ("edit of every object: seconds until all are ready", "storm", "seconds", 1),
        ("from an edit to the vendor, p50 in seconds", "edits", "p50_seconds", 3),
        ("from an edit to the vendor, p99 in seconds", "edits", "p99_seconds", 3),
        ("a vendor that fails 2 % and allows 100 calls a second: seconds", "trouble", "seconds", 1),
        ("- by the limit alone it would be", "trouble", "least_seconds", 1),
        ("- calls refused by it", "trouble", "throttled", 0),
        ("- objects that still lack when it is broken off", "trouble", "left", 0),
        ("restart: seconds until ready", "restart", "ready_seconds", 1),
        ("restart: seconds until caught up", "restart", "seconds", 1),
    ):
        found.append(_row(text, operators, _part(part, name), digits))
    deletions = {
        (d["objects"], d["latency_ms"]) for f in operators.values() for d in f.get("deletion", ())
    }
    for objects, latency in sorted(deletions):
        text = f"{objects:,} objects at {latency} ms: seconds until all are deleted"
        found.append(_row(text, operators, _deletion(objects, latency), 1))
    return [row for row in found if any(value is not None for value in row.values)]


def connection_tables(found: Figures) -> list[tuple[str, list[str], list[list[str]]]]:
    """What connections cost: title, columns and rows of each table."""
    nothing = found["nothing"]
    whole = [
        ["nothing declared", f"{nothing['mib']:.0f}", f"{nothing['ready_seconds']:.1f}", "-", "-"]
    ]
    whole += [
        [
            one["what"],
            f"{one['mib']:.0f}",
            f"{one['ready_seconds']:.1f}",
            f"{one['caught_up_seconds']:.1f}",
            f"{one['cpu_seconds']:.1f}",
        ]
        for one in found["together"]
    ]
    alone = [
        [
            one["kind"],
            one["vendor"],
            ", ".join(one["sdks"]) or "none",
            f"{one['connection_mib']:.0f}",
            f"{one['object_mib']:.0f}",
        ]
        for one in found["alone"]
    ]
    columns = ["MiB", "seconds until ready", "until caught up", "CPU seconds"]
    return [
        ("The operator with connections, each time just started", ["", *columns], whole),
        (
            "One vendor alone: MiB on top of nothing declared",
            ["kind", "vendor", "SDK that is loaded", "connection", "and an object"],
            alone,
        ),
    ]


def show_connections(console: Console, found: Figures) -> None:
    """Print what connections cost."""
    for title, columns, rows in connection_tables(found):
        table = Table(title=f"{title}\n{heading(found)}")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def show(console: Console, report: Figures, goals: list[Goal]) -> None:
    """Print both tables."""
    table = Table(title=heading(report))
    table.add_column("", min_width=48)
    for name in report["operators"]:
        table.add_column(name, justify="right")
    table.add_column("ratio", justify="right")
    for row in rows(report["operators"]):
        table.add_row(row.text, *row.cells(), row.ratio)
    console.print(table)
    table = Table(title="Goals")
    for column in ("goal", "target", "measured", "met"):
        table.add_column(column, justify="left" if column == "goal" else "right")
    for goal in goals:
        met = "[green]yes[/]" if goal.met else "[red]no[/]"
        table.add_row(goal.text, _target(goal), _measured(goal), met)
    console.print(table)


def publish(page: Path, report: Figures, goals: list[Goal]) -> None:
    """Write both tables into a page of the documentation, between its marks."""
    names = list(report["operators"])
    lines = [BEGIN, "", f"{heading(report)}.", ""]
    lines += [f"| | {' | '.join(names)} | ratio |", f"|---|{'--:|' * (len(names) + 1)}"]
    lines += [
        f"| {row.text} | {' | '.join(row.cells())} | {row.ratio} |"
        for row in rows(report["operators"])
    ]
    lines += ["", "| Goal | Target | Measured | Met |", "|---|--:|--:|---|"]
    lines += [
        f"| {goal.text} | {_target(goal)} | {_measured(goal)} | {'yes' if goal.met else '**no**'} |"
        for goal in goals
    ]
    if "connections" in report:
        lines += _connection_lines(report["connections"])
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + "\n".join([*lines, "", END]) + after)


def _connection_lines(found: Figures) -> list[str]:
    lines = ["", f"What connections cost: {heading(found)}."]
    for title, columns, rows in connection_tables(found):
        words = sum(not cell.replace(".", "").isdigit() for cell in rows[-1])
        lines += ["", f"{title}:", "", f"| {' | '.join(columns)} |"]
        lines += [f"|{'---|' * words}{'--:|' * (len(columns) - words)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return lines


def heading(report: Figures) -> str:
    """When, on what, and whether the machine was quiet."""
    machine = report["machine"]
    others = report["others_cores"]
    quiet = (
        "the machine was quiet"
        if others <= QUIET
        else f"MEASURED UNDER LOAD: other programs used {others:.1f} cores"
    )
    return (
        f"{report['date']}, {machine['cores']} cores, Kubernetes {machine['kubernetes']}, "
        f"Python {machine['python']}; {quiet}"
    )


def _row(
    text: str, operators: Figures, read: Callable[[Figures], float | None], digits: int
) -> Row:
    return Row(text, [read(figures) for figures in operators.values()], digits)


def _run(objects: int, latency: int, name: str) -> Callable[[Figures], float | None]:
    return lambda figures: (converged(figures, objects, latency) or {}).get(name)


def _part(part: str, name: str) -> Callable[[Figures], float | None]:
    return lambda figures: (figures.get(part) or {} if part else figures).get(name)


def _deletion(objects: int, latency: int) -> Callable[[Figures], float | None]:
    def read(figures: Figures) -> float | None:
        for one in figures.get("deletion", ()):
            if (one["objects"], one["latency_ms"]) == (objects, latency):
                return float(one["seconds"])
        return None

    return read


def _target(goal: Goal) -> str:
    return f"{'≥' if goal.at_least else '≤'} {goal.target:g} {goal.unit}".rstrip()


def _measured(goal: Goal) -> str:
    return f"{goal.measured:,.2f} {goal.unit}".rstrip()
