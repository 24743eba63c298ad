"""Go is taken from the path when it is new enough, else from its wheel."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import golang
from tools.cache import InstallError
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
            f'[ "$1" = mod ] && echo "{{\\"Dir\\": \\"{tmp_path}/sources/${{4##*/}}\\"}}" && exit\n'
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


def test_a_program_of_our_own_is_built_anew_when_its_source_changes(
    go_on_path: Callable[[str], Path], tmp_path: Path
) -> None:
    go_on_path("1.26.1")
    source = tmp_path / "program/cmd/main.go"
    source.parent.mkdir()
    ours = Module("program", {"program": "./cmd"})

    source.write_text("package main")
    before = ours.build()
    assert ours.build() == before

    source.write_text("package main // changed")
    assert ours.build() != before


def test_files_of_a_module_are_kept_beside_its_program(
    go_on_path: Callable[[str], Path], tmp_path: Path
) -> None:
    go_on_path("1.26.1")
    crds = tmp_path / "sources/program@v1.2.3/config/crds"
    crds.mkdir(parents=True)
    (crds / "one.yaml").write_text("one")
    (crds / "one.yaml").chmod(0o444)
    crds.chmod(0o555)

    files = {
        "crds": "example.org/program//config/crds",
        "one": "example.org/program//config/crds/one.yaml",
    }
    folder = Module("program", {"program": "./cmd"}, files=files).build()

    assert (folder / "crds/one.yaml").read_text() == "one"
    assert (folder / "one").read_text() == "one"
    assert (folder / "crds").stat().st_mode & 0o700 == 0o700


def test_a_program_that_needs_a_c_compiler_says_so(
    go_on_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = go_on_path("1.26.1")
    monkeypatch.setenv("PATH", str(go.parent))

    with pytest.raises(InstallError, match="program needs a C compiler"):
        Module("program", {"program": "./cmd"}, cgo=True).build()
