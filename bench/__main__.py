"""`python -m bench`: Auterity beside a Go operator, on a real control plane, in one run."""

import asyncio
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cyclopts import App
from rich.console import Console

from bench import vendors
from bench.chart import chart
from bench.goals import goals
from bench.measure import Bench, Plan
from bench.operators import Auterity, Operator, Yardstick1, Yardstick50
from bench.replicas import scale
from bench.report import publish, show, show_connections
from bench.rig import ROOT, Rig
from tools.controlplane.binaries import kubernetes_version

app = App(help=__doc__)
console = Console()
FAST, SLOW = 20, 300
"""Milliseconds that a call to the vendor takes."""
LARGE = 10_000
OPERATORS: dict[str, type[Operator]] = {
    "auterity": Auterity,
    "go50": Yardstick50,
    "go1": Yardstick1,
}


@app.default
def bench(
    *,
    objects: int = 1000,
    full: bool = False,
    only: list[Literal["auterity", "go50", "go1"]] | None = None,
    calls_in_flight: int = 400,
    output: Path = ROOT / "build" / "bench",
    docs: bool = False,
) -> None:
    """Measure one operator after the other, each alone on a fresh control plane.

    Parameters
    ----------
    objects
        How many objects are created, edited and deleted.
    full
        Also with 10,000 objects, and edits and restart with these: half an hour.
    only
        Leave out the other operators; repeat for several.
    calls_in_flight
        Most calls to the vendor in flight, as Auterity's Connection says. The Go operator's are its
        workers.
    output
        Folder for scale.json and scale.svg.
    docs
        Write them and the tables into docs instead.
    """
    operators = {}
    for name in only or OPERATORS:
        operator = OPERATORS[name]
        plan = _plan(operator, objects, full=full)
        operators[operator.name] = asyncio.run(_run(plan, calls_in_flight))
        if operator is Auterity:
            operators[operator.name]["replicas"] = asyncio.run(
                scale(objects, SLOW, calls_in_flight)
            )
        # Half an hour is long: what is measured is not lost with what comes after.
        output.mkdir(parents=True, exist_ok=True)
        (output / "operators.json").write_text(json.dumps(operators, indent=2, default=str))
    report = {
        **_when(),
        "order": list(operators),
        "calls_in_flight": calls_in_flight,
        "others_cores": _others(operators),
        "operators": operators,
    }
    folder = ROOT / "docs" if docs else output
    if kept := _written(folder).get("connections"):
        report["connections"] = kept
    met = goals(operators)
    report["goals"] = [goal.told() for goal in met]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(_rounded(report), indent=2) + "\n")
    (folder / "scale.svg").write_text(chart(report))
    if docs:
        publish(folder / "scale.md", report, met)
    show(console, report, met)
    console.print(f"also in {folder}: scale.json, scale.svg", highlight=False)
    if full and "Auterity" in operators:
        connections(output=output, docs=docs)


@app.command
def connections(*, output: Path = ROOT / "build" / "bench", docs: bool = False) -> None:
    """Measure only what connections cost: memory and start-up with every vendor's, and none.

    Parameters
    ----------
    output
        Folder of scale.json, whose other figures stay.
    docs
        Write it into docs instead, and the tables too.
    """
    found = {**_when(), **vendors.connections()}
    show_connections(console, found)
    folder = ROOT / "docs" if docs else output
    report = {**_written(folder), "connections": found}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(_rounded(report), indent=2) + "\n")
    if docs:
        publish(folder / "scale.md", report, goals(report["operators"]))


def _when() -> dict[str, Any]:
    """The moment and the machine."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "kubernetes": kubernetes_version(),
            "load_average_after": os.getloadavg(),
        },
    }


def _written(folder: Path) -> dict[str, Any]:
    """The figures that are there; empty if there are none."""
    path = folder / "scale.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _plan(operator: type[Operator], objects: int, *, full: bool) -> Plan:
    if operator is Yardstick1:
        # Two calls of 300 ms an object would take it ten minutes for 1,000 objects.
        return Plan(operator, [(objects, FAST)])
    few = [(objects, FAST), (objects, SLOW)]
    if not full:
        return Plan(operator, few, life=0, delete_last=True, troubled=objects)
    many = [(LARGE, FAST), (LARGE, SLOW)]
    return Plan(operator, few + many, life=2, sweep=20, rest=45.0, edits=400, troubled=objects)


async def _run(plan: Plan, calls_in_flight: int) -> dict[str, Any]:
    rig = Rig(plan.operator.group, calls_in_flight)
    async with rig.running():
        operator = plan.operator(rig)
        try:
            return await Bench(rig, operator, plan).run()
        finally:
            operator.stop()


def _others(operators: dict[str, Any]) -> float:
    """Cores that programs outside the bench used while objects converged, at the worst."""
    runs = [run for figures in operators.values() for run in figures["converge"]]
    return float(max(run["others_cores"] for run in runs))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


if __name__ == "__main__":
    app()
