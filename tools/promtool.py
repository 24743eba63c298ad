"""`python -m tools.promtool`: Prometheus' checker of rules; prints where the program is."""

from pathlib import Path

from tools.golang import Module

SOURCE = "github.com/prometheus/prometheus"


def build() -> Path:
    """The promtool program; the first caller builds it."""
    # Without service discovery it is a fraction of the code.
    module = Module("kubernetes", {"promtool": f"{SOURCE}/cmd/promtool"}, tags="remove_all_sd")
    return module.build() / "promtool"


if __name__ == "__main__":
    print(build())
