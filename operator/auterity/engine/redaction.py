"""Keeps secret values out of everything that people or machines get to see."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HIDDEN = "<secret>"
SHORTEST = 4
"""Shorter values are not searched for: they would blot out ordinary words."""

_known: ContextVar[frozenset[str]] = ContextVar("known_secrets", default=frozenset())


@contextmanager
def private() -> Iterator[None]:
    """What is remembered inside is forgotten at the end."""
    token = _known.set(_known.get())
    try:
        yield
    finally:
        _known.reset(token)


def remember(value: str) -> None:
    """From now on, hide this value in everything this task (and its children) tells."""
    if len(value) >= SHORTEST:
        lines = {line for line in value.splitlines() if len(line) >= SHORTEST}
        _known.set(_known.get() | {value} | lines)


def hide(text: str) -> str:
    """The text without any secret value that this task knows."""
    for value in sorted(_known.get(), key=len, reverse=True):
        if value in text:
            text = text.replace(value, HIDDEN)
    return text
