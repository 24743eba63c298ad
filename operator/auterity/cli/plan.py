"""`auterity plan`: what the operator would change at the vendors, with nothing touched."""

from collections import Counter
from typing import Any, Final

from cyclopts import App

from auterity.cli.check import inspected, refuse
from auterity.cli.cluster import perform
from auterity.cli.files import Files, Manifest, load
from auterity.cli.output import CHANGES, FAILED, OK, Cell, Problem, Rendered, Styled, Table, show
from auterity.cli.sources import Reach, Sources, gathered, planner
from auterity.engine.budgets import money
from auterity.engine.conditions import Reason
from auterity.engine.plan import Action, Plan

EXIT_CODES: Final = (
    "Nothing is touched: the engine makes the visit that the operator would make once the files "
    "are applied, up to the first change, and only reads pass.\n\n"
    "Exit codes: 0 nothing would change, 2 something would (or waits), 1 something would fail, or "
    "could not be found out."
)
MARKER: Final = "<!-- auterity plan -->"
"""By which a later run finds the comment of an earlier one."""
COLOURS: Final = {
    Action.NONE: "dim",
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.ADOPT: "yellow",
    Action.DELETE: "red",
    Action.WAIT: "cyan",
    Action.FAIL: "bold red",
}
SUMMARY: Final = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.ADOPT: "to take over",
    Action.DELETE: "to delete",
    Action.WAIT: "waiting",
    Action.FAIL: "failing",
    Action.NONE: "unchanged",
}

app = App(name="plan", help_epilogue=EXIT_CODES)


@app.default
def plan(filename: Files, /, *, reach: Reach | None = None, output: Rendered = "table") -> int:
    """Show what the operator would change at the vendors. Nothing is touched: only reads are made.

    The engine itself makes the visit that the operator would make once the files are applied, up
    to the first change. Whatever the files do not have (a status, a Connection, a Secret) comes
    from the cluster, if one can be reached.

    Parameters
    ----------
    filename
        Files, folders, or - for standard input, with integrations, Connections and Secrets.
    output
        How it is printed; markdown is for the comment on a pull request.
    """
    if not filename:
        raise Problem("nothing to plan: name files with -f")
    manifests, found = load(filename)
    reach = reach or Reach()
    inside = inspected(manifests, reach.namespace or "default")
    refuse([*found, *(fault for fault in inside if fault.severity == "error")])
    plans, hints = perform(_plans(manifests, reach))
    show(as_json(plans), *_parts(plans, hints, output), output=output)
    return exit_code(plans)


def exit_code(plans: list[Plan]) -> int:
    """What these plans come to, for CI."""
    actions = {one.action for one in plans}
    if Action.FAIL in actions:
        return FAILED
    return CHANGES if actions - {Action.NONE} else OK


def as_json(plans: list[Plan]) -> dict[str, Any]:
    """Plans as JSON."""
    counts = Counter(one.action for one in plans)
    return {
        "changes": exit_code(plans) != OK,
        "summary": {str(action): counts[action] for action in Action},
        "objects": [
            {
                "kind": one.key.kind,
                "namespace": one.key.namespace,
                "name": one.key.name,
                "vendor": one.vendor,
                "action": str(one.action),
                "reason": str(one.reason),
                "message": one.message,
                "id": one.id,
                "url": one.url,
                "changes": list(one.changes),
                "drift": list(one.drift),
                "cost": one.cost,
            }
            for one in plans
        ],
    }


async def _plans(manifests: list[Manifest], reach: Reach) -> tuple[list[Plan], list[str]]:
    async with gathered(manifests, reach) as sources, planner(sources, reach) as it:
        plans = await it.plans(key for key in sources.declared if key not in sources.wrong)
        by_key = {one.key: one for one in plans}
        for key, words in sources.wrong.items():
            by_key[key] = Plan(key, None, Action.FAIL, Reason.SPEC_REJECTED, words)
        ordered = [by_key[key] for key in sources.declared]
        return ordered, _hints(ordered, sources)


def _hints(plans: list[Plan], sources: Sources) -> list[str]:
    """What to give this command so that it finds out more."""
    hints = []
    conflicts = [one for one in plans if one.reason == Reason.CONFLICT]
    if conflicts and sources.identity is None:
        hints.append(
            "No cluster was asked and no --cluster-name given, so what this cluster owns at a "
            "vendor cannot be told from what others own."
        )
    elif conflicts and sources.cluster is None:
        hints.append(
            "No cluster was asked: where a vendor's objects carry no mark, only the status in the "
            "cluster tells whose they are."
        )
    return hints


def _parts(plans: list[Plan], hints: list[str], output: str) -> list[Table | str]:
    counts = Counter(one.action for one in plans)
    told = ", ".join(f"{counts[a]} {words}" for a, words in SUMMARY.items() if counts[a])
    summary = f"Plan: {told or 'no integrations in the files'}."
    changes = Table(("Object", "Action", "Field", "At the vendor", "Declared"), _rows(plans))
    notes = Table(
        ("Object", "Reason", "Message"),
        [
            (_name(one), Styled(str(one.reason), COLOURS[one.action]), one.message)
            for one in plans
            if one.message and (one.action is not Action.NONE or one.reason != Reason.READY)
        ],
    )
    parts: list[Table | str] = [changes] if plans else []
    costs = Table(
        ("Object", "Costs an hour", "By"),
        [(_name(one), _costs(one.cost), one.cost["basis"]) for one in plans if one.cost],
    )
    parts += [notes] if notes.rows else []
    parts += [costs] if costs.rows else []
    parts += [*hints, summary]
    if output == "markdown":
        return [f"{MARKER}\n### {summary}", *parts[:-1]]
    return parts


def _rows(plans: list[Plan]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for one in plans:
        first: tuple[Cell, Cell] = (_name(one), Styled(str(one.action), COLOURS[one.action]))
        fields = [(c["field"], c.get("from") or "", c.get("to") or "") for c in one.changes]
        # Drift that is left alone stands there too, so that nobody wonders at it.
        fields += [
            (f"{d['field']} (left)", d.get("actual") or "", d.get("want") or "") for d in one.drift
        ]
        for number, row in enumerate(fields or [("", "", "")]):
            rows.append((*(first if number == 0 else ("", "")), *row))
    return rows


def _costs(cost: dict[str, Any]) -> str:
    if (most := cost.get("most")) is None:
        return "unknown"
    least = cost.get("least") or 0.0
    upto = money(most) if least == most else f"{money(least)} to {money(most)}"
    return f"{upto} {cost['currency']}"


def _name(one: Plan) -> str:
    return f"{one.key.kind} {one.key.namespace}/{one.key.name}"
