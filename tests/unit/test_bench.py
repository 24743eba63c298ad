"""The bench judges and draws what it is given."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.chart import chart
from bench.goals import goals
from bench.report import BEGIN, END, heading, publish

Figures = dict[str, Any]


def run(objects: int, latency: int, seconds: float, cpu: float = 1.0) -> Figures:
    return {
        "objects": objects,
        "latency_ms": latency,
        "seconds": seconds,
        "cpu_ms_an_object": cpu,
        "api_writes_an_object": 1.0,
        "kib_an_object": 20.0,
    }


@pytest.fixture
def operators() -> Figures:
    ours = {
        "converge": [run(1000, 20, 4.0, 2.0), run(10_000, 20, 50.0, 1.5)],
        "warm_up": {"objects": 100, "api_writes_an_object": 2.01},
        "idle_kib": 80 * 1024,
        "rest": {"objects": 1000, "api_writes": 1, "vendor_calls_a_sweep": 3.0},
        "edits": {"p99_seconds": 0.5},
    }
    go = {"converge": [run(1000, 20, 8.0), run(10_000, 20, 50.0)], "idle_kib": 30 * 1024}
    slow = {"converge": [run(1000, 20, 50.0)], "idle_kib": 30 * 1024}
    return {"Auterity": ours, "Go, 50 workers": go, "Go, 1 worker": slow}


@pytest.fixture
def report(operators: Figures) -> Figures:
    machine = {"cores": 2, "kubernetes": "1.36.3", "python": "3.11.7"}
    return {"date": "today", "machine": machine, "others_cores": 0.0, "operators": operators}


def test_goals_are_met_or_missed_by_the_figures(operators: Figures) -> None:
    met = {goal.text: goal.met for goal in goals(operators)}
    assert met == {
        "1,000 objects at 20 ms: time to converge, to 50 Go workers": True,
        "1,000 objects at 20 ms: CPU an object, to Go's": False,
        "1,000 objects at 20 ms: times as fast as 1 Go worker": True,
        "10,000 objects at 20 ms: time to converge, to 50 Go workers": False,
        "10,000 objects at 20 ms: CPU an object, to Go's": True,
        "10,000 instead of 1,000 objects at 20 ms: time an object": False,
        "API writes an object on creation, finalizer set at admission": True,
        "API writes an object on creation elsewhere": True,
        "API writes at rest": False,
        "vendor calls in a drift sweep of 1,000 objects": True,
        "p99 from an edit to the vendor, while all objects are checked for drift": True,
        "memory at idle": True,
        "memory an object": True,
    }


def test_figures_of_a_busy_machine_are_called_so(report: Figures) -> None:
    assert "quiet" in heading(report)
    assert "UNDER LOAD" in heading({**report, "others_cores": 0.7})


def test_the_page_keeps_its_text_around_the_figures(report: Figures, tmp_path: Any) -> None:
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    publish(page, report, goals(report["operators"]))
    publish(page, report, goals(report["operators"]))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| memory at idle |") == 1


@pytest.fixture
def connections(report: Figures) -> Figures:
    mib = {"connection_mib": 61.4, "object_mib": 62.5}
    alone = {"kind": "VectorIndex", "vendor": "qdrant", "sdks": [], **mib}
    whole = {"ready_seconds": 2.5, "caught_up_seconds": 7.25, "cpu_seconds": 6.0, "mib": 190.2}
    return {
        "date": "later",
        "machine": report["machine"],
        "others_cores": 0.4,
        "nothing": {"ready_seconds": 2.1, "mib": 85.4},
        "alone": [alone, {**alone, "vendor": "pgvector", "sdks": ["psycopg"]}],
        "together": [{"what": "2 vendors of VectorIndex: a connection each", **whole}],
    }


def test_the_page_tells_what_connections_cost(
    report: Figures, connections: Figures, tmp_path: Any
) -> None:
    page = tmp_path / "scale.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    publish(page, {**report, "connections": connections}, [])
    text = page.read_text()
    assert "What connections cost: later" in text
    assert "UNDER LOAD: other programs used 0.4 cores" in text
    assert "| nothing declared | 85 | 2.1 | - | - |" in text
    assert "| 2 vendors of VectorIndex: a connection each | 190 | 2.5 | 7.2 | 6.0 |" in text
    assert "| VectorIndex | qdrant | none | 61 | 62 |\n" in text
    assert "| VectorIndex | pgvector | psycopg | 61 | 62 |\n" in text
    assert "|  | MiB | seconds until ready | until caught up | CPU seconds |\n|---|--:|" in text
    assert "| connection | and an object |\n|---|---|---|--:|--:|\n" in text


def test_the_chart_is_a_picture_with_a_bar_for_every_figure(report: Figures) -> None:
    root = ET.fromstring(chart(report))
    drawn = [bar for bar in root.iter() if bar.get("rx")]
    # Two convergences (one of them not by one worker), three costs (neither), and two at rest.
    assert len(drawn) == 3 + 2 + 3 * 2 + 2
