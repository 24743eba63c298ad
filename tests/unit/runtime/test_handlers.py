"""Kopf is set up so that it never writes, never asks for more rights, and never gives up."""

import itertools

import kopf

from auterity.api.annotations import FINALIZER
from auterity.runtime.handlers import _settings


async def test_kopf_leaves_objects_alone_and_never_gives_up():
    settings = kopf.OperatorSettings()
    await _settings(settings)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.persistence.finalizer != FINALIZER
    backoffs = settings.networking.error_backoffs
    for _ in range(2):
        first = list(itertools.islice(iter(backoffs), 1000))  # type: ignore[arg-type]  # not a float
        assert len(first) == 1000
        assert max(first) <= 10
