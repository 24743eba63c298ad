"""How kinds are called in the names of files."""

import re


def kebab(name: str, plural: str | None = None) -> str:
    """A kind's name such as vector-index; with its plural, vector-indexes."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
    if plural is None:
        return words
    stem = name.lower()
    while not plural.startswith(stem):
        stem, words = stem[:-1], words[:-1]
    return words + plural[len(stem) :]
