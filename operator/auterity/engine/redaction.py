"""Keeps secret values out of everything that people or machines get to see."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote, quote_plus

from pydantic import ValidationError

HIDDEN = "<secret>"
SHORTEST = 4
"""Shorter values are not searched for: they would blot out ordinary words."""

_known: ContextVar[tuple[str, ...]] = ContextVar("known_secrets", default=())
"""The longest first, so that none is hidden in part."""


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
    remember_spellings(spellings(value))


def spellings(value: str) -> frozenset[str]:
    """What is to be hidden of a value: also as it stands in a URL or in JSON that a vendor quotes.

    To work it out costs more than to look for it: for what many visits are to hide, do so once.
    """
    if len(value) < SHORTEST:
        return frozenset()
    found = {value, *value.splitlines()}
    found |= {quote(value, safe=""), quote(value), quote_plus(value)}
    found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return frozenset(one for one in found if len(one) >= SHORTEST)


def remember_spellings(spelt: frozenset[str]) -> None:
    """Like `remember`, of values whose spellings are known."""
    known = _known.get()
    if not spelt.issubset(known):
        _known.set(tuple(sorted({*known, *spelt}, key=len, reverse=True)))


def hide(text: str) -> str:
    """The text without any secret value that this task knows."""
    for value in _known.get():
        if value in text:
            text = text.replace(value, HIDDEN)
    return text


def words_of(error: BaseException) -> str:
    """What an unforeseen error says, for the log."""
    if isinstance(error, ValidationError):
        # Its text quotes the input.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        return hide("; ".join(f"{_path(one['loc'])}: {one['type']}" for one in problems))
    return hide(str(error))


def frames_of(error: BaseException) -> list[str]:
    """Where it was raised, without the lines of a traceback, which may quote values."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        file = code.co_filename.rsplit("auterity/", 1)[-1]
        frames.append(f"{file}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)
