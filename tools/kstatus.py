"""`python -m tools.kstatus`: kstatus itself, by which Flux and others tell an object's health."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.golang import Module


def build() -> Path:
    """The program; the first caller builds it."""
    return Module("kubernetes", {"kstatus": "./kstatus"}).build() / "kstatus"


def judge(objects: Sequence[dict[str, Any]]) -> list[str]:
    """What kstatus makes of each object, such as Current."""
    args, told = [str(build())], json.dumps(objects)
    done = subprocess.run(args, input=told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"kstatus: {done.stderr.strip()}")
    states: list[str] = json.loads(done.stdout)
    return states


if __name__ == "__main__":
    print(build())
