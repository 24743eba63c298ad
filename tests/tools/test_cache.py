"""The cache makes each thing once."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTERITY_CACHE", str(tmp_path))


def test_parallel_callers_make_a_thing_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.1)

    with ThreadPoolExecutor(4) as callers:
        folders = set(callers.map(lambda _: cache.once("thing", ["1"], make), range(4)))

    assert made == list(folders)


def test_other_inputs_make_another_thing() -> None:
    first = cache.once("thing", ["1"], lambda _: None)
    second = cache.once("thing", ["2"], lambda _: None)

    assert first != second


def test_what_was_interrupted_is_made_anew() -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.once("thing", ["1"], interrupted)
    folder = cache.once("thing", ["1"], lambda folder: (folder / "whole").touch())

    assert (folder / "whole").exists()
    assert not (folder / "half").exists()
