"""Go is taken from the path when it is new enough, else from its wheel."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import golang
from tools.golang import Module


@pytest.fixture
def go_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a Go of the given version the only one on the path."""
    monkeypatch.setenv("AUTERITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(golang, "MODULES", tmp_path)
    manifest = tmp_path / "program" / "go.mod"
    manifest.parent.mkdir()
    manifest.write_text("module program\n\ngo 1.26.0\n\nrequire example.org/program v1.2.3\n")

    def install(version: str, folder: Path = tmp_path / "bin") -> Path:
        go = folder / "go"
        go.parent.mkdir(parents=True)
        # Answers `go env`; for `go build` it leaves its own version as the program.
        go.write_text(
            f'#!/bin/sh\n[ "$1" = env ] && echo go{version} linux amd64 && exit\n'
            f'while [ "$1" != -o ]; do shift; done\necho go{version} > "$2"\n'
        )
        go.chmod(0o755)
        return go

    def only(version: str) -> Path:
        go = install(version)
        monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
        monkeypatch.setattr(
            golang, "_install_toolchain", lambda folder, _: install("1.99.0", folder / "bin")
        )
        return go

    return only


def built() -> str:
    return (Module("program", {"program": "./cmd"}).build() / "program").read_text().strip()


def test_a_new_go_on_the_path_builds(go_on_path: Callable[[str], Path]) -> None:
    go_on_path("1.26.1")

    assert built() == "go1.26.1"


def test_an_old_go_on_the_path_is_passed_over(go_on_path: Callable[[str], Path]) -> None:
    go_on_path("1.25.9")

    assert built() == "go1.99.0"


def test_without_go_the_wheel_builds(go_on_path: Callable[[str], Path]) -> None:
    go_on_path("1.26.1").unlink()

    assert built() == "go1.99.0"


def test_the_manifest_tells_the_pinned_version(go_on_path: Callable[[str], Path]) -> None:
    go_on_path("1.26.1")

    assert Module("program", {}).pinned("example.org/program") == "1.2.3"
