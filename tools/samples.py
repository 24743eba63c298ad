"""The samples: whole manifests to copy, one folder a kind, and use cases that join several."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from auterity.api import API_VERSION

_BOUNDARY: Final = re.compile(r"^---\n", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Manifest = dict[str, Any]


def parts(text: str) -> Iterator[tuple[str, Manifest]]:
    """Every document of a YAML text: as it is written, comments included, and what it says."""
    for part in _BOUNDARY.split(text):
        if document := yaml.safe_load(part):
            yield part, document


def part_of(text: str, kind: str) -> str:
    """The first document of a kind in a sample, as it is written; empty if there is none."""
    return next((part for part, document in parts(text) if document["kind"] == kind), "")


def on_page(page: str) -> list[Manifest]:
    """Our own manifests in a Markdown page; fragments are left out."""
    found = [document for block in _BLOCK.findall(page) for _, document in parts(block)]
    return [document for document in found if document.get("apiVersion") == API_VERSION]


def every(root: Path) -> list[Path]:
    """Every manifest under a folder."""
    return sorted(path for path in root.rglob("*.yaml") if path.is_file())
