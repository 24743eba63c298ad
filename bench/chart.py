"""The figures as one SVG picture: a panel a figure, a bar an operator."""

from collections.abc import Iterator
from html import escape
from typing import Any

from bench.goals import converged

Figures = dict[str, Any]
COLOURS = {"Auterity": "#1f6feb", "Go, 50 workers": "#8c959f", "Go, 1 worker": "#d0d7de"}
WIDTH, PANEL, BAR, ACROSS, MARGIN = 960, 132, 22, 3, 24
COLUMN = (WIDTH - 2 * MARGIN) / ACROSS
LONGEST = COLUMN - 150


def chart(report: Figures) -> str:
    """Draw a report."""
    panels = [p for p in _panels(report["operators"]) if any(v is not None for _, v in p[1])]
    height = 64 + PANEL * -(-len(panels) // ACROSS)
    size = f'viewBox="0 0 {WIDTH} {height}"'
    font = 'font-family="system-ui, sans-serif" font-size="12" fill="#1f2328"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="28" font-size="15" font-weight="600">Shorter is better</text>',
    ]
    for place, (name, colour) in enumerate(COLOURS.items()):
        if name in report["operators"]:
            x = 420 + place * 160
            parts.append(f'<rect x="{x}" y="17" width="12" height="12" fill="{colour}"/>')
            parts.append(f'<text x="{x + 18}" y="28">{escape(name)}</text>')
    for place, (title, bars, unit) in enumerate(panels):
        across, down = place % ACROSS * COLUMN, place // ACROSS * PANEL
        parts += _panel(MARGIN + across, 56 + down, title, bars, unit)
    return "\n".join([*parts, "</svg>", ""])


def _panels(
    operators: Figures,
) -> Iterator[tuple[str, list[tuple[str, float | None]], str]]:
    runs = {(r["objects"], r["latency_ms"]) for f in operators.values() for r in f["converge"]}
    for objects, latency in sorted(runs, key=lambda run: (run[1], run[0])):
        found = {name: converged(f, objects, latency) or {} for name, f in operators.items()}
        title = f"{objects:,} objects, vendor at {latency} ms"
        yield title, [(name, run.get("seconds")) for name, run in found.items()], "s"
    largest = max(objects for objects, _ in runs)
    found = {name: converged(f, largest, 20) or {} for name, f in operators.items()}
    for title, figure, unit in (
        ("API writes an object on creation", "api_writes_an_object", ""),
        ("CPU an object on creation", "cpu_ms_an_object", "ms"),
        ("Memory an object", "kib_an_object", "KiB"),
    ):
        yield title, [(name, run.get(figure)) for name, run in found.items()], unit
    for title, part, figure, unit in (
        ("Vendor calls in a drift sweep", "rest", "vendor_calls_a_sweep", ""),
        ("Edit to vendor during a sweep, p99", "edits", "p99_seconds", "s"),
        ("Restart until caught up", "restart", "seconds", "s"),
    ):
        bars = [(name, (f.get(part) or {}).get(figure)) for name, f in operators.items()]
        yield title, bars, unit


def _panel(
    x: float, y: float, title: str, bars: list[tuple[str, float | None]], unit: str
) -> Iterator[str]:
    yield f'<text x="{x}" y="{y + 14}" font-weight="600">{escape(title)}</text>'
    most = max(value for _, value in bars if value is not None) or 1.0
    for place, (name, value) in enumerate(bars):
        top = y + 24 + place * (BAR + 4)
        if value is None:
            yield f'<text x="{x}" y="{top + 15}" fill="#656d76">not measured</text>'
            continue
        length = max(2.0, LONGEST * value / most)
        yield (
            f'<rect x="{x}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2" '
            f'fill="{COLOURS.get(name, "#8c959f")}"/>'
        )
        text = f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
        yield f'<text x="{x + length + 6:.1f}" y="{top + 15}">{text} {unit}</text>'
