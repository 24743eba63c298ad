"""The owner's mark where vendors take only short labels of few characters."""

import re
from collections.abc import Mapping
from typing import Final

OUR_LABELS: Final = "auterity-"
"""What the keys of all labels begin with that are not the user's."""
OWNER_LABEL: Final = f"{OUR_LABELS}owner"
"""The label that carries the owner's mark, and its beginning where one label is too short."""
LONGEST_LABEL: Final = 63


def owner_labels(owner: str) -> dict[str, str]:
    """The labels that carry an owner's mark: 63 of `a-z0-9_-` each, as many as it takes."""
    text = "".join(_written(char) for char in owner)
    parts = [text[at : at + LONGEST_LABEL] for at in range(0, len(text), LONGEST_LABEL)]
    return {f"{OWNER_LABEL}{f'-{n}' if n else ''}": part for n, part in enumerate(parts)}


def owner_of(labels: Mapping[str, str]) -> str | None:
    """The owner's mark in the labels of a resource."""
    if OWNER_LABEL not in labels:
        return None
    text, number = labels[OWNER_LABEL], 1
    while (part := labels.get(f"{OWNER_LABEL}-{number}")) is not None:
        text, number = text + part, number + 1
    raw = re.sub(r"__|_[0-9a-f]{2}", lambda m: _read(m[0]), text)
    return raw.encode("latin-1").decode(errors="replace")


def _written(char: str) -> str:
    if re.fullmatch(r"[a-z0-9-]", char):
        return char
    return "__" if char == "/" else "".join(f"_{byte:02x}" for byte in char.encode())


def _read(text: str) -> str:
    return "/" if text == "__" else chr(int(text[1:], 16))
